//! The members of records, items and responses that are looked at, read in one pass each.

use crate::dialect::neutral::{FaultRecord, FinishReason, Json, Object, Text};
use crate::wire::json::{self, ValueKind};

/// One record of a stream.
#[derive(Default)]
pub(super) struct Record<'a> {
    /// Its type, without quotes.
    pub(super) kind: Json<'a>,
    pub(super) output_index: Option<u64>,
    /// Which part of an item it is about: `content_index` or `summary_index`.
    pub(super) inner_index: u64,
    pub(super) item_id: Text<'a>,
    pub(super) delta: Text<'a>,
    /// What a `done` event repeats: `text`, `refusal`, `arguments` or `input`.
    pub(super) text: Text<'a>,
    pub(super) item: Json<'a>,
    pub(super) part: Json<'a>,
    pub(super) response: Json<'a>,
    /// `code`, `message` and `param` beside the type, or an object `error`.
    pub(super) fault: FaultRecord<'a>,
}

impl<'a> Record<'a> {
    /// `None`: the data is no sound object.
    pub(super) fn read(data: Json<'a>) -> Option<Self> {
        let mut record = Self::default();
        for member in json::members(data) {
            let member = member.ok()?;
            let value = member.value.of(data);
            let text = || Text::of(value);
            match member.key.of(data) {
                b"\"type\"" => record.kind = inside(value),
                b"\"output_index\"" => record.output_index = json::unsigned(value),
                b"\"content_index\"" | b"\"summary_index\"" => {
                    record.inner_index = json::unsigned(value).unwrap_or(0);
                }
                b"\"item_id\"" => record.item_id = text().unwrap_or_default(),
                b"\"delta\"" => record.delta = text().unwrap_or_default(),
                b"\"text\"" | b"\"refusal\"" | b"\"arguments\"" | b"\"input\"" => {
                    record.text = text().unwrap_or_default();
                }
                b"\"item\"" => record.item = value,
                b"\"part\"" => record.part = value,
                b"\"response\"" => record.response = value,
                b"\"message\"" => record.fault.message = text().unwrap_or_default(),
                b"\"code\"" => record.fault.code = text(),
                b"\"param\"" => record.fault.param = text(),
                b"\"error\"" if member.kind == ValueKind::Object => record.fault = fault(value),
                _ => {}
            }
        }
        Some(record)
    }
}

/// One item of the output.
#[derive(Default)]
pub(super) struct Item<'a> {
    /// Its type, without quotes.
    pub(super) kind: Json<'a>,
    pub(super) id: Text<'a>,
    pub(super) call_id: Text<'a>,
    pub(super) name: Text<'a>,
    /// `arguments` or `input` of a call.
    pub(super) arguments: Text<'a>,
    pub(super) signature: Text<'a>,
    pub(super) content: Json<'a>,
    pub(super) summary: Json<'a>,
}

impl<'a> Item<'a> {
    pub(super) fn read(object: Json<'a>) -> Self {
        let mut item = Self::default();
        for member in json::members(object).map_while(Result::ok) {
            let value = member.value.of(object);
            let text = || Text::of(value).unwrap_or_default();
            match member.key.of(object) {
                b"\"type\"" => item.kind = inside(value),
                b"\"id\"" => item.id = text(),
                b"\"call_id\"" => item.call_id = text(),
                b"\"name\"" => item.name = text(),
                b"\"arguments\"" | b"\"input\"" => item.arguments = text(),
                b"\"encrypted_content\"" => item.signature = text(),
                b"\"content\"" => item.content = value,
                b"\"summary\"" => item.summary = value,
                _ => {}
            }
        }
        item
    }

    /// Whether it is a call, and of a free-text tool.
    pub(super) fn call(&self) -> Option<bool> {
        match self.kind {
            b"function_call" => Some(false),
            b"custom_tool_call" => Some(true),
            _ => None,
        }
    }

    /// What says which item it is, for one that is told twice.
    pub(super) fn identity(&self) -> &[u8] {
        let identity = if self.call_id.is_empty() { &self.id } else { &self.call_id };
        identity.inside()
    }

