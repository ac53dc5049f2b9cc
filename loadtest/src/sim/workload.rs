//! Who asks what, and when: conversations fixed by a seed, the same for every policy.
//!
//! A prompt is a row of segments, each with an identity and a length; two prompts share text exactly as far as they
//! share segments. The simulator needs their block hashes only; `loadtest sessions` writes them out as text.

use crate::chance::{Chance, mix};
use crate::gpusim::engine::BLOCK_TOKENS;

/// Kinds of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Conversations under a few system prompts, with time to think between turns.
    Chat,
    /// Agents: long contexts that grow by tool results, many turns, little time between them.
    Agents,
    /// One question each about a shared document, popular ones more often.
    Documents,
    /// 150 tenants with a prompt of 6,000 tokens each.
    Tenants,
    /// Bursts of 16 to 64 requests at once over one fresh prompt.
    Siblings,
    /// Everybody under the same system prompt, nothing else shared.
    Popular,
    /// Nothing shared.
    Unshared,
}

/// Who says a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// System prompt and tools.
    System,
    /// User, or a tool's result.
    User,
    /// The model.
    Assistant,
}

/// A stretch of text: the same id and length are the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Who says it.
    pub speaker: Speaker,
    /// Which text.
    pub id: u64,
    /// How long.
    pub tokens: usize,
}

/// One request of a session.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Segments of the session's text that are its prompt: the first so many.
    pub segments: usize,
    /// Tokens of the response.
    pub output_tokens: usize,
    /// Seconds between the end of the turn before and this one.
    pub think: f64,
}

/// A client from its first request to its last.
#[derive(Debug, Clone)]
pub struct Session {
    /// All that is said.
    pub text: Vec<Segment>,
    /// Its requests, in order.
    pub turns: Vec<Turn>,
    /// Requests that are sent at the same time as the first turn: siblings with the same prompt but a tail of their own.
    pub siblings: usize,
}

impl Session {
    /// Length of a turn's prompt in tokens.
    pub fn prompt_tokens(&self, turn: usize) -> usize {
        self.text[..self.turns[turn].segments].iter().map(|segment| segment.tokens).sum()
    }

    /// The hashes of a turn's full blocks; `sibling` tells tails apart.
    pub fn blocks(&self, turn: usize, sibling: usize) -> Vec<u64> {
        let segments = &self.text[..self.turns[turn].segments];
        let (mut blocks, mut hash, mut filled) = (Vec::new(), 0x5eed, 0);
        for (index, segment) in segments.iter().enumerate() {
            let own = if index + 1 == segments.len() { sibling as u64 } else { 0 };
            let (mut at, id) = (0, mix(segment.id ^ own << 48));
            while at < segment.tokens {
                let taken = (BLOCK_TOKENS - filled).min(segment.tokens - at);
                hash = mix(hash ^ id.wrapping_add((at * 977 + taken) as u64)).wrapping_add(id);
                (at, filled) = (at + taken, filled + taken);
                if filled == BLOCK_TOKENS {
                    blocks.push(hash | 1);
                    filled = 0;
                }
            }
        }
        blocks
    }
}

impl Workload {
    /// Session `index` under `seed`.
    pub fn session(self, seed: u64, index: u64) -> Session {
        let mut chance = Chance::for_item(seed, index);
        let mut draft = Draft { chance: &mut chance, text: Vec::new(), turns: Vec::new(), siblings: 0 };
        match self {
            Self::Chat => {
                draft.shared(1, 12, 400, 1_600);
                draft.converse(2..=12, (60, 900), (80, 350), 5.0);
            }
            Self::Agents => {
                draft.shared(2, 6, 4_000, 7_000);
                draft.say(Speaker::User, 500, 8_000);
                draft.turn(40, 220, 0.0);
                draft.converse(8..=28, (150, 3_500), (40, 220), 1.0);
            }
            Self::Documents => {
                draft.shared(3, 200, 4_000, 16_000);
                draft.say(Speaker::User, 20, 120);
                draft.turn(60, 240, 0.0);
            }
            Self::Tenants => {
                draft.shared(4, 150, 6_000, 6_000);
                draft.converse(1..=5, (60, 600), (60, 240), 4.0);
            }
            Self::Siblings => {
                draft.say(Speaker::System, 2_000, 6_000);
                draft.say(Speaker::User, 100, 400);
                draft.turn(60, 240, 0.0);
                draft.siblings = 15 + draft.chance.below(49) as usize;
            }
            Self::Popular => {
                draft.shared(5, 1, 3_000, 3_000);
                draft.say(Speaker::User, 100, 1_500);
                draft.turn(80, 350, 0.0);
            }
            Self::Unshared => {
                draft.say(Speaker::User, 200, 4_000);
                draft.turn(80, 350, 0.0);
            }
        }
        let Draft { text, turns, siblings, .. } = draft;
        Session { text, turns, siblings }
    }

