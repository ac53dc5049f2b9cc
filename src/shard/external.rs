//! Content rules whose verdict another process gives, asked before a request goes to a backend.
//!
//! The guard is one of the configured backends, called over the shard's own connections: so its address, credential, TLS, proxy,
//! kept connections and in-flight bound are those of any backend, and a slow guard holds up nothing but the requests that wait for
//! it. Nothing blocks the shard and no thread is woken. Each rule has a breaker of its own and a bound on its time; without a
//! verdict `on_failure` decides.

use std::rc::Rc;

use super::client::Client;
use super::decode::Decode;
use super::dispatch::dial::Dial;
use super::exchange::Exchange;
use super::guarding::{refused, refused_because};
use super::heads::number;
use super::idle::Connection;
use super::interrupt::Interrupt;
use super::lease::Lease;
use super::request::Request;
use super::state::Shard;
use crate::clock;
use crate::dialect::texts::Place;
use crate::error::{Fault, FaultKind};
use crate::net::buffers::{Buffer, grow};
use crate::plan::cells::Health;
use crate::plan::guards::{External, ModelGuards};
use crate::policy::guard::external::{self, About, Verdict};
use crate::policy::guard::verdicts;
use crate::policy::routing::failure_state::{FailureState, Report};
use crate::sync::Ordering;
use crate::units::{Nanos, Span};
use crate::wire::Step;
use crate::wire::head::{self, Method};

/// Asks the guards of the request's model, one after the other.
///
/// # Errors
/// One of them refuses the request, or gives no verdict and must; or the client left. Nothing has gone to a backend.
pub(super) async fn check(
    client: &mut Client,
    exchange: &mut Exchange,
    request: &Request<'_>,
) -> Result<(), Fault> {
    let shard = client.shard.clone();
    let Some(guards) = shard.plan.model(request.model).guards.clone() else { return Ok(()) };
    for one in &guards.externals {
        let row = shard.plan.guards.row(one.id);
        if !row.applies(exchange.key) {
            continue;
        }
        let asked = ask(client, exchange, request, one).await;
        let cells = shard.plan.guards.cells(one.id);
        match asked {
            Ok(None) | Ok(Some(Verdict { refuses: false, .. })) => {}
            Ok(Some(verdict)) => {
                cells.matches.fetch_add(1, Ordering::Relaxed);
                if one.is_shadow {
                    cells.shadowed.fetch_add(1, Ordering::Relaxed);
                }
                note(exchange, request, client, &guards, one, &row.name);
                if one.enforces {
                    cells.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(with_reason(&row.name, &verdict));
                }
            }
            Err(Unasked::Client(fault)) => return Err(fault),
            Err(Unasked::Guard(reason)) => {
                cells.failed.fetch_add(1, Ordering::Relaxed);
                if one.enforces && !one.fails_open {
                    let note = format!("the content rule '{}' cannot be checked: {reason}", row.name);
                    return Err(Fault::new(FaultKind::GuardFailed, note));
                }
            }
        }
    }
    Ok(())
}

fn with_reason(name: &str, verdict: &Verdict) -> Fault {
    match &verdict.reason {
        None => refused(name),
        Some(reason) => refused_because(name, reason),
    }
}

