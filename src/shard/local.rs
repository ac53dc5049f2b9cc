//! Responses of the gateway's own: models, token counts by estimate, browsers' preflight requests.

use super::body::Body;
use super::exchange::Exchange;
use super::request::Request;
use super::wording::{foreign_page, unknown_model};
use crate::clock;
use crate::dialect::ollama::load;
use crate::dialect::{self, Dialect, Task, estimate, models};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::plan::admission::At;
use crate::plan::{Member, Model, standing};
use crate::policy::auth::origin::PageGrant;
use crate::units::ModelId;
use crate::wire::head::{Method, RequestHead};
use crate::wire::{fields, framing};

/// A response that no backend is called for.
pub(super) enum Local {
    /// A JSON document.
    Json(Buffer),
    /// Plain text.
    Text(Buffer),
    /// A stream of lines, whole.
    Lines(Buffer),
    /// 204 and these header lines.
    Preflight(Buffer),
}

/// The response to a browser's preflight request (Fetch section 4.8). It carries no credential, so none is checked; the
/// request that follows has to have one, whatever was allowed here.
///
/// # Errors
/// The page is not listed.
pub(super) fn on_head(
    exchange: &mut Exchange,
    head: &RequestHead,
    bytes: &[u8],
) -> Result<Option<Local>, Fault> {
    let lines = || fields::lines(head.fields.of(bytes));
    let is_preflight = head.method == Method::Options
        && exchange.shard.plan.pages.is_some()
        && head.origin.is_some()
        && matches!(head.framing, framing::Request::None | framing::Request::Length(0))
        && lines().any(|line| line.name.eq_ignore_ascii_case(b"access-control-request-method"));
    if !is_preflight {
        return Ok(None);
    }
    exchange.api_name = "preflight";
    if exchange.page == PageGrant::None {
        return Err(foreign_page());
    }
    let mut out = exchange.shard.buffers.small();
    out.extend_from_slice(PREFLIGHT_LINES);
    // The names that are asked for are allowed: what protects the gateway is the key.
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_, \t".contains(byte);
    let named = lines()
        .find(|line| line.name.eq_ignore_ascii_case(b"access-control-request-headers"))
        .filter(|line| line.value.len() <= REQUESTED_BYTES_MAX && line.value.iter().all(is_name));
    if let Some(named) = named {
        out.extend_from_slice(b"access-control-allow-headers: ");
        out.extend_from_slice(named.value);
        out.extend_from_slice(b"\r\n");
    }
    Ok(Some(Local::Preflight(out)))
}

/// What the plan alone says, where that is asked for: the models this key may use, one of them, or the state of the key.
///
/// # Errors
/// There is no such model, or the gateway has no keys.
pub(super) fn from_plan(
    exchange: &Exchange,
    head: &RequestHead,
    bytes: &[u8],
    body: &Body,
) -> Result<Option<Local>, Fault> {
    let (shard, dialect) = (&exchange.shard, exchange.terms.dialect);
    let plan = &shard.plan;
    let usable = |model: &ModelId| shard.may_use(exchange.key, *model);
    let Some(api) = exchange.api.filter(|api| api.is_local()) else { return Ok(None) };
    let mut out = shard.buffers.large();
    match api.task() {
        Task::ShowKey => {
            let key = exchange.key;
            let key = key.ok_or_else(|| Fault::new(FaultKind::PathUnknown, "this gateway has no keys"))?;
            let at = At { now: clock::now(), unix_ms: exchange.started_unix_ms };
            standing::render(plan, key, at, &mut out);
        }
        Task::ListModels => {
            let listed = |model: &&Model| model.prefix.is_none() && usable(&model.id);
            let entries = plan.models.iter().filter(listed).map(entry);
            models::list(dialect, entries, &mut out);
        }
        // Nothing is loaded here: where a model runs, and since when, is the backends' own affair.
        Task::ListLoaded => models::list(dialect, [], &mut out),
        Task::ShowVersion => models::version(&mut out),
        Task::Greet => {
            out.extend_from_slice(models::GREETING.as_bytes());
            return Ok(Some(Local::Text(out)));
        }
        task => {
            let id = match task {
                Task::DescribeModel => models::described(body.of(bytes))?,
                _ => dialect::route::model_id(head.path.of(bytes)).unwrap_or_default(),
            };
            let model = plan.find_asked(api, &id).filter(usable).ok_or_else(|| unknown_model(&id))?;
            let entry = models::Entry { name: &id, ..entry(plan.model(model)) };
            match task {
                Task::DescribeModel => models::description(entry, &mut out),
                _ => models::one(dialect, entry, &mut out),
            }
        }
    }
    Ok(Some(Local::Json(out)))
}

fn entry(model: &Model) -> models::Entry<'_> {
    models::Entry { name: &model.name, created: model.created, context_length: model.context_length }
}

/// A response that the decided request needs no backend for: a count of tokens by our own estimate, where the backends of
/// the model serve Messages by translation only and so have no such endpoint. A client that is refused here would call the
/// model itself for each count.
pub(super) fn respond(exchange: &Exchange, request: &Request<'_>, bytes: &[u8]) -> Option<Local> {
    if let Some(loaded) = loaded(exchange, request, bytes) {
        return Some(loaded);
    }
    if request.api.task() != Task::CountTokens || counts_tokens(exchange, request) {
        return None;
    }
    let mut out = exchange.shard.buffers.small();
    estimate::count(request.api, exchange.prompt_tokens, &mut out);
    Some(Local::Json(out))
}

/// The response to a request that asks for nothing but that a model be loaded, where no backend of the model has such requests.
fn loaded(exchange: &Exchange, request: &Request<'_>, bytes: &[u8]) -> Option<Local> {
    if request.api.dialect() != Dialect::Ollama || !load::is_load(request.api, request.body.of(bytes)) {
        return None;
    }
    let plan = &exchange.shard.plan;
    let model = plan.model(request.model);
    let takes_it = |member: &Member| plan.backend(member.backend).provider.speaks(request.api);
    if model.pool.iter().any(takes_it) {
        return None;
    }
    let payload = request.body.of(bytes);
    let (name, created) = (request.peek.model_name(payload), exchange.started_unix_ms / 1000);
    let mut out = exchange.shard.buffers.small();
    load::loaded(request.api, &name, created, payload, &mut out);
    Some(if request.peek.stream { Local::Lines(out) } else { Local::Json(out) })
}

/// Whether a backend of this model is called for a count of tokens: one of them serves it, or none serves the requests that
/// are counted at all.
fn counts_tokens(exchange: &Exchange, request: &Request<'_>) -> bool {
    let plan = &exchange.shard.plan;
    let call = |member: &Member, api| plan.backend(member.backend).provider.call(api);
    let pool = &plan.model(request.model).pool;
    let serves = |api| pool.iter().any(|member| call(member, api).is_some());
    serves(request.api) || !request.api.counts().is_some_and(serves)
}

/// What every preflight response has. Ten minutes: browsers keep it for two hours at most.
const PREFLIGHT_LINES: &[u8] = b"vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n\
    access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\naccess-control-max-age: 600\r\n";
/// Names of header lines that a preflight request may ask for, in bytes.
const REQUESTED_BYTES_MAX: usize = 4 * 1024;
