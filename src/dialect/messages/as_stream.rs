//! Messages: the events of a stream, one delta for each part of a block.
//!
//! `message_start`, for each block `content_block_start`, `content_block_delta`s, `content_block_stop`, then
//! `message_delta` with the reason to stop and the counts, `message_stop`. Blocks of kinds that come in one piece
//! (redacted thinking, results of server tools, kinds not known here) stand whole in their start.

use crate::dialect::Unfit;
use crate::dialect::whole::{EMPTY_ARRAY, EMPTY_STRING, Events, NULL, Object};
use crate::wire::json::{self, ValueKind};

pub(in crate::dialect) fn as_stream(body: &[u8], _: bool, events: &mut Events<'_>) -> Result<(), Unfit> {
    let message = Object::read(body)?;
    if !message.says("type", "message")? {
        return Err(Unfit("the body is not a message"));
    }
    let content = message.of_kind("content", ValueKind::Array)?.ok_or(Unfit("there is no 'content'"))?;
    // Clients break on a delta without usage, and a made-up one would be believed.
    let usage = message.of_kind("usage", ValueKind::Object)?.ok_or(Unfit("there is no 'usage'"))?;

    start(&message, &Object::read(usage)?, events)?;
    for (index, element) in json::elements(content).enumerate() {
        let block = Object::read(element?.0.of(content))?;
        tell(&block, index as u64, events)?;
    }
    end(&message, usage, events)
}

/// The message before it says anything: no content, no reason to stop, no output counted.
fn start(message: &Object<'_>, usage: &Object<'_>, events: &mut Events<'_>) -> Result<(), Unfit> {
    events.open_named("message_start");
    events.name("message");
    events.text("{");
    events.members(
        message,
        &[
            ("content", EMPTY_ARRAY),
            ("stop_reason", NULL),
            ("stop_sequence", NULL),
            ("stop_details", None),
            ("container", None),
            ("context_management", None),
            ("usage", None),
        ],
    );
    events.object("usage", usage, &[("output_tokens", Some(b"0")), ("output_tokens_details", None)]);
    events.text("}");
    events.close()
}

/// Why it stopped and all counts, then the end.
fn end(message: &Object<'_>, usage: &[u8], events: &mut Events<'_>) -> Result<(), Unfit> {
    events.open_named("message_delta");
    events.name("delta");
    events.text("{");
    for name in ["stop_reason", "stop_sequence"] {
        events.member(name, message.get(name)?.map_or(b"null", |value| value.text));
    }
    for name in ["stop_details", "container"] {
        if let Some(value) = message.get(name)? {
            events.member(name, value.text);
        }
    }
    events.text("}");
    events.member("usage", usage);
    if let Some(edits) = message.get("context_management")? {
        events.member("context_management", edits.text);
    }
    events.close()?;
    events.open_named("message_stop");
    events.close()
}

/// The events of one block.
fn tell(block: &Object<'_>, index: u64, events: &mut Events<'_>) -> Result<(), Unfit> {
    let kind = block.of_kind("type", ValueKind::String)?.ok_or(Unfit("a block has no type"))?;
    let string = |name| block.of_kind(name, ValueKind::String);
    let (text, thinking) = (string("text")?, string("thinking")?);
    let input = block.of_kind("input", ValueKind::Object)?.filter(|_| kind.ends_with(b"tool_use\""));

    events.open_named("content_block_start");
    events.index("index", index);
    if let Some(text) = text.filter(|_| json::key_is(kind, "text")) {
        let citations = block.of_kind("citations", ValueKind::Array)?;
        let changes = [("text", EMPTY_STRING), ("citations", EMPTY_ARRAY)];
        events.object("content_block", block, if citations.is_some() { &changes } else { &changes[..1] });
        events.close()?;
        delta(index, "text_delta", "text", text, events)?;
        if let Some(citations) = citations {
            for citation in json::elements(citations) {
                let citation = citation?.0.of(citations);
                delta(index, "citations_delta", "citation", citation, events)?;
            }
        }
    } else if let Some(thinking) = thinking.filter(|_| json::key_is(kind, "thinking")) {
        let signature = string("signature")?;
        let changes = [("thinking", EMPTY_STRING), ("signature", EMPTY_STRING)];
        events.object("content_block", block, if signature.is_some() { &changes } else { &changes[..1] });
        events.close()?;
        delta(index, "thinking_delta", "thinking", thinking, events)?;
        if let Some(signature) = signature {
            delta(index, "signature_delta", "signature", signature, events)?;
        }
    } else if let Some(input) = input {
        events.object("content_block", block, &[("input", Some(b"{}"))]);
        events.close()?;
        let input = std::str::from_utf8(input).map_err(|_| Unfit("an input is not UTF-8"))?;
        let mut quoted = Vec::with_capacity(input.len() + input.len() / 4);
        json::quote(&mut quoted, input);
        delta(index, "input_json_delta", "partial_json", &quoted, events)?;
    } else {
        events.object("content_block", block, &[]);
        events.close()?;
    }
    events.open_named("content_block_stop");
    events.index("index", index);
    events.close()
}

fn delta(index: u64, kind: &str, name: &str, value: &[u8], events: &mut Events<'_>) -> Result<(), Unfit> {
    events.open_named("content_block_delta");
    events.index("index", index);
    events.name("delta");
    events.text("{\"type\":\"");
    events.text(kind);
    events.text("\"");
    events.member(name, value);
    events.text("}");
    events.close()
}
