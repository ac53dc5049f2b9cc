//! Why a request was refused or failed, in words, and what may be done about it; and what a key may do, line by line.

use axum::extract::{Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, json};
use crate::admin::Caller;
use crate::clock;
use crate::coordinator::Watch;
use crate::coordinator::recent::Exchange;
use crate::dialect::Api;
use crate::error::FaultKind;
use crate::plan::admission::{self, At};
use crate::plan::{self, Holder};
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::budget::{Money, Unit};
use crate::policy::limits::caller::CallerLimits;
use crate::store::AccessKind;

#[derive(JsonSchema, Serialize)]
pub(super) struct Explain {
    what: String,
    fix: String,
}

impl Explain {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// What became of one exchange; `None` if all went well.
pub(super) fn exchange(watch: &Watch, row: &Exchange) -> Option<Explain> {
    let kind = row.fault?;
    let key = row.key.as_deref().unwrap_or("(no key)");
    let model = row.model.as_deref().unwrap_or("the model");
    let backend = row.backend.as_deref().unwrap_or("the backend");
    let names = Names { watch, key };
    Some(
        names
            .limit(kind)
            .or_else(|| refused(kind, &names, model))
            .unwrap_or_else(|| other(kind, backend, model)),
    )
}

/// Whose limits and rights a refusal is about, and where they are changed.
struct Names<'a> {
    watch: &'a Watch,
    key: &'a str,
}

impl Names<'_> {
    /// How a member of the key is changed: of a key of the store by a command, of one of the file there.
    fn change(&self, member: &str) -> String {
        change(self.watch, AccessKind::Key, self.key, member)
    }

    fn limit(&self, kind: FaultKind) -> Option<Explain> {
        let (what, member) = match kind {
            FaultKind::RequestsExceeded => ("requests", "requests_per_minute"),
            FaultKind::TokensExceeded | FaultKind::TokensNeverFit => ("tokens", "tokens_per_minute"),
            FaultKind::InFlightExceeded => ("requests in flight", "in_flight_max"),
            _ => return None,
        };
        let (plan, key) = (&self.watch.plan, self.key);
        let most = |limits: &CallerLimits| {
            let rate = |rate: Option<Rate>| rate.map(|rate| format!("{} per minute", rate.per_minute));
            match kind {
                FaultKind::RequestsExceeded => rate(limits.requests),
                FaultKind::InFlightExceeded => {
                    (limits.in_flight_max != u32::MAX).then(|| format!("{} at once", limits.in_flight_max))
                }
                _ => rate(limits.tokens),
            }
        };
        let row = plan.keys.named(key);
        let team = row.and_then(|row| row.team).map(|id| plan.teams.row(id));
        let own = row.and_then(|row| most(&row.grant.limits));
        let of_team = team.and_then(|team| Some((&*team.name, most(&team.limits)?)));
        let of_key = || self.change(member);
        let of = |team: &str| change(self.watch, AccessKind::Team, team, member);
        let (used_up, fix) = match (own, of_team) {
            (Some(own), None) => (format!("Key {key} used up its {what}: {own}"), of_key()),
            (None, Some((team, most))) => {
                (format!("The keys of team {team} used up their {what}: {most} together"), of(team))
            }
            (Some(own), Some((team, most))) => (
                format!(
                    "Key {key} used up its {what}: {own}; or the keys of team {team} did: {most} together"
                ),
                format!("{}; {}", of_key(), of(team)),
            ),
            (None, None) => (format!("Key {key} used up its {what}: its limit then"), of_key()),
        };
        Some(match kind {
            FaultKind::TokensNeverFit => Explain::new(
                format!("The request asks for more tokens at once than a limit ever has. {used_up}."),
                format!(
                    "Send a shorter prompt or a smaller max_tokens, or raise the limit or its burst: {fix}."
                ),
            ),
            _ => Explain::new(
                format!("{used_up}."),
                format!("Wait as Retry-After says, or raise the limit: {fix}."),
            ),
        })
    }
}

/// How a member of a row is changed.
fn change(watch: &Watch, kind: AccessKind, name: &str, member: &str) -> String {
    let word = kind.word();
    if let Some(issuer) = issuer(watch, kind, name) {
        return format!("{member} of [issuer.{issuer}] in the configuration, and reload");
    }
    match watch.roster.load().find(kind, name) {
        Some(_) => format!("`ringway {word} set {name} --member {member}=VALUE`"),
        None => format!("{member} of [{word}.{name}] in the configuration, and reload"),
    }
}

