use std::io::{BufRead, BufReader, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use serde_json::Value;

use super::*;
use crate::coordinator::fixture;
use crate::error::FaultKind;
use crate::observe::record::tests::sample;
use crate::observe::{Counter, ShardOutbox};
use crate::units::{BackendId, KeyId, ModelId};

fn plan() -> Plan {
    fixture::plan(&[fixture::tcp("192.0.2.1", 8000)])
}

fn plans() -> [Arc<Plan>; 1] {
    [Arc::new(plan())]
}

fn shards(inbox: ShardInbox) -> [Arc<ShardInbox>; 1] {
    [Arc::new(inbox)]
}

fn text(record: &Record) -> String {
    let mut out = Vec::new();
    line(&mut out, &plan(), record);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_names_what_the_record_numbers() {
    let line: Value =
        serde_json::from_str(&text(&Record { fault: Some(FaultKind::BackendCut), ..sample() })).unwrap();
    assert_eq!(line["time"], "2026-09-21T14:13:20.123Z");
    assert_eq!(line["request_id"], "00000000000000000000000000abcdef");
    assert_eq!(line["client"], "192.0.2.7");
    assert_eq!(line["key"], "team \"blue\"\n");
    assert_eq!(line["model"], "llama");
    assert_eq!(line["backend"], "gpu-0");
    assert_eq!(line["error"], "backend_stream_truncated");
    assert_eq!(line["input_tokens"], 100);
    assert_eq!(line["duration_ms"], 1100.0);
    assert_eq!(line["time_to_first_token_ms"], 100.0);
    assert_eq!(line["overhead_us"], 20.0);
}

#[test]
fn what_is_not_known_is_null() {
    let record = Record {
        client: None,
        key: None,
        model: None,
        backend: None,
        usage_known: false,
        time_to_first_token: None,
        ..sample()
    };
    let line: Value = serde_json::from_str(&text(&record)).unwrap();
    for field in ["client", "key", "model", "backend", "error", "input_tokens", "time_to_first_token_ms"] {
        assert!(line[field].is_null(), "{field}");
    }
}

#[test]
fn a_name_with_a_line_feed_and_quotes_stays_on_one_line() {
    let text = text(&sample());
    assert_eq!(text.matches('\n').count(), 1);
    assert!(text.contains(r#""key":"team \"blue\"\n""#));
}

#[test]
fn ids_of_another_plan_are_null_instead_of_a_panic() {
    let record = Record {
        key: Some(KeyId::new(9)),
        model: Some(ModelId::new(9)),
        backend: Some(BackendId::new(9)),
        ..sample()
    };
    let line: Value = serde_json::from_str(&text(&record)).unwrap();
    assert!(line["key"].is_null() && line["model"].is_null() && line["backend"].is_null());
}

#[test]
fn times_are_calendar_times() {
    for (unix_ms, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (12_622_780_800_000, "2370-01-01T00:00:00.000Z"),
    ] {
        assert_eq!(rfc3339(unix_ms), expected);
    }
    assert!(rfc3339(u64::MAX).ends_with('Z'));
}

/// A sink that takes nothing until it is told to.
struct Gate {
    open: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An error is a dropped opener: open for good.
        let _ = self.open.recv();
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated() -> (Log, Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let (opener, open) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let log = Log::to(Box::new(Gate { open, written: written.clone() }), None).unwrap();
    (log, opener, written)
}

fn settle(outbox: &mut ShardOutbox, count: usize) {
    for _ in 0..count {
        outbox.settle(&sample());
    }
}

#[test]
fn a_blocked_sink_drops_and_counts_and_buffers_nobody() {
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let (shards, plans) = (shards(inbox), plans());
    let (mut log, opener, written) = gated();
    let total = 64 * 400;
    for _ in 0..400 {
        settle(&mut outbox, 64);
        let _ = log.pump(&shards, &plans);
    }
    let dropped = outbox.numbers().get(Counter::RecordsDropped);
    assert!(dropped > 0, "the way to a blocked sink must fill");
    assert!(written.lock().unwrap().is_empty());

    drop(opener);
    let numbers = log.numbers();
    fixture::until_blocking("everything that was kept is written", || {
        let _ = log.pump(&shards, &plans);
        numbers.lines.load(Ordering::Relaxed) + dropped == total
    });
    assert_eq!(lines(&written.lock().unwrap()) + dropped, total);
    assert_eq!(numbers.lines_lost.load(Ordering::Relaxed), 0);
}

#[test]
fn each_record_is_told_in_the_names_of_its_own_plan() {
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let (log, opener, written) = gated();
    drop(opener);
    let renamed = |generation: u64, name: &str| {
        let mut plan = plan();
        plan.generation = generation;
        plan.models[0].name = name.into();
        Arc::new(plan)
    };
    for plan in [7, 6, 5] {
        outbox.settle(&Record { plan, ..sample() });
    }
    let numbers = log.numbers();
    log.close(&shards(inbox), &[renamed(7, "new"), renamed(6, "old")], Duration::from_secs(5));
    let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let models: Vec<Value> =
        written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["model"].clone()).collect();
    assert_eq!(models, ["new", "old"]);
    assert_eq!(numbers.lines_lost.load(Ordering::Relaxed), 1, "rows of a plan that nobody has name nothing");
}

#[test]
fn closing_writes_what_waits() {
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let (log, opener, written) = gated();
    drop(opener);
    settle(&mut outbox, 5);
    log.close(&shards(inbox), &plans(), Duration::from_secs(5));
    assert_eq!(lines(&written.lock().unwrap()), 5);
}

#[test]
fn closing_a_slow_sink_loses_nothing_that_fits_the_patience() {
    let (mut outbox, inbox) = fixture::shard(Some(RECORDS_MAX));
    let (log, opener, written) = gated();
    settle(&mut outbox, RECORDS_MAX);
    let slow = std::thread::spawn(move || {
        // One write at a time: more batches are waiting than the way to the writer holds.
        while opener.send(()).is_ok() {
            std::thread::yield_now();
        }
    });
    log.close(&shards(inbox), &plans(), Duration::from_secs(10));
    slow.join().unwrap();
    assert_eq!(lines(&written.lock().unwrap()), RECORDS_MAX as u64);
}

#[test]
fn shards_keep_fewer_records_with_the_log_off() {
    assert_eq!(records_max(&AccessLog::Off), Some(RECORDS_MAX_OFF));
    assert_eq!(records_max(&AccessLog::Stdout), Some(RECORDS_MAX));
}

#[test]
fn closing_does_not_wait_for_a_blocked_sink() {
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let (log, _opener, written) = gated();
    settle(&mut outbox, 5);
    log.close(&shards(inbox), &plans(), Duration::from_millis(20));
    assert!(written.lock().unwrap().is_empty());
}

/// A sink like a full disk.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_a_full_disk_refuses_are_counted() {
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let log = Log::to(Box::new(Full), None).unwrap();
    let numbers = log.numbers();
    settle(&mut outbox, 3);
    log.close(&shards(inbox), &plans(), Duration::from_secs(5));
    assert_eq!(numbers.lines_lost.load(Ordering::Relaxed), 3);
    assert_eq!(numbers.lines.load(Ordering::Relaxed), 0);
}

#[test]
fn a_file_is_appended_to() {
    let path = fixture::scratch("access.jsonl");
    fs::write(&path, "before\n").unwrap();
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let log = Log::open(&AccessLog::File(path.clone())).unwrap().unwrap();
    settle(&mut outbox, 1);
    log.close(&shards(inbox), &plans(), Duration::from_secs(5));
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(text.starts_with("before\n{"), "{text}");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_fifo_without_a_reader_opens_at_once() {
    let path = fixture::scratch("access.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (mut outbox, inbox) = fixture::shard(Some(64));
    let log = Log::open(&AccessLog::File(path.clone())).unwrap().unwrap();
    let mut reader = BufReader::new(OpenOptions::new().read(true).open(&path).unwrap().take(1 << 20));
    settle(&mut outbox, 1);
    log.close(&shards(inbox), &plans(), Duration::from_secs(5));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(line.starts_with('{'), "{line}");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let error = Log::open(&AccessLog::File("/nonexistent/access.log".into())).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/access.log"));
}

#[test]
fn a_log_that_is_off_has_no_writer() {
    assert!(Log::open(&AccessLog::Off).unwrap().is_none());
}
