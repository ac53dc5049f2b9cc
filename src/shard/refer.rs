//! Requests that refer to a response: in their path, or by `previous_response_id`. Only the backend that made it knows it.

use std::borrow::Cow;

use super::Shard;
use super::phases;
use super::settle::Settle;
use crate::dialect::request::Peek;
use crate::dialect::{Api, route};
use crate::error::{Fault, FaultKind};
use crate::plan::Model;
use crate::policy::auth::ids::Maker;
use crate::units::{BackendId, KeyId, ModelId};
use crate::wire::head::RequestHead;
use crate::wire::json;

/// Whom a request is for.
pub(super) struct Decided {
    pub(super) model: ModelId,
    pub(super) peek: Peek,
    /// The one backend that has what the request refers to.
    pub(super) bound: Option<BackendId>,
    /// What that backend calls it: text for the path, or a JSON string to stand in the place of the client's.
    pub(super) id: Vec<u8>,
}

/// Decides by the body, or by the path where that says all.
pub(super) fn decide(
    settle: &mut Settle,
    api: Api,
    head: &RequestHead,
    bytes: &[u8],
    body: &[u8],
) -> Result<Decided, Fault> {
    if !api.has_id() {
        return by_body(settle, api, route::deployment(head.path.of(bytes)), body);
    }
    let id = route::response_id(head.path.of(bytes)).unwrap_or_default();
    let peek = Peek::of_path(api, head.query.of(bytes));
    let decided = by_path(settle, peek, &id)?;
    settle.record.stream = peek.stream;
    settle.record.model = Some(decided.model);
    Ok(decided)
}

fn by_body(
    settle: &mut Settle,
    api: Api,
    in_path: Option<Cow<'_, str>>,
    body: &[u8],
) -> Result<Decided, Fault> {
    let (model, peek) = phases::on_body(settle, api, in_path, body)?;
    let mut decided = Decided { model, peek, bound: None, id: Vec::new() };
    if !api.refers() {
        return Ok(decided);
    }
    let shard = settle.shard.clone();
    let asked = shard.plan.model(model);
    settle.renames = asked.renames_ids;
    let previous = peek.previous.and_then(|span| json::string(span.of(body)));
    let Some((maker, id)) = previous.as_ref().and_then(|id| open(&shard, settle.record.key, id)) else {
        return Ok(decided);
    };
    let stand_ins = asked.fallbacks.iter().filter(|id| phases::may_use(&shard, settle.record.key, **id));
    let mut models = std::iter::once(asked).chain(stand_ins.map(|id| shard.plan.model(*id)));
    let made = models.find_map(|model| Some((model.id, made_by(&shard, model, api, maker)?)));
    let (model, backend) = made.ok_or_else(|| unknown(previous.as_deref().unwrap_or_default()))?;
    if model != decided.model {
        settle.record.fallback_for = Some(decided.model);
        settle.record.model = Some(model);
    }
    settle.renames = true;
    (decided.model, decided.bound) = (model, Some(backend));
    json::quote(&mut decided.id, &String::from_utf8_lossy(&id));
    Ok(decided)
}

/// Without a body no model is named: whoever made the response is asked; of an id that says nothing about that, the only
/// backend that can have made it.
fn by_path(settle: &mut Settle, peek: Peek, id: &str) -> Result<Decided, Fault> {
    let (shard, key) = (settle.shard.clone(), settle.record.key);
    let mut usable = shard.plan.models.iter().filter(|model| phases::may_use(&shard, key, model.id));
    if let Some((maker, own)) = open(&shard, key, id) {
        let made = usable.find_map(|model| Some((model.id, made_by(&shard, model, peek.api, maker)?)));
        let (model, backend) = made.ok_or_else(|| unknown(id))?;
        settle.renames = true;
        return Ok(Decided { model, peek, bound: Some(backend), id: own });
    }
    let serving = usable.flat_map(|model| model.pool.iter().map(|member| (model.id, member.backend)));
    let mut serving = serving.filter(|(_, backend)| shard.plan.backend(*backend).provider.speaks(peek.api));
    let (model, backend) = serving.next().ok_or_else(|| unknown(id))?;
    match serving.any(|(_, other)| other != backend) {
        true => Err(unknown(id)),
        false => Ok(Decided { model, peek, bound: Some(backend), id: id.as_bytes().to_vec() }),
    }
}

fn open(shard: &Shard, key: Option<KeyId>, id: &str) -> Option<(Maker, Vec<u8>)> {
    shard.plan.ids.as_ref()?.open(owner(shard, key), id.as_bytes())
}

/// To whom an id belongs: the key by its name, so that it stays the same when the key is replaced.
pub(super) fn owner(shard: &Shard, key: Option<KeyId>) -> &str {
    key.map_or("", |key| &shard.plan.key(key).name)
}

/// The member of a pool that made something, if it still is one and can be asked.
fn made_by(shard: &Shard, model: &Model, api: Api, maker: Maker) -> Option<BackendId> {
    let backends = model.pool.iter().map(|member| shard.plan.backend(member.backend));
    let mut made = backends.filter(|backend| backend.maker == maker && backend.provider.speaks(api));
    made.next().map(|backend| backend.id)
}

/// The refusal of an id that nobody here can be asked about.
fn unknown(id: &str) -> Fault {
    let shown = phases::shown(id);
    Fault::new(
        FaultKind::ResponseUnknown,
        format!("the response '{shown}' is not known to a backend of this model"),
    )
}
