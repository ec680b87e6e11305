//! Frames one by one, for the cold paths: logins and the pooler's own queries.

use std::io;

use crate::net::stream::Stream;

/// What a message outside the hot path may have, in bytes.
const LARGEST: usize = 1 << 20;

/// One whole message.
#[derive(Debug)]
pub struct Frame {
    /// Its type.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

/// The bytes that were read and not taken yet.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Begins with bytes that were read already.
    pub fn starting_with(buffer: Vec<u8>) -> Self {
        Self { buffer }
    }

    /// The next message, of at most `limit` bytes in its body.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side closes, `InvalidData` for an impossible length, and what the socket says.
    pub async fn next(&mut self, stream: &mut Stream, limit: usize) -> io::Result<Frame> {
        let mut scratch = [0; 4096];
        loop {
            if let Some(frame) = self.take(limit.min(LARGEST))? {
                return Ok(frame);
            }
            let count = stream.read_some(&mut scratch).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&scratch[..count]);
        }
    }

    /// Takes a message that is there whole.
    fn take(&mut self, limit: usize) -> io::Result<Option<Frame>> {
        let Some(head) = self.buffer.get(..5) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size < 4 || size - 4 > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "impossible message length",
            ));
        }
        if self.buffer.len() <= size {
            return Ok(None);
        }
        let body = self.buffer[5..=size].to_vec();
        let tag = head[0];
        self.buffer.drain(..=size);
        Ok(Some(Frame { tag, body }))
    }

    /// What was read and not taken.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    /// Whether a message of one of these types comes next, as far as was read.
    pub fn begins_with(&self, tags: &[u8]) -> bool {
        self.buffer.first().is_some_and(|tag| tags.contains(tag))
    }

    /// Whether everything that was read has been taken.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}
