//! Which backend of a pool?
//!
//! One number per backend, the seconds a request would cost there and cost others there; the lowest wins. The load
//! is what the gateway itself has sent and not yet got back, so no backend has to report anything.
//!
//! ```text
//! uncached = max(1, prompt - matched - worth of its session)    tokens to prefill
//! wait     = (pending + uncached) * PREFILL + STEP + 2 * STREAM * n      time to first token
//! harm     = uncached * PREFILL * min(1, 0.02 * n) + 10 * STREAM * n     what it does to the others
//! kv       = 0.05 * k^4 / (1 - k), k = (kv + prompt) / capacity          0 if the capacity is unknown
//! score    = slowness * (wait + harm) + kv
//! ```
//!
//! The constants below were chosen by simulation of 16 engines; the ranking hardly moves for a `PREFILL` four times
//! too large or small, so bytes divided by four are good enough as token counts.

/// Seconds per token of prefill. Measured, see above.
pub const PREFILL_SECONDS: f64 = 1e-4;
/// Seconds of one step of an engine. Measured, see above.
pub const STEP_SECONDS: f64 = 12e-3;
/// Seconds a running stream adds to a step. Measured, see above.
pub const STREAM_SECONDS: f64 = 4e-5;
/// Scores within this share of the best, and [`TIE_SECONDS`], count as equal. Measured, see above.
pub const TIE_SHARE: f64 = 0.05;
/// See [`TIE_SHARE`].
pub const TIE_SECONDS: f64 = 2e-3;
/// Samples of time to first token below which a backend's slowness is not believed. Taste.
pub const SAMPLES_MIN: u32 = 8;
/// Slowness within this distance of the pool's median is noise. Measured, see above.
const SLOWNESS_IGNORED: f64 = 0.25;
/// Slowness is clamped to this range: an outlier guard, not a verdict. A larger one breaks the affinity of long prompts, whose
/// caches are worth more than a slow server costs. Simulated (`loadtest sim`, three seeds), p99 of agents before 8 engines of
/// which 2 are slow: 1.7 s with this range, 2.2 s with 0.8 to 4, 1.2 s without the guard; before equal engines 0.82 s against 0.74 s.
const SLOWNESS_RANGE: std::ops::RangeInclusive<f64> = 1.0..=1.6;
/// Most tokens that a session is worth. Chosen, not measured: 0.2 s of prefill.
pub const SESSION_TOKENS_MAX: f64 = 2_048.0;
/// Scores that are kept between the two passes; those of further backends are computed twice. `pick_among_busy` in
/// `bench/policy.rs` times it.
const SCORES_MAX: usize = 64;
/// Backends over which the median slowness is taken; further ones do not vote. Bounds the scratch on the stack.
const VOTES_MAX: usize = 64;

/// One backend of a pool, as seen by a shard at the moment of a pick. By the index of the pool's members.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct View {
    /// Whether it may be picked: breaker, health, drain, in-flight bound. The caller decides, and may fail open.
    pub eligible: bool,
    /// Share of traffic among equals; 0 counts as 1.
    pub weight: u32,
    /// Exchanges in flight, over all shards.
    pub in_flight: u64,
    /// Prompt tokens sent whose first output has not come back, over all shards.
    pub pending_tokens: u64,
    /// Prompt and expected output tokens of the exchanges in flight, over all shards.
    pub kv_tokens: u64,
    /// Tokens its KV cache holds, 0 if unknown.
    pub kv_capacity: u64,
    /// Tokens of this prompt that it should have in its cache, by the table of prompts; 0 where the pool has none.
    pub matched_tokens: u64,
    /// It served the session of this request last, by the same table.
    pub has_session: bool,
    /// How many times slower than the pool's usual member it prefills (`speed::factors`).
    pub prefill_factor: f64,
    /// Observed over predicted time to first token (`load::Reading`).
    pub ratio: f32,
    /// Samples that ratio rests on.
    pub samples: u32,
}

