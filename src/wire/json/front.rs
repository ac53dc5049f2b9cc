//! The first members of an object of which only the beginning may have come.

use super::{BadJson, ValueKind, bad, blanks, key, next_byte, scalar};
use crate::units::Span;

/// The members at the front of the object that `bytes` begin with, up to the first object or array with something in it
/// (that one included), or to where the bytes end. What follows is not checked.
///
/// Errors: as [`super::members`]; at the end of `bytes` if they end before the end of a key or its colon.
/// Cost: the bytes of those keys and values.
pub fn front(bytes: &[u8]) -> Front<'_> {
    Front { bytes, at: None, over: false }
}

/// Iterator over the members at the front of an object, see [`front`].
#[derive(Clone, Debug)]
pub struct Front<'a> {
    bytes: &'a [u8],
    /// Behind the last value; `None` before the opening brace.
    at: Option<usize>,
    over: bool,
}

/// A member of which at least the key and its colon have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// The key with its quotes.
    pub key: Span,
    /// The value as far as it was read: of an object or array with something in it the opener, of a value that is cut all
    /// that has come.
    pub value: Span,
    /// What the value is; `None` if it is cut.
    pub kind: Option<ValueKind>,
}

impl Iterator for Front<'_> {
    type Item = Result<Begun, BadJson>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.step().transpose();
        self.over |= !matches!(item, Some(Ok(_)));
        item
    }
}

impl Front<'_> {
    fn step(&mut self) -> Result<Option<Begun>, BadJson> {
        let bytes = self.bytes;
        let at = match self.at {
            None => {
                let open = blanks(bytes, 0);
                if next_byte(bytes, open)? != b'{' {
                    return bad(open, "the text is not an object");
                }
                let at = blanks(bytes, open + 1);
                if next_byte(bytes, at)? == b'}' {
                    return Ok(None);
                }
                at
            }
            Some(at) => {
                let at = blanks(bytes, at);
                match next_byte(bytes, at)? {
                    b',' => blanks(bytes, at + 1),
                    b'}' => return Ok(None),
                    _ => return bad(at, "a comma or the end is missing"),
                }
            }
        };
        let (key, start) = key(bytes, at)?;
        let (end, kind) = match bytes.get(start) {
            Some(&opener @ (b'{' | b'[')) => {
                let inside = blanks(bytes, start + 1);
                let is_empty = bytes.get(inside) == Some(&(opener + 2)); // in ASCII, for both
                self.over = !is_empty;
                let kind = if opener == b'{' { ValueKind::Object } else { ValueKind::Array };
                (if is_empty { inside + 1 } else { start + 1 }, Some(kind))
            }
            _ => match scalar(bytes, start) {
                Ok((end, kind)) => (end, Some(kind)),
                Err(error) if error.at == bytes.len() => {
                    self.over = true;
                    (bytes.len(), None)
                }
                Err(error) => return Err(error),
            },
        };
        self.at = Some(end);
        Ok(Some(Begun { key, value: Span::new(start, end), kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, value and kind of a member.
    type Seen<'a> = (&'a str, &'a str, Option<ValueKind>);

    fn read(text: &str) -> (Vec<Seen<'_>>, Option<usize>) {
        let (mut members, mut error) = (Vec::new(), None);
        for member in front(text.as_bytes()) {
            match member {
                Ok(Begun { key, value, kind }) => {
                    members.push((&text[key.start..key.end], &text[value.start..value.end], kind));
                }
                Err(bad) => error = Some(bad.at),
            }
        }
        (members, error)
    }

    #[test]
    fn members_are_read_up_to_the_first_that_holds_something() {
        let text = r#" {"a" : 1, "b":[ ],"c":null,"d":{"x":1},"e":2}"#;
        let (members, error) = read(text);
        let expected = [
            ("\"a\"", "1", Some(ValueKind::Number)),
            ("\"b\"", "[ ]", Some(ValueKind::Array)),
            ("\"c\"", "null", Some(ValueKind::Null)),
            ("\"d\"", "{", Some(ValueKind::Object)),
        ];
        assert_eq!((&members[..], error), (&expected[..], None));
        assert_eq!(read("{}"), (vec![], None));
        assert_eq!(read("{ } rest"), (vec![], None));
    }

    #[test]
    fn a_value_that_has_not_begun_is_empty() {
        assert_eq!(read("{\"a\": "), (vec![("\"a\"", "", None)], None));
    }

    #[test]
    fn what_is_cut_is_told_from_what_is_wrong() {
        for (text, at) in [("", 0), (" {", 2), ("{\"a", 3), ("{\"a\"", 4)] {
            assert_eq!(read(text), (vec![], Some(at)), "{text}");
        }
        assert_eq!(read("{\"a\":\"x"), (vec![("\"a\"", "\"x", None)], None));
        assert_eq!(read("{\"a\":nu"), (vec![("\"a\"", "nu", None)], None));
        for (text, at) in [("[1]", 0), ("<html>", 0), ("{a", 1), ("{\"a\" 1", 5), ("{\"a\":x", 5)] {
            assert_eq!(read(text), (vec![], Some(at)), "{text}");
        }
    }
}
