//! What is decided about a request before its body is read, and before it is dispatched. No decision waits.

use super::body::{self, Body};
use super::exchange::Exchange;
use super::naming::Naming;
use super::refer;
use super::request::Request;
use super::tokens;
use super::wording::{foreign_page, shown, unknown_model};
use crate::clock;
use crate::dialect::estimate::{self, Prompt};
use crate::dialect::request::{self, Peek};
use crate::dialect::{Api, Task, route};
use crate::error::{Fault, FaultKind};
use crate::observe::Counter;
use crate::plan::admission::{self, At, Wanted};
use crate::plan::users;
use crate::policy::auth::credential::Credentials;
use crate::policy::auth::forwarded;
use crate::policy::auth::origin::{self, PageGrant};
use crate::units::{ModelId, Nanos};
use crate::wire::fields::{self, Field};
use crate::wire::framing;
use crate::wire::head::RequestHead;

/// Before the body: what is refused here costs no body read.
pub(super) fn on_head(
    exchange: &mut Exchange,
    routed: Result<Api, Fault>,
    head: &RequestHead,
    bytes: &[u8],
) -> Result<(), Fault> {
    #[cfg(debug_assertions)]
    failpoint(head, bytes);
    let api = routed?;
    if exchange.shard.control.is_shedding() {
        return Err(
            Fault::new(FaultKind::Overloaded, "the gateway is short of memory").retry_after(RETRY_SOON)
        );
    }
    check_page(exchange, head, bytes)?;
    authenticate(exchange, head, bytes).map_err(|fault| count_failure(exchange, fault))?;
    check_credential(exchange, api)?;
    exchange.wants_trace = wants_trace(exchange, head, bytes);
    check_body_head(exchange, head, bytes, api)?;
    match api.task() {
        // A client that has used up a limit can still see which one.
        Task::ShowKey => Ok(()),
        _ => enter(exchange),
    }
}

/// After the body: which model and response the request is for, and the tokens it may cost.
pub(super) fn on_body<'a>(
    exchange: &mut Exchange,
    head: &'a RequestHead,
    bytes: &[u8],
    body: &'a Body,
) -> Result<Request<'a>, Fault> {
    let api = exchange.api.unwrap_or_default();
    if api.has_id() {
        return refer::by_path(exchange, head, bytes, body);
    }
    let payload = body.of(bytes);
    let (peek, in_path) = request::peek_at(api, (head.path.of(bytes), head.query.of(bytes)), payload)?;
    let is_in_path = in_path.is_some();
    let asked = in_path.unwrap_or_else(|| peek.model_name(payload));
    let model = find_model(exchange, api, &asked)?;
    exchange.naming = Naming::of(exchange.shard.plan.model(model), &asked, is_in_path, &peek);
    exchange.wants_stream = peek.stream;
    name_user(exchange, head, bytes, (&peek, payload))?;
    let model = soften(exchange, api, model, payload);
    let prompt = estimate::prompt(api, payload, &exchange.shard.plan.estimate);
    exchange.prompt_tokens = prompt.tokens();
    if api.task() != Task::CountTokens {
        reserve_tokens(exchange, model, (&peek, payload), prompt)?;
    }
    let request = Request { head, body, api, peek, model, bound: None, id: Vec::new(), said: None };
    if api.refers() { refer::by_body(exchange, request, payload) } else { Ok(request) }
}

/// Who makes the request: the client that a trusted proxy names in `X-Forwarded-For`, which is ignored from others; and what
/// the web page that makes it may do, if one does.
pub(super) fn find_client(exchange: &mut Exchange, head: &RequestHead, bytes: &[u8]) {
    let plan = &exchange.shard.plan;
    if let (Some(pages), Some(origin)) = (&plan.pages, head.origin) {
        exchange.page = pages.grant(origin.of(bytes));
    }
    let trusted = &plan.trusted_proxies;
    if !head.forwarded_for || trusted.is_empty() {
        return;
    }
    let lines: Vec<&[u8]> = fields::lines(head.fields.of(bytes))
        .filter(|line| fields::classify(line.name) == Field::XForwardedFor)
        .map(|line| line.value)
        .collect();
    exchange.client = exchange.client.map(|peer| forwarded::client(peer, lines.into_iter(), trusted));
}

/// A gateway without keys could be called by any web page that one of its users has open: pages that are not listed are
/// refused. A page of the gateway's own has an address for its host, which a name cannot imitate.
fn check_page(exchange: &Exchange, head: &RequestHead, bytes: &[u8]) -> Result<(), Fault> {
    let Some(page) = head.origin else { return Ok(()) };
    let (page, host) = (page.of(bytes), head.host.of(bytes));
    if exchange.shard.plan.keys_required
        || exchange.page != PageGrant::None
        || (origin::is_own(page, host) && origin::is_literal(host))
    {
        return Ok(());
    }
    Err(foreign_page())
}

