//! The walk of one request, from its head to the end of its response.

use super::body;
use super::caching::find::{self, Kept};
use super::caching::serve;
use super::client::Client;
use super::dispatch;
use super::exchange::{AfterResponse, Exchange};
use super::external;
use super::local;
use super::phases;
use super::relay::Relay;
use super::respond::{self, Ending};
use super::response::Response;
use super::routes;
use super::rules;
use crate::dialect::{self, Api};
use crate::error::Fault;
use crate::plan::Home;
use crate::wire::head::RequestHead;

/// Serves the request whose head lies at the front of the client's inbox.
pub(super) async fn run(client: &mut Client, head: &RequestHead) -> AfterResponse {
    let routed = dialect::route(head.method.name().as_bytes(), head.path.of(client.inbox()));
    let api = routed.as_ref().ok().copied();
    let mut exchange = Exchange::open(&client.shard, client.address.ip(), api, head, client.inbox());
    exchange.home = Home::new(client.shard.id, client.deadline.row());
    client.start_request(head.len);
    let opened = open(client, &mut exchange, routed, head).await;
    client.forget_request();
    match opened {
        Ok(response) => {
            let mut relay = Relay::new(client, &mut exchange, response);
            let after = relay.run(client).await;
            relay.close(client);
            after
        }
        Err(Stop::Ending(ending)) => respond::finish(client, &mut exchange, ending).await,
        // In a box: the memory of all other exchanges does not grow by what this one needs.
        Err(Stop::Kept(kept)) => Box::pin(serve::respond(client, &mut exchange, *kept)).await,
    }
}

/// Why no response of a backend is opened.
enum Stop {
    /// The exchange ends here.
    Ending(Ending),
    /// The response cache has a response.
    Kept(Box<Kept>),
}

impl<T: Into<Ending>> From<T> for Stop {
    fn from(ending: T) -> Self {
        Self::Ending(ending.into())
    }
}

/// Everything up to the opening of a backend's response. It is a function of its own because a stream spends its life in the
/// relay: what only this needs is freed by then.
///
/// # Errors
/// No response of a backend is relayed.
async fn open(
    client: &mut Client,
    exchange: &mut Exchange,
    routed: Result<Api, Fault>,
    head: &RequestHead,
) -> Result<Response, Stop> {
    phases::find_client(exchange, head, client.inbox());
    if let Some(response) = local::on_head(exchange, head, client.inbox())? {
        return Err(Ending::Local(response).into());
    }
    phases::on_head(exchange, routed, head, client.inbox())?;
    client.key = exchange.key;
    let mut body = body::read(client, exchange, head).await?;
    if let Some(response) = local::from_plan(exchange, head, client.inbox(), &body)? {
        return Err(Ending::Local(response).into());
    }
    routes::on_body(client, exchange, head, &mut body);
    rules::on_body(client, exchange, head, &mut body)?;
    let request = phases::on_body(exchange, head, client.inbox(), &body)?;
    if let Some(response) = local::respond(exchange, &request, client.inbox()) {
        return Err(Ending::Local(response).into());
    }
    client.start_waiting(exchange, &request.peek);
    if client.shard.plan.cache.is_some()
        && let Some(kept) = Box::pin(find::kept(client, exchange, &request)).await?
    {
        return Err(Stop::Kept(Box::new(kept)));
    }
    if external::is_asked(exchange) {
        Box::pin(external::check(client, exchange, &request)).await?;
    }
    let response = dispatch::run(client, exchange, &request).await?;
    let is_whole = !response.head.event_stream && !response.is_error();
    if is_whole && !external::of_response(exchange).is_empty() {
        let body = &response.buffer[response.head.len..];
        Box::pin(external::check_response(client, exchange, body)).await?;
    }
    client.end_heartbeats(exchange).await?;
    respond::check_fit(exchange, &response)?;
    Ok(response)
}
