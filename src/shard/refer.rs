//! Requests that refer to a response: in their path, or by `previous_response_id`. Only the backend that made it knows it.

use super::body::Body;
use super::exchange::Exchange;
use super::request::Request;
use super::state::Shard;
use super::wording::shown;
use crate::dialect::request::Peek;
use crate::dialect::{Api, route};
use crate::error::{Fault, FaultKind};
use crate::plan::Model;
use crate::policy::auth::ids::Maker;
use crate::units::{BackendId, KeyId, ModelId};
use crate::wire::head::RequestHead;
use crate::wire::json;

/// Binds a request to the backend of the response that its body refers to, if it refers to one.
///
/// # Errors
/// No backend of the model or its fallbacks made it.
pub(super) fn by_body<'a>(
    exchange: &mut Exchange,
    mut request: Request<'a>,
    payload: &[u8],
) -> Result<Request<'a>, Fault> {
    let shard = exchange.shard.clone();
    let asked = shard.plan.model(request.model);
    exchange.renames_ids = asked.renames_ids;
    let previous = request.peek.previous.and_then(|span| json::string(span.of(payload)));
    let Some((maker, id)) = previous.as_ref().and_then(|id| open(&shard, exchange.key, id)) else {
        return Ok(request);
    };
    let key = exchange.key;
    let may_stand_in = |id: &&ModelId| {
        shard.may_use(key, **id) && shard.plan.allows_fallback(key, asked, shard.plan.model(**id), payload)
    };
    let fallbacks = asked.fallbacks.iter().filter(may_stand_in);
    let mut models = std::iter::once(asked).chain(fallbacks.map(|id| shard.plan.model(*id)));
    let made = models.find_map(|model| Some((model.id, made_by(&shard, model, request.api, maker)?)));
    let (model, backend) = made.ok_or_else(|| unknown(previous.as_deref().unwrap_or_default()))?;
    if model != request.model {
        exchange.fallback_for.get_or_insert(request.model);
        exchange.model = Some(model);
    }
    exchange.renames_ids = true;
    (request.model, request.bound) = (model, Some(backend));
    json::quote(&mut request.id, &String::from_utf8_lossy(&id));
    Ok(request)
}

/// Decides a request by the response id in its path. It names no model: the backend that made the response is called; for an
/// id that does not say which that is, the only backend that can have made it.
///
/// # Errors
/// No backend, or more than one, may have made the response.
pub(super) fn by_path<'a>(
    exchange: &mut Exchange,
    head: &'a RequestHead,
    bytes: &[u8],
    body: &'a Body,
) -> Result<Request<'a>, Fault> {
    let api = exchange.api.unwrap_or_default();
    let id = route::response_id(head.path.of(bytes)).unwrap_or_default();
    let peek = Peek::of_path(api, head.query.of(bytes));
    let (shard, key) = (exchange.shard.clone(), exchange.key);
    let mut usable = shard.plan.models.iter().filter(|model| shard.may_use(key, model.id));
    let (model, backend, id) = match open(&shard, key, &id) {
        Some((maker, own)) => {
            let made = usable.find_map(|model| Some((model.id, made_by(&shard, model, api, maker)?)));
            let (model, backend) = made.ok_or_else(|| unknown(&id))?;
            exchange.renames_ids = true;
            (model, backend, own)
        }
        None => {
            let serving = usable.flat_map(|model| model.pool.iter().map(|member| (model.id, member.backend)));
            let mut serving =
                serving.filter(|(_, backend)| shard.plan.backend(*backend).provider.speaks(api));
            let (model, backend) = serving.next().ok_or_else(|| unknown(&id))?;
            if serving.any(|(_, other)| other != backend) {
                return Err(ambiguous(&id));
            }
            (model, backend, id.as_bytes().to_vec())
        }
    };
    exchange.wants_stream = peek.stream;
    exchange.model = Some(model);
    Ok(Request { head, body, api, peek, model, bound: Some(backend), id, said: None })
}

fn open(shard: &Shard, key: Option<KeyId>, id: &str) -> Option<(Maker, Vec<u8>)> {
    shard.plan.ids.as_ref()?.open(owner(shard, key), id.as_bytes())
}

/// The owner of an id: the key by its name, so that it stays the same when the key is replaced.
pub(super) fn owner(shard: &Shard, key: Option<KeyId>) -> &str {
    key.map_or("", |key| &shard.plan.key(key).name)
}

/// The member of a pool that made something, if it still is a member and serves the API.
fn made_by(shard: &Shard, model: &Model, api: Api, maker: Maker) -> Option<BackendId> {
    let backends = model.pool.iter().map(|member| shard.plan.backend(member.backend));
    let mut made = backends.filter(|backend| backend.maker == maker && backend.provider.speaks(api));
    made.next().map(|backend| backend.id)
}

/// The refusal of an id that no backend knows.
fn unknown(id: &str) -> Fault {
    let shown = shown(id);
    Fault::new(
        FaultKind::ResponseUnknown,
        format!("the response '{shown}' is not known to a backend of this model"),
    )
}

/// The refusal of an id that does not say which of several backends made it.
fn ambiguous(id: &str) -> Fault {
    let shown = shown(id);
    Fault::new(
        FaultKind::ResponseUnknown,
        format!(
            "the response '{shown}' may be of several backends, and its id does not say which: the operator can set \
             '[ids] always = true' for the responses made from then on"
        ),
    )
}
