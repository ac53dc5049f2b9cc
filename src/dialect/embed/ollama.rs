//! Vectors in Ollama's API: `/api/embed`, and `/api/embeddings` with one prompt.

use super::{
    Context, Json, Object, Text, Unfit, Usage, ValueKind, Vectors, Wanted, json, list, number, read,
};
use crate::dialect::Api;
use crate::dialect::neutral::{malformed, unsupported};
use crate::error::Fault;

/// What a client's request asks for.
pub(super) fn wanted(client: Api, body: &[u8]) -> Result<Wanted<'_>, Fault> {
    let object = read(body, "the body")?;
    let name = if client == Api::OllamaEmbeddings { "prompt" } else { "input" };
    let mut wanted = Wanted::default();
    for (key, value, _) in object.iter() {
        match key {
            b"\"model\"" => {}
            b"\"dimensions\"" => {
                let dimensions = json::unsigned(value);
                wanted.dimensions =
                    Some(dimensions.ok_or_else(|| malformed("'dimensions' has to be a whole number"))?);
            }
            _ if json::key_is(key, name) => {}
            _ => wanted.losses.note_key(key),
        }
    }
    match object.text(name) {
        Some(text) => wanted.inputs.push(text),
        None => {
            for element in object.elements(name) {
                let (value, _) = element.map_err(|bad| malformed(format!("'{name}': {}", bad.reason)))?;
                let why = "has to be text for the backends of this model";
                wanted.inputs.push(Text::of(value).ok_or_else(|| unsupported(name, why))?);
            }
        }
    }
    match wanted.inputs.is_empty() {
        true => Err(malformed(format!("'{name}' has to be a string or a list of strings"))),
        false => Ok(wanted),
    }
}

/// What a backend's response brings.
pub(super) fn vectors(body: &[u8]) -> Result<Vectors<'_>, Unfit> {
    let object = Object::read(body)?;
    let mut values: Vec<Json<'_>> = Vec::new();
    for element in object.elements("embeddings") {
        match element? {
            (value, ValueKind::Array) => values.push(value),
            _ => return Err(Unfit("a vector is no list of numbers")),
        }
    }
    match values.is_empty() {
        true => Err(Unfit("there is no 'embeddings'")),
        false => Ok(Vectors { values, usage: Usage::read(body).ok().flatten() }),
    }
}

/// Appends the response of `/api/embed`.
pub(super) fn all(vectors: &Vectors<'_>, context: &Context, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"model\":");
    Text::plain(&context.model).quote(out);
    out.extend_from_slice(b",\"embeddings\":");
    list(&vectors.values, out, |values, out| out.extend_from_slice(values));
    if let Some(usage) = &vectors.usage {
        out.extend_from_slice(b",\"prompt_eval_count\":");
        number(out, usage.input);
    }
    out.push(b'}');
}

/// Appends the response of `/api/embeddings`.
pub(super) fn one(vectors: &Vectors<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let [values] = vectors.values[..] else { return Err(Unfit("there is not one vector")) };
    out.extend_from_slice(b"{\"embedding\":");
    out.extend_from_slice(values);
    out.push(b'}');
    Ok(())
}
