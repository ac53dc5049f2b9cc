//! The conversation of a request: roles alternate, results of tools come first in their turn.

use crate::dialect::neutral::{
    Arguments, CallIds, Losses, Names, Part, Request, Role, Source, Text, Turn, custom, seal, unsupported,
};
use crate::error::Fault;

/// The messages of a request, and what of them decides about its other members.
#[derive(Default)]
pub(super) struct History<'a> {
    messages: Vec<Message>,
    /// The tools that were called.
    pub(super) called: Names<'a>,
}

/// One message. Its blocks are written out, with commas.
struct Message {
    role: Role,
    /// Results of tools: they come first, as they have to follow the calls directly.
    results: Vec<u8>,
    blocks: Vec<u8>,
    /// Calls of tools: they come last, for the same reason.
    calls: Vec<u8>,
    starts_with_thought: bool,
}

/// The turns of a request without those that are a part of the system prompt.
pub(super) fn later_turns<'r, 'a>(request: &'r Request<'a>) -> &'r [Turn<'a>] {
    let first = request.turns.iter().position(|turn| turn.role != Role::System);
    &request.turns[first.unwrap_or(request.turns.len())..]
}

impl<'a> History<'a> {
    pub(super) fn of(request: &Request<'a>, losses: &mut Losses) -> Result<Self, Fault> {
        let mut history = Self::default();
        let mut ids = CallIds::new(is_id);
        for turn in later_turns(request) {
            history.add(turn, &mut ids, losses)?;
        }
        Ok(history)
    }

    /// Appends a turn. One that says nothing vanishes; a neighbour of the same role takes it in.
    fn add(&mut self, turn: &Turn<'a>, ids: &mut CallIds<'a>, losses: &mut Losses) -> Result<(), Fault> {
        let mut message = Message {
            role: if turn.role == Role::Assistant { Role::Assistant } else { Role::User },
            results: Vec::new(),
            blocks: Vec::new(),
            calls: Vec::new(),
            starts_with_thought: false,
        };
        if turn.role == Role::System {
            losses.note("system"); // its place is kept, its rank is not
        }
        // A thought has to come before what it led to; where the client has another order, thoughts go to the front.
        let is_kept = |part: &&Part<'_>| !is_unsigned(part) && !is_blank_part(part);
        message.starts_with_thought = turn.parts.iter().find(is_kept).is_some_and(is_thought);
        let thoughts_first = !message.starts_with_thought;
        if thoughts_first {
            for part in turn.parts.iter().filter(|part| is_thought(part)) {
                message.starts_with_thought |= !is_unsigned(part);
                self.part(part, &mut message, ids, losses)?;
            }
        }
        for part in turn.parts.iter().filter(|part| !thoughts_first || !is_thought(part)) {
            self.part(part, &mut message, ids, losses)?;
        }
        if [&message.results, &message.blocks, &message.calls].iter().all(|blocks| blocks.is_empty()) {
            return Ok(());
        }
        match self.messages.last_mut().filter(|last| last.role == message.role) {
            Some(last) => {
                append(&mut last.results, &message.results);
                append(&mut last.blocks, &message.blocks);
                append(&mut last.calls, &message.calls);
            }
            None => self.messages.push(message),
        }
        Ok(())
    }

    fn part(
        &mut self,
        part: &Part<'a>,
        message: &mut Message,
        ids: &mut CallIds<'a>,
        losses: &mut Losses,
    ) -> Result<(), Fault> {
        match part {
            Part::ToolResult { id, name, parts, is_error } => {
                let mut block = Vec::new();
                let id = ids.result(id, name.as_ref());
                result(&id, parts, *is_error, losses, &mut block)?;
                append(&mut message.results, &block);
            }
            Part::ToolCall { id, name, arguments, is_custom } => {
                self.called.insert(name);
                let out = &mut message.calls;
                comma(out);
                out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
                ids.call(id, name).quote(out);
                out.extend_from_slice(b",\"name\":");
                name.quote(out);
                out.extend_from_slice(b",\"input\":");
                match (is_custom, arguments) {
                    (true, Arguments::Quoted(text)) => custom::wrap(text, out),
                    _ => arguments.write_object(out),
                }
                out.push(b'}');
            }
            Part::Image(_) | Part::Document { .. } if message.role == Role::Assistant => {
                losses.note("assistant.content.image");
            }
            _ => block(part, losses, &mut message.blocks)?,
        }
        Ok(())
    }

    /// Whether the model is in the middle of a turn that it began without a thought: one that thinks by a budget cannot
    /// begin to think there.
    pub(super) fn forbids_budget(&self) -> bool {
        let last = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        last.is_some_and(|message| !message.calls.is_empty() && !message.starts_with_thought)
    }

    /// Appends the list.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, message) in self.messages.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(match message.role {
                Role::Assistant => b"{\"role\":\"assistant\",\"content\":[",
                _ => b"{\"role\":\"user\",\"content\":[",
            });
            let lists = [&message.results, &message.blocks, &message.calls];
            for (index, list) in lists.into_iter().filter(|list| !list.is_empty()).enumerate() {
                out.extend_from_slice(if index > 0 { b"," } else { b"" });
                out.extend_from_slice(list);
            }
            out.extend_from_slice(b"]}");
        }
        out.push(b']');
    }
}

