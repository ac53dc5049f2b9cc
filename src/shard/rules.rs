//! Content rules at their places in the walk: on a request before it is decided, on a response when it has been opened.

use std::rc::Rc;

use super::body::Body;
use super::client::Client;
use super::convert::{self, JSON, Retold};
use super::exchange::Exchange;
use super::response::Response;
use super::state::Shard;
use super::wording::{refused, refused_because};
use crate::dialect::{Api, request};
use crate::error::{Fault, FaultKind};
use crate::policy::guard::rules::Action;
use crate::policy::guard::whole;
use crate::sync::Ordering;
use crate::wire::head::RequestHead;
use crate::wire::json;

/// Applies the rules of the request's model to it: masks are written into the client's inbox, a route becomes the model that
/// the request asks for.
///
/// # Errors
/// A rule refuses the request. Nothing of it has gone to a backend.
pub(super) fn on_body(
    client: &mut Client,
    exchange: &mut Exchange,
    head: &RequestHead,
    body: &mut Body,
) -> Result<(), Fault> {
    if exchange.shard.plan.guards.is_empty() || exchange.api.is_none_or(Api::has_id) {
        return Ok(());
    }
    for _ in 0..MODELS_MAX {
        if apply(client, exchange, head, body)? == Applied::Done {
            return Ok(());
        }
    }
    let note = "content rules send this request from model to model; tell the operator";
    Err(Fault::new(FaultKind::ContentRefused, note))
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Applied {
    /// It asks for a model whose rules have been applied, or for none.
    Done,
    /// It asks for another model now.
    Routed,
}

/// Applies the rules of the model that the request asks for. What cannot be read, or asked for, is refused with its reason by
/// `phases::on_body`.
fn apply(
    client: &mut Client,
    exchange: &mut Exchange,
    head: &RequestHead,
    body: &mut Body,
) -> Result<Applied, Fault> {
    let shard = Rc::clone(&exchange.shard);
    let (plan, api) = (&shard.plan, exchange.api.unwrap_or_default());
    let payload = body.of(client.inbox());
    let target = (head.path.of(client.inbox()), head.query.of(client.inbox()));
    let peeked = request::peek_at(api, target, payload);
    let Ok((peek, in_path)) = peeked else { return Ok(Applied::Done) };
    let is_in_path = in_path.is_some();
    let asked = in_path.unwrap_or_else(|| peek.model_name(payload));
    let model = plan.find_asked(api, &asked).filter(|model| shard.may_use(exchange.key, *model));
    let Some(guards) = model.and_then(|model| plan.model(model).reading_guards()) else {
        return Ok(Applied::Done);
    };
    exchange.model = model;
    let applies = |rule| guards.applies(plan, rule, exchange.key);
    let mut labels = exchange.labels.take().unwrap_or_default();
    let mut checked = whole::request(&guards.guards, payload, &mut labels, &applies);
    exchange.labels = labels.restores().then_some(labels);
    for finding in &checked.findings {
        guards.count(plan, finding.rule);
        exchange.marks().borrow_mut().note(&guards.guards, finding);
    }
    let mut applied = Applied::Done;
    if let Some(rule) = checked.decides {
        let (cells, row) = (guards.cells(plan, rule), guards.guards.rule(rule));
        match &row.action {
            Action::Route(to) if **to == *asked => {}
            Action::Route(to) if !is_in_path => {
                cells.routed.fetch_add(1, Ordering::Relaxed);
                let mut name = Vec::new();
                json::quote(&mut name, to);
                checked.edits.push((peek.model, name));
                applied = Applied::Routed;
            }
            // A model in the path cannot be replaced by another one.
            _ => {
                cells.refused.fetch_add(1, Ordering::Relaxed);
                return Err(match &checked.reason {
                    Some(reason) => refused_because(&row.name, reason),
                    None => refused(&row.name),
                });
            }
        }
    }
    if !checked.edits.is_empty() {
        checked.edits.sort_by_key(|edit| edit.0.start);
        let edited = checked.edited(payload);
        body.replace(client, head, &edited);
    }
    Ok(applied)
}

/// Applies the rules to an opened response: to what has come of a stream, or to a whole body.
///
/// # Errors
/// A rule stops the response, or the response cannot be read.
pub(super) fn on_response(shard: &Shard, response: &mut Response) -> Result<(), Fault> {
    let Some(mut guarding) = response.guarding.take().filter(|_| !response.is_error()) else { return Ok(()) };
    if response.is_coded() {
        let note = "the backend's response is in a content coding, which content rules cannot read";
        return Err(Fault::new(FaultKind::BackendMalformed, note));
    }
    if response.head.event_stream {
        let (from, ended) = (response.head.len, response.decoded.ended);
        guarding.records(&mut response.buffer, from, ended)?;
        response.guarding = Some(guarding);
        return Ok(());
    }
    if !response.decoded.ended {
        let note = "the backend's response is longer than content rules may hold ([limits] body)";
        return Err(Fault::new(FaultKind::BackendMalformed, note));
    }
    let Some(edited) = guarding.whole(&response.buffer[response.head.len..])? else { return Ok(()) };
    let retold = Retold {
        status: response.head.status,
        label: JSON,
        length: Some(edited.len() as u64),
        body: &edited,
    };
    match convert::retell(shard, response, &retold) {
        true => Ok(()),
        false => {
            Err(Fault::new(FaultKind::BackendMalformed, "the head of the backend's response is too long"))
        }
    }
}

/// Models that one request may be sent to, one after the other.
const MODELS_MAX: usize = 4;