/// The issuer whose table says what a row may do, if it is one's.
fn issuer(watch: &Watch, kind: AccessKind, name: &str) -> Option<String> {
    let row = watch.plan.keys.named(name).filter(|_| kind == AccessKind::Key)?;
    row.credential.issuer.map(|issuer| watch.plan.issuers.row(issuer).name.to_string())
}

fn refused(kind: FaultKind, names: &Names<'_>, model: &str) -> Option<Explain> {
    let key = names.key;
    Some(match kind {
        FaultKind::KeyInvalid => Explain::new(
            "The request had no API key, or one that is not known here, or a token that is not valid.",
            "The response's error.message says which. Send 'Authorization: Bearer KEY'. `ringway key new NAME` makes a key.",
        ),
        // Of a key the name is known; a token that has expired is nobody's.
        FaultKind::KeyExpired if names.watch.plan.keys.named(key).is_none() => Explain::new(
            "The token of the request has expired.",
            "The client has to renew its tokens before they end.",
        ),
        FaultKind::IssuerUnavailable => Explain::new(
            "The keys of the token's issuer could not be read, so its tokens cannot be verified.",
            "See issuers in /status for the reason. Requests with keys are not affected.",
        ),
        FaultKind::KeysExceeded => Explain::new(
            "Too many requests with invalid keys came from this address.",
            "Correct the key; the address is let in again within a minute.",
        ),
        FaultKind::KeyRevoked => Explain::new(
            format!("Key {key} was removed or replaced while the request ran."),
            "Give the client its new key.",
        ),
        FaultKind::ModelForbidden => Explain::new(
            format!("Key {key} may not use {model}."),
            format!("Ask for a model that it may use, or add this one: {}.", names.change("models")),
        ),
        FaultKind::ApiForbidden => Explain::new(
            format!("Key {key} may not call this endpoint."),
            format!("Call one that it may, or add this one: {}.", names.change("apis")),
        ),
        FaultKind::KeyExpired => Explain::new(
            format!("Key {key} has expired."),
            format!("Give the client another key, or a later end: {}.", names.change("expires")),
        ),
        FaultKind::BudgetExceeded => Explain::new(
            format!("A budget of key {key} or of its team is used up."),
            format!("Wait for its reset, or raise it: {}.", names.change("budgets")),
        ),
        FaultKind::BudgetReserved => Explain::new(
            format!("Requests in flight had taken the rest of a budget of key {key} or of its team."),
            format!("Send it again, or raise the budget: {}.", names.change("budgets")),
        ),
        FaultKind::ContentRefused => Explain::new(
            "A content rule does not allow what the request or the response says.",
            "The response's error.message names the rule: [guard.NAME].",
        ),
        FaultKind::ModelUnknown => Explain::new(
            "No model of that name is configured.",
            "GET /v1/models lists the names; [model.NAME] or an alias adds one.",
        ),
        FaultKind::OriginForbidden => Explain::new(
            "A web page that is not listed called a gateway without keys.",
            "List the page's origin in [cors], or require keys.",
        ),
        FaultKind::PathUnknown | FaultKind::MethodNotAllowed => Explain::new(
            "The gateway has no such path, or not with this method.",
            "Check the base URL of the client; it usually ends in /v1.",
        ),
        FaultKind::BodyMalformed | FaultKind::HeadMalformed | FaultKind::MemberUnsupported => Explain::new(
            "The request could not be read as the API defines it.",
            "The response's error.message names the part and what was expected.",
        ),
        FaultKind::ContextExceeded => Explain::new(
            format!("The prompt does not fit the context window of {model}."),
            "Shorten the prompt, or use a model with a larger window.",
        ),
        FaultKind::ClientGone => Explain::new(
            "The client closed the connection before its response was complete.",
            "Usually a timeout or a stop button of the client; nothing to do here.",
        ),
        FaultKind::ClientStalled => Explain::new(
            "The client stopped reading its response.",
            "Look at the client or at a proxy between; the backend was released.",
        ),
        _ => return None,
    })
}