fn authenticate(exchange: &mut Exchange, head: &RequestHead, bytes: &[u8]) -> Result<(), Fault> {
    let plan = &exchange.shard.plan;
    if !plan.keys_required {
        return Ok(());
    }
    let query_key = route::query_key(head.query.of(bytes));
    let credentials = Credentials {
        authorization: head.authorization.map(|span| span.of(bytes)),
        api_keys: head.api_keys.map(|span| span.map(|span| span.of(bytes))),
        query_key: query_key.as_deref(),
    };
    match plan.key_table.identify(&credentials) {
        Ok(key) => exchange.key = Some(key),
        // No key that is known: a token may be among them.
        Err(fault) if fault.kind == FaultKind::KeyInvalid && !plan.issuers.is_empty() => {
            let at = At { now: exchange.started, unix_ms: exchange.started_unix_ms };
            let (key, user) = tokens::recognise(&exchange.shard, &credentials, at, fault)?;
            (exchange.key, exchange.user) = (Some(key), Some(user));
        }
        Err(fault) => return Err(fault),
    }
    Ok(())
}

/// Counts an invalid key: after too many from one address, respond 429 instead of 401. Valid keys are not counted, so other
/// clients behind the same address are not affected.
#[cold]
fn count_failure(exchange: &Exchange, fault: Fault) -> Fault {
    let shard = &exchange.shard;
    let (Some(rate), Some(address)) = (&shard.plan.limits.auth_failures, exchange.client) else {
        return fault;
    };
    if fault.kind == FaultKind::IssuerUnavailable {
        return fault; // not the client's
    }
    match shard.failures.borrow_mut().take(address, rate, exchange.started) {
        Some(wait) if fault.kind == FaultKind::KeyInvalid => {
            Fault::new(FaultKind::KeysExceeded, "too many requests without a valid API key from this address")
                .retry_after(wait)
        }
        _ => fault,
    }
}

fn check_body_head(exchange: &Exchange, head: &RequestHead, bytes: &[u8], api: Api) -> Result<(), Fault> {
    body::coding(head, bytes)?;
    let most = exchange.shard.plan.limits.body_bytes;
    match head.framing {
        framing::Request::Length(length) if length > most => Err(Fault::new(
            FaultKind::BodyTooLarge,
            format!("the body has {length} bytes, the limit is {most}"),
        )),
        framing::Request::None if api.method() == "POST" && !api.has_id() => {
            Err(Fault::new(FaultKind::BodyMalformed, "a JSON body is expected; the request has none"))
        }
        _ => Ok(()),
    }
}

/// Whether the key has not expired, and may call this endpoint at all.
fn check_credential(exchange: &Exchange, api: Api) -> Result<(), Fault> {
    let Some(key) = exchange.key else { return Ok(()) };
    let row = exchange.shard.plan.key(key);
    if let Some(expires) = &row.credential.expires
        && exchange.started_unix_ms >= expires.unix_ms
    {
        let note = format!("the API key '{}' expired at {}", row.name, expires.written);
        return Err(Fault::new(FaultKind::KeyExpired, note));
    }
    if !row.grant.apis.contains(api) && !api.is_local() {
        let note = format!("the API key '{}' may not call the endpoint '{}'", row.name, api.name());
        return Err(Fault::new(FaultKind::ApiForbidden, note));
    }
    Ok(())
}

/// Whether the client asks how its backend is chosen, and may know. Only where it may is the header looked for.
fn wants_trace(exchange: &Exchange, head: &RequestHead, bytes: &[u8]) -> bool {
    let plan = &exchange.shard.plan;
    let may = plan.debug_headers || exchange.key.is_some_and(|key| plan.key(key).grant.trace);
    may && fields::lines(head.fields.of(bytes)).any(|line| line.name.eq_ignore_ascii_case(b"x-ringway-trace"))
}

/// Takes what the head alone decides from the limits of the key and its team.
fn enter(exchange: &mut Exchange) -> Result<(), Fault> {
    let Some(key) = exchange.key else { return Ok(()) };
    let (held, left) = admission::enter(&exchange.shard.plan, key, exchange.started)?;
    exchange.held = held;
    exchange.requests_left = left;
    Ok(())
}

fn find_model(exchange: &mut Exchange, api: Api, name: &str) -> Result<ModelId, Fault> {
    let plan = &exchange.shard.plan;
    let Some(model) = plan.find_asked(api, name) else {
        return Err(unknown_model(name));
    };
    exchange.model = Some(model);
    if exchange.shard.may_use(exchange.key, model) {
        return Ok(model);
    }
    Err(Fault::new(FaultKind::ModelForbidden, format!("this key may not use the model '{}'", shown(name))))
}

