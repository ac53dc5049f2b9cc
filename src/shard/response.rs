//! The opening of a backend's response: what it is, and whether it is one to pass on.

use memchr::memmem;

use super::decode::{Decode, Decoded};
use super::guarding::Guarding;
use super::idle::Connection;
use super::lease::Lease;
use super::resume::Resume;
use super::translation::Translation;
use super::wording::{RETRY_SOON, busy};
use crate::dialect::chat::resume;
use crate::dialect::stream::{self, Meter};
use crate::dialect::{Api, error_status, overflow};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::policy::routing::failure_state::HOLD_MAX;
use crate::policy::routing::status::Row;
use crate::shard::dispatch::choose::Expected;
use crate::units::{DeploymentId, Nanos};
use crate::wire::head::ResponseHead;
use crate::wire::{json, pause};

/// The opening of a backend's response, and the connection on which the rest comes. What each event needs comes first.
#[repr(C)]
pub(super) struct Response {
    pub(super) connection: Connection,
    /// How the rest of the body is framed, and whether the buffer holds all of it.
    pub(super) decode: Decode,
    pub(super) decoded: Decoded,
    pub(super) lease: Lease,
    pub(super) deployment: DeploymentId,
    /// No other backend can be called.
    pub(super) alone: bool,
    pub(super) head: ResponseHead,
    /// The head, then payload: what came with it, of a stream at least the first event.
    pub(super) buffer: Buffer,
    /// Usage was asked for on our own behalf.
    pub(super) asks_usage: bool,
    /// Choices that the client asked for.
    pub(super) choices: u64,
    /// The backend speaks another dialect than the client.
    pub(super) translation: Option<Box<Translation>>,
    /// Content rules read it.
    pub(super) guarding: Option<Box<Guarding>>,
    /// What it can go on by if its backend cuts it, where the model allows that.
    pub(super) resume: Option<Box<Resume>>,
    /// It says that it has failed, which is not passed on: another backend may go on.
    pub(super) has_failed: bool,
    /// When the request was sent, and when the response's first byte came.
    pub(super) sent: Nanos,
    pub(super) answered: Nanos,
    /// What was expected of the time to the first token.
    pub(super) expected: Expected,
}

/// Whether another model can be called if this one's backends do not respond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fallback {
    /// No: a response is passed on as soon as it is known to be one.
    None,
    /// Yes: of a stream the first content is waited for, of a body all of it.
    Available,
}

impl Response {
    /// Whether the response is a refusal or a failure that another backend may not share; with a fallback, or another model.
    pub(super) fn refusal(&self, api: Api, fallback: Fallback) -> Option<Fault> {
        match self.head.status {
            300..=399 => {
                Some(Fault::new(FaultKind::BackendMalformed, "the backend redirects, which is not followed"))
            }
            400 | 413
                if fallback == Fallback::Available
                    && overflow::is_context_overflow(&self.buffer[self.head.len..]) =>
            {
                Some(Fault::new(FaultKind::ContextExceeded, "the prompt does not fit the model"))
            }
            200..=203 => self.failure(api),
            status @ 400.. => self.error(status, Row::of(status)),
            _ => None,
        }
    }

    /// What an error means; `None`: it is the client's, in words that it can read.
    fn error(&self, status: u16, row: &Row) -> Option<Fault> {
        if row.is_clients() && self.speaks_for_itself() {
            return None;
        }
        let fault = match row.kind {
            FaultKind::BackendBusy => busy().retry_after(RETRY_SOON),
            FaultKind::BackendOverloaded => {
                Fault::new(row.kind, "the backend takes no work for now").retry_after(RETRY_SOON)
            }
            FaultKind::BackendDenied => {
                Fault::new(row.kind, "the backend refused the gateway's own credential; tell the operator")
            }
            kind => Fault::new(kind, format!("the backend answered {status}")),
        };
        Some(fault.with_status(row.ours.unwrap_or(status)))
    }

    /// The API that the backend was called by, where the client called `client`.
    pub(super) fn api(&self, client: Api) -> Api {
        self.translation.as_ref().map_or(client, |translation| translation.call.backend)
    }

