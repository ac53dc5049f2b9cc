//! What the gateway has put on a backend, and how the backend bears it.

use crate::sync::{AtomicU64, Ordering};
use crate::units::Nanos;

/// What one shard has put on one backend.
///
/// Written by that shard only, so a change is a plain load and a plain store; read by all. Every `begin` is paid back
/// by one `end` on every exit path; nothing resets it.
#[derive(Default)]
pub struct Load {
    in_flight: AtomicU64,
    pending_tokens: AtomicU64,
    kv_tokens: AtomicU64,
}

impl Load {
    /// An exchange is sent: `prompt_tokens` wait for their prefill, `kv_tokens` (prompt and expected output) will be
    /// held until it ends.
    pub fn begin(&self, prompt_tokens: u64, kv_tokens: u64) {
        add(&self.in_flight, 1);
        add(&self.pending_tokens, prompt_tokens);
        add(&self.kv_tokens, kv_tokens);
    }

    /// Its first byte of output came: the prefill is done. At most once per exchange.
    pub fn first_token(&self, prompt_tokens: u64) {
        take(&self.pending_tokens, prompt_tokens);
    }

    /// It is over. `still_pending`: its prompt tokens if `first_token` was never called, else 0.
    pub fn end(&self, kv_tokens: u64, still_pending: u64) {
        take(&self.in_flight, 1);
        take(&self.pending_tokens, still_pending);
        take(&self.kv_tokens, kv_tokens);
    }

    /// Exchanges in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Prompt tokens sent whose first output has not come back.
    pub fn pending_tokens(&self) -> u64 {
        self.pending_tokens.load(Ordering::Relaxed)
    }

    /// Prompt and expected output tokens of the exchanges in flight.
    pub fn kv_tokens(&self) -> u64 {
        self.kv_tokens.load(Ordering::Relaxed)
    }
}

fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).saturating_add(by), Ordering::Relaxed);
}

fn take(cell: &AtomicU64, by: u64) {
    let value = cell.load(Ordering::Relaxed);
    debug_assert!(value >= by, "more taken off a load than was put on");
    cell.store(value.saturating_sub(by), Ordering::Relaxed);
}

/// Observed over predicted time to first token of one backend, smoothed.
///
/// A ratio, never the raw time: the size of a request is the main cause of its time to first token, so raw times
/// would rank backends by what they happened to be given. It rises by a fifth of each worse sample and falls by a
/// tenth of each better one, by more if the last sample is long ago (constant five seconds): a backend that was
/// avoided because it was slow is forgiven by its first good answers.
///
/// One word: the ratio (f32), the time in tenths of a second (28 bits, wraps after 310 days), the sample count (4
/// bits, stops at 15).
#[derive(Debug, Default)]
pub struct Ewma {
    word: AtomicU64,
}

/// What an [`Ewma`] says.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Reading {
    /// Observed over predicted, 1 is as predicted. Meaningless without samples.
    pub ratio: f32,
    /// Samples it rests on, at most 15. 0 if there are none or the last one is older than [`STALE`].
    pub samples: u32,
}

/// A reading older than this counts as none. Taste: a few of the periods in which the fall forgets.
pub const STALE: Nanos = Nanos(30_000_000_000);

const RISE: f32 = 0.2;
const FALL: f32 = 0.1;
const FORGET_SECONDS: f32 = 5.0;
const RATIO_MAX: f32 = 64.0;
const SAMPLES_MAX: u64 = 15;
const TENTHS_MASK: u64 = (1 << 28) - 1;

impl Ewma {
    /// Takes one sample in. Not finite or negative ones are ignored, others clamped to `1/64..=64`.
    pub fn observe(&self, ratio: f32, now: Nanos) {
        if !ratio.is_finite() || ratio < 0.0 {
            return;
        }
        let sample = ratio.clamp(RATIO_MAX.recip(), RATIO_MAX);
        let tenths = tenths(now);
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (old, samples) = (f32::from_bits(word as u32), word >> 60);
            let value = if samples == 0 {
                sample
            } else if sample > old {
                old + RISE * (sample - old)
            } else {
                let seconds = age(word, tenths) as f32 / 10.0;
                old + (1.0 - (1.0 - FALL) * (-seconds / FORGET_SECONDS).exp()) * (sample - old)
            };
            Some((samples + 1).min(SAMPLES_MAX) << 60 | tenths << 32 | u64::from(value.to_bits()))
        });
    }

    /// The smoothed ratio and how much it rests on.
    pub fn get(&self, now: Nanos) -> Reading {
        let word = self.word.load(Ordering::Relaxed);
        let stale = age(word, tenths(now)) > STALE.0 / 100_000_000;
        Reading { ratio: f32::from_bits(word as u32), samples: if stale { 0 } else { (word >> 60) as u32 } }
    }
}

