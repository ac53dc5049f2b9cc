//! Random edits of corpus entries, the same for the same seed.

use support::chance::Chance;

/// Longest input that is made; longer ones find nothing that these do not.
const INPUT_BYTES_MAX: usize = 4096;

/// Part of a text: where it starts and ends.
fn part(chance: &mut Chance, length: usize, longest: usize) -> std::ops::Range<usize> {
    let start = chance.below(length + 1);
    start..(start + chance.below(longest) + 1).min(length)
}

/// One entry of the corpus with one to six edits.
pub(crate) fn input(chance: &mut Chance, corpus: &[(String, Vec<u8>)], dictionary: &[&str]) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len())].1.clone();
    for _ in 0..1 + chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.word() as u8,
            2 => bytes.insert(at, chance.word() as u8),
            3 => {
                let part = part(chance, bytes.len(), 8);
                bytes.drain(part);
            }
            4 => {
                let part = part(chance, bytes.len(), 40);
                let copy = bytes[part].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                // The front of this entry and the end of another.
                let other = &corpus[chance.below(corpus.len())].1;
                let from = chance.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => bytes.truncate(at),
            _ => {
                let token = dictionary[chance.below(dictionary.len())].bytes();
                let end = if chance.below(3) == 0 { (at + token.len()).min(bytes.len()) } else { at };
                bytes.splice(at..end, token);
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}
