//! The rules of the house, as tests: who may import whom, what each room must not name, how long a file may be.
//!
//! It reads the source as text: comments, strings and tests are set aside, the rest is searched for `crate::ROOM` and for
//! banned names. Blunt on purpose; a rule that this cannot see is for review.

mod circles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who may import whom: rooms to the left only, so there are no circles.
const MAY_IMPORT: [(&str, &[&str]); 18] = [
    ("alloc", &[]),
    ("units", &[]),
    ("sync", &[]),
    ("clock", &["units"]),
    ("error", &["units"]),
    ("wire", &["error", "units"]),
    ("dialect", &["wire", "error", "units"]),
    ("provider", &["dialect", "wire", "error", "units"]),
    ("policy", &["dialect", "wire", "error", "sync", "units"]),
    ("plan", &["policy", "provider", "dialect", "wire", "error", "sync", "units"]),
    ("config", &["plan", "policy", "provider", "dialect", "wire", "error", "units"]),
    ("net", &["error", "sync", "units"]),
    ("observe", &["error", "sync", "units"]),
    ("store", &["observe", "error", "sync", "units"]),
    (
        "shard",
        &[
            "clock", "observe", "net", "plan", "policy", "provider", "dialect", "wire", "error", "sync",
            "units",
        ],
    ),
    (
        "coordinator",
        &[
            "clock", "store", "observe", "config", "plan", "policy", "provider", "dialect", "wire", "error",
            "units",
        ],
    ),
    (
        "admin",
        &[
            "coordinator",
            "clock",
            "store",
            "observe",
            "config",
            "plan",
            "policy",
            "provider",
            "dialect",
            "wire",
            "error",
            "units",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "coordinator",
            "shard",
            "store",
            "observe",
            "net",
            "config",
            "plan",
            "policy",
            "provider",
            "dialect",
            "wire",
            "error",
            "units",
        ],
    ),
];

/// No runtime, socket, thread, file, environment or clock.
const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "thread",
    "fs",
    "env",
    "process",
    "Instant",
    "SystemTime",
    "monoio",
    "tokio",
    "socket2",
    "nix",
    "hyper",
    "axum",
];

/// What a room must not name, in code that is not a test.
const BANNED: [(&str, &[&str]); 9] = [
    ("wire", IMPURE),
    ("dialect", IMPURE),
    ("provider", IMPURE),
    ("policy", IMPURE),
    ("plan", &["monoio", "tokio", "Mutex", "RwLock", "Instant", "SystemTime", "fs", "env"]),
    ("shard", &["Mutex", "RwLock", "Condvar", "spawn_blocking", "thread", "tokio", "fs", "env"]),
    ("net", &["Mutex", "RwLock", "Condvar", "tokio"]),
    ("coordinator", &["monoio"]),
    ("admin", &["monoio"]),
];

/// A file that no longer fits in one head.
const LINES_MAX: usize = 500;

/// The files that may have unsafe code, and this one, which names it.
const ONLY_UNSAFE: [&str; 4] = ["alloc.rs", "net/busy_poll.rs", "observe/journal/mapping.rs", "tidy.rs"];

/// Where endpoints may be told apart by their names: in their table and what reads it, and in what each kind of backend serves.
/// Everybody else asks a column of the table.
const ONLY_ENDPOINTS: [&str; 2] = ["dialect/", "provider/"];

