//! A client's request.

use super::{items, missing, read, tools, word};
use crate::dialect::neutral::{
    Format, Json, Object, Part, Reasoning, Request, Role, Text, Turn, malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// Decodes the body of a request.
///
/// # Errors
/// `BodyMalformed` for what the API does not define; `MemberUnsupported` for what no other dialect can say and would
/// change the meaning if it were dropped, above all what needs state at the provider. Both name the member.
pub fn request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = Object::read(body).map_err(|bad| malformed(format!("the body: {}", bad.reason)))?;
    let mut request = Request::default();
    request.system.extend(object.text("instructions").filter(|text| !text.is_empty()).map(Part::Text));
    let mut hosted = tools::Hosted::default();
    for (key, value, kind) in object.iter() {
        member(&object, key, value, kind, &mut request, &mut hosted)?;
    }
    match (object.text("input"), object.of_kind("input", ValueKind::Array)) {
        (Some(text), _) => request.turns.push(Turn { role: Role::User, parts: vec![Part::Text(text)] }),
        (None, Some(_)) => items::read_all(&object, &mut request, &mut hosted)?,
        (None, None) => return Err(malformed("'input' has to be a string or a list of items")),
    }
    hosted.settle(&mut request)?;
    if let Some(choice) = object.get("tool_choice") {
        tools::choice(choice, &mut request)?;
    }
    Ok(request)
}

fn member<'a>(
    object: &Object<'a>,
    key: Json<'a>,
    value: Json<'a>,
    kind: ValueKind,
    request: &mut Request<'a>,
    hosted: &mut tools::Hosted,
) -> Result<(), Fault> {
    let params = &mut request.params;
    match key {
        b"\"model\"" | b"\"input\"" | b"\"instructions\"" | b"\"tool_choice\"" => {}
        b"\"stream\"" => request.stream = kind == ValueKind::True,
        b"\"tools\"" => tools::read_all(object, "tools", request, hosted)?,
        b"\"parallel_tool_calls\"" => request.parallel_calls = object.boolean("parallel_tool_calls"),
        b"\"max_output_tokens\"" => {
            let most = json::unsigned(value);
            let most = most.ok_or_else(|| malformed("'max_output_tokens' has to be a whole number"))?;
            params.output_max = Some(most);
        }
        b"\"temperature\"" => params.temperature = Some(number(value, kind, "temperature")?),
        b"\"top_p\"" => params.top_p = Some(number(value, kind, "top_p")?),
        b"\"top_k\"" => params.top_k = Some(number(value, kind, "top_k")?),
        b"\"reasoning\"" => reasoning(value, request)?,
        b"\"text\"" => text(value, request)?,
        b"\"user\"" | b"\"safety_identifier\"" => {
            params.user = Text::of(value).filter(|user| !user.is_empty()).or(params.user.take());
        }
        b"\"include\"" => include(object, request)?,
        b"\"stream_options\"" => {}
        b"\"store\"" | b"\"background\"" if kind == ValueKind::False => {}
        b"\"truncation\"" if value == b"\"disabled\"" => {}
        b"\"top_logprobs\"" if value == b"0" => {}
        b"\"previous_response_id\"" | b"\"conversation\"" | b"\"prompt\"" | b"\"background\"" => {
            let name = std::str::from_utf8(&key[1..key.len() - 1]).unwrap_or_default();
            return Err(unsupported(
                name,
                "needs state that the backends of this model do not keep; send the whole conversation in 'input'",
            ));
        }
        b"\"top_logprobs\"" => {
            return Err(unsupported("top_logprobs", "is not available from the backends of this model"));
        }
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

/// Sealed thoughts come back without being asked for; the rest that may be included has no counterpart.
fn include(object: &Object<'_>, request: &mut Request<'_>) -> Result<(), Fault> {
    for (value, _) in object.elements("include").map_while(Result::ok) {
        match value {
            b"\"reasoning.encrypted_content\"" => {}
            b"\"message.output_text.logprobs\"" => {
                return Err(unsupported(
                    "include",
                    "of log probabilities is not available from the backends of this model",
                ));
            }
            _ => request.losses.note("include"),
        }
    }
    Ok(())
}

/// A summary is given whenever there is a thought to show, so that only the effort counts.
fn reasoning<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let reasoning = read(value, "reasoning")?;
    request.params.reasoning = reasoning.text("effort").map(|effort| match effort.is("none") {
        true => Reasoning::Off,
        false => Reasoning::Effort(effort),
    });
    Ok(())
}

fn text<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let text = read(value, "text")?;
    for (key, value, _) in text.iter() {
        match key {
            b"\"format\"" => request.params.format = format(value)?,
            b"\"verbosity\"" => request.losses.note("text.verbosity"),
            _ => request.losses.note_key(key),
        }
    }
    Ok(())
}

/// The form of the output; its schema lies flat beside its name.
fn format(value: Json<'_>) -> Result<Option<Format<'_>>, Fault> {
    let format = read(value, "text.format")?;
    match word(&format, "type").as_deref() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::JsonObject)),
        Some("json_schema") => {
            let schema = format.of_kind("schema", ValueKind::Object);
            let schema = schema.ok_or_else(|| missing("text.format", "schema", "an object"))?;
            let strict = format.boolean("strict");
            Ok(Some(Format::JsonSchema { name: format.text("name"), schema, strict }))
        }
        _ => Err(unsupported("text.format.type", "is no form of output that can be translated")),
    }
}
