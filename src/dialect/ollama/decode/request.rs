//! A client's request.

use super::{broken, read};
use crate::dialect::neutral::{
    Arguments, Format, Json, Object, Part, Reasoning, Request, Role, Source, Text, Tool, ToolKind, Turn,
    malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// Decodes the body of a request to `/api/chat`.
///
/// # Errors
/// `BodyMalformed` for what the API does not define; `MemberUnsupported` for what no other dialect can say and would
/// change the meaning if it were dropped. Both name the member.
pub fn request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = read(body, "the body")?;
    let mut request = begin(&object);
    for (key, value, kind) in object.iter() {
        match key {
            b"\"messages\"" if kind == ValueKind::Array => messages(&object, &mut request)?,
            b"\"messages\"" => return Err(malformed("'messages' has to be an array")),
            b"\"tools\"" => request.tools = tools(&object)?,
            _ => member(&object, (key, value, kind), &mut request)?,
        }
    }
    if object.get("messages").is_none() {
        return Err(malformed("'messages' is missing"));
    }
    Ok(request)
}

/// Decodes the body of a request to `/api/generate`: a conversation of one turn.
///
/// # Errors
/// As for [`request`].
pub fn generate_request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = read(body, "the body")?;
    let mut request = begin(&object);
    for (key, value, kind) in object.iter() {
        let is_empty = matches!(value, b"\"\"" | b"[]" | b"false");
        match key {
            b"\"prompt\"" if kind == ValueKind::String => {}
            b"\"prompt\"" => return Err(malformed("'prompt' has to be a string")),
            b"\"images\"" => {}
            b"\"system\"" => {
                let text = Text::of(value).ok_or_else(|| malformed("'system' has to be a string"))?;
                request.system.extend(Some(Part::Text(text)).filter(|_| !is_empty));
            }
            b"\"suffix\"" | b"\"template\"" | b"\"context\"" | b"\"raw\"" if is_empty => {}
            b"\"suffix\"" | b"\"template\"" | b"\"context\"" | b"\"raw\"" => {
                let name = std::str::from_utf8(&key[1..key.len() - 1]).unwrap_or_default();
                return Err(unsupported(name, "is not available from the backends of this model"));
            }
            _ => member(&object, (key, value, kind), &mut request)?,
        }
    }
    let prompt = object.text("prompt").filter(|prompt| !prompt.is_empty());
    let mut parts: Vec<Part<'_>> = prompt.map(Part::Text).into_iter().collect();
    parts.extend(images(&object, "images")?);
    request.turns.push(Turn { role: Role::User, parts });
    Ok(request)
}

/// A stream is the default.
fn begin<'a>(object: &Object<'a>) -> Request<'a> {
    Request { stream: object.boolean("stream").unwrap_or(true), ..Request::default() }
}

/// A member that both endpoints have.
fn member<'a>(
    object: &Object<'a>,
    (key, value, kind): (Json<'a>, Json<'a>, ValueKind),
    request: &mut Request<'a>,
) -> Result<(), Fault> {
    match key {
        b"\"model\"" | b"\"stream\"" => {}
        b"\"options\"" => {
            let options = object.object("options").map_err(|bad| broken("options", bad))?;
            let options = options.ok_or_else(|| malformed("'options' has to be an object"))?;
            for (key, value, _) in options.iter() {
                option(&options, key, value, request)?;
            }
        }
        b"\"format\"" => request.params.format = format(value, kind)?,
        b"\"think\"" => {
            request.params.reasoning = match kind {
                ValueKind::True => Some(Reasoning::Adaptive),
                ValueKind::False => Some(Reasoning::Off),
                _ => Some(Reasoning::Effort(Text::of(value).ok_or_else(|| {
                    malformed("'think' has to be true, false, or one of low, medium, high and max")
                })?)),
            };
        }
        b"\"logprobs\"" if kind == ValueKind::True => {
            return Err(unsupported("logprobs", "are not available from the backends of this model"));
        }
        b"\"logprobs\"" => {}
        _ => request.losses.note_key(key),
    }
    Ok(())
}

/// One of the model's options. Those that only an engine has (`num_ctx`, `mirostat`, ...) are lost.
fn option<'a>(
    options: &Object<'a>,
    key: Json<'a>,
    value: Json<'a>,
    request: &mut Request<'a>,
) -> Result<(), Fault> {
    let params = &mut request.params;
    match key {
        // -1 is no bound, -2 to the end of the context.
        b"\"num_predict\"" => params.output_max = json::unsigned(value).filter(|most| *most > 0),
        b"\"temperature\"" => params.temperature = Some(value),
        b"\"top_p\"" => params.top_p = Some(value),
        b"\"top_k\"" => params.top_k = Some(value),
        b"\"seed\"" => params.seed = Some(value),
        b"\"presence_penalty\"" => params.presence_penalty = Some(value),
        b"\"frequency_penalty\"" => params.frequency_penalty = Some(value),
        b"\"stop\"" => params.stop = stop(options)?,
        _ => {
            let name = String::from_utf8_lossy(&key[1..key.len() - 1]);
            request.losses.note(format!("options.{name}"));
        }
    }
    Ok(())
}

fn stop<'a>(options: &Object<'a>) -> Result<Vec<Text<'a>>, Fault> {
    if let Some(one) = options.text("stop") {
        return Ok(vec![one]);
    }
    let texts = options.elements("stop").map(|element| Text::of(element.ok()?.0));
    texts.collect::<Option<_>>().ok_or_else(|| malformed("'options.stop' has to be a list of strings"))
}

