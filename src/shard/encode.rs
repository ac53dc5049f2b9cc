//! The request as a backend gets it: the client's lines and body, byte for byte, but for what must change.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use super::connection::Client;
use super::dispatch::Outgoing;
use super::respond::number;
use super::settle::Settle;
use super::translation::is_of_dialect;
use crate::dialect::Api;
use crate::dialect::route;
use crate::dialect::translate::{self, Call, Translated};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::plan::{Backend, Member};
use crate::provider::Place;
use crate::units::Span;
use crate::wire::fields::{self, Field};
use crate::wire::head::RequestHead;
use crate::wire::json;

/// A request ready to be sent: what is in `buffer` up to `first`, then the `rest`.
pub(super) struct Encoded {
    pub(super) buffer: Buffer,
    pub(super) first: usize,
    /// Of a large request; empty for one that is in the buffer as a whole.
    pub(super) rest: Vec<Part>,
    /// It asks for usage on our own behalf: the chunk that answers is not the client's.
    pub(super) asks_usage: bool,
    /// What the translation of its response needs, if it was translated.
    pub(super) translated: Option<Translated>,
}

impl Encoded {
    /// All of it.
    pub(super) fn bytes(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Own(range) | Part::Client(_, range) => range.len(),
        };
        self.first + self.rest.iter().map(part).sum::<usize>()
    }
}

/// What of a large request follows its head, in order.
pub(super) enum Part {
    /// A range of the buffer: what is written in the place of the client's.
    Own(Range<usize>),
    /// A range of the client's own bytes.
    Client(Rc<Buffer>, Range<usize>),
}

/// Head and body in one buffer, so that they leave in one segment where they fit. The body of a large request is not
/// copied: it is sent from where the client's bytes lie.
///
/// Errors: the request has passed through gateways like this one too often.
pub(super) fn request(
    settle: &Settle,
    outgoing: &Outgoing<'_>,
    client: &Client,
    member: &Member,
    call: Call,
) -> Result<Encoded, Fault> {
    let backend = settle.shard.plan.backend(member.backend);
    if !call.is_plain() {
        return translated(settle, outgoing, client, member, call);
    }
    let (inbox, large) = (client.inbox(), client.large_request());
    let body = outgoing.body.of(inbox);
    let takes_stream_options = backend.provider.takes_stream_options;
    let naming = settle.naming.as_deref();
    let own = naming.and_then(|naming| naming.edit(&settle.shard.plan, member));
    let edits = outgoing.peek.edits(
        own.as_deref().or(member.model_json.as_deref()),
        Some(outgoing.id).filter(|id| !id.is_empty()),
        takes_stream_options,
    );
    let body_bytes = edits.length(body.len());
    let lines = outgoing.head.fields.of(inbox);

    let mut out = settle
        .shard
        .buffers
        .with_room(lines.len() + HEAD_ROOM + if large.is_some() { 0 } else { body_bytes });
    let name = own_name(settle, member);
    let query = route::forwarded_query(outgoing.head.path.of(inbox), outgoing.head.query.of(inbox));
    request_line(&mut out, outgoing, (outgoing.api, name.as_bytes()), &query, backend);
    let hops = client_lines(&mut out, lines, outgoing.head);
    if hops >= HOPS_MAX {
        return Err(Fault::new(
            FaultKind::HeadMalformed,
            "the request passed through this gateway in a loop",
        ));
    }
    own_lines(
        &mut out,
        settle,
        backend,
        lines,
        (body_bytes > 0 || outgoing.api.method() == "POST").then_some(body_bytes),
    );
    let asks_usage = edits.asks_usage;
    let Some(large) = large else {
        json::splice(&mut out, body, edits.as_slice());
        return Ok(Encoded { first: out.len(), buffer: out, rest: Vec::new(), asks_usage, translated: None });
    };
    let first = out.len();
    let rest = parts(&mut out, large, outgoing.body.span, edits.as_slice());
    Ok(Encoded { buffer: out, first, rest, asks_usage, translated: None })
}

