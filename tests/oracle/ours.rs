//! A table of our own.
