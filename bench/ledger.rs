//! What does it cost to keep an exchange? One record of a usual size appended to a shard's journal, by the way taken (a
//! mapping) and by the others (a write per record; io_uring, sixteen records in one turn); and records moved into the store.
//!
//! Run it on the file system that the data directory is on: `TMPDIR=/var/lib cargo bench --bench ledger`.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use io_uring::{IoUring, opcode, types};
use ringway::observe::journal::{self, Entry, Names, SEGMENT_BYTES, Segment};
use ringway::observe::{Record, RequestId};
use ringway::store::{Group, RequestFilter, Store, UsageFilter};
use ringway::units::{BackendId, KeyId, ModelId, Nanos, ShardId};

fn main() {
    divan::main();
}

const NAMES: Names<'_> = Names {
    key: "search-team-ci",
    team: "search",
    user: "",
    model: "llama-3.3-70b-instruct",
    fallback_for: "",
    backend: "gpu-17",
    marks: "",
};

fn record() -> Record {
    Record {
        at_unix_ms: 1_796_000_000_000,
        request_id: RequestId::made(7),
        shard: ShardId::new(0),
        plan: 1,
        client: Some(IpAddr::from([192, 0, 2, 7])),
        api: "chat",
        key: Some(KeyId::new(0)),
        fallback_for: None,
        model: Some(ModelId::new(0)),
        backend: Some(BackendId::new(0)),
        status: 200,
        fault: None,
        stream: true,
        attempts: 1,
        input_tokens: 1_000,
        cached_tokens: 640,
        cache_write_tokens: 0,
        output_tokens: 300,
        reasoning_tokens: 50,
        usage_known: true,
        estimated: false,
        from_cache: false,
        request_bytes: 4_096,
        response_bytes: 40_960,
        duration: Nanos(1_100_000_000),
        time_to_first_token: Some(Nanos(100_000_000)),
        overhead: Nanos(20_000),
    }
}

/// A new file of a segment's size, gone from its folder.
fn file() -> File {
    let path = path();
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    std::fs::remove_file(&path).expect("it stays open");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT_BYTES as u64).expect("room");
    file
}

fn path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("ringway-bench-{}-{number}", std::process::id()))
}

/// Making, mapping and leaving segments is part of it, once in 4,700 records; in the gateway another thread makes them.
#[divan::bench]
fn append(bencher: Bencher<'_, '_>) {
    let (mut journal, lane) = journal::channel();
    let mut position = 0;
    let (record, mut segment) = (record(), || {
        let segment = Segment::new(&file(), position).expect("a mapping");
        position += SEGMENT_BYTES as u64;
        segment
    });
    assert!(lane.prepare(segment()).is_ok());
    bencher.bench_local(|| {
        if lane.wants_segment() {
            let _ = lane.prepare(segment());
        }
        journal.append(&record, &NAMES)
    });
}

/// The bytes of such a record.
const RECORD_BYTES: usize = 216;

#[divan::bench]
fn one_write_per_record(bencher: Bencher<'_, '_>) {
    let (file, bytes, mut at) = (file(), [7; RECORD_BYTES], 0);
    bencher.bench_local(|| {
        file.write_all_at(&bytes, at).expect("room");
        at = (at + RECORD_BYTES as u64) % (SEGMENT_BYTES - RECORD_BYTES) as u64;
    });
}

/// Sixteen exchanges settled in one turn of the loop, one submission: the cost of each.
#[divan::bench]
fn io_uring_of_sixteen(bencher: Bencher<'_, '_>) {
    let (file, mut ring) = (file(), IoUring::new(8).expect("a ring"));
    let (mut buffer, mut at) = (Vec::with_capacity(16 * RECORD_BYTES), 0);
    bencher.counter(ItemsCount::new(16_u64)).bench_local(|| {
        buffer.clear();
        (0..16).for_each(|_| buffer.extend_from_slice(&[7; RECORD_BYTES]));
        let write = opcode::Write::new(types::Fd(file.as_raw_fd()), buffer.as_ptr(), buffer.len() as u32);
        // SAFETY: the buffer and the file live until the write has completed, which is waited for.
        unsafe { ring.submission().push(&write.offset(at).build()).expect("room") };
        ring.submit_and_wait(1).expect("a completion");
        assert_eq!(ring.completion().next().map(|done| done.result()), Some(buffer.len() as i32));
        at = (at + buffer.len() as u64) % (SEGMENT_BYTES - buffer.len()) as u64;
    });
}

/// What a full segment holds, into the database, as after a crash: rows a second.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn move_into_the_store(bencher: Bencher<'_, '_>) {
    const ROWS: u64 = 5_000;
    let folder = path();
    std::fs::create_dir(&folder).expect("a folder");
    let mut store = Store::open(&folder.join("ledger.db"), true).expect("a database");
    let mut position = 0;
    let entry = Entry {
        at_unix_ms: 1_796_000_000_000,
        request_id: "0123456789abcdef0123456789abcdef".to_owned(),
        key: NAMES.key.into(),
        team: NAMES.team.into(),
        model: NAMES.model.into(),
        backend: NAMES.backend.into(),
        api: "chat".into(),
        status: 200,
        attempts: 1,
        usage_known: true,
        input_tokens: 1_000,
        output_tokens: 300,
        ..Entry::default()
    };
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let batch: Vec<(u64, Entry)> = (0..ROWS)
            .map(|row| {
                let at_unix_ms = entry.at_unix_ms + (position + row) * 10;
                (position + row, Entry { at_unix_ms, ..entry.clone() })
            })
            .collect();
        position += ROWS;
        store.move_in("bench-0", position, &batch).expect("moved")
    });
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// A million exchanges of 50 teams in 30 days.
fn million() -> (Store, PathBuf) {
    const ROWS: u64 = 1_000_000;
    let folder = path();
    std::fs::create_dir(&folder).expect("a folder");
    let mut store = Store::open(&folder.join("ledger.db"), false).expect("a database");
    for start in (0..ROWS).step_by(10_000) {
        let batch: Vec<(u64, Entry)> = (start..start + 10_000)
            .map(|row| {
                let entry = Entry {
                    at_unix_ms: 1_796_000_000_000 + row * 2_592,
                    request_id: format!("{row:032x}"),
                    key: format!("key-{}", row % 500).into(),
                    team: format!("team-{}", row % 50).into(),
                    model: format!("model-{}", row % 10).into(),
                    backend: format!("gpu-{}", row % 16).into(),
                    api: "chat".into(),
                    status: 200,
                    usage_known: true,
                    input_tokens: 1_000,
                    output_tokens: 300,
                    ..Entry::default()
                };
                (row, entry)
            })
            .collect();
        store.move_in("bench-0", start, &batch).expect("moved");
    }
    (store, folder)
}

/// What `ringway usage --by team`, `--by day` and `ringway requests` ask of it.
#[divan::bench(args = ["team", "day", "requests"], sample_count = 5, sample_size = 1)]
fn query_a_million_rows(bencher: Bencher<'_, '_>, what: &str) {
    let (store, folder) = million();
    bencher.bench_local(|| match what {
        "team" => store.usage(Group::Team, &UsageFilter::default()).expect("rows").len(),
        "day" => store.usage(Group::Day, &UsageFilter::default()).expect("rows").len(),
        _ => store.requests(&RequestFilter::default(), 100).expect("rows").len(),
    });
    std::fs::remove_dir_all(&folder).expect("removed");
}
