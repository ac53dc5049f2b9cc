//! The end of every exchange, whichever way it ended: slots given back, the reserve replaced by the true usage, the
//! record out. Runs exactly once, by `Drop`, so that a refusal, a client that leaves and a panic settle like a response.

use std::rc::Rc;

use super::Shard;
use super::naming::Naming;
use crate::clock;
use crate::dialect::usage::Usage;
use crate::error::FaultKind;
use crate::observe::Counter;
use crate::observe::journal::{self, Names};
use crate::observe::record::{Record, RequestId};
use crate::plan::Plan;
use crate::plan::admission::{Held, Left};
use crate::plan::cells::Share;
use crate::policy::auth::origin::PageGrant;
use crate::policy::limits::price::Charge;
use crate::units::{BackendId, Nanos};

/// One exchange in work.
pub(crate) struct Settle {
    pub(crate) shard: Rc<Shard>,
    /// What will be recorded; phases fill it in as they learn it.
    pub(crate) record: Record,
    /// When the head was complete.
    pub(crate) started: Nanos,
    /// Prompt tokens by estimate.
    pub(crate) prompt_tokens: u64,
    /// Time spent waiting for a backend's slot or before a retry: no overhead of ours.
    pub(crate) waited: Nanos,
    /// Tokens by the backend's count.
    pub(crate) usage: Usage,
    /// Output tokens seen passing, for when the backend's count never comes.
    pub(crate) output_estimate: u64,
    /// What the web page that asks may do.
    pub(crate) page: PageGrant,
    /// What is left of the tightest limits since it was admitted, for `x-ratelimit-*`.
    pub(crate) requests_left: Option<Left>,
    pub(crate) tokens_left: Option<Left>,
    /// How the client named its model, where that is more than a name in the body.
    pub(super) naming: Option<Box<Naming>>,
    /// Ids of responses are told under names that lead back to their backend.
    pub(crate) renames: bool,
    /// Members of the request that the backend of the last attempt was not sent, since its dialect cannot say them.
    pub(crate) dropped: Option<Box<str>>,
    /// The journal has it.
    is_recorded: bool,
    /// The response is a stream that is being relayed.
    streaming: bool,
    /// What was taken of the limits of its key and team.
    pub(crate) held: Held,
}

impl Settle {
    /// Opens the record. Until somebody says how the exchange ended, it ended by a fault of ours; until somebody says
    /// what was asked, its head was not read.
    pub(crate) fn new(shard: &Rc<Shard>, client: std::net::IpAddr) -> Self {
        let started = clock::now();
        shard.numbers.inc(Counter::ExchangesActive);
        let record = Record {
            at_unix_ms: shard.unix_ms.get(),
            request_id: RequestId::made(u128::from(shard.random()) << 64 | u128::from(shard.random())),
            shard: shard.id,
            plan: shard.plan.generation,
            client: Some(client),
            api: "unread",
            key: None,
            model: None,
            fallback_for: None,
            backend: None,
            status: FaultKind::Internal.status(),
            fault: Some(FaultKind::Internal),
            stream: false,
            attempts: 0,
            input_tokens: 0,
            cached_tokens: 0,
            cache_write_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            usage_known: false,
            estimated: false,
            request_bytes: 0,
            response_bytes: 0,
            duration: Nanos(0),
            time_to_first_token: None,
            overhead: Nanos(0),
        };
        Self {
            shard: Rc::clone(shard),
            record,
            started,
            prompt_tokens: 0,
            waited: Nanos(0),
            usage: Usage::default(),
            output_estimate: 0,
            page: PageGrant::None,
            requests_left: None,
            tokens_left: None,
            naming: None,
            renames: false,
            dropped: None,
            is_recorded: false,
            streaming: false,
            held: Held::default(),
        }
    }

    /// The response is a stream, and is being relayed from now on.
    pub(crate) fn streams(&mut self) {
        self.streaming = true;
        self.shard.numbers.inc(Counter::StreamsActive);
    }

    /// The exchange ended as it should, with this status.
    pub(crate) fn done(&mut self, status: u16) {
        self.record.status = status;
        self.record.fault = None;
    }

