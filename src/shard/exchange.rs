//! One request and its response: the order of things, from a complete head to the opening of the response.

use std::future::poll_fn;
use std::task::Poll;

use super::Shard;
use super::connection::{Client, READ_BYTES};
use super::convert;
use super::decode;
use super::dispatch::{self, Outgoing};
use super::early::{self, Begun};
use super::phases;
use super::refer::{self, Decided};
use super::respond;
use super::response::Response;
use super::settle::Settle;
use super::translation;
use crate::clock;
use crate::dialect::{self, Api, Dialect, Task, estimate, models};
use crate::error::{Fault, FaultKind};
use crate::observe::record::RequestId;
use crate::plan::admission::At;
use crate::plan::{Model, standing};
use crate::policy::auth::origin::PageGrant;
use crate::units::{ModelId, Nanos, Span};
use crate::wire::chunked::{self, Chunked};
use crate::wire::coding::Decoding;
use crate::wire::head::{Method, RequestHead, Version};
use crate::wire::{fields, framing};

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Another request may come.
    Head,
    /// It is over: the client has its response, and everything it sent has been read.
    Finish,
    /// It is over without a proper end: the client has gone, or must see that its response is cut.
    Close,
    /// It is over, but the client may still be sending.
    Linger,
}

/// What the client asked for, kept for as long as the response takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Which call; `None` for a head that could not be read or routed.
    pub(super) api: Option<Api>,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// `HEAD`: no body in the response.
    pub(super) head_only: bool,
    /// In which dialect to speak.
    pub(super) dialect: Dialect,
    /// The method that the path takes, for a client that used another.
    pub(super) allow: Option<&'static str>,
}

impl Asked {
    fn new(head: &RequestHead, bytes: &[u8], api: Option<Api>) -> Self {
        Self {
            api,
            version: head.version,
            keep_alive: head.keep_alive,
            head_only: head.method == Method::Head,
            dialect: match api.filter(|api| !api.is_local()) {
                None => Dialect::of_request(head.path.of(bytes), has_anthropic_version(head, bytes)),
                Some(api) => api.dialect(),
            },
            allow: dialect::route::allow(head.path.of(bytes)),
        }
    }

    /// For a head nothing is known about.
    pub(super) fn unreadable() -> Self {
        Self {
            api: None,
            version: Version::Http11,
            keep_alive: false,
            head_only: false,
            dialect: Dialect::OpenAi,
            allow: None,
        }
    }
}

/// Debug builds only: `x-ringway-failpoint: panic` breaks this exchange, and `block` holds its whole shard up for two
/// seconds, so that a test can see what becomes of the others.
#[cfg(debug_assertions)]
fn failpoint(head: &RequestHead, bytes: &[u8]) {
    let is_asked = |fault: &[u8]| {
        fields::lines(head.fields.of(bytes))
            .any(|line| line.name.eq_ignore_ascii_case(b"x-ringway-failpoint") && line.value == fault)
    };
    assert!(!is_asked(b"panic"), "the request asked for a panic");
    if is_asked(b"block") {
        let until = crate::clock::now().plus(Nanos(2_000_000_000));
        while crate::clock::now() < until {
            std::hint::spin_loop();
        }
    }
}

fn has_anthropic_version(head: &RequestHead, bytes: &[u8]) -> bool {
    fields::lines(head.fields.of(bytes)).any(|line| line.name.eq_ignore_ascii_case(b"anthropic-version"))
}

/// What a backend began to answer.
pub(super) struct Opened<'a> {
    pub(super) asked: Asked,
    /// Choices that the client asked for.
    pub(super) choices: u64,
    pub(super) response: &'a mut Response,
    /// The head that the client has already, and what came with it.
    pub(super) begun: Option<Begun>,
}

