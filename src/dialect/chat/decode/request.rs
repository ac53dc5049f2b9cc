//! A client's request.

use crate::dialect::neutral::{
    Arguments, Format, Json, Object, Part, Reasoning, Request, Role, Source, Text, Tool, ToolChoice,
    ToolKind, Turn, malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, BadJson, ValueKind};

/// Decodes the body of a request.
///
/// # Errors
/// `BodyMalformed` for what the API does not define; `MemberUnsupported` for what no other dialect can say and would
/// change the meaning if it were dropped. Both name the member.
pub fn request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = read(body, "the body")?;
    let mut request = Request { stream: object.boolean("stream").unwrap_or(false), ..Request::default() };
    for (key, value, kind) in object.iter() {
        member(&object, key, value, kind, &mut request)?;
    }
    if object.of_kind("messages", ValueKind::Array).is_none() {
        return Err(malformed("'messages' has to be an array"));
    }
    Ok(request)
}

fn member<'a>(
    object: &Object<'a>,
    key: Json<'a>,
    value: Json<'a>,
    kind: ValueKind,
    request: &mut Request<'a>,
) -> Result<(), Fault> {
    let params = &mut request.params;
    match key {
        b"\"model\"" | b"\"stream\"" | b"\"stream_options\"" => {}
        b"\"store\"" if kind == ValueKind::False => {}
        b"\"service_tier\"" if matches!(value, b"\"auto\"" | b"\"default\"") => {}
        b"\"messages\"" => messages(object, request)?,
        b"\"tools\"" => request.tools = tools(object)?,
        b"\"tool_choice\"" => request.tool_choice = Some(tool_choice(value, kind)?),
        b"\"parallel_tool_calls\"" => request.parallel_calls = object.boolean("parallel_tool_calls"),
        b"\"max_completion_tokens\"" => params.output_max = json::unsigned(value),
        b"\"max_tokens\"" => params.output_max = params.output_max.or(json::unsigned(value)),
        b"\"temperature\"" => params.temperature = Some(value),
        b"\"top_p\"" => params.top_p = Some(value),
        b"\"top_k\"" => params.top_k = Some(value),
        b"\"seed\"" => params.seed = Some(value),
        b"\"presence_penalty\"" => params.presence_penalty = Some(value),
        b"\"frequency_penalty\"" => params.frequency_penalty = Some(value),
        b"\"stop\"" => params.stop = stop(object)?,
        b"\"user\"" | b"\"safety_identifier\"" => params.user = Text::of(value),
        b"\"response_format\"" => params.format = format(value)?,
        b"\"reasoning_effort\"" => {
            params.reasoning = Text::of(value).map(|effort| match effort.is("none") {
                true => Reasoning::Off,
                false => Reasoning::Effort(effort),
            });
        }
        b"\"n\"" if value != b"1" => {
            return Err(unsupported("n", "above 1 is not available from the backends of this model"));
        }
        b"\"logprobs\"" if kind == ValueKind::True => {
            return Err(unsupported("logprobs", "are not available from the backends of this model"));
        }
        b"\"modalities\""
            if object.elements("modalities").any(|item| item.is_ok_and(|item| item.0 != b"\"text\"")) =>
        {
            return Err(unsupported(
                "modalities",
                "other than text are not available from the backends of this model",
            ));
        }
        b"\"functions\"" | b"\"function_call\"" => {
            return Err(unsupported(
                "functions",
                "are not translated for the backends of this model; use 'tools'",
            ));
        }
        b"\"audio\"" | b"\"web_search_options\"" => {
            let name = std::str::from_utf8(&key[1..key.len() - 1]).unwrap_or_default();
            return Err(unsupported(name, "is not available from the backends of this model"));
        }
        b"\"n\"" | b"\"logprobs\"" | b"\"modalities\"" => {}
        _ => request.losses.note_key(key),
    }
    Ok(())
}

fn messages<'a>(object: &Object<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    for (index, element) in object.elements("messages").enumerate() {
        let at = format!("messages[{index}]");
        let message = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let role = message.text("role").unwrap_or_default();
        let is_leading = request.turns.is_empty();
        match role.to_plain().as_deref() {
            Some("system" | "developer") if is_leading => request.system.extend(content(&message, &at)?),
            Some("system" | "developer") => turn(request, Role::System, content(&message, &at)?),
            Some("user") => turn(request, Role::User, content(&message, &at)?),
            Some("assistant") => turn(request, Role::Assistant, assistant(&message, &at)?),
            Some("tool") => {
                let id =
                    message.text("tool_call_id").ok_or_else(|| missing(&at, "tool_call_id", "a string"))?;
                let parts = content(&message, &at)?;
                let result = Part::ToolResult { id, name: message.text("name"), parts, is_error: false };
                turn(request, Role::User, vec![result]);
            }
            _ => {
                let expected = "has to be system, developer, user, assistant or tool";
                return Err(malformed(format!("'{at}.role' {expected}")));
            }
        }
    }
    Ok(())
}

