//! Backends: where they are, and how they are reached.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Proxy;
use crate::policy::auth::ids::Maker;
use crate::policy::routing::failure_state::LimitScope;
use crate::provider;
use crate::units::{BackendId, Nanos};

/// One server we call.
pub struct Backend {
    /// Its row.
    pub id: BackendId,
    /// The operator's name for it: labels, logs, `x-ringway-backend`.
    pub name: Box<str>,
    /// How it is called and what its manners are.
    pub provider: provider::Provider,
    /// Where it listens.
    pub target: Target,
    /// The proxy whose tunnel leads there.
    pub proxy: Option<Box<Proxy>>,
    /// Addresses of what is dialled, as the coordinator resolved them last; empty until it has.
    /// The plans that have the same backend share them.
    pub addresses: Arc<ArcSwap<Vec<SocketAddr>>>,
    /// Client side of TLS for `https` URLs.
    pub tls: Option<BackendTls>,
    /// `host[:port]` as sent in `Host`.
    pub authority: Box<[u8]>,
    /// What its URL puts around every endpoint's path.
    pub base: provider::Base,
    /// Whole header lines with our credential, each ending in CRLF; empty if it needs none.
    pub credential_lines: Box<[u8]>,
    /// Signs every request instead; `None` for a backend that wants no signature.
    pub signer: Option<Box<provider::sign::Signer>>,
    /// Exchanges in flight at once over all shards, `u32::MAX` for no bound.
    pub in_flight_max: u32,
    /// Prompt tokens beyond which no further request is sent to it until some are prefilled, `u64::MAX` for no bound.
    pub pending_tokens_max: u64,
    /// To whom its limits (429) apply.
    pub limit_scope: LimitScope,
    /// Active probe.
    pub health: HealthProbe,
    /// Where its metrics are and how they are read; `None` if they are not.
    pub metrics: Option<MetricsPage>,
    /// KV capacity in tokens as configured, 0 if unknown.
    pub kv_tokens: u64,
    /// What it is known by in ids of responses.
    pub maker: Maker,
}

impl Backend {
    /// The host and the port that are dialled: the proxy's, if there is one. `None` for a socket file.
    pub fn dialled(&self) -> Option<(&str, u16)> {
        match (&self.target, &self.proxy) {
            (Target::Unix(_), _) => None,
            (_, Some(proxy)) => Some((&proxy.host, proxy.port)),
            (Target::Tcp { host, port }, None) => Some((host, *port)),
        }
    }

    /// Our credential as its line has it; empty if it needs none.
    pub fn credential(&self) -> &[u8] {
        let line = self.credential_lines.trim_ascii_end();
        line.rsplit(|byte| *byte == b' ').next().unwrap_or_default()
    }
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name or literal address, resolved by the coordinator.
    Tcp {
        /// Name or literal.
        host: Box<str>,
        /// TCP port.
        port: u16,
    },
    /// A socket file on this machine.
    Unix(PathBuf),
}

/// TLS towards one backend.
#[derive(Clone)]
pub struct BackendTls {
    /// Shared session cache and roots.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that must be on its certificate.
    pub server_name: rustls::pki_types::ServerName<'static>,
    /// Whether its certificate is verified at all; false is shown wherever the backend is.
    pub verified: bool,
}

/// How the coordinator asks a backend whether it is up.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthProbe {
    /// Request path, `None` switches active probing off.
    pub path: Option<Box<str>>,
    /// Time between probes; jittered by a fifth.
    pub interval: Nanos,
    /// Patience per probe.
    pub timeout: Nanos,
    /// Consecutive failures until it is down.
    pub failures: u32,
    /// Consecutive successes until it is up again.
    pub successes: u32,
}

/// The metrics of an engine.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    /// Request path.
    pub path: Box<str>,
    /// Another port of its host, in plaintext; `None` for the backend's own.
    pub port: Option<u16>,
    /// Under which names.
    pub names: &'static provider::EnginePage,
}

impl Backend {
    /// Whether a connection to `other` serves this one, too. What TLS was set up with is not compared.
    pub fn keeps_connections(&self, other: &Self) -> bool {
        self.is_where(other) && self.tls.is_none() && other.tls.is_none()
    }

    /// Whether this is the server that `other` was, as far as its name, its place and the way there tell.
    pub fn is_where(&self, other: &Self) -> bool {
        self.name == other.name && self.target == other.target && self.proxy == other.proxy
    }
}