impl Default for View {
    fn default() -> Self {
        Self {
            eligible: true,
            weight: 1,
            in_flight: 0,
            pending_tokens: 0,
            kv_tokens: 0,
            kv_capacity: 0,
            matched_tokens: 0,
            has_session: false,
            prefill_factor: 1.0,
            ratio: 1.0,
            samples: 0,
        }
    }
}

impl View {
    /// Seconds per token of prefill.
    fn prefill_seconds(&self) -> f64 {
        PREFILL_SECONDS * self.prefill_factor
    }

    /// Tokens of a prompt that it has to prefill, at least one.
    pub fn uncached(&self, prompt_tokens: u64) -> f64 {
        prompt_tokens.saturating_sub(self.matched_tokens).max(1) as f64
    }

    /// Tokens of the uncached part that its session is taken to save: engines keep more of a session than its text shows (images,
    /// earlier responses). A bound keeps an overloaded backend from keeping its sessions.
    pub fn session_worth(&self, prompt_tokens: u64) -> f64 {
        match self.has_session {
            true => (self.uncached(prompt_tokens) / 2.0).min(SESSION_TOKENS_MAX),
            false => 0.0,
        }
    }

    /// The expected time to first token in seconds: what an observed one is divided by for `load::Ewma`.
    pub fn first_token_seconds(&self, prompt_tokens: u64) -> f64 {
        (self.pending_tokens as f64 + self.uncached(prompt_tokens)) * self.prefill_seconds()
            + STEP_SECONDS
            + 2.0 * STREAM_SECONDS * self.in_flight as f64
    }
}

/// The parts of a score, in seconds but for the first.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Terms {
    /// What the sum of the next two is multiplied by.
    pub slowness: f64,
    /// Expected time to the first token, less what its session is worth.
    pub wait: f64,
    /// What the request costs the streams that run, and they cost it.
    pub harm: f64,
    /// Pressure on the KV cache.
    pub kv: f64,
}

impl Terms {
    /// Of one backend; `slowness`: its ratio relative to the pool's, 1 is average.
    pub fn of(view: &View, prompt_tokens: u64, slowness: f64) -> Self {
        let streams = view.in_flight as f64;
        let uncached = view.uncached(prompt_tokens);
        let worth = view.session_worth(prompt_tokens);
        let prefill = (uncached - worth).max(1.0) * view.prefill_seconds();
        let kv = if view.kv_capacity == 0 {
            0.0
        } else {
            let held = view.kv_tokens as f64 + prompt_tokens as f64;
            let full = (held / view.kv_capacity as f64).min(0.999);
            0.05 * full.powi(4) / (1.0 - full)
        };
        Self {
            slowness,
            wait: view.first_token_seconds(prompt_tokens) - uncached * view.prefill_seconds() + prefill,
            harm: prefill * (0.02 * streams).min(1.0) + 10.0 * STREAM_SECONDS * streams,
            kv,
        }
    }

    /// The score: lower is better.
    pub fn sum(&self) -> f64 {
        self.slowness * (self.wait + self.harm) + self.kv
    }
}

/// The score of one backend in seconds, lower is better.
pub fn score(view: &View, prompt_tokens: u64, slowness: f64) -> f64 {
    Terms::of(view, prompt_tokens, slowness).sum()
}

/// The parts of each backend's score, in the order of `views`.
pub fn terms(views: &[View], prompt_tokens: u64) -> impl Iterator<Item = Terms> + '_ {
    let median = median_ratio(views);
    views.iter().map(move |view| Terms::of(view, prompt_tokens, slowness(view, median)))
}

