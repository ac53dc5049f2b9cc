//! The conversation of a client's request.

use super::{broken, missing, read};
use crate::dialect::gemini::seal::{self, Seal};
use crate::dialect::gemini::spelling::Members;
use crate::dialect::neutral::{
    Arguments, Json, Losses, Object, Part, Request, Role, Source, Text, Turn, malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// Reads `contents`: one turn per content. What a model said in several contents, as clients keep a stream, is one turn.
pub(super) fn contents<'a>(object: &Members<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let contents = object.elements("contents").map_err(|bad| broken("contents", bad))?;
    for (index, value) in contents.into_iter().enumerate() {
        let at = format!("contents[{index}]");
        let content = read(value, &at)?;
        let role = match content.word("role").as_deref() {
            Some("model") => Role::Assistant,
            None | Some("" | "user" | "function") => Role::User,
            Some("system") => Role::System,
            Some(_) => return Err(malformed(format!("'{at}.role' has to be user or model"))),
        };
        let parts = parts(&content, &at, &mut request.losses)?;
        match request.turns.last_mut().filter(|last| role == Role::Assistant && last.role == role) {
            Some(last) => join(&mut last.parts, parts),
            None => request.turns.push(Turn { role, parts }),
        }
    }
    Ok(())
}

/// Appends what follows in another content of the model: pieces of one text are one text.
fn join<'a>(parts: &mut Vec<Part<'a>>, more: Vec<Part<'a>>) {
    for part in more {
        match (parts.last_mut(), part) {
            (Some(Part::Text(text)), Part::Text(more)) => text.push(&more),
            (
                Some(Part::Thinking { text, signature: last @ None }),
                Part::Thinking { text: more, signature },
            ) => {
                text.push(&more);
                *last = signature;
            }
            (_, part) => parts.push(part),
        }
    }
}

/// Reads `systemInstruction`: all of its parts count; its role does not. Some clients write a string.
pub(super) fn system<'a>(value: Json<'a>, losses: &mut Losses) -> Result<Vec<Part<'a>>, Fault> {
    if let Some(text) = Text::of(value) {
        return Ok(vec![Part::Text(text)]);
    }
    let content = read(value, "systemInstruction")?;
    let parts = parts(&content, "systemInstruction", losses)?;
    match parts.iter().all(|part| matches!(part, Part::Text(_))) {
        true => Ok(parts),
        false => {
            Err(unsupported("systemInstruction.parts", "may hold text only for the backends of this model"))
        }
    }
}

/// The text of a content that may hold nothing else: its parts, each on a line of its own.
pub(in crate::dialect) fn texts<'a>(value: Json<'a>, at: &str) -> Result<Text<'a>, Fault> {
    let content = read(value, at)?;
    let mut joined: Option<Text<'a>> = None;
    for (index, part) in content.elements("parts").map_err(|bad| broken(at, bad))?.into_iter().enumerate() {
        let at = format!("{at}.parts[{index}]");
        let part = read(part, &at)?;
        let Some(text) = part.text("text") else {
            let name = part.iter().next().map(|(name, _, _)| name).unwrap_or_default();
            return Err(unsupported(&format!("{at}.{name}"), "is no text, and cannot be translated"));
        };
        match &mut joined {
            Some(joined) => {
                joined.push(&Text::escaped(b"\\n"));
                joined.push(&text);
            }
            None => joined = Some(text),
        }
    }
    joined.ok_or_else(|| missing(at, "parts", "a list of texts"))
}

fn parts<'a>(content: &Members<'a>, at: &str, losses: &mut Losses) -> Result<Vec<Part<'a>>, Fault> {
    let at = format!("{at}.parts");
    let mut parts = Vec::new();
    for (index, value) in content.elements("parts").map_err(|bad| broken(&at, bad))?.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        if let Some(text) = Text::of(value) {
            parts.push(Part::Text(text)); // some clients leave the object out
            continue;
        }
        push(&read(value, &at)?, &at, &mut parts, losses)?;
    }
    Ok(parts)
}

/// Appends what one part says.
fn push<'a>(
    part: &Members<'a>,
    at: &str,
    parts: &mut Vec<Part<'a>>,
    losses: &mut Losses,
) -> Result<(), Fault> {
    let signature = part.text("thoughtSignature").filter(|signature| !signature.is_empty());
    let inner = |name: &str| part.object(name).map_err(|bad| broken(at, bad));
    for hint in ["videoMetadata", "mediaResolution"] {
        if part.get(hint).is_some() {
            losses.note(hint);
        }
    }
    if let Some(call) = inner("functionCall")? {
        parts.push(function_call(&call, at)?);
        return Ok(());
    }
    let said = match part.text("text") {
        Some(text) if part.boolean("thought") == Some(true) => return thought(text, signature, parts),
        Some(text) => Some(Part::Text(text)),
        None => match (inner("functionResponse")?, inner("inlineData")?, inner("fileData")?) {
            (Some(response), ..) => Some(function_response(&response, at, losses)?),
            (_, Some(data), _) => Some(inline(&data, &format!("{at}.inlineData"))?),
            (_, _, Some(file)) => Some(located(&file, &format!("{at}.fileData"))?),
            _ => None,
        },
    };
    match said {
        // Empty text with a seal is how a seal over text comes.
        Some(Part::Text(text)) if text.is_empty() && signature.is_some() => {}
        Some(said) => parts.push(said),
        None => {
            for (name, _, _) in part.iter() {
                match name.as_str() {
                    // The provider's own tools in the history: other providers do not have them.
                    "executableCode" | "codeExecutionResult" | "toolCall" | "toolResponse" => {
                        losses.note(name)
                    }
                    "thought" | "thoughtSignature" | "videoMetadata" | "mediaResolution" | "text" => {}
                    _ => {
                        return Err(unsupported(
                            &format!("{at}.{name}"),
                            "is no part that can be translated",
                        ));
                    }
                }
            }
        }
    }
    match signature {
        Some(signature) => thought(Text::default(), Some(signature), parts),
        None => Ok(()),
    }
}