/// One file of a room.
struct File<'a> {
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    /// `wire/head.rs` and `wire.rs` are of room `wire`.
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or(self.path);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Whether the whole file is there for tests only.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.ends_with("/interleavings.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/simulation/")
            || self.path.ends_with("/fixture.rs")
    }

    /// Everything wrong with it.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let count = self.text.lines().count();
        if count > LINES_MAX {
            faults.push(format!("{}: {count} lines, at most {LINES_MAX}", self.path));
        }
        if self.text.contains("allow(unsafe_code)") && !ONLY_UNSAFE.contains(&self.path) {
            faults.push(format!("{}: unsafe code; only {ONLY_UNSAFE:?} may have it", self.path));
        }
        let room = self.room();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            if !["lib", "main", "tidy"].contains(&room) {
                faults.push(format!("{}: no such room; add it to the table of imports", self.path));
            }
            return faults;
        };
        let banned = BANNED.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, names)| names);
        let code = if self.is_test() { String::new() } else { code(self.text) };
        for (number, line) in code.lines().enumerate() {
            let at = |fault: String| format!("{}:{}: {fault}", self.path, number + 1);
            let imports =
                imports(line).into_iter().filter(|to| to != room && !allowed.contains(&to.as_str()));
            faults.extend(imports.map(|to| at(format!("{room} must not import {to}"))));
            if !ONLY_ENDPOINTS.iter().any(|place| self.path.starts_with(place)) {
                faults.extend(endpoint(line).map(|name| at(format!("only the table asks for Api::{name}"))));
            }
            let words = words(line).filter(|word| banned.contains(word));
            faults.extend(words.map(|word| at(format!("{room} must not name {word}"))));
        }
        faults
    }
}

/// The code of a file up to its tests: comments and the contents of strings blanked, lines kept. A `crate::{..}` list over several lines is
/// brought to its first line.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut code = String::with_capacity(before_tests.len());
    for line in before_tests.lines() {
        code.push_str(&without_strings_and_comments(line));
        let open = code.rfind("crate::{").is_some_and(|at| !code[at..].contains(';'));
        code.push_str(if open { " " } else { "\n" });
    }
    code
}

/// One line without what stands between quotes or after `//`. Strings over several lines are not followed.
fn without_strings_and_comments(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.char_indices();
    let mut inside = false;
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if inside => {
                chars.next();
            }
            '"' if !line[..at].ends_with('\'') => inside = !inside,
            '/' if !inside && line[at..].starts_with("//") => break,
            _ if !inside => out.push(char),
            _ => {}
        }
    }
    out
}

