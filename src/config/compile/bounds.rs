//! Bounds of single values, and the relations between them.

use std::fmt::Display;

use super::file::{Dns, Estimate, File, Health, Limits, Routing, Timeouts};
use crate::config::problem::{Report, written};
use crate::config::quantity::{Size, Time};
use crate::dialect::estimate::Rates;
use crate::plan;
use crate::policy::auth::failures;
use crate::policy::routing::conversation::SessionHeaders;
use crate::units::Nanos;

/// A problem unless `min <= value <= max`.
pub(super) fn within<T: PartialOrd + Display>(
    path: &[&str],
    value: T,
    min: T,
    max: T,
    report: &mut Report<'_>,
) {
    if !(&min..=&max).contains(&&value) {
        report.problem(path, format!("is {value}; expected {min} to {max}"));
    }
}

/// A problem at `path` unless its value is at most the other key's.
pub(super) fn at_most<T: PartialOrd + Display>(
    path: &[&str],
    value: T,
    other: &[&str],
    other_value: T,
    report: &mut Report<'_>,
) {
    if value > other_value {
        report.problem(
            path,
            format!("is {value}; expected at most {}, which is {other_value}", written(other)),
        );
    }
}

/// The shortest deadline: timers tick in milliseconds.
pub(super) const TIME_MIN: Time = Time(Nanos(1_000_000));
/// How long a response that is no stream may take: what the SDKs of the large providers wait for one.
const RESPONSE: Time = Time::minutes(10);
/// The longest deadline.
const TIME_MAX: Time = Time::seconds(7 * 86_400);

/// Deadlines: connect < first_token <= total, first_byte <= response <= total, and at most total: between_events,
/// retry_wait, body.
pub(super) fn timeouts(timeouts: &Timeouts, report: &mut Report<'_>) -> plan::Timeouts {
    let response = timeouts.response.unwrap_or(Time(response_default(timeouts.total.0)));
    let each = [
        ("head", timeouts.head),
        ("body", timeouts.body),
        ("connect", timeouts.connect),
        ("first_token", timeouts.first_token),
        ("response", response),
        ("between_events", timeouts.between_events),
        ("total", timeouts.total),
        ("queue_timeout", timeouts.queue_timeout),
        ("keep_alive", timeouts.keep_alive),
        ("backend_idle", timeouts.backend_idle),
        ("write_stall", timeouts.write_stall),
        ("guard_hold", timeouts.guard_hold),
    ];
    for (key, time) in each {
        within(&["timeouts", key], time, TIME_MIN, TIME_MAX, report);
    }
    let or_none = [
        ("accept_after_term", timeouts.accept_after_term),
        ("drain", timeouts.drain),
        ("retry_wait", timeouts.retry_wait),
        ("heartbeat", timeouts.heartbeat),
        ("first_byte", timeouts.first_byte),
    ];
    for (key, time) in or_none {
        within(&["timeouts", key], time, Time::seconds(0), TIME_MAX, report);
    }
    let plan = plan::Timeouts {
        head: timeouts.head.0,
        body: timeouts.body.0,
        connect: timeouts.connect.0,
        first_token: timeouts.first_token.0,
        response: response.0,
        first_byte: or_never(timeouts.first_byte),
        between_events: timeouts.between_events.0,
        heartbeat: or_never(timeouts.heartbeat),
        guard_hold: timeouts.guard_hold.0,
        total: timeouts.total.0,
        retry_wait: timeouts.retry_wait.0,
        queue_timeout: timeouts.queue_timeout.0,
        keep_alive: timeouts.keep_alive.0,
        backend_idle: timeouts.backend_idle.0,
        write_stall: timeouts.write_stall.0,
        accept_after_term: timeouts.accept_after_term.0,
        drain: timeouts.drain.0,
    };
    at_most(&["timeouts", "body"], timeouts.body, &["timeouts", "total"], timeouts.total, report);
    let between = ["timeouts", "between_events"];
    at_most(&["timeouts", "heartbeat"], timeouts.heartbeat, &between, timeouts.between_events, report);
    timeout_relations(&["timeouts"], &plan, report);
    plan
}

