//! A request for a backend. The model and whether it streams are in the path.

use super::fields;
use super::history::{History, is_blank};
use crate::dialect::converse::OUTPUT_TOOL;
use crate::dialect::neutral::{
    Format, Json, Losses, Names, Object, Part, Request, Target, Text, Tool, ToolChoice, ToolKind, claude,
    custom, unsupported,
};
use crate::dialect::number;
use crate::error::Fault;

/// Appends the whole body of a request.
///
/// # Errors
/// `MemberUnsupported`: a part that the API cannot carry and would change the meaning if it were dropped.
pub fn request(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
    let mut losses = request.losses.clone();
    let history = History::of(request, &mut losses)?;
    out.extend_from_slice(b"{\"messages\":");
    history.write(out);
    system(request, out)?;
    let forces_tool = tools(request, &history, out, &mut losses);
    request.note_strict(&mut losses);
    let fields = fields::Fields::of(request, target, (forces_tool, history.forbids_budget()), &mut losses);
    inference(request, &fields, out, &mut losses);
    fields.write(out);
    let lost = [
        ("seed", request.params.seed.is_some()),
        ("presence_penalty", request.params.presence_penalty.is_some()),
        ("frequency_penalty", request.params.frequency_penalty.is_some()),
        ("user", request.params.user.is_some()),
        ("parallel_tool_calls", request.parallel_calls == Some(false) && !request.tools.is_empty()),
    ];
    lost.iter().filter(|(_, is_there)| *is_there).for_each(|(name, _)| losses.note(*name));
    out.push(b'}');
    Ok(losses)
}

fn system(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut is_first = true;
    for part in &request.system {
        let Part::Text(text) = part else { return Err(unsupported("system", "may hold text only")) };
        if is_blank(text) {
            continue;
        }
        out.extend_from_slice(if std::mem::take(&mut is_first) {
            b",\"system\":[{\"text\":"
        } else {
            b",{\"text\":"
        });
        text.quote(out);
        out.push(b'}');
    }
    if !is_first {
        out.push(b']');
    }
    Ok(())
}

/// Appends the tools and the choice among them; whether one of them has to be called. A history with calls needs its tools
/// declared: where the client declares none, they are declared by name.
fn tools(request: &Request<'_>, history: &History<'_>, out: &mut Vec<u8>, losses: &mut Losses) -> bool {
    let output: Option<Json<'_>> = match &request.params.format {
        Some(Format::JsonSchema { schema, .. }) => Some(schema),
        Some(Format::JsonObject) => Some(br#"{"type":"object","additionalProperties":true}"#),
        None => None,
    };
    let is_forbidden = request.tool_choice == Some(ToolChoice::None);
    let declared: &[Tool<'_>] = if is_forbidden && history.called.is_empty() { &[] } else { &request.tools };
    let start = out.len();
    let begin = |out: &mut Vec<u8>| {
        let opening: &[u8] = if out.len() == start { b",\"toolConfig\":{\"tools\":[" } else { b"," };
        out.extend_from_slice(opening);
    };
    for tool in declared {
        begin(out);
        declare(&tool.name, tool.description.as_ref(), schema(tool), out);
    }
    let mut known = Names::default();
    declared.iter().for_each(|tool| known.insert(&tool.name));
    for name in history.called.iter().filter(|name| !known.contains(name)) {
        begin(out);
        declare(name, None, NO_PARAMETERS, out);
    }
    if let Some(schema) = output {
        begin(out);
        let about = Text::escaped(b"The response, in the form that is asked for.");
        declare(&Text::escaped(OUTPUT_TOOL.as_bytes()), Some(&about), schema, out);
    }
    if out.len() == start {
        return false;
    }
    out.push(b']');
    let forced = choice(request, output.is_some(), !declared.is_empty() && !is_forbidden, out);
    if is_forbidden && !history.called.is_empty() && output.is_none() {
        losses.note("tool_choice");
    }
    out.push(b'}');
    forced
}

/// Appends the choice among the tools; whether one of them has to be called.
fn choice(request: &Request<'_>, has_output: bool, has_tools: bool, out: &mut Vec<u8>) -> bool {
    let named = match (&request.tool_choice, has_output) {
        (Some(ToolChoice::Named(name)), _) if has_tools => Some(name.clone()),
        (_, true) if !has_tools => Some(Text::escaped(OUTPUT_TOOL.as_bytes())),
        _ => None,
    };
    let is_required = has_tools && request.tool_choice == Some(ToolChoice::Required);
    match named {
        Some(name) => {
            out.extend_from_slice(b",\"toolChoice\":{\"tool\":{\"name\":");
            name.quote(out);
            out.extend_from_slice(b"}}");
            true
        }
        None if has_output || is_required => {
            out.extend_from_slice(b",\"toolChoice\":{\"any\":{}}");
            true
        }
        None if request.tool_choice == Some(ToolChoice::Auto) && has_tools => {
            out.extend_from_slice(b",\"toolChoice\":{\"auto\":{}}");
            false
        }
        None => false,
    }
}

fn declare(name: &Text<'_>, description: Option<&Text<'_>>, schema: Json<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"toolSpec\":{\"name\":");
    name.quote(out);
    if let Some(description) = description.filter(|text| !is_blank(text)) {
        out.extend_from_slice(b",\"description\":");
        description.quote(out);
    }
    out.extend_from_slice(b",\"inputSchema\":{\"json\":");
    // The API wants the type said.
    let object = Object::read(schema).ok();
    match object.filter(|object| object.get("type").is_none()).map(|object| object.iter().count()) {
        None => out.extend_from_slice(schema),
        Some(0) => out.extend_from_slice(NO_PARAMETERS),
        Some(_) => {
            out.extend_from_slice(b"{\"type\":\"object\",");
            out.extend_from_slice(schema.trim_ascii_start().get(1..).unwrap_or_default());
        }
    }
    out.extend_from_slice(b"}}}");
}

fn schema<'t>(tool: &'t Tool<'_>) -> Json<'t> {
    match &tool.kind {
        ToolKind::Function { schema, .. } => schema.unwrap_or(NO_PARAMETERS),
        ToolKind::Custom { .. } => custom::SCHEMA,
    }
}

const NO_PARAMETERS: Json<'static> = br#"{"type":"object","properties":{}}"#;

fn inference(request: &Request<'_>, fields: &fields::Fields<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let params = &request.params;
    let start = out.len();
    let name = |name: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(if out.len() == start { b",\"inferenceConfig\":{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    };
    if let Some(most) = params.output_max.filter(|most| *most > 0).or(fields.output_max) {
        name("maxTokens", out);
        number(out, most);
    }
    for (member, own, value) in
        [("temperature", "temperature", params.temperature), ("topP", "top_p", params.top_p)]
    {
        match value {
            Some(_) if !fields.takes_sampling() => losses.note(own),
            Some(_) if own == "top_p" && params.temperature.is_some() && fields.takes_one_way_to_sample() => {
                losses.note(own);
            }
            Some(value) => {
                name(member, out);
                let value = if own == "temperature" { claude::temperature(value, losses) } else { value };
                out.extend_from_slice(value);
            }
            None => {}
        }
    }
    let mut stops = params.stop.iter().filter(|text| !is_blank(text));
    if let Some(first) = stops.next() {
        name("stopSequences", out);
        out.push(b'[');
        first.quote(out);
        for text in stops {
            out.push(b',');
            text.quote(out);
        }
        out.push(b']');
    }
    if out.len() > start {
        out.push(b'}');
    }
}
