//! The conversation of a request as items.

use crate::dialect::neutral::{
    CallIds, Losses, Names, Part, Request, Role, Source, Text, Turn, seal, unsupported,
};
use crate::error::Fault;

/// Most bytes of a call's id that OpenAI takes.
const CALL_ID_BYTES_MAX: usize = 64;

/// The items of a request, written out.
pub(super) struct Input<'a> {
    items: Vec<u8>,
    ids: CallIds<'a>,
    /// The calls of free-text tools, by id: their results are items of another type.
    custom: Names<'a>,
    /// Whether a sealed thought is among them.
    pub(super) has_sealed_thoughts: bool,
}

/// The turns of a request without those that are a part of its instructions.
pub(super) fn later_turns<'r, 'a>(request: &'r Request<'a>) -> &'r [Turn<'a>] {
    let first = request.turns.iter().position(|turn| turn.role != Role::System);
    &request.turns[first.unwrap_or(request.turns.len())..]
}

impl<'a> Input<'a> {
    pub(super) fn of(request: &Request<'a>, losses: &mut Losses) -> Result<Self, Fault> {
        let ids = CallIds::new(|id| !id.is_empty() && id.len() <= CALL_ID_BYTES_MAX);
        let mut input = Self { items: Vec::new(), ids, custom: Names::default(), has_sealed_thoughts: false };
        for turn in later_turns(request) {
            match turn.role {
                Role::Assistant => input.assistant(turn, losses)?,
                Role::User => input.user(turn, "user", losses)?,
                Role::System => input.user(turn, "developer", losses)?,
            }
        }
        Ok(input)
    }

    /// Appends the list.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        out.extend_from_slice(&self.items);
        out.push(b']');
    }

    /// Begins an item.
    fn open(&mut self, kind: &str) {
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        super::words(&["{\"type\":\"", kind, "\""], &mut self.items);
    }

    fn member(&mut self, name: &str, text: &Text<'_>) {
        member(name, text, &mut self.items);
    }

    /// Results first and together, then what the user says.
    fn user(&mut self, turn: &Turn<'a>, role: &str, losses: &mut Losses) -> Result<(), Fault> {
        let mut content = Vec::new();
        for part in &turn.parts {
            match part {
                Part::ToolResult { id, name, parts, is_error } => {
                    self.result(id, name.as_ref(), parts, *is_error, losses)?;
                }
                _ => piece(part, losses, &mut content)?,
            }
        }
        if !content.is_empty() {
            self.open("message");
            super::words(&[",\"role\":\"", role, "\",\"content\":["], &mut self.items);
            self.items.extend_from_slice(&content);
            self.items.extend_from_slice(b"]}");
        }
        Ok(())
    }

    fn assistant(&mut self, turn: &Turn<'a>, losses: &mut Losses) -> Result<(), Fault> {
        for part in &turn.parts {
            match part {
                Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
                Part::Text(text) => self.said("{\"type\":\"output_text\",\"annotations\":[],\"text\":", text),
                Part::Refusal(text) => self.said("{\"type\":\"refusal\",\"refusal\":", text),
                Part::Thinking { text, signature } => match signature {
                    Some(signature) if !signature.is_empty() && !seal::is_googles(signature) => {
                        self.thought(text, signature)
                    }
                    _ => losses.note("reasoning"),
                },
                Part::Redacted(_) => losses.note("reasoning"),
                Part::ToolCall { id, name, arguments, is_custom } => {
                    let id = self.ids.call(id, name);
                    self.open(if *is_custom { "custom_tool_call" } else { "function_call" });
                    self.member("call_id", &id);
                    self.member("name", name);
                    let label: &[u8] = if *is_custom { b",\"input\":" } else { b",\"arguments\":" };
                    self.items.extend_from_slice(label);
                    arguments.write_string(&mut self.items);
                    self.items.push(b'}');
                    if *is_custom {
                        self.custom.insert(&id);
                    }
                }
                Part::Image(_) | Part::Document { .. } | Part::Audio { .. } => {
                    losses.note("assistant.content.image");
                }
                Part::ToolResult { .. } => {} // not the model's
            }
        }
        Ok(())
    }

    fn said(&mut self, part: &str, text: &Text<'_>) {
        self.open("message");
        super::words(&[",\"role\":\"assistant\",\"content\":[", part], &mut self.items);
        text.quote(&mut self.items);
        self.items.extend_from_slice(b"}]}");
    }

    fn thought(&mut self, text: &Text<'_>, signature: &Text<'_>) {
        self.has_sealed_thoughts = true;
        self.open("reasoning");
        self.items.extend_from_slice(b",\"summary\":[");
        if !text.is_empty() {
            self.items.extend_from_slice(b"{\"type\":\"summary_text\",\"text\":");
            text.quote(&mut self.items);
            self.items.push(b'}');
        }
        self.items.push(b']');
        self.member("encrypted_content", signature);
        self.items.push(b'}');
    }

    /// The output is a string if there is text only, else a list. The API has no sign of a failure, so that the text says it.
    fn result(
        &mut self,
        id: &Text<'a>,
        name: Option<&Text<'a>>,
        parts: &[Part<'a>],
        is_error: bool,
        losses: &mut Losses,
    ) -> Result<(), Fault> {
        let id = self.ids.result(id, name);
        let is_custom = self.custom.contains(&id);
        self.open(if is_custom { "custom_tool_call_output" } else { "function_call_output" });
        self.member("call_id", &id);
        self.items.extend_from_slice(b",\"output\":");
        let mark = if is_error { Text::escaped(b"Error: ") } else { Text::default() };
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            let mut output = mark;
            for (index, part) in parts.iter().enumerate() {
                let Part::Text(text) = part else { continue };
                if index > 0 {
                    output.push(&Text::escaped(b"\\n"));
                }
                output.push(text);
            }
            output.quote(&mut self.items);
        } else {
            let mut content = Vec::new();
            if is_error {
                piece(&Part::Text(mark), losses, &mut content)?;
            }
            for part in parts {
                piece(part, losses, &mut content)?;
            }
            self.items.push(b'[');
            self.items.extend_from_slice(&content);
            self.items.push(b']');
        }
        self.items.push(b'}');
        Ok(())
    }
}

