//! The tools that a request offers.

use crate::policy::glob;
use crate::units::Span;
use crate::wire::json::{self, Member, ValueKind};

/// A tool. What is given twice is there twice: which one a backend reads is not known.
#[derive(Default)]
pub(super) struct Tool {
    /// Names of functions.
    names: Vec<String>,
    /// Types of tools that the provider has.
    types: Vec<String>,
    /// The key that a tool of the provider lies under, where that is what says which one it is.
    key: Option<String>,
}

/// Appends the tools in a member.
pub(super) fn find(body: &[u8], member: &Member, tools: &mut Vec<Tool>) {
    value(body, member.value, member.kind, tools, 0);
}

/// The same for Converse's configuration of tools, and Gemini's, which only says how they are chosen.
pub(super) fn of_config(body: &[u8], member: &Member, tools: &mut Vec<Tool>) {
    let (config, at) = (member.value.of(body), member.value.start);
    for inner in json::members(config).map_while(Result::ok) {
        let mut room = [0; json::FOLDED_BYTES_MAX];
        if json::folded(inner.key.of(config), &mut room) == b"tools" {
            let span = Span::new(inner.value.start + at, inner.value.end + at);
            value(body, span, inner.kind, tools, 0);
        }
    }
}

fn value(body: &[u8], span: Span, kind: ValueKind, tools: &mut Vec<Tool>, depth: u8) {
    let at = |inner: Span| Span::new(inner.start + span.start, inner.end + span.start);
    match kind {
        // A list in a list in a list: a tool that no rule knows.
        _ if depth > DEPTH_MAX => tools.push(Tool::named(String::new())),
        ValueKind::Array => {
            for (inner, kind) in json::elements(span.of(body)).map_while(Result::ok) {
                value(body, at(inner), kind, tools, depth + 1);
            }
        }
        ValueKind::String => tools.push(Tool::named(word(span.of(body)))),
        ValueKind::Object => object(body, span, tools, depth),
        _ => {}
    }
}

fn object(body: &[u8], span: Span, tools: &mut Vec<Tool>, depth: u8) {
    let at = |inner: Span| Span::new(inner.start + span.start, inner.end + span.start);
    let (mut own, mut keys, mut holds_others, mut has_type) = (Tool::default(), Vec::new(), false, false);
    for member in json::members(span.of(body)).map_while(Result::ok) {
        let (key, raw) = (at(member.key).of(body), at(member.value).of(body));
        let mut room = [0; json::FOLDED_BYTES_MAX];
        let is_list = matches!(member.kind, ValueKind::Object | ValueKind::Array);
        match json::folded(key, &mut room) {
            b"name" if member.kind == ValueKind::String => own.names.push(word(raw)),
            b"type" if member.kind == ValueKind::String => {
                has_type = true;
                let name = word(raw);
                own.types.extend(Some(name).filter(|name| !["function", "custom"].contains(&&**name)));
            }
            b"function" | b"custom" | b"toolspec" if member.kind == ValueKind::Object => {
                holds_others = true;
                value(body, at(member.value), member.kind, tools, depth + 1);
            }
            b"tools" | b"functiondeclarations" if is_list => {
                holds_others = true;
                value(body, at(member.value), member.kind, tools, depth + 1);
            }
            // Where a provider's cache ends.
            b"cachepoint" => holds_others = true,
            _ => keys.push((word(key), member.kind)),
        }
    }
    if !own.names.is_empty() || !own.types.is_empty() {
        return tools.push(own);
    }
    if has_type {
        // A function, whose name stands below; or nothing that says which it is.
        return tools.extend((!holds_others).then(|| Tool::named(String::new())));
    }
    let before = tools.len();
    let is_tool = |row: &(String, ValueKind)| row.1 == ValueKind::Object;
    let keyed = keys.into_iter().filter(is_tool).map(|row| Tool { key: Some(row.0), ..Tool::default() });
    tools.extend(keyed);
    if tools.len() == before && !holds_others {
        tools.push(Tool::named(String::new()));
    }
}

impl Tool {
    fn named(name: String) -> Self {
        Self { names: vec![name], ..Self::default() }
    }
}

/// What of a tool is not allowed, if anything is not. No name of it may be in `deny`; a tool of the provider is allowed by its type,
/// or by its name where the type begins with it, as `web_search_20250305` does.
pub(super) fn forbidden<'a>(tool: &'a Tool, allow: Option<&[String]>, deny: &[String]) -> Option<&'a str> {
    let is_in = |list: &[String], name: &str| list.iter().any(|pattern| glob::matches(pattern, name));
    let is_key_in = |list: &[String], key: &str| {
        list.iter().any(|pattern| glob::matches(&squashed(pattern), &squashed(key)))
    };
    let mut all = tool.names.iter().chain(&tool.types);
    if let Some(name) = all.find(|name| is_in(deny, name)) {
        return Some(name);
    }
    if let Some(key) = tool.key.as_deref().filter(|key| is_key_in(deny, key)) {
        return Some(key);
    }
    let allow = allow?;
    if tool.types.is_empty() {
        let name = tool.names.iter().find(|name| !is_in(allow, name)).map(|name| &**name);
        return name.or_else(|| tool.key.as_deref().filter(|key| !is_key_in(allow, key)));
    }
    let by_name = |kind: &str| {
        !tool.names.is_empty()
            && tool.names.iter().all(|name| kind.starts_with(&**name) && is_in(allow, name))
    };
    tool.types.iter().find(|kind| !is_in(allow, kind) && !by_name(kind)).map(|kind| &**kind)
}

/// A key in the one of its spellings that all readers agree on.
fn squashed(key: &str) -> String {
    key.chars().filter(|char| *char != '_').flat_map(char::to_lowercase).collect()
}

/// The text of a string; empty for what no two readers agree on.
fn word(raw: &[u8]) -> String {
    json::string(raw).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

const DEPTH_MAX: u8 = 6;
