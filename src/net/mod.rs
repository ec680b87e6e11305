//! The room net.
