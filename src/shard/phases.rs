//! The pipeline, read like a table of contents: what is decided before the body, and what before the dispatch.
//! Each decision is a function that returns a value; none of them waits.

use std::borrow::Cow;

use super::Shard;
use super::naming::Naming;
use super::settle::Settle;
use crate::clock;
use crate::dialect::estimate::{self, Prompt};
use crate::dialect::request::{self, Peek};
use crate::dialect::{Api, Task, route};
use crate::error::{Fault, FaultKind};
use crate::plan::Member;
use crate::plan::admission::{self, At, Wanted};
use crate::policy::auth::credential::Credentials;
use crate::policy::auth::forwarded;
use crate::policy::auth::origin::{self, PageGrant};
use crate::units::{KeyId, ModelId, Nanos};
use crate::wire::coding::{self, BadCoding, ContentCoding};
use crate::wire::fields::{self, Field};
use crate::wire::framing;
use crate::wire::head::RequestHead;

/// Before the body: refusals here cost no body read.
pub(super) fn on_head(settle: &mut Settle, head: &RequestHead, bytes: &[u8], api: Api) -> Result<(), Fault> {
    if settle.shard.control.is_shedding() {
        return Err(
            Fault::new(FaultKind::Overloaded, "the gateway is short of memory").retry_after(RETRY_SOON)
        );
    }
    check_page(settle, head, bytes)?;
    authenticate(settle, head, bytes).map_err(|fault| count_failure(settle, fault))?;
    check_credential(settle, api)?;
    check_body_head(&settle.shard, head, bytes, api)?;
    match api.task() {
        // Whoever has used up a limit still sees which.
        Task::ShowKey => Ok(()),
        _ => enter(settle),
    }
}

/// After the body: which model, in which manner, and the tokens it may cost. `in_path`: the model that the path names.
pub(super) fn on_body(
    settle: &mut Settle,
    api: Api,
    in_path: Option<Cow<'_, str>>,
    body: &[u8],
) -> Result<(ModelId, Peek), Fault> {
    let peek = match in_path {
        None => request::peek(api, body)?,
        Some(_) => request::peek_named(api, body)?,
    };
    let is_in_path = in_path.is_some();
    let asked = in_path.unwrap_or_else(|| peek.model_name(body));
    let model = find_model(settle, &asked)?;
    settle.naming = Naming::of(settle.shard.plan.model(model), &asked, is_in_path, &peek);
    settle.record.stream = peek.stream;
    let prompt = estimate::prompt(api, body, &settle.shard.plan.estimate);
    settle.prompt_tokens = prompt.tokens();
    if api.task() != Task::CountTokens {
        reserve_tokens(settle, model, &peek, prompt)?;
    }
    Ok((model, peek))
}

/// Whether a count of tokens is for the backends of this model: one of them serves it, or none serves the requests that are
/// counted at all.
pub(super) fn counts_tokens(settle: &Settle, api: Api, model: ModelId) -> bool {
    let plan = &settle.shard.plan;
    let call = |member: &Member, api| plan.backend(member.backend).provider.call(api);
    let pool = &plan.model(model).pool;
    pool.iter().any(|member| call(member, api).is_some())
        || !api.counts().is_some_and(|counted| pool.iter().any(|member| call(member, counted).is_some()))
}

/// What a key may see of a model.
pub(super) fn may_use(shard: &Shard, key: Option<KeyId>, model: ModelId) -> bool {
    key.is_none_or(|key| shard.plan.key(key).grant.models[model.index()])
}

/// Who made the request, if a trusted proxy brought it: what others write about themselves says nothing.
pub(super) fn find_client(settle: &mut Settle, head: &RequestHead, bytes: &[u8]) {
    let trusted = &settle.shard.plan.trusted_proxies;
    if !head.forwarded_for || trusted.is_empty() {
        return;
    }
    let lines: Vec<&[u8]> = fields::lines(head.fields.of(bytes))
        .filter(|line| fields::classify(line.name) == Field::XForwardedFor)
        .map(|line| line.value)
        .collect();
    let peer = settle.record.client;
    settle.record.client = peer.map(|peer| forwarded::client(peer, lines.into_iter(), trusted));
}

/// What the web page that made the request may do, if one did; asked once, before everything else.
pub(super) fn page(shard: &Shard, head: &RequestHead, bytes: &[u8]) -> PageGrant {
    match (&shard.plan.pages, head.origin) {
        (Some(pages), Some(origin)) => pages.grant(origin.of(bytes)),
        _ => PageGrant::None,
    }
}

/// Of a gateway without keys any web page could ask, in the name of whoever has it open: those that are not listed may not. One
/// of its own would have an address for its host, which no name can be made to look like.
fn check_page(settle: &Settle, head: &RequestHead, bytes: &[u8]) -> Result<(), Fault> {
    let Some(page) = head.origin else { return Ok(()) };
    let (page, host) = (page.of(bytes), head.host.of(bytes));
    if settle.shard.plan.keys_required
        || settle.page != PageGrant::None
        || (origin::is_own(page, host) && origin::is_literal(host))
    {
        return Ok(());
    }
    Err(foreign_page())
}

/// The refusal of a web page that is not listed.
pub(super) fn foreign_page() -> Fault {
    Fault::new(
        FaultKind::OriginForbidden,
        "web pages of this Origin may not call the gateway: list it in [cors] origins",
    )
}

