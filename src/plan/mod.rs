//! WHAT WAS DECIDED AT LOAD TIME.
//!
//! The immutable snapshot that `config` compiles and every shard reads: dense tables indexed by id, bytes already
//! in the form in which the hot path sends them, and the shared cells (`cells`) that change while it lives.
//! Nothing here fails: all failure is in `config`. A shard takes the next plan out of its `mailbox`; each exchange keeps
//! the one it started with.

pub mod admission;
pub mod availability;
mod backend;
mod budget;
mod caller;
pub mod cells;
pub mod control;
pub mod guards;
pub mod issuer;
pub mod mailbox;
pub mod pattern;
pub mod placements;
mod proxy;
mod shared;
pub mod standing;
mod table;
pub mod unreached;
pub mod users;
mod view;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::dialect::estimate;
use crate::policy::auth::credential::KeyTable;
use crate::policy::auth::forwarded::Network;
use crate::policy::auth::ids::Ids;
use crate::policy::auth::origin::Pages;
use crate::policy::cache;
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::price::Price;
use crate::policy::routing::choice::Policy;
use crate::policy::routing::conversation::SessionHeaders;
use crate::policy::routing::failure_state::FailureState;
use crate::policy::routing::route::Route;
use crate::sync::Ordering;
use crate::units::{BackendId, BudgetId, DeploymentId, GuardId, IssuerId, KeyId, ModelId, Nanos, TeamId};
pub use backend::{Backend, BackendTls, HealthProbe, MetricsPage, Target};
pub use budget::{BudgetName, BudgetRow, Holder, Used};
pub use caller::{Credential, Expiry, Grant, Key, Team};
use cells::{BackendCells, DeploymentCells, ModelCells};
pub use control::{Control, Home};
pub use issuer::Issuer;
pub use mailbox::Mailbox;
pub use placements::Placements;
pub use proxy::Proxy;
pub use table::{Row, Table};
pub use view::Draw;

/// Everything a shard needs to know, and nothing that can fail.
pub struct Plan {
    /// Grows by one with every plan of this process.
    pub generation: u64,
    /// Where clients connect.
    pub listeners: Box<[Listener]>,
    /// One per shard, by `ShardId`.
    pub shards: Box<[ShardTuning]>,
    /// Deadlines that hold for every exchange unless a model overrides them.
    pub timeouts: Timeouts,
    /// Time between two questions for the addresses of a backend's name.
    pub resolve_every: Nanos,
    /// Time between two readings of an engine's metrics; zero for none.
    pub scrape_every: Nanos,
    /// Whether a model has rules that send requests to another one.
    pub has_routes: bool,
    /// The header lines that name a session.
    pub session_headers: SessionHeaders,
    /// Sizes beyond which a message is refused.
    pub limits: Limits,
    /// By `BackendId`, in the order of their names.
    pub backends: Table<BackendId, Backend>,
    /// By `DeploymentId`, in the order of their backends and of those' names for the model.
    pub deployments: Table<DeploymentId, Deployment>,
    /// By `ModelId`, in the order of their names.
    pub models: Table<ModelId, Model>,
    /// Public names and aliases. Sorted: of the few that there are, a search costs less than a hash does.
    pub names: BTreeMap<Box<str>, ModelId>,
    /// Content rules.
    pub guards: Table<GuardId, guards::Guard>,
    /// Which responses are kept, and for whom; `None` for no response cache.
    pub cache: Option<cache::Rules>,
    /// By `BudgetId`, in the order of their holders.
    pub budgets: Table<BudgetId, BudgetRow>,
    /// What end users may use; `None` if no key may name one.
    pub users: Option<users::UserRules>,
    /// By `TeamId`, in the order of their names.
    pub teams: Table<TeamId, Team>,
    /// The models that are patterns, the longest prefix first.
    pub patterns: Box<[ModelId]>,
    /// By `KeyId`, in the order of their names. Empty with `keys_required = false`: an open gateway on a trusted network.
    pub keys: Table<KeyId, Key>,
    /// Digest to `KeyId`, in constant time.
    pub key_table: KeyTable,
    /// Whose JSON Web Tokens are taken in the place of a key. By `IssuerId`, in the order of their names.
    pub issuers: Table<IssuerId, Issuer>,
    /// Whether a request needs a key. False only if the configuration has no keys.
    pub keys_required: bool,
    /// Proxies that are believed about who their clients are.
    pub trusted_proxies: Box<[Network]>,
    /// The web pages that may call; `None` leaves what backends say to web pages as it is.
    pub pages: Option<Pages>,
    /// Send `x-ringway-*` with every response.
    pub debug_headers: bool,
    /// Treat a client that sends FIN after its request as gone (default), or keep streaming to it.
    pub half_close_is_gone: bool,
    /// Tokens of output to reserve when the request names no cap, or one that is larger than the key's limit.
    pub output_tokens_default: u64,
    /// How a prompt is estimated.
    pub estimate: estimate::Rates,
    /// Makes ids of responses lead back to their backend, and reads those; `None` if no model needs it.
    pub ids: Option<Ids>,
    /// What shards tell the coordinator of the prompts that they placed.
    pub placements: Arc<Placements>,
    /// Gateways that share the limits; 1 for limits of this gateway alone.
    pub gateways: u32,
}

