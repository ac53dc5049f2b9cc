//! Vectors in the encoding that the client asked for.
//!
//! The OpenAI SDKs ask for `"encoding_format":"base64"` unless their caller says otherwise, and the one for Node reads an
//! array of numbers as an empty vector, without an error. Many engines respond with arrays whatever they are asked for.

use super::Unfit;
use crate::units::Span;
use crate::wire::base64;
use crate::wire::json::{self, ValueKind};

/// Appends `body`, a response of `/v1/embeddings`, to `out` with every `data[i].embedding` that is an array of numbers as
/// a base64 string of its values, 32-bit floats in little-endian order. All other bytes are as they were. False, and
/// `out` is as it was, if there is no such array: the vectors are strings already.
///
/// # Errors
/// `out` is as it was. The body is no sound JSON object with an array `data` of objects that each have one `embedding`;
/// one of these is neither a string nor an array; an array holds anything but numbers (a list of vectors), or a number
/// beyond the range of a 32-bit float.
///
/// Cost: four passes over the body, and the reading of its numbers. A number takes 5.3 bytes of base64, which
/// is more than it was only if it was written in four bytes or fewer.
pub fn floats_to_base64(body: &[u8], out: &mut Vec<u8>) -> Result<bool, Unfit> {
    let start = out.len();
    let converted = convert(body, out);
    if !matches!(converted, Ok(true)) {
        out.truncate(start);
    }
    converted
}

fn convert(body: &[u8], out: &mut Vec<u8>) -> Result<bool, Unfit> {
    let (data, kind) = only(body, "data")?.ok_or(Unfit("there is no 'data'"))?;
    if kind != ValueKind::Array {
        return Err(Unfit("'data' is not an array"));
    }
    let mut copied = 0;
    let mut floats = Vec::new();
    for item in json::elements(data.of(body)) {
        let item = item?.0.shifted(data.start);
        let (vector, kind) = only(item.of(body), "embedding")?.ok_or(Unfit("there is no 'embedding'"))?;
        let vector = vector.shifted(item.start);
        match kind {
            ValueKind::String => continue,
            ValueKind::Array => {}
            _ => return Err(Unfit("an embedding is neither a string nor an array")),
        }
        floats.clear();
        read_floats(vector.of(body), &mut floats)?;
        out.extend_from_slice(&body[copied..vector.start]);
        out.push(b'"');
        base64::encode(&floats, out);
        out.push(b'"');
        copied = vector.end;
    }
    out.extend_from_slice(&body[copied..]);
    Ok(copied > 0)
}

/// The value of the one member of that name. Reads the object to its end, so that it is known to be sound.
fn only(object: &[u8], name: &'static str) -> Result<Option<(Span, ValueKind)>, Unfit> {
    let mut found = None;
    for member in json::members(object) {
        let member = member?;
        if json::key_is(member.key.of(object), name) && found.replace((member.value, member.kind)).is_some() {
            return Err(Unfit("a member is given twice"));
        }
    }
    Ok(found)
}

/// Appends the numbers of `array` to `floats`, four bytes each. The nearest float to what is written, in one rounding.
fn read_floats(array: &[u8], floats: &mut Vec<u8>) -> Result<(), Unfit> {
    for element in json::elements(array) {
        let (span, kind) = element?;
        if kind != ValueKind::Number {
            return Err(Unfit("a vector holds something else than numbers"));
        }
        let float = std::str::from_utf8(span.of(array)).ok().and_then(|number| number.parse::<f32>().ok());
        let float = float.filter(|float| float.is_finite());
        floats.extend_from_slice(&float.ok_or(Unfit("a number is too large"))?.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
