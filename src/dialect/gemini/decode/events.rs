//! A backend's stream of responses, each a piece of the whole.

use super::{fault, finish_reason};
use crate::dialect::gemini::seal;
use crate::dialect::neutral::{Context, Event, FaultRecord, FinishReason, Json, PartKind, Text, unreadable};
use crate::dialect::number;
use crate::dialect::usage::Usage;
use crate::wire::json::{self, ValueKind};

/// Decoder of one stream. Only the candidate of index 0 counts: a translated request asks for one.
///
/// Calls come whole. Older models give a reason to finish with every piece, so the last one counts, and it is told when the
/// body ends. The stream is whole with such a reason, or where the prompt was blocked.
#[derive(Clone, Debug)]
pub struct Events {
    request_id: String,
    started: bool,
    /// The part that is open, and whether it is a thought.
    open: Option<(usize, bool)>,
    parts: usize,
    calls: usize,
    finish: Option<FinishReason>,
    /// The model's call could not be read: the words for it.
    malformed: Option<Vec<u8>>,
    /// Text or a call has come.
    said: bool,
    /// Nothing more counts: the end, or a fault.
    over: bool,
    whole: bool,
    /// The id of a call while it is made, and its arguments.
    id: Vec<u8>,
    scratch: Vec<u8>,
}

/// The members of a piece that count.
#[derive(Default)]
struct Piece<'a> {
    id: Text<'a>,
    model: Text<'a>,
    candidates: Json<'a>,
    feedback: Json<'a>,
    usage: Json<'a>,
    error: Json<'a>,
}

impl<'a> Piece<'a> {
    /// `None` for what is no sound object.
    fn read(data: Json<'a>) -> Option<Self> {
        let mut piece = Self::default();
        for member in json::members(data) {
            let member = member.ok()?;
            let value = member.value.of(data);
            if member.kind == ValueKind::Null {
                continue;
            }
            match member.key.of(data) {
                b"\"responseId\"" | b"\"response_id\"" => piece.id = Text::of(value).unwrap_or_default(),
                b"\"modelVersion\"" | b"\"model_version\"" => {
                    piece.model = Text::of(value).unwrap_or_default()
                }
                b"\"candidates\"" => piece.candidates = value,
                b"\"promptFeedback\"" | b"\"prompt_feedback\"" => piece.feedback = value,
                b"\"usageMetadata\"" | b"\"usage_metadata\"" => piece.usage = value,
                b"\"error\"" => piece.error = value,
                _ => {}
            }
        }
        Some(piece)
    }
}

/// The members of a part that count.
#[derive(Default)]
struct Part<'a> {
    text: Option<Text<'a>>,
    is_thought: bool,
    signature: Text<'a>,
    call: Json<'a>,
}

impl<'a> Part<'a> {
    fn read(part: Json<'a>) -> Self {
        let mut read = Self::default();
        for member in json::members(part).map_while(Result::ok) {
            let value = member.value.of(part);
            match member.key.of(part) {
                b"\"text\"" => read.text = Text::of(value),
                b"\"thought\"" => read.is_thought = member.kind == ValueKind::True,
                b"\"thoughtSignature\"" | b"\"thought_signature\"" => {
                    read.signature = Text::of(value).unwrap_or_default();
                }
                b"\"functionCall\"" | b"\"function_call\"" if member.kind == ValueKind::Object => {
                    read.call = value
                }
                _ => {}
            }
        }
        read
    }
}

