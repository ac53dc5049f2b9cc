//! The connection to Redis, and the turns over it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, RedisResult, Script};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::rows::{Ask, Now, Reply, Rows};
use super::{Current, Shared};
use crate::clock;
use crate::config::{LogLevel, SharedSettings};
use crate::coordinator::lock;
use crate::plan::Plan;
use crate::policy::limits::lease::Peers;
use crate::units::Nanos;

/// Time between two turns. Chosen, not measured.
const TURN: Duration = Duration::from_millis(40);
/// How long Redis may take to respond, and to take a connection.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two attempts to connect.
const RETRY: Nanos = Nanos(250_000_000);
/// What was leased ends so long after Redis last took a turn. Less than the time after which others count this gateway out
/// (`ALIVE` in `turn.lua`).
pub(super) const LEASE: Nanos = Nanos(5_000_000_000);
/// Limits that one call of the script is about.
const ROWS_MAX: usize = 200;

/// Takes turns for as long as the process runs.
pub(super) async fn run(current: Current, shared: Arc<Shared>) -> Infallible {
    // There are two providers of cryptography in the graph of crates where a user of rustls asks for none: ours is said once.
    let _ = rustls::crypto::ring::default_provider().install_default(); // one that was installed before serves as well
    let mut link = Link {
        script: Script::new(include_str!("turn.lua")),
        connection: None,
        tried: Nanos(0),
        heard: clock::now(),
        turn: clock::unix_ms() * 1_000,
        epoch: 0,
        is_new: true,
        shared,
    };
    let mut rows = Rows::default();
    let mut ticks = interval(TURN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let watch = current.load_full();
        // While it drains, the process after it may take turns under the same name.
        if watch.plan.gateways < 2 || watch.control.is_draining() {
            continue;
        }
        rows.follow(&watch.plan);
        let numbers = &link.shared.numbers;
        let was_up = numbers.is_up.load(Ordering::Relaxed);
        let result = link.turn(&watch.plan, &mut rows).await;
        let numbers = &link.shared.numbers;
        if result.is_some() {
            numbers.is_up.store(matches!(result, Some(Ok(()))), Ordering::Relaxed);
        }
        match result {
            Some(Ok(())) => {
                *lock(&numbers.error) = None;
                if !was_up {
                    watch.say(LogLevel::Info, "limits are shared over Redis");
                    open(&watch.plan);
                }
                numbers.is_alone.store(false, Ordering::Relaxed);
            }
            Some(Err(error)) => {
                link.connection = None;
                numbers.failures.fetch_add(1, Ordering::Relaxed);
                if lock(&numbers.error).replace(error.to_string()).is_none() {
                    watch.say(
                        LogLevel::Warn,
                        &format!("Redis, which limits are shared over, is away: {error}"),
                    );
                }
            }
            None => {}
        }
        let at = clock::now();
        if at.since(link.heard) > LEASE {
            let settings = &link.shared.settings;
            let now = Now { at, unix_ms: clock::unix_ms() };
            rows.stay_alone(&watch.plan, settings.when_gone, settings.budgets_when_gone, now);
            link.shared.numbers.is_alone.store(true, Ordering::Relaxed);
        }
    }
}

/// Budgets that were closed begin their next window with a share again.
fn open(plan: &Plan) {
    plan.begin_shares(clock::now());
}

struct Link {
    shared: Arc<Shared>,
    script: Script,
    connection: Option<MultiplexedConnection>,
    /// When it was last tried to connect.
    tried: Nanos,
    /// When the last turn began that Redis took.
    heard: Nanos,
    /// Number of the last turn. Grows over processes, too.
    turn: u64,
    /// Since when Redis has what it knows.
    epoch: u64,
    /// No turn was taken over this connection yet.
    is_new: bool,
}

/// What the script returns: epoch, turn, gateways, six numbers for each row, the names of rows that others want of.
type Returned = (u64, u64, u64, Vec<i64>, Vec<String>);