/// One data listener; every shard opens it with SO_REUSEPORT.
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// Server side of TLS, absent for plaintext.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether trusted proxies say in front of each connection who made it, and nobody else may connect.
    pub proxy_protocol: bool,
}

/// The tuning of one shard, overrides of its core already applied.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardTuning {
    /// The core to pin to; `None` leaves the thread to the scheduler.
    pub core: Option<usize>,
    /// Submission entries of the ring; the completion queue has four times as many.
    pub ring_entries: u32,
    /// Client connections held at once; more are closed, a bound of them after a 503.
    pub connections_max: usize,
    /// Bytes of a small buffer: request heads, paced streams.
    pub small_buffer_bytes: usize,
    /// Bytes of a large buffer: first read of a response.
    pub large_buffer_bytes: usize,
    /// Small and large buffers kept for reuse, each.
    pub buffers_kept: usize,
    /// Idle connections kept for each backend.
    pub idle_max: usize,
    /// Microseconds of SO_BUSY_POLL on sockets, 0 for none.
    pub busy_poll_us: u32,
}

/// Deadlines in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// Whole request head, from its first byte (or from accept).
    pub head: Nanos,
    /// A request's body, and a second more for each KiB of it that has come.
    pub body: Nanos,
    /// TCP and TLS to a backend.
    pub connect: Nanos,
    /// Where a stream was asked for: from the request sent to its first event; where a fallback is left, to its first content.
    pub first_token: Nanos,
    /// A response that is no stream: from the request sent to the last byte.
    pub response: Nanos,
    /// From the request sent to the first byte of the head of the response; `NEVER` for no such deadline.
    pub first_byte: Nanos,
    /// Between two reads of a response.
    pub between_events: Nanos,
    /// The silence after which a client that waits for a stream, or whose stream is silent, gets a heartbeat; `NEVER` for none.
    pub heartbeat: Nanos,
    /// The silence after which what content rules hold back of a stream is sent.
    pub guard_hold: Nanos,
    /// The whole exchange.
    pub total: Nanos,
    /// The longest wait before a backend that was busy or failed is asked once more; zero never asks it again.
    pub retry_wait: Nanos,
    /// The longest wait for a slot of a backend that has as much in flight as it may.
    pub queue_timeout: Nanos,
    /// An idle client connection.
    pub keep_alive: Nanos,
    /// An idle backend connection; shorter than the backend's own.
    pub backend_idle: Nanos,
    /// No progress writing to a client.
    pub write_stall: Nanos,
    /// New connections after SIGTERM.
    pub accept_after_term: Nanos,
    /// Running streams after that.
    pub drain: Nanos,
}

/// Sizes in bytes, counts in pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Request or response head, all of it.
    pub head_bytes: usize,
    /// Header lines of a head.
    pub head_lines: usize,
    /// Request target.
    pub target_bytes: usize,
    /// Request body.
    pub body_bytes: u64,
    /// What a client may send ahead of its response, beside the request in work.
    pub body_buffer_bytes: usize,
    /// One SSE event that is held until it is whole; a longer one is read as it passes.
    pub event_bytes: usize,
    /// What a translated response may hold back until it can be told in order.
    pub held_bytes: usize,
    /// Attempts for one exchange and model, the first included.
    pub attempts: u32,
    /// Memory of the process, in bytes, near which new requests are refused.
    pub memory_bytes: Option<u64>,
    /// Requests that may wait for one model's backends, over all shards.
    pub queue: u32,
    /// Requests without a key that holds, from one address on one shard, beyond which they are told to wait.
    pub auth_failures: Option<Rate>,
}

