//! The room protocol.
