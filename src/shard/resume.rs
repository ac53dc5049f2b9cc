//! A stream that its backend cut goes on at another one, where the model allows it: what is kept for that, and the stage
//! that makes two responses one.

use std::rc::Rc;

use super::client::Client;
use super::exchange::Exchange;
use super::request::Request;
use super::response::Response;
use crate::dialect::Api;
use crate::dialect::chat::resume::{self, Said, Seam};
use crate::dialect::request::{self, Peek};
use crate::net::buffers::Buffer;
use crate::units::Span;
use crate::wire::head::RequestHead;
use crate::wire::sse;

/// What is kept of an exchange so that its stream can go on.
pub(super) struct Resume {
    api: Api,
    head: RequestHead,
    /// The request for the whole response, head and body.
    request: Rc<Buffer>,
    payload: Span,
    /// What the client has of the response.
    said: Said,
    /// Between what the client has and the response that goes on.
    seam: Option<Seam>,
    /// The beginning of an event, behind a seam, whose rest has not come.
    rest: Vec<u8>,
    /// Times that it has gone on.
    times: u8,
}

/// A request for the rest of a response.
pub(super) struct Continued {
    pub(super) head: RequestHead,
    pub(super) peek: Peek,
    /// Head and body.
    pub(super) request: Buffer,
}

impl Resume {
    /// For a response that was opened, if it can go on elsewhere at all.
    ///
    /// Content rules would not see what is split by the seam; a response in another dialect, or in a coding, is not read here.
    pub(super) fn of(
        client: &Client,
        exchange: &Exchange,
        request: &Request<'_>,
        response: &Response,
    ) -> Option<Box<Self>> {
        let model = exchange.shard.plan.model(exchange.model?);
        let is_possible = model.resumes
            && resume::is_for(request.api)
            && request.bound.is_none()
            && is_plain_stream(response);
        is_possible.then(|| {
            let end = request.body.span.end;
            let kept = match client.large_request() {
                Some(large) => Rc::clone(large),
                None => Rc::new(client.inbox()[..end].to_vec()),
            };
            Box::new(Self {
                api: request.api,
                head: *request.head,
                request: kept,
                payload: request.body.span,
                said: Said::default(),
                seam: None,
                rest: Vec::new(),
                times: 0,
            })
        })
    }

    /// The client is sent these events.
    pub(super) fn note(&mut self, events: &[u8]) {
        self.said.note(events);
    }

    /// The request for the rest of the response, if there can be one.
    pub(super) fn go_on(&mut self) -> Option<Continued> {
        if self.times == TIMES_MAX || !self.said.can_go_on() {
            return None;
        }
        let bytes = &self.request[..];
        let payload = self.said.continued(self.payload.of(bytes))?;
        let target = (self.head.path.of(bytes), self.head.query.of(bytes));
        let (peek, _) = request::peek_at(self.api, target, &payload).ok()?;
        self.times += 1;
        Some(Continued { head: self.head, peek, request: [&bytes[..self.head.len], &payload].concat() })
    }

    /// Another backend goes on: what it sends, of which the first bytes are in `response`, becomes the same response.
    ///
    /// `None` if it is no such stream.
    pub(super) fn join(&mut self, mut response: Response) -> Option<Response> {
        if !is_plain_stream(&response) {
            return None;
        }
        self.rest.clear();
        self.seam = Some(self.said.seam());
        let (from, ended) = (response.head.len, response.decoded.ended);
        let mut buffer = std::mem::take(&mut response.buffer);
        self.events(&mut buffer, from, ended);
        response.buffer = buffer;
        Some(response)
    }

    /// Puts whole events of the same response in the place of what has come of another one.
    pub(super) fn events(&mut self, buffer: &mut Buffer, from: usize, ended: bool) {
        let Some(seam) = &self.seam else { return };
        self.rest.extend_from_slice(&buffer[from..]);
        let whole = if ended { self.rest.len() } else { sse::last_boundary(&self.rest) };
        buffer.truncate(from);
        seam.events(&self.rest[..whole], buffer);
        self.rest.drain(..whole);
    }

    /// What waits for its rest, behind a seam.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        self.seam.as_ref().map(|_| &self.rest[..])
    }

    /// Cuts off what says that the response has failed; true if there was something.
    pub(super) fn cut_failure(&self, buffer: &mut Buffer, from: usize) -> bool {
        let Some(at) = resume::failure_at(&buffer[from..]) else { return false };
        let can_go_on = self.times < TIMES_MAX && self.said.can_go_on();
        if can_go_on {
            buffer.truncate(from + at);
        }
        can_go_on
    }
}

fn is_plain_stream(response: &Response) -> bool {
    response.head.status == 200
        && response.head.event_stream
        && response.translation.is_none()
        && response.guarding.is_none()
        && !response.is_coded()
}

/// Backends that one response goes on at, one after the other. Taste.
const TIMES_MAX: u8 = 3;
