//! Items of a client's input.

use super::record::joined;
use super::tools::{self, Hosted};
use super::{broken, missing, read, word};
use crate::dialect::neutral::{
    Arguments, Json, Object, Part, Request, Role, Source, Text, Turn, malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// Reads the list `input`.
///
/// Neighbouring items of the model (thoughts, text, calls) are one turn of it, results of calls are parts of a user's turn.
pub(super) fn read_all<'a>(
    object: &Object<'a>,
    request: &mut Request<'a>,
    hosted: &mut Hosted,
) -> Result<(), Fault> {
    for (index, element) in object.elements("input").enumerate() {
        let at = format!("input[{index}]");
        let item = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        add(&item, &at, request, hosted)?;
    }
    Ok(())
}

fn add<'a>(item: &Object<'a>, at: &str, request: &mut Request<'a>, hosted: &mut Hosted) -> Result<(), Fault> {
    let text = |name: &str| item.text(name).ok_or_else(|| missing(at, name, "a string"));
    match word(item, "type").as_deref().unwrap_or("message") {
        "message" => return message(item, at, request),
        kind @ ("function_call" | "custom_tool_call") => {
            let is_custom = kind == "custom_tool_call";
            let arguments = match (is_custom, item.get("arguments")) {
                (true, _) => Arguments::Quoted(text("input")?),
                (false, None) => Arguments::Quoted(Text::default()),
                (false, Some(value)) => Text::of(value).map_or(Arguments::Value(value), Arguments::Quoted),
            };
            let call = Part::ToolCall { id: text("call_id")?, name: text("name")?, arguments, is_custom };
            assistant(request).push(call);
        }
        "function_call_output" | "custom_tool_call_output" => {
            let parts = match item.get("output") {
                Some(value @ [b'{', ..]) => vec![Part::Text(quoted(value))],
                _ => content(item, "output", &format!("{at}.output"))?,
            };
            let result = Part::ToolResult { id: text("call_id")?, name: None, parts, is_error: false };
            results(request).push(result);
        }
        "reasoning" => {
            if let Some(part) = reasoning(item) {
                assistant(request).push(part);
            }
        }
        "additional_tools" => tools::read_all(item, &format!("{at}.tools"), request, hosted)?,
        // What the provider's own tools did: other providers do not have them, and the model's words about it follow.
        kind @ ("web_search_call"
        | "file_search_call"
        | "image_generation_call"
        | "code_interpreter_call"
        | "mcp_call"
        | "mcp_list_tools"
        | "tool_search_call"
        | "tool_search_output") => {
            request.losses.note(kind.to_owned());
        }
        "item_reference" => {
            let why = "needs state that the backends of this model do not keep";
            return Err(unsupported(&format!("{at}.type"), why));
        }
        _ => return Err(unsupported(&format!("{at}.type"), "is no type of item that can be translated")),
    }
    Ok(())
}

/// The turn of the model that is being built.
fn assistant<'r, 'a>(request: &'r mut Request<'a>) -> &'r mut Vec<Part<'a>> {
    if request.turns.last().is_none_or(|turn| turn.role != Role::Assistant) {
        request.turns.push(Turn { role: Role::Assistant, parts: Vec::new() });
    }
    last(request)
}

/// The turn with the results that are being collected.
fn results<'r, 'a>(request: &'r mut Request<'a>) -> &'r mut Vec<Part<'a>> {
    let is_open = request.turns.last().is_some_and(|turn| {
        turn.role == Role::User && turn.parts.iter().all(|part| matches!(part, Part::ToolResult { .. }))
    });
    if !is_open {
        request.turns.push(Turn { role: Role::User, parts: Vec::new() });
    }
    last(request)
}

fn last<'r, 'a>(request: &'r mut Request<'a>) -> &'r mut Vec<Part<'a>> {
    let at = request.turns.len() - 1; // its callers have just seen one
    &mut request.turns[at].parts
}

fn message<'a>(item: &Object<'a>, at: &str, request: &mut Request<'a>) -> Result<(), Fault> {
    let parts = content(item, "content", &format!("{at}.content"))?;
    match word(item, "role").as_deref() {
        Some("user") => request.turns.push(Turn { role: Role::User, parts }),
        Some("assistant") => assistant(request).extend(parts),
        Some("system" | "developer") if request.turns.is_empty() => request.system.extend(parts),
        Some("system" | "developer") => request.turns.push(Turn { role: Role::System, parts }),
        _ => return Err(malformed(format!("'{at}.role' has to be user, assistant, system or developer"))),
    }
    Ok(())
}

