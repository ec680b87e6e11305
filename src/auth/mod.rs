//! Proofs: that a client knows its password, and to a server that we do.
//!
//! Nothing here touches a socket, a clock or a source of randomness: salts and nonces come in as arguments, and the one
//! slow step, [`scram::derive()`], stands alone so that the caller can run it beside the serving thread and keep its
//! result.
//!
//! | file | what it knows |
//! |---|---|
//! | [`password`] | what a user's secret may look like; clear text and md5 |
//! | [`scram`] | SCRAM-SHA-256, both roles |
//! | [`users`] | the auth_file and who stands in it |

pub mod password;
pub mod scram;
pub mod users;