/// Serves the request whose head lies at the front of the client's inbox, up to the head of a backend's response, which
/// is put into `place`; the rest is the relay's. `Err`: the client has been answered or has gone, and this becomes of
/// its connection.
pub(super) async fn begin<'p>(
    client: &mut Client,
    settle: &mut Settle,
    head: &RequestHead,
    place: &'p mut Option<Response>,
) -> Result<Opened<'p>, Next> {
    let routed = dialect::route(head.method.name().as_bytes(), head.path.of(client.inbox()));
    let asked = Asked::new(head, client.inbox(), routed.as_ref().ok().copied());
    settle.record.api = asked.api.map_or("unknown", Api::name);
    settle.record.request_bytes = head.len as u64;
    if let Some(id) = head.request_id.and_then(|id| RequestId::given(id.of(client.inbox()))) {
        settle.record.request_id = id;
    }
    phases::find_client(settle, head, client.inbox());
    settle.page = phases::page(&settle.shard, head, client.inbox());
    if head.method == Method::Options && is_preflight(&settle.shard, head, client.inbox()) {
        return Err(preflight(client, settle, &asked, head).await);
    }
    #[cfg(debug_assertions)]
    failpoint(head, client.inbox());

    let admitted = match routed {
        Ok(api) => phases::on_head(settle, head, client.inbox(), api).map(|()| api),
        Err(fault) => Err(fault),
    };
    client.key = settle.record.key;
    let api = match admitted {
        Ok(api) => api,
        Err(fault) => {
            let bodiless = matches!(head.framing, framing::Request::None | framing::Request::Length(0));
            let goes_on = bodiless && fault.kind != FaultKind::KeysExceeded;
            let next = respond::refuse(client, settle, &asked, &fault, goes_on).await;
            client.keep_request(head.len);
            client.forget_request();
            return Err(next);
        }
    };
    let mut body = match read_body(client, head).await {
        Ok(body) => body,
        Err(fault) if fault.kind == FaultKind::ClientGone => {
            settle.failed(fault.kind, fault.kind.status());
            return Err(Next::Close);
        }
        Err(fault) => {
            return Err(respond::refuse(client, settle, &asked, &fault, false).await);
        }
    };
    settle.record.request_bytes = body.received as u64;
    if head.content_encoding.is_some()
        && let Err(fault) = decode_body(client, head, &mut body).await
    {
        let next = respond::refuse(client, settle, &asked, &fault, true).await;
        client.keep_request(body.end);
        client.forget_request();
        return Err(next);
    }
    client.keep_request(body.end);
    let answered = match api.is_local() {
        true => Err(list(client, settle, &asked, head).await),
        false => forward(client, settle, &asked, head, &body, api, place).await,
    };
    client.forget_request();
    answered.map(|(choices, response, begun)| Opened { asked, choices, response, begun })
}

/// Whether a browser asks, before it sends what a page wants to send, and we are the one to say (Fetch section 4.8).
fn is_preflight(shard: &Shard, head: &RequestHead, bytes: &[u8]) -> bool {
    shard.plan.pages.is_some()
        && head.origin.is_some()
        && matches!(head.framing, framing::Request::None | framing::Request::Length(0))
        && fields::lines(head.fields.of(bytes))
            .any(|line| line.name.eq_ignore_ascii_case(b"access-control-request-method"))
}

/// Answers a browser's question. It carries no credential, so none is asked for; whatever it is allowed, the request that follows
/// has to have one.
async fn preflight(client: &mut Client, settle: &mut Settle, asked: &Asked, head: &RequestHead) -> Next {
    settle.record.api = "preflight";
    let next = match settle.page {
        PageGrant::None => respond::refuse(client, settle, asked, &phases::foreign_page(), true).await,
        _ => respond::preflight(client, settle, asked, head).await,
    };
    client.keep_request(head.len);
    client.forget_request();
    next
}

/// Refuses a request because the shard holds as many clients as it may.
#[cold]
pub(super) async fn turn_away(client: &mut Client, head: &RequestHead) {
    let mut settle = Settle::new(&client.shard, client.address.ip());
    settle.record.request_bytes = head.len as u64;
    let asked = Asked::new(head, client.inbox(), None);
    let note = "the gateway holds as many connections as it may ([shards] connections_max)";
    let fault = Fault::new(FaultKind::Overloaded, note).retry_after(TURNED_AWAY_WAIT);
    respond::refuse(client, &mut settle, &asked, &fault, false).await;
}

/// When a client that was turned away may find room.
const TURNED_AWAY_WAIT: Nanos = Nanos(1_000_000_000);

/// A request body that has been read whole.
pub(super) struct Body {
    /// Where in the inbox; what came in chunks has been put together there, and what came compressed lies there plain.
    pub(super) span: Span,
    /// Bytes of the inbox that belong to this request.
    end: usize,
    /// Bytes that came of it, head and framing included.
    received: usize,
}

