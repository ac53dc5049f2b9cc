//! `ringway check`: everything that is wrong, or one line for everything that would run.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, print};
use crate::config::{self, AccessLog, Compiled, Process, Settings};
use crate::dialect::Api;
use crate::plan::{Backend, Holder, Issuer, Key, Listener, Model, Plan, Target, Team};
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::caller::CallerLimits;
use crate::provider::Place;

/// Prints the summary, or every problem and exits with 1.
pub(super) fn command(named: Option<PathBuf>) -> ExitCode {
    let loaded = config::locate(named).and_then(|path| Ok((config::load(&path, &Process)?, path)));
    match loaded {
        Ok((compiled, path)) => print(&format!("{}: holds\n{}", path.display(), summary(&compiled))),
        Err(problems) => {
            let count = problems.list.len();
            complain(&format!("{problems}\n{count} {}", if count == 1 { "problem" } else { "problems" }))
        }
    }
}

/// One line per listener, backend, model and key, then the notes. Without a secret: keys are known by their names.
fn summary(compiled: &Compiled) -> String {
    let Compiled { plan, settings, notes } = compiled;
    let mut lines: Vec<String> = plan.listeners.iter().map(listener).collect();
    let token = if settings.admin_token.is_some() { ", with a token" } else { "" };
    lines.push(format!("admin {}{token}", settings.admin));
    lines.push(shards(plan, settings));
    lines.extend(settings.shared.iter().map(|shared| {
        let (gateways, url) = (shared.gateways, &shared.url);
        format!("limits shared by {gateways} gateways at {url}; those in flight and of end users are divided")
    }));
    for row in &plan.backends {
        lines.push(backend(row));
        lines.extend(endpoints(row));
    }
    lines.extend(plan.models.iter().map(|row| model(plan, row)));
    lines.extend(plan.issuers.iter().map(issuer));
    lines.extend(plan.teams.iter().map(|row| team(plan, row)));
    lines.extend(plan.keys.iter().map(|row| key(plan, row)));
    if !plan.keys_required {
        lines.push("no keys: whoever can connect may use every model".to_owned());
    }
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

fn listener(listener: &Listener) -> String {
    format!("listener {} {}", listener.address, if listener.tls.is_some() { "https" } else { "http" })
}

fn shards(plan: &Plan, settings: &Settings) -> String {
    let cores: Vec<String> =
        plan.shards.iter().filter_map(|shard| shard.core).map(|core| core.to_string()).collect();
    let place =
        if cores.is_empty() { "not pinned".to_owned() } else { format!("on cores {}", cores.join(", ")) };
    let log = match &settings.access_log {
        AccessLog::Off => "off".to_owned(),
        AccessLog::Stdout => "to stdout".to_owned(),
        AccessLog::File(path) => format!("to {}", path.display()),
    };
    format!("shards {} {place}, driver {}, access log {log}", plan.shards.len(), settings.driver.name())
}

fn backend(backend: &Backend) -> String {
    let mut line = format!("backend {} {} ", backend.name, backend.provider.kind.name());
    line.push_str(&server(backend));
    if let Some(proxy) = &backend.proxy {
        let _ = write!(line, " via proxy {proxy}");
    }
    match &backend.health.path {
        Some(path) => line.push_str(&format!(", asked at {path} every {}", backend.health.interval)),
        None => line.push_str(", not probed"),
    }
    if backend.tls.as_ref().is_some_and(|tls| !tls.verified) {
        line.push_str(", CERTIFICATE NOT VERIFIED");
    }
    if !backend.credential_lines.is_empty() {
        line.push_str(", with a credential");
    }
    bound(&mut line, backend.in_flight_max);
    line
}

/// Where a backend is, without any path.
fn server(backend: &Backend) -> String {
    let scheme = if backend.tls.is_some() { "https" } else { "http" };
    match &backend.target {
        Target::Unix(path) => format!("unix:{}", path.display()),
        Target::Tcp { .. } => format!("{scheme}://{}", String::from_utf8_lossy(&backend.authority)),
    }
}

/// The URL of every API that a backend serves. Of a parameter that looks like a secret only the name is shown.
fn endpoints(backend: &Backend) -> Vec<String> {
    let line = |api: Api| {
        let mut target = Vec::new();
        // A place in a path that a model's name takes is shown as such.
        let place = Place { api, model: b"MODEL", id: b"", streams: false };
        backend.provider.target(&place, &backend.base, b"", &mut target);
        let mut target = String::from_utf8_lossy(&target).into_owned();
        if let Some((path, query)) = target.split_once('?') {
            let secret: Vec<&[u8]> = backend.base.secret_names().collect();
            let shown: Vec<String> = query.split('&').map(|parameter| masked(parameter, &secret)).collect();
            target = format!("{path}?{}", shown.join("&"));
        }
        let gap = if matches!(backend.target, Target::Unix(_)) { " " } else { "" };
        format!("  {}: POST {}{gap}{target}", api.name(), server(backend))
    };
    backend.provider.serves.iter().map(line).collect()
}

fn masked(parameter: &str, secret: &[&[u8]]) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if secret.contains(&name.as_bytes()) => format!("{name}=***"),
        _ => parameter.to_owned(),
    }
}

