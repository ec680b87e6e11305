use super::{ended_by, not_understood, text};
use crate::error::Error;
use crate::stats::census::Order;

#[test]
fn messages_of_the_extended_protocol_are_told_apart_from_unknown_ones() {
    for tag in *b"PBE" {
        assert_eq!(
            not_understood(tag),
            "extended query protocol not supported by admin console"
        );
    }
    assert_eq!(
        not_understood(b'S'),
        "unsupported packet type for admin console: 83"
    );
}

#[test]
fn a_command_ends_at_its_zero_byte() {
    assert_eq!(text(b"SHOW STATS\0"), "SHOW STATS");
    assert_eq!(text(b""), "");
}

#[test]
fn only_shutdown_and_kill_end_a_guest() {
    assert_eq!(ended_by(Order::Kill, "pgbouncer"), Some(Error::Killed));
    assert_eq!(
        ended_by(Order::Drain, "pgbouncer"),
        Some(Error::ShuttingDown)
    );
    assert_eq!(ended_by(Order::IdleTimeout, "pgbouncer"), None);
}