/// What ids of calls may be made of here.
fn is_id(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn is_thought(part: &Part<'_>) -> bool {
    matches!(part, Part::Thinking { .. } | Part::Redacted(_))
}

/// Whether it is a thought without a seal, or with another provider's: the API takes neither, not even its own models' without.
fn is_unsigned(part: &Part<'_>) -> bool {
    let is_useless = |seal: &Text<'_>| seal.is_empty() || seal::is_googles(seal);
    matches!(part, Part::Thinking { signature, .. } if signature.as_ref().is_none_or(is_useless))
}

fn is_blank_part(part: &Part<'_>) -> bool {
    matches!(part, Part::Text(text) | Part::Refusal(text) if is_blank(text))
}

/// Whether a text has no character but blanks: the API refuses such a block.
pub(super) fn is_blank(text: &Text<'_>) -> bool {
    let mut rest = text.inside();
    loop {
        rest = match rest {
            [b' ', rest @ ..] | [b'\\', b'n' | b'r' | b't', rest @ ..] => rest,
            [] => return true,
            _ => return false,
        };
    }
}

fn comma(out: &mut Vec<u8>) {
    if out.last().is_some_and(|last| *last != b'[') {
        out.push(b',');
    }
}

fn append(list: &mut Vec<u8>, more: &[u8]) {
    if !more.is_empty() {
        comma(list);
        list.extend_from_slice(more);
    }
}

fn result(
    id: &Text<'_>,
    parts: &[Part<'_>],
    is_error: bool,
    losses: &mut Losses,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.extend_from_slice(b"{\"type\":\"tool_result\",\"tool_use_id\":");
    id.quote(out);
    let mut content = Vec::new();
    for part in parts {
        block(part, losses, &mut content)?;
    }
    if !content.is_empty() {
        out.extend_from_slice(b",\"content\":[");
        out.extend_from_slice(&content);
        out.push(b']');
    }
    out.extend_from_slice(if is_error { b",\"is_error\":true}" } else { b"}" });
    Ok(())
}

/// Appends a block that both turns and results may have; nothing for a blank text.
fn block(part: &Part<'_>, losses: &mut Losses, out: &mut Vec<u8>) -> Result<(), Fault> {
    match part {
        Part::Text(text) | Part::Refusal(text) => {
            if !is_blank(text) {
                comma(out);
                out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
                text.quote(out);
                out.push(b'}');
            }
        }
        Part::Image(source) => picture(source, None, out)?,
        Part::Document { source, title } => picture(source, Some(title.as_ref()), out)?,
        Part::Audio { .. } => {
            return Err(unsupported("input_audio", "is not taken by the backends of this model"));
        }
        Part::Thinking { text, signature } => match signature {
            Some(signature) if !signature.is_empty() && !seal::is_googles(signature) => {
                comma(out);
                out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":");
                text.quote(out);
                out.extend_from_slice(b",\"signature\":");
                signature.quote(out);
                out.push(b'}');
            }
            _ => losses.note("reasoning"),
        },
        Part::Redacted(data) => {
            comma(out);
            out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
            data.quote(out);
            out.push(b'}');
        }
        Part::ToolCall { .. } | Part::ToolResult { .. } => {} // not inside a result
    }
    Ok(())
}

/// Appends a picture, or a document if there is a title or the data is one.
fn picture(source: &Source<'_>, title: Option<Option<&Text<'_>>>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let media_type = match source {
        Source::Base64 { media_type, .. } => media_type.to_plain().unwrap_or_default().to_ascii_lowercase(),
        _ => String::new(),
    };
    let is_document = match media_type.as_str() {
        "" => title.is_some(),
        "application/pdf" => true,
        image if image.starts_with("image/") => false,
        other => {
            let why = format!(
                "of type '{other}' is not taken by the backends of this model, only PDF and pictures"
            );
            return Err(unsupported("file", &why));
        }
    };
    if matches!(source, Source::Text(text) if is_blank(text)) {
        return Ok(());
    }
    comma(out);
    out.extend_from_slice(if is_document { b"{\"type\":\"document\"" } else { b"{\"type\":\"image\"" });
    out.extend_from_slice(b",\"source\":{\"type\":");
    match source {
        Source::Base64 { data, .. } => {
            let media_type = if media_type == "image/jpg" { "image/jpeg".to_owned() } else { media_type };
            Text::escaped(b"base64").quote(out);
            members(&[("media_type", &Text::plain(&media_type)), ("data", data)], out);
        }
        Source::Text(text) => {
            Text::escaped(b"text").quote(out);
            members(&[("media_type", &Text::escaped(b"text/plain")), ("data", text)], out);
        }
        Source::Url(url) => {
            Text::escaped(b"url").quote(out);
            members(&[("url", url)], out);
        }
        // Anthropic's ids of files; OpenAI's have a '-' there.
        Source::File(id) if id.inside().starts_with(b"file_") => {
            Text::escaped(b"file").quote(out);
            members(&[("file_id", id)], out);
        }
        Source::File(_) => {
            return Err(unsupported("file_id", "names a file that the backends of this model do not have"));
        }
    }
    out.push(b'}');
    if let Some(Some(title)) = title.filter(|_| is_document) {
        members(&[("title", title)], out);
    }
    out.push(b'}');
    Ok(())
}

fn members(members: &[(&str, &Text<'_>)], out: &mut Vec<u8>) {
    for (name, text) in members {
        for word in [",\"", name, "\":"] {
            out.extend_from_slice(word.as_bytes());
        }
        text.quote(out);
    }
}