fn other(kind: FaultKind, backend: &str, model: &str) -> Explain {
    match kind {
        FaultKind::ConnectFailed | FaultKind::ConnectTimeout | FaultKind::TlsFailed => Explain::new(
            format!("{backend} could not be reached, and no other backend of {model} took the request."),
            "See Backends for the reason; the request may be sent again.",
        ),
        FaultKind::FirstTokenTimeout | FaultKind::EventTimeout | FaultKind::TotalTimeout => Explain::new(
            format!("{backend} was too slow ({}).", kind.code()),
            "See its time to first token under Backends, or raise the deadline in [timeouts].",
        ),
        FaultKind::BackendCut | FaultKind::BackendClosed => Explain::new(
            format!("{backend} ended the response before it was complete."),
            "Look at its log at this time: a restart or an out-of-memory kill is the usual cause.",
        ),
        FaultKind::BackendBusy | FaultKind::BackendOverloaded => Explain::new(
            format!("{backend} was at its own limit, and no other backend of {model} took the request."),
            "Add a backend, or wait; the gateway pauses the backend as it asked for.",
        ),
        FaultKind::BackendDenied => Explain::new(
            format!("{backend} refused the gateway's own credential."),
            "Check the api_key of [backend] in the configuration.",
        ),
        FaultKind::NoBackend => Explain::new(
            format!("No backend of {model} could take the request: all are down, drained or paused."),
            "See Backends for each one's reason.",
        ),
        FaultKind::QueueTimeout => Explain::new(
            format!("The request waited for a free slot of {model}'s backends, and none came in time."),
            "Add a backend, raise its in_flight_max, or raise timeouts.queue.",
        ),
        FaultKind::Overloaded | FaultKind::SocketsExhausted => Explain::new(
            "A bound of the gateway was reached.",
            "See the gateway's log and /metrics for which one.",
        ),
        FaultKind::Draining => {
            Explain::new("The gateway was shutting down.", "Send it again; another gateway takes it.")
        }
        _ => Explain::new(
            format!("{} ({}).", kind.code(), backend),
            "The response's error.message says more; the gateway's log has the same request id.",
        ),
    }
}

/// Whose policy, for which model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    key: String,
    model: Option<String>,
    /// The endpoint, by the name that `serves` of a backend has; chat if left out.
    api: Option<String>,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Policy {
    key: String,
    model: Option<String>,
    /// Whether a small request would go to a backend now. Content rules, soft limits and limits of end users are not looked at: they
    /// depend on the request.
    allowed: bool,
    /// Why it would not.
    reason: Option<String>,
    lines: Vec<Line>,
}

/// One line of the effective policy and where it comes from.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PolicyLine")]
struct Line {
    name: &'static str,
    value: String,
    origin: String,
}

/// Where a line of a row is written.
fn origin(watch: &Watch, kind: AccessKind, name: &str) -> String {
    if let Some(issuer) = issuer(watch, kind, name) {
        return format!("[issuer.{issuer}] of the configuration");
    }
    match watch.roster.load().find(kind, name) {
        Some(_) => format!("{} {name} of the store", kind.word()),
        None => format!("[{}.{name}] of the configuration", kind.word()),
    }
}

/// Why a small request would not go to a backend now, in the order in which a shard finds out. `model`: as it is asked for, and
/// the one of that name.
fn refusal(
    watch: &Watch,
    key: &plan::Key,
    api: Api,
    model: Option<(&str, Option<&plan::Model>)>,
) -> Option<String> {
    let (plan, name) = (&watch.plan, &key.name);
    let at = At { now: clock::now(), unix_ms: clock::unix_ms() };
    if key.is_revoked() {
        return Some("the key is revoked".to_owned());
    }
    if let Some(end) = key.credential.expires.as_ref().filter(|end| at.unix_ms >= end.unix_ms) {
        return Some(format!("the key expired at {}", end.written));
    }
    if !key.grant.apis.contains(api) {
        return Some(format!("key {name} may not call the endpoint {}", api.name()));
    }
    if let Some((asked, found)) = model {
        let Some(model) = found else { return Some(format!("no model is named {asked:?}")) };
        if !plan.may_use(Some(key.id), model.id) {
            return Some(format!("key {name} may not use {}", model.name));
        }
    }
    let row = model.and_then(|(_, model)| model);
    if let Some(fault) = admission::foresee(plan, key.id, row.map(|model| model.id), at) {
        return Some(fault.note.into_owned());
    }
    let (asked, _) = model?;
    let model = row.filter(|model| !watch.takes(model, Some(key.id), asked, api, at.now))?;
    Some(format!("{} has no backend that can be called now", model.name))
}

/// Limits that may be in the shadow, by the index of their count.
const SHADOWS: [&str; 3] = ["requests_per_minute", "tokens_per_minute", "in_flight_max"];