fn turn<'a>(request: &mut Request<'a>, role: Role, parts: Vec<Part<'a>>) {
    request.turns.push(Turn { role, parts });
}

/// What an assistant said: its thoughts, its text, its calls.
fn assistant<'a>(message: &Object<'a>, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    let mut parts = thoughts(message, at)?;
    parts.extend(content(message, at)?);
    parts.extend(message.text("refusal").map(Part::Refusal));
    for (index, element) in message.elements("tool_calls").enumerate() {
        let at = format!("{at}.tool_calls[{index}]");
        let call = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let id = call.text("id").unwrap_or_default();
        let is_custom = call.says("type", "custom");
        let (member, input) = if is_custom { ("custom", "input") } else { ("function", "arguments") };
        let function = call.object(member).map_err(|bad| broken(&at, bad))?;
        let function = function.ok_or_else(|| missing(&at, member, "an object"))?;
        let name =
            function.text("name").ok_or_else(|| missing(&at, &format!("{member}.name"), "a string"))?;
        let arguments = match (function.text(input), function.get(input)) {
            (Some(text), _) => Arguments::Quoted(text),
            (None, Some(value)) => Arguments::Value(value), // Ollama's habit
            (None, None) => Arguments::Quoted(Text::default()),
        };
        parts.push(Part::ToolCall { id, name, arguments, is_custom });
    }
    Ok(parts)
}

/// Thoughts as this gateway gave them (`thinking_blocks`, with their seals), else as engines do.
fn thoughts<'a>(message: &Object<'a>, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    let mut parts = Vec::new();
    for element in message.elements("thinking_blocks") {
        let block = read(element.map_err(|bad| broken(at, bad))?.0, at)?;
        match (block.text("thinking"), block.text("data")) {
            (Some(text), _) => {
                let signature = block.text("signature").filter(|signature| !signature.is_empty());
                parts.push(Part::Thinking { text, signature });
            }
            (None, Some(data)) => parts.push(Part::Redacted(data)),
            (None, None) => {}
        }
    }
    if parts.is_empty() {
        let text = message.text("reasoning_content").or_else(|| message.text("reasoning"));
        let text = text.filter(|text| !text.is_empty());
        parts.extend(text.map(|text| Part::Thinking { text, signature: None }));
    }
    Ok(parts)
}

/// The content of a message: a string, a list of parts, or nothing.
fn content<'a>(message: &Object<'a>, at: &str) -> Result<Vec<Part<'a>>, Fault> {
    let at = format!("{at}.content");
    match (message.text("content"), message.get("content")) {
        (Some(text), _) => return Ok(vec![Part::Text(text)]),
        (None, None) => return Ok(Vec::new()),
        (None, Some([b'[', ..])) => {}
        (None, Some(_)) => return Err(malformed(format!("'{at}' has to be a string or a list of parts"))),
    }
    let mut parts = Vec::new();
    for (index, element) in message.elements("content").enumerate() {
        let at = format!("{at}[{index}]");
        let (value, kind) = element.map_err(|bad| broken(&at, bad))?;
        match kind {
            ValueKind::String => parts.extend(Text::of(value).map(Part::Text)),
            _ => parts.push(part(&read(value, &at)?, &at)?),
        }
    }
    Ok(parts)
}

fn part<'a>(part: &Object<'a>, at: &str) -> Result<Part<'a>, Fault> {
    let kind = part.text("type").unwrap_or_default();
    let inner = |name: &str| -> Result<Object<'a>, Fault> {
        let inner = part.object(name).map_err(|bad| broken(at, bad))?;
        inner.ok_or_else(|| missing(at, name, "an object"))
    };
    match kind.to_plain().as_deref() {
        Some("text") => Ok(Part::Text(part.text("text").ok_or_else(|| missing(at, "text", "a string"))?)),
        Some("refusal") => Ok(Part::Refusal(part.text("refusal").unwrap_or_default())),
        Some("image_url") => {
            let url = match part.text("image_url") {
                Some(url) => url, // some clients leave the object out
                None => {
                    inner("image_url")?.text("url").ok_or_else(|| missing(at, "image_url.url", "a string"))?
                }
            };
            Ok(located(url))
        }
        Some("input_audio") => {
            let audio = inner("input_audio")?;
            match (audio.text("data"), audio.text("format")) {
                (Some(data), Some(format)) => Ok(Part::Audio { data, format }),
                _ => Err(missing(at, "input_audio", "an object with 'data' and 'format'")),
            }
        }
        Some("file") => {
            let file = inner("file")?;
            let title = file.text("filename");
            match (file.text("file_data"), file.text("file_id")) {
                (Some(data), _) => match located(data) {
                    Part::Document { source, .. } | Part::Image(source) => {
                        Ok(Part::Document { source, title })
                    }
                    other => Ok(other),
                },
                (None, Some(id)) => Ok(Part::Document { source: Source::File(id), title }),
                (None, None) => Err(missing(at, "file", "an object with 'file_data' or 'file_id'")),
            }
        }
        _ => Err(unsupported(&format!("{at}.type"), "is no type of part that can be translated")),
    }
}

