//! The conversation of a request: roles alternate, results of tools come first in their turn, thoughts first in theirs.

use crate::dialect::neutral::{
    Arguments, CallIds, Losses, Names, Part, Request, Role, Source, Text, Turn, custom, seal, unsupported,
};
use crate::error::Fault;

/// The messages of a request, and the tools that were called in them.
#[derive(Default)]
pub(super) struct History<'a> {
    messages: Vec<Message>,
    pub(super) called: Names<'a>,
    /// Documents so far: their names have to differ.
    documents: usize,
}

/// One message. Its blocks are written out, with commas, in the order in which the lists stand here.
struct Message {
    role: Role,
    results: Vec<u8>,
    thoughts: Vec<u8>,
    blocks: Vec<u8>,
    calls: Vec<u8>,
}

impl<'a> History<'a> {
    pub(super) fn of(request: &Request<'a>, losses: &mut Losses) -> Result<Self, Fault> {
        let mut history = Self::default();
        let mut ids = CallIds::new(is_id);
        for turn in &request.turns {
            history.add(turn, &mut ids, losses)?;
        }
        Ok(history)
    }

    /// Appends a turn. One that says nothing vanishes; a neighbour of the same role takes it in.
    fn add(&mut self, turn: &Turn<'a>, ids: &mut CallIds<'a>, losses: &mut Losses) -> Result<(), Fault> {
        let role = if turn.role == Role::Assistant { Role::Assistant } else { Role::User };
        if turn.role == Role::System {
            losses.note("system"); // its place is kept, its rank is not
        }
        let mut message = Message { role, results: vec![], thoughts: vec![], blocks: vec![], calls: vec![] };
        for part in &turn.parts {
            self.part(part, &mut message, ids, losses)?;
        }
        if message.lists().iter().all(|list| list.is_empty()) {
            return Ok(());
        }
        match self.messages.last_mut().filter(|last| last.role == role) {
            Some(last) => {
                append(&mut last.results, &message.results);
                append(&mut last.thoughts, &message.thoughts);
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
                let id = ids.result(id, name.as_ref());
                let mut content = Vec::new();
                for part in parts {
                    self.block(part, &mut content)?;
                }
                let out = &mut message.results;
                comma(out);
                out.extend_from_slice(b"{\"toolResult\":{\"toolUseId\":");
                id.quote(out);
                out.extend_from_slice(b",\"content\":[");
                out.extend_from_slice(&content);
                out.extend_from_slice(if *is_error { b"],\"status\":\"error\"}}" } else { b"]}}" });
            }
            Part::ToolCall { id, name, arguments, is_custom } => {
                self.called.insert(name);
                let out = &mut message.calls;
                comma(out);
                out.extend_from_slice(b"{\"toolUse\":{\"toolUseId\":");
                ids.call(id, name).quote(out);
                out.extend_from_slice(b",\"name\":");
                name.quote(out);
                out.extend_from_slice(b",\"input\":");
                match (is_custom, arguments) {
                    (true, Arguments::Quoted(text)) => custom::wrap(text, out),
                    _ => arguments.write_object(out),
                }
                out.extend_from_slice(b"}}");
            }
            Part::Thinking { text, signature } => thought(text, signature.as_ref(), message, losses),
            Part::Redacted(data) => {
                comma(&mut message.thoughts);
                message.thoughts.extend_from_slice(b"{\"reasoningContent\":{\"redactedContent\":");
                data.quote(&mut message.thoughts);
                message.thoughts.extend_from_slice(b"}}");
            }
            Part::Image(_) | Part::Document { .. } if message.role == Role::Assistant => {
                losses.note("assistant.content.image");
            }
            _ => self.block(part, &mut message.blocks)?,
        }
        Ok(())
    }

    /// Appends a block that both turns and results may have; nothing for a blank text, which the API refuses.
    fn block(&mut self, part: &Part<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        match part {
            Part::Text(text) | Part::Refusal(text) | Part::Document { source: Source::Text(text), .. } => {
                if !is_blank(text) {
                    comma(out);
                    out.extend_from_slice(b"{\"text\":");
                    text.quote(out);
                    out.push(b'}');
                }
            }
            Part::Image(source) => {
                let (format, data) = image(source)?;
                comma(out);
                binary(("image", format, None), data, out);
            }
            Part::Document { source, title } => {
                let (format, data) = document(source)?;
                self.documents += 1;
                let name = document_name(title.as_ref(), self.documents);
                comma(out);
                binary(("document", format, Some(&name)), data, out);
            }
            Part::Audio { .. } => {
                return Err(unsupported("input_audio", "is not taken by the backends of this model"));
            }
            Part::Thinking { .. } | Part::Redacted(_) | Part::ToolCall { .. } | Part::ToolResult { .. } => {}
        }
        Ok(())
    }

