//! What the documents promise, tried.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use support::folder::Folder;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, echo};
use support::{J, PATIENCE, chat, chat_head, eventually};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text between fences of this language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let parts = text.split(&opening).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// `over` laid over `base`: tables are merged, everything else is replaced.
fn merged(mut base: toml::Table, over: toml::Table) -> toml::Table {
    for (key, value) in over {
        let value = match (base.remove(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => toml::Value::Table(merged(old, new)),
            (_, new) => new,
        };
        base.insert(key, value);
    }
    base
}

/// The pages for operators, by path.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(root().join("docs")).expect("the folder of the pages").flatten();
    let names = docs.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    pages.extend(
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "tests/README.md", "loadtest/README.md"]
            .map(str::to_owned),
    );
    pages.sort();
    pages
}

/// The variables that a configuration takes secrets from.
fn variables(text: &str) -> BTreeSet<&str> {
    text.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// `ringway check` accepts every example. Those of the README are whole configurations; the first of docs/configuration.md is
/// one too, and the others there are changes to it. On other pages each example adds to those before it on the page. What depends
/// on the machine is replaced: secrets, and cores.
#[test]
fn every_example_of_the_pages_is_accepted() {
    let folder = Folder::new("pages");
    let secret = folder.file("admin-token", "4f0c9b1d7e6a5c3b2a1908f7e6d5c4b3a2910f8e7d6c5b4a");
    let examples = fenced(&document("docs/configuration.md"), "toml");
    let first: toml::Table = examples[0].parse().expect("TOML");
    let keys = examples.iter().find(|example| example.contains("[key.")).expect("an example of a key");
    let base = merged(first.clone(), keys.parse().expect("TOML")); // other machines are served with keys only
    let mut checked = 0;
    for page in pages() {
        let mut before = base.clone();
        for (index, example) in fenced(&document(&page), "toml").iter().enumerate() {
            let here = example.replace("/etc/ringway/admin-token", &secret.to_string_lossy());
            let here = here.replace("\"0-15\"", "[0]").replace("[shards.core.3]", "[shards.core.0]");
            let table: toml::Table =
                here.parse().unwrap_or_else(|error| panic!("{page}, example {index}: {error}\n{example}"));
            let is_whole = page == "README.md" || (page == "docs/configuration.md" && index == 0);
            let table = if is_whole { table } else { merged(before.clone(), table) };
            if page != "docs/configuration.md" {
                before = table.clone();
            }
            let file = folder.path().join("ringway.toml");
            let text = table.to_string();
            std::fs::write(&file, &text).expect("a file");
            let mut command = Command::new(support::binary());
            command.arg("check").arg(&file);
            command.envs(variables(&text).into_iter().map(|name| (name, "user:7c2b9e40f1a86d35")));
            let output = command.output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{page}, example {index}: {said}\n{example}");
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked} examples");
}

/// Every link to a file leads to one.
#[test]
fn links_of_the_pages_lead_somewhere() {
    for name in pages() {
        let text = document(&name);
        let path = root().join(&name);
        let folder = path.parent().expect("a page is in a folder");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = folder.join(target.split('#').next().unwrap_or(target));
            assert!(path.exists(), "{name} links to {target}, which does not exist");
        }
    }
}

fn last_line(gateway: &Gateway, count: usize) -> Value {
    let file = gateway.folder().join("access.log");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    assert!(eventually(PATIENCE, || read().lines().count() >= count), "{count} lines");
    serde_json::from_str(read().lines().last().expect("a line")).expect("JSON")
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Milliseconds of the day in `2026-11-22T10:11:12.123Z`.
fn of_day(time: &str) -> u64 {
    let part = |range: std::ops::Range<usize>| time[range].parse::<u64>().expect("digits");
    ((part(11..13) * 60 + part(14..16)) * 60 + part(17..19)) * 1000 + part(20..23)
}

/// The table of docs/operations.md names every field of a line, and says the truth of what can be measured.
#[test]
fn the_access_log_is_what_the_page_says() {
    let origin = Origin::scripted(|talk| {
        talk.pause(Duration::from_millis(1_500));
        echo(talk)
    });
    let config = Config::simple(origin.port).tables("[access_log]\npath = \"./access.log\"");
    let gateway = Gateway::start(&config);

    // A head that takes its time, a body that does, too, and a backend.
    let mut client = gateway.connect();
    let request = String::from_utf8(chat(K1, "measured", J)).expect("text");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    client.send(&head.as_bytes()[..30]);
    origin_pause(1_000);
    client.send(format!("{}\r\n\r\n", &head[30..]).as_bytes());
    let began = unix_ms();
    origin_pause(700);
    client.send(body.as_bytes());
    let mut answered = 0;
    let answer = loop {
        client.read_some(PATIENCE);
        answered = answered.max(client.buffer.len());
        if let Ok(support::strict::Step::Done(answer, _)) =
            support::strict::answer(&client.buffer, false, false)
        {
            break answer;
        }
    };
    assert_eq!(answer.status(), 200);
    let line = last_line(&gateway, 1);
    assert_eq!(line["request_bytes"], request.len(), "head and body");
    assert_eq!(line["response_bytes"], answered, "head and body");
    let duration = line["duration_ms"].as_f64().expect("a number");
    assert!((2_150.0..3_100.0).contains(&duration), "{duration} ms: without the head, with the body");
    let late =
        (of_day(line["time"].as_str().expect("a time")) + 86_400_000 - began % 86_400_000) % 86_400_000;
    assert!(!(900..86_399_000).contains(&late), "{late} ms after its head: {line}");

    // Framing counts.
    let framed =
        format!("{}Transfer-Encoding: chunked\r\n\r\n1b\r\n{J}\r\n0\r\n\r\n", chat_head(K1, "chunks"));
    client.buffer.clear();
    client.send(framed.as_bytes());
    assert_eq!(client.answer().expect("an answer").status(), 200);
    assert_eq!(last_line(&gateway, 2)["request_bytes"], framed.len());

    let page = document("docs/operations.md");
    let table = page.split("<!-- access log -->").nth(1).expect("the table of the access log");
    let cells = table.lines().filter_map(|row| row.strip_prefix("| `")?.split(" |").next());
    let named: BTreeSet<String> =
        cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect();
    let real: BTreeSet<String> = line.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(named, real);
}

/// Time that passes because a client is slow.
fn origin_pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