    /// The exchange ended by a fault; `status` is what the client was told, or would have been.
    pub(crate) fn failed(&mut self, kind: FaultKind, status: u16) {
        self.record.status = status;
        self.record.fault = Some(kind);
    }

    /// Tokens to charge: the backend's count, else what passed by, else nothing.
    fn count(&mut self) -> Charge {
        let record = &mut self.record;
        if self.usage.seen {
            record.usage_known = true;
            record.input_tokens = self.usage.input;
            record.cached_tokens = self.usage.cached;
            record.cache_write_tokens = self.usage.cache_write;
            record.output_tokens = self.usage.output;
            record.reasoning_tokens = self.usage.reasoning;
        } else if self.output_estimate > 0 {
            record.usage_known = true;
            record.estimated = true;
            record.input_tokens = self.prompt_tokens;
            record.output_tokens = self.output_estimate;
        }
        let cache_write = if record.estimated { 0 } else { self.usage.cache_write };
        Charge::of_counts(record.input_tokens, record.cached_tokens, cache_write, record.output_tokens)
    }

    /// Gives back what is held of the key's limits, charged with what is known. Called before the last bytes of an
    /// answer go out: a client that sends one request after another must never meet its own last one.
    pub(crate) fn release(&mut self, now: Nanos) {
        let charge = self.count();
        let plan = &self.shard.plan;
        let price = self.record.model.and_then(|model| plan.price(model, self.record.backend));
        self.held.settle(plan, &charge, price, now);
        if !std::mem::replace(&mut self.is_recorded, true) {
            self.record.duration = now.since(self.started);
            append(plan, &self.record);
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        let now = clock::now();
        self.release(now);
        self.shard.numbers.dec(Counter::ExchangesActive);
        if self.streaming {
            self.shard.numbers.dec(Counter::StreamsActive);
        }
        self.record.duration = now.since(self.started);
        self.shard.outbox.borrow_mut().settle(&self.record);
    }
}

/// Appends a record to the shard's journal, if the exchange got far enough: its key, its model or its backend is known.
/// What fails before that (a malformed head, an invalid key) is counted in the metrics only, so that nobody without a key
/// can fill the journal.
fn append(plan: &Plan, record: &Record) {
    if record.key.is_none() && record.model.is_none() && record.backend.is_none() {
        return;
    }
    let names = Names {
        key: record.key.map_or("", |key| &plan.key(key).name),
        team: record.key.and_then(|key| plan.key(key).team).map_or("", |team| &plan.teams.row(team).name),
        user: "",
        model: record.model.map_or("", |model| &plan.model(model).name),
        fallback_for: record.fallback_for.map_or("", |model| &plan.model(model).name),
        backend: record.backend.map_or("", |backend| &plan.backend(backend).name),
    };
    journal::append(record, &names);
}

/// One attempt's share of a backend's load, given back on drop if not before.
pub(crate) struct Lease {
    shard: Rc<Shard>,
    backend: BackendId,
    share: Option<Share>,
}

impl Lease {
    /// Takes an in-flight slot of the backend; `None` if all are taken.
    pub(crate) fn take(
        shard: &Rc<Shard>,
        backend: BackendId,
        prompt_tokens: u64,
        kv_tokens: u64,
    ) -> Option<Self> {
        let plan = &shard.plan;
        let share = plan.backends.take(shard.id, backend, prompt_tokens, kv_tokens)?;
        Some(Self { shard: Rc::clone(shard), backend, share: Some(share) })
    }

    /// Whose slot it is, or was.
    pub(crate) fn backend(&self) -> BackendId {
        self.backend
    }

    /// The prompt is prefilled: its first output has come. True the first time.
    pub(crate) fn first_token(&mut self) -> bool {
        let (plan, shard) = (&self.shard.plan, self.shard.id);
        self.share.as_mut().is_some_and(|share| plan.backends.first_token(shard, share))
    }

    /// The backend has no more work with the attempt. Who waits for a slot of it may have this one.
    pub(crate) fn give_back(&mut self) {
        if let Some(share) = self.share.take() {
            self.shard.plan.backends.give_back(self.shard.id, share);
            self.shard.queues.call();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
    }
}