fn member(name: &str, text: &Text<'_>, out: &mut Vec<u8>) {
    super::words(&[",\"", name, "\":"], out);
    text.quote(out);
}

/// Appends a part of what a user says or a tool brings; nothing for an empty text.
fn piece(part: &Part<'_>, losses: &mut Losses, out: &mut Vec<u8>) -> Result<(), Fault> {
    if matches!(part, Part::Text(text) | Part::Refusal(text) if text.is_empty()) {
        return Ok(());
    }
    let before = out.len();
    if before > 0 {
        out.push(b',');
    }
    match part {
        Part::Text(text) | Part::Refusal(text) => {
            out.extend_from_slice(b"{\"type\":\"input_text\"");
            member("text", text, out);
        }
        Part::Image(source) => image(source, out),
        Part::Document { source, title } => document(source, title.as_ref(), out)?,
        Part::Audio { data, format } => {
            out.extend_from_slice(b"{\"type\":\"input_audio\",\"input_audio\":{\"data\":");
            data.quote(out);
            member("format", format, out);
            out.push(b'}');
        }
        _ => {
            losses.note("reasoning");
            out.truncate(before);
            return Ok(());
        }
    }
    out.push(b'}');
    Ok(())
}

fn image(source: &Source<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"input_image\"");
    match source {
        Source::File(id) => member("file_id", id, out),
        _ => {
            out.extend_from_slice(b",\"image_url\":");
            url(source, out);
        }
    }
}

/// A document; one that is text only becomes a text under its title.
fn document(source: &Source<'_>, title: Option<&Text<'_>>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match source {
        Source::Text(text) => {
            out.extend_from_slice(b"{\"type\":\"input_text\",\"text\":\"");
            if let Some(title) = title.filter(|title| !title.is_empty()) {
                out.extend_from_slice(title.inside());
                out.extend_from_slice(b"\\n\\n");
            }
            out.extend_from_slice(text.inside());
            out.push(b'"');
        }
        Source::Base64 { media_type, .. } if media_type.inside().starts_with(b"image/") => image(source, out),
        Source::Base64 { .. } => {
            out.extend_from_slice(b"{\"type\":\"input_file\"");
            // Data without a name is refused.
            member(
                "filename",
                title.filter(|title| !title.is_empty()).unwrap_or(&Text::escaped(b"document.pdf")),
                out,
            );
            out.extend_from_slice(b",\"file_data\":");
            url(source, out);
        }
        Source::Url(url) => {
            out.extend_from_slice(b"{\"type\":\"input_file\"");
            member("file_url", url, out);
        }
        // OpenAI's ids of files; Anthropic's have a '_' there.
        Source::File(id) if id.inside().starts_with(b"file-") => {
            out.extend_from_slice(b"{\"type\":\"input_file\"");
            member("file_id", id, out);
        }
        Source::File(_) => {
            return Err(unsupported("file_id", "names a file that the backends of this model do not have"));
        }
    }
    Ok(())
}

/// Appends where a source is as a URL.
fn url(source: &Source<'_>, out: &mut Vec<u8>) {
    match source {
        Source::Base64 { media_type, data } => {
            out.extend_from_slice(b"\"data:");
            out.extend_from_slice(media_type.inside());
            out.extend_from_slice(b";base64,");
            out.extend_from_slice(data.inside());
            out.push(b'"');
        }
        Source::Url(text) | Source::Text(text) | Source::File(text) => text.quote(out),
    }
}