/// `GET /api/v1/explain?key=&model=&api=`.
pub(super) async fn policy(
    State(shared): State<Shared>,
    caller: Caller,
    question: Query<Question>,
) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let plan = &watch.plan;
    let is_seen = |key: &&plan::Key| {
        caller.team().is_none_or(|own| key.team.is_some_and(|team| *plan.teams.row(team).name == *own))
    };
    let api = super::route::api(question.api.as_deref())?;
    let Some(key) = plan.keys.named(&question.key).filter(is_seen) else {
        return Err(Problem::not_found(format!("no key is named {:?}", question.key)));
    };
    let from = origin(&watch, AccessKind::Key, &key.name);
    let line = |name, value: String, origin: &str| Line { name, value, origin: origin.to_owned() };
    let unlimited = "default: unlimited";
    let rate = |name, rate: Option<Rate>, unit: &str| match rate {
        Some(rate) => line(
            name,
            format!("{} {unit} per minute, at most {} at once", rate.per_minute, rate.burst),
            &from,
        ),
        None => line(name, "unlimited".to_owned(), unlimited),
    };
    let shadow = |limit: usize, is_shadow: bool| {
        let count = plan.keys.cells(key.id).would_refuse[limit].load(std::sync::atomic::Ordering::Relaxed);
        is_shadow.then(|| line("shadow", format!("{}: would have refused {count}", SHADOWS[limit]), &from))
    };
    let limits = &key.grant.limits;
    let shadows = [limits.shadow.requests, limits.shadow.tokens, limits.shadow.in_flight];
    let shadows: Vec<Line> = (0..3).filter_map(|limit| shadow(limit, shadows[limit])).collect();
    let mut lines = vec![
        rate("requests", key.grant.limits.requests, "requests"),
        rate("tokens", key.grant.limits.tokens, "tokens"),
        match key.grant.limits.in_flight_max {
            u32::MAX => line("in_flight", "unlimited".to_owned(), unlimited),
            most => line("in_flight", format!("{most} requests at once"), &from),
        },
    ];
    lines.extend(shadows);
    if let Some(team) = key.team.map(|id| plan.teams.row(id)) {
        let from = origin(&watch, AccessKind::Team, &team.name);
        for limit in super::views::team_limits(&watch, team, clock::now()) {
            let name = match limit.name {
                "requests_per_minute" => "team requests",
                "tokens_per_minute" => "team tokens",
                _ => "team in flight",
            };
            lines.push(Line {
                name,
                value: format!("{} of {} used", limit.used, limit.max),
                origin: from.clone(),
            });
        }
    }
    for id in &key.grant.budgets {
        let row = plan.budgets.row(*id);
        let standing = plan.budgets.cells(*id).standing(&row.budget.window, clock::unix_ms());
        let used = match row.budget.unit {
            Unit::Tokens => format!("{} tokens", standing.used),
            Unit::Money => Money(standing.used).to_string(),
        };
        let origin = match &row.name.holder {
            Holder::Key(name) => origin(&watch, AccessKind::Key, name),
            Holder::Team(name) => origin(&watch, AccessKind::Team, name),
            Holder::EndUser => "[end_users] of the configuration".to_owned(),
        };
        let mut value = format!("{}; {used} used", row.budget);
        if row.budget.shadow {
            let count = plan.budgets.cells(*id).would_refuse.load(std::sync::atomic::Ordering::Relaxed);
            value += &format!(", would have refused {count}");
        }
        lines.push(Line { name: "budget", value, origin });
    }
    if let Some(end) = &key.credential.expires {
        lines.push(line("expires", end.written.to_string(), &from));
    }
    let may: Vec<&str> = plan
        .models
        .iter()
        .zip(&key.grant.models)
        .filter(|(_, may)| **may)
        .map(|(model, _)| &*model.name)
        .collect();
    let names = may.iter().take(20).copied().collect::<Vec<_>>().join(", ");
    let more = may.len().saturating_sub(20);
    let names = if more > 0 { format!("{names} and {more} more") } else { names };
    let all = may.len() == plan.models.len();
    lines.push(line("models", names, if all { "default: every model" } else { &from }));
    let model = match &question.model {
        None => None,
        Some(name) => {
            let found = plan.find_asked(api, name).map(|id| plan.model(id));
            if let Some(model) = found {
                let pool: Vec<&str> =
                    model.pool.iter().map(|member| &*plan.backends.row(member.backend).name).collect();
                let origin = format!("[model.{}] of the configuration", model.name);
                lines.push(line("pool", pool.join(", "), &origin));
            }
            Some((&**name, found))
        }
    };
    let reason = refusal(&watch, key, api, model);
    Ok(json(&Policy {
        key: key.name.to_string(),
        model: question.model.clone(),
        allowed: reason.is_none(),
        reason,
        lines,
    }))
}
