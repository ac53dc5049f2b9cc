//! A request for a backend.

use super::input::{Input, later_turns};
use super::words;
use crate::dialect::neutral::{
    Format, Json, Losses, Part, Reasoning, Request, Target, Text, Tool, ToolChoice, ToolKind,
};
use crate::dialect::number;
use crate::error::Fault;

/// The least bound on the output that OpenAI takes.
const OUTPUT_MIN: u64 = 16;
/// Longest id of a user that OpenAI takes.
const USER_BYTES_MAX: usize = 64;

/// Appends the whole body of a request.
///
/// What the API would do unasked and this gateway's other backends do not is switched off: nothing is stored, and schemas are
/// no stricter than the client said.
///
/// # Errors
/// It has a part that would change its meaning if it were dropped, and that the API cannot say.
pub fn request(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
    let mut losses = request.losses.clone();
    let input = Input::of(request, &mut losses)?;
    out.extend_from_slice(b"{\"model\":");
    out.extend_from_slice(target.model);
    out.extend_from_slice(b",\"store\":false");
    if request.stream {
        out.extend_from_slice(b",\"stream\":true");
    }
    instructions(request, &mut losses, out);
    out.extend_from_slice(b",\"input\":");
    input.write(out);
    tools(request, out);
    let params = &request.params;
    if let Some(most) = params.output_max.filter(|most| *most > 0) {
        out.extend_from_slice(b",\"max_output_tokens\":");
        number(out, most.max(OUTPUT_MIN));
    }
    let is_free = takes_sampling(target.model);
    for (name, value) in [("temperature", params.temperature), ("top_p", params.top_p)] {
        match value {
            Some(b"1" | b"1.0") if !is_free => {} // the default
            Some(_) if !is_free => losses.note(name),
            Some(value) => {
                words(&[",\"", name, "\":"], out);
                out.extend_from_slice(value);
            }
            None => {}
        }
    }
    let thinks = reasoning(request, target, &mut losses, out);
    if thinks || input.has_sealed_thoughts {
        // Nothing is stored, so that thoughts have to travel with the conversation.
        out.extend_from_slice(b",\"include\":[\"reasoning.encrypted_content\"]");
    }
    format(request, out);
    match &params.user {
        Some(user) if user.inside().len() <= USER_BYTES_MAX => {
            out.extend_from_slice(b",\"user\":");
            user.quote(out);
        }
        Some(_) => losses.note("user"),
        None => {}
    }
    let missing = [
        ("top_k", params.top_k.is_some()),
        ("seed", params.seed.is_some()),
        ("presence_penalty", params.presence_penalty.is_some()),
        ("frequency_penalty", params.frequency_penalty.is_some()),
        ("stop", !params.stop.is_empty()),
    ];
    missing.iter().filter(|(_, is_lost)| *is_lost).for_each(|(name, _)| losses.note(*name));
    out.push(b'}');
    Ok(losses)
}

/// Everything before the conversation is one text here; an empty line stays between its parts.
fn instructions(request: &Request<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let leading = &request.turns[..request.turns.len() - later_turns(request).len()];
    let parts = request.system.iter().chain(leading.iter().flat_map(|turn| &turn.parts));
    let mut is_first = true;
    for part in parts {
        let Part::Text(text) = part else {
            losses.note("system.content");
            continue;
        };
        if !text.is_empty() {
            let between: &[u8] =
                if std::mem::take(&mut is_first) { b",\"instructions\":\"" } else { b"\\n\\n" };
            out.extend_from_slice(between);
            out.extend_from_slice(text.inside());
        }
    }
    if !is_first {
        out.push(b'"');
    }
}

fn tools(request: &Request<'_>, out: &mut Vec<u8>) {
    if request.tools.is_empty() {
        return;
    }
    for (index, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"tools\":[" } else { b"," });
        declare(tool, out);
    }
    out.push(b']');
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => out.extend_from_slice(b",\"tool_choice\":\"auto\""),
        Some(ToolChoice::None) => out.extend_from_slice(b",\"tool_choice\":\"none\""),
        Some(ToolChoice::Required) => out.extend_from_slice(b",\"tool_choice\":\"required\""),
        Some(ToolChoice::Named(name)) => {
            let is_custom =
                |tool: &Tool<'_>| tool.name == *name && matches!(tool.kind, ToolKind::Custom { .. });
            let kind = if request.tools.iter().any(is_custom) { "custom" } else { "function" };
            words(&[",\"tool_choice\":{\"type\":\"", kind, "\",\"name\":"], out);
            name.quote(out);
            out.push(b'}');
        }
    }
    if let Some(parallel) = request.parallel_calls {
        words(&[",\"parallel_tool_calls\":", if parallel { "true" } else { "false" }], out);
    }
}