/// The deadline of a response that is no stream, where none is written.
pub(super) fn response_default(total: Nanos) -> Nanos {
    RESPONSE.0.min(total)
}

/// A time of which "0s" means never.
pub(super) fn or_never(time: Time) -> Nanos {
    if time.0 == Nanos(0) { Nanos::NEVER } else { time.0 }
}

/// What holds between the deadlines of an exchange, for all or for one model.
pub(super) fn timeout_relations(path: &[&str], timeouts: &plan::Timeouts, report: &mut Report<'_>) {
    let total = Time(timeouts.total);
    for (key, nanos) in [
        ("first_token", timeouts.first_token),
        ("response", timeouts.response),
        ("between_events", timeouts.between_events),
        ("retry_wait", timeouts.retry_wait),
    ] {
        at_most(&[path, &[key]].concat(), Time(nanos), &[path, &["total"]].concat(), total, report);
    }
    if timeouts.first_byte != Nanos::NEVER {
        let (first_byte, response) = (Time(timeouts.first_byte), Time(timeouts.response));
        let path = |key| [path, &[key]].concat();
        at_most(&path("first_byte"), first_byte, &path("response"), response, report);
    }
    if timeouts.connect >= timeouts.first_token {
        let text = format!(
            "is {}; expected more than timeouts.connect, which is {}",
            Time(timeouts.first_token),
            Time(timeouts.connect)
        );
        report.problem(&[path, &["first_token"]].concat(), text);
    }
}

/// One deadline of at least `least` that differs for a model.
pub(super) fn model_timeout(
    path: &[&str],
    time: Option<Time>,
    least: Time,
    into: &mut Nanos,
    report: &mut Report<'_>,
) {
    if let Some(time) = time {
        within(path, time, least, TIME_MAX, report);
        *into = time.0;
    }
}

/// Sizes: target < head, body_buffer <= body.
pub(super) fn limits(limits: &Limits, report: &mut Report<'_>) -> plan::Limits {
    within(&["limits", "head"], limits.head, Size::kib(1), Size::mib(1), report);
    within(&["limits", "head_lines"], limits.head_lines, 8, 1000, report);
    within(&["limits", "target"], limits.target, Size(64), Size::mib(1), report);
    within(&["limits", "body"], limits.body, Size::kib(1), Size::mib(4096), report);
    within(&["limits", "body_buffer"], limits.body_buffer, Size::kib(1), Size::mib(256), report);
    within(&["limits", "event"], limits.event, Size::kib(1), Size::mib(16), report);
    within(&["limits", "held"], limits.held, Size::kib(1), Size::mib(64), report);
    within(&["limits", "attempts"], limits.attempts, 1, 10, report);
    if let Some(memory) = limits.memory {
        within(&["limits", "memory"], memory, Size::mib(16), Size::mib(1 << 20), report);
    }
    within(&["limits", "queue"], limits.queue, 0, 1_000_000, report);
    within(&["limits", "auth_failures_per_minute"], limits.auth_failures_per_minute, 0, 1_000_000, report);
    at_most(&["limits", "body_buffer"], limits.body_buffer, &["limits", "body"], limits.body, report);
    if limits.target >= limits.head {
        let text = format!("is {}; expected less than limits.head, which is {}", limits.target, limits.head);
        report.problem(&["limits", "target"], text);
    }
    plan::Limits {
        head_bytes: limits.head.bytes(),
        head_lines: limits.head_lines,
        target_bytes: limits.target.bytes(),
        body_bytes: limits.body.0,
        body_buffer_bytes: limits.body_buffer.bytes(),
        event_bytes: limits.event.bytes(),
        held_bytes: limits.held.bytes(),
        attempts: limits.attempts,
        memory_bytes: limits.memory.map(|size| size.0),
        queue: limits.queue,
        auth_failures: Some(limits.auth_failures_per_minute).filter(|most| *most > 0).map(failures::rate),
    }
}