fn authenticate(settle: &mut Settle, head: &RequestHead, bytes: &[u8]) -> Result<(), Fault> {
    let plan = &settle.shard.plan;
    if !plan.keys_required {
        return Ok(());
    }
    let query_key = route::query_key(head.query.of(bytes));
    let key = plan.key_table.identify(&Credentials {
        authorization: head.authorization.map(|span| span.of(bytes)),
        api_keys: head.api_keys.map(|span| span.map(|span| span.of(bytes))),
        query_key: query_key.as_deref(),
    })?;
    settle.record.key = Some(key);
    Ok(())
}

/// The response to a key that does not hold: after too many from one address, another one. Keys that hold never come
/// here, so those of its neighbours behind one address go on.
#[cold]
fn count_failure(settle: &Settle, fault: Fault) -> Fault {
    let shard = &settle.shard;
    let (Some(rate), Some(address)) = (&shard.plan.limits.auth_failures, settle.record.client) else {
        return fault;
    };
    match shard.failures.borrow_mut().take(address, rate, settle.started) {
        Some(wait) if fault.kind == FaultKind::KeyInvalid => {
            Fault::new(FaultKind::KeysExceeded, "too many requests without a valid API key from this address")
                .retry_after(wait)
        }
        _ => fault,
    }
}

fn check_body_head(shard: &Shard, head: &RequestHead, bytes: &[u8], api: Api) -> Result<(), Fault> {
    coding(head, bytes)?;
    match head.framing {
        framing::Request::Length(length) if length > shard.plan.limits.body_bytes => {
            let most = shard.plan.limits.body_bytes;
            Err(Fault::new(
                FaultKind::BodyTooLarge,
                format!("the body has {length} bytes, the limit is {most}"),
            ))
        }
        framing::Request::None if api.method() == "POST" && !api.has_id() => {
            Err(Fault::new(FaultKind::BodyMalformed, "a JSON body is expected; the request has none"))
        }
        _ => Ok(()),
    }
}

/// How the body is compressed.
pub(super) fn coding(head: &RequestHead, bytes: &[u8]) -> Result<Option<ContentCoding>, Fault> {
    let Some(value) = head.content_encoding else { return Ok(None) };
    coding::content_coding(value.of(bytes)).map_err(|bad| undecoded(bad, 0))
}

/// The refusal of a body that does not come out of its coding.
pub(super) fn undecoded(bad: BadCoding, bytes_max: u64) -> Fault {
    match bad {
        BadCoding::Corrupt(why) => {
            Fault::new(FaultKind::BodyMalformed, format!("the body cannot be decoded: {why}"))
        }
        BadCoding::TooLarge => Fault::new(
            FaultKind::BodyTooLarge,
            format!("the decoded body has more than the limit of {bytes_max} bytes"),
        ),
        BadCoding::TooDense => Fault::new(
            FaultKind::BodyTooLarge,
            format!("the body grows more than {} times when it is decoded", coding::RATIO_MAX),
        ),
        BadCoding::Unknown => Fault::new(
            FaultKind::MediaUnsupported,
            "content-encoding: one of zstd, gzip and deflate is read, or no coding at all",
        ),
    }
}

/// Whether a key that is known is valid still, and may call this endpoint at all.
fn check_credential(settle: &Settle, api: Api) -> Result<(), Fault> {
    let Some(key) = settle.record.key else { return Ok(()) };
    let row = settle.shard.plan.key(key);
    if let Some(expires) = &row.credential.expires
        && settle.record.at_unix_ms >= expires.unix_ms
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

/// Takes of the limits that a head alone decides.
fn enter(settle: &mut Settle) -> Result<(), Fault> {
    let Some(key) = settle.record.key else { return Ok(()) };
    let (held, left) = admission::enter(&settle.shard.plan, key, settle.started)?;
    settle.held = held;
    settle.requests_left = left;
    Ok(())
}

fn find_model(settle: &mut Settle, name: &str) -> Result<ModelId, Fault> {
    let plan = &settle.shard.plan;
    let Some(model) = plan.find_model(name) else {
        return Err(unknown_model(name));
    };
    settle.record.model = Some(model);
    if may_use(&settle.shard, settle.record.key, model) {
        return Ok(model);
    }
    Err(Fault::new(FaultKind::ModelForbidden, format!("this key may not use the model '{}'", shown(name))))
}

/// The refusal of a name that no model has.
pub(super) fn unknown_model(name: &str) -> Fault {
    Fault::new(FaultKind::ModelUnknown, format!("the model '{}' does not exist here", shown(name)))
}

/// A client's own words, short enough to be said back.
pub(super) fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(SHOWN_BYTES)]
}

/// Takes the tokens that the request may cost. What is estimated by kind never refuses for good: only text does.
fn reserve_tokens(settle: &mut Settle, model: ModelId, peek: &Peek, prompt: Prompt) -> Result<(), Fault> {
    let plan = &settle.shard.plan;
    let wanted = Wanted {
        text: prompt.text,
        prompt: prompt.tokens(),
        output_max: peek.output_cap,
        choices: peek.generations,
        slice: plan.output_tokens_default,
        price: plan.price(model, None).copied(),
    };
    let at = At { now: clock::now(), unix_ms: settle.record.at_unix_ms };
    settle.tokens_left = settle.held.reserve(plan, &wanted, at)?;
    Ok(())
}

/// Bytes of a client's words that a refusal repeats.
const SHOWN_BYTES: usize = 128;
/// Advice when a slot is expected to come free at any moment.
const RETRY_SOON: Nanos = Nanos(1_000_000_000);