fn model(plan: &Plan, model: &Model) -> String {
    let member = |member: &crate::plan::Member| {
        let own = member
            .model_json
            .as_deref()
            .map_or(String::new(), |json| format!(" as {}", String::from_utf8_lossy(json)));
        format!("{} x{}{own}", plan.backend(member.backend).name, member.weight)
    };
    let pool: Vec<String> = model.pool.iter().map(member).collect();
    let mut line = format!("model {} on {}", model.name, pool.join(", "));
    if !model.aliases.is_empty() {
        line.push_str(&format!(", also {}", model.aliases.join(", ")));
    }
    line
}

fn issuer(issuer: &Issuer) -> String {
    let expected = &issuer.expected;
    let algorithms: Vec<&str> = expected.algorithms.iter().map(|algorithm| algorithm.name()).collect();
    format!(
        "issuer {} {}, for {}, signed with {}, keys by {} every {}",
        issuer.name,
        expected.issuer,
        expected.audiences.join(" or "),
        algorithms.join(", "),
        issuer.source.url,
        issuer.refresh
    )
}

fn team(plan: &Plan, team: &Team) -> String {
    let mut line = format!("team {}", team.name);
    limits(&mut line, &team.limits);
    budgets(&mut line, plan, &Holder::Team(team.name.clone()));
    line
}

fn key(plan: &Plan, key: &Key) -> String {
    let allowed = key.grant.models.iter().filter(|allowed| **allowed).count();
    let mut line = format!("key {} for {allowed} of {} models", key.name, plan.models.len());
    if let Some(team) = key.team {
        let _ = write!(line, ", of team {}", plan.teams.row(team).name);
    }
    if let Some(issuer) = key.credential.issuer {
        let _ = write!(line, ", by tokens of issuer {}", plan.issuers.row(issuer).name);
    }
    if let Some(expires) = &key.credential.expires {
        let _ = write!(line, ", until {}", expires.written);
    }
    limits(&mut line, &key.grant.limits);
    budgets(&mut line, plan, &Holder::Key(key.name.clone()));
    line
}

fn budgets(line: &mut String, plan: &Plan, holder: &Holder) {
    for row in plan.budgets.iter().filter(|row| row.name.holder == *holder) {
        let _ = write!(line, ", {}", row.budget);
    }
}

fn limits(line: &mut String, limits: &CallerLimits) {
    for (rate, what) in [(limits.requests, "requests"), (limits.tokens, "tokens")] {
        if let Some(Rate { per_minute, burst, .. }) = rate {
            line.push_str(&format!(", {per_minute} {what}/min (burst {burst})"));
        }
    }
    bound(line, limits.in_flight_max);
}

fn bound(line: &mut String, in_flight_max: u32) {
    if in_flight_max != u32::MAX {
        let _ = write!(line, ", {in_flight_max} in flight");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_summary_has_a_line_for_everything_and_no_secret() {
        let text = r#"
listen = "127.0.0.1:8080"
[shards]
cores = "auto"
count = 1
pin = false
[backend.gpu-a]
url = "https://10.0.0.11:8000/x"
kind = "vllm"
tls_verify = false
api_key = { file = "/proc/sys/kernel/ostype" }
in_flight_max = 8
[backend.d]
api_base = "https://h/d?api-version=2024-10-21&key=Linux"
tls_verify = false
[model.m]
backends = [{ name = "gpu-a", model = "M" }]
aliases = ["fast"]
[key.k]
sha256 = "55f271aba1499e9bc826cc4472f58b749dc89750216a7f9008d2c9ce8cc24034"
tokens_per_minute = 6000
"#;
        let written = config::read(Path::new("f"), text).unwrap();
        let summary = summary(&config::compile(&written, &Process).unwrap());
        for line in [
            "listener 127.0.0.1:8080 http",
            "admin 127.0.0.1:9090",
            "shards 1 not pinned, driver auto, access log off",
            "  messages: POST https://10.0.0.11:8000/x/v1/messages",
            "  chat: POST https://h/d/chat/completions?api-version=2024-10-21&key=***",
            "backend gpu-a vllm https://10.0.0.11:8000, asked at /x/health every 2s, CERTIFICATE NOT VERIFIED, \
             with a credential, 8 in flight",
            "model m on gpu-a x1 as \"M\", also fast",
            "key k for 1 of 1 models, 6000 tokens/min (burst 6000)",
            "note: backend gpu-a takes any certificate: tls_verify = false",
        ] {
            assert!(summary.lines().any(|found| found == line), "{line}\n{summary}");
        }
        assert!(!summary.contains("Linux"), "{summary}");
    }
}
