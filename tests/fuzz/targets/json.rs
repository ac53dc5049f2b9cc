//! JSON: sound where `serde_json` says so, with the same members and the same texts.
//!
//! Stricter on purpose: nesting beyond `DEPTH_MAX`. Laxer on purpose, as `serde_json` is where it skips a value: bytes that
//! are no UTF-8 and lone surrogates pass inside strings, which [`json::string`] then refuses.

use std::collections::BTreeMap;

use ringway::wire::json::{self, ObjectSearch, ValueKind};
use serde::de::IgnoredAny;
use serde_json::Value;

pub(crate) fn run(data: &[u8]) {
    let sound = serde_json::from_slice::<IgnoredAny>(data).is_ok();
    let shallow = depth(data) <= json::DEPTH_MAX + 1;
    let first = data.iter().find(|byte| !b" \t\n\r".contains(byte));
    let is_object = json::is_object(data);
    assert_eq!(is_object, sound && shallow && first == Some(&b'{'));
    let is_array = json::elements(data).all(|element| element.is_ok());
    assert_eq!(is_array, sound && shallow && first == Some(&b'['));
    for error in json::members(data).chain(json::leading_members(data)).filter_map(Result::err) {
        assert!(error.at <= data.len());
    }
    if is_object {
        check_object(data);
    }
    if is_array {
        let values: Vec<_> = json::elements(data).map(Result::unwrap).collect();
        let texts: Vec<&[u8]> = values.iter().map(|(span, _)| span.of(data)).collect();
        values.iter().for_each(|(span, kind)| check_value(span.of(data), *kind));
        if let Some(value) = super::value(data) {
            let again = [b"[", &texts.join(&b","[..])[..], b"]"].concat();
            assert_eq!(super::value(&again), Some(value), "the elements are the array's");
        }
    }
    strings(data);
}

/// The deepest nesting, by counting brackets outside of strings.
fn depth(data: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut at) = (0_usize, 0, false, 0);
    while let Some(&byte) = data.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        at += 1;
    }
    deepest
}

fn check_object(data: &[u8]) {
    let mut walk = json::members(data);
    let members: Vec<json::Member> = walk.by_ref().map(Result::unwrap).collect();
    let (open, close) = (walk.open().unwrap(), walk.close().unwrap());
    assert!(data[open] == b'{' && data[close] == b'}');
    assert_eq!(walk.is_empty(), members.is_empty());

    let mut again = b"{".to_vec();
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            again.push(b',');
        }
        again.extend([member.key.of(data), b":", member.value.of(data)].concat());
        check_value(member.value.of(data), member.kind);
        check_string(member.key.of(data));
    }
    again.push(b'}');
    if let Some(value) = super::value(data) {
        assert_eq!(super::value(&again), Some(value), "the members are the object's");
        let names: BTreeMap<String, IgnoredAny> = serde_json::from_slice(data).unwrap();
        let found = members.iter().filter_map(|member| json::string(member.key.of(data)));
        let found: BTreeMap<String, ()> = found.map(|name| (name.into_owned(), ())).collect();
        assert!(found.keys().eq(names.keys()));
    }

    let behind = [data, b"}]\"x"].concat();
    let mut leading = json::leading_members(&behind);
    assert!(
        leading.by_ref().map(Result::unwrap).eq(members.iter().copied()),
        "what follows is not looked at"
    );
    assert_eq!(leading.close(), Some(close));

    let mut keys = Vec::new();
    usages(data, 0, ValueKind::Object, &mut keys);
    let expected = keys.into_iter().max_by_key(|&(key, _)| key);
    let expected = expected.map_or(ObjectSearch::Absent, |(key, object)| ObjectSearch::Opens { key, object });
    assert_eq!(json::find_object(data, &json::Finder::new("usage")), expected);
}

/// Where the members called `usage` are that have objects for values, and these objects.
fn usages(text: &[u8], base: usize, kind: ValueKind, found: &mut Vec<(usize, usize)>) {
    match kind {
        ValueKind::Object => {
            for member in json::members(text).map(Result::unwrap) {
                let value = member.value.start + base;
                if member.key.of(text) == b"\"usage\"" && member.kind == ValueKind::Object {
                    found.push((member.key.start + base, value));
                }
                usages(member.value.of(text), value, member.kind, found);
            }
        }
        ValueKind::Array => {
            for (span, kind) in json::elements(text).map(Result::unwrap) {
                usages(span.of(text), span.start + base, kind, found);
            }
        }
        _ => {}
    }
}

fn check_value(raw: &[u8], kind: ValueKind) {
    assert!(serde_json::from_slice::<IgnoredAny>(raw).is_ok(), "a value by itself is sound");
    let expected = match super::value(raw) {
        Some(Value::Object(_)) => ValueKind::Object,
        Some(Value::Array(_)) => ValueKind::Array,
        Some(Value::String(_)) => ValueKind::String,
        Some(Value::Number(_)) => ValueKind::Number,
        Some(Value::Bool(true)) => ValueKind::True,
        Some(Value::Bool(false)) => ValueKind::False,
        Some(Value::Null) => ValueKind::Null,
        // Not UTF-8, a lone surrogate, a number out of range, or nested deeper than it follows.
        None => kind,
    };
    assert_eq!(kind, expected);
    if kind == ValueKind::String {
        check_string(raw);
    }
    if kind == ValueKind::Number {
        let text = std::str::from_utf8(raw).unwrap();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!(json::unsigned(raw), text.parse().ok().filter(|_| digits));
    }
}

/// A string with its quotes.
fn check_string(raw: &[u8]) {
    let read = json::string(raw);
    assert_eq!(read.as_deref(), serde_json::from_slice::<String>(raw).ok().as_deref());
    for name in ["", "model", "stream", "n", "a\"b", "k"].into_iter().chain(read.as_deref()) {
        assert_eq!(json::key_is(raw, name), read.as_deref() == Some(name), "{name}");
        if name.is_ascii() {
            let fold =
                |text: &str| text.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
            let expected = read.as_deref().is_some_and(|text| fold(text) == fold(name));
            assert_eq!(json::key_is_caseless(raw, name), expected, "{name}");
        }
    }
}

/// Any text at all, written and read back; any bytes at all, taken for a string.
fn strings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut quoted = Vec::new();
    json::quote(&mut quoted, &text);
    assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
    assert_eq!(json::string(&quoted).as_deref(), Some(&*text));
    // No panic, whatever is taken for a string.
    let _ = (json::string(data), json::key_is(data, "model"), json::key_is_caseless(data, "model"));
    let _ = json::find_object(data, &json::Finder::new("usage"));
}