/// Why there is no verdict.
enum Unasked {
    /// The client left, or its exchange ended.
    Client(Fault),
    /// The guard did not give one.
    Guard(&'static str),
}

/// The verdict of a guard; `None` where it has nothing to read.
async fn ask(
    client: &mut Client,
    exchange: &Exchange,
    request: &Request<'_>,
    one: &External,
) -> Result<Option<Verdict>, Unasked> {
    let shard = client.shard.clone();
    let body = request.body.of(client.inbox());
    let too_long = || Unasked::Guard("the request has more text than a guard is sent");
    let texts = external::texts(body, &one.places).ok_or_else(too_long)?;
    if texts.is_empty() {
        return Ok(None);
    }
    let key = verdicts::key((shard.plan.generation, one.id.index()), body, &texts);
    let now = shard.deadlines.now();
    if one.keep > Nanos(0)
        && let Some(verdict) = shard.verdicts.borrow().get(&key, now)
    {
        return Ok(Some(verdict));
    }
    let asked = encode(exchange, one, body, &texts);
    shard.plan.guards.cells(one.id).asked.fetch_add(1, Ordering::Relaxed);
    let verdict = guarded(client, one, asked).await?;
    if one.keep > Nanos(0) {
        shard.verdicts.borrow_mut().keep(key, verdict.clone(), now.plus(one.keep), now);
    }
    Ok(Some(verdict))
}

/// Calls the guard, if its breaker, its health and its in-flight bound allow that, for as long as it has time.
async fn guarded(client: &mut Client, one: &External, asked: Buffer) -> Result<Verdict, Unasked> {
    let shard = client.shard.clone();
    let (backend, cells) = (shard.plan.backend(one.backend), shard.plan.backends.cells(one.backend));
    let state = FailureState {
        backend: &cells.breaker,
        deployment: &shard.plan.guards.cells(one.id).breaker,
        limit_scope: backend.limit_scope,
        alone: false,
    };
    if cells.health() == Health::Down {
        return Err(Unasked::Guard("it is down"));
    }
    let Some(lease) = Lease::take(&shard, one.backend, 0, 0) else {
        return Err(Unasked::Guard("it has as many requests in flight as it may"));
    };
    let Some(probes) = state.admit(shard.deadlines.now()) else {
        return Err(Unasked::Guard("it failed several times, and is left alone for a while"));
    };
    client.deadline.set(one.timeout);
    let said = client.wait(Box::pin(speak(&shard, one, asked))).await;
    drop(lease);
    let now = clock::now();
    let (kind, reason) = match said {
        Ok(Ok(body)) => match one.form.verdict(&body) {
            Ok(verdict) => {
                state.success(now);
                return Ok(verdict);
            }
            Err(reason) => (FaultKind::BackendMalformed, reason),
        },
        Ok(Err(failed)) => failed,
        Err(Interrupt::DeadlineExceeded) => (FaultKind::FirstTokenTimeout, "it did not respond in time"),
        Err(interrupt) => {
            state.abandon(probes);
            return Err(Unasked::Client(
                interrupt.fault(|| Fault::new(FaultKind::Internal, "a wait had no deadline")),
            ));
        }
    };
    let connected = kind != FaultKind::ConnectFailed;
    state.report(Report { kind, asked: None, connected }, probes, now, shard.random());
    Err(Unasked::Guard(reason))
}

type Failed = (FaultKind, &'static str);

/// Sends a request to the guard and reads its response. A kept connection that has closed meanwhile is replaced by a new one.
async fn speak(shard: &Rc<Shard>, one: &External, asked: Buffer) -> Result<Vec<u8>, Failed> {
    let backend = shard.plan.backend(one.backend);
    let mut kept = shard.idle.take(backend.id).0;
    loop {
        let is_kept = kept.is_some();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => {
                let dial = Dial::new(shard, backend, shard.plan.timeouts.connect.min(one.timeout));
                let dialled = dial.run(shard.idle.turn(backend.id, shard.deadlines.now())).await;
                let mut connection =
                    dialled.map_err(|_| (FaultKind::ConnectFailed, "it could not be connected to"))?;
                connection.reader.arm(shard.buffers.large());
                connection
            }
        };
        let end = asked.len();
        let (sent, _) = connection.writer.write_all(asked.clone(), 0..end).await;
        match response(shard, one, connection, sent.is_ok()).await {
            Err((FaultKind::BackendClosed, _)) if is_kept => {}
            result => return result,
        }
    }
}

/// Reads a response to its end, and keeps the connection.
async fn response(
    shard: &Rc<Shard>,
    one: &External,
    mut connection: Connection,
    was_sent: bool,
) -> Result<Vec<u8>, Failed> {
    let limits = shard.head_limits();
    let malformed = (FaultKind::BackendMalformed, "its response is no HTTP response, or too long");
    let (mut scanned, mut from) = (0, 0);
    let mut head: Option<(head::ResponseHead, Decode)> = None;
    loop {
        let (read, mut buffer) = connection.reader.filled().await;
        let is_closed = !matches!(read, Ok(1..));
        if is_closed && buffer.is_empty() {
            let note = if was_sent { "it closed the connection" } else { "it took no request" };
            return Err((FaultKind::BackendClosed, note));
        }
        while head.is_none()
            && let Step::Done(found) =
                head::response(&buffer, &mut scanned, &limits, Method::Post).map_err(|_| malformed)?
        {
            if found.status < 200 {
                buffer.drain(..found.len);
                scanned = 0;
                continue;
            }
            from = found.len;
            let decode = Decode::new(found.framing);
            head = Some((found, decode));
        }
        if let Some((found, decode)) = &mut head {
            let mut decoded = decode.step(&mut buffer, from).map_err(|_| malformed)?;
            from = buffer.len();
            decoded.ended |= is_closed && decode.ends_by_close();
            if decoded.ended {
                let body = buffer[found.len..].to_vec();
                let status = found.status;
                if found.keep_alive && !decoded.extra && !is_closed {
                    let (now, max) = (shard.deadlines.now(), shard.plan.timeouts.backend_idle);
                    shard.idle.put(one.backend, connection, shard.buffers.large(), now, max);
                }
                return match status {
                    200 => Ok(body),
                    429 => Err((FaultKind::BackendBusy, "it asked for a pause")),
                    _ => Err((FaultKind::BackendFailed, "it responded with another status than 200")),
                };
            }
        }
        if is_closed || buffer.len() > RESPONSE_BYTES_MAX {
            return Err(malformed);
        }
        grow(&mut buffer, 1);
        connection.reader.arm(buffer);
    }
}

/// The request that the guard is sent.
fn encode(exchange: &Exchange, one: &External, body: &[u8], texts: &[(Place, Span)]) -> Buffer {
    let plan = &exchange.shard.plan;
    let request_id = String::from_utf8_lossy(exchange.request_id.as_bytes());
    let about = About {
        guard: &plan.guards.row(one.id).name,
        request_id: &request_id,
        model: exchange.model.map_or("", |model| &plan.model(model).name),
        key: exchange.key.map_or("", |key| &plan.key(key).name),
    };
    let mut document = Vec::new();
    one.form.encode(&about, body, texts, &mut document);
    let backend = plan.backend(one.backend);
    let mut out = exchange.shard.buffers.with_room(document.len() + HEAD_ROOM);
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(&one.path);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(&backend.authority);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&backend.credential_lines);
    out.extend_from_slice(b"content-type: application/json\r\naccept-encoding: identity\r\nx-request-id: ");
    out.extend_from_slice(exchange.request_id.as_bytes());
    out.extend_from_slice(b"\r\ncontent-length: ");
    number(&mut out, document.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(&document);
    out
}

/// Notes a verdict in the record of the exchange.
fn note(
    exchange: &mut Exchange,
    request: &Request<'_>,
    client: &Client,
    guards: &ModelGuards,
    one: &External,
    name: &str,
) {
    let body = request.body.of(client.inbox());
    let texts = external::texts(body, &one.places).unwrap_or_default();
    let said: Vec<&[u8]> = texts.iter().map(|(_, inside)| inside.of(body)).collect();
    let action = match (one.is_shadow, one.enforces) {
        (true, _) => "shadow",
        (false, true) => "refuse",
        (false, false) => "log",
    };
    let place = one.places.first().copied().unwrap_or(Place::Input);
    exchange.marks().borrow_mut().add(name, place, action, guards.guards.hash(&said.concat()));
}

/// Of a guard's response.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Room for the head of a request.
const HEAD_ROOM: usize = 2048;
