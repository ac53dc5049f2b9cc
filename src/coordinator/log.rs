//! The access log: one JSON line per settled exchange.
//!
//! Records wait in each shard's bounded queue; here they become lines and lines become batches; a thread of its own
//! writes the batches. A reload opens the file anew between two batches, so that one that was renamed is left at the end
//! of a line. When the sink is blocked the writer waits, one batch waits here, the shards' queues fill, and
//! shards drop records and count them: nothing on the way ever waits for the sink.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::recent::Recent;
use crate::config::AccessLog;
use crate::observe::{Record, RequestId, ShardInbox};
use crate::plan::Plan;
use crate::units::{ModelId, Nanos};

/// Records that wait in one shard: about 20 ms of a very busy one.
pub const RECORDS_MAX: usize = 8_192;

/// Records that wait in one shard for the list of recent requests, with the log off.
const RECORDS_MAX_OFF: usize = 512;

/// Bytes from which a batch is handed to the writer without waiting for more.
const BATCH_BYTES: usize = 64 * 1024;

/// Batches between here and the writer.
const BATCHES_MAX: usize = 8;

/// Records turned into lines in one go, all shards together: bounds how long other duties wait.
const RECORDS_PER_PUMP: usize = 16_384;

/// Pause between two looks at the writer while closing.
const CLOSING_PAUSE: Duration = Duration::from_millis(1);

/// The bound of every shard's queue of records, for `observe::channel`.
pub fn records_max(access_log: &AccessLog) -> Option<usize> {
    Some(if *access_log == AccessLog::Off { RECORDS_MAX_OFF } else { RECORDS_MAX })
}

/// How the log fares.
#[derive(Default)]
pub(crate) struct LogNumbers {
    /// Lines the sink has taken.
    pub(crate) lines: AtomicU64,
    /// Lines the sink refused.
    pub(crate) lines_lost: AtomicU64,
    pub(crate) reopening: Reopening,
}

/// Opening the file anew: asked for by a reload, done by the writer.
#[derive(Default)]
pub(crate) struct Reopening {
    /// How often it was asked for, told to the writer, and done or tried in vain.
    asked: AtomicU64,
    told: AtomicU64,
    done: AtomicU64,
    /// Why the last try was in vain.
    error: Mutex<Option<String>>,
}

impl Reopening {
    /// Asks for it; the number to ask [`Self::outcome`] about.
    pub(super) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What came of it: nothing yet, or it was done, or why not.
    pub(super) fn outcome(&self, number: u64) -> Option<Result<(), String>> {
        let done = self.done.load(Ordering::Acquire) >= number;
        done.then(|| self.error().clone().map_or(Ok(()), Err))
    }
}

impl Reopening {
    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner) // text stays sound
    }
}

/// What the writer is given.
enum Order {
    /// Lines.
    Batch(Vec<u8>),
    /// The file, anew: this often it was asked for.
    Reopen(u64),
}

/// The coordinator's end of the log.
pub(super) struct Log {
    batch: Vec<u8>,
    orders: SyncSender<Order>,
    numbers: Arc<LogNumbers>,
    /// Where the newest records are kept by name, too.
    pub(super) recent: Option<Arc<Recent>>,
    /// Hears when the writer has ended.
    ended: Receiver<()>,
}

impl Log {
    /// Opens the sink and starts the writer; `None` if the log is off.
    pub(super) fn open(to: &AccessLog) -> io::Result<Option<Self>> {
        match to {
            AccessLog::Off => Ok(None),
            // A descriptor of its own: a blocked write must not hold the lock of the process's standard output.
            AccessLog::Stdout => {
                let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Self::to(Box::new(stdout), None).map(Some)
            }
            AccessLog::File(path) => Self::to(Box::new(open(path)?), Some(path.clone())).map(Some),
        }
    }

