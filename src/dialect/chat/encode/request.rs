//! A request for a backend.

use std::borrow::Cow;

use crate::dialect::neutral::{
    Arguments, CallIds, Format, Json, Losses, Part, Reasoning, Request, Role, Source, Target, Text, Tool,
    ToolChoice, ToolKind, Turn, custom, unsupported,
};
use crate::error::Fault;

/// Appends the body of a request.
///
/// # Errors
/// `MemberUnsupported`: a part that chat completions cannot carry.
pub fn request(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> Result<Losses, Fault> {
    let mut losses = request.losses.clone();
    out.extend_from_slice(b"{\"model\":");
    out.extend_from_slice(target.model);
    out.extend_from_slice(b",\"messages\":[");
    let mut writer =
        Messages { out, ids: CallIds::new(|id| !id.is_empty()), target, losses: &mut losses, is_first: true };
    writer.system(&request.system)?;
    for turn in &request.turns {
        writer.turn(turn)?;
    }
    out.push(b']');
    if request.stream {
        out.extend_from_slice(b",\"stream\":true");
        if target.takes_stream_options {
            out.extend_from_slice(b",\"stream_options\":{\"include_usage\":true}");
        }
    }
    tools(request, out);
    params(request, target, out, &mut losses);
    out.push(b'}');
    Ok(losses)
}

/// The list of messages as it is written.
struct Messages<'o, 't, 'r> {
    out: &'o mut Vec<u8>,
    ids: CallIds<'r>,
    target: &'t Target<'t>,
    losses: &'o mut Losses,
    is_first: bool,
}

