//! What was written: the shape of the file, each default next to its field.
//!
//! These types are also the JSON Schema of `ringway schema`; their doc lines are what an editor shows. A key that
//! is not here is refused. Whether the values fit together is decided in `compile`, not here.

mod rows;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cores::Cores;
use super::entry::{CoreNumber, Listen};
use super::quantity::{Size, Time};
use super::secret::{SecretSource, TokenSource};
pub use rows::{Backend, BackendPrice, Budget, Key, Member, Model, Per, Price, Team};

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
        /// Serve without keys to other machines. Only for a gateway that has no keys; without it, a gateway
        /// without keys listens on loopback only.
        open: bool = false,
        /// How to wait for the kernel: io_uring, epoll, or io_uring where the machine allows it.
        driver: Driver = Driver::Auto,
        /// Send x-ringway-* headers with every response: backend, attempts, times.
        debug_headers: bool = false,
        /// Take a client that closes its sending side after the request for gone, and stop the backend's work.
        half_close_is_gone: bool = true,
        /// Proxies that are believed about who their clients are: addresses and networks, like "10.0.0.0/8". Of a request
        /// from one of them, the rightmost address of X-Forwarded-For that is none of them is the client, in the log and for
        /// the limit of wrong keys. From others the line says nothing.
        trusted_proxies: Vec<String> = Vec::new(),
        /// TLS towards clients, for every listener that does not say tls = false.
        tls: Option<Tls> = None,
        /// Web pages that may call the gateway from a browser.
        cors: Cors = Cors::default(),
        /// The operator's listener: health, status, metrics, reload.
        admin: Admin = Admin::default(),
        /// The data plane: which cores, and how much on each.
        shards: Shards = Shards::default(),
        /// Deadlines of every exchange.
        timeouts: Timeouts = Timeouts::default(),
        /// Sizes beyond which a message is refused.
        limits: Limits = Limits::default(),
        /// How tokens are estimated before the truth is known.
        estimate: Estimate = Estimate::default(),
        /// Ids of responses, where several backends make them.
        ids: Ids = Ids::default(),
        /// Active probing, for every backend that does not say otherwise.
        health: Health = Health::default(),
        /// The names of backends.
        dns: Dns = Dns::default(),
        /// The way out to hosted backends.
        egress: Egress = Egress::default(),
        /// One line per finished exchange.
        access_log: AccessLog = AccessLog::default(),
        /// Where usage is kept: the ledger of settled exchanges.
        store: Store = Store::default(),
        /// Taking up a new configuration while the gateway runs.
        reload: Reload = Reload::default(),
        /// What the gateway says about itself, on standard error.
        log: Log = Log::default(),
        /// The servers that response, by the name that labels and logs show.
        backend: BTreeMap<String, Backend> = BTreeMap::new(),
        /// The models that clients may ask for, by their public name.
        model: BTreeMap<String, Model> = BTreeMap::new(),
        /// What tokens cost, for budgets of money: by model, by an alias, or by a pattern with *. A name goes before a pattern, and a
        /// longer pattern before a shorter one.
        price: BTreeMap<String, Price> = BTreeMap::new(),
        /// Teams of keys, by the name that labels and logs show.
        team: BTreeMap<String, Team> = BTreeMap::new(),
        /// The keys that clients present, by the name that labels and logs show.
        key: BTreeMap<String, Key> = BTreeMap::new(),
    }

    /// Web pages that may call the gateway from a browser (CORS).
    Cors {
        /// Their origins, like "https://app.example" or "http://localhost:3000"; "*" for any page, which then gets no
        /// credentials from its browser. Off if empty: what backends say to web pages passes as it is.
        origins: Vec<String> = Vec::new(),
    }

    /// The operator's listener.
    Admin {
        /// Address and port. One that other machines can reach needs a token.
        listen: String = "127.0.0.1:9090".to_owned(),
        /// What operators present as `Authorization: Bearer TOKEN` on every path but /healthz and /readyz:
        /// { env = "NAME" }, { file = "/path" } or { sha256 = "64 hex digits" }. Nothing is asked for if left out.
        token: Option<TokenSource> = None,
        /// Names under which operators reach it where there is no token, like "ops.example". Without a token, a request
        /// whose Host is neither one of them, nor an address, nor localhost, is refused: a web page may have made it.
        hosts: Vec<String> = Vec::new(),
    }

    /// The data plane: one shard per core. The keys after `pin` can differ per core, in [shards.core.N].
    Shards {
        /// "auto" is one shard per physical core that the process may use; or "0-15", "0-3,8-11", [2, 4, 6].
        cores: Cores = Cores::Auto,
        /// Run only this many shards, on the first of those cores.
        count: Option<usize> = None,
        /// Pin each shard to its core. Without it the scheduler places them.
        pin: bool = true,
        /// Submission entries of the ring, a power of two.
        ring_entries: u32 = 4096,
        /// Client connections held at once by a shard; 64 more at a time are answered 503 (not over TLS), the rest is closed.
        connections_max: usize = 16_384,
        /// A small buffer: heads of requests, slow streams.
        small_buffer: Size = Size::kib(4),
        /// A large buffer: first reads of responses.
        large_buffer: Size = Size::kib(16),
        /// Buffers of each size kept for reuse.
        buffers_kept: usize = 1024,
        /// Idle connections that a shard keeps for each backend.
        idle_max: usize = 1024,
        /// How long a socket spins for data before it sleeps (SO_BUSY_POLL); "0s" for none, "10ms" at most.
        busy_poll: Time = Time::seconds(0),
        /// What differs on one core: [shards.core.3].
        #[schemars(with = "BTreeMap<String, CoreTuning>")]
        core: BTreeMap<CoreNumber, CoreTuning> = BTreeMap::new(),
    }

    /// What differs on one core; a key that is left out is as in [shards].
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

    /// Deadlines of every exchange.
    Timeouts {
        /// The whole head of a request, from its first byte; and the wait for that byte on a new connection.
        head: Time = Time::seconds(10),
        /// A request's body: this long, and a second more for each KiB of it that has come.
        body: Time = Time::seconds(30),
        /// TCP and TLS to a backend.
        connect: Time = Time::seconds(2),
        /// For clients that ask for a stream: from the request sent to the first event of the response; to its first content if
        /// a fallback is left to ask.
        first_token: Time = Time::seconds(120),
        /// For responses that are no streams: from the request sent to the last byte. Default: 10 minutes, or `total` if that is
        /// shorter.
        response: Option<Time> = None,
        /// For every response: from the request sent to the first byte of its head; "0s" sets no such deadline. Finds backends
        /// that are dead. A backend that computes a whole response before it sends the head needs that long.
        first_byte: Time = Time::seconds(0),
        /// Between two reads of a response.
        between_events: Time = Time::seconds(60),
        /// The silence after which a client that waits for a stream, or whose stream is silent, gets a heartbeat: a comment, on
        /// /v1/messages a ping, on /v1/responses a keepalive event; "0s" sends none. Before the first event it comes with
        /// status 200, and what fails then is an error record in the stream.
        heartbeat: Time = Time::seconds(0),
        /// The whole exchange.
        total: Time = Time::minutes(30),
        /// The longest wait before a backend that was busy or failed is asked once more; "0s" never asks it again.
        retry_wait: Time = Time::seconds(0),
        /// The wait for a backend when all of a model's have as much in flight as they may.
        queue_timeout: Time = Time::seconds(10),
        /// An idle connection of a client; longer than a proxy in front keeps one (60 seconds, as a rule), so that the proxy
        /// never sends a request on one that is being closed.
        keep_alive: Time = Time::seconds(75),
        /// An idle connection to a backend; shorter than the backend's own (uvicorn closes after 5 seconds).
        backend_idle: Time = Time::seconds(4),
        /// No progress in writing to a client.
        write_stall: Time = Time::seconds(30),
        /// How long new connections are accepted after SIGTERM, while `/readyz` says 503: what a balancer needs to notice.
        /// SIGINT or a second SIGTERM does not wait. `drain` comes after it.
        accept_after_term: Time = Time::seconds(0),
        /// What running exchanges get then; "0s" cuts them at once.
        drain: Time = Time::seconds(30),
    }

    /// Sizes beyond which a message is refused.
    Limits {
        /// The head of a request or a response, all of it.
        head: Size = Size::kib(64),
        /// Header lines of a head.
        head_lines: usize = 100,
        /// The target of a request: its path and query.
        target: Size = Size::kib(16),
        /// The body of a request, decoded if it came compressed, and of a response that has to be held whole to be converted.
        body: Size = Size::mib(32),
        /// What a client may send ahead of its response, beside the request in work; more closes its connection.
        body_buffer: Size = Size::mib(1),
        /// One event of a stream that is held until it is whole; a longer one is passed on in pieces, and read as it passes.
        event: Size = Size::kib(64),
        /// What a response that is translated into another API may hold back until it can be sent in order, for example the
        /// arguments of a second tool call. A response that needs more fails.
        held: Size = Size::mib(1),
        /// Attempts for one exchange and model, the first included.
        attempts: u32 = 3,
        /// Memory of the process; near it new requests are refused until some is free. The control group's bound holds, too.
        memory: Option<Size> = None,
        /// Requests that may wait for the backends of one model when all of them have as much in flight as they may; 0
        /// refuses at once.
        queue: u32 = 100,
        /// Requests a minute without a key that holds, from one address on one shard; more are told to wait. 0 for no
        /// bound. Keys that hold are never refused for it.
        auth_failures_per_minute: u64 = 120,
    }

    /// How tokens are estimated before the truth is known.
    Estimate {
        /// Tokens of output to reserve if the request names no cap, or one that its key's limit could never hold.
        output_tokens: u64 = 256,
        /// Bytes of a request's text taken as one token. Images, audio and files are counted by kind, not by length.
        bytes_per_token: u64 = 4,
        /// Tokens of an image whose size in pixels cannot be read. Others are counted by their pixels.
        image_tokens: u64 = 1_105,
    }

    /// Where usage is kept: a journal for each shard, and the database that they are moved into.
    Store {
        /// Keep usage. Without it there is nothing to show afterwards, and budgets start anew with the process.
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
        /// Bytes that the journals may take up while the database is slow, full or gone; exchanges beyond that are served and
        /// counted, but not kept.
        journal: Size = Size::mib(1024),
        /// How long exchanges are kept one by one, up to a year; "0s" for ever. Their sums stay.
        keep: Time = Time::seconds(90 * 86_400),
        /// How long sums by hour are kept, up to a year; "0s" for ever.
        keep_sums: Time = Time::seconds(0),
        /// The size of the database above which the oldest exchanges are deleted.
        size: Size = Size::mib(10 * 1024),
    }

    /// Ids of responses: sealed, so that later requests that refer to one go to the backend that made it.
    Ids {
        /// What they are sealed with, the same for all gateways that share clients: { env = "NAME" } or { file = "/path" },
        /// at least 24 characters. If left out, one is made and kept in ringway.ids-secret beside this file.
        secret: Option<SecretSource> = None,
        /// The secret before that, after a change: ids that were sealed with it are still read.
        previous_secret: Option<SecretSource> = None,
        /// Seal them also where a model has one backend only: then no key can use another key's.
        always: bool = false,
    }

    /// Active probing of backends.
    Health {
        /// Time between probes.
        interval: Time = Time::seconds(2),
        /// Patience per probe.
        timeout: Time = Time::seconds(1),
        /// Failures in a row until a backend is down.
        failures: u32 = 3,
        /// Successes in a row until it is up again.
        successes: u32 = 2,
    }

    /// What differs for one backend; a key that is left out is as in [health].
    BackendHealth {
        /// Probe at all. On by default where the kind of backend has a health path.
        enabled: Option<bool> = None,
        /// The whole path to ask, instead of the kind's own behind the path of the URL (without its /v1).
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

    /// The names of backends.
    Dns {
        /// Time between two questions for the addresses of a name. Without a response the last one stands.
        interval: Time = Time::seconds(30),
    }

    /// The way out: an HTTP proxy whose tunnels (CONNECT) lead to every hosted backend that does not say otherwise.
    Egress {
        /// The proxy: "http://HOST:PORT"; or "environment" for the variables HTTPS_PROXY (https backends), HTTP_PROXY (http
        /// backends) and NO_PROXY of the process. Optional. Default: none. The proxy resolves the names of the backends.
        proxy: Option<String> = None,
        /// USER:PASSWORD for that proxy (Basic): { env = "NAME" } or { file = "/path" }.
        credential: Option<SecretSource> = None,
        /// Hosts that are reached without it: a name and all names below it ("corp.example"), the names below one
        /// (".corp.example"), addresses and networks ("10.0.0.0/8"), each with or without ":PORT", or "*" for all.
        no_proxy: Vec<String> = Vec::new(),
    }

    /// One line per finished exchange.
    AccessLog {
        /// "off", "stdout", or the path of a file.
        path: String = "off".to_owned(),
    }

    /// Taking up a new configuration while the gateway runs. SIGHUP and `POST /reload` always do.
    Reload {
        /// Take up a change of the file, or of a certificate, key or secret that it names, without being asked.
        watch: bool = false,
    }

    /// What the gateway says about itself, on standard error.
    Log {
        /// The least serious level that is shown.
        level: LogLevel = LogLevel::Info,
    }

    /// Deadlines that differ for one model; a key that is left out is as in [timeouts].
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

/// One address for clients.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, like 0.0.0.0:8080 or [::]:8080.
    pub address: String,
    /// false: plaintext here although [tls] is there.
    #[serde(default)]
    pub tls: Option<bool>,
    /// true: a PROXY header (version 1 or 2) comes first on every connection and names the client. Only trusted_proxies may
    /// connect here then.
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// How to wait for the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring where the machine allows it, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Auto => "auto",
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// When the journals are forced to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// The kernel decides.
    Never,
    /// Once a second.
    Interval,
}

/// What a limit of a backend is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// The model that was asked for.
    #[default]
    Model,
    /// All models of the backend.
    Backend,
}

/// The least serious level that is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Someone has to act.
    Error,
    /// Someone should look: a backend is down.
    Warn,
    /// It is up again; reloads, upgrades.
    Info,
    /// Everything: each probe that fails.
    Debug,
}