impl Link {
    /// One turn; `None` while it is too early to connect again.
    async fn turn(&mut self, plan: &Plan, rows: &mut Rows) -> Option<RedisResult<()>> {
        if self.connection.is_none() {
            let now = clock::now();
            if now.since(self.tried) < RETRY {
                return None;
            }
            self.tried = now;
            match connect(&self.shared.settings).await {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => return Some(Err(error)),
            }
            self.is_new = true;
            rows.forget();
        }
        Some(self.take_turn(plan, rows).await)
    }

    async fn take_turn(&mut self, plan: &Plan, rows: &mut Rows) -> RedisResult<()> {
        let began = clock::now();
        let asks = rows.look(plan, Now { at: began, unix_ms: clock::unix_ms() });
        let numbers = &self.shared.numbers;
        let count = |cell: &std::sync::atomic::AtomicU64, of: &dyn Fn(&Ask) -> bool| {
            cell.fetch_add(asks.iter().filter(|ask| of(ask)).count() as u64, Ordering::Relaxed);
        };
        count(&numbers.given, &|ask| ask.given > 0);
        count(&numbers.short, &|ask| ask.is_urgent && ask.wanted > 0);
        // A turn without a limit says that the gateway is there, and hears what others want.
        let mut batches = asks.chunks(ROWS_MAX);
        let mut batch = batches.next().unwrap_or_default();
        loop {
            let (epoch, turn, gateways, numbers, wanted) = self.call(plan, batch).await?;
            if turn > self.turn {
                self.turn = turn; // another process of this gateway has taken turns
            } else {
                self.apply(plan, rows, batch, gateways, &numbers);
            }
            if epoch != self.epoch {
                self.epoch = epoch;
                rows.forget();
            }
            rows.note_wanted(&wanted);
            let shared = &self.shared.numbers;
            shared.gateways.store(gateways, Ordering::Relaxed);
            let Some(next) = batches.next() else { break };
            batch = next;
        }
        self.heard = began;
        let numbers = &self.shared.numbers;
        numbers.turns.fetch_add(1, Ordering::Relaxed);
        numbers.turn_us.store(clock::now().since(began).0 / 1_000, Ordering::Relaxed);
        Ok(())
    }

    fn apply(&self, plan: &Plan, rows: &mut Rows, batch: &[Ask], gateways: u64, numbers: &[i64]) {
        let now = Now { at: clock::now(), unix_ms: clock::unix_ms() };
        let amount = |number: i64| u64::try_from(number).unwrap_or(0);
        for (ask, reply) in batch.iter().zip(numbers.chunks_exact(6)) {
            let &[delta, held, urgent, short, room, used] = reply else { continue };
            let peers = Peers { held: amount(held), urgent: amount(urgent), short: amount(short), gateways };
            let reply = Reply { delta, peers, room: amount(room), used_elsewhere: amount(used) };
            if rows.apply(plan, ask, &reply, now) {
                self.shared.numbers.received.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn call(&mut self, plan: &Plan, batch: &[Ask]) -> RedisResult<Returned> {
        self.turn += 1;
        let mut call = self.script.prepare_invoke();
        call.key(format!("{}:epoch", self.shared.settings.prefix));
        call.arg(&self.shared.name).arg(self.turn).arg(plan.gateways).arg(u8::from(self.is_new));
        for ask in batch {
            call.arg(&ask.name).arg(if ask.is_budget { "b" } else { "r" });
            for number in [ask.most, ask.per_minute, ask.leased, ask.held, ask.used, ask.given, ask.wanted] {
                call.arg(number);
            }
            call.arg(u8::from(ask.is_urgent)).arg(ask.lives_ms);
        }
        let Some(connection) = &mut self.connection else { return Err(away()) };
        let returned = timeout(PATIENCE, call.invoke_async(connection)).await.map_err(|_| away())??;
        self.is_new = false;
        Ok(returned)
    }
}

fn away() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

async fn connect(settings: &SharedSettings) -> RedisResult<MultiplexedConnection> {
    let info = settings.url.as_str().into_connection_info()?;
    let mut redis = info.redis_settings().clone();
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password.expose());
    }
    let client = Client::open(info.set_redis_settings(redis))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    timeout(2 * PATIENCE, connecting).await.map_err(|_| away())?
}
