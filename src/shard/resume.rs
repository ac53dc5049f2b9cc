//! A stream that its backend cuts goes on at another one, where the model allows it: what is kept for that, and the stage
//! that makes two responses one. It stands behind the transport and before the translation: what goes on is the backend's stream, whatever
//! the client speaks.

use std::rc::Rc;

use crate::dialect::chat::resume::{self, Said, Seam};
use crate::dialect::request::Peek;
use crate::net::buffers::Buffer;
use crate::units::Span;
use crate::wire::head::RequestHead;
use crate::wire::sse;

/// What is kept of an exchange so that its stream can go on.
pub(super) struct Resume {
    kept: Kept,
    /// What the client has of the response.
    said: Said,
    /// Between what the client has and the response that goes on.
    seam: Option<Seam>,
    /// The beginning of an event whose rest has not come.
    rest: Vec<u8>,
    /// The client speaks another dialect.
    is_translated: bool,
    /// Times that it has gone on.
    times: u8,
}

/// The request for the whole response.
pub(super) struct Kept {
    pub(super) head: RequestHead,
    pub(super) peek: Peek,
    pub(super) payload: Span,
    /// Head and body.
    pub(super) bytes: Rc<Buffer>,
}

impl Resume {
    pub(super) fn new(kept: Kept, is_translated: bool) -> Self {
        Self { kept, said: Said::default(), seam: None, rest: Vec::new(), is_translated, times: 0 }
    }

    /// What the client has, and the request for all of it, if another backend can be asked for the rest.
    pub(super) fn go_on(&mut self) -> Option<(&Said, &Kept)> {
        if self.times == TIMES_MAX || !self.said.can_go_on() {
            return None;
        }
        self.times += 1;
        Some((&self.said, &self.kept))
    }

    /// From here on another backend's events are made those of the same response.
    pub(super) fn join(&mut self) {
        self.rest.clear();
        self.seam = Some(self.said.seam());
    }

    /// Notes what has come of the backend's stream, and cuts off what says that it has failed: true if it has. A translated stream has
    /// also failed if it ends without its end, which the translation would tell the client. Behind a seam, whole events of the same
    /// response take the place of what has come.
    pub(super) fn events(&mut self, buffer: &mut Buffer, from: usize, ended: bool) -> bool {
        self.rest.extend_from_slice(&buffer[from..]);
        let whole = if ended { self.rest.len() } else { sse::last_boundary(&self.rest) };
        let failure = resume::failure_at(&self.rest[..whole]).filter(|_| self.times < TIMES_MAX);
        let noted = failure.unwrap_or(whole);
        match &self.seam {
            Some(seam) => {
                buffer.truncate(from);
                seam.events(&self.rest[..noted], buffer);
                self.said.note(&buffer[from..]);
            }
            None => {
                // What comes of an event that began before has to go with it.
                let before = self.rest.len() - (buffer.len() - from);
                self.said.note(&self.rest[..noted]);
                if failure.is_some() {
                    buffer.truncate(from + noted.saturating_sub(before));
                }
            }
        }
        self.rest.drain(..whole);
        failure.is_some() || ended && self.is_translated && self.times < TIMES_MAX && self.said.can_go_on()
    }

    /// What waits for its rest, behind a seam.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        self.seam.as_ref().map(|_| &self.rest[..])
    }
}

/// Backends that one response goes on at, one after the other. Taste.
const TIMES_MAX: u8 = 3;
