//! How fast does each deployment prefill? Learned from its own times to the first token.
//!
//! A shard notes what each first token took and how many tokens were waited for; the coordinator fits the seconds per token
//! and publishes them. Within a pool only the relation counts: the constants of the score were chosen together.

use super::balance::{STEP_SECONDS, STREAM_SECONDS};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The last first tokens of one deployment, written by every shard, and what was learned from them, written by the coordinator.
///
/// `words: [AtomicU64; 64]`, a ring by `next`: tokens (24 bits), streams (12 bits), time in tenths of a millisecond (28 bits);
/// 0 for none. Two shards that write at the same time take two places; one that is a whole ring late replaces a newer word,
/// which costs a sample.
#[derive(Debug)]
pub struct Speed {
    words: [AtomicU64; SAMPLES],
    next: AtomicU32,
    seconds: AtomicU32,
    factor: AtomicU32,
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            next: AtomicU32::new(0),
            seconds: AtomicU32::new(0),
            factor: AtomicU32::new(1.0_f32.to_bits()),
        }
    }
}

/// One first token.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Tokens to prefill before it: those that waited, and its own.
    pub tokens: u64,
    /// Streams that ran.
    pub streams: u64,
    /// From the request sent to the first token.
    pub seconds: f64,
}

impl Speed {
    /// Notes a first token. One of which nothing can be learned is ignored.
    pub fn note(&self, sample: Sample) {
        let tenths = sample.seconds * 1e4;
        if sample.tokens < TOKENS_MIN || !(1.0..=TENTHS_MAX as f64).contains(&tenths) {
            return;
        }
        let (tokens, streams) = (sample.tokens.min(TOKENS_MAX), sample.streams.min(STREAMS_MAX));
        let place = self.next.fetch_add(1, Ordering::Relaxed) as usize % SAMPLES;
        self.words[place].store(tokens << 40 | streams << 28 | tenths as u64, Ordering::Relaxed);
    }

    /// Seconds per token of prefill by the last samples; `None` below `SAMPLES_MIN` of them.
    ///
    /// The median of what each sample says once a step and the streams are taken off: requests that were stuck, or found more
    /// in the cache than was known, do not move it.
    pub fn fit(&self) -> Option<f32> {
        let samples = self.words.iter().map(|word| word.load(Ordering::Relaxed)).filter(|word| *word != 0);
        let mut speeds: Vec<f32> = samples
            .map(|word| {
                let (tokens, streams) = ((word >> 40) as f64, (word >> 28 & STREAMS_MAX) as f64);
                let seconds = (word & TENTHS_MAX) as f64 / 1e4;
                let own = seconds - STEP_SECONDS - 2.0 * STREAM_SECONDS * streams;
                (own.max(seconds / 10.0) / tokens) as f32
            })
            .collect();
        (speeds.len() >= SAMPLES_MIN).then(|| {
            let middle = speeds.len() / 2;
            *speeds.select_nth_unstable_by(middle, f32::total_cmp).1
        })
    }

    /// Publishes what was learned: seconds per token, and how many times slower than the pool's usual member it is.
    pub fn set(&self, seconds: f32, factor: f32) {
        self.seconds.store(seconds.to_bits(), Ordering::Relaxed);
        self.factor.store(factor.to_bits(), Ordering::Relaxed);
    }

    /// Seconds per token of prefill; `None` before enough samples.
    pub fn seconds(&self) -> Option<f32> {
        Some(f32::from_bits(self.seconds.load(Ordering::Relaxed))).filter(|seconds| *seconds > 0.0)
    }

    /// How many times slower than the pool's usual member it is: 1 until that is known.
    pub fn factor(&self) -> f32 {
        f32::from_bits(self.factor.load(Ordering::Relaxed))
    }
}

