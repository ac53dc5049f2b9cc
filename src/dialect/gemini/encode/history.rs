//! The conversation of a request: results of tools by themselves, directly behind the calls and in their order.

use crate::dialect::gemini::seal;
use crate::dialect::neutral::{
    Arguments, Calls, Json, Losses, Part, Request, Role, Source, Target, Text, Turn, custom, seal as seals,
    unsupported,
};
use crate::dialect::number;
use crate::error::Fault;
use crate::wire::json;

/// The contents of a request, written out with commas.
pub(super) struct History<'a> {
    contents: Vec<Content>,
    /// Calls so far; those of the last turn of the model wait for their results.
    calls: Calls<'a>,
    /// The model refuses a call without a seal.
    wants_seals: bool,
}

struct Content {
    is_models: bool,
    /// Results: they stand alone.
    is_results: bool,
    parts: Vec<u8>,
}

/// What Google documents for a call that its models did not make: a seal that is not looked into.
const NO_SEAL: &[u8] = b"skip_thought_signature_validator";

impl<'a> History<'a> {
    pub(super) fn of(request: &Request<'a>, target: &Target<'_>, losses: &mut Losses) -> Result<Self, Fault> {
        let wants_seals = super::wants_seals(target.model);
        let mut history = Self { contents: Vec::new(), calls: Calls::default(), wants_seals };
        let turns = later_turns(request);
        let mut at = 0;
        while at < turns.len() {
            // Neighbours of the user are one: clients of OpenAI's write each result as a message of its own.
            let role = turns[at].role;
            let length = turns[at..].iter().take_while(|turn| turn.role == role).count();
            let parts: Vec<&Part<'a>> = turns[at..at + length].iter().flat_map(|turn| &turn.parts).collect();
            match role {
                Role::Assistant => history.model(&parts, losses)?,
                Role::User => history.user(&parts, losses)?,
                Role::System => {
                    losses.note("system"); // its place is kept, its rank is not
                    history.user(&parts, losses)?;
                }
            }
            at += length;
        }
        Ok(history)
    }

