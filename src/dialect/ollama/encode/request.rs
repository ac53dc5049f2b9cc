//! A request for a backend.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::dialect::neutral::{
    Arguments, Calls, Format, Json, Losses, Part, Reasoning, Request, Role, Source, Target, Text, Tool,
    ToolChoice, ToolKind, Turn, custom, unsupported,
};
use crate::dialect::number;
use crate::error::Fault;

/// Appends the body of a request to `/api/chat`. What is streamed by default has to be said either way.
///
/// # Errors
/// `MemberUnsupported`: what this API cannot carry and would change the meaning if it were dropped.
pub fn request(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
    let mut losses = request.losses.clone();
    out.extend_from_slice(b"{\"model\":");
    out.extend_from_slice(target.model);
    out.extend_from_slice(b",\"messages\":[");
    let mut writer = Messages { out, losses: &mut losses, calls: Calls::default(), is_first: true };
    if !request.system.is_empty() {
        writer.said("system", &request.system.iter().collect::<Vec<_>>(), "\\n\\n")?;
    }
    // Neighbours of the user are told together: clients of OpenAI's write each result as a message of its own.
    for turns in request.turns.chunk_by(|one, next| one.role == Role::User && next.role == Role::User) {
        writer.turns(turns)?;
    }
    out.extend_from_slice(b"],\"stream\":");
    out.extend_from_slice(if request.stream { b"true" } else { b"false" });
    tools(request, out, &mut losses)?;
    request.note_strict(&mut losses);
    if let Some(format) = &request.params.format {
        out.extend_from_slice(b",\"format\":");
        out.extend_from_slice(match format {
            Format::JsonObject => b"\"json\"",
            Format::JsonSchema { schema, .. } => schema,
        });
    }
    think(request.params.reasoning.as_ref(), target.model, out, &mut losses);
    options(request, out);
    if request.params.user.is_some() {
        losses.note("user");
    }
    out.push(b'}');
    Ok(losses)
}

/// The list of messages as it is written.
struct Messages<'o, 'r> {
    out: &'o mut Vec<u8>,
    losses: &'o mut Losses,
    /// Calls so far.
    calls: Calls<'r>,
    is_first: bool,
}

