//! The prompt of an exchange, as far as the choice of a backend needs it: hashed once, looked up for each attempt; where it
//! went is reported to the coordinator.

use std::cell::RefCell;
use std::rc::Rc;

use super::trace;
use crate::dialect::request::Peek;
use crate::observe::counters::Counter;
use crate::plan::placements::Shared;
use crate::plan::{Draw, Member, Model};
use crate::policy::routing::balance::View;
use crate::policy::routing::choice::Request;
use crate::policy::routing::conversation::{Conversation, Source};
use crate::policy::routing::prefix::{self, Note, NoteKind};
use crate::shard::exchange::ExpectedMatch;
use crate::shard::state::Shard;

/// One prompt. Nothing is hashed before a pool with more than one member asks.
pub(super) struct Prompt {
    shard: Rc<Shard>,
    conversation: Option<Conversation>,
    /// The members of the last choice as they were seen, for a client that asked.
    seen: Option<RefCell<String>>,
}

/// Where a prompt was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    slot: u8,
    /// Blocks that the backend was taken to have.
    matched: usize,
    /// The same in tokens, if the backend was chosen by that.
    pub(super) expected: Option<ExpectedMatch>,
}

impl Prompt {
    pub(super) fn new(shard: &Rc<Shard>, is_traced: bool) -> Self {
        Self { shard: Rc::clone(shard), conversation: None, seen: is_traced.then(RefCell::default) }
    }

    /// Hashes the prompt, the first time for an exchange. `lines`: those of the client's head.
    pub(super) fn hash(&mut self, model: &Model, peek: &Peek, body: &[u8], lines: &[u8]) {
        if self.conversation.is_some() {
            return;
        }
        let chain = self.shard.prompts.spare.borrow_mut().pop().unwrap_or_default();
        let plan = &self.shard.plan;
        let source = Source {
            peek,
            body,
            is_pattern: model.pool.iter().any(|member| member.template.is_some()),
            rates: plan.estimate,
            session: plan.session_headers.find(lines),
        };
        self.conversation = Some(Conversation::read(chain, &source));
    }

    /// What a choice among the pool of `model` is made for; completes the views of its members. `estimate`: tokens of the
    /// prompt, for one that was not hashed.
    pub(super) fn request(&self, model: &Model, views: &mut [View], estimate: u64) -> Request {
        let shard = &self.shard;
        let draw = Draw { prompt_tokens: estimate, random: shard.random(), turn: shard.prompts.turn() };
        let (recent, now) = (shard.prompts.recent.borrow(), shard.deadlines.now());
        let of_recent = |key| recent.as_ref().map_or(0, |recent| recent.get(key, now));
        let request = shard.plan.request(model, self.conversation.as_ref(), of_recent, views, draw);
        if let Some(seen) = &self.seen {
            *seen.borrow_mut() = trace::line(&shard.plan, model, views, &request);
        }
        request
    }

    /// How the last choice fell on `chosen`, for a client that asked.
    pub(super) fn trace(&self, chosen: &Member) -> Option<Box<str>> {
        let name = &self.shard.plan.backend(chosen.backend).name;
        self.seen.as_ref().map(|seen| format!("chosen={name} {}", seen.borrow()).into())
    }

    /// The table of the model's prompts, and the conversation, if there is anything to keep of it there.
    fn kept(&self, model: &Model) -> Option<(&Shared, &Conversation)> {
        let shared = self.shard.plan.models.cells(model.id).prefixes.get()?;
        let conversation = self.conversation.as_ref()?;
        let is_kept = !conversation.blocks().is_empty() || conversation.session().is_some();
        (is_kept && model.policy.uses_prefixes()).then_some((shared, conversation))
    }

    /// It is being sent to `member`, which has `matched_tokens` of it: its blocks will be there.
    pub(super) fn placed(&self, model: &Model, member: &Member, matched_tokens: u64) -> Sent {
        let matched = (matched_tokens / self.shard.plan.block_tokens()) as usize;
        let mut sent = Sent { slot: member.slot, matched, expected: None };
        let Some((shared, conversation)) = self.kept(model) else { return sent };
        sent.expected = Some(ExpectedMatch { matched: matched_tokens, prompt: conversation.tokens() });
        let numbers = &self.shard.numbers;
        numbers.add(Counter::PrefixTokens, conversation.tokens());
        numbers.add(Counter::PrefixTokensMatched, matched_tokens);
        let now = self.shard.deadlines.now();
        let mut recent = self.shard.prompts.recent.borrow_mut();
        let recent = recent.get_or_insert_default();
        let members = prefix::bit(member.slot.into());
        let session = conversation.session();
        let keys = conversation.blocks().iter().chain(session.as_ref());
        keys.for_each(|key| recent.add(key ^ shared.salt, members, now));
        self.note(shared.number, NoteKind::Placed, sent, conversation.blocks());
        if let Some(session) = session {
            self.note(shared.number, NoteKind::Placed, sent, &[session]);
        }
        sent
    }

    /// It did not get there. `gone`: the server was not even there, so that when it is back its cache will be empty.
    pub(super) fn failed(&self, model: &Model, sent: Sent, gone: bool) {
        let Some((shared, conversation)) = self.kept(model) else { return };
        let blocks = conversation.blocks();
        let blocks = &blocks[if gone { 0 } else { sent.matched.min(blocks.len()) }..];
        let session = conversation.session();
        if let Some(recent) = self.shard.prompts.recent.borrow_mut().as_mut() {
            let keys = blocks.iter().chain(session.as_ref());
            keys.for_each(|key| recent.remove(key ^ shared.salt, prefix::bit(sent.slot.into())));
        }
        if gone {
            return self.note(shared.number, NoteKind::Restarted, sent, &[]);
        }
        self.note(shared.number, NoteKind::Dropped, sent, blocks);
        if let Some(session) = session {
            self.note(shared.number, NoteKind::Dropped, sent, &[session]);
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
        if let Some(conversation) = self.conversation.take().filter(|_| spare.len() < SPARE_MAX) {
            spare.push(conversation.into_chain());
        }
    }
}

/// Chains kept for reuse. Chosen, not measured.
const SPARE_MAX: usize = 256;
