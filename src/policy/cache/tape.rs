//! A response while it comes, for the requests that wait for the same one.
//!
//! The request that is sent to a backend, the leader, records what its client gets; the others read it at their own pace. As long
//! as the whole response fits it is kept for the cache. A longer one is only kept as far as its slowest reader needs it, within
//! the same bound: a reader that falls behind further loses it.

/// A response that is being recorded.
#[derive(Debug)]
pub struct Tape {
    bytes: Vec<u8>,
    /// Offset of `bytes[0]` in the response.
    base: u64,
    bytes_max: usize,
    /// All of the response so far is there.
    is_whole: bool,
    /// Where the readers are; `None` for a place that is free.
    readers: Vec<Option<u64>>,
}

/// A reader of a tape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reader(usize);

impl Reader {
    /// Its place among the readers.
    pub const fn index(self) -> usize {
        self.0
    }
}

impl Tape {
    /// An empty one of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), base: 0, bytes_max, is_whole: true, readers: Vec::new() }
    }

    /// Records the next piece.
    pub fn append(&mut self, piece: &[u8]) {
        self.is_whole &= self.bytes.len() + piece.len() <= self.bytes_max;
        if !self.is_whole {
            let end = self.end();
            let slowest = self.readers.iter().flatten().min().copied().unwrap_or(end + piece.len() as u64);
            let read = (slowest.max(self.base) - self.base).min(self.bytes.len() as u64) as usize;
            let surplus =
                (self.bytes.len() + piece.len()).saturating_sub(self.bytes_max).min(self.bytes.len());
            let drop = read.max(surplus);
            self.bytes.drain(..drop);
            self.base += drop as u64;
            if self.readers.iter().all(Option::is_none) {
                self.base = end + piece.len() as u64;
                self.bytes = Vec::new();
                return;
            }
        }
        self.bytes.extend_from_slice(piece);
    }

    /// From now on only what readers need is kept.
    pub fn give_up(&mut self) {
        self.is_whole = false;
        self.append(b"");
    }

    /// A new reader, at the start; `None` if the start is not there any more.
    pub fn join(&mut self) -> Option<Reader> {
        if self.base > 0 || !self.is_whole {
            return None;
        }
        let free = self.readers.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.readers.push(None);
            self.readers.len() - 1
        });
        self.readers[index] = Some(0);
        Some(Reader(index))
    }

    /// A reader is not there any more.
    pub fn leave(&mut self, reader: Reader) {
        self.readers[reader.0] = None;
    }

    /// What a reader has not read, at most `most` bytes of it, which it has read then. `None` if it has fallen behind what is kept.
    pub fn read(&mut self, reader: Reader, most: usize) -> Option<&[u8]> {
        let at = self.readers[reader.0].as_mut()?;
        let from = usize::try_from(at.checked_sub(self.base)?).ok()?;
        let to = self.bytes.len().min(from + most);
        *at += (to - from) as u64;
        Some(&self.bytes[from..to])
    }

    /// Whether there is something that a reader has not read, and can read.
    pub fn has_more(&self, reader: Reader) -> bool {
        self.readers[reader.0].is_some_and(|at| at >= self.base && at < self.end())
    }

    /// Whether a reader has read all of it.
    pub fn is_read(&self, reader: Reader) -> bool {
        self.readers[reader.0].is_none_or(|at| at >= self.end())
    }

    /// How many read it.
    pub fn readers(&self) -> usize {
        self.readers.iter().flatten().count()
    }

    /// The whole response, if all of it is there.
    pub fn whole(&self) -> Option<&[u8]> {
        self.is_whole.then_some(&self.bytes[..])
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_reads_everything_at_its_own_pace() {
        let mut tape = Tape::new(100);
        let first = tape.join().expect("a place");
        tape.append(b"abc");
        let second = tape.join().expect("a place");
        assert_eq!(tape.read(first, 2), Some(&b"ab"[..]));
        tape.append(b"def");
        assert_eq!(tape.read(first, 99), Some(&b"cdef"[..]));
        assert_eq!(tape.read(second, 99), Some(&b"abcdef"[..]));
        assert!(tape.is_read(first) && tape.is_read(second));
        assert_eq!(tape.whole(), Some(&b"abcdef"[..]));
    }

    #[test]
    fn a_long_response_is_kept_as_far_as_its_readers_need_it() {
        let mut tape = Tape::new(10);
        let quick = tape.join().expect("a place");
        let slow = tape.join().expect("a place");
        for piece in [b"01234", b"56789", b"abcde"] {
            tape.append(piece);
            assert!(tape.read(quick, 99).is_some_and(|read| read == piece));
        }
        assert_eq!(tape.whole(), None);
        assert_eq!(tape.join(), None);
        assert_eq!(tape.read(slow, 99), None, "it fell behind");
        tape.leave(slow);
        for _ in 0..1000 {
            tape.append(b"01234");
            assert_eq!(tape.read(quick, 99), Some(&b"01234"[..]));
        }
        assert!(tape.bytes.capacity() < 64);
        tape.leave(quick);
        tape.append(b"more");
        assert!(tape.bytes.is_empty());
    }
}
