//! The prompt of an exchange, as far as the choice of a backend needs it: hashed once, looked up for each attempt; where it
//! went is reported to the coordinator.

use std::rc::Rc;

use crate::dialect::prompt::{self, Piece};
use crate::dialect::request::Peek;
use crate::observe::counters::Counter;
use crate::plan::{Member, Model};
use crate::policy::routing::balance::View;
use crate::policy::routing::choice::{Policy, Request};
use crate::policy::routing::prefix::{self, BLOCK_BYTES, Chain, Note, NoteKind};
use crate::shard::state::Shard;

/// One prompt. Nothing is hashed before a pool with more than one member asks.
pub(super) struct Prompt {
    shard: Rc<Shard>,
    chain: Option<Chain>,
    /// Tokens, by the length of what was hashed.
    tokens: u64,
    /// Stays the same within a conversation, where the client says what belongs to it.
    session: Option<u64>,
}

/// Where a prompt was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    slot: u8,
    /// Blocks that the backend was taken to have.
    matched: usize,
}

impl Prompt {
    pub(super) fn new(shard: &Rc<Shard>) -> Self {
        Self { shard: Rc::clone(shard), chain: None, tokens: 0, session: None }
    }

    /// Hashes the prompt, the first time for an exchange. A pool that serves names which clients choose serves a model by each.
    pub(super) fn hash(&mut self, model: &Model, peek: &Peek, body: &[u8]) {
        if self.chain.is_some() {
            return;
        }
        let mut chain = self.shard.prompts.spare.borrow_mut().pop().unwrap_or_default();
        let is_pattern = model.pool.iter().any(|member| member.template.is_some());
        let name = if is_pattern { word(peek.model.of(body)) } else { 0 };
        chain.restart(word(peek.cache_salt.of(body)) ^ name.rotate_left(32));
        let rates = self.shard.plan.estimate;
        let (mut bytes, mut media) = (0, 0);
        prompt::pieces(peek, body, |piece| match piece {
            Piece::Text(text) => {
                bytes += text.len() as u64;
                chain.push(text);
            }
            Piece::Media(content) => {
                media += 1;
                chain.push_digest(content);
            }
        });
        self.tokens = bytes / rates.bytes_per_token.max(1) + media * rates.image_tokens;
        self.session = (!peek.cache_key.is_empty()).then(|| word(peek.cache_key.of(body)));
        self.chain = Some(chain);
    }

    /// What a choice among the pool of `model` is made for; completes the views of its members. `estimate`: tokens of the
    /// prompt, for one that was not hashed.
    pub(super) fn request(&self, model: &Model, views: &mut [View], estimate: u64) -> Request {
        let random = self.shard.random();
        let matched = if model.policy.uses_prefixes() { self.look_up(model, views) } else { 0 };
        Request {
            prompt_tokens: if self.tokens == 0 { estimate } else { self.tokens },
            affinity: match model.policy {
                Policy::Rendezvous => self.conversation(random),
                _ => self.affinity(matched, random),
            },
            random,
            turn: self.shard.prompts.turn(),
        }
    }

    fn blocks(&self) -> &[u64] {
        self.chain.as_ref().map_or(&[], Chain::blocks)
    }

    /// Fills in which of the pool's members have how much of it in their caches. Back comes the longest match, in blocks.
    fn look_up(&self, model: &Model, views: &mut [View]) -> usize {
        let Some(shared) = self.shard.plan.models.cells(model.id).prefixes.get() else { return 0 };
        let (recent, now) = (self.shard.prompts.recent.borrow(), self.shard.deadlines.now());
        let of_recent = |block| recent.as_ref().map_or(0, |recent| recent.get(block ^ shared.salt, now));
        let mut matched = [0_u16; prefix::MEMBERS_MAX];
        let members_of = |block| shared.table.get(block) | of_recent(block);
        let mut best = 0;
        prefix::lengths(self.blocks(), members_of, |slot, count| {
            matched[slot] = count as u16;
        });
        let block_tokens = BLOCK_BYTES as u64 / self.shard.plan.estimate.bytes_per_token.max(1);
        for (view, member) in views.iter_mut().zip(&model.pool) {
            let count = matched.get(usize::from(member.slot)).copied().unwrap_or(0);
            view.matched_tokens = u64::from(count) * block_tokens;
            best = best.max(usize::from(count));
        }
        best
    }