impl Body {
    /// The payload; `inbox` is the client's.
    pub(super) fn of<'a>(&'a self, inbox: &'a [u8]) -> &'a [u8] {
        self.span.of(inbox)
    }
}

/// Reads the body to its end, at a pace of at least a kibibyte a second.
async fn read_body(client: &mut Client, head: &RequestHead) -> Result<Body, Fault> {
    if head.expect_continue && client.inbox().len() == head.len && head.framing != framing::Request::None {
        let ask = respond::CONTINUE.to_vec();
        let end = ask.len();
        client.write(ask, 0..end).await.map_err(|interrupt| {
            Fault::new(respond::gone(interrupt), "the client left before it sent its body")
        })?;
    }
    let started = client.deadline.now();
    match head.framing {
        framing::Request::None => {
            Ok(Body { span: Span::new(head.len, head.len), end: head.len, received: head.len })
        }
        framing::Request::Length(length) => {
            let end = head.len + length as usize; // phases bounded it
            while client.inbox().len() < end {
                let missing = end - client.inbox().len();
                fill(client, missing, started, client.inbox().len() - head.len).await?;
            }
            Ok(Body { span: Span::new(head.len, end), end, received: end })
        }
        framing::Request::Chunked => read_chunks(client, head, started).await,
    }
}

/// The payload is moved together where it lies, read by read: framing and payload are never held both.
async fn read_chunks(client: &mut Client, head: &RequestHead, started: Nanos) -> Result<Body, Fault> {
    let most = client.shard.plan.limits.body_bytes;
    let mut chunks = Chunked::new(chunked::Limits::default());
    let mut end = head.len;
    let mut received = head.len;
    loop {
        let from = end;
        let (decoded, read) = decode::dechunk(&mut chunks, client.inbox_mut(), from);
        end = decoded;
        if (end - head.len) as u64 > most {
            let note = format!("the body has more than the limit of {most} bytes");
            return Err(Fault::new(FaultKind::BodyTooLarge, note));
        }
        match read {
            Ok(Some(next)) => {
                client.inbox_mut().drain(end..next);
                received += next - from;
                return Ok(Body { span: Span::new(head.len, end), end, received });
            }
            Ok(None) => {
                received += client.inbox().len() - from;
                client.inbox_mut().truncate(end);
            }
            Err(bad) => {
                let note = format!("chunked body: {}", bad.reason);
                return Err(Fault::new(FaultKind::BodyMalformed, note));
            }
        }
        // Half as much again: what framing there is beside the payload has no more than that.
        fill(client, (end / 2).max(READ_BYTES), started, end - head.len).await?;
    }
}

/// Puts what a compressed body stands for in its place. Others of the shard have their turn between two pieces.
async fn decode_body(client: &mut Client, head: &RequestHead, body: &mut Body) -> Result<(), Fault> {
    let Some(coding) = phases::coding(head, client.inbox())? else { return Ok(()) };
    let most = client.shard.plan.limits.body_bytes;
    let bytes_max = usize::try_from(most).unwrap_or(usize::MAX);
    let mut out = client.shard.buffers.large();
    out.extend_from_slice(&client.inbox()[..head.len]);
    let mut decoding = Box::new(Decoding::new(coding, body.of(client.inbox()), bytes_max));
    while !decoding.step(&mut out).map_err(|bad| phases::undecoded(bad, most))? {
        turn_of_others().await;
    }
    drop(decoding);
    let end = out.len();
    out.extend_from_slice(&client.inbox()[body.end..]);
    std::mem::swap(client.inbox_mut(), &mut out);
    client.shard.buffers.put(out);
    *body = Body { span: Span::new(head.len, end), end, received: body.received };
    Ok(())
}

/// Ready when the shard comes back to this task.
async fn turn_of_others() {
    let mut had_it = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_it, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn fill(client: &mut Client, wanted: usize, started: Nanos, received: usize) -> Result<(), Fault> {
    // A second more for each kibibyte that came: slow is allowed, dripping is not.
    let earned = Nanos(received as u64 * (1_000_000_000 / 1024));
    client.deadline.set_at(started.plus(client.shard.plan.timeouts.body).plus(earned));
    match client.fill(wanted).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::new(FaultKind::ClientGone, "the client left in the middle of its body")),
        Err(_) => Err(Fault::new(FaultKind::BodyTimeout, "the request body did not arrive in time")),
    }
}