    /// The pause that the backend asks for before it is called again.
    pub(super) fn asked_pause(&self, unix_ms: u64) -> Option<Nanos> {
        let asked =
            pause::asked(self.head.fields.of(&self.buffer), self.head.status == 429, unix_ms, HOLD_MAX);
        asked.or_else(|| {
            let is_limit = matches!(self.head.status, 429 | 503);
            let seconds = error_status::retry_seconds(&self.buffer[self.head.len..]).filter(|_| is_limit)?;
            Some(Nanos((seconds.min(HOLD_MAX.seconds()) * 1e9) as u64))
        })
    }

    /// Whether a response whose connection closes now has come to its proper end. A stream says so itself.
    pub(super) fn may_end(&self, api: Api) -> bool {
        let payload = &self.buffer[self.head.len..];
        let is_whole = || {
            let api = self.api(api);
            let mut meter = Meter::new(api, self.choices, false);
            meter.events(payload);
            let form = api.stream().records();
            let rest = &payload[form.last_boundary(payload)..];
            meter.done() || meter.finished() && stream::is_whole_event(form, rest)
        };
        self.decode.ends_by_close() && (!self.head.event_stream || self.is_coded() || is_whole())
    }

    /// The response has been read to its end: how long its connection may wait for another exchange, if it may.
    pub(super) fn idle_max(&self, most: Nanos) -> Option<Nanos> {
        if !self.head.keep_alive || self.decoded.extra || self.decode.ends_by_close() {
            return None;
        }
        let theirs = self.head.keep_alive_timeout;
        let theirs = theirs.map(|seconds| Nanos(seconds.saturating_sub(1) * 1_000_000_000));
        Some(theirs.map_or(most, |theirs| theirs.min(most)))
    }

    /// Whether the client learns more from the backend's own words than from ours.
    pub(super) fn speaks_for_itself(&self) -> bool {
        self.head.status >= 400 && Row::of(self.head.status).shows_theirs && self.has_json()
    }

    /// Whether the body is JSON: by what it says, not by its label, which many a page has as well. One that is too long to
    /// be held, or in a coding, is taken by its beginning or its label.
    fn has_json(&self) -> bool {
        let body = self.buffer[self.head.len..].trim_ascii_start();
        match body.first() {
            _ if self.is_coded() => self.is_json(),
            Some(b'{' | b'[') if !self.decoded.ended && body.len() > HOLD_BYTES_MAX => true,
            Some(b'{') => json::is_object(body),
            Some(b'[') => json::elements(body).all(|element| element.is_ok()),
            _ => false,
        }
    }

    /// Whether it is a stream that another backend could go on with. Content rules would not see what is split by the seam.
    pub(super) fn can_go_on(&self, client: Api) -> bool {
        self.head.status == 200
            && self.head.event_stream
            && self.guarding.is_none()
            && resume::is_for(self.api(client))
            && !self.is_coded()
    }

    /// Whether its status is that of an error.
    pub(super) fn is_error(&self) -> bool {
        self.head.status >= 400
    }

    /// Stars in the place of the gateway's own credential: a backend may repeat in an error what it was sent.
    pub(super) fn mask(&mut self, credential: &[u8]) {
        if credential.len() < CREDENTIAL_BYTES_MIN {
            return;
        }
        let told = &mut self.buffer[self.head.fields.start..];
        let found: Vec<usize> = memmem::find_iter(told, credential).collect();
        for at in found {
            told[at..at + credential.len()].fill(b'*');
        }
    }

    /// Whether the body is JSON by its label.
    pub(super) fn is_json(&self) -> bool {
        self.head.content_type.is_some_and(|span| {
            let value = span.of(&self.buffer);
            value.len() >= 16 && value[..16].eq_ignore_ascii_case(b"application/json")
        })
    }

    /// Whether the body is in a content coding, which nobody asked for: it cannot be looked into.
    pub(super) fn is_coded(&self) -> bool {
        self.head.is_coded(&self.buffer)
    }
}

/// Bytes of a body, or of an error, that is held. One that is longer is on its way. Taste.
pub(super) const HOLD_BYTES_MAX: usize = 256 * 1024;

/// What is shorter may be a word of any error; it keeps no secret.
const CREDENTIAL_BYTES_MIN: usize = 8;
