//! Schemas in Google's own form, an excerpt of OpenAPI's: types in upper case, `nullable`, numbers as strings.
//!
//! They become JSON Schema before the request is decoded, so that what is decoded refers to bytes as they are.

use std::borrow::Cow;

use crate::dialect::gemini::spelling::{Members, camel};
use crate::dialect::neutral::{Json, Object, Text};
use crate::units::Span;
use crate::wire::json::{self, ValueKind};

/// The body with every schema of Google's form as JSON Schema. What is not read is left as it is, for the decoder to refuse.
pub fn prepared(body: &[u8]) -> Cow<'_, [u8]> {
    let mut edits: Vec<(Span, Vec<u8>)> = Vec::new();
    let _ = collect(body, &mut edits);
    if edits.is_empty() {
        return Cow::Borrowed(body);
    }
    edits.sort_unstable_by_key(|(span, _)| span.start);
    let edits: Vec<(Span, &[u8])> = edits.iter().map(|(span, text)| (*span, text.as_slice())).collect();
    let mut out = Vec::with_capacity(body.len() + body.len() / 8);
    json::splice(&mut out, body, &edits);
    Cow::Owned(out)
}

/// Notes what each schema of the body becomes.
fn collect(body: &[u8], edits: &mut Vec<(Span, Vec<u8>)>) -> Option<()> {
    let object = Members(Object::read(body).ok()?);
    let mut note = |schema: Option<Json<'_>>| {
        let Some(schema) = schema else { return };
        let mut out = Vec::with_capacity(schema.len());
        write(schema, 0, &mut out);
        if out != schema {
            let start = schema.as_ptr() as usize - body.as_ptr() as usize;
            edits.push((Span::new(start, start + schema.len()), out));
        }
    };
    if let Ok(Some(config)) = object.object("generationConfig") {
        note(config.of_kind("responseSchema", ValueKind::Object));
    }
    for tool in object.elements("tools").ok()? {
        let Ok(tool) = Object::read(tool) else { continue };
        for function in Members(tool).elements("functionDeclarations").ok()? {
            let Ok(function) = Object::read(function) else { continue };
            note(Members(function).of_kind("parameters", ValueKind::Object));
        }
    }
    Some(())
}

/// Deeper schemas are left as they are.
const DEPTH_MAX: usize = 64;

/// Appends a schema as JSON Schema.
fn write(schema: Json<'_>, depth: usize, out: &mut Vec<u8>) {
    let Some(object) = Object::read(schema).ok().filter(|_| depth < DEPTH_MAX) else {
        return out.extend_from_slice(schema);
    };
    let is_nullable = Members(object.clone()).boolean("nullable") == Some(true);
    out.push(b'{');
    let mut is_first = true;
    for (key, value, kind) in object.iter() {
        let name = camel(key);
        if matches!(name.as_str(), "nullable" | "propertyOrdering") {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        json::quote(out, &name);
        out.push(b':');
        match (name.as_str(), kind) {
            ("type", ValueKind::String) => type_of(value, is_nullable, out),
            ("properties" | "defs" | "$defs", ValueKind::Object) => properties(value, depth, out),
            ("items" | "additionalProperties", ValueKind::Object) => write(value, depth + 1, out),
            ("anyOf", ValueKind::Array) => list(value, depth, out),
            (
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties",
                ValueKind::String,
            ) => {
                let digits = Text::of(value).unwrap_or_default();
                let is_number = json::unsigned(digits.inside()).is_some();
                out.extend_from_slice(if is_number { digits.inside() } else { value });
            }
            _ => out.extend_from_slice(value),
        }
    }
    out.push(b'}');
}

fn type_of(value: Json<'_>, is_nullable: bool, out: &mut Vec<u8>) {
    let lower = value.to_ascii_lowercase();
    match is_nullable {
        true => {
            out.push(b'[');
            out.extend_from_slice(&lower);
            out.extend_from_slice(b",\"null\"]");
        }
        false => out.extend_from_slice(&lower),
    }
}

fn properties(value: Json<'_>, depth: usize, out: &mut Vec<u8>) {
    let Ok(object) = Object::read(value) else { return out.extend_from_slice(value) };
    out.push(b'{');
    for (index, (key, value, _)) in object.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b':');
        write(value, depth + 1, out);
    }
    out.push(b'}');
}

fn list(value: Json<'_>, depth: usize, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, (element, _)) in json::elements(value).map_while(Result::ok).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element.of(value), depth + 1, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_googles_becomes_json_schema() {
        let body = r#"{"tools":[{"function_declarations":[{"name":"f","parameters":{"type":"OBJECT","properties":{
            "type":{"type":"STRING","nullable":true,"enum":["A"]},"list":{"type":"ARRAY","min_items":"2","items":{"type":"INTEGER"}}},
            "required":["type"],"propertyOrdering":["type"]}}]}],"generationConfig":{"responseSchema":{"type":"STRING"}}}"#;
        let expected = r#"{"tools":[{"function_declarations":[{"name":"f","parameters":{"type":"object","properties":{"type":{"type":["string","null"],"enum":["A"]},"list":{"type":"array","minItems":2,"items":{"type":"integer"}}},"required":["type"]}}]}],"generationConfig":{"responseSchema":{"type":"string"}}}"#;
        assert_eq!(String::from_utf8_lossy(&prepared(body.as_bytes())), expected);
    }

    #[test]
    fn json_schema_and_broken_bodies_stay_as_they_are() {
        for body in [
            r#"{"tools":[{"functionDeclarations":[{"parametersJsonSchema":{"type":"OBJECT"}}]}]}"#,
            r#"{"tools":[{"functionDeclarations":[{"parameters":{"type":"object","properties":{}}}]}]}"#,
            r#"{"tools":5}"#,
            r#"{"tools":[{"functionDeclarations":[5]}]}"#,
            "",
            "[]",
        ] {
            assert!(matches!(prepared(body.as_bytes()), Cow::Borrowed(_)), "{body}");
        }
    }
}
