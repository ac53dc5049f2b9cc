//! One client connection: its PROXY header and TLS handshake, then one exchange after the other.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::client::Client;
use super::exchange::{AfterResponse, ClientTerms, Exchange};
use super::interrupt::{self, Interrupt};
use super::respond::{self, Ending};
use super::state::Shard;
use super::walk;
use crate::error::{Fault, FaultKind};
use crate::net::listen::Accepted;
use crate::net::{stream, tls};
use crate::observe::counters::Counter;
use crate::policy::auth::forwarded;
use crate::units::Nanos;
use crate::wire::Step;
use crate::wire::head::{self, RequestHead};
use crate::wire::proxy_protocol::{self, ProxyHeader};

/// Serves a client until it leaves, or a response ends the connection.
pub(super) async fn serve(shard: Rc<Shard>, mut accepted: Accepted) {
    let tls = shard.plan.listeners[accepted.listener].tls.clone();
    let deadline = shard.deadlines.row();
    if shard.plan.listeners[accepted.listener].proxy_protocol {
        deadline.set(PROXY_HEADER.min(shard.plan.timeouts.head));
        match interrupt::until(&deadline, Box::pin(proxied(&shard, &mut accepted))).await {
            Ok(Some(client)) => accepted.client = client,
            _ => return shard.numbers.add(Counter::ProxyHeadersRefused, 1),
        }
    }
    let address = accepted.client;
    deadline.set(shard.plan.timeouts.head);
    let Ok(socket) = accepted.into_socket(shard.tuning().busy_poll_us) else { return };
    let halves = match tls {
        None => stream::plain(socket),
        Some(config) => {
            deadline.set(TLS_HANDSHAKE.min(shard.plan.timeouts.head));
            match interrupt::until(&deadline, Box::pin(tls::accept(socket, config))).await {
                Ok(Ok(halves)) => {
                    shard.numbers.add(Counter::TlsHandshakes, 1);
                    halves
                }
                _ => return shard.numbers.add(Counter::TlsFailures, 1),
            }
        }
    };
    let mut client = Client::new(shard, deadline, address, halves);
    serve_client(&mut client).await;
    client.close();
}

/// The client of the proxy that connected, by the PROXY header. `None`: the peer is no trusted proxy, or its header is not
/// valid; what follows cannot be told from a header, so the connection must close.
async fn proxied(shard: &Shard, accepted: &mut Accepted) -> Option<SocketAddr> {
    if !forwarded::is_trusted(accepted.client.ip(), &shard.plan.trusted_proxies) {
        return None;
    }
    let (mut bytes, mut had) = (vec![0; proxy_protocol::BYTES_MAX], 0);
    loop {
        let come = accepted.peek(&mut bytes[had..]).await.ok()?;
        let read = proxy_protocol::read(&bytes[..had + come])?;
        let end = match read {
            ProxyHeader::More => had + come,
            ProxyHeader::Done(end, _) => end,
        };
        accepted.take(&mut bytes[had..end]).ok()?;
        had = end;
        if let ProxyHeader::Done(_, client) = read {
            return Some(client.unwrap_or(accepted.client));
        }
    }
}

/// Refuses the first request of a client over the bound, and closes its connection.
pub(super) async fn turn_away(shard: Rc<Shard>, accepted: Accepted) {
    let address = accepted.client;
    let deadline = shard.deadlines.row();
    let Ok(socket) = accepted.into_socket(0) else { return };
    let mut client = Client::new(shard, deadline, address, stream::plain(socket));
    // Only after a request: a client may take a response that it did not ask for as one to its next request.
    if let Ok(Some(head)) = read_head(&mut client, TURN_AWAY).await {
        let mut exchange = Exchange::unread(&client.shard, client.address.ip());
        exchange.terms = ClientTerms::new(&head, client.inbox(), None);
        exchange.request_bytes = head.len as u64;
        let note = "the gateway holds as many connections as it may ([shards] connections_max)";
        let fault = Fault::new(FaultKind::Overloaded, note).retry_after(TURNED_AWAY_WAIT);
        respond::finish(&mut client, &mut exchange, Ending::Fault(fault)).await;
        linger(&mut client).await;
    }
    client.close();
}

/// Serves one exchange after the other.
async fn serve_client(client: &mut Client) {
    let mut patience = client.shard.plan.timeouts.head;
    loop {
        let head = match read_head(client, patience).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(fault) => return refuse_unread(client, fault).await,
        };
        use_active_plan(client);
        match walk::run(client, &head).await {
            AfterResponse::KeepAlive => {}
            AfterResponse::Finish => return client.finish().await,
            AfterResponse::Close => return,
            AfterResponse::Linger => return linger(client).await,
        }
        patience = client.shard.plan.timeouts.keep_alive;
    }
}