/// Whom the client acts for, if its key may say so; takes what the request alone costs from that end user's limits.
fn name_user(
    exchange: &mut Exchange,
    head: &RequestHead,
    bytes: &[u8],
    (peek, payload): (&Peek, &[u8]),
) -> Result<(), Fault> {
    let shard = exchange.shard.clone();
    let (plan, Some(key)) = (&shard.plan, exchange.key) else { return Ok(()) };
    let (key, Some(rules)) = (plan.key(key), &plan.users) else { return Ok(()) };
    if !key.grant.names_users {
        return Ok(());
    }
    let in_header = rules.header.as_ref().and_then(|header| {
        fields::lines(head.fields.of(bytes))
            .find(|line| line.name.eq_ignore_ascii_case(header.as_bytes()))
            .map(|line| String::from_utf8_lossy(line.value))
    });
    // A token names its own user, and no other.
    let own = exchange.user.take().map(|user| String::from(user).into());
    let Some(name) = own.or(in_header).or_else(|| peek.end_user_name(payload)) else { return Ok(()) };
    if !users::is_name(&name) {
        let most = users::NAME_BYTES_MAX;
        let note = format!("the name of the end user has to be of 1 to {most} printable bytes");
        return Err(Fault::new(FaultKind::BodyMalformed, note));
    }
    if rules.has_limits() {
        let of = key.team.map_or(&key.name, |team| &plan.teams.row(team).name);
        let at = At { now: clock::now(), unix_ms: exchange.started_unix_ms };
        exchange.held.enter_user(plan, (&name, users::hash(of, &name)), at)?;
    }
    exchange.user = Some(name.into());
    Ok(())
}

/// What soft limits ask for before any limit refuses: back comes the model that is called.
fn soften(exchange: &mut Exchange, api: Api, model: ModelId, payload: &[u8]) -> ModelId {
    let shard = exchange.shard.clone();
    let (plan, key) = (&shard.plan, exchange.key);
    let at = At { now: exchange.started, unix_ms: exchange.started_unix_ms };
    let Some(softened) = exchange.held.soften(plan, at) else { return model };
    shard.numbers.inc(Counter::SoftLimits);
    exchange.warning = Some(softened.warning.into());
    exchange.throttle = softened.wait;
    let asked = plan.model(model);
    let may = |id: &&ModelId| {
        let row = plan.model(**id);
        let is_served =
            || row.pool.iter().any(|member| plan.backend(member.backend).provider.call(api).is_some());
        **id != model
            && shard.may_use(key, **id)
            && is_served()
            && plan.allows_fallback(key, asked, row, payload)
    };
    let Some(other) = softened.models.iter().rev().find(may) else { return model };
    (exchange.model, exchange.fallback_for) = (Some(*other), Some(model));
    *other
}

/// Reserves the tokens that the request may cost. What is estimated by kind never refuses for good: only text does.
fn reserve_tokens(
    exchange: &mut Exchange,
    model: ModelId,
    (peek, payload): (&Peek, &[u8]),
    prompt: Prompt,
) -> Result<(), Fault> {
    let plan = &exchange.shard.plan;
    let row = plan.model(model);
    let wanted = Wanted {
        text: prompt.text,
        prompt: prompt.tokens(),
        output_max: peek.output_bound(),
        choices: peek.generations,
        slice: plan.output_tokens_default,
        price: plan.price(model, None).copied(),
        is_stream: peek.stream,
        model_max: peek.output_bound().map_or(row.output_max, |cap| cap.min(row.output_max)),
        home: exchange.home.0,
    };
    let at = At { now: clock::now(), unix_ms: exchange.started_unix_ms };
    exchange.tokens_left = exchange.held.reserve(plan, &wanted, at)?;
    match exchange.held.output_cap() {
        Some(cap) if !request::may_be_capped(payload, cap) => {
            exchange.held.give_up(plan, at.now);
            let note =
                format!("{cap} tokens of output are left of the limit, and this request thinks for more");
            Err(Fault::new(FaultKind::TokensExceeded, note).retry_after(RETRY_SOON))
        }
        _ => Ok(()),
    }
}

/// Advice when a slot is expected to come free at any moment.
const RETRY_SOON: Nanos = Nanos(1_000_000_000);

/// Debug builds only: `x-ringway-failpoint: panic` breaks this exchange, and `block` blocks its whole shard for two seconds,
/// so that a test can see what happens to the others.
#[cfg(debug_assertions)]
fn failpoint(head: &RequestHead, bytes: &[u8]) {
    let is_asked = |fault: &[u8]| {
        fields::lines(head.fields.of(bytes))
            .any(|line| line.name.eq_ignore_ascii_case(b"x-ringway-failpoint") && line.value == fault)
    };
    assert!(!is_asked(b"panic"), "the request asked for a panic");
    if is_asked(b"block") {
        let until = clock::now().plus(Nanos(2_000_000_000));
        while clock::now() < until {
            std::hint::spin_loop();
        }
    }
}