/// The index of the backend to use, `None` if none is eligible.
///
/// Near ties are broken by weighted rendezvous on `word`: the same word and the same ties give the same backend,
/// equal backends share words by weight, and shards whose views agree do not run in a herd.
///
/// Cost: no allocation, two passes; `bench/policy.rs`.
pub fn pick(views: &[View], prompt_tokens: u64, word: u64) -> Option<usize> {
    if let [only] = views {
        return only.eligible.then_some(0);
    }
    let median = median_ratio(views);
    let score = |view: &View| score(view, prompt_tokens, slowness(view, median));
    let mut scores = [f64::INFINITY; SCORES_MAX];
    let kept = scores.iter_mut().zip(views).filter(|(_, view)| view.eligible);
    kept.for_each(|(kept, view)| *kept = score(view));
    let score_of = |index: usize, view: &View| scores.get(index).copied().unwrap_or_else(|| score(view));
    let eligible = || views.iter().enumerate().filter(|(_, view)| view.eligible);

    let best = eligible().map(|(index, view)| score_of(index, view)).min_by(f64::total_cmp)?;
    let near = best * (1.0 + TIE_SHARE) + TIE_SECONDS;
    eligible()
        .filter(|(index, view)| score_of(*index, view) <= near)
        .map(|(index, view)| (rank(index, view.weight, word), index))
        .min_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, index)| index)
}

