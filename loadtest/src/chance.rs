//! Seeded chance: the same seed gives the same run on every machine.

/// SplitMix64: one word of state, good enough for workloads, and ours, so a dependency cannot change a seed's meaning.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// A stream of chance fixed by `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of its own for item `index` under `seed`, whatever order the items are asked for in.
    pub fn for_item(seed: u64, index: u64) -> Self {
        Self { state: mix(seed ^ mix(index.wrapping_add(STEP))) }
    }

    /// The next 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`.
    pub fn share(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..count`; 0 for a count of 0.
    pub fn below(&mut self, count: u64) -> u64 {
        if count == 0 { 0 } else { self.word() % count }
    }

    /// Exponential with the given mean: the gap between arrivals of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }
}

/// Spreads the bits of a word (the finalizer of SplitMix64); also used to hash numbers.
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The golden ratio in 64 bits: SplitMix64's increment.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let words = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.word()).collect::<Vec<_>>()
        };
        assert_eq!(words(7), words(7));
        assert_ne!(words(7), words(8));
    }

    #[test]
    fn exponential_gaps_have_the_asked_mean() {
        let mut chance = Chance::new(1);
        let sum: f64 = (0..20_000).map(|_| chance.exponential(5.0)).sum();
        assert!((sum / 20_000.0 - 5.0).abs() < 0.2, "mean {}", sum / 20_000.0);
    }
}