/// One public model.
pub struct Model {
    /// Its row.
    pub id: ModelId,
    /// The name clients ask for and `/v1/models` lists.
    pub name: Box<str>,
    /// What the names have in common that clients ask for, if it is a pattern: `openai/` of `openai/*`.
    pub prefix: Option<Box<str>>,
    /// Other names for it.
    pub aliases: Box<[Box<str>]>,
    /// The backends that serve it.
    pub pool: Box<[Member]>,
    /// Who answers in its place when its pool cannot, in this order. Theirs are not followed.
    pub fallbacks: Box<[ModelId]>,
    /// Tokens that fit into it, as clients are told; unknown if the operator does not say.
    pub context_length: Option<u64>,
    /// Tokens of output that it makes at most, as far as is known.
    pub output_max: u64,
    /// Several backends make its responses, so that their ids are told under names that lead back.
    pub renames_ids: bool,
    /// What its tokens cost at the dearest of its backends; `None` if one of them has no price.
    pub price: Option<Price>,
    /// How one of the pool is chosen.
    pub policy: Policy,
    /// When a second backend is asked for the same stream.
    pub hedge: Option<Hedge>,
    /// A stream that a backend cuts goes on at another one.
    pub resumes: bool,
    /// Which requests for it another model serves.
    pub routes: Box<[Route]>,
    /// The content rules that are for it.
    pub guards: guards::Guarded,
    /// A request with a member that the API of its backend cannot express is refused.
    pub refuses_losses: bool,
    /// Its own deadlines.
    pub timeouts: Timeouts,
    /// Unix seconds shown as `created`.
    pub created: u64,
}

/// When a second backend of a pool is asked, while the first has not begun to respond.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hedge {
    /// At the earliest.
    pub after: Nanos,
    /// Times the expected time to the first token.
    pub factor: f32,
}

/// One backend serving one model under the backend's own name for it. Public models that reach the same one share it, and
/// so share what its responses say (`cells::DeploymentCells`).
///
/// Rows are those that the configuration names. The row of a pattern stands for all its names; what their responses say counts by
/// name, in a table with a bound (`pattern::NamedBreakers`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deployment {
    /// Its backend.
    pub backend: BackendId,
    /// The backend's own name for the model.
    pub model: Box<str>,
}

/// One backend of a pool.
pub struct Member {
    /// Which.
    pub backend: BackendId,
    /// The deployment that this is.
    pub deployment: DeploymentId,
    /// The backend's own name for the model as a JSON string with its quotes, to be spliced over the client's;
    /// `None` passes the client's bytes.
    pub model_json: Option<Box<[u8]>>,
    /// How the backend calls the models of a pattern.
    pub template: Option<pattern::Template>,
    /// Share of traffic among equals, at least 1.
    pub weight: u32,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// Its bit in the table of the pool's prompts; `placements::NO_SLOT` for none.
    pub slot: u8,
}

impl Plan {
    /// The model that clients mean by a name: the one of this name, or else the pattern with the longest prefix that fits.
    pub fn find_model(&self, name: &str) -> Option<ModelId> {
        let fits = |id: &&ModelId| {
            let prefix = self.model(**id).prefix.as_deref();
            prefix.is_some_and(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
        };
        self.names.get(name).or_else(|| self.patterns.iter().find(fits)).copied()
    }

    /// The failure state of a deployment; `alone`: there is nobody else to ask.
    pub fn failure_state(&self, id: DeploymentId, alone: bool) -> FailureState<'_> {
        self.failure_state_of(id, 0, alone)
    }

