use std::path::PathBuf;
use std::time::Instant;

use super::*;
use crate::config::Fsync;
use crate::observe::Record;
use crate::observe::journal::Names;
use crate::observe::record::tests::sample;
use crate::store::{RequestFilter, Store, recover};

fn settings(name: &str) -> StoreSettings {
    let directory = std::env::temp_dir().join(format!("ringway-ledger-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory); // a run before may have failed
    StoreSettings {
        database: directory.join("ledger.db"),
        directory,
        is_chosen: true,
        fsync: Fsync::Interval,
        journal_bytes: 16 << 20,
        keep: None,
        keep_sums: None,
        size_max: 1 << 40,
    }
}

const NAMES: Names<'_> =
    Names { key: "ci", team: "", user: "", model: "llama", fallback_for: "", backend: "gpu-1", marks: "" };

fn say(_: &str) {}

fn eventually(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "it never happened");
        thread::sleep(Duration::from_millis(2));
    }
}

fn rows(settings: &StoreSettings) -> usize {
    let store = Store::read(&settings.database).unwrap();
    store.requests(&RequestFilter::default(), 1_000).unwrap().len()
}

fn runs(settings: &StoreSettings) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(settings.directory.join("journal")).unwrap();
    folder.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_shards_append_comes_into_the_store_and_nothing_is_left_after_the_end() {
    let settings = settings("moves");
    let (running, mut journals) = start(settings.clone(), 2, say).unwrap();
    for journal in &mut journals {
        for _ in 0..3 {
            assert!(journal.append(&sample(), &NAMES));
        }
    }
    let ledger = running.ledger.clone();
    eventually(|| ledger.status().rows == 6);
    assert!(journals[0].append(&sample(), &NAMES));
    ledger.audit(AuditEntry { action: "drain".to_owned(), ..AuditEntry::default() });
    running.close();
    assert_eq!(rows(&settings), 7, "the last one was moved at the end");
    let store = Store::read(&settings.database).unwrap();
    let actions: Vec<_> =
        store.audit(0, None, 9).unwrap().into_iter().map(|sealed| sealed.entry.action).collect();
    assert_eq!(actions, ["stop", "drain", "start"]);
    assert_eq!(store.verify_audit().unwrap().entries, 3);
    drop(ledger);
    assert_eq!(runs(&settings), Vec::<PathBuf>::new());
}

#[test]
fn a_process_that_is_gone_leaves_its_records_to_the_next() {
    let settings = settings("left");
    let run = Run::new(&settings.directory).unwrap();
    let (mut journal, lane) = journal::channel();
    for index in 0..2 {
        assert!(lane.prepare(run.segment(3, index).unwrap()).is_ok());
    }
    let mut appended = 0;
    while lane.end() < SEGMENT_BYTES as u64 + 500 {
        assert!(journal.append(&sample(), &NAMES));
        appended += 1;
    }
    assert!(Run::left_over(&settings.directory).unwrap().is_empty(), "its process still runs");
    drop(run); // what a kill does to the lock
    let (running, _journals) = start(settings.clone(), 1, say).unwrap();
    eventually(|| running.ledger.status().recovered_rows == appended);
    eventually(|| runs(&settings).len() == 1);
    let status = running.ledger.status();
    assert_eq!((status.damaged_bytes, status.journal_bytes % SEGMENT_BYTES as u64), (0, 0));
    running.close();
}

#[test]
fn recovery_that_is_interrupted_anywhere_counts_nothing_twice() {
    let settings = settings("again");
    let run = Run::new(&settings.directory).unwrap();
    let (mut journal, lane) = journal::channel();
    assert!(lane.prepare(run.segment(0, 0).unwrap()).is_ok());
    (0..20).for_each(|_| assert!(journal.append(&sample(), &NAMES)));
    let path = run.path().to_owned();
    drop(run);
    let mut store = Store::open(&settings.database, false).unwrap();
    let saved = std::fs::read(path.join("0-0000000000.seg")).unwrap();
    for _ in 0..3 {
        recover::all(&settings.directory, &mut store).unwrap();
        // As if the process had died just before it removed the folder.
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("lock"), "").unwrap();
        std::fs::write(path.join("0-0000000000.seg"), &saved).unwrap();
    }
    assert_eq!(rows(&settings), 20);
}

#[test]
fn without_a_store_the_journal_grows_to_its_bound_and_catches_up_by_itself() {
    let mut settings = settings("gone");
    settings.database = settings.directory.join("not-there-yet").join("ledger.db");
    let (running, mut journals) = start(settings.clone(), 1, say).unwrap();
    let ledger = running.ledger.clone();
    let mut kept = 0;
    while !ledger.status().is_full {
        kept += u64::from(journals[0].append(&sample(), &NAMES));
    }
    while journals[0].append(&sample(), &NAMES) {
        kept += 1;
    }
    let status = ledger.status();
    assert_eq!(status.journal_bytes, settings.journal_bytes);
    assert!(status.lost > 0 && status.rows == 0 && status.store_error.is_some(), "{status:?}");
    std::fs::create_dir_all(settings.database.parent().unwrap()).unwrap();
    eventually(|| ledger.status().rows == kept);
    eventually(|| journals[0].append(&sample(), &NAMES));
    running.close();
    assert_eq!(ledger.status().store_error, None);
}

#[test]
fn refusals_of_one_kind_become_one_entry() {
    let settings = settings("refusals");
    let (running, mut journals) = start(settings.clone(), 1, say).unwrap();
    let refused = Record {
        status: 403,
        fault: Some(crate::error::FaultKind::ModelForbidden),
        backend: None,
        usage_known: false,
        ..sample()
    };
    let names = Names { backend: "", ..NAMES };
    for _ in 0..40 {
        assert!(journals[0].append(&refused, &names));
    }
    let failed = Record { status: 429, fault: Some(crate::error::FaultKind::RequestsExceeded), ..sample() };
    assert!(journals[0].append(&failed, &NAMES), "a backend's own 429 is no refusal of ours");
    eventually(|| running.ledger.status().rows == 41);
    running.close();
    let mut entries = Store::read(&settings.database).unwrap().audit(0, None, 10).unwrap();
    entries.retain(|sealed| sealed.entry.subject != "process");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((entries[0].entry.actor.as_str(), entries[0].entry.action.as_str()), ("ci", "refuse"));
    assert!(entries[0].entry.after.starts_with("model_not_allowed (40 times, first in request "));
}