impl<'r> Messages<'_, '_, 'r> {
    /// Begins a message, up to the members behind its role.
    fn open(&mut self, role: &str) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push(b',');
        }
        self.text("{\"role\":\"");
        self.text(role);
        self.text("\"");
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// One leading message, its texts apart by a blank line: templates of many engines take one, and only text.
    fn system(&mut self, parts: &[Part<'_>]) -> Result<(), Fault> {
        if parts.is_empty() {
            return Ok(());
        }
        self.open("system");
        self.text(",\"content\":");
        self.joined(parts, "\\n\\n", "system")?;
        self.text("}");
        Ok(())
    }

    fn turn(&mut self, turn: &Turn<'r>) -> Result<(), Fault> {
        match turn.role {
            Role::System => {
                self.open("system");
                self.text(",\"content\":");
                self.joined(&turn.parts, "\\n\\n", "system")?;
                self.text("}");
                Ok(())
            }
            Role::User => self.user(&turn.parts),
            Role::Assistant => self.assistant(&turn.parts),
        }
    }

    /// Results of tools first, one message each and together, then what they hold beside text, then what is said.
    fn user(&mut self, parts: &[Part<'r>]) -> Result<(), Fault> {
        let mut pictures = Vec::new();
        let mut has_results = false;
        for part in parts {
            let Part::ToolResult { id, name, parts, is_error } = part else { continue };
            let id = self.ids.result(id, name.as_ref());
            has_results = true;
            self.open("tool");
            self.text(",\"tool_call_id\":");
            id.quote(self.out);
            self.text(",\"content\":\"");
            if *is_error {
                self.text("Error: ");
            }
            let mut is_first = true;
            for part in parts {
                match part {
                    Part::Text(text) | Part::Document { source: Source::Text(text), .. } => {
                        if !std::mem::replace(&mut is_first, false) {
                            self.text("\\n");
                        }
                        self.out.extend_from_slice(text.inside());
                    }
                    other => pictures.push(other),
                }
            }
            self.text("\"}");
        }
        let said: Vec<&Part<'_>> =
            parts.iter().filter(|part| !matches!(part, Part::ToolResult { .. })).collect();
        pictures.extend(said);
        if has_results && pictures.is_empty() {
            return Ok(());
        }
        self.open("user");
        self.text(",\"content\":");
        self.content(&pictures)?;
        self.text("}");
        Ok(())
    }

    /// A string if it is one text, else a list of parts.
    fn content(&mut self, parts: &[&Part<'_>]) -> Result<(), Fault> {
        match parts {
            [] => self.text("\"\""),
            [Part::Text(text)] => text.quote(self.out),
            _ => {
                self.text("[");
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        self.text(",");
                    }
                    self.part(part)?;
                }
                self.text("]");
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &Part<'_>) -> Result<(), Fault> {
        match part {
            Part::Text(text) | Part::Refusal(text) | Part::Document { source: Source::Text(text), .. } => {
                self.text("{\"type\":\"text\",\"text\":");
                text.quote(self.out);
            }
            Part::Image(source) => {
                self.text("{\"type\":\"image_url\",\"image_url\":{\"url\":\"");
                self.source(source, "image")?;
                self.text("\"}");
            }
            Part::Audio { data, format } => {
                self.text("{\"type\":\"input_audio\",\"input_audio\":{\"data\":");
                data.quote(self.out);
                self.text(",\"format\":");
                format.quote(self.out);
                self.text("}");
            }
            Part::Document { source: Source::File(id), .. } => {
                self.text("{\"type\":\"file\",\"file\":{\"file_id\":");
                id.quote(self.out);
                self.text("}");
            }
            Part::Document { source, title } => {
                self.text("{\"type\":\"file\",\"file\":{\"file_data\":\"");
                if matches!(source, Source::Url(_)) {
                    return Err(unsupported(
                        "document",
                        "by URL cannot be sent to the backends of this model",
                    ));
                }
                self.source(source, "document")?;
                self.text("\",\"filename\":");
                title.as_ref().unwrap_or(&Text::escaped(b"document")).quote(self.out);
                self.text("}");
            }
            Part::Thinking { .. } | Part::Redacted(_) | Part::ToolCall { .. } | Part::ToolResult { .. } => {
                return Err(unsupported("content", "has a part that only an assistant can have"));
            }
        }
        self.text("}");
        Ok(())
    }

    /// The URL of a source, without quotes.
    fn source(&mut self, source: &Source<'_>, what: &str) -> Result<(), Fault> {
        match source {
            Source::Url(url) => self.out.extend_from_slice(url.inside()),
            Source::Base64 { media_type, data } => {
                self.text("data:");
                self.out.extend_from_slice(media_type.inside());
                self.text(";base64,");
                self.out.extend_from_slice(data.inside());
            }
            Source::File(_) | Source::Text(_) => {
                return Err(unsupported(what, "by file id cannot be sent to the backends of this model"));
            }
        }
        Ok(())
    }

    /// What the model said: its thoughts where the backend takes them back, its text in one piece, its calls.
    fn assistant(&mut self, parts: &[Part<'r>]) -> Result<(), Fault> {
        self.open("assistant");
        let said: Vec<Part<'_>> =
            parts.iter().filter(|part| matches!(part, Part::Text(_) | Part::Refusal(_))).cloned().collect();
        let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        self.text(",\"content\":");
        match said.is_empty() && has_calls {
            true => self.text("null"),
            false => self.joined(&said, "", "assistant")?,
        }
        self.thoughts(parts);
        let calls = parts.iter().filter(|part| matches!(part, Part::ToolCall { .. }));
        for (index, part) in calls.enumerate() {
            let Part::ToolCall { id, name, arguments, is_custom } = part else { continue };
            let id = self.ids.call(id, name);
            self.text(if index == 0 { ",\"tool_calls\":[{\"id\":" } else { ",{\"id\":" });
            id.quote(self.out);
            self.text(",\"type\":\"function\",\"function\":{\"name\":");
            name.quote(self.out);
            self.text(",\"arguments\":");
            match is_custom {
                false => arguments.write_string(self.out),
                true => {
                    let mut object = Vec::new();
                    custom::wrap(&free_text(arguments), &mut object);
                    Arguments::Value(&object).write_string(self.out);
                }
            }
            self.text("}}");
        }
        self.text(if has_calls { "]}" } else { "}" });
        Ok(())
    }

    fn thoughts(&mut self, parts: &[Part<'_>]) {
        let thoughts = parts.iter().filter_map(|part| match part {
            Part::Thinking { text, .. } => Some(text),
            _ => None,
        });
        let mut is_first = true;
        for text in thoughts {
            if !self.target.takes_extras {
                return self.losses.note("thinking");
            }
            self.text(if is_first { ",\"reasoning_content\":\"" } else { "\\n" });
            is_first = false;
            self.out.extend_from_slice(text.inside());
        }
        if !is_first {
            self.text("\"");
        }
        if parts.iter().any(|part| matches!(part, Part::Redacted(_))) {
            self.losses.note("redacted_thinking");
        }
    }

    /// Texts in one string.
    fn joined(&mut self, parts: &[Part<'_>], between: &str, whose: &str) -> Result<(), Fault> {
        self.text("\"");
        for (index, part) in parts.iter().enumerate() {
            let (Part::Text(text) | Part::Refusal(text)) = part else {
                return Err(unsupported(whose, "may hold text only"));
            };
            if index > 0 {
                self.text(between);
            }
            self.out.extend_from_slice(text.inside());
        }
        self.text("\"");
        Ok(())
    }
}

/// What a tool for free text was called with.
fn free_text<'a>(arguments: &Arguments<'a>) -> Text<'a> {
    match arguments {
        Arguments::Quoted(text) => text.clone(),
        Arguments::Value(value) => Text::plain(&String::from_utf8_lossy(value)),
    }
}

fn tools(request: &Request<'_>, out: &mut Vec<u8>) {
    for (index, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"tools\":[" } else { b"," });
        self::tool(tool, out);
    }
    if request.tools.is_empty() {
        return; // a choice without tools is refused by backends
    }
    out.push(b']');
    if let Some(choice) = &request.tool_choice {
        out.extend_from_slice(b",\"tool_choice\":");
        match choice {
            ToolChoice::Auto => out.extend_from_slice(b"\"auto\""),
            ToolChoice::None => out.extend_from_slice(b"\"none\""),
            ToolChoice::Required => out.extend_from_slice(b"\"required\""),
            ToolChoice::Named(name) => {
                out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
                name.quote(out);
                out.extend_from_slice(b"}}");
            }
        }
    }
    match request.parallel_calls {
        Some(true) => out.extend_from_slice(b",\"parallel_tool_calls\":true"),
        Some(false) => out.extend_from_slice(b",\"parallel_tool_calls\":false"),
        None => {}
    }
}

fn tool(tool: &Tool<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
    tool.name.quote(out);
    if let Some(description) = &tool.description {
        out.extend_from_slice(b",\"description\":");
        description.quote(out);
    }
    let (schema, strict): (Json<'_>, _) = match &tool.kind {
        ToolKind::Function { schema, strict } => (schema.unwrap_or(NO_PARAMETERS), *strict),
        ToolKind::Custom { .. } => (custom::SCHEMA, None),
    };
    out.extend_from_slice(b",\"parameters\":");
    out.extend_from_slice(schema);
    match strict {
        Some(true) => out.extend_from_slice(b",\"strict\":true}}"),
        Some(false) | None => out.extend_from_slice(b"}}"),
    }
}

/// The schema of a function that takes nothing.
const NO_PARAMETERS: Json<'static> = br#"{"type":"object","properties":{}}"#;

fn params(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>, losses: &mut Losses) {
    let params = &request.params;
    let mut member = |name: &str, value: Json<'_>| {
        for piece in [b",\"", name.as_bytes(), b"\":", value] {
            out.extend_from_slice(piece);
        }
    };
    if let Some(most) = params.output_max {
        member(target.output_cap_member, itoa::Buffer::new().format(most).as_bytes());
    }
    for (name, value) in [
        ("temperature", params.temperature),
        ("top_p", params.top_p),
        ("seed", params.seed),
        ("presence_penalty", params.presence_penalty),
        ("frequency_penalty", params.frequency_penalty),
    ] {
        if let Some(value) = value {
            member(name, value);
        }
    }
    match params.top_k {
        Some(value) if target.takes_extras => member("top_k", value),
        Some(_) => losses.note("top_k"),
        None => {}
    }
    match params.reasoning.as_ref().map(effort) {
        Some(Some(effort)) => member("reasoning_effort", format!("\"{effort}\"").as_bytes()),
        Some(None) => losses.note("reasoning"),
        None => {}
    }
    stop(&params.stop, out);
    if let Some(user) = &params.user {
        out.extend_from_slice(b",\"user\":");
        user.quote(out);
    }
    if let Some(format) = &params.format {
        self::format(format, out);
    }
}