/// The factor of each member of a pool by their seconds per token: relative to the lower median, and 1 for what is usual.
pub fn factors(seconds: &[Option<f32>]) -> Vec<f32> {
    let mut known: Vec<f32> = seconds.iter().flatten().copied().collect();
    if known.len() < 2 {
        return vec![1.0; seconds.len()];
    }
    let middle = (known.len() - 1) / 2;
    let usual = *known.select_nth_unstable_by(middle, f32::total_cmp).1;
    let factor = |seconds: &Option<f32>| match seconds.map(|seconds| seconds / usual) {
        Some(factor) if (factor - 1.0).abs() > IGNORED => factor.clamp(FACTOR_MAX.recip(), FACTOR_MAX),
        _ => 1.0,
    };
    seconds.iter().map(factor).collect()
}

/// Samples kept.
const SAMPLES: usize = 64;
/// Samples below which nothing is said. Chosen, not measured.
const SAMPLES_MIN: usize = 16;
/// A prompt with less to prefill says more of the network than of the engine. Chosen, not measured.
const TOKENS_MIN: u64 = 256;
/// Differences up to this are noise, and would only break ties. Chosen, not measured.
const IGNORED: f32 = 0.25;
/// The largest factor: GPUs of several generations in one pool. Chosen, not measured.
const FACTOR_MAX: f32 = 8.0;
const TOKENS_MAX: u64 = (1 << 24) - 1;
const STREAMS_MAX: u64 = (1 << 12) - 1;
const TENTHS_MAX: u64 = (1 << 28) - 1;

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of an engine of so many seconds a token.
    fn speed(of: f64, count: u64) -> Speed {
        let speed = Speed::default();
        for sample in 0..count {
            let (tokens, streams) = (300 + sample * 977 % 4_000, sample % 20);
            let seconds = tokens as f64 * of + STEP_SECONDS + 2.0 * STREAM_SECONDS * streams as f64;
            speed.note(Sample { tokens, streams, seconds });
        }
        speed
    }

    #[test]
    fn the_speed_is_found_from_enough_samples_and_outliers_do_not_move_it() {
        assert_eq!(speed(1e-4, 15).fit(), None);
        for of in [1e-6, 1e-4, 1e-2] {
            let found = f64::from(speed(of, 40).fit().unwrap());
            assert!((found / of - 1.0).abs() < 0.2, "{found} of {of}");
        }
        let speed = speed(1e-4, 64);
        (0..20).for_each(|_| speed.note(Sample { tokens: 1_000, streams: 1, seconds: 15.0 }));
        let found = f64::from(speed.fit().unwrap());
        assert!((0.9e-4..1.3e-4).contains(&found), "{found}");
    }

    #[test]
    fn what_says_nothing_is_ignored() {
        let speed = Speed::default();
        for (tokens, seconds) in [(255, 1.0), (1_000, 0.0), (1_000, -1.0), (1_000, f64::NAN), (1_000, 1e9)] {
            (0..20).for_each(|_| speed.note(Sample { tokens, streams: 0, seconds }));
        }
        assert_eq!(speed.fit(), None);
        (0..20).for_each(|_| speed.note(Sample { tokens: u64::MAX, streams: u64::MAX, seconds: 1.0 }));
        assert!(speed.fit().unwrap() > 0.0);
    }

    #[test]
    fn only_what_is_clearly_slower_or_faster_than_usual_has_a_factor() {
        assert_eq!(factors(&[None, Some(1e-4)]), [1.0, 1.0]);
        let found = factors(&[Some(1e-4), Some(1.2e-4), Some(4e-4), None, Some(0.9e-4), Some(1.0)]);
        assert_eq!((found[0], found[1], found[3], found[4], found[5]), (1.0, 1.0, 1.0, 1.0, 8.0));
        assert!((3.0..4.1).contains(&found[2]), "{found:?}");
        let two = factors(&[Some(1e-4), Some(4e-4)]);
        assert_eq!((two[0], two[1]), (1.0, 4.0), "the faster one of two is the measure");
    }

    #[test]
    fn what_was_learned_is_read_back() {
        let speed = Speed::default();
        assert_eq!((speed.seconds(), speed.factor()), (None, 1.0));
        speed.set(2e-4, 2.0);
        assert_eq!((speed.seconds(), speed.factor()), (Some(2e-4), 2.0));
    }
}