impl Events {
    /// The decoder of a stream that begins.
    pub fn new(context: &Context) -> Self {
        Self {
            request_id: context.request_id.clone(),
            started: false,
            open: None,
            parts: 0,
            calls: 0,
            finish: None,
            malformed: None,
            said: false,
            over: false,
            whole: false,
            id: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes in one record; records of this API have no names. What is not JSON is a failure.
    pub fn record(&mut self, name: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.over {
            return;
        }
        // An error may come in a list of one.
        if data.trim_ascii_start().starts_with(b"[") {
            for element in json::elements(data) {
                match element {
                    Ok((element, _)) => self.piece(name, element.of(data), sink),
                    Err(_) => self.fail(unreadable(name, data), sink),
                }
            }
            return;
        }
        self.piece(name, data, sink);
    }

    /// A failure is the last that counts.
    fn fail(&mut self, record: Option<FaultRecord<'_>>, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some(record) = record.filter(|_| !self.over) {
            self.over = true;
            sink(Event::Fault(record));
        }
    }

    fn piece(&mut self, name: Option<&[u8]>, data: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.over {
            return;
        }
        let Some(piece) = Piece::read(data) else { return self.fail(unreadable(name, data), sink) };
        if !piece.error.is_empty() {
            return self.fail(Some(fault::record(piece.error)), sink);
        }
        let blocks = is_blocked(piece.feedback);
        let counts = !piece.candidates.is_empty() || blocks || !piece.usage.is_empty();
        if counts && !std::mem::replace(&mut self.started, true) {
            sink(Event::Start { id: piece.id, model: piece.model });
        }
        if let Some(candidate) = first_candidate(piece.candidates) {
            self.candidate(candidate, sink);
        }
        if blocks && self.finish.is_none() {
            self.finish = Some(FinishReason::ContentFilter);
        }
        if let Ok(Some(usage)) = Usage::read(piece.usage) {
            sink(Event::Usage(usage));
        }
    }

    /// The body ended: the reason to finish is told now, if one came.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(reason) = self.finish.filter(|_| !self.over) else { return };
        self.over = true;
        // Without anything said it is no response: a client that is told of an ordinary end takes it for one.
        if let Some(words) = self.malformed.take().filter(|_| !self.said) {
            let (message, status) = (Text::owned(words), Some(502));
            return sink(Event::Fault(FaultRecord { message, status, ..FaultRecord::default() }));
        }
        self.whole = true;
        self.close(sink);
        sink(Event::Finish { reason, stop_sequence: None });
        sink(Event::End);
    }

    /// Ends a response that came in one piece, which need not give a reason to finish.
    pub(super) fn end_whole(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.finish = self.finish.or(self.started.then(|| finish_reason(&Text::default(), self.calls > 0)));
        self.end(sink);
    }

