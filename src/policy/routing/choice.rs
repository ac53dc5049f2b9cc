//! The policy of a pool: how one of its members is chosen.

use super::balance::{self, View};

/// How a pool chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// The lowest expected cost in seconds ([`balance::score`]).
    #[default]
    Cost,
    /// The fewest exchanges in flight for its weight.
    LeastRequest,
    /// The less busy of two members drawn at random.
    P2c,
    /// Each in its turn, whatever its weight.
    RoundRobin,
    /// Always the same one for the same conversation, by weight.
    Rendezvous,
    /// At random, by weight.
    Weighted,
    /// The lowest product of tokens to prefill and exchanges in flight.
    Lmetric,
}

impl Policy {
    /// By the names that the configuration has for them.
    pub const NAMES: [(&'static str, Policy); 7] = [
        ("cost", Self::Cost),
        ("least_request", Self::LeastRequest),
        ("p2c", Self::P2c),
        ("round_robin", Self::RoundRobin),
        ("rendezvous", Self::Rendezvous),
        ("weighted", Self::Weighted),
        ("lmetric", Self::Lmetric),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }

    /// Whether it asks what each member has in its cache, so that prompts have to be hashed.
    pub fn uses_prefixes(self) -> bool {
        matches!(self, Self::Cost | Self::Lmetric)
    }

    /// Whether it needs a word that stays the same within a conversation.
    pub fn uses_affinity(self) -> bool {
        self.uses_prefixes() || self == Self::Rendezvous
    }
}

/// What a choice is made for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Tokens of the prompt, by estimate.
    pub prompt_tokens: u64,
    /// The same for requests that belong together, random for the others.
    pub affinity: u64,
    /// Random.
    pub random: u64,
    /// Grows by one with each choice of this pool.
    pub turn: u64,
}

/// The index of the member to use, `None` if none is eligible. Equal members share by weight but for the policies that
/// say otherwise.
///
/// Cost: no allocation, a few passes over `views`.
pub fn pick(policy: Policy, views: &[View], request: &Request) -> Option<usize> {
    let eligible = || views.iter().enumerate().filter(|(_, view)| view.eligible);
    let busy = |view: &View| (view.in_flight as f64 + 1.0) / f64::from(view.weight.max(1));
    match policy {
        Policy::Cost => balance::pick(views, request.prompt_tokens, request.affinity),
        Policy::LeastRequest => lowest(views, request.random, busy),
        Policy::Lmetric => lowest(views, request.affinity, |view| {
            (view.pending_tokens as f64 + view.uncached(request.prompt_tokens))
                * (view.in_flight as f64 + 1.0)
        }),
        Policy::P2c => {
            let first = draw(views, request.random, None)?;
            let Some(second) = draw(views, balance::mix(request.random), Some(first)) else {
                return Some(first);
            };
            Some(if busy(&views[second]) < busy(&views[first]) { second } else { first })
        }
        Policy::RoundRobin => {
            let count = eligible().count() as u64;
            let turn = request.turn.checked_rem(count)?;
            eligible().nth(turn as usize).map(|(index, _)| index)
        }
        Policy::Rendezvous => draw(views, request.affinity, None),
        Policy::Weighted => draw(views, request.random, None),
    }
}

/// The member with the lowest `cost`; among equals one that `word` draws.
fn lowest(views: &[View], word: u64, cost: impl Fn(&View) -> f64) -> Option<usize> {
    let eligible = || views.iter().enumerate().filter(|(_, view)| view.eligible);
    let best = eligible().map(|(_, view)| cost(view)).min_by(f64::total_cmp)?;
    eligible()
        .filter(|(_, view)| cost(view) <= best)
        .map(|(index, view)| (balance::rank(index, view.weight, word), index))
        .min_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, index)| index)
}

/// One of the eligible members, each with probability by its weight; never `but`.
fn draw(views: &[View], word: u64, but: Option<usize>) -> Option<usize> {
    let drawn = views.iter().enumerate().filter(|(index, view)| view.eligible && Some(*index) != but);
    drawn
        .map(|(index, view)| (balance::rank(index, view.weight, word), index))
        .min_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares<const N: usize>(policy: Policy, views: &[View; N], draws: u64) -> [u64; N] {
        let mut counts = [0; N];
        for turn in 0..draws {
            let random = balance::mix(turn);
            let request = Request { prompt_tokens: 1_000, affinity: random, random, turn };
            counts[pick(policy, views, &request).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn every_policy_has_one_name_and_picks_nobody_from_nobody() {
        for (name, policy) in Policy::NAMES {
            assert_eq!(policy.name(), name);
            let request = Request { prompt_tokens: 1, affinity: 0, random: 0, turn: 0 };
            assert_eq!(pick(policy, &[], &request), None);
            assert_eq!(pick(policy, &[View { eligible: false, ..View::default() }; 2], &request), None);
            let only = [View { eligible: false, ..View::default() }, View::default()];
            assert_eq!(pick(policy, &only, &request), Some(1));
        }
    }

    #[test]
    fn least_request_counts_by_weight() {
        let view = |in_flight, weight| View { in_flight, weight, ..View::default() };
        assert_eq!(shares(Policy::LeastRequest, &[view(3, 1), view(2, 1), view(9, 1)], 50), [0, 50, 0]);
        assert_eq!(shares(Policy::LeastRequest, &[view(3, 1), view(5, 4)], 50), [0, 50]);
    }

    #[test]
    fn round_robin_takes_turns_among_the_eligible() {
        let mut views = [View::default(); 4];
        views[2].eligible = false;
        assert_eq!(shares(Policy::RoundRobin, &views, 30), [10, 10, 0, 10]);
    }

    #[test]
    fn two_choices_avoid_the_busiest_and_weighted_obeys_the_weights() {
        let mut views = [View::default(); 4];
        views[3].in_flight = 50;
        let counts = shares(Policy::P2c, &views, 3_000);
        assert!(counts[3] == 0 && counts[..3].iter().all(|count| *count > 800), "{counts:?}");
        let weights = [1, 3].map(|weight| View { weight, in_flight: 9, ..View::default() });
        let counts = shares(Policy::Weighted, &weights, 4_000);
        assert!(counts[0].abs_diff(1_000) < 150, "{counts:?}");
    }

    #[test]
    fn rendezvous_keeps_a_conversation_where_it_is_whatever_the_load() {
        let views =
            |busy: u64| [View { in_flight: busy, ..View::default() }, View::default(), View::default()];
        for affinity in (0..100).map(balance::mix) {
            let request = |turn| Request { prompt_tokens: 1, affinity, random: balance::mix(turn), turn };
            let first = pick(Policy::Rendezvous, &views(0), &request(0));
            assert_eq!(pick(Policy::Rendezvous, &views(99), &request(1)), first);
        }
    }

    #[test]
    fn lmetric_weighs_a_cache_against_the_batch() {
        let warm = View { matched_tokens: 900, in_flight: 4, ..View::default() };
        assert_eq!(shares(Policy::Lmetric, &[warm, View::default()], 10), [10, 0]);
        let busy = View { in_flight: 12, ..warm };
        assert_eq!(shares(Policy::Lmetric, &[busy, View::default()], 10), [0, 10]);
    }
}
