//! The request as a backend gets it: the client's lines and body, byte for byte, but for what must change.

use super::dispatch::Outgoing;
use super::respond::number;
use super::settle::Settle;
use crate::dialect::request;
use crate::error::{Fault, Kind};
use crate::net::blocks::Block;
use crate::plan::{Backend, Member};
use crate::wire::fields::{self, Field, Named};
use crate::wire::json;

/// Head and body in one block, so that they leave in one segment where they fit.
///
/// Errors: the request has passed through gateways like this one too often.
pub(super) fn request(
    settle: &Settle,
    outgoing: &Outgoing<'_>,
    inbox: &[u8],
    member: &Member,
    backend: &Backend,
) -> Result<Block, Fault> {
    let body = outgoing.body.of(inbox);
    let edits = request::edits(outgoing.api, outgoing.peek, &backend.provider, member.model_json.as_deref());
    let body_bytes = edits.edited_len(body.len());
    let lines = outgoing.head.fields.of(inbox);

    let mut out = settle.shard.blocks.with_room(lines.len() + body_bytes + HEAD_ROOM);
    request_line(&mut out, outgoing, inbox, backend);
    let hops = client_lines(&mut out, lines, outgoing.head.connection_named);
    if hops >= HOPS_MAX {
        return Err(Fault::new(Kind::HeadMalformed, "the request passed through this gateway in a loop"));
    }
    out.extend_from_slice(&backend.credential_lines);
    backend.provider.lines(outgoing.api, lines, &mut out);
    out.extend_from_slice(b"accept-encoding: identity\r\nvia: 1.1 ringway\r\nx-request-id: ");
    out.extend_from_slice(&settle.record.request_id.hex());
    out.extend_from_slice(b"\r\ncontent-length: ");
    number(&mut out, body_bytes as u64);
    out.extend_from_slice(b"\r\n\r\n");
    json::splice(&mut out, body, edits.as_slice());
    Ok(out)
}

fn request_line(out: &mut Block, outgoing: &Outgoing<'_>, inbox: &[u8], backend: &Backend) {
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(&backend.path_prefix);
    out.extend_from_slice(backend.provider.path(outgoing.api).as_bytes());
    if !outgoing.head.query.is_empty() {
        out.push(b'?');
        out.extend_from_slice(outgoing.head.query.of(inbox));
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(&backend.authority);
    out.extend_from_slice(b"\r\n");
}

/// Copies the end-to-end lines; how often `Via` names us.
fn client_lines(out: &mut Block, lines: &[u8], connection_named: bool) -> usize {
    let named = connection_named.then(|| Named::of(lines));
    let mut hops = 0;
    for line in fields::lines(lines) {
        let field = fields::classify(line.name);
        if field == Field::Via {
            hops += memchr::memmem::find_iter(line.value, b"ringway").count();
        }
        let dropped = !fields::to_backend(field) || named.as_ref().is_some_and(|named| named.contains(line.name));
        if !dropped {
            out.extend_from_slice(line.raw);
        }
    }
    hops
}

/// Our own lines fit.
const HEAD_ROOM: usize = 768;
/// Gateways of our kind a request may have passed.
const HOPS_MAX: usize = 10;
