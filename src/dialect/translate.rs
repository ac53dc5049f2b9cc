//! Between a client and a backend that speak different dialects.
//!
//! Everything here goes through the neutral form; which dialect decodes and which encodes is looked up once per call.
//! Where both sides speak the same API nothing of this runs: bytes pass.

use std::borrow::Cow;

use super::neutral::{
    Context, Event, FaultRecord, HeldTooMuch, Losses, PartKind, Request, Target, Text, ToolKind,
};
use super::usage::Usage;
use super::{Api, ApiSet, Dialect, Unfit, embed};
use crate::error::Fault;
use crate::units::Span;
use crate::wire::event_stream::{self, MessageKind};
use crate::wire::records::RecordForm;
use crate::wire::sse;

/// Who speaks which API on either side of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// What the client sent its request to.
    pub client: Api,
    /// What the backend is asked by.
    pub backend: Api,
}

impl Call {
    /// How a client of this API can be served by a backend that does not serve it, but these: in the first of them that says
    /// the same. `None`: not at all.
    pub fn translated(client: Api, serves: ApiSet) -> Option<Self> {
        let says_the_same = |api: &Api| api.task() == client.task() && serves.contains(*api);
        if embed::is_client(client) {
            let backend = embed::BACKENDS.into_iter().find(says_the_same)?;
            return Some(Self { client, backend });
        }
        Verbs::of(client).filter(|verbs| verbs.has_clients())?;
        let backend = GENERATING.iter().copied().find(says_the_same)?;
        Some(Self { client, backend })
    }

    /// Whether bytes pass as they are.
    pub fn is_plain(self) -> bool {
        self.client == self.backend
    }
}

