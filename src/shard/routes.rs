//! Sends a request that asked for one model to another one, by what it looks like (`policy::routing::route`).
//!
//! The name of the other model takes the place of the one that the request has, before anything is decided by it: access,
//! content rules, limits and prices are those of the model that serves. A rule whose model the key may not use is skipped.

use std::rc::Rc;

use super::body::Body;
use super::client::Client;
use super::exchange::Exchange;
use crate::dialect::request;
use crate::plan::availability::Sighting;
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
    let model = plan.model(plan.find_asked(api, &peek.model_name(payload))?);
    if model.routes.is_empty() || !shard.may_use(exchange.key, model.id) {
        return None;
    }
    let lines = head.fields.of(client.inbox());
    let (session, key, random) = (plan.session_headers.find(lines), exchange.key, shard.random());
    let seen = Sighting { api, peek: &peek, body: payload, lines, session, key, random };
    let to = plan.model(plan.routed(model, &seen)?);
    plan.models.cells(model.id).routed.fetch_add(1, Ordering::Relaxed);
    let mut name = Vec::new();
    json::quote(&mut name, &to.name);
    let (before, after) = (&payload[..peek.model.start], &payload[peek.model.end..]);
    Some([before, &name, after].concat())
}
