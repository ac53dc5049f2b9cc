//! A client's request.

use super::blocks::{self, broken, kind_of, missing, read};
use crate::dialect::neutral::{
    Format, Json, Losses, Object, Part, Reasoning, Request, Role, Text, Tool, ToolChoice, ToolKind, Turn,
    malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// Decodes the body of a request.
///
/// # Errors
/// `BodyMalformed` for what the API does not define; `MemberUnsupported` for what no other dialect can say and would
/// change the meaning if it were dropped. Both name the member.
pub fn request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = Object::read(body).map_err(|bad| malformed(format!("the body: {}", bad.reason)))?;
    let mut request = Request::default();
    for (key, value, kind) in object.iter() {
        member(&object, key, value, kind, &mut request)?;
    }
    if object.of_kind("messages", ValueKind::Array).is_none() {
        return Err(malformed("'messages' has to be a list"));
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
        b"\"model\"" => {}
        b"\"messages\"" | b"\"tools\"" | b"\"stop_sequences\"" if kind != ValueKind::Array => {
            let name = std::str::from_utf8(&key[1..key.len() - 1]).unwrap_or_default();
            return Err(malformed(format!("'{name}' has to be a list")));
        }
        b"\"stream\"" => request.stream = kind == ValueKind::True,
        b"\"max_tokens\"" => {
            let most = json::unsigned(value);
            params.output_max = Some(most.ok_or_else(|| malformed("'max_tokens' has to be a whole number"))?);
        }
        b"\"system\"" => request.system = system(object, &mut request.losses)?,
        b"\"messages\"" => messages(object, request)?,
        b"\"tools\"" => request.tools = tools(object, &mut request.losses)?,
        b"\"tool_choice\"" => tool_choice(value, request)?,
        b"\"temperature\"" => params.temperature = Some(number(value, kind, "temperature")?),
        b"\"top_p\"" => params.top_p = Some(number(value, kind, "top_p")?),
        b"\"top_k\"" => params.top_k = Some(number(value, kind, "top_k")?),
        b"\"stop_sequences\"" => {
            let texts = object.elements("stop_sequences").map(|element| Text::of(element.ok()?.0));
            let texts = texts.collect::<Option<_>>();
            params.stop = texts.ok_or_else(|| malformed("'stop_sequences' has to be a list of strings"))?;
        }
        b"\"thinking\"" => thinking(value, request)?,
        b"\"output_config\"" => output_config(value, request)?,
        b"\"output_format\"" => params.format = format(value, "output_format")?,
        b"\"metadata\"" => metadata(value, request)?,
        b"\"container\"" => {
            return Err(unsupported("container", "is not available from the backends of this model"));
        }
        b"\"mcp_servers\"" if value != b"[]" => {
            return Err(unsupported("mcp_servers", "are not called by the backends of this model"));
        }
        b"\"mcp_servers\"" => {}
        _ => request.losses.note_key(key),
    }
    Ok(())
}

fn number<'a>(value: Json<'a>, kind: ValueKind, name: &str) -> Result<Json<'a>, Fault> {
    match kind {
        ValueKind::Number => Ok(value),
        _ => Err(malformed(format!("'{name}' has to be a number"))),
    }
}

/// What Claude Code puts in front of its system prompt for its own provider. It changes with each request, so that no engine
/// would find the prompt in its prefix cache.
const BILLING: &[u8] = b"x-anthropic-billing-header:";

fn system<'a>(object: &Object<'a>, losses: &mut Losses) -> Result<Vec<Part<'a>>, Fault> {
    let mut parts = blocks::content(object, "system", "system", losses)?;
    if parts.iter().any(|part| !matches!(part, Part::Text(_))) {
        return Err(malformed("'system' has to be a string or a list of text blocks"));
    }
    if let Some(Part::Text(text)) = parts.first_mut()
        && text.inside().starts_with(BILLING)
    {
        losses.note("x-anthropic-billing-header");
        let line_end = text.inside().windows(2).position(|pair| pair == b"\\n");
        match line_end {
            Some(at) => *text = Text::owned(text.inside()[at + 2..].to_vec()),
            None => _ = parts.remove(0),
        }
    }
    Ok(parts)
}

fn messages<'a>(object: &Object<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    for (index, element) in object.elements("messages").enumerate() {
        let at = format!("messages[{index}]");
        let message = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let role = match kind_of(&message, "role").as_deref() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => return Err(malformed(format!("'{at}.role' has to be user, assistant or system"))),
        };
        if message.get("content").is_none() {
            return Err(missing(&at, "content", "a string or a list of blocks"));
        }
        let parts = blocks::content(&message, "content", &format!("{at}.content"), &mut request.losses)?;
        request.turns.push(Turn { role, parts });
    }
    Ok(())
}

