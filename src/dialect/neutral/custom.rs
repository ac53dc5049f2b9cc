//! Tools that take free text, for dialects that only have functions: a function with one string, `input`.

use super::{Object, Text};
use crate::wire::json;

/// The schema of the function that stands for such a tool.
pub const SCHEMA: &[u8] =
    br#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

/// Appends the arguments of that function, an object.
pub fn wrap(text: &Text<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"input\":");
    text.quote(out);
    out.push(b'}');
}

/// The free text in the arguments of that function, given as the inside of a JSON string. Arguments of any other form are
/// the text themselves: some models leave the object out.
pub fn unwrap(arguments: &Text<'_>) -> Text<'static> {
    let mut inner = Vec::with_capacity(arguments.inside().len());
    json::unescape(arguments.inside(), &mut inner);
    let input = Object::read(&inner).ok().and_then(|object| Some(object.text("input")?.into_owned()));
    input.unwrap_or_else(|| arguments.clone().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_comes_back_as_it_went() {
        let text = Text::plain("*** Begin Patch\n+\"a\\b\" é\n");
        let mut object = Vec::new();
        wrap(&text, &mut object);
        let mut arguments = Vec::new();
        json::escape_bytes(&mut arguments, &object);
        assert_eq!(unwrap(&Text::owned(arguments)), text);
    }

    #[test]
    fn arguments_that_are_no_such_object_are_the_text() {
        for arguments in ["ls -l", "", r#"{\"cmd\":\"ls\"}"#, r#"{\"input\":1}"#, r#"{\"input\":"#] {
            assert_eq!(unwrap(&Text::escaped(arguments.as_bytes())), Text::escaped(arguments.as_bytes()));
        }
    }
}
