//! No circles of imports between the files of a room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{File, code, sources};

/// The code of a room's files by their modules, such as `shard::dispatch::dial`.
type Modules = BTreeMap<String, String>;

/// The modules that one of them imports from its own room: `super::..`, `crate::ROOM::..`, and those below it by name.
fn imported(own: &str, modules: &Modules) -> Vec<String> {
    let (code, words) = (&modules[own], own.split("::").collect::<Vec<_>>());
    let mut found = Vec::new();
    let mut resolve = |path: Vec<&str>| {
        let prefixes = (1..=path.len()).rev().map(|length| path[..length].join("::"));
        found.extend(prefixes.into_iter().find(|module| modules.contains_key(module)));
    };
    for (at, _) in code.match_indices("super::") {
        if !code[..at].ends_with("super::") {
            let rest = code[at..].trim_start_matches("super::");
            let up = (code.len() - at - rest.len()) / "super::".len();
            let base = &words[..words.len().saturating_sub(up)];
            first_paths(rest).iter().for_each(|path| resolve([base, path].concat()));
        }
    }
    let room = format!("crate::{}::", words[0]);
    for (at, _) in code.match_indices(&room) {
        first_paths(&code[at + room.len()..]).iter().for_each(|path| resolve([&words[..1], path].concat()));
    }
    for module in modules.keys() {
        let below = module.strip_prefix(own).and_then(|rest| rest.strip_prefix("::"));
        let Some(name) = below.filter(|name| !name.contains("::")) else { continue };
        let starts = |at: usize| {
            !code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before))
        };
        if code.match_indices(&format!("{name}::")).any(|(at, _)| starts(at)) {
            found.push(module.clone());
        }
    }
    // A module is one with those inside it: they may name what stands around them.
    found.retain(|module| module != own && !own.starts_with(&format!("{module}::")));
    found
}

/// The paths that start here: one, or those of a `{..}` list, each up to its last module.
fn first_paths(text: &str) -> Vec<Vec<&str>> {
    let path = |text| -> Vec<&str> {
        let end = str::find(text, |char: char| !char.is_alphanumeric() && char != '_' && char != ':');
        text[..end.unwrap_or(text.len())].split("::").filter(|word| !word.is_empty()).collect()
    };
    let Some(list) = text.strip_prefix('{') else { return vec![path(text)] };
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths.push(path(list[start..at].trim()));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

/// The first circle of imports between the files of a room, as the modules on it.
fn circle(files: &BTreeMap<String, String>, room: &str) -> Option<Vec<String>> {
    let in_room = |(path, text): &(&String, &String)| {
        let file = File { path, text };
        file.room() == room && !file.is_test()
    };
    let modules: Modules = files
        .iter()
        .filter(in_room)
        .map(|(path, text)| {
            let module = path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
            (module, code(text))
        })
        .collect();
    let edges: BTreeMap<&str, Vec<String>> =
        modules.keys().map(|module| (module.as_str(), imported(module, &modules))).collect();
    // A module that imports none of those left is on no circle.
    let mut left: Vec<&str> = edges.keys().copied().collect();
    loop {
        let before = left.clone();
        left.retain(|module| edges[module].iter().any(|to| before.contains(&to.as_str())));
        if left.len() == before.len() {
            break;
        }
    }
    let mut path = vec![(*left.first()?).to_owned()];
    loop {
        let next = edges[path.last()?.as_str()].iter().find(|to| left.contains(&to.as_str()))?.clone();
        let start = path.iter().position(|module| *module == next);
        path.push(next);
        if let Some(start) = start {
            return Some(path.split_off(start));
        }
    }
}

#[test]
fn the_files_of_a_room_import_each_other_without_a_circle() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let rooms: BTreeSet<String> =
        files.iter().map(|(path, text)| File { path, text }.room().to_owned()).collect();
    for room in rooms {
        assert_eq!(circle(&files, &room), None, "in {room}");
    }
}

#[test]
fn a_circle_between_files_is_found() {
    let find = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        circle(&files, "shard").map(|modules| modules.join(" > "))
    };
    for (files, expected) in [
        (&[("shard/a.rs", "use super::b::B;"), ("shard/b.rs", "use super::c;")][..], None),
        (
            &[("shard/a.rs", "use super::b::B;"), ("shard/b.rs", "use crate::shard::a;")],
            Some("shard::a > shard::b > shard::a"),
        ),
        (
            &[
                ("shard/a.rs", "use super::{b, c::C};"),
                ("shard/b.rs", ""),
                ("shard/c.rs", "super::a::run();"),
            ],
            Some("shard::a > shard::c > shard::a"),
        ),
        (
            &[
                ("shard/mod.rs", "mod a;\nmod b;\npub use a::A;"),
                ("shard/a.rs", "use super::Shard;\nuse super::b;"),
                ("shard/b.rs", "use super::a::A;"),
            ],
            Some("shard::a > shard::b > shard::a"),
        ),
        (&[("shard/mod.rs", "mod a;\npub use a::A;"), ("shard/a.rs", "use super::Shard;")], None),
        (
            &[
                ("shard/d/mod.rs", "mod e;\nuse super::a;"),
                ("shard/d/e.rs", "use super::super::a;"),
                ("shard/a.rs", "use super::d::e::E;"),
            ],
            Some("shard::a > shard::d::e > shard::a"),
        ),
        (&[("shard/a.rs", "// super::b\nlet a = 1;"), ("shard/b.rs", "use super::a;")], None),
    ] {
        assert_eq!(find(files).as_deref(), expected, "{files:?}");
    }
}