fn tools<'a>(object: &Object<'a>, losses: &mut Losses) -> Result<Vec<Tool<'a>>, Fault> {
    let mut tools = Vec::new();
    for (index, element) in object.elements("tools").enumerate() {
        let at = format!("tools[{index}]");
        let tool = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        let schema = tool.of_kind("input_schema", ValueKind::Object);
        let kind = kind_of(&tool, "type");
        // What has a schema of its own is the client's, whatever its type says: clients write 'custom', 'function' and nothing.
        let is_hosted = schema.is_none() && !matches!(kind.as_deref(), None | Some("custom" | "function"));
        if is_hosted {
            let why =
                format!("'{}' is not available from the backends of this model", kind.unwrap_or_default());
            return Err(unsupported(&format!("{at}.type"), &why));
        }
        let name = tool.text("name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| missing(&at, "name", "a string"))?;
        for (key, _, _) in tool.iter() {
            let known: [&[u8]; 5] =
                [b"\"name\"", b"\"description\"", b"\"input_schema\"", b"\"strict\"", b"\"type\""];
            if !known.contains(&key) {
                losses.note_key(key);
            }
        }
        let kind = ToolKind::Function { schema, strict: tool.boolean("strict") };
        tools.push(Tool { name, description: tool.text("description"), kind });
    }
    Ok(tools)
}

fn tool_choice<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let choice = read(value, "tool_choice")?;
    request.tool_choice = Some(match kind_of(&choice, "type").as_deref() {
        Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => {
            let name = choice.text("name").ok_or_else(|| missing("tool_choice", "name", "a string"))?;
            ToolChoice::Named(name)
        }
        _ => return Err(malformed("'tool_choice.type' has to be auto, any, tool or none")),
    });
    if choice.boolean("disable_parallel_tool_use") == Some(true) {
        request.parallel_calls = Some(false);
    }
    Ok(())
}

/// Words for how much to think (`output_config.effort`) win over a budget, but not over thinking that is off.
fn thinking<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let thinking = read(value, "thinking")?;
    let reasoning = match kind_of(&thinking, "type").as_deref() {
        Some("disabled") => Some(Reasoning::Off),
        Some("enabled") => thinking.unsigned("budget_tokens").map(Reasoning::Budget),
        Some("adaptive" | "between_tools") => Some(Reasoning::Adaptive),
        _ => {
            request.losses.note("thinking");
            None
        }
    };
    if thinking.get("display").is_some() {
        request.losses.note("thinking.display");
    }
    let has_effort = matches!(request.params.reasoning, Some(Reasoning::Effort(_)));
    if !has_effort || reasoning == Some(Reasoning::Off) {
        request.params.reasoning = reasoning.or(request.params.reasoning.take());
    }
    Ok(())
}

fn output_config<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let config = read(value, "output_config")?;
    for (key, value, _) in config.iter() {
        match key {
            b"\"effort\"" => {
                let effort = Text::of(value).map(Reasoning::Effort);
                if request.params.reasoning != Some(Reasoning::Off) {
                    request.params.reasoning = effort.or(request.params.reasoning.take());
                }
            }
            b"\"format\"" => request.params.format = format(value, "output_config.format")?,
            _ => request.losses.note_key(key),
        }
    }
    Ok(())
}

/// The output fits a schema here, always.
fn format<'a>(value: Json<'a>, at: &str) -> Result<Option<Format<'a>>, Fault> {
    let format = read(value, at)?;
    match kind_of(&format, "type").as_deref() {
        Some("json_schema") => {
            let schema = format.of_kind("schema", ValueKind::Object);
            let schema = schema.ok_or_else(|| missing(at, "schema", "an object"))?;
            Ok(Some(Format::JsonSchema { name: format.text("name"), schema, strict: Some(true) }))
        }
        Some("text") => Ok(None),
        _ => Err(unsupported(&format!("{at}.type"), "is no form of output that can be translated")),
    }
}

fn metadata<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let metadata = read(value, "metadata")?;
    request.params.user = metadata.text("user_id").filter(|user| !user.is_empty());
    if metadata.iter().any(|(key, _, _)| key != b"\"user_id\"") {
        request.losses.note("metadata");
    }
    Ok(())
}