impl<'r> Messages<'_, 'r> {
    /// Begins a message, up to the quote that opens its content.
    fn open(&mut self, role: &str) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push(b',');
        }
        self.text("{\"role\":\"");
        self.text(role);
        self.text("\",\"content\":\"");
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Turns of one side, one after the other.
    fn turns(&mut self, turns: &[Turn<'r>]) -> Result<(), Fault> {
        let results = self.results(turns);
        results.iter().for_each(|result| self.result(result));
        turns.iter().try_for_each(|turn| match turn.role {
            Role::System => self.said("system", &turn.parts.iter().collect::<Vec<_>>(), "\\n\\n"),
            Role::User => self.user(&turn.parts),
            Role::Assistant => self.assistant(&turn.parts),
        })
    }

    /// The results of tools in turns of the user, in the order in which they are told. Calls have no ids here: a model pairs
    /// the results of one tool with its calls by their order.
    fn results<'p>(&mut self, turns: &'p [Turn<'r>]) -> Vec<ToolResult<'p, 'r>> {
        let mut results = Vec::new();
        let users = turns.iter().filter(|turn| turn.role == Role::User);
        for part in users.flat_map(|turn| &turn.parts) {
            let Part::ToolResult { id, name, parts, is_error } = part else { continue };
            let (call, name) = self.call_of(id, name.as_ref());
            results.push(ToolResult { call, name, parts, is_error: *is_error });
        }
        let mut by_name: HashMap<Cow<'_, [u8]>, Vec<usize>> = HashMap::new();
        for (place, result) in results.iter().enumerate() {
            by_name.entry(result.name.as_ref().map(Text::key).unwrap_or_default()).or_default().push(place);
        }
        let mut order: Vec<usize> = (0..results.len()).collect();
        for places in by_name.into_values().filter(|places| places.len() > 1) {
            let mut sorted = places.clone();
            sorted.sort_by_key(|place| results[*place].call); // keeps the order of equals
            places.iter().zip(sorted).for_each(|(place, result)| order[*place] = result);
        }
        order.into_iter().map(|place| results[place].clone()).collect()
    }

    /// A result of a tool, with the texts in it.
    fn result(&mut self, result: &ToolResult<'_, 'r>) {
        self.open("tool");
        if result.is_error {
            self.text("Error: ");
        }
        let texts: Vec<_> = result.parts.iter().filter(|part| text_of(part).is_some()).collect();
        self.joined(&texts, "\\n");
        self.text("\"");
        if let Some(name) = &result.name {
            self.text(",\"tool_name\":");
            name.quote(self.out);
        }
        self.text("}");
    }

    /// What a user says, and what results hold beside text.
    fn user(&mut self, parts: &[Part<'r>]) -> Result<(), Fault> {
        let mut rest: Vec<&Part<'_>> = Vec::new();
        let mut has_results = false;
        for part in parts {
            if let Part::ToolResult { parts, .. } = part {
                has_results = true;
                rest.extend(parts.iter().filter(|part| text_of(part).is_none()));
            }
        }
        rest.extend(parts.iter().filter(|part| !matches!(part, Part::ToolResult { .. })));
        if has_results && rest.is_empty() { Ok(()) } else { self.said("user", &rest, "\\n") }
    }

    /// The call that a result is of, by its number, and its tool.
    fn call_of(&mut self, id: &Text<'r>, name: Option<&Text<'r>>) -> (usize, Option<Text<'r>>) {
        let says_nothing = name.is_none() && id.is_empty();
        let call = self.calls.pair(id, name);
        match call.or_else(|| if says_nothing { self.calls.take_first() } else { None }) {
            Some(call) => (call, Some(self.calls.name(call).clone())),
            None => (usize::MAX, name.cloned()),
        }
    }

    /// A message of texts and images.
    fn said(&mut self, role: &str, parts: &[&Part<'_>], between: &str) -> Result<(), Fault> {
        self.open(role);
        self.joined(parts, between);
        self.text("\"");
        let mut images = 0;
        for part in parts.iter().filter(|part| text_of(part).is_none()) {
            let data = match part {
                Part::Image(Source::Base64 { data, .. }) => data,
                Part::Image(Source::Url(_)) => {
                    return Err(unsupported(
                        "image_url",
                        "is a link, which the backends of this model do not follow; send the image in base64",
                    ));
                }
                Part::Image(_) => {
                    return Err(unsupported(
                        "image",
                        "by file id cannot be sent to the backends of this model",
                    ));
                }
                Part::Audio { .. } => {
                    return Err(unsupported("input_audio", "cannot be sent to the backends of this model"));
                }
                Part::Document { .. } => {
                    return Err(unsupported(
                        "document",
                        "can be sent to the backends of this model as text only",
                    ));
                }
                _ => return Err(unsupported("content", "has a part that only an assistant can have")),
            };
            self.text(if images == 0 { ",\"images\":[" } else { "," });
            images += 1;
            data.quote(self.out);
        }
        self.text(if images == 0 { "}" } else { "]}" });
        Ok(())
    }

    /// The texts among some parts.
    fn joined(&mut self, parts: &[&Part<'_>], between: &str) {
        let mut is_first = true;
        for text in parts.iter().filter_map(|part| text_of(part)) {
            if !std::mem::replace(&mut is_first, false) {
                self.text(between);
            }
            self.out.extend_from_slice(text.inside());
        }
    }

    /// What the model said: its text in one piece, its thoughts, its calls.
    fn assistant(&mut self, parts: &[Part<'r>]) -> Result<(), Fault> {
        self.open("assistant");
        for text in parts.iter().filter_map(text_of) {
            self.out.extend_from_slice(text.inside());
        }
        self.text("\"");
        let mut thoughts = 0;
        for part in parts {
            match part {
                Part::Thinking { text, signature } => {
                    if signature.is_some() {
                        self.losses.note("thinking.signature");
                    }
                    self.text(if thoughts == 0 { ",\"thinking\":\"" } else { "\\n" });
                    thoughts += 1;
                    self.out.extend_from_slice(text.inside());
                }
                Part::Redacted(_) => self.losses.note("redacted_thinking"),
                Part::Image(_) | Part::Document { .. } | Part::Audio { .. } if text_of(part).is_none() => {
                    return Err(unsupported("assistant", "may hold text only"));
                }
                _ => {}
            }
        }
        if thoughts > 0 {
            self.text("\"");
        }
        let calls = parts.iter().filter(|part| matches!(part, Part::ToolCall { .. }));
        for (index, part) in calls.enumerate() {
            let Part::ToolCall { id, name, arguments, is_custom } = part else { continue };
            self.calls.push(id, name);
            self.text(if index == 0 { ",\"tool_calls\":[" } else { "," });
            self.text("{\"function\":{\"name\":");
            name.quote(self.out);
            self.text(",\"arguments\":");
            match (is_custom, arguments) {
                (true, Arguments::Quoted(text)) => custom::wrap(text, self.out),
                _ => arguments.write_object(self.out),
            }
            self.text("}}");
        }
        let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        self.text(if has_calls { "]}" } else { "}" });
        Ok(())
    }
}

/// What a call brought.
#[derive(Clone)]
struct ToolResult<'p, 'r> {
    /// The number of the call; the largest one if it is not known.
    call: usize,
    name: Option<Text<'r>>,
    parts: &'p [Part<'r>],
    is_error: bool,
}

/// The text of a part, if it has one.
fn text_of<'p>(part: &'p Part<'_>) -> Option<&'p Text<'p>> {
    match part {
        Part::Text(text) | Part::Refusal(text) | Part::Document { source: Source::Text(text), .. } => {
            Some(text)
        }
        _ => None,
    }
}

/// The tools. There is no member that makes the model call one; that it may call none is said by leaving them out.
fn tools(request: &Request<'_>, out: &mut Vec<u8>, losses: &mut Losses) -> Result<(), Fault> {
    match &request.tool_choice {
        _ if request.tools.is_empty() => return Ok(()),
        Some(ToolChoice::None) => return Ok(()),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            return Err(unsupported(
                "tool_choice",
                "cannot be enforced by the backends of this model; use auto",
            ));
        }
        Some(ToolChoice::Auto) | None => {}
    }
    if request.parallel_calls == Some(false) {
        losses.note("parallel_tool_calls");
    }
    for (index, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"tools\":[" } else { b"," });
        self::tool(tool, out);
    }
    out.push(b']');
    Ok(())
}