    /// `path` is what is opened when that is asked for; nothing happens then without one.
    fn to(sink: Box<dyn Write + Send>, path: Option<PathBuf>) -> io::Result<Self> {
        let numbers = Arc::new(LogNumbers::default());
        let (orders, waiting) = sync_channel(BATCHES_MAX);
        let (ends, ended) = sync_channel(1);
        let counted = numbers.clone();
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write(sink, path.as_deref(), &waiting, &counted);
            // Nobody waits if it took too long.
            let _ = ends.send(());
        })?;
        Ok(Self { batch: Vec::with_capacity(BATCH_BYTES), orders, numbers, recent: None, ended })
    }

    pub(super) fn numbers(&self) -> Arc<LogNumbers> {
        self.numbers.clone()
    }

    /// Turns waiting records into lines, as long as the writer takes them; `plans` are those that they may name rows
    /// of. Never blocks. False if there is more to do: the writer was not ready, or there were more records than fit
    /// one go.
    pub(super) fn pump(&mut self, shards: &[Arc<ShardInbox>], plans: &[Arc<Plan>]) -> bool {
        let mut emptied = true;
        for shard in shards {
            let most = RECORDS_PER_PUMP / shards.len();
            let mut taken = 0;
            while taken < most {
                if self.batch.len() >= BATCH_BYTES && !self.hand_over() {
                    return false;
                }
                let Some(record) = shard.next_record() else { break };
                taken += 1;
                match plans.iter().find(|plan| plan.generation == record.plan) {
                    Some(plan) => {
                        line(&mut self.batch, plan, &record);
                        if let Some(recent) = &self.recent {
                            recent.push(plan, &record);
                        }
                    }
                    None => _ = self.numbers.lines_lost.fetch_add(1, Ordering::Relaxed), // never: plans outlive their records
                }
            }
            emptied &= taken < most;
        }
        self.hand_over() && self.hand_reopening() && emptied
    }

    /// Tells the writer to open the file anew, if that was asked for since; false if it is not ready to hear it.
    fn hand_reopening(&mut self) -> bool {
        let Reopening { asked, told, .. } = &self.numbers.reopening;
        let asked = asked.load(Ordering::Relaxed);
        if asked == told.load(Ordering::Relaxed) {
            return true;
        }
        match self.orders.try_send(Order::Reopen(asked)) {
            Err(TrySendError::Full(_)) => return false,
            Ok(()) | Err(TrySendError::Disconnected(_)) => told.store(asked, Ordering::Relaxed),
        }
        true
    }

    /// Gives the batch to the writer; false if it is not ready for one.
    fn hand_over(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        match self.orders.try_send(Order::Batch(std::mem::take(&mut self.batch))) {
            Ok(()) => {
                self.batch.reserve(BATCH_BYTES);
                true
            }
            Err(TrySendError::Full(Order::Batch(batch))) => {
                self.batch = batch;
                false
            }
            Err(TrySendError::Disconnected(Order::Batch(batch))) => {
                self.numbers.lines_lost.fetch_add(lines(&batch), Ordering::Relaxed);
                true
            }
            Err(_) => true, // never: it was a batch
        }
    }

    /// Writes what is left, for `patience` at most. Blocks for that long.
    pub(super) fn close(mut self, shards: &[Arc<ShardInbox>], plans: &[Arc<Plan>], patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.pump(shards, plans) && Instant::now() < deadline {
            thread::sleep(CLOSING_PAUSE);
        }
        self.numbers.lines_lost.fetch_add(lines(&self.batch), Ordering::Relaxed);
        drop(self.orders);
        let _ = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Opens the file to append to, whoever else writes to it or cuts it short.
///
/// Errors: it cannot be made, or not be written to.
fn open(path: &Path) -> io::Result<File> {
    // Opened for writing only, a FIFO without a reader would block here; it may get one later.
    let fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    let file = OpenOptions::new().append(true).create(true).read(fifo).mode(0o640).open(path);
    file.map_err(|error| io::Error::new(error.kind(), format!("access log {}: {error}", path.display())))
}

/// The writer's loop: ends when the coordinator's end is dropped and everything is written.
fn write(
    mut sink: Box<dyn Write + Send>,
    path: Option<&Path>,
    orders: &Receiver<Order>,
    numbers: &LogNumbers,
) {
    for order in orders {
        let batch = match order {
            Order::Batch(batch) => batch,
            Order::Reopen(number) => {
                let opened = path.map(open).transpose();
                let error = opened.as_ref().err().map(ToString::to_string);
                if let Ok(Some(file)) = opened {
                    sink = Box::new(file);
                }
                *numbers.reopening.error() = error;
                numbers.reopening.done.store(number, Ordering::Release);
                continue;
            }
        };
        let result = sink.write_all(&batch).and_then(|()| sink.flush());
        let cell = if result.is_ok() { &numbers.lines } else { &numbers.lines_lost };
        cell.fetch_add(lines(&batch), Ordering::Relaxed);
    }
}

fn lines(batch: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', batch).count() as u64
}

/// A line of the log; the names of the fields are its format.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(serialize_with = "as_text")]
    request_id: RequestId,
    shard: usize,
    client: Option<IpAddr>,
    api: &'static str,
    key: Option<&'a str>,
    model: Option<&'a str>,
    fallback_for: Option<&'a str>,
    backend: Option<&'a str>,
    status: u16,
    error: Option<&'static str>,
    stream: bool,
    attempts: u8,
    input_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    estimated: bool,
    request_bytes: u64,
    response_bytes: u64,
    duration_ms: f64,
    time_to_first_token_ms: Option<f64>,
    overhead_us: f64,
}

fn as_text<S: Serializer>(id: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// Appends one line. Names are the plan's; JSON escapes whatever is in them, so a line stays a line.
fn line(out: &mut Vec<u8>, plan: &Plan, record: &Record) {
    let tokens = |count: u64| record.usage_known.then_some(count);
    let name =
        |model: Option<ModelId>| model.and_then(|id| plan.models.get(id.index())).map(|model| &*model.name);
    let millis = |time: Nanos| time.micros() as f64 / 1e3;
    let line = Line {
        time: rfc3339(record.at_unix_ms),
        request_id: record.request_id,
        shard: record.shard.index(),
        client: record.client,
        api: record.api,
        key: record.key.and_then(|key| plan.keys.get(key.index())).map(|key| &*key.name),
        model: name(record.model),
        fallback_for: name(record.fallback_for),
        backend: record.backend.and_then(|id| plan.backends.get(id.index())).map(|backend| &*backend.name),
        status: record.status,
        error: record.fault.map(|kind| kind.code()),
        stream: record.stream,
        attempts: record.attempts,
        input_tokens: tokens(record.input_tokens),
        cached_tokens: tokens(record.cached_tokens),
        output_tokens: tokens(record.output_tokens),
        reasoning_tokens: tokens(record.reasoning_tokens),
        estimated: record.estimated,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        duration_ms: millis(record.duration),
        time_to_first_token_ms: record.time_to_first_token.map(millis),
        overhead_us: record.overhead.0 as f64 / 1e3,
    };
    let start = out.len();
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        // A Vec takes everything and the line has no map with odd keys; half a line would be worse than none.
        Err(_) => out.truncate(start),
    }
}

/// `2026-11-22T10:11:12.123Z`, in the proleptic Gregorian calendar.
fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (mut year, mut day) = (1970 + 400 * (days / 146_097), days % 146_097);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let mut month = 1;
    for length in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", day + 1)
}

const fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests;
