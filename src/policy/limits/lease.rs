//! How several gateways share a limit: what one of them keeps, gives, and asks for.
//!
//! Each gateway begins with `limit / gateways`. What it gives up goes to those that ask, through a place where it is written down
//! once (`coordinator::shared`): an amount is with one gateway or on its way, never with two. So all gateways together pass what the
//! limit has, whatever this policy decides; it decides only who has it.

/// What one gateway knows of a shared limit in a turn. All amounts are in one unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// What it may still use.
    pub held: u64,
    /// What it has used in about the last second.
    pub recent: u64,
    /// The most that a request wanted in vain since the last turn.
    pub missed: u64,
    /// What was heard of the others.
    pub peers: Peers,
}

/// What the other gateways have, as last heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Peers {
    /// What they may still use, and what is on its way.
    pub held: u64,
    /// What those want that run short.
    pub urgent: u64,
    /// What those want that have less than the others.
    pub short: u64,
    /// How many gateways there are, this one included.
    pub gateways: u64,
}

/// What a gateway does in a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    /// It gives up so much.
    pub give: u64,
    /// It would like so much.
    pub want: u64,
    /// It runs short.
    pub is_urgent: bool,
}

impl View {
    /// Keeps twice what it has used in the last second ahead, and shares evenly what nobody uses. A gateway that runs short gets
    /// what idle ones have, half of it a turn; of two that run short both keep their half.
    pub fn turn(&self) -> Turn {
        let Self { held, recent, missed, peers } = *self;
        let fair = held.saturating_add(peers.held) / peers.gateways.max(1);
        let ahead = recent.saturating_mul(2);
        let goal = ahead.max(missed);
        let is_urgent = missed > held || held < ahead && recent > 0;
        let want = match is_urgent {
            true => goal.max(fair).saturating_sub(held),
            false if held < fair - fair / 4 => fair - held,
            false => 0,
        };
        let give = match (peers.urgent, is_urgent) {
            (0, true) => 0,
            (0, false) => peers.short.min(held.saturating_sub(fair.max(ahead))),
            (wanted, true) => wanted.min(held.saturating_sub(fair.max(missed))),
            (wanted, false) => {
                let spare = held.saturating_sub(ahead);
                let is_last = spare < fair / LAST;
                wanted.min(if is_last { spare } else { spare.div_ceil(2) })
            }
        };
        Turn { give, want: if give > 0 { 0 } else { want }, is_urgent }
    }
}

/// Less than this part of an even share is given up whole.
const LAST: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64.
    struct Chance(u64);

    impl Chance {
        fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    /// Gateways around one place where amounts change hands, as the script of `coordinator::shared` does it.
    struct Model {
        held: Vec<u64>,
        used: Vec<u64>,
        recent: Vec<u64>,
        missed: Vec<u64>,
        wants: Vec<(u64, bool)>,
        pool: u64,
    }

    impl Model {
        fn new(gateways: usize, most: u64) -> Self {
            let each = most / gateways as u64;
            let zero = || vec![0; gateways];
            let (used, recent, missed) = (zero(), zero(), zero());
            let wants = vec![(0, false); gateways];
            Self { held: vec![each; gateways], used, recent, missed, wants, pool: 0 }
        }

        fn ask(&mut self, at: usize, cost: u64) -> bool {
            let fits = self.held[at] >= cost;
            if fits {
                self.held[at] -= cost;
                self.used[at] += cost;
                self.recent[at] += cost;
            } else {
                self.missed[at] = self.missed[at].max(cost);
            }
            fits
        }

        fn turn(&mut self, at: usize) {
            let sum = |urgent: bool| {
                let others = self.wants.iter().enumerate().filter(|(other, _)| *other != at);
                others.filter(|(_, want)| want.1 == urgent).map(|(_, want)| want.0).sum()
            };
            let others = self.held.iter().sum::<u64>() - self.held[at] + self.pool;
            let gateways = self.held.len() as u64;
            let peers = Peers { held: others, urgent: sum(true), short: sum(false), gateways };
            let missed = std::mem::take(&mut self.missed[at]);
            let view = View { held: self.held[at], recent: self.recent[at], missed, peers };
            let turn = view.turn();
            assert!(turn.give <= view.held);
            self.held[at] -= turn.give;
            self.pool += turn.give;
            let grant = turn.want.min(self.pool);
            self.pool -= grant;
            self.held[at] += grant;
            self.wants[at] = (turn.want - grant, turn.is_urgent);
            self.recent[at] -= self.recent[at].div_ceil(16);
        }

        fn total(&self) -> u64 {
            self.held.iter().chain(&self.used).sum::<u64>() + self.pool
        }
    }

    #[test]
    fn nothing_is_made_and_nothing_lost_whoever_asks() {
        for seed in 0..50 {
            let mut chance = Chance::new(seed);
            let mut model = Model::new(4, 4_000);
            for _ in 0..2_000 {
                let at = chance.below(4) as usize;
                match chance.below(3) {
                    0 => model.turn(at),
                    _ => _ = model.ask(at, 1 + chance.below(20)),
                }
                assert_eq!(model.total(), 4_000, "seed {seed}");
            }
        }
    }

    #[test]
    fn one_gateway_with_all_the_traffic_gets_all_of_it() {
        for gateways in [2, 3, 8] {
            let mut model = Model::new(gateways, 24_000);
            for _ in 0..4_000 {
                model.ask(0, 10);
                (0..gateways).for_each(|at| model.turn(at));
            }
            assert_eq!(model.used[0], 24_000, "{gateways} gateways");
        }
    }

    #[test]
    fn a_request_larger_than_the_share_passes_after_a_few_turns() {
        let mut model = Model::new(4, 4_000);
        let mut turns = 0;
        while !model.ask(2, 3_500) {
            (0..4).for_each(|at| model.turn(at));
            turns += 1;
            assert!(turns <= 8);
        }
        assert_eq!(model.used[2], 3_500);
    }

    #[test]
    fn two_that_run_short_keep_an_even_share() {
        let mut model = Model::new(2, 1_000);
        model.held = vec![900, 100];
        model.missed = vec![2_000, 2_000];
        for _ in 0..3 {
            (0..2).for_each(|at| model.turn(at));
            model.missed = vec![2_000, 2_000];
        }
        assert!(model.held[0] >= 500, "{:?}", model.held);
    }
}