/// What a URL stands for: itself, or what a data URL holds. Only pictures come by a plain URL.
fn located(url: Text<'_>) -> Part<'_> {
    let Some((media_type, data)) = url.data_url() else { return Part::Image(Source::Url(url)) };
    let is_image = media_type.to_plain().is_some_and(|kind| kind.starts_with("image/"));
    let source = Source::Base64 { media_type, data };
    if is_image { Part::Image(source) } else { Part::Document { source, title: None } }
}

fn tools<'a>(object: &Object<'a>) -> Result<Vec<Tool<'a>>, Fault> {
    let mut tools = Vec::new();
    for (index, element) in object.elements("tools").enumerate() {
        let at = format!("tools[{index}]");
        let tool = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let kind = tool.text("type").unwrap_or_default();
        let member = match kind.to_plain().as_deref() {
            Some("function" | "") => "function",
            Some("custom") => "custom",
            _ => return Err(unsupported(&format!("{at}.type"), "is no tool that can be translated")),
        };
        let inner = tool.object(member).map_err(|bad| broken(&at, bad))?;
        let inner = inner.ok_or_else(|| missing(&at, member, "an object"))?;
        let name = inner.text("name").ok_or_else(|| missing(&at, &format!("{member}.name"), "a string"))?;
        let kind = match member {
            "custom" => ToolKind::Custom { format: inner.get("format") },
            _ => ToolKind::Function {
                schema: inner.of_kind("parameters", ValueKind::Object),
                strict: inner.boolean("strict"),
            },
        };
        tools.push(Tool { name, description: inner.text("description"), kind });
    }
    Ok(tools)
}

fn tool_choice(value: Json<'_>, kind: ValueKind) -> Result<ToolChoice<'_>, Fault> {
    if kind == ValueKind::String {
        return match Text::of(value).unwrap_or_default().to_plain().as_deref() {
            Some("auto") => Ok(ToolChoice::Auto),
            Some("none") => Ok(ToolChoice::None),
            Some("required" | "any") => Ok(ToolChoice::Required),
            _ => {
                Err(malformed("'tool_choice' has to be auto, none, required or an object that names a tool"))
            }
        };
    }
    let choice = read(value, "tool_choice")?;
    for member in ["function", "custom"] {
        if let Some(named) = choice.object(member).map_err(|bad| broken("tool_choice", bad))? {
            let name = named.text("name").ok_or_else(|| missing("tool_choice", "name", "a string"))?;
            return Ok(ToolChoice::Named(name));
        }
    }
    Err(unsupported("tool_choice", "has a type that cannot be translated"))
}

fn stop<'a>(object: &Object<'a>) -> Result<Vec<Text<'a>>, Fault> {
    if let Some(one) = object.text("stop") {
        return Ok(vec![one]);
    }
    let texts = object.elements("stop").map(|element| Text::of(element.ok()?.0));
    texts.collect::<Option<_>>().ok_or_else(|| malformed("'stop' has to be a string or a list of strings"))
}

fn format(value: Json<'_>) -> Result<Option<Format<'_>>, Fault> {
    let format = read(value, "response_format")?;
    let kind = format.text("type").unwrap_or_default();
    match kind.to_plain().as_deref() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::JsonObject)),
        Some("json_schema") => {
            let inner = format.object("json_schema").map_err(|bad| broken("response_format", bad))?;
            let inner = inner.ok_or_else(|| missing("response_format", "json_schema", "an object"))?;
            let schema = inner.of_kind("schema", ValueKind::Object).unwrap_or(b"{}");
            Ok(Some(Format::JsonSchema { name: inner.text("name"), schema, strict: inner.boolean("strict") }))
        }
        _ => Err(unsupported("response_format.type", "is no form of output that can be translated")),
    }
}

fn read<'a>(value: Json<'a>, at: &str) -> Result<Object<'a>, Fault> {
    Object::read(value).map_err(|bad| broken(at, bad))
}

fn broken(at: &str, bad: BadJson) -> Fault {
    malformed(format!("'{at}': {}", bad.reason))
}

fn missing(at: &str, member: &str, expected: &str) -> Fault {
    malformed(format!("'{at}.{member}' has to be {expected}"))
}