/// Writes the dialects that can be translated, each from its folder, as a look-up and as the types that hold their state.
/// The order is the one in which a backend's APIs are tried.
macro_rules! dialects {
    (
        $($(#[cfg($when:meta)])? $api:ident: $folder:ident;)*
        // Of backends only: the verbs towards clients are missing.
        [$($only:ident: $only_folder:ident;)*]
    ) => {
        const GENERATING: &[Api] = &[$($(#[cfg($when)])? Api::$api,)* $(Api::$only,)*];

        /// Which dialect's verbs are meant.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Verbs { $($(#[cfg($when)])? $api,)* $($only,)* }

        #[derive(Debug)]
        enum Decoder {
            $($(#[cfg($when)])? $api(super::$folder::decode::Events),)*
            $($only(super::$only_folder::decode::Events),)*
        }

        #[derive(Debug)]
        enum Encoder { $($(#[cfg($when)])? $api(super::$folder::encode::Events),)* }

        #[derive(Debug)]
        enum Fold { $($(#[cfg($when)])? $api(super::$folder::encode::Body),)* }

        impl Verbs {
            fn of(api: Api) -> Option<Self> {
                match api {
                    $($(#[cfg($when)])? Api::$api => Some(Self::$api),)*
                    $(Api::$only => Some(Self::$only),)*
                    _ => None,
                }
            }

            /// Whether clients speak it.
            fn has_clients(self) -> bool {
                !matches!(self, $(Self::$only)|*)
            }

            fn decode_request(self, body: &[u8]) -> Result<Request<'_>, Fault> {
                match self { $($(#[cfg($when)])? Self::$api => super::$folder::decode::request(body),)* $(Self::$only => Err(super::neutral::malformed("no client speaks this API")),)* }
            }

            fn encode_request(self, request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
                match self { $($(#[cfg($when)])? Self::$api => super::$folder::encode::request(request, target, out),)* $(Self::$only => super::$only_folder::encode::request(request, target, out),)* }
            }

            fn decode_fault(self, status: u16, body: &[u8]) -> FaultRecord<'_> {
                match self { $($(#[cfg($when)])? Self::$api => super::$folder::decode::fault(status, body),)* $(Self::$only => super::$only_folder::decode::fault(status, body),)* }
            }

            fn encode_fault(self, record: &FaultRecord<'_>, status: u16, request_id: &str, out: &mut Vec<u8>) {
                match self { $($(#[cfg($when)])? Self::$api => super::$folder::encode::fault(record, status, request_id, out),)* $(Self::$only => Self::Chat.encode_fault(record, status, request_id, out),)* }
            }

            fn decode_whole(self, context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
                match self { $($(#[cfg($when)])? Self::$api => super::$folder::decode::body(context, body, sink),)* $(Self::$only => super::$only_folder::decode::body(context, body, sink),)* }
            }

            fn decoder(self, context: &Context) -> Decoder {
                match self { $($(#[cfg($when)])? Self::$api => Decoder::$api(super::$folder::decode::Events::new(context)),)* $(Self::$only => Decoder::$only(super::$only_folder::decode::Events::new(context)),)* }
            }

            fn encoder(self, context: Context) -> Encoder {
                match self { $($(#[cfg($when)])? Self::$api => Encoder::$api(super::$folder::encode::Events::new(context)),)* $(Self::$only => Self::Chat.encoder(context),)* }
            }

            fn fold(self, context: Context) -> Fold {
                match self { $($(#[cfg($when)])? Self::$api => Fold::$api(super::$folder::encode::Body::new(context)),)* $(Self::$only => Self::Chat.fold(context),)* }
            }
        }

        impl Decoder {
            fn record(&mut self, name: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
                match self { $($(#[cfg($when)])? Self::$api(decoder) => decoder.record(name, data, sink),)* $(Self::$only(decoder) => decoder.record(name, data, sink),)* }
            }

            fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
                match self { $($(#[cfg($when)])? Self::$api(decoder) => decoder.end(sink),)* $(Self::$only(decoder) => decoder.end(sink),)* }
            }

            /// Whether the sign of the end has come, or the finish reason where the sign may be missing.
            fn is_finished(&self) -> bool {
                match self { $($(#[cfg($when)])? Self::$api(decoder) => decoder.is_finished(),)* $(Self::$only(decoder) => decoder.is_finished(),)* }
            }
        }

        impl Encoder {
            fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
                match self { $($(#[cfg($when)])? Self::$api(encoder) => encoder.event(event, out),)* }
            }
        }

        impl Fold {
            fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
                match self { $($(#[cfg($when)])? Self::$api(fold) => fold.event(event),)* }
            }

            fn finish(self, out: &mut Vec<u8>) -> bool {
                match self { $($(#[cfg($when)])? Self::$api(fold) => fold.finish(out),)* }
            }
        }
    };
}

dialects! {
    Chat: chat;
    Responses: responses;
    Messages: messages;
    GenerateContent: gemini;
    OllamaChat: ollama;
    OllamaGenerate: ollama_generate;
    #[cfg(test)]
    Echo: echo;
    [Converse: converse;]
}

impl Decoder {
    /// Takes one record of a stream. `joined`: for data that stand in several lines.
    fn take(
        &mut self,
        form: RecordForm,
        record: &[u8],
        joined: &mut Vec<u8>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        match form {
            RecordForm::Sse => {
                let lines = sse::event(record);
                match (lines.data_lines, lines.data) {
                    (1, Some(data)) => self.record(lines.name, data, sink),
                    (0, _) | (_, None) => {}
                    _ => {
                        joined.clear();
                        sse::join_data(record, joined);
                        self.record(lines.name, joined, sink);
                    }
                }
            }
            RecordForm::Ndjson => self.record(None, record.trim_ascii(), sink),
            RecordForm::EventStream => match event_stream::message(record) {
                Ok(message) => match (message.kind, self) {
                    (MessageKind::Exception | MessageKind::Error, Self::Converse(decoder)) => {
                        decoder.failed(message.name, message.payload, sink);
                    }
                    (_, decoder) => decoder.record(Some(message.name), message.payload, sink),
                },
                Err(event_stream::BadMessage(reason)) => {
                    self.record(Some(event_stream::BROKEN), reason.as_bytes(), sink)
                }
            },
        }
    }
}

/// What the beginning of a stream says, by the decoder of its own API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Begun {
    /// The record that is a failure.
    pub failed: Option<Span>,
    /// The status that fits the failure, where it names one.
    pub status: Option<u16>,
    /// Content has come, or the end.
    pub has_content: bool,
    /// Records that say something.
    pub records: u32,
}

/// Reads the beginning of a stream up to its first content or failure; nothing of it is kept.
pub fn begun(api: Api, payload: &[u8], ended: bool) -> Begun {
    let form = api.stream().records();
    let mut decoder = verbs(api).decoder(&Context::probe());
    let (mut begun, mut joined) = (Begun::default(), Vec::new());
    for span in form.records(payload, ended) {
        let mut sink = |event: Event<'_>| match event {
            Event::Fault(record) => (begun.failed, begun.status) = (Some(span), record.status),
            Event::Delta { .. } | Event::End => begun.has_content = true,
            Event::Open { kind, .. } => begun.has_content |= is_content(&kind),
            _ => {}
        };
        decoder.take(form, span.of(payload), &mut joined, &mut sink);
        begun.records += u32::from(!span.of(payload).trim_ascii().is_empty());
        if begun.failed.is_some() || begun.has_content {
            break;
        }
    }
    begun
}

/// Whether a part is content before anything of it has come.
fn is_content(kind: &PartKind<'_>) -> bool {
    matches!(kind, PartKind::ToolCall { .. } | PartKind::Redacted(_))
}

/// What a translated request leaves for its response.
#[derive(Clone, Debug, Default)]
pub struct Translated {
    /// Members that the backend was not sent.
    pub losses: Losses,
    /// The client's tools that take free text ([`Context::custom_tools`]).
    pub custom_tools: Vec<Text<'static>>,
}

/// Appends the body of the client's request as the backend's API has it. `streams`: the client asked for a stream, in its body
/// or in its path.
///
/// # Errors
/// `BodyMalformed`, `MemberUnsupported`: the client's to mend.
pub fn request(
    call: Call,
    body: &[u8],
    streams: bool,
    target: &Target<'_>,
    out: &mut Vec<u8>,
) -> Result<Translated, Fault> {
    if embed::is_client(call.client) {
        let losses = embed::request(call.client, call.backend, body, target, out)?;
        return Ok(Translated { losses, custom_tools: Vec::new() });
    }
    let verbs_of_client = verbs(call.client);
    // Schemas of Google's form are JSON Schema in the neutral one, which refers to bytes as they are.
    let prepared = match verbs_of_client {
        Verbs::GenerateContent => super::gemini::decode::prepared(body),
        _ => Cow::Borrowed(body),
    };
    let mut request = verbs_of_client.decode_request(&prepared)?;
    request.stream = streams;
    replace_zero_cap(call.client, &mut request);
    let losses = verbs(call.backend).encode_request(&request, target, out)?;
    let custom = request.tools.into_iter().filter(|tool| matches!(tool.kind, ToolKind::Custom { .. }));
    Ok(Translated { losses, custom_tools: custom.map(|tool| tool.name.into_owned()).collect() })
}

/// Replaces a cap of zero, which most backends refuse and some take for no bound. In Anthropic's API it asks for no output: the
/// least that every backend can make is nearest. In the others it is no cap, as for `Peek::output_bound`.
fn replace_zero_cap(client: Api, request: &mut Request<'_>) {
    if request.params.output_max != Some(0) {
        return;
    }
    request.params.output_max = (client.dialect() == Dialect::Anthropic).then_some(1);
    request.losses.note(if client == Api::Responses { "max_output_tokens" } else { "max_tokens" });
}

/// Appends the backend's error in the client's dialect, under this status.
pub fn fault(call: Call, status: u16, body: &[u8], request_id: &str, out: &mut Vec<u8>) {
    let record = verbs(call.backend).decode_fault(status, body);
    verbs(call.client).encode_fault(&record, status, request_id, out);
}

/// The verbs of one side of a call; of an endpoint that does not generate those of its dialect, for its errors.
fn verbs(api: Api) -> Verbs {
    Verbs::of(api).unwrap_or(match api.dialect() {
        Dialect::Google => Verbs::GenerateContent,
        Dialect::Anthropic => Verbs::Messages,
        _ => Verbs::Chat,
    })
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

impl Translator {
    /// The translator of a response that begins.
    pub fn new(call: Call, context: Context) -> Self {
        let decoder = verbs(call.backend).decoder(&context);
        let encoder = verbs(call.client).encoder(context.clone());
        Self { call, context, decoder, encoder, joined: Vec::new(), seen: Seen::default() }
    }

    /// What has been seen so far.
    #[cfg(test)]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether the response may end here: its sign of an end has come, or its finish reason where `[DONE]` may be missing.
    pub fn may_end(&self) -> bool {
        self.decoder.is_finished()
    }

    /// Appends what whole records of the backend's stream say in the client's. `ended`: what is left behind them is the last.
    ///
    /// # Errors
    /// More had to be held back than may be.
    pub fn records(&mut self, records: &[u8], ended: bool, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let mut held = Ok(());
        let form = self.call.backend.stream().records();
        let (encoder, seen) = (&mut self.encoder, &mut self.seen);
        let mut sink = |event: Event<'_>| {
            seen.note(&event);
            if held.is_ok() {
                held = encoder.event(&event, out);
            }
        };
        for span in form.records(records, ended) {
            self.decoder.take(form, span.of(records), &mut self.joined, &mut sink);
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
        self.decoder.end(&mut sink);
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
        verbs(self.call.backend).decode_whole(&self.context, body, &mut sink)?;
        held.map_err(|_| TOO_LONG)
    }

    fn whole_as_body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
        if embed::is_client(self.call.client) {
            return embed::response(self.call.client, self.call.backend, &self.context, body, out);
        }
        let mut fold = verbs(self.call.client).fold(self.context.clone());
        let (mut held, seen) = (Ok(()), &mut self.seen);
        let mut sink = |event: Event<'_>| {
            seen.note(&event);
            if held.is_ok() {
                held = fold.event(&event);
            }
        };
        verbs(self.call.backend).decode_whole(&self.context, body, &mut sink)?;
        held.map_err(|_| TOO_LONG)?;
        if fold.finish(out) { Ok(()) } else { Err(Unfit("the response has no end")) }
    }
}

/// The response holds more than may be held.
const TOO_LONG: Unfit = Unfit("the response is too long to be translated whole");

impl Seen {
    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Delta { .. } => {
                self.content = true;
                self.pieces += 1;
            }
            Event::Open { kind, .. } => self.content |= is_content(kind),
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
