//! The room auth.
