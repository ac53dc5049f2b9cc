//! The end of a stream, which waits until guards in other processes have read all of it.
//!
//! Everything up to the first event that says that the response is over passes as it comes; its texts are gathered meanwhile. From that
//! event on the stream waits for the verdict: a stream that is refused ends with an error, never with its own end.

use std::borrow::Cow;

use super::exchange::Exchange;
use super::external::{self, Asking, Texts};
use crate::dialect::Api;
use crate::dialect::stream::{self, Meter};
use crate::dialect::texts::{self, Channel, Located, Place};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::plan::guards::External;
use crate::policy::guard::external::TEXT_BYTES_MAX;
use crate::units::Span;
use crate::wire::records::RecordForm;
use crate::wire::sse;

/// What guards in other processes are to read of a stream, and what waits for them.
pub(super) struct Ending {
    meter: Meter,
    form: RecordForm,
    /// The response has begun, and was not over.
    has_begun: bool,
    /// The texts so far, each as the inside of its JSON string.
    texts: Vec<(Place, Channel, Vec<u8>)>,
    /// Texts that were told whole: they only count where none came in pieces.
    wholes: Vec<(Place, Vec<u8>)>,
    bytes: usize,
    /// The events that wait.
    held: Vec<u8>,
    is_over: bool,
}

impl Ending {
    /// For the stream of the model that is called now, if a guard reads it.
    pub(super) fn of(exchange: &Exchange, api: Api, choices: u64) -> Option<Box<Self>> {
        if external::of_response(exchange).is_empty() {
            return None;
        }
        Some(Box::new(Self {
            meter: Meter::new(api, choices, false),
            form: api.stream().records(),
            has_begun: false,
            texts: Vec::new(),
            wholes: Vec::new(),
            bytes: 0,
            held: Vec::new(),
            is_over: false,
        }))
    }

    /// Takes what may not pass yet out of the whole events in `buffer` from `from` on. `ended`: the stream ends with them.
    ///
    /// # Errors
    /// More waits than may.
    pub(super) fn pass(
        &mut self,
        buffer: &mut Buffer,
        from: usize,
        ended: bool,
        held_bytes_max: usize,
    ) -> Result<(), Fault> {
        let mut hold_from = (!self.held.is_empty()).then_some(from);
        let mut at = from;
        while at < buffer.len() {
            let next = self.form.next_boundary(buffer, at).unwrap_or(buffer.len());
            let event = &buffer[at..next];
            self.meter.events(event);
            self.read(event);
            let is_open = self.meter.is_cut();
            let is_end = self.meter.done() || self.meter.finished() || self.has_begun && !is_open;
            self.has_begun |= is_open;
            if is_end && !self.meter.errored() && hold_from.is_none() {
                hold_from = Some(at);
            }
            at = next;
        }
        if let Some(hold_from) = hold_from {
            self.held.extend_from_slice(&buffer[hold_from..]);
            buffer.truncate(hold_from);
        }
        if self.held.len() > held_bytes_max {
            let note = "the end of the stream is longer than content rules may hold ([limits] held)";
            return Err(Fault::new(FaultKind::BackendMalformed, note));
        }
        self.is_over |= ended;
        if ended && !self.awaits_verdict() {
            self.release(buffer); // it has failed by itself
        }
        Ok(())
    }

    /// Whether the stream has come to its own end, and waits.
    pub(super) fn awaits_verdict(&self) -> bool {
        self.is_over && !self.meter.is_cut() && !self.meter.errored()
    }

    /// Whether a body that ends by a close may end here, with `rest` unread.
    pub(super) fn may_end(&self, rest: &[u8]) -> bool {
        self.meter.done() || self.meter.finished() && stream::is_whole_event(self.form, rest)
    }

    /// Appends what waits.
    pub(super) fn release(&mut self, buffer: &mut Buffer) {
        self.is_over = false;
        buffer.append(&mut self.held);
    }

    /// Asks the guards about all that was said.
    pub(super) fn ask(&self, exchange: &Exchange) -> Asking {
        Asking::start(exchange, external::of_response(exchange), &mut |one| self.texts(one))
    }

    /// What a guard reads; `None` if it is too long.
    fn texts(&self, one: &External) -> Option<Texts<'static>> {
        if self.bytes > TEXT_BYTES_MAX {
            return None;
        }
        let (mut body, mut texts) = (Vec::new(), Vec::new());
        let mut add = |place: Place, said: &[u8]| {
            if one.places.contains(&place) {
                texts.push((place, Span::new(body.len(), body.len() + said.len())));
                body.extend_from_slice(said);
            }
        };
        match self.texts.is_empty() {
            true => self.wholes.iter().for_each(|(place, said)| add(*place, said)),
            false => self.texts.iter().for_each(|(place, _, said)| add(*place, said)),
        }
        Some((Cow::Owned(body), texts))
    }

    fn read(&mut self, event: &[u8]) {
        if self.form != RecordForm::Sse {
            return self.data(event, Span::new(0, event.len()));
        }
        let mut spans = sse::data_spans(event);
        let Some(first) = spans.next() else { return };
        if spans.next().is_none() {
            return self.data(event, first);
        }
        let mut joined = Vec::with_capacity(event.len());
        sse::join_data(event, &mut joined);
        self.data(&joined, Span::new(0, joined.len()));
    }

    fn data(&mut self, bytes: &[u8], data: Span) {
        texts::event(bytes, data, &mut |located| {
            let (place, inside) = match located {
                Located::Piece { place, inside, .. } | Located::Whole { place, inside } => (place, inside),
                Located::End { .. } => return,
            };
            self.bytes += inside.len();
            if self.bytes > TEXT_BYTES_MAX {
                return;
            }
            let said = inside.of(bytes);
            match located {
                Located::Piece { channel, .. } => {
                    match self.texts.iter_mut().find(|text| text.0 == place && text.1 == channel) {
                        Some(text) => text.2.extend_from_slice(said),
                        None => self.texts.push((place, channel, said.to_vec())),
                    }
                }
                _ => self.wholes.push((place, said.to_vec())),
            }
        });
    }
}