/// The rooms that a line of code names: `crate::wire::..` and `use crate::{units, wire::head}`.
fn imports(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => rooms.extend(first_word(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut start = 0;
                for (at, char) in list.char_indices() {
                    match char {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            rooms.extend(first_word(list[start..at].trim()));
                            start = at + 1;
                            if char == '}' {
                                break;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

/// The endpoint that a line of code names.
fn endpoint(line: &str) -> Option<&str> {
    let names = line.split("Api::").skip(1).filter_map(|rest| words(rest).next());
    let is_endpoint = |name: &&str| {
        name.starts_with(|first: char| first.is_ascii_uppercase()) && name.contains(char::is_lowercase)
    };
    names.into_iter().find(is_endpoint)
}

fn first_word(text: &str) -> Option<String> {
    let word = words(text).next()?;
    // Macros and types at the root of the crate are nobody's room.
    (text.starts_with(word) && word.starts_with(|first: char| first.is_ascii_lowercase()))
        .then(|| word.to_owned())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

/// Every source file below `folder`, by its path from there.
fn sources(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_house_keeps_its_rules() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.contains_key("lib.rs") && files.len() > 20, "the search found the source");
    let faults: Vec<String> = files.iter().flat_map(|(path, text)| File { path, text }.faults()).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn security_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut files = sources(&root.join("src"));
    files.append(&mut sources(&root.join("tests")));
    let names: Vec<(&str, &str)> =
        page.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect();
    assert!(names.len() > 30, "the search found the names");
    for (file, name) in names {
        let found = |(path, text): (&String, &String)| {
            let is_file = path.ends_with(&format!("{file}.rs")) || path.contains(&format!("{file}/"));
            let place = format!("fn {name}()");
            is_file && text.split("#[test]").skip(1).any(|rest| rest.trim_start().starts_with(&place))
        };
        assert!(files.iter().any(found), "there is no test {file}::{name}");
    }
}

#[test]
fn the_table_of_imports_has_no_circle() {
    for (at, (room, allowed)) in MAY_IMPORT.iter().enumerate() {
        for to in *allowed {
            assert!(
                MAY_IMPORT[..at].iter().any(|(left, _)| left == to),
                "{room} imports {to}, which is not to its left"
            );
        }
    }
}

#[test]
fn the_two_planes_never_meet() {
    for (room, other) in [
        ("shard", "coordinator"),
        ("coordinator", "shard"),
        ("shard", "admin"),
        ("admin", "shard"),
        ("coordinator", "admin"),
    ] {
        let (_, allowed) = MAY_IMPORT.iter().find(|(name, _)| *name == room).unwrap();
        assert!(!allowed.contains(&other));
    }
}

#[test]
fn what_breaks_a_rule_is_found() {
    for (path, text, fault) in [
        ("wire/head.rs", "use crate::plan::Plan;", "wire/head.rs:1: wire must not import plan"),
        ("wire/head.rs", "\nuse crate::{error::Fault, net};", "wire/head.rs:2: wire must not import net"),
        (
            "wire/head.rs",
            "use crate::{\n    error::{Fault, FaultKind},\n    shard,\n};",
            "wire must not import shard",
        ),
        ("wire/head.rs", "let plan = crate::plan::new();", "wire must not import plan"),
        ("wire.rs", "use std::time::Instant;", "wire must not name Instant"),
        ("wire.rs", "let now = std::time::SystemTime::now();", "wire must not name SystemTime"),
        ("dialect/route.rs", "use std::{fs, io};", "dialect must not name fs"),
        ("provider/mod.rs", "std::env::var(\"A\")", "provider must not name env"),
        ("policy/limits/bucket.rs", "use std::net::TcpStream;", "policy must not name TcpStream"),
        ("policy/limits/bucket.rs", "thread::sleep(tick)", "policy must not name thread"),
        ("policy/limits/bucket.rs", "let text = \"\\\"\"; tokio::spawn(a);", "policy must not name tokio"),
        ("shard/relay.rs", "cell: Mutex<u8>,", "shard must not name Mutex"),
        ("shard/mod.rs", "std::thread::spawn(run)", "shard must not name thread"),
        ("shard/mod.rs", "use crate::coordinator::Log;", "shard must not import coordinator"),
        ("coordinator/mod.rs", "use crate::admin;", "coordinator must not import admin"),
        ("shard/relay.rs", "if api == Api::Chat {", "shard/relay.rs:1: only the table asks for Api::Chat"),
        ("shard/relay.rs", "let (Api::ALL, Api::CountTokens)", "only the table asks for Api::CountTokens"),
        ("coordinator/mod.rs", "use crate::shard;", "coordinator must not import shard"),
        ("coordinator/mod.rs", "monoio::spawn(a);", "coordinator must not name monoio"),
        ("cellar/mod.rs", "", "cellar/mod.rs: no such room"),
        ("wire/head.rs", &"\n".repeat(LINES_MAX + 1), "wire/head.rs: 501 lines"),
    ] {
        let faults = File { path, text }.faults();
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
    }
}

#[test]
fn what_keeps_the_rules_is_left_alone() {
    for (path, text) in [
        ("wire/head.rs", "use crate::units::Span;\nuse crate::wire::fields;"),
        ("wire/head.rs", "use crate::{\n    error::{Fault, FaultKind},\n    units,\n};\nuse std::fmt;"),
        ("wire/head.rs", "/// Unlike crate::plan, knows no Instant.\nlet a = 1; // thread"),
        ("wire/head.rs", "let a = \"std::fs crate::plan\";"),
        ("wire/head.rs", "use std::net::Ipv6Addr;"),
        ("wire/head.rs", "#[cfg(test)]\nmod tests {\n    use std::thread;\n}"),
        ("policy/limits/bucket/tests.rs", "use std::thread;"),
        ("policy/limits/bucket.rs", "let environment = threads;"),
        ("shard/mod.rs", "use crate::{net, plan::Plan};"),
        ("cli/serve.rs", "use crate::coordinator; std::thread::spawn(crate::shard::ShardParts::listen);"),
        ("error.rs", "use crate::units::Nanos;"),
        ("shard/relay.rs", "Api::ALL.iter().map(Api::name)"),
        ("dialect/table.rs", "let api = Api::Chat;"),
        ("provider/list.rs", "&[Api::Chat]"),
        ("wire/mod.rs", "crate::Thing"),
    ] {
        assert_eq!(File { path, text }.faults(), Vec::<String>::new());
    }
}