    /// What it thinks: the thought itself where it is given, else its summary, with an empty line between its parts.
    pub(super) fn thought(&self) -> Text<'a> {
        let text = joined(self.content);
        if text.is_empty() { joined(self.summary) } else { text }
    }
}

/// A response as a whole.
#[derive(Default)]
pub(super) struct Response<'a> {
    pub(super) id: Text<'a>,
    pub(super) model: Text<'a>,
    /// Without quotes.
    pub(super) status: Json<'a>,
    pub(super) usage: Json<'a>,
    pub(super) output: Json<'a>,
    /// Why it is incomplete, without quotes.
    pub(super) reason: Json<'a>,
    pub(super) fault: Option<FaultRecord<'a>>,
}

impl<'a> Response<'a> {
    pub(super) fn read(object: Json<'a>) -> Self {
        let mut response = Self::default();
        for member in json::members(object).map_while(Result::ok) {
            let value = member.value.of(object);
            match member.key.of(object) {
                b"\"id\"" => response.id = Text::of(value).unwrap_or_default(),
                b"\"model\"" => response.model = Text::of(value).unwrap_or_default(),
                b"\"status\"" => response.status = inside(value),
                b"\"usage\"" => response.usage = value,
                b"\"output\"" => response.output = value,
                b"\"error\"" if member.kind == ValueKind::Object => response.fault = Some(fault(value)),
                b"\"incomplete_details\"" => {
                    let details = json::members(value).map_while(Result::ok);
                    let reason = details.filter(|member| member.key.of(value) == b"\"reason\"").last();
                    response.reason = reason.map_or(&b""[..], |member| inside(member.value.of(value)));
                }
                _ => {}
            }
        }
        response
    }

    /// Why the model stopped. A bound and a filter win over calls.
    pub(super) fn finish_reason(&self, has_calls: bool) -> FinishReason {
        match (self.status, self.reason) {
            (b"incomplete", b"content_filter") => FinishReason::ContentFilter,
            (b"incomplete", b"max_output_tokens" | b"max_tokens" | b"") => FinishReason::Length,
            _ if has_calls => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }
}

/// What an error says.
pub(super) fn fault(error: Json<'_>) -> FaultRecord<'_> {
    if let Some(message) = Text::of(error) {
        return FaultRecord { message, ..FaultRecord::default() };
    }
    let Ok(object) = Object::read(error) else { return FaultRecord::default() };
    let message = ["message", "detail", "error"].iter().find_map(|name| object.text(name));
    let (kind, code) = (object.text("type"), object.text("code"));
    FaultRecord {
        status: code.as_ref().or(kind.as_ref()).and_then(status_of),
        message: message.unwrap_or_default(),
        param: object.text("param"),
        kind,
        code,
    }
}

/// The status that goes with a code.
pub(super) fn status_of(code: &Text<'_>) -> Option<u16> {
    Some(match code.inside() {
        b"rate_limit_exceeded" | b"insufficient_quota" => 429,
        b"server_error" => 500,
        b"server_is_overloaded" | b"slow_down" | b"overloaded" => 503,
        b"context_length_exceeded" | b"invalid_prompt" | b"invalid_request_error" => 400,
        b"invalid_api_key" => 401,
        b"model_not_found" => 404,
        _ => return None,
    })
}

/// The texts of a list of parts, with an empty line between them.
pub(super) fn joined(list: Json<'_>) -> Text<'_> {
    let mut joined = Text::default();
    for (span, _) in json::elements(list).map_while(Result::ok) {
        let Some(text) = Object::read(span.of(list)).ok().and_then(|part| part.text("text")) else {
            continue;
        };
        if joined.is_empty() {
            joined = text;
        } else {
            joined.push(&Text::escaped(b"\\n\\n"));
            joined.push(&text);
        }
    }
    joined
}

/// What stands between the quotes of a word.
pub(super) fn inside(value: Json<'_>) -> Json<'_> {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or_default()
}