/// A request in the backend's dialect. Lines of the client that belong to its own dialect stay behind, with its query.
///
/// Errors: what the other dialect cannot say.
fn translated(
    settle: &Settle,
    outgoing: &Outgoing<'_>,
    client: &Client,
    member: &Member,
    call: Call,
) -> Result<Encoded, Fault> {
    let inbox = client.inbox();
    let backend = settle.shard.plan.backend(member.backend);
    let own = settle.naming.as_ref().and_then(|naming| naming.own_json(&settle.shard.plan, member));
    let own = own.as_deref().or(member.model_json.as_deref());
    let model = own.unwrap_or(outgoing.peek.model.of(outgoing.body.of(inbox)));
    let target = backend.provider.target_of(model);
    let mut body = settle.shard.buffers.large();
    let translated = translate::request(call, outgoing.body.of(inbox), &target, &mut body)?;

    let mut lines = settle.shard.buffers.small();
    let hops = client_lines(&mut lines, outgoing.head.fields.of(inbox), outgoing.head);
    if hops >= HOPS_MAX {
        return Err(Fault::new(
            FaultKind::HeadMalformed,
            "the request passed through this gateway in a loop",
        ));
    }
    let mut out = settle.shard.buffers.with_room(lines.len() + HEAD_ROOM + body.len());
    let name = own_name(settle, member);
    request_line(&mut out, outgoing, (call.backend, name.as_bytes()), b"", backend);
    for line in fields::lines(&lines).filter(|line| !is_of_dialect(line.name)) {
        out.extend_from_slice(line.raw);
    }
    own_lines(&mut out, settle, backend, b"", Some(body.len()));
    out.extend_from_slice(&body);
    settle.shard.buffers.put(lines);
    settle.shard.buffers.put(body);
    let asks_usage = outgoing.peek.needs_usage();
    Ok(Encoded { first: out.len(), buffer: out, rest: Vec::new(), asks_usage, translated: Some(translated) })
}

/// The backend's own name for the model.
fn own_name<'a>(settle: &'a Settle, member: &Member) -> Cow<'a, str> {
    let plan = &settle.shard.plan;
    match &settle.naming {
        Some(naming) => naming.own(plan, member),
        None => Cow::Borrowed(&plan.deployment(member.deployment).model),
    }
}

/// Our own lines, and the end of the head. `lines`: the client's.
fn own_lines(out: &mut Buffer, settle: &Settle, backend: &Backend, lines: &[u8], body_bytes: Option<usize>) {
    out.extend_from_slice(&backend.credential_lines);
    if let Some((name, line)) = backend.provider.line_if_absent()
        && !fields::lines(lines).any(|line| line.name.eq_ignore_ascii_case(name))
    {
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"accept-encoding: identity\r\nvia: 1.1 ringway\r\nx-request-id: ");
    out.extend_from_slice(settle.record.request_id.as_bytes());
    if let Some(bytes) = body_bytes {
        out.extend_from_slice(b"\r\ncontent-length: ");
        number(out, bytes as u64);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// A body edited like by `json::splice`, as parts: of the client's bytes what stays, of `out` what is new.
fn parts(out: &mut Buffer, client: &Rc<Buffer>, body: Span, edits: &[(Span, &[u8])]) -> Vec<Part> {
    let mut parts = Vec::with_capacity(2 * edits.len() + 1);
    let mut at = body.start;
    for (span, new) in edits {
        let start = out.len();
        out.extend_from_slice(new);
        parts.push(Part::Client(Rc::clone(client), at..body.start + span.start));
        parts.push(Part::Own(start..out.len()));
        at = body.start + span.end;
    }
    parts.push(Part::Client(Rc::clone(client), at..body.end));
    parts
}

/// `asked`: the endpoint, and the backend's own name for the model.
fn request_line(
    out: &mut Buffer,
    outgoing: &Outgoing<'_>,
    asked: (Api, &[u8]),
    query: &[u8],
    backend: &Backend,
) {
    let (api, model) = asked;
    out.extend_from_slice(api.method().as_bytes());
    out.push(b' ');
    let id = if api.has_id() { outgoing.id } else { b"" };
    backend.provider.target(&Place { api, model, id }, &backend.base, query, out);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(&backend.authority);
    out.extend_from_slice(b"\r\n");
}

/// Copies the end-to-end lines; how often `Via` names us.
fn client_lines(out: &mut Buffer, lines: &[u8], head: &RequestHead) -> usize {
    fields::pass(lines, head.dropped, head.connection_named, out);
    if !head.via {
        return 0;
    }
    let via = fields::lines(lines).filter(|line| fields::classify(line.name) == Field::Via);
    via.map(|line| memchr::memmem::find_iter(line.value, b"ringway").count()).sum()
}

/// Our own lines fit.
const HEAD_ROOM: usize = 768;
/// Gateways of our kind a request may have passed.
const HOPS_MAX: usize = 10;