fn tenths(now: Nanos) -> u64 {
    (now.0 / 100_000_000) & TENTHS_MASK
}

/// Tenths of a second since the last sample; 0 if another shard's clock reading was ahead of this one.
fn age(word: u64, now: u64) -> u64 {
    let age = now.wrapping_sub(word >> 32) & TENTHS_MASK;
    if age > TENTHS_MASK / 2 { 0 } else { age }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_load_returns_to_zero_with_and_without_a_first_token() {
        let load = Load::default();
        load.begin(100, 150);
        load.begin(7, 8);
        assert_eq!((load.in_flight(), load.pending_tokens(), load.kv_tokens()), (2, 107, 158));
        load.first_token(100);
        assert_eq!((load.in_flight(), load.pending_tokens(), load.kv_tokens()), (2, 7, 158));
        load.end(150, 0);
        load.end(8, 7);
        assert_eq!((load.in_flight(), load.pending_tokens(), load.kv_tokens()), (0, 0, 0));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "more taken off"))]
    fn taking_off_too_much_stays_at_zero() {
        let load = Load::default();
        load.end(1, 1);
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn a_fresh_ewma_has_no_samples_and_the_first_sample_is_its_value() {
        let ewma = Ewma::default();
        assert_eq!(ewma.get(Nanos(0)).samples, 0);
        ewma.observe(2.0, Nanos(SECOND));
        assert_eq!(ewma.get(Nanos(SECOND)), Reading { ratio: 2.0, samples: 1 });
    }

    #[test]
    fn it_rises_by_a_fifth_and_falls_by_a_tenth() {
        let ewma = Ewma::default();
        ewma.observe(1.0, Nanos(0));
        ewma.observe(2.0, Nanos(0));
        assert!((ewma.get(Nanos(0)).ratio - 1.2).abs() < 1e-6);
        ewma.observe(0.2, Nanos(0));
        assert!((ewma.get(Nanos(0)).ratio - 1.1).abs() < 1e-6);
    }

    #[test]
    fn after_a_silence_one_good_sample_forgives_most() {
        let ewma = Ewma::default();
        ewma.observe(4.0, Nanos(0));
        ewma.observe(1.0, Nanos(10 * SECOND));
        let ratio = ewma.get(Nanos(10 * SECOND)).ratio;
        assert!(ratio > 1.0 && ratio < 1.5, "{ratio}");
    }

    #[test]
    fn a_stale_reading_counts_as_none() {
        let ewma = Ewma::default();
        ewma.observe(4.0, Nanos(0));
        assert_eq!(ewma.get(Nanos(30 * SECOND)).samples, 1);
        assert_eq!(ewma.get(Nanos(31 * SECOND)).samples, 0);
    }

    #[test]
    fn nonsense_is_ignored_and_outliers_are_clamped() {
        let ewma = Ewma::default();
        for ratio in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
            ewma.observe(ratio, Nanos(0));
        }
        assert_eq!(ewma.get(Nanos(0)).samples, 0);
        ewma.observe(f32::MAX, Nanos(0));
        assert_eq!(ewma.get(Nanos(0)).ratio, 64.0);
        ewma.observe(0.0, Nanos(u64::MAX));
        assert!(ewma.get(Nanos(u64::MAX)).ratio.is_finite());
    }

    #[test]
    fn samples_stop_counting_and_an_earlier_clock_is_no_silence() {
        let ewma = Ewma::default();
        for _ in 0..100 {
            ewma.observe(1.0, Nanos(60 * SECOND));
        }
        assert_eq!(ewma.get(Nanos(60 * SECOND)).samples, 15);
        assert_eq!(ewma.get(Nanos(59 * SECOND)).samples, 15);
    }
}