/// The place of a backend in the order that `random` draws: exponentially distributed with its weight as the rate, so
/// the lowest of several is each one's with probability `weight / sum of weights`.
pub(super) fn rank(index: usize, weight: u32, random: u64) -> f64 {
    let mixed = mix(random ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln() / f64::from(weight.max(1))
}

/// Every bit of the result depends on every bit of `word` (the finaliser of splitmix64).
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A backend's ratio relative to the median, 1 where it is not believed.
fn slowness(view: &View, median: Option<f64>) -> f64 {
    match median {
        Some(median) if view.samples >= SAMPLES_MIN => {
            let relative = f64::from(view.ratio) / median;
            if (relative - 1.0).abs() <= SLOWNESS_IGNORED || !relative.is_finite() {
                1.0
            } else {
                relative.clamp(*SLOWNESS_RANGE.start(), *SLOWNESS_RANGE.end())
            }
        }
        _ => 1.0,
    }
}

/// The lower median of the believed ratios: of two backends the faster one sets the measure.
fn median_ratio(views: &[View]) -> Option<f64> {
    let mut votes = [0.0; VOTES_MAX];
    let believed = views.iter().filter(|view| view.samples >= SAMPLES_MIN && view.ratio > 0.0);
    let mut count = 0;
    for (vote, view) in votes.iter_mut().zip(believed) {
        *vote = view.ratio;
        count += 1;
    }
    let votes = &mut votes[..count];
    let middle = count.checked_sub(1)? / 2;
    let (_, median, _) = votes.select_nth_unstable_by(middle, f32::total_cmp);
    Some(f64::from(*median))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of `views` is picked in `draws` draws.
    fn shares<const N: usize>(views: &[View; N], draws: u64) -> [u64; N] {
        let mut counts = [0; N];
        for word in 0..draws {
            counts[pick(views, 1_000, mix(word)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn nobody_eligible_is_nobody_picked() {
        assert_eq!(pick(&[], 1, 0), None);
        assert_eq!(pick(&[View { eligible: false, ..View::default() }; 3], 1, 0), None);
    }

    #[test]
    fn the_idle_one_is_picked_over_the_busy_and_the_ineligible() {
        let views = [
            View { pending_tokens: 10_000, in_flight: 1, ..View::default() },
            View { eligible: false, ..View::default() },
            View::default(),
            View { in_flight: 200, ..View::default() },
        ];
        assert_eq!(shares(&views, 100), [0, 0, 100, 0]);
    }

    #[test]
    fn idle_backends_share_by_weight() {
        let weights = [1, 2, 5, 0].map(|weight| View { weight, ..View::default() });
        let counts = shares(&weights, 90_000);
        for (count, expected) in counts.iter().zip([10_000, 20_000, 50_000, 10_000]) {
            assert!(count.abs_diff(expected) < expected / 20, "{counts:?}");
        }
    }

    #[test]
    fn the_same_word_keeps_its_backend_when_another_leaves() {
        let all = [View::default(); 8];
        for word in (0..1_000).map(mix) {
            let chosen = pick(&all, 10, word).unwrap();
            let mut fewer = all;
            fewer[(chosen + 1) % 8].eligible = false;
            assert_eq!(pick(&fewer, 10, word), Some(chosen));
        }
    }

    #[test]
    fn near_ties_are_shared_and_clear_differences_are_not() {
        let near = [View::default(), View { pending_tokens: 20, ..View::default() }];
        let counts = shares(&near, 10_000);
        assert!(counts[0].abs_diff(5_000) < 300, "{counts:?}");
        let apart = [View::default(), View { pending_tokens: 200, ..View::default() }];
        assert_eq!(shares(&apart, 100), [100, 0]);
    }

    #[test]
    fn a_slow_backend_is_avoided_only_when_it_is_clearly_and_surely_slow() {
        let with = |ratio, samples| {
            let normal = View { ratio: 2.0, samples: 15, ..View::default() };
            [normal, normal, View { ratio, samples, ..View::default() }]
        };
        assert_eq!(shares(&with(8.0, 8), 3_000)[2], 0);
        for (ratio, samples) in [(8.0, 7), (2.4, 15), (1.6, 15), (f32::NAN, 15)] {
            assert!(shares(&with(ratio, samples), 3_000)[2] > 800, "{ratio} {samples}");
        }
    }

    #[test]
    fn slowness_is_relative_to_the_median_and_clamped() {
        let view = |ratio| View { ratio, samples: 8, ..View::default() };
        let of = |ratio, median| slowness(&view(ratio), Some(median));
        assert_eq!([of(100.0, 1.0), of(0.1, 1.0), of(3.0, 1.5), of(1.2, 1.0)], [1.6, 1.0, 1.6, 1.0]);
        assert_eq!(median_ratio(&[view(9.0), view(1.0)]), Some(1.0));
        assert_eq!(median_ratio(&[view(9.0), view(1.0), view(3.0)]), Some(3.0));
        assert_eq!(median_ratio(&[View::default()]), None);
        assert!(median_ratio(&[view(1.0); 200]).is_some());
    }

    #[test]
    fn a_full_cache_repels_and_an_unknown_one_does_not() {
        let half = View { kv_tokens: 50_000, kv_capacity: 100_000, ..View::default() };
        let full = View { kv_tokens: 99_000, ..half };
        let unknown = View { kv_capacity: 0, ..full };
        assert!(score(&full, 100, 1.0) > score(&half, 100, 1.0) + 1.0);
        assert_eq!(score(&unknown, 100, 1.0), score(&View::default(), 100, 1.0));
        let over = View { kv_tokens: u64::MAX, ..full };
        assert!(score(&over, u64::MAX, 1.0).is_finite());
    }

    #[test]
    fn a_session_keeps_its_backend_until_that_costs_more_than_it_saves() {
        let mut views = [View::default(), View { has_session: true, ..View::default() }];
        assert_eq!(shares(&views, 100), [0, 100]);
        views[1].pending_tokens = 300;
        assert_eq!(shares(&views, 100), [0, 100], "half of 1,000 tokens is worth more than 300 that wait");
        views[1].pending_tokens = 900;
        assert_eq!(shares(&views, 100), [100, 0]);
        let of = |tokens| views[1].session_worth(tokens);
        assert_eq!((of(1_000), of(1_000_000)), (500.0, SESSION_TOKENS_MAX));
    }

    #[test]
    fn a_slow_engine_gets_long_prompts_only_when_the_fast_one_is_busy() {
        let slow = View { prefill_factor: 4.0, ..View::default() };
        assert_eq!(shares(&[View::default(), slow], 100), [100, 0]);
        let busy = View { pending_tokens: 4_000, ..View::default() };
        assert_eq!(shares(&[busy, slow], 100), [0, 100]);
        let warm = View { matched_tokens: 900, ..slow };
        assert_eq!(shares(&[View::default(), warm], 100), [0, 100], "a cache is worth more than speed");
    }

    #[test]
    fn a_matched_prefix_outweighs_a_little_load() {
        let warm = View { matched_tokens: 900, in_flight: 3, ..View::default() };
        assert_eq!(shares(&[View::default(), warm], 100), [0, 100]);
        let more_than_all = View { matched_tokens: u64::MAX, ..View::default() };
        assert!(score(&more_than_all, 10, 1.0) > 0.0);
    }
}
