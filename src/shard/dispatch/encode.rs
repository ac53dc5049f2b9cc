//! The request as a backend gets it: the client's lines and body, byte for byte, except what must change.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use crate::dialect::chat::resume::{self, Said};
use crate::dialect::request::{Cap, Edits};
use crate::dialect::translate::{self, Call, Translated};
use crate::dialect::{Api, gemini, request, route};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::plan::{Backend, Member};
use crate::provider::Place;
use crate::provider::sign::Unsigned;
use crate::shard::client::Client;
use crate::shard::exchange::Exchange;
use crate::shard::heads::number;
use crate::shard::request::Request;
use crate::shard::translation::is_of_dialect;
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
    /// It asks for usage on our own behalf: the event that brings it is not for the client.
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
    /// A range of the buffer: what replaces bytes of the client's.
    Own(Range<usize>),
    /// A range of the client's own bytes.
    Client(Rc<Buffer>, Range<usize>),
}

/// Head and body in one buffer, so that they leave in one segment where they fit. The body of a large request is not
/// copied: it is sent from the client's buffer.
///
/// Errors: the request has passed through gateways like this one too often.
pub(super) fn request(
    exchange: &Exchange,
    request: &Request<'_>,
    client: &Client,
    member: &Member,
    call: Call,
) -> Result<Encoded, Fault> {
    let backend = exchange.shard.plan.backend(member.backend);
    if !call.is_plain() {
        return translated(exchange, request, client, member, call);
    }
    let (inbox, large) = (client.inbox(), client.large_request());
    let body = request.body.of(inbox);
    let name = own_name(exchange, member);
    // Where the path names the model, a body that names it too has to agree.
    let changed = match request.said {
        Some(said) => Some(rest_of(said, body)?),
        None if request.api.has_model_in_path() => gemini::renamed(body, &name),
        None => None,
    };
    let (body, large, peek) = match &changed {
        Some(changed) => (changed.as_slice(), None, request::peek_named(request.api, changed)?),
        None => (body, large, request.peek),
    };
    let takes_stream_options = backend.provider.takes_stream_options;
    let naming = exchange.naming.as_deref();
    let own = naming.and_then(|naming| naming.edit(&exchange.shard.plan, member));
    let mut edits = peek.edits(
        own.as_deref().or(member.model_json.as_deref()),
        Some(&request.id[..]).filter(|id| !id.is_empty()),
        takes_stream_options,
    );
    let cap = exchange.held.output_cap().map(Cap::new);
    if let Some(cap) = &cap {
        peek.cap_output(body, cap, backend.provider.output_cap_member(), &mut edits);
    }
    let body_bytes = edits.length(body.len());
    let lines = request.head.fields.of(inbox);

    let mut out = exchange
        .shard
        .buffers
        .with_room(lines.len() + HEAD_ROOM + if large.is_some() { 0 } else { body_bytes });
    let query = route::forwarded_query(request.head.path.of(inbox), request.head.query.of(inbox));
    let asked = Asked { api: request.api, model: name.as_bytes(), streams: request.peek.stream };
    request_line(&mut out, request, asked, &query, backend);
    let hops = client_lines(&mut out, lines, request.head);
    if hops >= HOPS_MAX {
        return Err(Fault::new(
            FaultKind::HeadMalformed,
            "the request passed through this gateway in a loop",
        ));
    }
    own_lines(
        &mut out,
        exchange,
        backend,
        lines,
        (body_bytes > 0 || request.api.method() == "POST").then_some(body_bytes),
    );
    let asks_usage = edits.asks_usage;
    let Some(large) = large else {
        json::splice(&mut out, body, edits.as_slice());
        return Ok(Encoded { first: out.len(), buffer: out, rest: Vec::new(), asks_usage, translated: None });
    };
    let first = out.len();
    let rest = parts(&mut out, large, request.body.span, edits.as_slice());
    Ok(Encoded { buffer: out, first, rest, asks_usage, translated: None })
}