/// A string, a list of parts, or nothing. `at` is its path in the body.
fn content<'a>(object: &Object<'a>, name: &str, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    match (object.text(name), object.get(name)) {
        (Some(text), _) => return Ok(vec![Part::Text(text)]),
        (None, None) => return Ok(Vec::new()),
        (None, Some([b'[', ..])) => {}
        (None, Some(_)) => return Err(malformed(format!("'{at}' has to be a string or a list of parts"))),
    }
    let mut parts = Vec::new();
    for (index, element) in object.elements(name).enumerate() {
        let at = format!("{at}[{index}]");
        parts.push(part(&read(element.map_err(|bad| broken(&at, bad))?.0, &at)?, &at)?);
    }
    Ok(parts)
}

fn part<'a>(part: &Object<'a>, at: &str) -> Result<Part<'a>, Fault> {
    let text = |name: &str| part.text(name).ok_or_else(|| missing(at, name, "a string"));
    match word(part, "type").as_deref() {
        Some("input_text" | "output_text" | "text") => Ok(Part::Text(text("text")?)),
        Some("refusal") => Ok(Part::Refusal(text("refusal")?)),
        Some("input_image") => match (part.of_kind("image_url", ValueKind::String), part.text("file_id")) {
            (Some(url), _) => Ok(Part::Image(located(url))),
            (None, Some(id)) => Ok(Part::Image(Source::File(id))),
            (None, None) => Err(missing(at, "image_url", "a string")),
        },
        Some("input_file") => {
            let found =
                part.of_kind("file_data", ValueKind::String).or(part.of_kind("file_url", ValueKind::String));
            let source = match (found, part.text("file_id")) {
                (Some(url), _) => located(url),
                (None, Some(id)) => Source::File(id),
                (None, None) => return Err(missing(at, "file_data", "a string")),
            };
            Ok(Part::Document { source, title: part.text("filename") })
        }
        Some("input_audio") => {
            let audio = part.object("input_audio").map_err(|bad| broken(at, bad))?;
            let audio = audio.and_then(|audio| Some((audio.text("data")?, audio.text("format")?)));
            let (data, format) =
                audio.ok_or_else(|| missing(at, "input_audio", "an object with 'data' and 'format'"))?;
            Ok(Part::Audio { data, format })
        }
        _ => Err(unsupported(&format!("{at}.type"), "is no type of part that can be translated")),
    }
}

/// Longest media type of a data URL, with its parameters.
const MEDIA_TYPE_BYTES_MAX: usize = 256;

/// Where a URL leads, a JSON string with its quotes: somewhere else, or to the data that it holds itself (RFC 2397).
fn located(url: Json<'_>) -> Source<'_> {
    let inside = url.get(1..url.len() - 1).unwrap_or_default();
    let held = inside.strip_prefix(b"data:").and_then(|rest| {
        let comma = rest.iter().take(MEDIA_TYPE_BYTES_MAX).position(|byte| *byte == b',')?;
        let media_type = rest[..comma].strip_suffix(b";base64")?;
        let end = media_type.iter().position(|byte| *byte == b';').unwrap_or(media_type.len());
        let (media_type, data) = (Text::escaped(&media_type[..end]), Text::escaped(&rest[comma + 1..]));
        Some(Source::Base64 { media_type, data })
    });
    held.unwrap_or(Source::Url(Text::escaped(inside)))
}

/// A thought: its text where it is given, else its summary, and the seal over it. `None` if it has none of them.
fn reasoning<'a>(item: &Object<'a>) -> Option<Part<'a>> {
    let signature = item.text("encrypted_content").filter(|signature| !signature.is_empty());
    if item.text("id").is_some_and(|id| id.inside().starts_with(super::super::encode::REDACTED)) {
        return signature.map(Part::Redacted);
    }
    let list = |name| item.of_kind(name, ValueKind::Array).map(joined).filter(|text| !text.is_empty());
    let text = list("content").or_else(|| list("summary")).unwrap_or_default();
    let is_empty = text.is_empty() && signature.is_none();
    (!is_empty).then_some(Part::Thinking { text, signature })
}

/// A JSON value as a text.
fn quoted(value: Json<'_>) -> Text<'static> {
    let mut inside = Vec::with_capacity(value.len());
    json::escape_bytes(&mut inside, value);
    Text::owned(inside)
}
