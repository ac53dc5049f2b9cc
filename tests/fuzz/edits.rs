//! Random edits of corpus entries, the same for the same seed.

use crate::chance::Chance;

/// Longest input that is made; longer ones find nothing that these do not.
const INPUT_BYTES_MAX: usize = 4096;

impl Chance {
    /// Part of a text: where it starts and ends.
    fn part(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + self.below(longest) + 1).min(length)
    }

    /// One entry of the corpus with one to six edits.
    pub(crate) fn input(&mut self, corpus: &[(String, Vec<u8>)], dictionary: &[&str]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..1 + self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(10) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 => bytes.insert(at, self.next() as u8),
                3 => {
                    let part = self.part(bytes.len(), 8);
                    bytes.drain(part);
                }
                4 => {
                    let part = self.part(bytes.len(), 40);
                    let copy = bytes[part].to_vec();
                    bytes.splice(at..at, copy);
                }
                5 => {
                    // The front of this entry and the end of another.
                    let other = &corpus[self.below(corpus.len())].1;
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                6 => bytes.truncate(at),
                _ => {
                    let token = dictionary[self.below(dictionary.len())].bytes();
                    let end = if self.below(3) == 0 { (at + token.len()).min(bytes.len()) } else { at };
                    bytes.splice(at..end, token);
                }
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }
}