    /// Seconds of one engine's time that a session takes if each prefix is computed only once and kept, from a sample.
    pub fn work_seconds(self, seed: u64, prefill_rate: f64, stream_step: f64) -> f64 {
        const SAMPLE: u64 = 400;
        let mut seen: std::collections::HashSet<u64> = Default::default();
        let mut total = 0.0;
        for index in 0..2 * SAMPLE {
            let session = self.session(seed, index);
            let mut work = 0.0;
            for sibling in 0..=session.siblings {
                for turn in 0..session.turns.len() {
                    let blocks = session.blocks(turn, sibling);
                    let cached = blocks.iter().take_while(|block| seen.contains(*block)).count();
                    seen.extend(&blocks);
                    let uncached = session.prompt_tokens(turn) - cached * BLOCK_TOKENS;
                    work += uncached as f64 / prefill_rate
                        + session.turns[turn].output_tokens as f64 * stream_step;
                }
            }
            // The first half fills the caches.
            total += if index < SAMPLE { 0.0 } else { work };
        }
        total / SAMPLE as f64
    }
}

struct Draft<'a> {
    chance: &'a mut Chance,
    text: Vec<Segment>,
    turns: Vec<Turn>,
    siblings: usize,
}

impl Draft<'_> {
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.chance.below((high - low + 1) as u64) as usize
    }

    /// A length skewed towards `low`: most messages are short.
    fn skewed(&mut self, low: usize, high: usize) -> usize {
        let share = self.chance.share();
        low + ((high - low) as f64 * share * share * share) as usize
    }

    /// One of `count` texts that many sessions share, the first ones more often.
    fn shared(&mut self, family: u64, count: u64, low: usize, high: usize) {
        let share = self.chance.share();
        let which = ((count as f64).powf(share) - 1.0) / (count as f64 - 1.0).max(1e-9) * count as f64;
        let id = mix(family << 32 | which as u64);
        let tokens = low + (id % (high - low + 1) as u64) as usize;
        self.text.push(Segment { speaker: Speaker::System, id, tokens });
    }

    fn say(&mut self, speaker: Speaker, low: usize, high: usize) {
        let tokens = self.skewed(low, high);
        self.text.push(Segment { speaker, id: self.chance.word(), tokens });
    }

    fn turn(&mut self, low: usize, high: usize, think_mean: f64) {
        let output_tokens = self.between(low, high);
        let think = self.chance.exponential(think_mean);
        self.turns.push(Turn { segments: self.text.len(), output_tokens, think });
    }

    /// Turns that each add the response before them and a message.
    fn converse(
        &mut self,
        turns: std::ops::RangeInclusive<usize>,
        message: (usize, usize),
        output: (usize, usize),
        think_mean: f64,
    ) {
        let count = self.between(*turns.start(), *turns.end());
        for _ in 0..count {
            if let Some(last) = self.turns.last() {
                let tokens = last.output_tokens;
                self.text.push(Segment { speaker: Speaker::Assistant, id: self.chance.word(), tokens });
            }
            self.say(Speaker::User, message.0, message.1);
            self.turn(output.0, output.1, think_mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_extends_the_one_before_it_and_siblings_share_all_but_the_tail() {
        let session = Workload::Agents.session(1, 7);
        assert!(session.turns.len() >= 8);
        for turn in 1..session.turns.len() {
            let (before, after) = (session.blocks(turn - 1, 0), session.blocks(turn, 0));
            assert_eq!(after.len(), session.prompt_tokens(turn) / BLOCK_TOKENS);
            assert_eq!(after[..before.len() - 1], before[..before.len() - 1]);
        }
        let burst = Workload::Siblings.session(1, 1);
        let (one, other) = (burst.blocks(0, 1), burst.blocks(0, 2));
        let shared = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        assert!(shared >= 2_000 / BLOCK_TOKENS && shared < one.len(), "{shared} of {}", one.len());
    }

    #[test]
    fn the_same_seed_gives_the_same_session_and_another_another() {
        let blocks = |seed, index| Workload::Chat.session(seed, index).blocks(1, 0);
        assert_eq!(blocks(1, 5), blocks(1, 5));
        assert_ne!(blocks(1, 5), blocks(2, 5));
    }

    #[test]
    fn unshared_work_is_its_prompts() {
        let work = Workload::Unshared.work_seconds(1, 20_000.0, 0.0);
        assert!((0.03..0.1).contains(&work), "{work}");
    }
}