/// Estimates.
pub(super) fn estimate(estimate: &Estimate, report: &mut Report<'_>) -> Rates {
    within(&["estimate", "output_tokens"], estimate.output_tokens, 1, 10_000_000, report);
    within(&["estimate", "bytes_per_token"], estimate.bytes_per_token, 1, 64, report);
    within(&["estimate", "image_tokens"], estimate.image_tokens, 1, 1_000_000, report);
    Rates { bytes_per_token: estimate.bytes_per_token, image_tokens: estimate.image_tokens }
}

/// Names; the time between two questions.
pub(super) fn dns(dns: &Dns, report: &mut Report<'_>) -> Nanos {
    within(&["dns", "interval"], dns.interval, Time(Nanos(100_000_000)), Time::minutes(60), report);
    dns.interval.0
}

/// Metrics of engines: the time between two readings, zero for none.
pub(super) fn scrape(routing: &Routing, report: &mut Report<'_>) -> Nanos {
    if routing.scrape_interval.0 != Nanos(0) {
        let least = Time(Nanos(50_000_000));
        within(&["routing", "scrape_interval"], routing.scrape_interval, least, Time::minutes(10), report);
    }
    routing.scrape_interval.0
}

/// The header lines that name a session.
pub(super) fn session_headers(routing: &Routing, report: &mut Report<'_>) -> SessionHeaders {
    let names = &routing.session_headers;
    if names.len() > SESSION_HEADERS_MAX {
        let text = format!("has {} names; expected at most {SESSION_HEADERS_MAX}", names.len());
        report.problem(&["routing", "session_headers"], text);
    }
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            let path = ["routing", "session_headers", &format!("[{at}]")];
            report.problem(&path, "expected the name of a header line, like \"x-session-id\"");
        }
    }
    SessionHeaders::new(names)
}

/// Probing: timeout <= interval.
pub(super) fn health(path: &[&str], health: &Health, report: &mut Report<'_>) {
    let at = |key| [path, &[key]].concat();
    within(&at("interval"), health.interval, Time(Nanos(100_000_000)), Time::minutes(60), report);
    within(&at("timeout"), health.timeout, TIME_MIN, Time::minutes(10), report);
    within(&at("failures"), health.failures, 1, 100, report);
    within(&at("successes"), health.successes, 1, 100, report);
    at_most(&at("timeout"), health.timeout, &at("interval"), health.interval, report);
}

/// Rows of the tables: whether they are within what ids can name and what a plan may cost in memory.
pub(super) fn tables(file: &File, report: &mut Report<'_>) -> bool {
    let tables = [
        ("backend", file.backend.len(), 1, BACKENDS_MAX),
        ("model", file.model.len(), 1, MODELS_MAX),
        ("team", file.team.len(), 0, KEYS_MAX),
        ("key", file.key.len(), 0, KEYS_MAX),
        ("issuer", file.issuer.len(), 0, ISSUERS_MAX),
    ];
    for (table, rows, rows_min, rows_max) in tables {
        if rows < rows_min {
            report.problem(&[table], format!("is missing; expected at least one [{table}.NAME]"));
        } else if rows > rows_max {
            report.problem(&[table], format!("has {rows} entries; expected at most {rows_max}"));
        }
    }
    tables.iter().all(|(_, rows, _, rows_max)| rows <= rows_max)
}

const SESSION_HEADERS_MAX: usize = 16;
const BACKENDS_MAX: usize = 4096;
const MODELS_MAX: usize = 4096;
const KEYS_MAX: usize = 100_000;
const ISSUERS_MAX: usize = 64;
