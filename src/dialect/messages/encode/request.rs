//! A request for a backend.

use super::history::{History, is_blank, later_turns};
use crate::dialect::neutral::{
    Format, Json, Losses, Object, Part, Reasoning, Request, Target, Text, Tool, ToolChoice, ToolKind, claude,
    custom,
};
use crate::dialect::number;
use crate::error::Fault;

/// The least budget for thinking that the API takes, in tokens.
const BUDGET_MIN: u64 = 1024;

/// Appends the whole body of a request.
///
/// # Errors
/// It has a part that would change its meaning if it were dropped, and that the API cannot say.
pub fn request(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
    let mut losses = request.losses.clone();
    let history = History::of(request, &mut losses)?;
    let most = request.params.output_max.filter(|most| *most > 0).unwrap_or(target.output_max_default).max(1);
    out.extend_from_slice(b"{\"model\":");
    out.extend_from_slice(target.model);
    out.extend_from_slice(b",\"max_tokens\":");
    number(out, most);
    if request.stream {
        out.extend_from_slice(b",\"stream\":true");
    }
    system(request, &mut losses, out);
    out.extend_from_slice(b",\"messages\":");
    history.write(out);
    tools(request, &history, out);
    let choice = choose(request, target.model, most, &history);
    let thinks = thinking(request, choice, &mut losses, out);
    sampling(
        request,
        !thinks && claude::takes_sampling(&String::from_utf8_lossy(target.model)),
        &mut losses,
        out,
    );
    if let Some(user) = &request.params.user {
        // The API refuses addresses of mail.
        match user.inside().contains(&b'@') {
            true => losses.note("user"),
            false => {
                out.extend_from_slice(b",\"metadata\":{\"user_id\":");
                user.quote(out);
                out.push(b'}');
            }
        }
    }
    out.push(b'}');
    Ok(losses)
}

fn system(request: &Request<'_>, losses: &mut Losses, out: &mut Vec<u8>) {
    let leading = &request.turns[..request.turns.len() - later_turns(request).len()];
    let parts = request.system.iter().chain(leading.iter().flat_map(|turn| &turn.parts));
    let mut is_first = true;
    for part in parts {
        let text = match part {
            Part::Text(text) if is_blank(text) => continue,
            Part::Text(text) => text,
            _ => {
                losses.note("system.content");
                continue;
            }
        };
        out.extend_from_slice(if std::mem::take(&mut is_first) { b",\"system\":[" } else { b"," });
        out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
        text.quote(out);
        out.push(b'}');
    }
    if !is_first {
        out.push(b']');
    }
}

/// Appends the tools and the choice among them. A history with calls needs its tools declared: where the client declares
/// none, they are declared by name, and the model must not call them.
fn tools(request: &Request<'_>, history: &History<'_>, out: &mut Vec<u8>) {
    let (choice, is_sequential) = (request.tool_choice.as_ref(), request.parallel_calls == Some(false));
    if request.tools.is_empty() {
        for (index, name) in history.called.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b",\"tools\":[{\"name\":" } else { b",{\"name\":" });
            name.quote(out);
            out.extend_from_slice(b",\"input_schema\":");
            out.extend_from_slice(NO_PARAMETERS);
            out.push(b'}');
        }
        if !history.called.is_empty() {
            out.extend_from_slice(b"],\"tool_choice\":{\"type\":\"none\"}");
        }
        return;
    }
    for (index, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"tools\":[" } else { b"," });
        declare(tool, out);
    }
    out.push(b']');
    let (kind, name) = match choice {
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
        Some(ToolChoice::Auto) => ("auto", None),
        None if is_sequential => ("auto", None),
        None => return,
    };
    out.extend_from_slice(b",\"tool_choice\":{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(name) = name {
        out.extend_from_slice(b",\"name\":");
        name.quote(out);
    }
    if is_sequential && kind != "none" {
        out.extend_from_slice(b",\"disable_parallel_tool_use\":true");
    }
    out.push(b'}');
}

const NO_PARAMETERS: Json<'static> = br#"{"type":"object","properties":{}}"#;

fn declare(tool: &Tool<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    tool.name.quote(out);
    if let Some(description) = tool.description.as_ref().filter(|text| !text.is_empty()) {
        out.extend_from_slice(b",\"description\":");
        description.quote(out);
    }
    out.extend_from_slice(b",\"input_schema\":");
    match tool.kind {
        ToolKind::Custom { .. } => out.extend_from_slice(custom::SCHEMA),
        ToolKind::Function { schema: None, .. } => out.extend_from_slice(NO_PARAMETERS),
        ToolKind::Function { schema: Some(schema), strict } => {
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
            if strict == Some(true) {
                out.extend_from_slice(b",\"strict\":true");
            }
        }
    }
    out.push(b'}');
}

/// How the API is asked to think.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinking {
    Unsaid,
    Off,
    Adaptive,
    Budget(u64),
}