    /// Whether the model is in the middle of a turn that it began without a thought: it cannot begin to think there by a budget.
    pub(super) fn forbids_budget(&self) -> bool {
        let last = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        last.is_some_and(|message| !message.calls.is_empty() && message.thoughts.is_empty())
    }

    /// Appends the list.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for message in &self.messages {
            comma(out);
            out.extend_from_slice(match message.role {
                Role::Assistant => b"{\"role\":\"assistant\",\"content\":[".as_slice(),
                _ => b"{\"role\":\"user\",\"content\":[",
            });
            for list in message.lists() {
                append(out, list);
            }
            out.extend_from_slice(b"]}");
        }
        out.push(b']');
    }
}

impl Message {
    fn lists(&self) -> [&[u8]; 4] {
        [&self.results, &self.thoughts, &self.blocks, &self.calls]
    }
}

/// A thought goes back with its seal, to the provider that made it; without one, or with Google's, it is refused there.
fn thought(text: &Text<'_>, signature: Option<&Text<'_>>, message: &mut Message, losses: &mut Losses) {
    let Some(signature) = signature.filter(|seal| !seal.is_empty() && !seal::is_googles(seal)) else {
        return losses.note("reasoning");
    };
    let out = &mut message.thoughts;
    comma(out);
    out.extend_from_slice(b"{\"reasoningContent\":{\"reasoningText\":{\"text\":");
    text.quote(out);
    out.extend_from_slice(b",\"signature\":");
    signature.quote(out);
    out.extend_from_slice(b"}}}");
}

/// What ids of calls may be here.
fn is_id(id: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&id.len()) && id.iter().all(is_word)
}

/// Whether a text has no character but blanks.
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

/// Appends a block with bytes: its member, its format, its name.
fn binary((member, format, name): (&str, &str, Option<&str>), data: &Text<'_>, out: &mut Vec<u8>) {
    for word in ["{\"", member, "\":{\"format\":\"", format, "\""] {
        out.extend_from_slice(word.as_bytes());
    }
    if let Some(name) = name {
        for word in [",\"name\":\"", name, "\""] {
            out.extend_from_slice(word.as_bytes());
        }
    }
    out.extend_from_slice(b",\"source\":{\"bytes\":");
    data.quote(out);
    out.extend_from_slice(b"}}}");
}

fn image<'s>(source: &'s Source<'_>) -> Result<(&'static str, &'s Text<'s>), Fault> {
    let Source::Base64 { media_type, data } = source else {
        return Err(match source {
            Source::Url(_) => unsupported(
                "image_url",
                "is a link, which the backends of this model do not follow; send the image in base64",
            ),
            _ => unsupported("image", "by file id cannot be sent to the backends of this model"),
        });
    };
    let format = match media_type.to_plain().unwrap_or_default().to_ascii_lowercase().as_str() {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => {
            return Err(unsupported(
                "image",
                "has to be PNG, JPEG, GIF or WebP for the backends of this model",
            ));
        }
    };
    Ok((format, data))
}

fn document<'s>(source: &'s Source<'_>) -> Result<(&'static str, &'s Text<'s>), Fault> {
    let Source::Base64 { media_type, data } = source else {
        return Err(unsupported("document", "has to be sent in base64 to the backends of this model"));
    };
    let media_type = media_type.to_plain().unwrap_or_default().to_ascii_lowercase();
    const FORMATS: [(&str, &str); 9] = [
        ("application/pdf", "pdf"),
        ("text/csv", "csv"),
        ("application/msword", "doc"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
        ("application/vnd.ms-excel", "xls"),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
        ("text/html", "html"),
        ("text/plain", "txt"),
        ("text/markdown", "md"),
    ];
    let format = FORMATS.iter().find(|(kind, _)| *kind == media_type).map(|(_, format)| *format);
    let format = format.ok_or_else(|| {
        unsupported("file", &format!("of type '{media_type}' is not taken by the backends of this model"))
    })?;
    Ok((format, data))
}

/// A name that the API takes, and that no other document of the request has.
fn document_name(title: Option<&Text<'_>>, number: usize) -> String {
    let title = title.and_then(|title| title.to_plain()).unwrap_or_default();
    let word =
        |sign: char| if sign.is_ascii_alphanumeric() || matches!(sign, '-' | '(' | ')') { sign } else { '-' };
    let name: String = title.chars().take(100).map(word).collect();
    match (name.trim_matches('-').is_empty(), number) {
        (true, _) => format!("document-{number}"),
        (false, 1) => name,
        (false, _) => format!("{name}-{number}"),
    }
}
