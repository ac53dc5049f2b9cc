//! Sends a request that asked for one model to another one, by what it looks like (`policy::routing::route`).
//!
//! The name of the other model takes the place of the one that the request has, before anything is decided by it: access,
//! content rules, limits and prices are those of the model that serves. A rule whose model the key may not use is skipped.

use std::rc::Rc;

use super::body::Body;
use super::client::Client;
use super::exchange::Exchange;
use super::naming;
use crate::dialect::request::{self, Peek};
use crate::dialect::{Api, estimate, prompt};
use crate::plan::Model;
use crate::policy::routing::conversation;
use crate::policy::routing::route::{Facts, first};
use crate::sync::Ordering;
use crate::wire::head::RequestHead;
use crate::wire::json;

/// Applies the rules of the model that the request asks for, once: where it leads is not looked at. What cannot be read is
/// refused with its reason by `phases::on_body`.
pub(super) fn on_body(client: &mut Client, exchange: &Exchange, head: &RequestHead, body: &mut Body) {
    if !exchange.shard.plan.has_routes || exchange.api.is_none_or(|api| api.has_id() || api.is_local()) {
        return;
    }
    if let Some(edited) = edited(client, exchange, head, body) {
        body.replace(client, head, &edited);
    }
}

/// The body of the request to the other model.
#[cold]
fn edited(client: &Client, exchange: &Exchange, head: &RequestHead, body: &Body) -> Option<Vec<u8>> {
    let shard = Rc::clone(&exchange.shard);
    let (plan, api) = (&shard.plan, exchange.api.unwrap_or_default());
    let payload = body.of(client.inbox());
    let target = (head.path.of(client.inbox()), head.query.of(client.inbox()));
    let (peek, in_path) = request::peek_at(api, target, payload).ok()?;
    // A model in the path cannot be replaced.
    if in_path.is_some() {
        return None;
    }
    let model = plan.model(naming::find(plan, api, &peek.model_name(payload))?);
    if model.routes.is_empty() || !shard.may_use(exchange.key, model.id) {
        return None;
    }
    let lines = head.fields.of(client.inbox());
    let to = plan.model(choose(exchange, model, api, &peek, payload, lines)?);
    plan.models.cells(model.id).routed.fetch_add(1, Ordering::Relaxed);
    let mut name = Vec::new();
    json::quote(&mut name, &to.name);
    let (before, after) = (&payload[..peek.model.start], &payload[peek.model.end..]);
    Some([before, &name, after].concat())
}

fn choose(
    exchange: &Exchange,
    model: &Model,
    api: Api,
    peek: &Peek,
    payload: &[u8],
    lines: &[u8],
) -> Option<crate::units::ModelId> {
    let shard = &exchange.shard;
    let plan = &shard.plan;
    let session = plan.session_headers.find(lines);
    let facts = Facts {
        prompt_tokens: estimate::prompt(api, payload, &plan.estimate).tokens(),
        tools: peek.has_tools(payload),
        images: || prompt::has_images(peek, payload),
        lines,
        key: exchange.key,
        draw: conversation::draw(peek, payload, session, shard.random()),
    };
    let allowed = model.routes.iter().filter(|route| shard.may_use(exchange.key, route.to));
    first(allowed, &facts).map(|route| route.to)
}