fn tool(tool: &Tool<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
    tool.name.quote(out);
    if let Some(description) = &tool.description {
        out.extend_from_slice(b",\"description\":");
        description.quote(out);
    }
    let schema: Json<'_> = match &tool.kind {
        ToolKind::Function { schema, .. } => schema.unwrap_or(NO_PARAMETERS),
        ToolKind::Custom { .. } => custom::SCHEMA,
    };
    out.extend_from_slice(b",\"parameters\":");
    out.extend_from_slice(schema);
    out.extend_from_slice(b"}}");
}

/// The schema of a function that takes nothing.
const NO_PARAMETERS: Json<'static> = br#"{"type":"object","properties":{}}"#;

/// How much to think. A model that can think does so by default, and one that cannot refuses every wish but `false`; agents send
/// their effort to all models alike. So a level is said only to those that have levels. A number of tokens has no place here.
fn think(reasoning: Option<&Reasoning<'_>>, model: Json<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let has_levels = String::from_utf8_lossy(model).contains("gpt-oss");
    let level = match reasoning {
        None | Some(Reasoning::Adaptive) => return,
        Some(Reasoning::Budget(_)) => return losses.note("reasoning"),
        Some(Reasoning::Off) => "false",
        Some(Reasoning::Effort(word)) => match word.to_plain().as_deref() {
            Some("none") => "false",
            Some("minimal" | "low") if has_levels => "\"low\"",
            Some("medium") if has_levels => "\"medium\"",
            Some("high" | "xhigh" | "max") if has_levels => "\"high\"",
            _ => return losses.note("reasoning"),
        },
    };
    out.extend_from_slice(b",\"think\":");
    out.extend_from_slice(level.as_bytes());
}

fn options(request: &Request<'_>, out: &mut Vec<u8>) {
    let params = &request.params;
    let start = out.len();
    let name = |name: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(if out.len() == start { b",\"options\":{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    };
    if let Some(most) = params.output_max {
        name("num_predict", out);
        number(out, most);
    }
    for (member, value) in [
        ("temperature", params.temperature),
        ("top_p", params.top_p),
        ("top_k", params.top_k),
        ("seed", params.seed),
        ("presence_penalty", params.presence_penalty),
        ("frequency_penalty", params.frequency_penalty),
    ] {
        if let Some(value) = value {
            name(member, out);
            out.extend_from_slice(value);
        }
    }
    for (index, text) in params.stop.iter().enumerate() {
        match index {
            0 => {
                name("stop", out);
                out.push(b'[');
            }
            _ => out.push(b','),
        }
        text.quote(out);
    }
    if !params.stop.is_empty() {
        out.push(b']');
    }
    if out.len() > start {
        out.push(b'}');
    }
}
