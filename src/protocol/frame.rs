//! The five bytes before every message, and how to read inside its bounds.
//!
//! A frame is a tag, a length of four bytes that counts itself, and a body. Whoever believes the length of a stranger
//! reserves a gigabyte for him, and whoever reads a text past the end of its frame sees other messages than the server
//! behind him; so the length has a limit here, and the readers take a slice of the body and never see beyond it.

/// How many bytes a frame has before its body.
pub const HEADER_SIZE: usize = 5;

/// The longest frame PostgreSQL itself believes: one gigabyte less one byte, as it stands in the length.
pub const MAX_LEN: u32 = 0x3fff_ffff;

/// Tag and length of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which message it is.
    pub tag: u8,
    /// The length as on the wire, in bytes: with its own four bytes, without the tag. Never below 4.
    pub len: u32,
}

impl Header {
    /// The size of the whole frame in bytes, tag included.
    pub fn frame_size(&self) -> usize {
        self.len as usize + 1
    }
}

/// A header nobody may follow; the stream behind it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFrame {
    /// The length does not even count itself.
    TooShort {
        /// The tag it came with.
        tag: u8,
        /// The length as on the wire.
        len: u32,
    },
    /// The length is above what the reader allows.
    TooLong {
        /// The tag it came with.
        tag: u8,
        /// The length as on the wire.
        len: u32,
        /// The longest length allowed.
        max_len: u32,
    },
}

/// Reads the header at the start of `buf`, or `None` while fewer than five bytes are there.
///
/// # Errors
/// [`BadFrame`] when the length is below 4 or above `max_len`.
pub fn peek(buf: &[u8], max_len: u32) -> Result<Option<Header>, BadFrame> {
    let Some((&[tag, a, b, c, d], _)) = buf.split_first_chunk::<HEADER_SIZE>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([a, b, c, d]);
    if len < 4 {
        return Err(BadFrame::TooShort { tag, len });
    }
    if len > max_len {
        return Err(BadFrame::TooLong { tag, len, max_len });
    }
    Ok(Some(Header { tag, len }))
}

/// Takes a whole frame off the front of `rest` and gives its tag and body; `None`, and nothing taken, while it is not
/// all there.
///
/// # Errors
/// [`BadFrame`] as [`peek`].
pub fn next<'a>(rest: &mut &'a [u8], max_len: u32) -> Result<Option<(u8, &'a [u8])>, BadFrame> {
    let Some(header) = peek(rest, max_len)? else {
        return Ok(None);
    };
    let Some((frame, after)) = rest.split_at_checked(header.frame_size()) else {
        return Ok(None);
    };
    *rest = after;
    Ok(frame.get(HEADER_SIZE..).map(|body| (header.tag, body)))
}

/// Takes a text up to its zero byte, without it. `None`, and nothing taken, when there is no zero byte.
pub fn cstr<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == 0)?;
    let (text, after) = rest.split_at_checked(end)?;
    *rest = after.get(1..)?;
    Some(text)
}

/// Takes `count` bytes.
pub fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

/// Takes one byte.
pub fn u8(rest: &mut &[u8]) -> Option<u8> {
    array::<1>(rest).map(u8::from_be_bytes)
}

/// Takes two bytes as an unsigned number.
pub fn u16(rest: &mut &[u8]) -> Option<u16> {
    array(rest).map(u16::from_be_bytes)
}

/// Takes four bytes as an unsigned number.
pub fn u32(rest: &mut &[u8]) -> Option<u32> {
    array(rest).map(u32::from_be_bytes)
}

/// Takes two bytes as a signed number.
pub fn i16(rest: &mut &[u8]) -> Option<i16> {
    array(rest).map(i16::from_be_bytes)
}

/// Takes four bytes as a signed number.
pub fn i32(rest: &mut &[u8]) -> Option<i32> {
    array(rest).map(i32::from_be_bytes)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(peek(b"Z\0\0\0", MAX_LEN), Ok(None));
        let header = peek(b"Z\0\0\0\x05I", MAX_LEN).unwrap().unwrap();
        assert_eq!((header.tag, header.len), (b'Z', 5));
        assert_eq!(header.frame_size(), 6);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_at_once() {
        assert_eq!(
            peek(b"Q\0\0\0\x03", MAX_LEN),
            Err(BadFrame::TooShort { tag: b'Q', len: 3 })
        );
        assert_eq!(
            peek(b"p\0\x01\0\0", 65_535),
            Err(BadFrame::TooLong {
                tag: b'p',
                len: 65_536,
                max_len: 65_535
            })
        );
        assert!(peek(b"Q\xff\xff\xff\xff", MAX_LEN).is_err());
    }

    #[test]
    fn frames_come_off_one_by_one() {
        let mut rest: &[u8] = b"C\0\0\0\x07OK\0Z\0\0\0\x05IQ\0";
        assert_eq!(next(&mut rest, 99), Ok(Some((b'C', &b"OK\0"[..]))));
        assert_eq!(next(&mut rest, 99), Ok(Some((b'Z', &b"I"[..]))));
        assert_eq!(next(&mut rest, 99), Ok(None));
        assert_eq!(rest, b"Q\0");
    }

    #[test]
    fn a_text_without_its_zero_byte_is_no_text() {
        let mut rest: &[u8] = b"one\0two";
        assert_eq!(cstr(&mut rest), Some(&b"one"[..]));
        assert_eq!(cstr(&mut rest), None);
        assert_eq!(rest, b"two");
    }

    #[test]
    fn numbers_are_big_endian_and_checked() {
        let mut rest: &[u8] = b"\x01\x00\x02\xff\xff\xff\xfe\x00";
        assert_eq!(u8(&mut rest), Some(1));
        assert_eq!(u16(&mut rest), Some(2));
        assert_eq!(i32(&mut rest), Some(-2));
        assert_eq!(i16(&mut rest), None);
        assert_eq!(rest, b"\x00");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), count: usize, max: u32) {
            let mut rest = &bytes[..];
            while let Ok(Some((_, body))) = next(&mut rest, max) {
                prop_assert!(body.len() <= bytes.len());
            }
            for mut rest in [&bytes[..], rest] {
                let _ = (u32(&mut rest), cstr(&mut rest), i32(&mut rest), u16(&mut rest), take(&mut rest, count));
                let _ = (i16(&mut rest), u8(&mut rest), cstr(&mut rest));
            }
        }
    }
}
