//! What was written: the shape of the file, each default next to its field.
//!
//! These types are also the JSON Schema of `ringway schema`; their doc lines are what an editor shows. A key that
//! is not here is refused. Whether the values fit together is decided in `compile`, not here.
#![allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)] // names of sections are no links, and an example is none

mod cache;
mod choices;
mod end_users;
mod guards;
mod issuer;
mod listen;
mod rows;
mod shared;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cores::Cores;
use super::entry::CoreNumber;
use super::quantity::{Size, Time};
use super::secret::{SecretSource, TokenSource};
pub use cache::{Cache, CacheScope};
pub use choices::{Driver, Fsync, LimitScope, LogLevel, OnLoss, WhenGone};
pub use end_users::EndUsers;
pub use guards::{External, ExternalForm, Guard, GuardAction, OnFailure, RequestShape, Words};
pub use issuer::Issuer;
pub use listen::{Listen, Listener};
pub use rows::{
    Backend, BackendPrice, Budget, Key, Member, Model, Per, Price, RateLimit, Route, SoftAction, SoftLimit,
    Team,
};
pub use shared::Shared;

/// A table in which every key may be left out: `key: type = default`.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    )*};
}

table! {
    /// The configuration of a Ringway gateway.
    File {
        /// Where clients connect: an address, or a list of addresses or of { address, tls, proxy_protocol }.
        listen: Listen = Listen(vec![Listener::from("127.0.0.1:8080".to_owned()).into()]),
        /// Serve other machines without keys. Only for a gateway that has no keys; if false, such a gateway listens
        /// on loopback only.
        open: bool = false,
        /// Requests need a key although this file has none: keys are created while the gateway runs, with
        /// `ringway key create`, the dashboard or the admin API.
        require_keys: bool = false,
        /// The kernel interface for I/O: io_uring, epoll, or io_uring where the machine allows it.
        driver: Driver = Driver::Auto,
        /// Add x-ringway-* headers to every response: backend, attempts, times.
        debug_headers: bool = false,
        /// A request with a member that the API of its backend cannot express: "drop" leaves the member out and lists it in
        /// x-ringway-dropped, "refuse" responds with 400. Members that coding agents send in every request are always left out; members
        /// that change what is generated are always refused.
        on_loss: OnLoss = OnLoss::Drop,
        /// Treat a client that closes its sending side after the request as disconnected, and stop the backend's
        /// work.
        half_close_is_gone: bool = true,
        /// Proxies whose X-Forwarded-For or PROXY header is believed: addresses and networks, for example
        /// "10.0.0.0/8". The client of their requests is the rightmost address in X-Forwarded-For that is not in this
        /// list: in the log, and for the limit of invalid keys. From other peers the header is ignored.
        trusted_proxies: Vec<String> = Vec::new(),
        /// TLS towards clients, for every listener that does not say tls = false.
        tls: Option<Tls> = None,
        /// Web pages that may call the gateway from a browser.
        cors: Cors = Cors::default(),
        /// The admin listener: health, status, metrics, reload.
        admin: Admin = Admin::default(),
        /// The shards: on which cores they run, and their limits.
        shards: Shards = Shards::default(),
        /// Timeouts of every exchange.
        timeouts: Timeouts = Timeouts::default(),
        /// Limits on sizes, attempts and queues.
        limits: Limits = Limits::default(),
        /// How tokens are estimated before the backend reports them.
        estimate: Estimate = Estimate::default(),
        /// Ids of responses that several backends make.
        ids: Ids = Ids::default(),
        /// Health probes, for every backend that does not override them.
        health: Health = Health::default(),
        /// Resolution of the backends' host names.
        dns: Dns = Dns::default(),
        /// What is learned of backends to choose among them.
        routing: Routing = Routing::default(),
        /// The proxy towards hosted backends.
        egress: Egress = Egress::default(),
        /// The access log: one line per finished exchange.
        access_log: AccessLog = AccessLog::default(),
        /// The record of usage: the ledger of settled exchanges.
        store: Store = Store::default(),
        /// Limits that several gateways share over Redis.
        shared: Shared = Shared::default(),
        /// Automatic reload of the configuration.
        reload: Reload = Reload::default(),
        /// The gateway's messages on standard error.
        log: Log = Log::default(),
        /// The backends, by the name that labels and logs show.
        backend: BTreeMap<String, Backend> = BTreeMap::new(),
        /// The models, by the public name that clients ask for.
        model: BTreeMap<String, Model> = BTreeMap::new(),
        /// What tokens cost, for budgets of money: by model, by an alias, or by a pattern with *. A name goes before a pattern, and a
        /// longer pattern before a shorter one.
        price: BTreeMap<String, Price> = BTreeMap::new(),
        /// Teams of keys, by the name that labels and logs show.
        team: BTreeMap<String, Team> = BTreeMap::new(),
        /// The clients' keys, by the name that labels and logs show.
        key: BTreeMap<String, Key> = BTreeMap::new(),
        /// Issuers of JSON Web Tokens, which are taken in the place of keys, by the name that labels and logs show.
        issuer: BTreeMap<String, Issuer> = BTreeMap::new(),
        /// What each end user may use, whom keys with names_users name.
        end_users: EndUsers = EndUsers::default(),
        /// Content rules, by the name that reports and metrics show.
        guard: BTreeMap<String, Guard> = BTreeMap::new(),
        /// Responses that are kept and used again for identical requests.
        cache: Cache = Cache::default(),
    }

    /// Web pages that may call the gateway from a browser (CORS).
    Cors {
        /// Their origins, for example "https://app.example" or "http://localhost:3000". "*" allows any page, whose
        /// browser then sends no cookies. Off if empty: a backend's own access-control-* headers then pass unchanged.
        origins: Vec<String> = Vec::new(),
    }

    /// The admin listener.
    Admin {
        /// Address and port. An address that other machines can reach needs a token.
        listen: String = "127.0.0.1:9090".to_owned(),
        /// What operators send as `Authorization: Bearer TOKEN` on every path but /healthz and /readyz: { env =
        /// "NAME" }, { file = "/path" } or { sha256 = "64 hex digits" }. Default: no token is needed.
        token: Option<TokenSource> = None,
        /// Host names under which operators reach a listener without a token, for example "ops.example". Without a
        /// token, a request is refused if its Host is not one of these, an address or localhost: a web page may have
        /// made it.
        hosts: Vec<String> = Vec::new(),
    }

    /// The data plane: one shard per core. The keys after `pin` can differ per core, in [shards.core.N].
    Shards {
        /// "auto": one shard on each physical core that the process may use. Or "0-15", "0-3,8-11", [2, 4, 6].
        cores: Cores = Cores::Auto,
        /// Use only this many of those cores, the first ones.
        count: Option<usize> = None,
        /// Pin each shard to its core. Without it the scheduler places them.
        pin: bool = true,
        /// Submission entries of the ring, a power of two.
        ring_entries: u32 = 4096,
        /// Open client connections of a shard. Up to 64 connections above the limit get 503 (not over TLS); further
        /// ones are closed.
        connections_max: usize = 16_384,
        /// Size of a small buffer: request heads, slow streams.
        small_buffer: Size = Size::kib(4),
        /// Size of a large buffer: first reads of responses.
        large_buffer: Size = Size::kib(16),
        /// Buffers of each size that a shard keeps for reuse.
        buffers_kept: usize = 1024,
        /// Idle connections that a shard keeps for each backend.
        idle_max: usize = 1024,
        /// How long a socket polls for data before it sleeps (SO_BUSY_POLL). "0s": not at all. At most "10ms".
        busy_poll: Time = Time::seconds(0),
        /// Values that differ on one core: [shards.core.3].
        #[schemars(with = "BTreeMap<String, CoreTuning>")]
        core: BTreeMap<CoreNumber, CoreTuning> = BTreeMap::new(),
    }

    /// Values that differ on one core. Default of each key: as in [shards].
    CoreTuning {
        /// As in [shards].
        ring_entries: Option<u32> = None,
        /// As in [shards].
        connections_max: Option<usize> = None,
        /// As in [shards].
        small_buffer: Option<Size> = None,
        /// As in [shards].
        large_buffer: Option<Size> = None,
        /// As in [shards].
        buffers_kept: Option<usize> = None,
        /// As in [shards].
        idle_max: Option<usize> = None,
        /// As in [shards].
        busy_poll: Option<Time> = None,
    }

    /// Timeouts of every exchange.
    Timeouts {
        /// From the first byte of a request until its head is complete; also from a new connection until that first
        /// byte.
        head: Time = Time::seconds(10),
        /// Reading a request's body: this time, plus one second for each KiB received.
        body: Time = Time::seconds(30),
        /// Connecting to a backend, TCP and TLS.
        connect: Time = Time::seconds(2),
        /// Streams: from the request sent to the first event of the response; to its first content if a fallback is
        /// left to try.
        first_token: Time = Time::seconds(120),
        /// Responses without a stream: from the request sent to the last byte. Default: 10 minutes, or `total` if
        /// that is shorter.
        response: Option<Time> = None,
        /// Every response: from the request sent to the first byte of its head. "0s": no such deadline. Detects dead
        /// backends. A backend that computes a whole response before it sends the head needs that long.
        first_byte: Time = Time::seconds(0),
        /// Between two reads of a response.
        between_events: Time = Time::seconds(60),
        /// After this silence, a client that waits for a stream, or whose stream is silent, gets a heartbeat: a
        /// comment; on /v1/messages a ping; on /v1/responses a keepalive event. "0s": none. Before the first event it
        /// comes with status 200; from then on an error is a record in the stream.
        heartbeat: Time = Time::seconds(0),
        /// After this silence of a stream, what content rules hold back of it is sent: it may still have become a match.
        guard_hold: Time = Time::seconds(2),
        /// The whole exchange, from the request's head to the end of the response.
        total: Time = Time::minutes(30),
        /// The longest wait before a backend that was busy or failed is tried once more. "0s": it is not tried again.
        retry_wait: Time = Time::seconds(0),
        /// How long a request waits in its model's queue.
        queue_timeout: Time = Time::seconds(10),
        /// How long an idle client connection stays open. Set it longer than the idle timeout of a proxy in front
        /// (usually 60 seconds), so that the proxy never sends a request into a closing connection.
        keep_alive: Time = Time::seconds(75),
        /// How long an idle backend connection stays open. Shorter than the backend's own timeout (uvicorn closes
        /// after 5 seconds).
        backend_idle: Time = Time::seconds(4),
        /// The client reads nothing for this long: the exchange ends.
        write_stall: Time = Time::seconds(30),
        /// How long new connections are accepted after SIGTERM, while `/readyz` says 503: the time that a load
        /// balancer needs to notice. `drain` comes after it. SIGINT or a second SIGTERM skips it.
        accept_after_term: Time = Time::seconds(0),
        /// How long in-flight exchanges may continue after that; "0s" cuts them at once.
        drain: Time = Time::seconds(30),
    }

    /// Limits on sizes, attempts and queues.
    Limits {
        /// Size of the head of a request or a response.
        head: Size = Size::kib(64),
        /// Header lines in a head.
        head_lines: usize = 100,
        /// Size of a request's target: path and query.
        target: Size = Size::kib(16),
        /// Size of a request's body after decompression, and of a response that must be buffered to be converted.
        body: Size = Size::mib(32),
        /// Bytes that a client may send ahead while its request is in flight; above that its connection is closed.
        body_buffer: Size = Size::mib(1),
        /// Size up to which an event of a stream is buffered until it is complete. A longer one is passed on in
        /// pieces, and still inspected.
        event: Size = Size::kib(64),
        /// Bytes of a response that may wait. Of a translated one, until they can be sent in order (the arguments of a
        /// second tool call): a response that needs more fails. Of a stream that content rules read, what may still become
        /// a match: beyond it that passes; one event that is longer, or a longer end that waits for a guard in another
        /// process, fails the response.
        held: Size = Size::mib(1),
        /// Attempts for one exchange and model, including the first.
        attempts: u32 = 3,
        /// Memory of the process. Near the limit, new requests are refused until memory is free. The limit of the
        /// control group counts too.
        memory: Option<Size> = None,
        /// Requests that may wait in a model's queue. 0: refuse at once.
        queue: u32 = 100,
        /// Requests per minute without a valid key, from one address on one shard; further ones get 429. 0:
        /// unlimited. Requests with a valid key are never refused because of it.
        auth_failures_per_minute: u64 = 120,
    }

    /// How tokens are estimated before the backend reports them.
    Estimate {
        /// Output tokens to reserve if the request sets no cap, or a cap above what its key's limit can ever allow.
        output_tokens: u64 = 256,
        /// Bytes of text that count as one token. Images, audio and files count by kind, not by length.
        bytes_per_token: u64 = 4,
        /// Tokens of an image whose size in pixels is unknown. Other images count by their pixels.
        image_tokens: u64 = 1_105,
    }

    /// The record of usage: a journal for each shard, and the database that the journals are moved into.
    Store {
        /// Record usage. Without it there are no reports, and budgets start at zero with the process.
        enabled: bool = true,
        /// The folder of the journals and, unless `url` says otherwise, of the database; a relative path starts in the folder of
        /// this file. Default: systemd's StateDirectory, else /var/lib/ringway for a configuration in /etc, else ringway-data
        /// beside this file; usage is not kept if that cannot be written.
        directory: Option<PathBuf> = None,
        /// The database: sqlite:///PATH. Default: ledger.db in `directory`.
        url: Option<String> = None,
        /// When the journals are forced to the disk: "interval" (once a second: a power cut loses at most that) or "never" (the
        /// kernel decides). A crash of the gateway alone loses nothing either way.
        fsync: Fsync = Fsync::Interval,
        /// Size of the journals while the database is slow, full or unavailable. Exchanges beyond that are served and
        /// counted, but not recorded.
        journal: Size = Size::mib(1024),
        /// How long single exchanges are kept, up to a year; "0s": for ever. Their sums stay.
        keep: Time = Time::seconds(90 * 86_400),
        /// How long sums by hour are kept, up to a year; "0s": for ever.
        keep_sums: Time = Time::seconds(0),
        /// The size of the database above which the oldest exchanges are deleted.
        size: Size = Size::mib(10 * 1024),
    }

    /// Ids of responses: sealed, so that later requests that refer to one go to the backend that made it.
    Ids {
        /// The secret that seals them, the same on all gateways that share clients: { env = "NAME" } or { file =
        /// "/path" }, at least 24 characters. By default the gateway makes one and keeps it in ringway.ids-secret
        /// beside this file.
        secret: Option<SecretSource> = None,
        /// The secret before that, after a change: ids that were sealed with it are still read.
        previous_secret: Option<SecretSource> = None,
        /// Seal them also if a model has only one such backend: then no key can use another key's responses.
        always: bool = false,
    }

    /// Health probes of backends.
    Health {
        /// Time between probes.
        interval: Time = Time::seconds(2),
        /// Timeout of one probe.
        timeout: Time = Time::seconds(1),
        /// Consecutive failures until a backend is down.
        failures: u32 = 3,
        /// Consecutive successes until it is up again.
        successes: u32 = 2,
    }

    /// Values that differ for one backend. Default of each key: as in [health].
    BackendHealth {
        /// Probe this backend. Default: if its kind has a health path.
        enabled: Option<bool> = None,
        /// The complete path to probe. Default: the kind's own, after the path of the URL (without its /v1).
        path: Option<String> = None,
        /// As in [health].
        interval: Option<Time> = None,
        /// As in [health].
        timeout: Option<Time> = None,
        /// As in [health].
        failures: Option<u32> = None,
        /// As in [health].
        successes: Option<u32> = None,
    }

    /// Resolution of the backends' host names.
    Dns {
        /// Time between two lookups of a name. If a lookup fails, the last addresses stay in use.
        interval: Time = Time::seconds(30),
    }

    /// What is learned of backends to choose among them.
    Routing {
        /// Time between two readings of an engine's metrics, for engines of a model with several backends: requests of
        /// others, and the size of the KV cache. "0s": none are read; else at least "50ms".
        scrape_interval: Time = Time::seconds(1),
        /// Header lines that name a session, as agents send them: its requests stay with the backend that had the last one, as
        /// long as that is worth its wait. The first one of this list counts; `prompt_cache_key` in the body goes before all.
        session_headers: Vec<String> = rows::session_headers(),
    }

    /// Where the metrics of one engine are.
    BackendMetrics {
        /// Read them. Default: if its kind has metrics.
        enabled: Option<bool> = None,
        /// The complete path. Default: the kind's own, after the path of the URL (without its /v1).
        path: Option<String> = None,
        /// Another port of the same host, in plaintext. Default: the port of the URL. Triton: 8002.
        port: Option<u16> = None,
    }

    /// The proxy towards hosted backends: an HTTP proxy that opens a tunnel (CONNECT) to each one that does not
    /// override it.
    Egress {
        /// The proxy's URL, "http://HOST:PORT", or "environment" for the variables HTTPS_PROXY (https backends),
        /// HTTP_PROXY (http backends) and NO_PROXY. Default: none. The proxy resolves the backends' names.
        proxy: Option<String> = None,
        /// USER:PASSWORD for that proxy (Basic): { env = "NAME" } or { file = "/path" }.
        credential: Option<SecretSource> = None,
        /// Hosts that are reached without the proxy: a name and its subdomains ("corp.example"), only the subdomains
        /// (".corp.example"), addresses and networks ("10.0.0.0/8"), each with or without ":PORT", or "*" for all.
        no_proxy: Vec<String> = Vec::new(),
    }

    /// The access log: one line per finished exchange.
    AccessLog {
        /// "off", "stdout", or the path of a file.
        path: String = "off".to_owned(),
    }

    /// Automatic reload of the configuration. SIGHUP and `POST /reload` always reload.
    Reload {
        /// Reload when the file changes, or a certificate, key or secret that it names.
        watch: bool = false,
    }

    /// The gateway's messages on standard error.
    Log {
        /// The lowest level that is written.
        level: LogLevel = LogLevel::Info,
    }

    /// Timeouts that differ for one model. Default of each key: as in [timeouts].
    ModelTimeouts {
        /// As in [timeouts].
        first_token: Option<Time> = None,
        /// As in [timeouts].
        response: Option<Time> = None,
        /// As in [timeouts].
        first_byte: Option<Time> = None,
        /// As in [timeouts].
        between_events: Option<Time> = None,
        /// As in [timeouts].
        total: Option<Time> = None,
        /// As in [timeouts].
        retry_wait: Option<Time> = None,
    }
}

/// A certificate chain and its key, in PEM. A relative path starts at the configuration file's folder.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the gateway's own certificate first.
    pub cert_file: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}