    /// The failure state of a deployment for a model that the client named, by the [`pattern::hash`] of the name; of a
    /// deployment that is not a pattern's, whatever the name.
    pub fn failure_state_of(&self, id: DeploymentId, name: u64, alone: bool) -> FailureState<'_> {
        let backend = self.deployment(id).backend;
        FailureState {
            backend: &self.backends.cells(backend).breaker,
            deployment: self.deployments.cells(id).breaker_of(name),
            limit_scope: self.backend(backend).limit_scope,
            alone,
        }
    }

    /// Makes this plan the successor of one that is in force: it goes on with the cells of the keys and backends that
    /// are the same, and with the addresses of the names that both know.
    pub fn follow(&mut self, old: &Self) {
        self.generation = old.generation + 1;
        if let (Some(ids), Some(before)) = (&self.ids, &old.ids)
            && !ids.is_kept()
            && !before.is_kept()
        {
            self.backends.iter_mut().for_each(|backend| backend.maker = before.maker(&backend.name));
            self.ids = Some(before.clone());
        }
        for (id, before) in self.backends.carry(&old.backends) {
            self.backends[id.index()].addresses = Arc::clone(&old.backend(before).addresses);
        }
        let backends = &self.backends;
        self.deployments.carry_from(&old.deployments, |row| row.before(backends, old));
        let models = self.models.carry(&old.models);
        placements::keep_slots(self, old, &models);
        self.placements = Arc::clone(&old.placements);
        self.open_prefixes();
        if let (Some(users), Some(before)) = (&mut self.users, &old.users)
            && users.continues(before)
        {
            users.table = Arc::clone(&before.table);
        }
        self.teams.carry(&old.teams);
        self.issuers.carry(&old.issuers);
        self.budgets.carry(&old.budgets);
        self.guards.carry(&old.guards);
        for (id, before) in self.keys.carry(&old.keys) {
            let before = old.key(before);
            let key = &mut self.keys[id.index()];
            if key.credential.continues(&before.credential) {
                key.revoked = Arc::clone(&before.revoked);
            }
        }
    }

    /// Goes on with the TLS of a plan of the same file, so that sessions are resumed.
    pub fn keep_tls(&mut self, old: &Self) {
        for (listener, before) in self.listeners.iter_mut().zip(&old.listeners) {
            listener.tls.clone_from(&before.tls);
        }
        for backend in self.backends.iter_mut() {
            if let Some(before) = old.backend_named(&backend.name) {
                backend.tls.clone_from(&before.tls);
            }
        }
    }

    /// Tells what still runs under `old` which of its keys are out of service now that this plan is in force.
    pub fn revoke_missing(&self, old: &Self) {
        for key in &old.keys {
            if self.key_named(&key.name).is_none_or(|now| !now.credential.continues(&key.credential)) {
                key.revoked.store(true, Ordering::Release);
            }
        }
    }

    /// The backend of this name.
    pub fn backend_named(&self, name: &str) -> Option<&Backend> {
        self.backends.named(name)
    }

    /// The model of this public name; aliases are not looked at.
    pub fn model_named(&self, name: &str) -> Option<&Model> {
        self.models.named(name)
    }

    /// The key of this name.
    pub fn key_named(&self, name: &str) -> Option<&Key> {
        self.keys.named(name)
    }

    /// The row of a backend.
    pub fn backend(&self, id: BackendId) -> &Backend {
        self.backends.row(id)
    }

    /// The row of a deployment.
    pub fn deployment(&self, id: DeploymentId) -> &Deployment {
        self.deployments.row(id)
    }

    /// The row of a model.
    pub fn model(&self, id: ModelId) -> &Model {
        self.models.row(id)
    }

    /// The row of a key.
    pub fn key(&self, id: KeyId) -> &Key {
        self.keys.row(id)
    }
}

impl Row for Backend {
    type Name = str;
    type Cells = BackendCells;

    fn name(&self) -> &str {
        &self.name
    }

    fn continues(&self, before: &Self) -> bool {
        self.is_where(before)
    }
}

impl Row for Deployment {
    type Name = Self;
    type Cells = DeploymentCells;

    fn name(&self) -> &Self {
        self
    }
}

impl Deployment {
    /// The same deployment of an older plan: the backend of the same name and place, by the same name for the model.
    fn before(&self, backends: &Table<BackendId, Backend>, old: &Plan) -> Option<DeploymentId> {
        let backend = backends.row(self.backend);
        let before = old.backends.named(&*backend.name).filter(|before| backend.continues(before))?;
        old.deployments.find(&Self { backend: before.id, model: self.model.clone() })
    }
}

impl Row for Model {
    type Name = str;
    type Cells = ModelCells;

    fn name(&self) -> &str {
        &self.name
    }
}