/// Answers from the plan: the models this key may use.
async fn list(client: &mut Client, settle: &mut Settle, asked: &Asked, head: &RequestHead) -> Next {
    let shard = client.shard.clone();
    let plan = &shard.plan;
    let usable = |model: &ModelId| phases::may_use(&shard, settle.record.key, *model);
    let mut out = shard.buffers.large();
    let task = asked.api.map(Api::task);
    if task == Some(Task::ShowKey) {
        let Some(key) = settle.record.key else {
            let fault = Fault::new(FaultKind::PathUnknown, "this gateway has no keys");
            return respond::refuse(client, settle, asked, &fault, true).await;
        };
        let at = At { now: clock::now(), unix_ms: settle.record.at_unix_ms };
        standing::render(plan, key, at, &mut out);
    } else if task == Some(Task::ListModels) {
        let listed = |model: &&Model| model.prefix.is_none() && usable(&model.id);
        let entries = plan.models.iter().filter(listed).map(entry);
        models::list(asked.dialect, entries, &mut out);
    } else {
        let id = dialect::route::model_id(head.path.of(client.inbox())).unwrap_or_default();
        match plan.find_model(&id).filter(|model| usable(model)) {
            Some(model) => {
                models::one(asked.dialect, models::Entry { name: &id, ..entry(plan.model(model)) }, &mut out);
            }
            None => {
                let fault = phases::unknown_model(&id);
                return respond::refuse(client, settle, asked, &fault, true).await;
            }
        }
    }
    respond::local(client, settle, asked, 200, out).await
}

fn entry(model: &Model) -> models::Entry<'_> {
    models::Entry { name: &model.name, created: model.created, context_length: model.context_length }
}

/// Answers a count of tokens by our own estimate: the backends of the model serve its messages, translated, and have no
/// such endpoint. A client that is refused here asks the model itself for each count.
async fn count_here(client: &mut Client, settle: &mut Settle, asked: &Asked, api: Api) -> Next {
    let mut out = client.shard.buffers.small();
    estimate::count(api, settle.prompt_tokens, &mut out);
    respond::local(client, settle, asked, 200, out).await
}

/// Sends the request to a backend. The choices asked for, the response's head, and the head that the client has already; or
/// what becomes of the connection of a client without a response.
async fn forward<'p>(
    client: &mut Client,
    settle: &mut Settle,
    asked: &Asked,
    head: &RequestHead,
    body: &Body,
    api: Api,
    place: &'p mut Option<Response>,
) -> Result<(u64, &'p mut Response, Option<Begun>), Next> {
    let decided = refer::decide(settle, api, head, client.inbox(), body.of(client.inbox()));
    let Decided { model, peek, bound, id } = match decided {
        Ok(decided) => decided,
        Err(fault) => return Err(respond::refuse(client, settle, asked, &fault, true).await),
    };
    if api.task() == Task::CountTokens && !phases::counts_tokens(settle, api, model) {
        return Err(count_here(client, settle, asked, api).await);
    }
    client.watch();
    early::arm(client, settle, asked, &peek);
    let outgoing = Outgoing { head, body, api, peek: &peek, id: &id, bound };
    let response = match dispatch::run(client, settle, &outgoing, model, place).await {
        Ok(response) => response,
        Err(fault) if matches!(fault.kind, FaultKind::ClientGone | FaultKind::ClientStalled) => {
            early::abandon(client, settle, fault.kind);
            return Err(Next::Close);
        }
        Err(fault) => {
            return Err(match early::end(client, settle).await? {
                None => respond::refuse(client, settle, asked, &fault, true).await,
                Some(begun) => early::failed(client, settle, api, &begun, &fault).await,
            });
        }
    };
    convert::apply(settle, response, &peek);
    let translated = translation::apply(&client.shard, response);
    let begun = early::end(client, settle).await?;
    match (&begun, translated) {
        (None, Err(fault)) => Err(respond::refuse(client, settle, asked, &fault, true).await),
        (Some(begun), Err(fault)) => Err(early::failed(client, settle, api, begun, &fault).await),
        (Some(begun), Ok(())) if !early::is_fit(response) => {
            Err(early::told(client, settle, api, begun, response).await)
        }
        (_, Ok(())) => Ok((peek.choices, response, begun)),
    }
}
