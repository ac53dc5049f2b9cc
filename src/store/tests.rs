use super::audit::CHAIN;
use super::*;
use crate::observe::journal::Entry;

/// A folder of this test alone.
fn folder_of(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("ringway-store-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path); // a run before may have failed
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn store(name: &str) -> Store {
    Store::open(&folder_of(name).join("ledger.db"), false).unwrap()
}

const HOUR: u64 = 3_600_000;
/// Some hour's start.
const T0: u64 = 500_000 * HOUR;

fn entry(at_unix_ms: u64, key: &str, model: &str, input: u64, output: u64) -> Entry {
    Entry {
        at_unix_ms,
        request_id: format!("r-{at_unix_ms}"),
        key: key.into(),
        team: format!("team-of-{key}").into(),
        model: model.into(),
        backend: "gpu-1".into(),
        api: "chat".into(),
        status: 200,
        attempts: 1,
        usage_known: true,
        input_tokens: input,
        output_tokens: output,
        duration_ns: 5_000_000,
        first_token_ns: Some(1_000_000),
        ..Entry::default()
    }
}

fn all_groups(store: &Store, filter: &UsageFilter) -> Vec<Sums> {
    let sum = |group: Group| {
        store.usage(group, filter).unwrap().iter().fold(Sums::default(), |mut sum, row| {
            sum.add(&row.sums);
            sum
        })
    };
    Group::ALL.into_iter().map(sum).collect()
}

#[test]
fn a_batch_that_is_moved_twice_counts_once() {
    let mut store = store("twice");
    let batch: Vec<_> = (0..10).map(|n| (n * 200, entry(T0 + n, "ci", "llama", 10, 1))).collect();
    assert_eq!(store.move_in("j", 2_000, &batch).unwrap(), Moved { rows: 10, repeated: 0 });
    assert_eq!(store.move_in("j", 2_000, &batch).unwrap(), Moved { rows: 0, repeated: 10 });
    assert_eq!(store.move_in("other", 2_000, &batch[..1]).unwrap(), Moved { rows: 1, repeated: 0 });
    assert_eq!((store.moved_to("j").unwrap(), store.moved_to("none").unwrap()), (2_000, 0));
    let total = store.usage(Group::Total, &UsageFilter::default()).unwrap();
    assert_eq!((total[0].sums.requests, total[0].sums.input_tokens), (11, 110));
}

#[test]
fn exchanges_of_the_same_id_are_all_kept() {
    let mut store = store("same-id");
    let same = |n: u64| Entry { request_id: "same".to_owned(), ..entry(T0, "ci", "llama", n, 1) };
    let batch: Vec<_> = (0..3).map(|n| (n * 200, same(n))).collect();
    assert_eq!(store.move_in("j", 600, &batch).unwrap().rows, 3);
    let filter = RequestFilter { request_id: Some("same".to_owned()), ..RequestFilter::default() };
    assert_eq!(store.requests(&filter, 10).unwrap().len(), 3);
}

#[test]
fn every_grouping_sums_up_to_the_same_and_to_the_rows() {
    let mut store = store("groups");
    let batch: Vec<_> = (0..200)
        .map(|n| {
            let entry = entry(
                T0 + n * 97_003,
                ["ci", "web", ""][n as usize % 3],
                ["a", "b"][n as usize % 2],
                n,
                2 * n,
            );
            (n * 200, Entry { usage_known: n % 7 != 0, estimated: n % 5 == 0, ..entry })
        })
        .collect();
    store.move_in("j", 40_000, &batch).unwrap();
    // Whole hours, parts of hours, nothing, less than an hour, across its border.
    for (since_ms, until_ms) in [
        (0, None),
        (T0 + HOUR, Some(T0 + 3 * HOUR)),
        (T0 + HOUR / 2, Some(T0 + 3 * HOUR + 17)),
        (T0 + 5, Some(T0 + 5)),
        (T0 + 100_000, Some(T0 + 900_000)),
        (T0 + HOUR - 100_000, Some(T0 + HOUR + 100_000)),
        (T0 + 2 * HOUR + 1, None),
    ] {
        let filter = UsageFilter { since_ms, until_ms, ..UsageFilter::default() };
        let mut truth = Sums::default();
        for (_, entry) in &batch {
            if entry.at_unix_ms >= since_ms && until_ms.is_none_or(|until| entry.at_unix_ms < until) {
                truth.requests += 1;
                truth.uncounted += u64::from(!entry.usage_known);
                truth.estimated += u64::from(entry.usage_known && entry.estimated);
                truth.input_tokens += if entry.usage_known { entry.input_tokens } else { 0 };
                truth.output_tokens += if entry.usage_known { entry.output_tokens } else { 0 };
            }
        }
        assert_eq!(all_groups(&store, &filter), [truth; 9], "{since_ms} to {until_ms:?}");
    }
    let teams = store.used_by_teams(T0, None).unwrap();
    assert_eq!(
        teams.keys().map(String::as_str).collect::<Vec<_>>(),
        ["team-of-", "team-of-ci", "team-of-web"]
    );
    let of_ci = UsageFilter { key: Some("ci".into()), ..UsageFilter::default() };
    assert_eq!(all_groups(&store, &of_ci)[0].requests, 67);
    let of_nobody = UsageFilter { key: Some("nobody".into()), ..UsageFilter::default() };
    assert_eq!(all_groups(&store, &of_nobody)[0].requests, 0);
}

#[test]
fn pages_of_requests_cover_everything_once_the_newest_first() {
    let mut store = store("pages");
    let at = |n: u64| T0 + n / 4; // several at the same moment
    let batch: Vec<_> = (0..25).map(|n| (n * 200, entry(at(n), "ci", "llama", n, 1))).collect();
    store.move_in("j", 5_000, &batch).unwrap();
    let mut filter = RequestFilter::default();
    let mut found = Vec::new();
    loop {
        let page = store.requests(&filter, 4).unwrap();
        let Some(last) = page.last() else { break };
        filter.after = requests::Cursor::parse(&last.cursor.text());
        assert!(filter.after.is_some());
        found.extend(page.iter().map(|request| request.input_tokens));
    }
    assert_eq!(found, (0..25).rev().collect::<Vec<_>>());
    for text in ["", "1", "1-2", "1-2-3-4", "a-b-c"] {
        assert_eq!(requests::Cursor::parse(text), None, "{text}");
    }
}

#[test]
fn a_row_says_what_its_record_said() {
    let mut store = store("row");
    let record = Entry {
        fault: "rate_limit_exceeded".into(),
        fallback_for: "big".into(),
        user: "u-1".into(),
        cached_tokens: 3,
        cache_write_tokens: 4,
        reasoning_tokens: 2,
        stream: true,
        estimated: true,
        overhead_ns: 21_000,
        ..entry(T0, "ci", "llama", u64::MAX, 7)
    };
    store.move_in("j", 200, &[(0, record)]).unwrap();
    let request =
        store.requests(&RequestFilter { failed: true, ..RequestFilter::default() }, 1).unwrap().remove(0);
    let texts =
        [&request.key, &request.user, &request.model, &request.fallback_for, &request.fault, &request.api];
    assert_eq!(texts, ["ci", "u-1", "llama", "big", "rate_limit_exceeded", "chat"]);
    let tokens =
        [request.cached_tokens, request.cache_write_tokens, request.reasoning_tokens, request.output_tokens];
    assert_eq!(tokens, [3, 4, 2, 7]);
    assert_eq!((request.duration_us, request.first_token_us, request.overhead_us), (5_000, Some(1_000), 21));
    assert_eq!((request.stream, request.usage_known, request.estimated), (true, true, true));
    assert_eq!(request.input_tokens, 1 << 42, "what a backend claims is bounded, so that sums are");
}

#[test]
fn a_failed_batch_changes_nothing_and_may_be_tried_again() {
    let mut store = store("failed");
    store
        .connection
        .execute_batch("create trigger full before insert on hour begin select raise(abort, 'full'); end")
        .unwrap();
    let batch = [(0, entry(T0, "new-key", "llama", 1, 1))];
    assert!(store.move_in("j", 200, &batch).is_err());
    assert_eq!(store.moved_to("j").unwrap(), 0);
    store.connection.execute_batch("drop trigger full").unwrap();
    assert_eq!(store.move_in("j", 200, &batch).unwrap().rows, 1);
    let rows = store
        .requests(&RequestFilter { key: Some("new-key".into()), ..RequestFilter::default() }, 9)
        .unwrap();
    assert_eq!(rows.len(), 1, "the name was learnt anew");
}

#[test]
fn old_exchanges_go_and_their_sums_stay() {
    let mut store = store("retention");
    let batch: Vec<_> = (0..2_500).map(|n| (n * 200, entry(T0 + n, "ci", "llama", 1, 1))).collect();
    store.move_in("j", 500_000, &batch).unwrap();
    assert_eq!(store.forget_requests(T0 + 1_500).unwrap(), 1_000, "a step is small");
    assert_eq!(store.forget_requests(T0 + 1_500).unwrap(), 500);
    assert_eq!(store.forget_requests(T0 + 1_500).unwrap(), 0);
    let total = |store: &Store| {
        store.usage(Group::Total, &UsageFilter { since_ms: T0, ..UsageFilter::default() }).unwrap()
    };
    assert_eq!(total(&store)[0].sums.requests, 2_500);
    assert_eq!(store.fit(u64::MAX).unwrap(), 0);
    let before = store.bytes().unwrap();
    assert_eq!(store.fit(1).unwrap(), 1_000);
    assert!(store.bytes().unwrap() < before, "the file shrinks");
    assert_eq!(store.forget_hours(T0 + HOUR).unwrap(), 1);
    assert!(total(&store).is_empty());
    // A record that was moved before its row was deleted is known by the journal's position; the mover never goes back.
    assert_eq!(store.moved_to("j").unwrap(), 500_000);
}

#[test]
fn a_database_of_the_first_schema_is_brought_up_to_date_and_keeps_its_rows() {
    let path = folder_of("older").join("ledger.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(include_str!("schema/1.sql")).unwrap();
    connection
        .execute_batch("insert into hour values (500000, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 1, 1, 1); pragma user_version = 1")
        .unwrap();
    drop(connection);
    let mut store = Store::open(&path, false).unwrap();
    store
        .move_in("j", 200, &[(0, Entry { cache_write_tokens: 5, ..entry(T0, "ci", "llama", 1, 1) })])
        .unwrap();
    let total = all_groups(&store, &UsageFilter::default())[0];
    assert_eq!((total.requests, total.cache_write_tokens), (10, 5));
}

#[test]
fn a_schema_of_a_newer_program_is_refused() {
    let path = folder_of("newer").join("ledger.db");
    let store = Store::open(&path, false).unwrap();
    store.connection.pragma_update(None, "user_version", 99).unwrap();
    for opened in [Store::open(&path, false), Store::read(&path)] {
        let error = opened.err().expect("refused").to_string();
        assert!(error.contains("schema 99"), "{error}");
    }
}

#[test]
fn an_entry_of_the_audit_log_that_is_changed_removed_or_inserted_breaks_the_chain() {
    let mut store = store("audit");
    let entry = |n: u64| AuditEntry {
        at_ms: T0 + n,
        actor: "ops".to_owned(),
        action: "reload".to_owned(),
        after: format!("plan {n}"),
        ..AuditEntry::default()
    };
    for n in 0..5 {
        store.append_audit(&[entry(2 * n), entry(2 * n + 1)]).unwrap();
    }
    let chain = store.verify_audit().unwrap();
    assert_eq!(chain.entries, 10);
    let page = store.audit(0, Some(9), 2).unwrap();
    assert_eq!(page.iter().map(|sealed| sealed.sequence).collect::<Vec<_>>(), [8, 7]);
    for (change, at) in [
        ("update audit set after = 'plan 77' where sequence = 4", 4),
        ("update audit set at_ms = at_ms + 1 where sequence = 1", 1),
        ("delete from audit where sequence = 6", 6),
        ("update audit set hash = zeroblob(32) where sequence = 10", 10),
        ("update audit set actor = 'op', origin = 's' where sequence = 2", 2),
    ] {
        store.connection.execute_batch("savepoint before").unwrap();
        store.connection.execute_batch(change).unwrap();
        match store.verify_audit() {
            Err(StoreError::Tampered(found)) => assert_eq!(found, at, "{change}"),
            other => panic!("{change}: {other:?}"),
        }
        store.connection.execute_batch("rollback to before; release before").unwrap();
    }
    assert_eq!(store.verify_audit().unwrap(), chain);
}

#[test]
fn sums_of_a_month_read_hours_and_no_exchange_is_scanned() {
    let store = store("plan");
    for group in Group::ALL {
        let plan = explain(&store, group.sql());
        assert!(!plan.contains("SCAN exchange"), "{group:?}: {plan}");
        assert!(plan.contains("SEARCH hour") && plan.contains("SEARCH exchange"), "{group:?}: {plan}");
    }
    let plan = explain(&store, requests::PAGE);
    assert!(plan.contains("SEARCH e USING PRIMARY KEY (at_ms") && !plan.contains("TEMP B-TREE"), "{plan}");
    let plan = explain(&store, findings::ROWS);
    assert!(plan.contains("SEARCH e USING PRIMARY KEY (at_ms=? AND journal=? AND position=?)"), "{plan}");
    assert!(explain(&store, CHAIN).contains("SCAN audit"), "in the order of its key");
}

fn explain(store: &Store, sql: &str) -> String {
    let mut statement = store.connection.prepare(&format!("explain query plan {sql}")).unwrap();
    let count = statement.parameter_count();
    let nulls = vec![rusqlite::types::Null; count];
    let rows = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3)).unwrap();
    rows.map(std::result::Result::unwrap).collect::<Vec<_>>().join("\n")
}
