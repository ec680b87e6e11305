//! What leaves after a chunk has been judged: mostly the chunk itself.
//!
//! A chunk that passes as it is costs no copy: the run is a slice of it. Only when something is put in, left out or
//! renamed are the pieces gathered in a scratch buffer, so that the whole still leaves in one write.

/// Gathers the pieces of `chunk` that pass, and what is put between them.
#[derive(Debug)]
pub struct Run<'a> {
    chunk: &'a [u8],
    start: usize,
    end: usize,
    gathered: &'a mut Vec<u8>,
}

impl<'a> Run<'a> {
    /// Nothing of `chunk` has passed yet. `gathered` may hold bytes that leave before it.
    pub fn new(chunk: &'a [u8], gathered: &'a mut Vec<u8>) -> Self {
        Self {
            chunk,
            start: 0,
            end: 0,
            gathered,
        }
    }

    /// Lets `chunk[from..to]` pass.
    #[inline]
    pub fn pass(&mut self, from: usize, to: usize) {
        if self.end == from && self.start != self.end {
            self.end = to;
            return;
        }
        self.gather();
        (self.start, self.end) = (from, to);
    }

    /// Puts `bytes` after what has passed so far.
    pub fn put(&mut self, bytes: &[u8]) {
        self.gather();
        self.gathered.extend_from_slice(bytes);
    }

    /// The scratch buffer, after what has passed so far, to append to.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        self.gather();
        self.gathered
    }

    fn gather(&mut self) {
        self.gathered
            .extend_from_slice(&self.chunk[self.start..self.end]);
        (self.start, self.end) = (0, 0);
    }

    /// All that leaves, as one slice.
    pub fn finish(mut self) -> &'a [u8] {
        if self.gathered.is_empty() {
            return &self.chunk[self.start..self.end];
        }
        self.gather();
        self.gathered
    }
}

#[cfg(test)]
mod tests {
    use super::Run;

    #[test]
    fn a_chunk_that_passes_as_it_is_is_not_copied() {
        let (chunk, mut gathered) = (b"abcdef", Vec::new());
        let mut run = Run::new(chunk, &mut gathered);
        run.pass(0, 2);
        run.pass(2, 6);
        let out = run.finish();
        assert_eq!((out, out.as_ptr()), (&chunk[..], chunk.as_ptr()));
    }

    #[test]
    fn what_is_put_in_and_left_out_keeps_its_place() {
        let mut gathered = b"<".to_vec();
        let mut run = Run::new(b"abcdef", &mut gathered);
        run.pass(0, 2);
        run.put(b"+");
        run.pass(4, 6);
        assert_eq!(run.finish(), b"<ab+ef");
    }
}