/// Chooses how to ask for thinking, and in which words for its effort.
///
/// Models differ: those of before 2026 take a budget, later ones words and their own judgement, and each refuses the
/// other's. None thinks where a tool is forced; those with a budget do not either in a turn begun without a thought.
fn choose<'a>(
    request: &Request<'a>,
    model: Json<'_>,
    most: u64,
    history: &History<'_>,
) -> (Thinking, Option<Text<'a>>) {
    let forces_tool = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    let takes_budget = claude::takes_budget(&String::from_utf8_lossy(model));
    let tokens = |tokens: u64| match budget(tokens, most) {
        Some(tokens) if !forces_tool && !history.forbids_budget() => Thinking::Budget(tokens),
        _ => Thinking::Unsaid,
    };
    let adaptive = if forces_tool { Thinking::Unsaid } else { Thinking::Adaptive };
    match &request.params.reasoning {
        None => (Thinking::Unsaid, None),
        Some(Reasoning::Off) => (Thinking::Off, None),
        Some(Reasoning::Effort(words)) if words.is("none") => (Thinking::Off, None),
        Some(Reasoning::Adaptive) if takes_budget => (tokens(8 * 1024), None),
        Some(Reasoning::Adaptive) => (adaptive, None),
        Some(Reasoning::Effort(words)) if takes_budget => (tokens(tokens_of(words)), None),
        Some(Reasoning::Effort(words)) => (adaptive, Some(effort(words, model))),
        Some(Reasoning::Budget(given)) if takes_budget => (tokens(*given), None),
        Some(Reasoning::Budget(given)) => (adaptive, Some(Text::escaped(words_of(*given)))),
    }
}

/// Appends how much to think, and the form of the output, which shares a member with it. Returns whether the model thinks.
fn thinking(
    request: &Request<'_>,
    (thinking, effort): (Thinking, Option<Text<'_>>),
    losses: &mut Losses,
    out: &mut Vec<u8>,
) -> bool {
    match thinking {
        Thinking::Unsaid if request.params.reasoning.is_some() => losses.note("reasoning"),
        Thinking::Unsaid => {}
        Thinking::Off => out.extend_from_slice(b",\"thinking\":{\"type\":\"disabled\"}"),
        Thinking::Adaptive => out.extend_from_slice(b",\"thinking\":{\"type\":\"adaptive\"}"),
        Thinking::Budget(tokens) => {
            out.extend_from_slice(b",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":");
            number(out, tokens);
            out.push(b'}');
        }
    }
    let schema = match &request.params.format {
        Some(Format::JsonSchema { schema, .. }) => Some(*schema),
        Some(Format::JsonObject) => {
            losses.note("response_format");
            None
        }
        None => None,
    };
    if effort.is_some() || schema.is_some() {
        out.extend_from_slice(b",\"output_config\":{");
        if let Some(effort) = &effort {
            out.extend_from_slice(b"\"effort\":");
            effort.quote(out);
        }
        if let Some(schema) = schema {
            out.extend_from_slice(if effort.is_some() { b"," } else { b"" });
            out.extend_from_slice(b"\"format\":{\"type\":\"json_schema\",\"schema\":");
            out.extend_from_slice(schema);
            out.push(b'}');
        }
        out.push(b'}');
    }
    matches!(thinking, Thinking::Adaptive | Thinking::Budget(_))
}

/// The words for an effort: the API has none below `low`, and models of the 4.6 generation none between `high` and `max`.
fn effort<'a>(words: &Text<'a>, model: Json<'_>) -> Text<'a> {
    match words.inside() {
        b"minimal" => Text::escaped(b"low"),
        b"xhigh" if String::from_utf8_lossy(model).contains("-4-6") => Text::escaped(b"high"),
        _ => words.clone(),
    }
}

/// The budget for words.
fn tokens_of(words: &Text<'_>) -> u64 {
    match words.inside() {
        b"minimal" => BUDGET_MIN,
        b"low" => 2 * 1024,
        b"medium" => 8 * 1024,
        b"high" => 16 * 1024,
        _ => 32 * 1024,
    }
}

/// The words for a budget.
fn words_of(tokens: u64) -> &'static [u8] {
    match tokens {
        0..=2048 => b"low",
        2049..=8192 => b"medium",
        _ => b"high",
    }
}

/// A budget that the API takes beside this bound on all output, which leaves half of it for what is said; `None` if
/// there is none.
fn budget(tokens: u64, most: u64) -> Option<u64> {
    let tokens = if tokens < most { tokens } else { most / 2 };
    let tokens = tokens.max(BUDGET_MIN);
    (tokens < most).then_some(tokens)
}

/// Appends how to sample and where to stop. A model that thinks takes nothing of the first.
fn sampling(request: &Request<'_>, is_free: bool, losses: &mut Losses, out: &mut Vec<u8>) {
    let params = &request.params;
    let temperature = params.temperature.map(|value| claude::temperature(value, losses));
    // Models refuse both together.
    let top_p = params.top_p.filter(|_| temperature.is_none());
    if params.top_p.is_some() && top_p.is_none() {
        losses.note("top_p");
    }
    for (name, value) in [("temperature", temperature), ("top_p", top_p), ("top_k", params.top_k)] {
        match value {
            Some(b"1" | b"1.0") if !is_free && name == "temperature" => {} // the default
            Some(_) if !is_free => losses.note(name),
            Some(value) => {
                for word in [",\"", name, "\":"] {
                    out.extend_from_slice(word.as_bytes());
                }
                out.extend_from_slice(value);
            }
            None => {}
        }
    }
    let missing = [
        ("seed", params.seed),
        ("presence_penalty", params.presence_penalty),
        ("frequency_penalty", params.frequency_penalty),
    ];
    missing.iter().filter(|(_, value)| value.is_some()).for_each(|(name, _)| losses.note(*name));
    let mut is_first = true;
    for text in params.stop.iter().filter(|text| !is_blank(text)) {
        out.extend_from_slice(if std::mem::take(&mut is_first) { b",\"stop_sequences\":[" } else { b"," });
        text.quote(out);
    }
    if !is_first {
        out.push(b']');
    }
    if params.stop.iter().any(is_blank) {
        losses.note("stop");
    }
}
