//! What a cancel key says about the pooler that gave it, where several share one address.
//!
//! As PgBouncer lays it out: bytes 1 and 2 are the number of the pooler (`peer_id`), little-endian, and the two lowest bits of
//! byte 7 count how often the request may still be passed on. Longer keys (of protocol 3.2) begin alike.

/// How often a cancel request may be passed on from pooler to pooler.
const TTL: u8 = 3;

/// Writes into `key` that pooler `peer` gave it. Nothing is written for 0, which is no number of a pooler.
pub fn mark(key: &mut [u8], peer: u16) {
    if let [_, low, high, _, _, _, _, last, ..] = key
        && peer > 0
    {
        [*low, *high] = peer.to_le_bytes();
        *last |= TTL;
    }
}

/// The number of the pooler that gave `key`.
pub fn peer_of(key: &[u8]) -> Option<u16> {
    let low = *key.get(1)?;
    Some(u16::from_le_bytes([low, *key.get(2)?]))
}

/// `key` as it was given to the client, before anybody passed it on.
pub fn as_given(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    if let Some(last) = key.get_mut(7) {
        *last |= TTL;
    }
    key
}

/// `key` for the next pooler; `None` when it was passed on too often.
pub fn passed_on(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    let last = key.get_mut(7).filter(|last| **last & TTL > 0)?;
    *last -= 1;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::{as_given, mark, passed_on, peer_of};

    #[test]
    fn a_key_names_its_pooler_as_pgbouncer_writes_it() {
        let mut key = [0xff, 0, 0, 0xff, 0, 0, 0, 0x40];
        mark(&mut key, 0x0203);
        assert_eq!(key, [0xff, 3, 2, 0xff, 0, 0, 0, 0x43]);
        assert_eq!(peer_of(&key), Some(0x0203));
    }

    #[test]
    fn a_request_is_passed_on_three_times_at_most() {
        let mut key = vec![7; 36];
        mark(&mut key, 1);
        let mut travelling = key.clone();
        for _ in 0..3 {
            travelling = passed_on(&travelling).unwrap();
            assert_eq!(as_given(&travelling), key);
        }
        assert_eq!(passed_on(&travelling), None);
    }

    #[test]
    fn a_key_without_a_pooler_stays_as_it_is() {
        let mut key = [9; 8];
        mark(&mut key, 0);
        assert_eq!(key, [9; 8]);
        assert_eq!((peer_of(&[1]), passed_on(&[1, 2])), (None, None));
    }
}
