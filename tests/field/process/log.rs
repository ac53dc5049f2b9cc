//! The access log while somebody renames, removes or cuts its file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::{J, PATIENCE, ask, chat, eventually};

fn logging(origin: &Origin) -> Gateway {
    Gateway::start(&Config::simple(origin.port).tables("[access_log]\npath = \"./access.log\""))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The numbers of the exchanges, in the order of their lines, each of which has to be whole.
fn ids(path: &Path) -> Vec<String> {
    let text = read(path);
    assert!(text.is_empty() || text.ends_with('\n'), "half a line in {}", path.display());
    let id = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).map(|line| line["request_id"].to_string())
    };
    text.lines().map(|line| id(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn has(path: &Path, lines: usize) -> bool {
    eventually(PATIENCE, || read(path).lines().count() >= lines)
}

#[test]
fn a_renamed_file_is_left_and_a_new_one_begun() {
    for way in ["HUP", "reload"] {
        let origin = Origin::start();
        let gateway = logging(&origin);
        let (log, old) = (gateway.folder().join("access.log"), gateway.folder().join("access.log.1"));
        ask(&gateway, J, "one");
        assert!(has(&log, 1));
        std::fs::rename(&log, &old).expect("renamed");
        ask(&gateway, J, "two");
        assert!(has(&old, 2), "{way}: until then lines go to what is open");
        match way {
            "HUP" => gateway.signal("HUP"),
            _ => assert_eq!(gateway.reload().0, 200),
        }
        assert!(eventually(PATIENCE, || log.exists()), "{way}: without another line to write");
        ask(&gateway, J, "three");
        assert!(has(&log, 1), "{way}: {}", read(&log));
        assert_eq!((ids(&old).len(), ids(&log).len()), (2, 1), "{way}");
    }
}

#[test]
fn rotations_under_load_lose_and_double_nothing() {
    let origin = Origin::start();
    let gateway = Arc::new(logging(&origin));
    let log = gateway.folder().join("access.log");
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (gateway, over) = (Arc::clone(&gateway), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut client = gateway.connect();
                let mut asked = 0;
                while !over.load(Ordering::SeqCst) {
                    client.send(&chat(K1, "load", J));
                    assert_eq!(client.answer().expect("an answer").status(), 200);
                    asked += 1;
                    // So few that the queues hold them all while the machine's disk stands still.
                    std::thread::sleep(Duration::from_millis(5));
                }
                asked
            })
        })
        .collect();
    let mut files = Vec::new();
    for turn in 0..10 {
        assert!(eventually(PATIENCE * 6, || read(&log).lines().count() >= 20), "turn {turn}");
        let old = gateway.folder().join(format!("access.log.{turn}"));
        std::fs::rename(&log, &old).expect("renamed");
        gateway.signal("HUP");
        files.push(old);
        assert!(eventually(PATIENCE, || log.exists()), "turn {turn}");
    }
    over.store(true, Ordering::SeqCst);
    let asked: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    files.push(log);
    let count = || files.iter().map(|file| read(file).lines().count()).sum::<usize>();
    let numbers = || {
        ["ringway_records_dropped_total", "ringway_log_lines_lost_total", "ringway_log_lines_total"]
            .map(|name| gateway.metric(name, "") as usize)
    };
    // A disk that stands still for long fills the queues: what they do not hold is counted, and nothing else is missing.
    let whole = eventually(PATIENCE * 6, || count() + numbers()[0] + numbers()[1] >= asked);
    let ([dropped, lost, written], lines) = (numbers(), count());
    assert!(whole, "{lines} lines for {asked} exchanges: {dropped} dropped, {lost} lost, {written} written");
    let all: Vec<String> = files.iter().flat_map(|file| ids(file)).collect();
    assert_eq!(all.len() + dropped + lost, asked);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a line is doubled");
}

#[test]
fn a_file_that_cannot_be_opened_anew_is_told_and_the_old_one_written_on() {
    let origin = Origin::start();
    let gateway = Gateway::start(
        &Config::simple(origin.port).file("logs", "").tables("[access_log]\npath = \"./access.log\""),
    );
    let (log, old) = (gateway.folder().join("access.log"), gateway.folder().join("old.log"));
    std::fs::rename(&log, &old).expect("renamed");
    std::fs::create_dir(&log).expect("a folder in its place");
    let (status, answer) = gateway.reload();
    assert!(
        status == 200 && answer.contains("access log") && answer.contains("as before"),
        "{status} {answer}"
    );
    assert!(eventually(PATIENCE, || gateway.said().contains("access.log: ")), "{}", gateway.said());
    ask(&gateway, J, "one");
    assert!(has(&old, 1), "nothing was written on");
    std::fs::remove_dir(&log).expect("removed");
    let (status, answer) = gateway.reload();
    assert!(status == 200 && !answer.contains("access log"), "{status} {answer}");
    ask(&gateway, J, "two");
    assert!(has(&log, 1));
    assert_eq!((ids(&old).len(), ids(&log).len()), (1, 1));
}

/// logrotate sends its signal whatever state the configuration is in.
#[test]
fn a_reload_that_is_refused_opens_the_file_anew_all_the_same() {
    let origin = Origin::start();
    let gateway = logging(&origin);
    let (log, old) = (gateway.folder().join("access.log"), gateway.folder().join("access.log.1"));
    gateway.rewrite_text("listen = ");
    std::fs::rename(&log, &old).expect("renamed");
    gateway.signal("HUP");
    assert!(eventually(PATIENCE, || log.exists()));
    assert!(eventually(PATIENCE, || gateway.said().contains("not reloaded")), "{}", gateway.said());
    ask(&gateway, J, "one");
    assert!(has(&log, 1));
}

#[test]
fn a_file_that_is_cut_short_goes_on_from_its_start() {
    let origin = Origin::start();
    let gateway = logging(&origin);
    let log = gateway.folder().join("access.log");
    (0..5).for_each(|turn| _ = ask(&gateway, J, &format!("before-{turn}")));
    assert!(has(&log, 5));
    std::fs::OpenOptions::new().write(true).truncate(true).open(&log).expect("cut");
    ask(&gateway, J, "after");
    assert!(has(&log, 1));
    assert_eq!(ids(&log).len(), 1, "{:?}", read(&log));
}