    /// Appends the list.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, content) in self.contents.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b"," } else { b"" });
            out.extend_from_slice(match content.is_models {
                true => b"{\"role\":\"model\",\"parts\":[",
                false => b"{\"role\":\"user\",\"parts\":[".as_slice(),
            });
            out.extend_from_slice(&content.parts);
            out.extend_from_slice(b"]}");
        }
        out.push(b']');
    }

    /// Puts parts into a content of their own, or into the last one if it is of the same kind.
    fn add(&mut self, is_models: bool, is_results: bool, parts: &[u8]) {
        if parts.is_empty() {
            return;
        }
        let same = |last: &&mut Content| last.is_models == is_models && last.is_results == is_results;
        match self.contents.last_mut().filter(same) {
            Some(last) => {
                last.parts.push(b',');
                last.parts.extend_from_slice(parts);
            }
            None => self.contents.push(Content { is_models, is_results, parts: parts.to_vec() }),
        }
    }

    fn model(&mut self, parts: &[&Part<'a>], losses: &mut Losses) -> Result<(), Fault> {
        self.calls.forget_all();
        let (mut out, mut is_first) = (Vec::new(), true);
        for part in parts {
            match part {
                Part::ToolCall { id, name, arguments, is_custom } => {
                    self.calls.push(id, name);
                    comma(&mut out);
                    let is_first = std::mem::take(&mut is_first);
                    self.call(id, name, (arguments, *is_custom), is_first, &mut out);
                }
                Part::Thinking { text, signature } => thought(text, signature.as_ref(), losses, &mut out),
                Part::Redacted(_) => losses.note("thinking"),
                Part::Text(text) | Part::Refusal(text) => said(text, &mut out),
                Part::Image(_) | Part::Document { .. } | Part::Audio { .. } => binary(part, &mut out)?,
                Part::ToolResult { .. } => {} // not the model's
            }
        }
        self.add(true, false, &out);
        Ok(())
    }

    fn call(
        &self,
        id: &Text<'_>,
        name: &Text<'_>,
        (arguments, is_custom): (&Arguments<'_>, bool),
        is_first: bool,
        out: &mut Vec<u8>,
    ) {
        let (id, signature) = seal::of_id(id.inside());
        out.extend_from_slice(b"{\"functionCall\":{");
        member_id(id, out);
        out.extend_from_slice(b"\"name\":");
        name.quote(out);
        out.extend_from_slice(b",\"args\":");
        match (is_custom, arguments) {
            (true, Arguments::Quoted(text)) => custom::wrap(text, out),
            _ => arguments.write_object(out),
        }
        out.push(b'}');
        // Of parallel calls only the first one has a seal.
        let signature = signature.or((is_first && self.wants_seals).then(|| NO_SEAL.to_vec()));
        if let Some(signature) = signature {
            out.extend_from_slice(b",\"thoughtSignature\":");
            Text::escaped(&signature).quote(out);
        }
        out.push(b'}');
    }

    fn user(&mut self, parts: &[&Part<'a>], losses: &mut Losses) -> Result<(), Fault> {
        let (mut results, mut said, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::ToolResult { id, name, parts, is_error } => {
                    let (place, name) = self.pair(id, name.as_ref());
                    let mut out = Vec::new();
                    result(seal::of_id(id.inside()).0, &name, (parts, *is_error), &mut pictures, &mut out)?;
                    results.push((place, out));
                }
                Part::Text(text) | Part::Refusal(text) => self::said(text, &mut said),
                Part::Image(_) | Part::Document { .. } | Part::Audio { .. } => binary(part, &mut said)?,
                Part::Thinking { .. } | Part::Redacted(_) => losses.note("thinking"),
                Part::ToolCall { .. } => {} // not the user's
            }
        }
        results.sort_by_key(|(place, _)| *place); // keeps the order of equals
        for (_, result) in &results {
            self.add(false, true, result);
        }
        self.add(false, false, &pictures);
        self.add(false, false, &said);
        Ok(())
    }

    /// The call that a result belongs to: its place among the calls, and its name. Without an id it is the first call of that
    /// name that has no result yet, or the first call at all.
    fn pair(&mut self, id: &Text<'a>, name: Option<&Text<'a>>) -> (usize, Text<'a>) {
        let place = self.calls.pair(id, name);
        match place.or_else(|| if name.is_none() { self.calls.take_first() } else { None }) {
            Some(place) => (place, self.calls.name(place).clone()),
            None => (usize::MAX, name.cloned().unwrap_or_else(|| Text::escaped(b"unknown"))),
        }
    }
}

/// The turns of a request without those that are a part of the system prompt.
pub(super) fn later_turns<'r, 'a>(request: &'r Request<'a>) -> &'r [Turn<'a>] {
    let first = request.turns.iter().position(|turn| turn.role != Role::System);
    &request.turns[first.unwrap_or(request.turns.len())..]
}

fn comma(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b',');
    }
}

fn member_id(id: &[u8], out: &mut Vec<u8>) {
    if !id.is_empty() {
        out.extend_from_slice(b"\"id\":");
        Text::escaped(id).quote(out);
        out.push(b',');
    }
}

/// Appends a text; nothing for an empty one, which the API refuses.
fn said(text: &Text<'_>, out: &mut Vec<u8>) {
    if !text.is_empty() {
        comma(out);
        out.extend_from_slice(b"{\"text\":");
        text.quote(out);
        out.push(b'}');
    }
}

/// Appends a thought with Google's seal. Others stay behind: the API takes no thoughts of other models.
fn thought(text: &Text<'_>, signature: Option<&Text<'_>>, losses: &mut Losses, out: &mut Vec<u8>) {
    let Some(signature) = signature.filter(|signature| seals::is_googles(signature)) else {
        return losses.note("thinking");
    };
    comma(out);
    out.extend_from_slice(b"{\"text\":");
    text.quote(out);
    // A seal over text is a thought without words in the neutral form.
    out.extend_from_slice(if text.is_empty() { b"" } else { b",\"thought\":true".as_slice() });
    out.extend_from_slice(b",\"thoughtSignature\":\"");
    seal::for_client(signature, out);
    out.extend_from_slice(b"\"}");
}

