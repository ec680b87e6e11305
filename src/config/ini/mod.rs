//! `pgbouncer.ini`: its grammar, read into the same settings as `pooler.toml`.
//!
//! `lines` tells a section from a pair, `pairs` takes apart what stands behind a database's or a user's name, `value` knows how
//! each kind of setting is written here, and `reading` puts it all where it belongs, by the tables of
//! [`crate::config::schema`].
//!
//! Two things are stricter than in PgBouncer: a number with something behind it is refused where PgBouncer takes what it can
//! read of it, or 0; and all that is wrong is told at once.

pub mod lines;
pub mod pairs;
pub mod reading;
pub mod value;