    /// Whether a reason to finish has come.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether the response came to its end.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn candidate(&mut self, candidate: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let (mut content, mut finish, mut words) = (&b""[..], None, Text::default());
        for member in json::members(candidate).map_while(Result::ok) {
            let value = member.value.of(candidate);
            match member.key.of(candidate) {
                b"\"content\"" => content = value,
                b"\"finishReason\"" | b"\"finish_reason\"" => finish = Text::of(value),
                b"\"finishMessage\"" | b"\"finish_message\"" => words = Text::of(value).unwrap_or_default(),
                _ => {}
            }
        }
        for member in json::members(content).map_while(Result::ok) {
            let parts = member.value.of(content);
            if member.key.of(content) == b"\"parts\"" {
                for (part, _) in json::elements(parts).map_while(Result::ok) {
                    self.part(&Part::read(part.of(parts)), sink);
                }
            }
        }
        if let Some(reason) =
            finish.filter(|reason| !reason.is_empty() && !reason.is("FINISH_REASON_UNSPECIFIED"))
        {
            self.finish = Some(finish_reason(&reason, self.calls > 0));
            self.malformed = is_malformed(&reason).then(|| malformed(&reason, &words));
        }
    }

    fn part(&mut self, part: &Part<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if !part.call.is_empty() {
            return self.call(part, sink);
        }
        if let Some(text) = part.text.as_ref().filter(|text| !text.is_empty()) {
            let open = self.open(part.is_thought, sink);
            self.said |= !part.is_thought;
            sink(Event::Delta { part: open, text: text.clone() });
        }
        if !part.signature.is_empty() {
            // A seal over text stands by itself behind it, as a thought of which only the seal is shown.
            if !part.is_thought {
                self.close(sink);
            }
            let open = self.open(true, sink);
            self.scratch.clear();
            seal::write_googles(part.signature.inside(), &mut self.scratch);
            sink(Event::Signature { part: open, text: Text::escaped(&self.scratch) });
            self.close(sink);
        }
    }

    /// A call, which is whole. Its seal is a part of its id, as clients send that back whatever they are.
    fn call(&mut self, part: &Part<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.close(sink);
        let (mut id, mut name, mut arguments) = (Text::default(), Text::default(), &b""[..]);
        for member in json::members(part.call).map_while(Result::ok) {
            let value = member.value.of(part.call);
            match member.key.of(part.call) {
                b"\"id\"" => id = Text::of(value).unwrap_or_default(),
                b"\"name\"" => name = Text::of(value).unwrap_or_default(),
                b"\"args\"" if member.kind == ValueKind::Object => arguments = value,
                _ => {}
            }
        }
        self.calls += 1;
        self.said = true;
        self.id.clear();
        match id.is_empty() {
            true => {
                self.id.extend_from_slice(b"call_");
                self.id.extend_from_slice(self.request_id.as_bytes());
                self.id.push(b'_');
                number(&mut self.id, self.calls as u64);
            }
            false => self.id.extend_from_slice(id.inside()),
        }
        if !part.signature.is_empty() {
            seal::into_id(part.signature.inside(), &mut self.id);
        }
        let part = self.parts;
        self.parts += 1;
        sink(Event::Open {
            part,
            kind: PartKind::ToolCall { id: Text::escaped(&self.id), name, is_custom: false },
        });
        self.scratch.clear();
        json::escape_bytes(&mut self.scratch, if arguments.is_empty() { b"{}" } else { arguments });
        sink(Event::Delta { part, text: Text::escaped(&self.scratch) });
        sink(Event::Close { part });
    }

    /// The number of the open part of this kind; another one is closed, and this one opened.
    fn open(&mut self, is_thought: bool, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        if let Some((part, _)) = self.open.filter(|(_, open)| *open == is_thought) {
            return part;
        }
        self.close(sink);
        let part = self.parts;
        self.parts += 1;
        self.open = Some((part, is_thought));
        sink(Event::Open { part, kind: if is_thought { PartKind::Thinking } else { PartKind::Text } });
        part
    }

    fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some((part, _)) = self.open.take() {
            sink(Event::Close { part });
        }
    }
}

/// Whether the model stopped because what it said could not be read.
fn is_malformed(reason: &Text<'_>) -> bool {
    matches!(reason.inside(), b"MALFORMED_FUNCTION_CALL" | b"UNEXPECTED_TOOL_CALL" | b"MALFORMED_RESPONSE")
}

fn malformed(reason: &Text<'_>, words: &Text<'_>) -> Vec<u8> {
    let what = b"the model's response could not be read by its provider: ";
    let pause: &[u8] = if words.is_empty() { b"" } else { b": " };
    [what, reason.inside(), pause, words.inside()].concat()
}

/// Whether the prompt was blocked: there are no candidates then.
fn is_blocked(feedback: Json<'_>) -> bool {
    json::members(feedback).map_while(Result::ok).any(|member| {
        let key = member.key.of(feedback);
        matches!(key, b"\"blockReason\"" | b"\"block_reason\"") && member.kind == ValueKind::String
    })
}

/// The candidate of index 0, which is also one without an index.
fn first_candidate(candidates: Json<'_>) -> Option<Json<'_>> {
    let mut all = json::elements(candidates).map_while(Result::ok).map(|(span, _)| span.of(candidates));
    all.find(|candidate| {
        let mut members = json::members(candidate).map_while(Result::ok);
        let index = members.find(|member| member.key.of(candidate) == b"\"index\"");
        index.is_none_or(|index| index.value.of(candidate) == b"0")
    })
}
