//! Settings: what the operator wants, read strictly and checked as a whole.
//!
//! `settings` is the plain data that every other room reads, and `effective` says who has the word when user, database
//! and `[pooler]` differ. `load` makes settings of a file and the environment, `dsn` of `DATABASE_URL` alone; between
//! them `source` knows places in a text, `schema` the keys, `slot` the kinds of values, `reading` brings them
//! together, and `check` holds the rules that span several keys. `change` compares two settings for a reload, and
//! `listing` shows one. `convert` writes those of an ini as a `pooler.toml`.
//!
//! Nothing is silently ignored, and everything that is wrong is told at once.

pub mod change;
pub mod check;
pub mod clusters;
pub mod convert;
pub mod dsn;
pub mod effective;
pub mod environment;
pub mod ini;
pub mod keepers;
pub mod listing;
pub mod load;
pub mod node;
pub mod problem;
pub mod reading;
pub mod routing;
pub mod schema;
pub mod server_tls;
pub mod settings;
pub mod slot;
pub mod source;
pub mod unserved;
pub mod url;
pub mod value;
