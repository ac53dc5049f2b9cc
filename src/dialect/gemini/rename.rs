//! The model where a body names it beside the path: there the two have to agree.

use crate::dialect::neutral::{Json, Object};
use crate::units::Span;
use crate::wire::json::{self, ValueKind};

/// The body with the backend's own name for the model in the place of the client's; `None` if it names none, or that one.
/// `own`: the backend's name, as the path has it.
pub fn renamed(body: &[u8], own: &str) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    json::quote(&mut name, &format!("models/{}", own.strip_prefix("models/").unwrap_or(own)));
    let mut spans = Vec::new();
    let object = Object::read(body).ok()?;
    note(body, &object, &name, &mut spans);
    for inner in ["generateContentRequest", "generate_content_request"] {
        if let Ok(Some(request)) = object.object(inner) {
            note(body, &request, &name, &mut spans);
        }
    }
    for (request, _) in object.elements("requests").map_while(Result::ok) {
        if let Ok(request) = Object::read(request) {
            note(body, &request, &name, &mut spans);
        }
    }
    if spans.is_empty() {
        return None;
    }
    spans.sort_unstable_by_key(|span: &Span| span.start);
    let edits: Vec<(Span, &[u8])> = spans.iter().map(|span| (*span, &name[..])).collect();
    let mut out = Vec::with_capacity(body.len() + edits.len() * name.len());
    json::splice(&mut out, body, &edits);
    Some(out)
}

fn note(body: &[u8], object: &Object<'_>, name: Json<'_>, spans: &mut Vec<Span>) {
    let Some(model) = object.of_kind("model", ValueKind::String).filter(|model| *model != name) else {
        return;
    };
    let start = model.as_ptr() as usize - body.as_ptr() as usize;
    spans.push(Span::new(start, start + model.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_the_backends_name() {
        let body = r#"{"requests":[{"model":"models/m","content":{"model":"x"}},{"content":{}},{"model": "m"}],"new":1.0}"#;
        let expected = r#"{"requests":[{"model":"models/own","content":{"model":"x"}},{"content":{}},{"model": "models/own"}],"new":1.0}"#;
        assert_eq!(String::from_utf8(renamed(body.as_bytes(), "own").unwrap()).unwrap(), expected);
        let body = r#"{"model":"m","generateContentRequest":{"model":"models/m","contents":[]}}"#;
        let expected =
            r#"{"model":"models/own","generateContentRequest":{"model":"models/own","contents":[]}}"#;
        assert_eq!(String::from_utf8(renamed(body.as_bytes(), "models/own").unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_body_without_a_name_or_with_that_one_stays_as_it_is() {
        for body in ["{}", "[", r#"{"model":"models/own"}"#, r#"{"contents":[{"parts":[{"model":"m"}]}]}"#] {
            assert_eq!(renamed(body.as_bytes(), "own"), None, "{body}");
        }
    }
}
