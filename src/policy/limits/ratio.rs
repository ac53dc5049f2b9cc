//! How many bytes of text a token of a deployment has, learnt from its own counts.

use crate::sync::{AtomicU64, Ordering};

/// The ratio of one deployment, in thousandths of a byte for each token. Several shards may write it; an observation that is lost
/// to another one does no harm.
#[derive(Default)]
pub struct TextRatio {
    /// 0 before the first observation.
    milli: AtomicU64,
}

impl TextRatio {
    /// Thousandths of a byte for each token; `default` bytes before anything is known.
    pub fn milli_bytes(&self, default: u64) -> u64 {
        match self.milli.load(Ordering::Relaxed) {
            0 => (default * 1000).clamp(MILLI_MIN, MILLI_MAX),
            milli => milli,
        }
    }

    /// Takes in a response whose text had `bytes` and that its backend counted as `tokens`. Short ones say too little.
    pub fn observe(&self, bytes: u64, tokens: u64) {
        if tokens < TOKENS_MIN {
            return;
        }
        let seen = (bytes.saturating_mul(1000) / tokens).clamp(MILLI_MIN, MILLI_MAX);
        let old = self.milli.load(Ordering::Relaxed);
        let new = if old == 0 { seen } else { (old * (WEIGHT - 1) + seen) / WEIGHT };
        self.milli.store(new, Ordering::Relaxed);
    }
}

/// Tokens for `bytes` of text, rounded up.
pub fn tokens(bytes: u64, milli_bytes: u64) -> u64 {
    bytes.saturating_mul(1000).div_ceil(milli_bytes.max(1))
}

/// Bytes of text that `tokens` cover.
pub fn bytes(tokens: u64, milli_bytes: u64) -> u64 {
    u64::try_from(u128::from(tokens) * u128::from(milli_bytes) / 1000).unwrap_or(u64::MAX)
}

/// One observation in eight counts. Chosen, not measured.
const WEIGHT: u64 = 8;
/// Shorter responses are not observed.
const TOKENS_MIN: u64 = 32;
/// From one byte (a model that thinks more than it shows) to eight.
const MILLI_MIN: u64 = 1_000;
const MILLI_MAX: u64 = 8_000;

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_follows_what_backends_count_within_bounds() {
        let ratio = TextRatio::default();
        assert_eq!(ratio.milli_bytes(4), 4_000);
        ratio.observe(1000, 10);
        assert_eq!(ratio.milli_bytes(4), 4_000, "too short to say");
        ratio.observe(600, 200);
        assert_eq!(ratio.milli_bytes(4), 3_000);
        for _ in 0..100 {
            ratio.observe(10, 1_000_000);
        }
        assert!((MILLI_MIN..1_020).contains(&ratio.milli_bytes(4)), "{}", ratio.milli_bytes(4));
    }

    #[test]
    fn tokens_are_rounded_up_and_bytes_down() {
        for (count, milli) in [(0, 4_000), (1, 4_000), (256, 3_333), (u64::MAX / 2_000, 1_000)] {
            assert!(tokens(bytes(count, milli), milli) <= count);
            assert!(tokens(bytes(count, milli) + 1, milli) > count - count / 1_000_000_000_000);
        }
        assert_eq!((tokens(u64::MAX, 0), bytes(u64::MAX, 8_000)), (u64::MAX, u64::MAX));
    }
}