    /// The same word for requests that belong together: the client's own, or the first block that no member has, so that
    /// siblings meet; `random` for a prompt that is too short to have one.
    fn affinity(&self, matched: usize, random: u64) -> u64 {
        let blocks = self.blocks();
        self.session.or(blocks.get(matched).or(blocks.last()).copied()).unwrap_or(random)
    }

    /// The same word for a whole conversation.
    fn conversation(&self, random: u64) -> u64 {
        let blocks = self.blocks();
        self.session.or(blocks.get(CONVERSATION_BLOCK).or(blocks.last()).copied()).unwrap_or(random)
    }

    /// It is being sent to `member`, which has `matched_tokens` of it: its blocks will be there.
    pub(super) fn placed(&self, model: &Model, member: &Member, matched_tokens: u64) -> Sent {
        let block_tokens = BLOCK_BYTES as u64 / self.shard.plan.estimate.bytes_per_token.max(1);
        let sent = Sent { slot: member.slot, matched: (matched_tokens / block_tokens.max(1)) as usize };
        let Some(shared) = self.shard.plan.models.cells(model.id).prefixes.get() else { return sent };
        if self.blocks().is_empty() {
            return sent;
        }
        let numbers = &self.shard.numbers;
        numbers.add(Counter::PrefixTokens, self.tokens);
        numbers.add(Counter::PrefixTokensMatched, matched_tokens);
        let now = self.shard.deadlines.now();
        let mut recent = self.shard.prompts.recent.borrow_mut();
        let recent = recent.get_or_insert_default();
        let members = prefix::bit(member.slot.into());
        self.blocks().iter().for_each(|block| recent.add(block ^ shared.salt, members, now));
        self.note(shared.number, NoteKind::Placed, sent, self.blocks());
        sent
    }

    /// It did not get there. `gone`: the server was not even there, so that when it is back its cache will be empty.
    pub(super) fn failed(&self, model: &Model, sent: Sent, gone: bool) {
        let Some(shared) = self.shard.plan.models.cells(model.id).prefixes.get() else { return };
        if self.blocks().is_empty() {
            return;
        }
        let blocks = &self.blocks()[if gone { 0 } else { sent.matched.min(self.blocks().len()) }..];
        if let Some(recent) = self.shard.prompts.recent.borrow_mut().as_mut() {
            blocks.iter().for_each(|block| recent.remove(block ^ shared.salt, prefix::bit(sent.slot.into())));
        }
        match gone {
            true => self.note(shared.number, NoteKind::Restarted, sent, &[]),
            false => self.note(shared.number, NoteKind::Dropped, sent, blocks),
        }
    }

    fn note(&self, table: u32, kind: NoteKind, sent: Sent, blocks: &[u64]) {
        let note = Note { kind, table, member: sent.slot };
        if !self.shard.plan.placements.append(self.shard.id, note, blocks) {
            self.shard.numbers.inc(Counter::PrefixNotesLost);
        }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let mut spare = self.shard.prompts.spare.borrow_mut();
        if let Some(chain) = self.chain.take().filter(|_| spare.len() < SPARE_MAX) {
            spare.push(chain);
        }
    }
}

/// A word for a client's own words; zero for none.
fn word(words: &[u8]) -> u64 {
    words.iter().fold(0, |hash: u64, byte| {
        (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// Chains kept for reuse. Chosen, not measured.
const SPARE_MAX: usize = 256;
/// The block that stands for a conversation: behind the start of a system prompt that others share. Chosen, not measured.
const CONVERSATION_BLOCK: usize = 3;
