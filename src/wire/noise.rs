//! Replayable random changes to sound inputs, for the tests of this room.

/// xorshift64*: the same seed gives the same run.
pub(crate) struct Noise(u64);

impl Noise {
    /// `seed` must not be 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize) % bound
    }

    /// `sound` with one to four bytes changed, put in, taken out, or doubled in runs.
    pub(crate) fn mutate(&mut self, sound: &[u8]) -> Vec<u8> {
        const TELLING: &[u8] = b"\r\n\0 \t:;,=\"\\{}[]0aZ%/.?#\x7f\x80\xff";
        let mut bytes = sound.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            let byte = TELLING[self.below(TELLING.len())];
            match self.below(5) {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => _ = bytes.remove(at),
                3 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {
                    let end = (at + 1 + self.below(8)).min(bytes.len());
                    let run = bytes[at..end].to_vec();
                    bytes.splice(at..at, run);
                }
            }
        }
        bytes
    }
}