fn declare(tool: &Tool<'_>, out: &mut Vec<u8>) {
    let kind = if matches!(tool.kind, ToolKind::Custom { .. }) { "custom" } else { "function" };
    words(&["{\"type\":\"", kind, "\",\"name\":"], out);
    tool.name.quote(out);
    if let Some(description) = &tool.description {
        out.extend_from_slice(b",\"description\":");
        description.quote(out);
    }
    match tool.kind {
        ToolKind::Custom { format: Some(format) } => {
            out.extend_from_slice(b",\"format\":");
            out.extend_from_slice(format);
        }
        ToolKind::Custom { format: None } => {}
        ToolKind::Function { schema, strict } => {
            out.extend_from_slice(b",\"parameters\":");
            out.extend_from_slice(schema.unwrap_or(br#"{"type":"object","properties":{}}"#));
            // Left out, it would be true here.
            words(&[",\"strict\":", if strict == Some(true) { "true" } else { "false" }], out);
        }
    }
    out.push(b'}');
}

/// Appends how much to think; false if nothing is said about it, which is all that models take that do not think.
fn reasoning(request: &Request<'_>, target: &Target<'_>, losses: &mut Losses, out: &mut Vec<u8>) -> bool {
    let effort = match &request.params.reasoning {
        None | Some(Reasoning::Adaptive) => return false,
        Some(wanted) => effort(wanted, target.model),
    };
    match effort {
        Some(effort) => {
            out.extend_from_slice(b",\"reasoning\":{\"effort\":");
            effort.quote(out);
            out.push(b'}');
            true
        }
        None => {
            losses.note("reasoning");
            false
        }
    }
}

/// Whether a model lets the client choose how to sample: OpenAI's that think refuse it.
fn takes_sampling(model: Json<'_>) -> bool {
    let model = model.strip_prefix(b"\"").unwrap_or(model);
    let thinking: [&[u8]; 5] = [b"gpt-5", b"gpt-6", b"o1", b"o3", b"o4"];
    !thinking.iter().any(|name| model.starts_with(name))
}

/// The words for an effort. `None` where a model would refuse every word, or has none for thinking that is off.
fn effort<'a>(wanted: &Reasoning<'a>, model: Json<'_>) -> Option<Text<'a>> {
    let model = String::from_utf8_lossy(model);
    let is = |names: &[&str]| names.iter().any(|name| model.contains(name));
    if is(&["gpt-4", "gpt-3", "chatgpt-4"]) {
        return None;
    }
    let is_recent = is(&["gpt-5.", "gpt-6"]); // since then there are 'none' and 'xhigh'
    match wanted {
        Reasoning::Off if is_recent => Some(Text::escaped(b"none")),
        Reasoning::Off if is(&["gpt-5"]) => Some(Text::escaped(b"minimal")),
        Reasoning::Off | Reasoning::Adaptive => None,
        Reasoning::Effort(effort) if effort.is("max") || effort.is("xhigh") => {
            Some(Text::escaped(if is_recent { b"xhigh" } else { &b"high"[..] }))
        }
        Reasoning::Effort(effort) => Some(effort.clone()),
        Reasoning::Budget(tokens) => Some(Text::escaped(match tokens {
            0..=2048 => &b"low"[..],
            2049..=8192 => b"medium",
            _ => b"high",
        })),
    }
}

fn format(request: &Request<'_>, out: &mut Vec<u8>) {
    match &request.params.format {
        None => {}
        Some(Format::JsonObject) => {
            out.extend_from_slice(b",\"text\":{\"format\":{\"type\":\"json_object\"}}")
        }
        Some(Format::JsonSchema { name, schema, strict }) => {
            out.extend_from_slice(b",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":");
            name.as_ref().unwrap_or(&Text::escaped(b"output")).quote(out);
            out.extend_from_slice(b",\"schema\":");
            out.extend_from_slice(schema);
            words(&[",\"strict\":", if *strict == Some(true) { "true" } else { "false" }, "}}"], out);
        }
    }
}
