//! A request for a backend. Its model and whether the response streams are in its path.

use super::generation;
use super::history::{History, count, later_turns, member};
use crate::dialect::neutral::{
    Format, Json, Losses, Part, Reasoning, Request, Target, Text, Tool, ToolChoice, ToolKind, custom,
};
use crate::error::Fault;

/// Appends the whole body of a request.
///
/// # Errors
/// It has a part that would change its meaning if it were dropped, and that the API cannot say.
pub fn request(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
    let mut losses = request.losses.clone();
    let history = History::of(request, target, &mut losses)?;
    out.extend_from_slice(b"{\"contents\":");
    history.write(out);
    system(request, &mut losses, out);
    tools(request, out);
    // Where a function has to be called, its arguments fit its schema.
    if !matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        request.note_strict(&mut losses);
    }
    config(request, target, &mut losses, out);
    if request.parallel_calls == Some(false) {
        losses.note("parallel_tool_calls");
    }
    if request.params.user.is_some() {
        losses.note("user");
    }
    out.push(b'}');
    Ok(losses)
}

fn system(request: &Request<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let leading = &request.turns[..request.turns.len() - later_turns(request).len()];
    let mut is_first = true;
    for part in request.system.iter().chain(leading.iter().flat_map(|turn| &turn.parts)) {
        let text = match part {
            Part::Text(text) if text.is_empty() => continue,
            Part::Text(text) => text,
            _ => {
                losses.note("system.content");
                continue;
            }
        };
        out.extend_from_slice(match std::mem::take(&mut is_first) {
            true => b",\"systemInstruction\":{\"parts\":[{\"text\":",
            false => b",{\"text\":".as_slice(),
        });
        text.quote(out);
        out.push(b'}');
    }
    if !is_first {
        out.extend_from_slice(b"]}");
    }
}

/// Appends the functions and the choice among them.
fn tools(request: &Request<'_>, out: &mut Vec<u8>) {
    for (index, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(match index {
            0 => b",\"tools\":[{\"functionDeclarations\":[",
            _ => b",".as_slice(),
        });
        declare(tool, out);
    }
    if request.tools.is_empty() {
        return;
    }
    out.extend_from_slice(b"]}]");
    let (mode, name) = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name)),
    };
    out.extend_from_slice(b",\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"");
    out.extend_from_slice(mode.as_bytes());
    out.push(b'"');
    if let Some(name) = name {
        out.extend_from_slice(b",\"allowedFunctionNames\":[");
        name.quote(out);
        out.push(b']');
    }
    out.extend_from_slice(b"}}");
}

/// Appends a function. Its schema goes as it is, as JSON Schema; one without parameters has none.
fn declare(tool: &Tool<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    tool.name.quote(out);
    if let Some(description) = tool.description.as_ref().filter(|text| !text.is_empty()) {
        out.extend_from_slice(b",\"description\":");
        description.quote(out);
    }
    let schema = match tool.kind {
        ToolKind::Custom { .. } => Some(custom::SCHEMA),
        ToolKind::Function { schema, .. } => schema.filter(|schema| *schema != b"{}"),
    };
    if let Some(schema) = schema {
        out.extend_from_slice(b",\"parametersJsonSchema\":");
        out.extend_from_slice(schema);
    }
    out.push(b'}');
}

/// Stop sequences that the API takes.
const STOP_MAX: usize = 5;

fn config(request: &Request<'_>, target: &Target<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let params = &request.params;
    let mut config = Vec::new();
    if let Some(most) = params.output_max.filter(|most| *most > 0) {
        count("maxOutputTokens", most, &mut config);
    }
    for (name, value) in [
        ("temperature", params.temperature),
        ("topP", params.top_p),
        ("topK", params.top_k),
        ("seed", params.seed),
        ("presencePenalty", params.presence_penalty),
        ("frequencyPenalty", params.frequency_penalty),
    ] {
        if let Some(value) = value {
            member(name, value, &mut config);
        }
    }
    let stop: Vec<&Text<'_>> = params.stop.iter().filter(|text| !text.is_empty()).collect();
    if stop.len() > STOP_MAX {
        losses.note("stop");
    }
    for (index, text) in stop.iter().take(STOP_MAX).enumerate() {
        config.extend_from_slice(if index == 0 { b"\"stopSequences\":[" } else { b"," });
        text.quote(&mut config);
    }
    if !stop.is_empty() {
        config.extend_from_slice(b"],");
    }
    if let Some(format) = &params.format {
        config.extend_from_slice(b"\"responseMimeType\":\"application/json\",");
        if let Format::JsonSchema { schema, .. } = format {
            member("responseJsonSchema", schema, &mut config);
        }
    }
    if let Some(reasoning) = &params.reasoning {
        thinking(reasoning, target.model, &mut config);
    }
    if config.pop().is_some() {
        out.extend_from_slice(b",\"generationConfig\":{");
        out.extend_from_slice(&config);
        out.push(b'}');
    }
}

/// Appends how much to think: in words to models of the third generation and later, in tokens to those before and to
/// those whose name tells none, which every model takes. Thoughts are shown where they are asked for.
fn thinking(reasoning: &Reasoning<'_>, model: Json<'_>, out: &mut Vec<u8>) {
    let takes_words = generation(model).is_some_and(|generation| generation >= 3);
    let is_pro = String::from_utf8_lossy(model).contains("pro");
    out.extend_from_slice(b"\"thinkingConfig\":{");
    let level =
        |level: &str, out: &mut Vec<u8>| member("thinkingLevel", format!("\"{level}\"").as_bytes(), out);
    let word = match reasoning {
        Reasoning::Effort(word) => word.to_plain().unwrap_or_default().to_ascii_lowercase(),
        Reasoning::Budget(..=2_048) => "low".to_owned(),
        Reasoning::Budget(..=8_192) => "medium".to_owned(),
        Reasoning::Budget(_) => "high".to_owned(),
        Reasoning::Off => "none".to_owned(),
        Reasoning::Adaptive => String::new(),
    };
    let is_off = word == "none";
    match (takes_words, reasoning, word.as_str()) {
        (true, _, "none" | "minimal") => level(if is_pro { "low" } else { "minimal" }, out),
        (true, _, "low") => level("low", out),
        (true, _, "medium") => level(if is_pro { "high" } else { "medium" }, out),
        (true, _, "high" | "xhigh" | "max") => level("high", out),
        (true, ..) => {}
        (false, Reasoning::Budget(tokens), _) => count("thinkingBudget", (*tokens).min(BUDGET_MAX), out),
        // The larger models of the second generation cannot but think.
        (false, _, "none") => count("thinkingBudget", if is_pro { BUDGET_MIN } else { 0 }, out),
        (false, _, "minimal") => count("thinkingBudget", 512, out),
        (false, _, "low") => count("thinkingBudget", 1024, out),
        (false, _, "medium") => count("thinkingBudget", 8 * 1024, out),
        (false, _, "high" | "xhigh" | "max") => count("thinkingBudget", BUDGET_MAX, out),
        (false, ..) => member("thinkingBudget", b"-1", out),
    }
    if !is_off {
        member("includeThoughts", b"true", out);
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"},");
}

/// The largest and the smallest budget that models of the second generation take.
const BUDGET_MAX: u64 = 24_576;
const BUDGET_MIN: u64 = 128;
