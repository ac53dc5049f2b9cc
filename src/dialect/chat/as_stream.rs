//! Chat and completions: two chunks for each choice, what it says and that it is over, then usage and `[DONE]`.
//!
//! ```text
//! data: {"id":..,"object":..,"created":..,"model":..,"choices":[{"index":0,"delta":{MESSAGE},"finish_reason":null}]}
//! data: {"id":..,"object":..,"created":..,"model":..,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
//! data: {"id":..,"object":..,"created":..,"model":..,"choices":[],"usage":{..}}
//! data: [DONE]
//! ```

use crate::dialect::Unfit;
use crate::dialect::request::CHOICES_MAX;
use crate::dialect::whole::{Change, Events, Object};
use crate::wire::json::{self, ValueKind};

/// What every chunk carries, besides its `object`.
const HEAD: [&str; 5] = ["id", "created", "model", "system_fingerprint", "service_tier"];

/// What the first chunk has in another place, or not at all.
const ELSEWHERE: [Change<'_>; HEAD.len() + 3] = [
    (HEAD[0], None),
    (HEAD[1], None),
    (HEAD[2], None),
    (HEAD[3], None),
    (HEAD[4], None),
    ("object", None),
    ("choices", None),
    ("usage", None),
];

pub(in crate::dialect) fn as_stream(
    body: &[u8],
    include_usage: bool,
    events: &mut Events<'_>,
) -> Result<(), Unfit> {
    chunks(true, body, include_usage, events)
}

/// The same of completions, whose choices have texts where those of chat have messages.
pub(in crate::dialect) fn completions_as_stream(
    body: &[u8],
    include_usage: bool,
    events: &mut Events<'_>,
) -> Result<(), Unfit> {
    chunks(false, body, include_usage, events)
}

fn chunks(
    has_messages: bool,
    body: &[u8],
    include_usage: bool,
    events: &mut Events<'_>,
) -> Result<(), Unfit> {
    let body = Object::read(body)?;
    if body.get("error")?.is_some_and(|error| error.kind != ValueKind::Null) {
        return Err(Unfit("the body is an error"));
    }
    let choices = body.of_kind("choices", ValueKind::Array)?.ok_or(Unfit("there are no 'choices'"))?;
    let chunks = Chunks { has_messages, body: &body };
    let mut told = Vec::new();
    for (position, element) in json::elements(choices).enumerate() {
        if position as u64 == CHOICES_MAX {
            return Err(Unfit("there are too many choices"));
        }
        let choice = Object::read(element?.0.of(choices))?;
        let index =
            choice.of_kind("index", ValueKind::Number)?.and_then(json::unsigned).unwrap_or(position as u64);
        told.push((index, choice));
    }
    if told.is_empty() {
        return Err(Unfit("there are no 'choices'"));
    }
    // The SDK for Python takes the first chunk for the one of index 0.
    told.sort_by_key(|&(index, _)| index);
    for (position, (index, choice)) in told.iter().enumerate() {
        chunks.choice(choice, *index, position == 0, events)?;
    }
    if include_usage && let Some(usage) = body.of_kind("usage", ValueKind::Object)? {
        chunks.open(events)?;
        events.text(",\"choices\":[]");
        events.member("usage", usage);
        events.close()?;
    }
    events.text("data: [DONE]\n\n");
    Ok(())
}

struct Chunks<'a> {
    /// Its choices have messages, not texts.
    has_messages: bool,
    body: &'a Object<'a>,
}

impl Chunks<'_> {
    /// Begins a chunk, up to its choices.
    fn open(&self, events: &mut Events<'_>) -> Result<(), Unfit> {
        events.open();
        events.name("object");
        events.text(match self.has_messages {
            true => "\"chat.completion.chunk\"",
            false => "\"text_completion\"",
        });
        for name in HEAD {
            if let Some(value) = self.body.get(name)? {
                events.member(name, value.text);
            }
        }
        Ok(())
    }

    /// Both chunks of a choice. The first has all it says, log probabilities included, the second why it ended: at the
    /// end of the stream, where it is looked for. The first of all has what else the body says (`is_first`).
    fn choice(
        &self,
        choice: &Object<'_>,
        index: u64,
        is_first: bool,
        events: &mut Events<'_>,
    ) -> Result<(), Unfit> {
        // Where a whole response has its content, where a stream has it, and how that is empty.
        let (content, streamed, empty) = match self.has_messages {
            true => ("message", "delta", ",\"delta\":{}"),
            false => ("text", "text", ",\"text\":\"\""),
        };
        let ends = [choice.get("finish_reason")?, choice.get("stop_reason")?]; // the second is vLLM's

        self.open(events)?;
        if is_first {
            events.members(self.body, &ELSEWHERE);
        }
        events.text(",\"choices\":[{");
        events.index("index", index);
        if self.has_messages {
            let message =
                choice.of_kind(content, ValueKind::Object)?.ok_or(Unfit("a choice has no message"))?;
            delta(&Object::read(message)?, events)?;
        } else {
            let text = choice.of_kind(content, ValueKind::String)?.ok_or(Unfit("a choice has no text"))?;
            events.member("text", text);
        }
        let said = ["index", content, streamed, "finish_reason", "stop_reason"].map(|name| (name, None));
        events.members(choice, &said);
        events.text(",\"finish_reason\":null}]");
        events.close()?;

        self.open(events)?;
        events.text(",\"choices\":[{");
        events.index("index", index);
        events.text(empty);
        events.member("finish_reason", ends[0].map_or(b"null", |reason| reason.text));
        if let Some(reason) = ends[1] {
            events.member("stop_reason", reason.text);
        }
        events.text("}]");
        events.close()
    }
}

/// The message as it is, but for the calls of tools: in a stream each has to say which one it is. An index that a
/// backend writes into a whole message is not believed: some write 0 for all, which would make one call of them.
fn delta(message: &Object<'_>, events: &mut Events<'_>) -> Result<(), Unfit> {
    let Some(calls) = message.of_kind("tool_calls", ValueKind::Array)? else {
        events.object("delta", message, &[]);
        return Ok(());
    };
    events.name("delta");
    events.text("{");
    events.members(message, &[("tool_calls", None)]);
    events.name("tool_calls");
    events.text("[");
    for (position, call) in json::elements(calls).enumerate() {
        let call = Object::read(call?.0.of(calls))?;
        events.comma();
        events.text("{");
        events.index("index", position as u64);
        events.members(&call, &[("index", None)]);
        events.text("}");
    }
    events.text("]}");
    Ok(())
}
