//! One call of a guard in another process, over the shard's own connections.

use std::rc::Rc;

use super::Rule;
use crate::dialect::texts::Place;
use crate::error::FaultKind;
use crate::net::buffers::{Buffer, grow};
use crate::plan::guards::External;
use crate::policy::guard::external::About;
use crate::shard::decode::Decode;
use crate::shard::dispatch::dial::Dial;
use crate::shard::exchange::Exchange;
use crate::shard::heads::number;
use crate::shard::idle::Connection;
use crate::shard::state::Shard;
use crate::units::Span;
use crate::wire::Step;
use crate::wire::head::{self, Method};

/// Why a guard gave no verdict.
pub(super) type Failed = (FaultKind, &'static str);

/// Sends a request to the guard and reads its response. A kept connection that has closed meanwhile is replaced by a new one.
pub(super) async fn speak(shard: Rc<Shard>, rule: Rule, asked: Buffer) -> Result<Vec<u8>, Failed> {
    let (shard, one) = (&shard, rule.external());
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
pub(super) fn encode(
    exchange: &Exchange,
    one: &External,
    about: &About<'_>,
    (body, texts): (&[u8], &[(Place, Span)]),
) -> Buffer {
    let plan = &exchange.shard.plan;
    let mut document = Vec::new();
    one.form.encode(about, body, texts, &mut document);
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

/// Of a guard's response.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Room for the head of a request.
const HEAD_ROOM: usize = 2048;