/// A request in the backend's dialect. The client's query, and its lines that belong to its own dialect, are left out.
///
/// Errors: what the other dialect cannot say.
fn translated(
    exchange: &Exchange,
    request: &Request<'_>,
    client: &Client,
    member: &Member,
    call: Call,
) -> Result<Encoded, Fault> {
    let inbox = client.inbox();
    let backend = exchange.shard.plan.backend(member.backend);
    let own = exchange.naming.as_ref().and_then(|naming| naming.own_json(&exchange.shard.plan, member));
    let own = own.as_deref().or(member.model_json.as_deref());
    let model = own.unwrap_or(request.peek.model.of(request.body.of(inbox)));
    // A list of responses that holds one of them is a stream of Google's as well.
    let streams = request.peek.stream && !request.peek.list;
    let target = backend.provider.target_of(model);
    let mut body = exchange.shard.buffers.large();
    let payload = request.body.of(inbox);
    let translated = match exchange.held.output_cap().map(Cap::new) {
        None => translate::request(call, payload, streams, &target, &mut body)?,
        Some(cap) => {
            let mut edits = Edits::default();
            request.peek.cap_output(payload, &cap, target.output_cap_member, &mut edits);
            let mut capped = exchange.shard.buffers.with_room(edits.length(payload.len()));
            json::splice(&mut capped, payload, edits.as_slice());
            translate::request(call, &capped, streams, &target, &mut body)?
        }
    };
    if let Some(said) = request.said {
        if !resume::is_for(call.backend) {
            return Err(unresumable());
        }
        body = rest_of(said, &body)?;
    }

    let mut lines = exchange.shard.buffers.small();
    let hops = client_lines(&mut lines, request.head.fields.of(inbox), request.head);
    if hops >= HOPS_MAX {
        return Err(Fault::new(
            FaultKind::HeadMalformed,
            "the request passed through this gateway in a loop",
        ));
    }
    let mut out = exchange.shard.buffers.with_room(lines.len() + HEAD_ROOM + body.len());
    let name = own_name(exchange, member);
    let query = if streams { call.backend.query_stream() } else { "" };
    let asked = Asked { api: call.backend, model: name.as_bytes(), streams };
    let target = request_line(&mut out, request, asked, query.as_bytes(), backend);
    if let Some(signer) = &backend.signer {
        let mut signature = Vec::new();
        let unsigned = Unsigned {
            method: call.backend.method(),
            target: &out[target],
            host: &backend.authority,
            body: &body,
            unix_seconds: exchange.shard.unix_ms.get() / 1000,
        };
        signer.lines(&unsigned, &mut signature);
        out.extend_from_slice(&signature);
    }
    for line in fields::lines(&lines).filter(|line| !is_of_dialect(line.name)) {
        out.extend_from_slice(line.raw);
    }
    own_lines(&mut out, exchange, backend, b"", Some(body.len()));
    out.extend_from_slice(&body);
    exchange.shard.buffers.put(lines);
    exchange.shard.buffers.put(body);
    let asks_usage = request.peek.needs_usage();
    Ok(Encoded { first: out.len(), buffer: out, rest: Vec::new(), asks_usage, translated: Some(translated) })
}

/// The request for the rest of a response.
fn rest_of(said: &Said, body: &[u8]) -> Result<Vec<u8>, Fault> {
    said.continued(body).ok_or_else(unresumable)
}

fn unresumable() -> Fault {
    Fault::new(FaultKind::MemberUnsupported, "the rest of the response cannot be asked for")
}

/// The backend's own name for the model.
fn own_name<'a>(exchange: &'a Exchange, member: &Member) -> Cow<'a, str> {
    let plan = &exchange.shard.plan;
    match &exchange.naming {
        Some(naming) => naming.own(plan, member),
        None => Cow::Borrowed(&plan.deployment(member.deployment).model),
    }
}

/// Our own lines, and the end of the head. `lines`: the client's.
fn own_lines(
    out: &mut Buffer,
    exchange: &Exchange,
    backend: &Backend,
    lines: &[u8],
    body_bytes: Option<usize>,
) {
    out.extend_from_slice(&backend.credential_lines);
    if let Some((name, line)) = backend.provider.line_if_absent()
        && !fields::lines(lines).any(|line| line.name.eq_ignore_ascii_case(name))
    {
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"accept-encoding: identity\r\nvia: 1.1 ringway\r\nx-request-id: ");
    out.extend_from_slice(exchange.request_id.as_bytes());
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

/// What is asked for in a path.
struct Asked<'a> {
    api: Api,
    /// The backend's own name for it.
    model: &'a [u8],
    streams: bool,
}

/// Appends the first line and the host; where the request target is in it.
fn request_line(
    out: &mut Buffer,
    request: &Request<'_>,
    asked: Asked<'_>,
    query: &[u8],
    backend: &Backend,
) -> Range<usize> {
    let Asked { api, model, streams } = asked;
    out.extend_from_slice(api.method().as_bytes());
    out.push(b' ');
    let id = if api.has_id() { &request.id[..] } else { b"" };
    let place = Place { api, model, id, streams };
    let start = out.len();
    backend.provider.target(&place, &backend.base, query, out);
    let target = start..out.len();
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(&backend.authority);
    out.extend_from_slice(b"\r\n");
    target
}

/// Copies the end-to-end lines; returns how often `Via` names us.
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
/// Gateways of our kind that a request may have passed through.
const HOPS_MAX: usize = 10;
