//! A small plan for tests: one key, one model, and the given backends, all in its pool.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Coordinator, Ended, Settings, Watch};
use crate::config::{AccessLog, LogLevel};
use crate::dialect::ApiSet;
use crate::observe::{Rows, ShardInbox, ShardOutbox, channel};
use crate::plan::cells::{BackendCells, DeploymentCells};
use crate::plan::control::Presence;
use crate::plan::{
    Backend, Control, Credential, Deployment, Grant, HealthProbe, Key, Limits, Member, Model, Placements,
    Plan, Row, ShardTuning, Table, Target, Timeouts,
};
use crate::policy::auth::credential::KeyTable;
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::caller::CallerLimits;
use crate::policy::routing::choice::Policy;
use crate::policy::routing::failure_state::LimitScope;
use crate::provider::{Base, Provider, ProviderKind};
use crate::units::{BackendId, DeploymentId, KeyId, ModelId, Nanos, RowId, ShardId};

pub(crate) const ROWS: Rows = Rows { keys: 1, models: 1, backends: 1 };

/// The digest of the only key: must never be seen.
pub(crate) const DIGEST: [u8; 32] = [0x5a; 32];

/// The credential of every backend: must never be seen.
pub(crate) const CREDENTIAL: &[u8] = b"authorization: Bearer s3cret\r\n";

pub(crate) const fn millis(count: u64) -> Nanos {
    Nanos(count * 1_000_000)
}

pub(crate) fn tcp(host: &str, port: u16) -> Target {
    Target::Tcp { host: host.into(), port }
}

pub(crate) fn plan(targets: &[Target]) -> Plan {
    let timeouts = Timeouts {
        head: millis(1_000),
        body: millis(1_000),
        connect: millis(1_000),
        first_token: millis(1_000),
        response: millis(1_000),
        first_byte: Nanos::NEVER,
        between_events: millis(1_000),
        heartbeat: Nanos::NEVER,
        guard_hold: Nanos(2_000_000_000),
        retry_wait: Nanos(0),
        queue_timeout: millis(1_000),
        total: millis(1_000),
        keep_alive: millis(1_000),
        backend_idle: millis(1_000),
        write_stall: millis(1_000),
        accept_after_term: Nanos(0),
        drain: millis(10_000),
    };
    Plan {
        generation: 1,
        placements: Arc::new(Placements::new(1)),
        gateways: 1,
        listeners: Box::new([]),
        shards: Box::new([ShardTuning {
            core: Some(3),
            ring_entries: 64,
            connections_max: 64,
            small_buffer_bytes: 1_024,
            large_buffer_bytes: 4_096,
            buffers_kept: 4,
            idle_max: 4,
            busy_poll_us: 0,
        }]),
        timeouts,
        resolve_every: Nanos(60_000_000_000),
        scrape_every: Nanos(0),
        session_headers: Default::default(),
        has_routes: false,
        limits: Limits {
            head_bytes: 1_024,
            head_lines: 64,
            target_bytes: 512,
            body_bytes: 4_096,
            body_buffer_bytes: 4_096,
            event_bytes: 4_096,
            held_bytes: 4_096,
            attempts: 2,
            memory_bytes: None,
            queue: 8,
            auth_failures: None,
        },
        backends: Table::new(
            targets.iter().enumerate().map(|(row, target)| backend(row, target)).collect(),
            |_| BackendCells::new(1),
        ),
        deployments: Table::new(
            (0..targets.len())
                .map(|row| Deployment { backend: BackendId::new(row), model: "llama".into() })
                .collect(),
            |_| DeploymentCells::default(),
        ),
        patterns: [].into(),
        models: table(Model {
            id: ModelId::new(0),
            name: "llama".into(),
            prefix: None,
            aliases: Box::new(["gpt-4o".into()]),
            fallbacks: Box::new([]),
            pool: (0..targets.len())
                .map(|row| Member {
                    backend: BackendId::new(row),
                    deployment: DeploymentId::new(row),
                    model_json: None,
                    template: None,
                    weight: 1,
                    price: None,
                    slot: row as u8,
                })
                .collect(),
            context_length: None,
            output_max: 4096,
            renames_ids: false,
            price: None,
            policy: Policy::Cost,
            routes: Box::default(),
            hedge: None,
            resumes: false,
            guards: None,
            refuses_losses: false,
            timeouts,
            created: 1,
        }),
        names: BTreeMap::from(["gpt-4o", "llama"].map(|name| (name.into(), ModelId::new(0)))),
        budgets: Table::new(Vec::new(), |_| Default::default()),
        guards: Table::new(Vec::new(), |_| Default::default()),
        cache: None,
        users: None,
        teams: Table::new(Vec::new(), |_| Default::default()),
        keys: table(Key {
            id: KeyId::new(0),
            name: "team \"blue\"\n".into(),
            team: None,
            tags: Box::default(),
            metadata: Box::default(),
            credential: Credential { digest: DIGEST, earlier: Box::default(), issuer: None, expires: None },
            grant: Grant {
                models: Box::new([true]),
                apis: ApiSet::ALL,
                trace: false,
                budgets: Box::default(),
                names_users: false,
                limits: CallerLimits {
                    requests: Some(Rate { per_minute: 60, burst: 10, gateways: 1 }),
                    ..CallerLimits::default()
                },
            },
            revoked: Arc::default(),
        }),
        key_table: KeyTable::default(),
        issuers: Table::new(Vec::new(), |_| Default::default()),
        keys_required: true,
        trusted_proxies: Box::default(),
        pages: None,
        debug_headers: false,
        half_close_is_gone: true,
        output_tokens_default: 256,
        estimate: crate::dialect::estimate::Rates { bytes_per_token: 4, image_tokens: 1_105 },
        ids: None,
    }
}

