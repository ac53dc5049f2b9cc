//! Blocks of content in a client's request.

use crate::dialect::neutral::{Arguments, Json, Losses, Object, Part, Source, Text, malformed, unsupported};
use crate::error::Fault;
use crate::wire::json::BadJson;

/// The content under `name`: a string, a list of blocks, or nothing. `at` is its path in the body.
pub(super) fn content<'a>(
    object: &Object<'a>,
    name: &str,
    at: &str,
    losses: &mut Losses,
) -> Result<Vec<Part<'a>>, Fault> {
    match (object.text(name), object.get(name)) {
        (Some(text), _) => return Ok(vec![Part::Text(text)]),
        (None, None) => return Ok(Vec::new()),
        (None, Some([b'[', ..])) => {}
        (None, Some(_)) => return Err(malformed(format!("'{at}' has to be a string or a list of blocks"))),
    }
    let mut parts = Vec::new();
    for (index, element) in object.elements(name).enumerate() {
        let at = format!("{at}[{index}]");
        let block = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        for hint in ["cache_control", "citations"] {
            if block.get(hint).is_some_and(|value| value != b"[]") {
                losses.note(hint);
            }
        }
        push(&block, &at, &mut parts, losses)?;
    }
    Ok(parts)
}

/// Appends what one block says.
fn push<'a>(
    block: &Object<'a>,
    at: &str,
    parts: &mut Vec<Part<'a>>,
    losses: &mut Losses,
) -> Result<(), Fault> {
    let text = |name: &str| block.text(name).ok_or_else(|| missing(at, name, "a string"));
    let kind = kind_of(block, "type");
    let part = match kind.as_deref() {
        Some("text") => Part::Text(text("text")?),
        Some("image") => Part::Image(image(block, at)?),
        Some("document") => return document(block, at, parts, losses),
        Some("search_result") => return search_result(block, at, parts, losses),
        Some("tool_use") => {
            let (id, name) = (text("id")?, text("name")?);
            let arguments = Arguments::Value(block.get("input").unwrap_or(b"{}"));
            Part::ToolCall { id, name, arguments, is_custom: false }
        }
        Some("tool_result") => {
            let id = text("tool_use_id")?;
            let parts = content(block, "content", &format!("{at}.content"), losses)?;
            Part::ToolResult { id, name: None, parts, is_error: block.boolean("is_error") == Some(true) }
        }
        Some("tool_reference") => Part::Text(text("tool_name")?),
        Some("thinking") => {
            let signature = block.text("signature").filter(|signature| !signature.is_empty());
            let thought = block.text("thinking").unwrap_or_default();
            if thought.is_empty() && signature.is_none() {
                return Ok(());
            }
            Part::Thinking { text: thought, signature }
        }
        Some("redacted_thinking") => Part::Redacted(text("data")?),
        // The provider's own tools in the history: what they brought is sealed, and other providers do not have them.
        Some(hosted)
            if hosted == "server_tool_use" || hosted == "mcp_tool_use" || is_hosted_result(hosted) =>
        {
            losses.note(hosted.to_owned());
            return Ok(());
        }
        _ => return Err(unsupported(&format!("{at}.type"), "is no type of block that can be translated")),
    };
    parts.push(part);
    Ok(())
}

fn is_hosted_result(kind: &str) -> bool {
    kind.ends_with("_tool_result")
}

fn image<'a>(block: &Object<'a>, at: &str) -> Result<Source<'a>, Fault> {
    let source = inner(block, "source", at)?;
    let at = format!("{at}.source");
    let text = |name: &str| source.text(name).ok_or_else(|| missing(&at, name, "a string"));
    match kind_of(&source, "type").as_deref() {
        Some("base64") => Ok(Source::Base64 { media_type: text("media_type")?, data: text("data")? }),
        Some("url") => Ok(Source::Url(text("url")?)),
        Some("file") => Ok(Source::File(text("file_id")?)),
        _ => Err(unsupported(&format!("{at}.type"), "is no kind of source that can be translated")),
    }
}

/// A document. One that is made of blocks becomes a text, followed by its pictures.
fn document<'a>(
    block: &Object<'a>,
    at: &str,
    parts: &mut Vec<Part<'a>>,
    losses: &mut Losses,
) -> Result<(), Fault> {
    let title = block.text("title");
    if block.get("context").is_some() {
        losses.note("context");
    }
    let source = inner(block, "source", at)?;
    let (source, pictures) = match kind_of(&source, "type").as_deref() {
        Some("text") => {
            let text = source.text("data").ok_or_else(|| missing(at, "source.data", "a string"))?;
            (Source::Text(text), Vec::new())
        }
        Some("content") => {
            let content = content(&source, "content", &format!("{at}.source.content"), losses)?;
            let (texts, others) = content.into_iter().partition(|part| matches!(part, Part::Text(_)));
            (Source::Text(joined(texts)), others)
        }
        _ => (image(block, at)?, Vec::new()),
    };
    parts.push(Part::Document { source, title });
    parts.extend(pictures);
    Ok(())
}

/// What a search of the client's own brought: a text under its title.
fn search_result<'a>(
    block: &Object<'a>,
    at: &str,
    parts: &mut Vec<Part<'a>>,
    losses: &mut Losses,
) -> Result<(), Fault> {
    let texts = content(block, "content", &format!("{at}.content"), losses)?;
    if block.get("source").is_some() {
        losses.note("search_result.source");
    }
    parts.push(Part::Document { source: Source::Text(joined(texts)), title: block.text("title") });
    Ok(())
}

/// Texts with a line's end between them.
fn joined(parts: Vec<Part<'_>>) -> Text<'_> {
    let mut texts = parts.into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    });
    let Some(mut joined) = texts.next() else { return Text::default() };
    for text in texts {
        joined.push(&Text::escaped(b"\\n"));
        joined.push(&text);
    }
    joined
}

fn inner<'a>(object: &Object<'a>, name: &str, at: &str) -> Result<Object<'a>, Fault> {
    let inner = object.object(name).map_err(|bad| broken(at, bad))?;
    inner.ok_or_else(|| missing(at, name, "an object"))
}

/// A member that is a word.
pub(super) fn kind_of(object: &Object<'_>, name: &str) -> Option<String> {
    Some(object.text(name)?.to_plain()?.into_owned())
}

pub(super) fn read<'a>(value: Json<'a>, at: &str) -> Result<Object<'a>, Fault> {
    if value.first() != Some(&b'{') {
        return Err(malformed(format!("'{at}' has to be an object")));
    }
    Object::read(value).map_err(|bad| broken(at, bad))
}

pub(super) fn broken(at: &str, bad: BadJson) -> Fault {
    malformed(format!("'{at}': {}", bad.reason))
}

pub(super) fn missing(at: &str, member: &str, expected: &str) -> Fault {
    malformed(format!("'{at}.{member}' has to be {expected}"))
}