/// Appends a result. What it holds beside text follows the results, as parts of their own.
fn result(
    id: &[u8],
    name: &Text<'_>,
    (parts, is_error): (&[Part<'_>], bool),
    pictures: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut texts: Vec<&Text<'_>> = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) | Part::Refusal(text) | Part::Document { source: Source::Text(text), .. } => {
                texts.push(text)
            }
            Part::Image(_) | Part::Document { .. } | Part::Audio { .. } => binary(part, pictures)?,
            Part::Thinking { .. } | Part::Redacted(_) | Part::ToolCall { .. } | Part::ToolResult { .. } => {}
        }
    }
    out.extend_from_slice(b"{\"functionResponse\":{");
    member_id(id, out);
    out.extend_from_slice(b"\"name\":");
    name.quote(out);
    out.extend_from_slice(b",\"response\":");
    response(&texts, is_error, out);
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Appends the response of a result, which has to be an object: a text that is one stays as it is.
fn response(texts: &[&Text<'_>], is_error: bool, out: &mut Vec<u8>) {
    if let ([text], false) = (texts, is_error)
        && let Some(object) = object_of(text)
    {
        return out.extend_from_slice(&object);
    }
    out.extend_from_slice(if is_error { b"{\"error\":\"" } else { b"{\"output\":\"".as_slice() });
    for (index, text) in texts.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b"\\n" } else { b"" });
        out.extend_from_slice(text.inside());
    }
    out.extend_from_slice(b"\"}");
}

/// The JSON object that a text is.
fn object_of(text: &Text<'_>) -> Option<Vec<u8>> {
    if !text.inside().trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let mut inner = Vec::with_capacity(text.inside().len());
    json::unescape(text.inside(), &mut inner);
    // The API takes the value of such a member, at any depth, for the name of a function.
    if memchr::memmem::find(&inner, b"\"$ref\"").is_some() {
        return None;
    }
    let is_sound = json::is_object(&inner) && std::str::from_utf8(&inner).is_ok();
    is_sound.then(|| inner.trim_ascii().to_vec())
}

/// Appends an image, a document or sound.
fn binary(part: &Part<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    comma(out);
    let inline = |media_type: &Text<'_>, data: &Text<'_>, out: &mut Vec<u8>| {
        out.extend_from_slice(b"{\"inlineData\":{\"mimeType\":");
        media_type.quote(out);
        out.extend_from_slice(b",\"data\":");
        data.quote(out);
        out.extend_from_slice(b"}}");
    };
    let source = match part {
        Part::Audio { data, format } => {
            let kind = format!("audio/{}", format.to_plain().unwrap_or_default());
            inline(&Text::plain(&kind), data, out);
            return Ok(());
        }
        Part::Image(source) | Part::Document { source, .. } => source,
        _ => return Ok(()),
    };
    match source {
        Source::Base64 { media_type, data } => {
            let is_short = media_type.to_plain().is_some_and(|kind| kind.eq_ignore_ascii_case("image/jpg"));
            let jpeg = Text::escaped(b"image/jpeg");
            inline(if is_short { &jpeg } else { media_type }, data, out);
        }
        Source::Text(text) => {
            out.extend_from_slice(b"{\"text\":");
            text.quote(out);
            out.push(b'}');
        }
        Source::Url(url) => file(url, out),
        Source::File(id) if id.inside().starts_with(b"https:") || id.inside().starts_with(b"gs:") => {
            file(id, out)
        }
        Source::File(_) => {
            return Err(unsupported("file_id", "names a file that the backends of this model do not have"));
        }
    }
    Ok(())
}

/// Appends what is at a URL. The API wants to know its kind, which the name may tell.
fn file(url: &Text<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"fileData\":{\"fileUri\":");
    url.quote(out);
    let plain = url.to_plain().unwrap_or_default().to_ascii_lowercase();
    let path = plain.split(['?', '#']).next().unwrap_or_default();
    if let Some((_, kind)) = KINDS.iter().find(|(end, _)| path.ends_with(end)) {
        out.extend_from_slice(b",\"mimeType\":");
        json::quote(out, kind);
    }
    out.extend_from_slice(b"}}");
}

const KINDS: [(&str, &str); 7] = [
    (".png", "image/png"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".webp", "image/webp"),
    (".gif", "image/gif"),
    (".heic", "image/heic"),
    (".pdf", "application/pdf"),
];

/// Appends a number as a member.
pub(super) fn member(name: &str, value: Json<'_>, out: &mut Vec<u8>) {
    for piece in [b"\"", name.as_bytes(), b"\":", value, b","] {
        out.extend_from_slice(piece);
    }
}

/// Appends a whole number as a member.
pub(super) fn count(name: &str, value: u64, out: &mut Vec<u8>) {
    for piece in [b"\"", name.as_bytes(), b"\":".as_slice()] {
        out.extend_from_slice(piece);
    }
    number(out, value);
    out.push(b',');
}