/// OpenAI's word for an amount of thinking; `None` where it has none. A budget counts as the effort that takes about as
/// many tokens.
fn effort(reasoning: &Reasoning<'_>) -> Option<Cow<'static, str>> {
    match reasoning {
        Reasoning::Budget(..=2_048) => Some("low".into()),
        Reasoning::Budget(..=8_192) => Some("medium".into()),
        Reasoning::Budget(_) => Some("high".into()),
        Reasoning::Effort(word) => match word.to_plain()?.as_ref() {
            "minimal" | "low" => Some("low".into()),
            "medium" => Some("medium".into()),
            "high" | "xhigh" | "max" => Some("high".into()),
            _ => None,
        },
        Reasoning::Off | Reasoning::Adaptive => None,
    }
}

fn stop(stop: &[Text<'_>], out: &mut Vec<u8>) {
    for (index, text) in stop.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"stop\":[" } else { b"," });
        text.quote(out);
    }
    if !stop.is_empty() {
        out.push(b']');
    }
}

fn format(format: &Format<'_>, out: &mut Vec<u8>) {
    match format {
        Format::JsonObject => out.extend_from_slice(b",\"response_format\":{\"type\":\"json_object\"}"),
        Format::JsonSchema { name, schema, strict } => {
            out.extend_from_slice(
                b",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":",
            );
            name.as_ref().unwrap_or(&Text::escaped(b"output")).quote(out);
            out.extend_from_slice(b",\"schema\":");
            out.extend_from_slice(schema);
            out.extend_from_slice(match strict {
                Some(false) => b",\"strict\":false}}".as_slice(),
                Some(true) | None => b",\"strict\":true}}",
            });
        }
    }
}