fn format(value: Json<'_>, kind: ValueKind) -> Result<Option<Format<'_>>, Fault> {
    let expected = || malformed("'format' has to be \"json\" or a JSON schema");
    match kind {
        ValueKind::Object => Ok(Some(Format::JsonSchema { name: None, schema: value, strict: None })),
        ValueKind::String => match Text::of(value) {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) if text.is("json") => Ok(Some(Format::JsonObject)),
            _ => Err(expected()),
        },
        _ => Err(expected()),
    }
}

fn messages<'a>(object: &Object<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    for (index, element) in object.elements("messages").enumerate() {
        let at = format!("messages[{index}]");
        let message = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let role = message.text("role").unwrap_or_default();
        let is_leading = request.turns.is_empty();
        match role.to_plain().as_deref() {
            Some("system") if is_leading => request.system.extend(content(&message, &at)?),
            Some("system") => turn(request, Role::System, content(&message, &at)?),
            Some("user") => turn(request, Role::User, content(&message, &at)?),
            Some("assistant") => turn(request, Role::Assistant, assistant(&message, &at)?),
            Some("tool") => {
                let result = Part::ToolResult {
                    id: message.text("tool_call_id").unwrap_or_default(),
                    name: message.text("tool_name").or_else(|| message.text("name")),
                    parts: content(&message, &at)?,
                    is_error: false,
                };
                turn(request, Role::User, vec![result]);
            }
            _ => return Err(malformed(format!("'{at}.role' has to be system, user, assistant or tool"))),
        }
    }
    Ok(())
}

fn turn<'a>(request: &mut Request<'a>, role: Role, parts: Vec<Part<'a>>) {
    request.turns.push(Turn { role, parts });
}

/// The text of a message, then its images.
fn content<'a>(message: &Object<'a>, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    let text = message.text("content");
    if text.is_none() && message.get("content").is_some() {
        return Err(malformed(format!("'{at}.content' has to be a string")));
    }
    let images = images(message, &format!("{at}.images"))?;
    // An empty text beside images says nothing; alone it is the message.
    let text = text.filter(|text| !text.is_empty() || images.is_empty());
    Ok(text.map(Part::Text).into_iter().chain(images).collect())
}

/// Images in base64. Their type is not said, so it is read from their first bytes.
fn images<'a>(object: &Object<'a>, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    if object.get("images").is_some() && object.of_kind("images", ValueKind::Array).is_none() {
        return Err(malformed(format!("'{at}' has to be a list of images in base64")));
    }
    let image = |(index, element): (usize, Result<(Json<'a>, ValueKind), json::BadJson>)| {
        let expected = || malformed(format!("'{at}[{index}]' has to be an image in base64"));
        let text = element.ok().and_then(|(value, _)| Text::of(value)).ok_or_else(expected)?;
        let (media_type, data) =
            text.data_url().unwrap_or_else(|| (Text::escaped(media_type(text.inside())), text));
        Ok(Part::Image(Source::Base64 { media_type, data }))
    };
    object.elements("images").enumerate().map(image).collect()
}

/// The type of an image by the base64 of its first bytes; most are JPEG.
fn media_type(base64: &[u8]) -> &'static [u8] {
    match base64 {
        [b'i', b'V', b'B', b'O', ..] => b"image/png",
        [b'R', b'0', b'l', b'G', ..] => b"image/gif",
        [b'U', b'k', b'l', b'G', ..] => b"image/webp",
        _ => b"image/jpeg",
    }
}

/// What the model said: its thoughts, its text, its calls.
fn assistant<'a>(message: &Object<'a>, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    let thought = message.text("thinking").filter(|text| !text.is_empty());
    let mut parts: Vec<Part<'_>> =
        thought.map(|text| Part::Thinking { text, signature: None }).into_iter().collect();
    let has_calls = message.elements("tool_calls").next().is_some();
    let is_empty = |part: &Part<'_>| matches!(part, Part::Text(text) if text.is_empty());
    parts.extend(content(message, at)?.into_iter().filter(|part| !has_calls || !is_empty(part)));
    for (index, element) in message.elements("tool_calls").enumerate() {
        let at = format!("{at}.tool_calls[{index}]");
        let call = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let function = call.object("function").map_err(|bad| broken(&at, bad))?;
        let function = function.ok_or_else(|| malformed(format!("'{at}.function' has to be an object")))?;
        let name = function.text("name");
        let name = name.ok_or_else(|| malformed(format!("'{at}.function.name' has to be a string")))?;
        let arguments = match (function.text("arguments"), function.get("arguments")) {
            (Some(text), _) => Arguments::Quoted(text), // as OpenAI's clients write them
            (None, Some(value)) => Arguments::Value(value),
            (None, None) => Arguments::Value(b"{}"),
        };
        let id = call.text("id").unwrap_or_default();
        parts.push(Part::ToolCall { id, name, arguments, is_custom: false });
    }
    Ok(parts)
}

fn tools<'a>(object: &Object<'a>) -> Result<Vec<Tool<'a>>, Fault> {
    if object.of_kind("tools", ValueKind::Array).is_none() {
        return Err(malformed("'tools' has to be a list"));
    }
    let mut tools = Vec::new();
    for (index, element) in object.elements("tools").enumerate() {
        let at = format!("tools[{index}]");
        let tool = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let function = tool.object("function").map_err(|bad| broken(&at, bad))?;
        let Some(function) = function else {
            return Err(unsupported(&format!("{at}.type"), "is no tool that can be translated"));
        };
        let name = function.text("name");
        let name = name.ok_or_else(|| malformed(format!("'{at}.function.name' has to be a string")))?;
        let schema = function.of_kind("parameters", ValueKind::Object);
        let kind = ToolKind::Function { schema, strict: None };
        tools.push(Tool { name, description: function.text("description"), kind });
    }
    Ok(tools)
}
