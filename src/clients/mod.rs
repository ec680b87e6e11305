//! The application's side: logging in, and then one session that borrows servers.

mod admission;
mod aftermath;
pub mod again;
pub mod answer;
mod asking;
pub mod bereft;
pub mod buffers;
pub mod cancel;
pub mod course;
pub mod credentials;
pub mod ears;
mod ending;
pub mod entrance;
mod explain;
pub mod gate;
mod judging;
mod late;
pub mod link;
pub mod login;
mod orders;
mod own;
pub mod parcel;
pub mod presence;
pub mod proof;
pub mod session;
mod split;
mod steering;
pub mod ties;
mod trial;
mod varcache;
mod waiting;
pub mod wishes;

#[cfg(test)]
mod tests;