/// The table of one row.
fn table<Id: RowId, R: Row<Cells: Default>>(row: R) -> Table<Id, R> {
    Table::new(vec![row], |_| Default::default())
}

fn backend(row: usize, target: &Target) -> Backend {
    Backend {
        id: BackendId::new(row),
        name: format!("gpu-{row}").into(),
        provider: Provider::new(ProviderKind::named("vllm").unwrap()),
        target: target.clone(),
        proxy: None,
        addresses: Arc::default(),
        tls: None,
        authority: b"gpu.example:8000".to_vec().into(),
        base: Base::default(),
        credential_lines: CREDENTIAL.into(),
        signer: None,
        in_flight_max: u32::MAX,
        pending_tokens_max: u64::MAX,
        limit_scope: LimitScope::Model,
        health: HealthProbe {
            path: Some("/health".into()),
            interval: millis(10),
            timeout: millis(2_000),
            failures: 3,
            successes: 2,
        },
        metrics: None,
        kv_tokens: 0,
        maker: Default::default(),
    }
}

/// Loopback, any port, everything else quick.
pub(crate) fn settings() -> Settings {
    Settings {
        admin: Some(admin()),
        door: crate::admin::door,
        admin_token: None,
        admin_hosts: Box::default(),
        access_log: AccessLog::Off,
        version: "0.0.0-test",
        driver: "none (test)".to_owned(),
        ledger: None,
        refill: None,
        shared: None,
        say: |_| {},
        log: LogLevel::Info,
        handover: None,
        source: None,
    }
}

fn admin() -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Both ends of shard 0.
pub(crate) fn shard(records_max: Option<usize>) -> (ShardOutbox, ShardInbox) {
    channel(ShardId::new(0), ROWS, records_max)
}

/// What the duties of a coordinator share, without its thread.
pub(crate) fn watch(plan: Plan, shards: Vec<ShardInbox>) -> Arc<Watch> {
    let control = Arc::new(Control::new(1));
    Arc::new(Watch::new(Arc::new(plan), settings(), shards, control, None))
}

/// Waits until `done`, five seconds at most.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {what}");
}

/// The same for threads.
pub(crate) fn until_blocking(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never came true: {what}");
}

/// A path under the system's folder for temporary files that no other test uses.
pub(crate) fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringway-{}-{name}", std::process::id()))
}

/// A coordinator that runs, and the shard's side of it.
pub(crate) struct House {
    pub(crate) coordinator: Coordinator,
    pub(crate) plan: Arc<Plan>,
    pub(crate) control: Arc<Control>,
    pub(crate) outbox: ShardOutbox,
}

/// A coordinator with one shard (that has not started) and one backend that nobody probes.
pub(crate) fn house(change: impl FnOnce(&mut Plan, &mut Settings)) -> House {
    let mut plan = self::plan(&[tcp("192.0.2.1", 8000)]);
    plan.backends[0].health.path = None;
    let mut settings = self::settings();
    change(&mut plan, &mut settings);
    super::resolve::initial(&plan, Duration::ZERO);
    let plan = Arc::new(plan);
    let (outbox, inbox) = self::shard(Some(16));
    let control = Arc::new(Control::new(1));
    let coordinator = super::start(plan.clone(), settings, vec![inbox], control.clone()).unwrap();
    House { coordinator, plan, control, outbox }
}

impl House {
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.get_all(path);
        (status, body)
    }

    pub(crate) fn get_all(&self, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.coordinator.admin().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    pub(crate) fn enter(&self) -> Presence {
        self.control.enter()
    }

    pub(crate) fn end(self, presence: Presence) -> Ended {
        self.coordinator.stop();
        drop(presence);
        self.coordinator.join()
    }
}
