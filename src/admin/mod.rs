//! THE OPERATOR'S DOOR: the dashboard at `/`, its plain twin at `/plain`, the admin API under `/api/v1`, `/healthz`, `/readyz`,
//! `/metrics`, `/status`, `POST /reload` and `POST /upgrade`, on a listener of its own.
//!
//! With a token in the configuration every path that shows data asks for it, or for a session that was opened with it (`gate`,
//! `sessions`); also those that do not exist. Open are only the two health paths and the dashboard's own files, which hold no
//! data. Without a token, all are closed to web pages of other sites instead. No response holds a secret.
//!
//! Runs on the coordinator's thread and reads what the coordinator gathers ([`Current`]); the coordinator does not know this
//! room: it is started through [`crate::coordinator::Door`]. Once a second the counters are read into a bounded `history`.

mod api;
mod audit;
mod gate;
mod history;
mod long_lived;
mod metrics;
mod pages;
mod plain;
mod reload;
mod roles;
mod serve;
mod sessions;
mod status;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use self::audit::Audit;
use self::gate::{Gate, Pass};
use self::history::History;
use self::reload::Reloader;
use crate::clock;
use crate::coordinator::reload::Request;
use crate::coordinator::roster::{Author, Scope};
use crate::coordinator::{Current, lock};
use crate::policy::auth::role::Role;

/// Serves operators on `listener` for as long as the process runs. Reloads and upgrades are asked for over `requests`.
pub fn door(
    listener: tokio::net::TcpListener,
    current: Current,
    requests: mpsc::Sender<Request>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let shared = Arc::new(Service::new(current, requests));
    Box::pin(async move {
        tokio::join!(observe(shared.clone()), serve::run(listener, serve::router(shared)));
    })
}

/// What all handlers share.
type Shared = Arc<Service>;

struct Service {
    current: Current,
    gate: Arc<Gate>,
    history: Mutex<History>,
    live: api::Live,
    audit: Audit,
    reloader: Reloader,
    /// Requests of the playground at once.
    tries: Arc<Semaphore>,
    /// The machine's name.
    node: String,
    /// The state that was told last, and since when.
    state: Mutex<(&'static str, u64)>,
}

impl Service {
    fn new(current: Current, requests: mpsc::Sender<Request>) -> Self {
        let audit = Audit::new(current.load().settings.ledger.clone());
        Self {
            gate: Arc::new(Gate::new(current.load().access.clone())),
            current,
            history: Mutex::default(),
            live: api::Live::default(),
            audit,
            reloader: Reloader(requests),
            tries: Arc::new(Semaphore::new(api::TRIES_MAX)),
            node: node(),
            state: Mutex::new(("", 0)),
        }
    }

    /// Since when the gateway is in this state, as far as this process has seen.
    fn state_since(&self, state: &'static str) -> u64 {
        let mut last = lock(&self.state);
        if last.0 != state {
            *last = (state, clock::unix_ms());
        }
        last.1
    }
}

fn node() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().take(64).collect()
}

/// Time between two readings of the counters.
const TICK: Duration = Duration::from_secs(1);

/// Reads the counters into the history once a second, and tells those who watch.
async fn observe(shared: Shared) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0;
    loop {
        ticks.tick().await;
        let at = clock::unix_ms() / 1_000;
        // A clock that was set back, or two ticks in one second: the second's reading is there already.
        if at == last {
            continue;
        }
        last = at;
        {
            let watch = shared.current.load();
            watch.merge();
            lock(&shared.history).read(&watch, at);
        }
        api::tick(&shared);
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
struct Source(IpAddr);

/// How an operator was recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Who {
    /// By an admin token.
    Token,
    /// By a session that was opened with one.
    Session {
        /// What its pages send with every write.
        csrf: String,
    },
    /// No token is configured, and the request comes from this machine.
    Loopback,
}

impl Who {
    const fn name(&self) -> &'static str {
        match self {
            Who::Token => "token",
            Who::Session { .. } => "session",
            Who::Loopback => "loopback",
        }
    }
}

/// Who asks, from where and with which role: put into every request that the gate lets through.
#[derive(Clone)]
struct Caller {
    who: Who,
    /// The name of the token, if it is one of the store's.
    operator: Option<String>,
    role: Role,
    /// The epoch of the configured token that it was recognised in.
    epoch: u64,
    from: IpAddr,
}

impl Caller {
    /// As the audit log has it.
    fn name(&self) -> String {
        match &self.operator {
            Some(name) => format!("token:{name}"),
            None => self.who.name().to_owned(),
        }
    }

    /// The team that it is confined to.
    fn team(&self) -> Option<&str> {
        self.role.team()
    }

    /// The author of a change.
    fn author(&self) -> Author {
        let scope = self.team().map_or(Scope::All, |team| Scope::Team(team.to_owned()));
        Author { name: self.name(), origin: self.from.to_string(), token: self.operator.clone(), scope }
    }

    /// What it was admitted with.
    fn pass(&self) -> Pass {
        Pass { who: self.who.clone(), operator: self.operator.clone(), epoch: self.epoch }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // A route outside the gate cannot have one: refused, never taken for somebody.
        parts.extensions.get::<Caller>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

#[cfg(test)]
mod tests;