/// A thought. Its seal comes with it or in an empty part behind it.
fn thought<'a>(text: Text<'a>, signature: Option<Text<'a>>, parts: &mut Vec<Part<'a>>) -> Result<(), Fault> {
    let signature = match signature.as_ref().map(seal::of_client) {
        Some(Seal::Redacted(data)) => {
            parts.push(Part::Redacted(data));
            return Ok(());
        }
        Some(Seal::Thought(seal)) => Some(seal),
        None => None,
    };
    match parts.last_mut() {
        Some(Part::Thinking { text: begun, signature: last @ None }) => {
            begun.push(&text);
            *last = signature;
        }
        _ if text.is_empty() && signature.is_none() => {}
        _ => parts.push(Part::Thinking { text, signature }),
    }
    Ok(())
}

/// A call. A seal over it is of use to Google's models only, and they are called in this API.
fn function_call<'a>(call: &Members<'a>, at: &str) -> Result<Part<'a>, Fault> {
    let name = call.text("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing(&format!("{at}.functionCall"), "name", "a string"))?;
    let arguments = call.of_kind("args", ValueKind::Object).unwrap_or(b"{}");
    let id = call.text("id").unwrap_or_default();
    Ok(Part::ToolCall { id, name, arguments: Arguments::Value(arguments), is_custom: false })
}

/// What a call brought. SDKs put a text under `output` or `result`, and what failed under `error`.
fn function_response<'a>(response: &Members<'a>, at: &str, losses: &mut Losses) -> Result<Part<'a>, Fault> {
    let at = format!("{at}.functionResponse");
    let name = response.text("name");
    let id = response.text("id").unwrap_or_default();
    let (mut result, mut is_error) = (Vec::new(), false);
    if let Some(value) = response.get("response") {
        let (text, failed) = said(value);
        is_error = failed;
        result.extend(text.map(Part::Text));
    }
    result.extend(parts(response, &at, losses)?);
    Ok(Part::ToolResult { id, name, parts: result, is_error })
}

/// The text of a result, and whether it says that the call failed.
fn said(value: Json<'_>) -> (Option<Text<'_>>, bool) {
    let written = |value: Json<'_>| {
        let mut inside = Vec::with_capacity(value.len() + value.len() / 4);
        json::escape_bytes(&mut inside, value);
        Text::owned(inside)
    };
    if let Some(text) = Text::of(value) {
        return (Some(text), false);
    }
    let object = Object::read(value).ok();
    let members: Vec<_> = object.iter().flat_map(|object| object.iter().collect::<Vec<_>>()).collect();
    match members[..] {
        [] => (None, false),
        [(key, value, _)] if matches!(key, b"\"output\"" | b"\"result\"" | b"\"error\"") => {
            (Some(Text::of(value).unwrap_or_else(|| written(value))), key == b"\"error\"")
        }
        _ => (Some(written(value)), false),
    }
}

fn inline<'a>(data: &Members<'a>, at: &str) -> Result<Part<'a>, Fault> {
    let media_type = data.text("mimeType").ok_or_else(|| missing(at, "mimeType", "a string"))?;
    let base64 = data.text("data").ok_or_else(|| missing(at, "data", "a string"))?;
    // google-genai writes the alphabet for URLs, which other APIs refuse.
    let base64 = match seal::is_standard(base64.inside()) {
        true => base64,
        false => Text::owned(seal::standard(base64.inside())),
    };
    let kind = media_type.to_plain().unwrap_or_default().to_ascii_lowercase();
    let title = data.text("displayName");
    Ok(match kind.split_once('/').unwrap_or((&kind, "")) {
        ("image", _) => Part::Image(Source::Base64 { media_type, data: base64 }),
        ("audio", format) => {
            let format = match format.split(';').next().unwrap_or_default() {
                "mpeg" | "mp3" | "x-mp3" => "mp3",
                "wav" | "x-wav" | "wave" | "vnd.wave" => "wav",
                other => other,
            };
            Part::Audio { data: base64, format: Text::plain(format) }
        }
        ("video", _) => {
            let why = format!("of type '{kind}' is not taken by the backends of this model");
            return Err(unsupported(at, &why));
        }
        _ => Part::Document { source: Source::Base64 { media_type, data: base64 }, title },
    })
}

fn located<'a>(file: &Members<'a>, at: &str) -> Result<Part<'a>, Fault> {
    let uri = file.text("fileUri").ok_or_else(|| missing(at, "fileUri", "a string"))?;
    let plain = uri.to_plain().unwrap_or_default().into_owned();
    let kind = file.word("mimeType").unwrap_or_default();
    let is_public = plain.starts_with("https://") || plain.starts_with("http://");
    let is_upload = plain.starts_with("https://generativelanguage.googleapis.com/") || !is_public;
    let source = if is_upload { Source::File(uri) } else { Source::Url(uri) };
    match kind.split('/').next() {
        Some("image" | "") => Ok(Part::Image(source)),
        Some("video" | "audio") => {
            let why = format!("of type '{kind}' is not taken by the backends of this model");
            Err(unsupported(at, &why))
        }
        _ => Ok(Part::Document { source, title: file.text("displayName") }),
    }
}
