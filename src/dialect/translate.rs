//! Between a client and a backend that speak different dialects.
//!
//! Everything here goes through the neutral form; which dialect decodes and which encodes is looked up once per call.
//! Where both sides speak the same API nothing of this runs: bytes pass.

use super::neutral::{Context, Event, FaultRecord, HeldTooMuch, Losses, Target, Text, ToolKind};
use super::usage::Usage;
use super::{Api, ApiSet, Unfit, chat, messages, responses};
use crate::error::Fault;
use crate::wire::sse;

/// Who speaks which API on either side of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// What the client sent its request to.
    pub client: Api,
    /// What the backend is asked by.
    pub backend: Api,
}

/// APIs that a request can be translated to, in the order in which they are tried.
const BACKENDS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];
/// APIs that a request can be translated from.
const CLIENTS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];

impl Call {
    /// How a client of this API can be served by a backend that does not serve it, but these: in the first of them that says
    /// the same. `None`: not at all.
    pub fn translated(client: Api, serves: ApiSet) -> Option<Self> {
        if !CLIENTS.contains(&client) {
            return None;
        }
        let backend = BACKENDS.into_iter().find(|api| serves.contains(*api))?;
        Some(Self { client, backend })
    }

    /// Whether bytes pass as they are.
    pub fn is_plain(self) -> bool {
        self.client == self.backend
    }
}

/// What a translated request leaves for its response.
#[derive(Clone, Debug, Default)]
pub struct Translated {
    /// Members that the backend was not sent.
    pub losses: Losses,
    /// The client's tools that take free text ([`Context::custom_tools`]).
    pub custom_tools: Vec<Text<'static>>,
}

/// Appends the body of the client's request as the backend's API has it.
///
/// # Errors
/// `BodyMalformed`, `MemberUnsupported`: the client's to mend.
pub fn request(call: Call, body: &[u8], target: &Target<'_>, out: &mut Vec<u8>) -> Result<Translated, Fault> {
    let request = match call.client {
        Api::Messages => messages::decode::request(body)?,
        Api::Responses => responses::decode::request(body)?,
        _ => chat::decode::request(body)?,
    };
    let losses = match call.backend {
        Api::Messages => messages::encode::request(&request, target, out)?,
        Api::Responses => responses::encode::request(&request, target, out)?,
        _ => chat::encode::request(&request, target, out)?,
    };
    let custom = request.tools.into_iter().filter(|tool| matches!(tool.kind, ToolKind::Custom { .. }));
    Ok(Translated { losses, custom_tools: custom.map(|tool| tool.name.into_owned()).collect() })
}

/// Appends the backend's error in the client's dialect, under this status.
pub fn fault(call: Call, status: u16, body: &[u8], request_id: &str, out: &mut Vec<u8>) {
    let record = match call.backend {
        Api::Messages => messages::decode::fault(status, body),
        Api::Responses => responses::decode::fault(status, body),
        _ => chat::decode::fault(status, body),
    };
    told(call, &record, status, request_id, out);
}

fn told(call: Call, record: &FaultRecord<'_>, status: u16, request_id: &str, out: &mut Vec<u8>) {
    match call.client {
        Api::Messages => messages::encode::fault(record, status, request_id, out),
        Api::Responses => responses::encode::fault(record, status, request_id, out),
        _ => chat::encode::fault(record, status, request_id, out),
    }
}

/// The response of one call on its way from the backend's dialect into the client's.
///
/// A stream goes in as whole records and comes out as whole records. A whole body goes in at once; it comes out as a body,
/// or as a stream for a client that asked for one. Cost per event: one pass over it; no allocation after the first ones.
#[derive(Debug)]
pub struct Translator {
    call: Call,
    context: Context,
    decoder: Decoder,
    encoder: Encoder,
    /// Data lines of a record that has several, joined.
    joined: Vec<u8>,
    seen: Seen,
}

/// What has been seen of a response so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Content has come.
    pub content: bool,
    /// The backend reported a failure inside the response.
    pub errored: bool,
    /// The response came to its proper end.
    pub is_whole: bool,
    /// Tokens by the backend's count.
    pub usage: Usage,
    /// Pieces of content: what a response without usage is taken to have cost.
    pub pieces: u64,
}

#[derive(Debug)]
enum Decoder {
    Chat(chat::decode::Events),
    Messages(messages::decode::Events),
    Responses(responses::decode::Events),
}

#[derive(Debug)]
enum Encoder {
    Chat(chat::encode::Events),
    Messages(messages::encode::Events),
    Responses(responses::encode::Events),
}

#[derive(Debug)]
enum Fold {
    Chat(chat::encode::Body),
    Messages(messages::encode::Body),
    Responses(responses::encode::Body),
}