/// Refuses a request whose head cannot be read.
#[cold]
async fn refuse_unread(client: &mut Client, fault: Fault) {
    let mut exchange = Exchange::unread(&client.shard, client.address.ip());
    respond::finish(client, &mut exchange, Ending::Fault(fault)).await;
    linger(client).await;
}

/// Waits for the head of the next request; `None` when the client has closed, or is to be closed. `patience` is for the first
/// byte; from then on the whole head has the head deadline, however slowly it comes.
async fn read_head(client: &mut Client, patience: Nanos) -> Result<Option<RequestHead>, Fault> {
    let limits = client.shard.head_limits();
    let mut scanned = 0;
    let mut started = !client.inbox().is_empty();
    client.deadline.set(if started { client.shard.plan.timeouts.head } else { patience });
    loop {
        if started && let Step::Done(head) = head::request(client.inbox(), &mut scanned, &limits)? {
            return Ok(Some(head));
        }
        let filled = if started { client.fill(0).await } else { first_bytes(client).await };
        match filled {
            Ok(true) if !started => {
                started = true;
                client.deadline.set(client.shard.plan.timeouts.head);
            }
            Ok(true) => {}
            Ok(false)
            | Err(
                Interrupt::ClientGone
                | Interrupt::ClientStalled
                | Interrupt::Stopping
                | Interrupt::KeyRevoked,
            ) => {
                return Ok(None);
            }
            Err(Interrupt::DeadlineExceeded) if !started => {
                client.shard.numbers.inc(Counter::KeepAliveExpired);
                return Ok(None);
            }
            Err(Interrupt::DeadlineExceeded) => {
                return Err(Fault::new(FaultKind::HeadTimeout, "the request head did not arrive in time"));
            }
        }
    }
}

/// Waits for the first bytes of a request. An idle client moves to the active plan; when the shard closes it has a little time
/// left, since a request may be on its way, whose response then asks the client to reconnect.
async fn first_bytes(client: &mut Client) -> Result<bool, Interrupt> {
    let mut closing = false;
    loop {
        let shard = client.shard.clone();
        let filled = {
            let mut fill = pin!(client.fill(0));
            poll_fn(|context| match fill.as_mut().poll(context) {
                Poll::Pending if shard.is_stopping() => Poll::Ready(Some(Err(Interrupt::Stopping))),
                Poll::Pending if shard.is_closing() != closing || shard.is_outdated() => Poll::Ready(None),
                polled => polled.map(Some),
            })
            .await
        };
        if let Some(filled) = filled {
            return filled;
        }
        use_active_plan(client);
        if client.shard.is_closing() && !std::mem::replace(&mut closing, true) {
            let until = client.deadline.now().plus(LAST_CHANCE);
            client.deadline.set_at(until.min(client.deadline.at()));
        }
    }
}

/// The next exchange uses the active plan.
fn use_active_plan(client: &mut Client) {
    if client.shard.is_outdated()
        && let Some(newest) = client.shard.newest()
    {
        client.shard = newest;
    }
}

/// Ends our side and reads on for a while: a reset before that could discard the response.
async fn linger(client: &mut Client) {
    client.finish().await;
    client.deadline.set(LINGER);
    let mut left = LINGER_BYTES;
    while left > 0 {
        let had = client.inbox().len();
        match client.fill(0).await {
            Ok(true) => left = left.saturating_sub(client.inbox().len() - had),
            _ => return,
        }
        client.consume(client.inbox().len());
    }
}

/// Patience for a PROXY header: proxies send it at once.
const PROXY_HEADER: Nanos = Nanos(3_000_000_000);
/// Patience for the first byte of a request that will be refused.
const TURN_AWAY: Nanos = Nanos(1_000_000_000);
/// Patience for a TLS handshake.
const TLS_HANDSHAKE: Nanos = Nanos(5_000_000_000);
/// The time an idle client has left when the shard closes: for a request that it sent before it could know.
const LAST_CHANCE: Nanos = Nanos(1_000_000_000);
/// How long, and how much, we read after a response that ends the connection.
const LINGER: Nanos = Nanos(2_000_000_000);
const LINGER_BYTES: usize = 64 * 1024;
/// When a client that was turned away should try again.
const TURNED_AWAY_WAIT: Nanos = Nanos(1_000_000_000);
