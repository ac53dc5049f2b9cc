//! What a choice among the members of a pool looks at: the load of each, from the cells of its backend and its deployment.

use super::{Member, Model, Plan};
use crate::policy::routing::balance::View;
use crate::policy::routing::choice::{Policy, Request};
use crate::policy::routing::conversation::Conversation;
use crate::policy::routing::load::Load;
use crate::policy::routing::prefix::{self, BLOCK_BYTES, MEMBERS_MAX};
use crate::units::{BackendId, Nanos};

/// What a choice needs beside the members and the conversation.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Tokens of the prompt, for one that was not hashed.
    pub prompt_tokens: u64,
    /// Random.
    pub random: u64,
    /// Grows by one with each choice.
    pub turn: u64,
}

impl Plan {
    /// A member of a pool as it stands. What of a prompt it has in its cache is not in it.
    ///
    /// Its load is what this gateway has sent, and what its metrics showed beyond that. A report that is too old counts for
    /// nothing.
    pub fn view(&self, member: &Member, eligible: bool, now: Nanos) -> View {
        let deployment = self.deployments.cells(member.deployment);
        let ewma = deployment.ewma.get(now);
        let cells = self.backends.cells(member.backend);
        let mut view = View {
            eligible,
            weight: member.weight,
            kv_capacity: self.kv_capacity(member.backend),
            ratio: ewma.ratio,
            samples: ewma.samples,
            prefill_factor: deployment.speed.factor().into(),
            ..View::default()
        };
        for load in cells.loads() {
            view.in_flight += load.in_flight();
            view.pending_tokens += load.pending_tokens();
            view.kv_tokens += load.kv_tokens();
        }
        if let Some(report) = cells.signals.get(now, self.report_age_max()) {
            view.in_flight += report.foreign;
            view.pending_tokens += report.foreign_waiting * FOREIGN_PROMPT_TOKENS;
            let reported = report.kv_usage.unwrap_or(0.0) as f64 * view.kv_capacity as f64;
            view.kv_tokens = view.kv_tokens.max(reported as u64);
        }
        view
    }

    /// Whether a backend has so many prompts to prefill that further ones are held back. One more of any size is sent while there
    /// is room, so shards that look at the same time may each send one.
    pub fn holds_back(&self, id: BackendId) -> bool {
        let most = self.backend(id).pending_tokens_max;
        most != u64::MAX && self.backends.cells(id).loads().map(Load::pending_tokens).sum::<u64>() >= most
    }

    /// What a choice among the pool of `model` is made for; completes the views of its members by what they have of the
    /// conversation in their caches. `of_recent`: the members that a key of the table was sent to lately, as far as the table
    /// does not know it yet.
    pub fn request(
        &self,
        model: &Model,
        conversation: Option<&Conversation>,
        of_recent: impl Fn(u64) -> u64,
        views: &mut [View],
        draw: Draw,
    ) -> Request {
        let Draw { prompt_tokens, random, turn } = draw;
        let Some(conversation) = conversation else {
            return Request { prompt_tokens, affinity: random, random, turn };
        };
        let matched = match model.policy.uses_prefixes() {
            true => self.look_up(model, conversation, of_recent, views),
            false => 0,
        };
        Request {
            prompt_tokens: Some(conversation.tokens()).filter(|tokens| *tokens > 0).unwrap_or(prompt_tokens),
            affinity: match model.policy {
                Policy::Rendezvous => conversation.word(random),
                _ => conversation.affinity(matched, random),
            },
            random,
            turn,
        }
    }

    /// Fills in which members have how much of a conversation. Back comes the longest match, in blocks.
    fn look_up(
        &self,
        model: &Model,
        conversation: &Conversation,
        of_recent: impl Fn(u64) -> u64,
        views: &mut [View],
    ) -> usize {
        let Some(shared) = self.models.cells(model.id).prefixes.get() else { return 0 };
        let members_of = |key: u64| shared.table.get(key) | of_recent(key ^ shared.salt);
        let mut matched = [0_u16; MEMBERS_MAX];
        prefix::lengths(conversation.blocks(), members_of, |slot, count| matched[slot] = count as u16);
        let of_session = conversation.session().map_or(0, members_of);
        let block_tokens = self.block_tokens();
        let mut best = 0;
        for (view, member) in views.iter_mut().zip(&model.pool) {
            let slot = usize::from(member.slot);
            let count = matched.get(slot).copied().unwrap_or(0);
            view.matched_tokens = u64::from(count) * block_tokens;
            view.has_session = of_session & prefix::bit(slot) != 0;
            best = best.max(usize::from(count));
        }
        best
    }

    /// Tokens of one block of text, by estimate.
    pub fn block_tokens(&self) -> u64 {
        (BLOCK_BYTES as u64 / self.estimate.bytes_per_token.max(1)).max(1)
    }

    /// The age at which a report of an engine no longer counts.
    pub fn report_age_max(&self) -> Nanos {
        Nanos(self.scrape_every.0.saturating_mul(PERIODS_KEPT))
    }
}

/// Intervals for which a report counts. Chosen, not measured: one that is lost does not matter.
pub(super) const PERIODS_KEPT: u64 = 3;
/// Tokens of a waiting prompt that somebody else sent. Chosen, not measured.
const FOREIGN_PROMPT_TOKENS: u64 = 1_000;