impl Translator {
    /// The translator of a response that begins.
    pub fn new(call: Call, context: Context) -> Self {
        let decoder = match call.backend {
            Api::Messages => Decoder::Messages(messages::decode::Events::new(&context)),
            Api::Responses => Decoder::Responses(responses::decode::Events::new(&context)),
            _ => Decoder::Chat(chat::decode::Events::new(&context)),
        };
        let encoder = match call.client {
            Api::Messages => Encoder::Messages(messages::encode::Events::new(context.clone())),
            Api::Responses => Encoder::Responses(responses::encode::Events::new(context.clone())),
            _ => Encoder::Chat(chat::encode::Events::new(context.clone())),
        };
        Self { call, context, decoder, encoder, joined: Vec::new(), seen: Seen::default() }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether the response may end here: its sign of an end has come, or its finish reason where `[DONE]` may be missing.
    pub fn may_end(&self) -> bool {
        match &self.decoder {
            Decoder::Chat(decoder) => decoder.is_finished(),
            Decoder::Messages(decoder) => decoder.is_whole(),
            Decoder::Responses(decoder) => decoder.is_whole(),
        }
    }

    /// Appends what whole records of the backend's stream say in the client's.
    ///
    /// # Errors
    /// More had to be held back than may be.
    pub fn records(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let mut held = Ok(());
        for span in sse::events(records) {
            let record = span.of(records);
            let lines = sse::event(record);
            let data = match (lines.data_lines, lines.data) {
                (1, Some(data)) => data,
                (0, _) | (_, None) => continue,
                _ => {
                    self.joined.clear();
                    sse::join_data(record, &mut self.joined);
                    &self.joined
                }
            };
            let (encoder, seen) = (&mut self.encoder, &mut self.seen);
            let mut sink = |event: Event<'_>| {
                seen.note(&event);
                if held.is_ok() {
                    held = encoder.event(&event, out);
                }
            };
            match &mut self.decoder {
                Decoder::Chat(decoder) => decoder.record(lines.name, data, &mut sink),
                Decoder::Messages(decoder) => decoder.record(lines.name, data, &mut sink),
                Decoder::Responses(decoder) => decoder.record(lines.name, data, &mut sink),
            }
        }
        held
    }

    /// The backend's stream ended as its transport should. Appends what is still owed; whether that was its proper end is
    /// in [`Seen::is_whole`].
    ///
    /// # Errors
    /// As for [`Translator::records`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let mut held = Ok(());
        let (encoder, seen) = (&mut self.encoder, &mut self.seen);
        let mut sink = |event: Event<'_>| {
            seen.note(&event);
            if held.is_ok() {
                held = encoder.event(&event, out);
            }
        };
        match &mut self.decoder {
            Decoder::Chat(decoder) => decoder.end(&mut sink),
            Decoder::Messages(decoder) => decoder.end(&mut sink),
            Decoder::Responses(decoder) => decoder.end(&mut sink),
        }
        held
    }

    /// Appends a whole response: as a body, or with `streams` as the stream that says the same.
    ///
    /// # Errors
    /// It is not a response of the backend's API, it has no end, or it is longer than may be held. `out` is as it was.
    pub fn whole(&mut self, body: &[u8], streams: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let start = out.len();
        let done = match streams {
            true => self.whole_as_stream(body, out),
            false => self.whole_as_body(body, out),
        };
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    fn whole_as_stream(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        let mut held = Ok(());
        let (encoder, seen) = (&mut self.encoder, &mut self.seen);
        let mut sink = |event: Event<'_>| {
            seen.note(&event);
            if held.is_ok() {
                held = encoder.event(&event, out);
            }
        };
        decode_whole(self.call.backend, &self.context, body, &mut sink)?;
        held.map_err(|_| TOO_LONG)
    }

    fn whole_as_body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        let mut fold = match self.call.client {
            Api::Messages => Fold::Messages(messages::encode::Body::new(self.context.clone())),
            Api::Responses => Fold::Responses(responses::encode::Body::new(self.context.clone())),
            _ => Fold::Chat(chat::encode::Body::new(self.context.clone())),
        };
        let (mut held, seen) = (Ok(()), &mut self.seen);
        let mut sink = |event: Event<'_>| {
            seen.note(&event);
            if held.is_ok() {
                held = match &mut fold {
                    Fold::Chat(fold) => fold.event(&event),
                    Fold::Messages(fold) => fold.event(&event),
                    Fold::Responses(fold) => fold.event(&event),
                };
            }
        };
        decode_whole(self.call.backend, &self.context, body, &mut sink)?;
        held.map_err(|_| TOO_LONG)?;
        let is_whole = match fold {
            Fold::Chat(fold) => fold.finish(out),
            Fold::Messages(fold) => fold.finish(out),
            Fold::Responses(fold) => fold.finish(out),
        };
        if is_whole { Ok(()) } else { Err(Unfit("the response has no end")) }
    }
}

/// The response holds more than may be held.
const TOO_LONG: Unfit = Unfit("the response is too long to be translated whole");

fn decode_whole(
    backend: Api,
    context: &Context,
    body: &[u8],
    sink: &mut dyn FnMut(Event<'_>),
) -> Result<(), Unfit> {
    match backend {
        Api::Messages => messages::decode::body(context, body, sink),
        Api::Responses => responses::decode::body(context, body, sink),
        _ => chat::decode::body(context, body, sink),
    }
}

impl Encoder {
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        match self {
            Self::Chat(encoder) => encoder.event(event, out),
            Self::Messages(encoder) => encoder.event(event, out),
            Self::Responses(encoder) => encoder.event(event, out),
        }
    }
}

impl Seen {
    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Delta { .. } => {
                self.content = true;
                self.pieces += 1;
            }
            Event::Open { kind, .. } => {
                use super::neutral::PartKind;
                self.content |= matches!(kind, PartKind::ToolCall { .. } | PartKind::Redacted(_));
            }
            Event::Usage(usage) => self.usage.merge(*usage),
            Event::Fault(_) => self.errored = true,
            Event::End => self.is_whole = true,
            Event::Start { .. }
            | Event::Signature { .. }
            | Event::Close { .. }
            | Event::Finish { .. }
            | Event::Ping => {}
        }
    }
}

#[cfg(test)]
mod tests;
