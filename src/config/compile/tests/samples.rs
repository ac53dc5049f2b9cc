//! The files in config/.

use super::*;
use crate::config::schema;
use crate::policy::auth::credential;

fn sample(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

#[test]
fn every_sample_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".toml") {
            continue;
        }
        let compiled = with(&Fake::new(), &sample(&name));
        assert!(compiled.is_ok(), "{name}: {}", compiled.err().unwrap());
        count += 1;
    }
    assert_eq!(count, 7);
}

/// What stops a service or a container first asks a balancer to look elsewhere.
#[test]
fn a_service_and_a_container_accept_for_a_while_after_sigterm() {
    for name in ["service.toml", "container.toml"] {
        let plan = with(&Fake::new(), &sample(name)).unwrap().plan;
        assert_eq!(plan.timeouts.accept_after_term, Nanos(5_000_000_000), "{name}");
    }
    let plan = with(&Fake::new(), &sample("minimal.toml")).unwrap().plan;
    assert_eq!(plan.timeouts.accept_after_term, Nanos(0), "the default");
    assert_eq!(plan.timeouts.keep_alive, Nanos(75_000_000_000), "longer than the 60 s of proxies");
}

#[test]
fn the_benchmark_is_what_was_published() {
    let Compiled { plan, settings, .. } = with(&Fake::new(), &sample("bench.toml")).unwrap();
    assert_eq!(plan.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.admin.to_string(), "127.0.0.1:9090");
    assert_eq!(settings.access_log, AccessLog::Off);
    assert_eq!(plan.shards.iter().map(|shard| shard.core).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(plan.backends[0].target, Target::Tcp { host: "127.0.0.1".into(), port: 9001 });
    assert!(plan.backends[0].health.path.is_some());
    let key =
        plan.key_table.find(&credential::digest(b"sk-rw-bench-0123456789abcdef0123456789abcdef")).unwrap();
    let key = plan.key(key);
    assert!(
        key.grant.models[plan.names["mock-model"].index()]
            && key.grant.limits.requests.is_some()
            && key.grant.limits.tokens.is_some()
    );
}

#[test]
fn the_quickstart_key_is_the_one_in_its_comment() {
    let plan = with(&Fake::new(), &sample("quickstart.toml")).unwrap().plan;
    assert!(plan.key_table.find(&credential::digest(b"sk-rw-demo-7d1f0c9a5b3e48629f4e")).is_some());
    assert_eq!(plan.model(plan.names["demo"]).pool.len(), 2);
}

/// The full sample with every `#key = value` and `#[table]` switched on.
fn full_uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    sample("full.toml").lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_full_sample_holds_with_every_key_switched_on() {
    let compiled = with(&Fake::new(), &full_uncommented());
    assert!(compiled.is_ok(), "{}", compiled.err().unwrap());
}

#[test]
fn the_full_sample_shows_every_key_there_is() {
    let written: toml::Table = full_uncommented().parse().unwrap();
    let schema = schema();
    let mut missing = Vec::new();
    compare(schema.as_value(), schema.as_value(), &toml::Value::Table(written), "", &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}

/// Every property of `schema` that `written` lacks. Of tables under names of the operator's, one has to have it.
fn compare(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    written: &toml::Value,
    path: &str,
    missing: &mut Vec<String>,
) {
    let alternatives = schema.get("anyOf").and_then(|any| any.as_array()).into_iter().flatten();
    for schema in alternatives.chain([schema]) {
        let target = schema.get("$ref").and_then(|to| to.as_str()).and_then(|to| root.pointer(&to[1..]));
        if let Some(target) = target {
            compare(root, target, written, path, missing);
        }
    }
    let Some(table) = written.as_table() else { return };
    for (key, property) in schema.get("properties").and_then(|all| all.as_object()).into_iter().flatten() {
        let path = format!("{path}.{key}");
        match table.get(key) {
            Some(value) => compare(root, property, value, &path, missing),
            None => missing.push(path),
        }
    }
    if let Some(named) = schema.get("additionalProperties").filter(|named| named.is_object()) {
        let lacks = |value: &toml::Value| {
            let mut missing = Vec::new();
            compare(root, named, value, &format!("{path}.*"), &mut missing);
            missing
        };
        let all: Vec<Vec<String>> = table.values().map(lacks).collect();
        let Some((first, rest)) = all.split_first() else { return };
        missing.extend(first.iter().filter(|key| rest.iter().all(|other| other.contains(key))).cloned());
    }
}

#[test]
fn the_full_sample_shows_the_defaults() {
    let written = read(Path::new("f"), &sample("full.toml")).unwrap().file;
    let named = File {
        backend: BTreeMap::new(),
        model: BTreeMap::new(),
        price: BTreeMap::new(),
        team: BTreeMap::new(),
        key: BTreeMap::new(),
        guard: BTreeMap::new(),
        ..written
    };
    assert_eq!(named, File::default());
}

#[test]
fn the_schema_refuses_unknown_keys_and_names_the_choices() {
    let schema = serde_json::to_string(&schema()).unwrap();
    for part in [
        "\"additionalProperties\":false",
        "\"llama.cpp\"",
        "\"io_uring\"",
        "\"default\":\"10s\"",
        "first_token",
    ] {
        assert!(schema.contains(part), "{part}\n{schema}");
    }
}
