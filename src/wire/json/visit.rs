//! Every value of a JSON text, in one pass whatever its nesting.

use super::{BadJson, Nest, ValueKind, bad, blanks, key, next_byte, scalar};
use crate::units::Span;

/// A value, or the end of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// An object or an array begins.
    Opens {
        /// Its key with its quotes; empty in an array, and for the text itself.
        key: Span,
        /// Which of the two.
        kind: ValueKind,
    },
    /// The one that was opened last ends.
    Closes,
    /// Any other value.
    Scalar {
        /// Its key with its quotes; empty in an array.
        key: Span,
        /// The value.
        value: Span,
        /// What it is.
        kind: ValueKind,
    },
}

/// Reports every value of the object or array at the start of `bytes`, outermost first; what follows it is not looked at.
///
/// # Errors
/// The text is not sound. What was reported before stays reported.
///
/// Cost: one pass, no allocation.
pub fn visit(bytes: &[u8], sink: &mut dyn FnMut(Visit)) -> Result<(), BadJson> {
    let (mut at, mut name, mut nest) = (blanks(bytes, 0), Span::default(), Nest::default());
    'value: loop {
        match next_byte(bytes, at)? {
            open @ (b'{' | b'[') => {
                if !nest.push(open == b'{') {
                    return bad(at, "the text is nested too deeply");
                }
                let kind = if open == b'{' { ValueKind::Object } else { ValueKind::Array };
                sink(Visit::Opens { key: name, kind });
                at = blanks(bytes, at + 1);
                if next_byte(bytes, at)? != open + 2 {
                    (name, at) = named(bytes, at, &nest)?;
                    continue 'value;
                }
            }
            _ if nest.depth == 0 => return bad(at, "the text is neither an object nor an array"),
            _ => {
                let (end, kind) = scalar(bytes, at)?;
                sink(Visit::Scalar { key: name, value: Span::new(at, end), kind });
                at = end;
            }
        }
        loop {
            at = blanks(bytes, at);
            match next_byte(bytes, at)? {
                b',' => {
                    (name, at) = named(bytes, blanks(bytes, at + 1), &nest)?;
                    continue 'value;
                }
                b'}' if nest.in_object() => at += 1,
                b']' if !nest.in_object() => at += 1,
                _ => return bad(at, "a comma or the end is missing"),
            }
            sink(Visit::Closes);
            if nest.pop() == 0 {
                return Ok(());
            }
        }
    }
}

/// The key of the value at `at`, empty in an array, and where the value starts.
fn named(bytes: &[u8], at: usize, nest: &Nest) -> Result<(Span, usize), BadJson> {
    match nest.in_object() {
        true => key(bytes, at),
        false => Ok((Span::new(at, at), at)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DEPTH_MAX;
    use super::*;

    #[test]
    fn every_value_is_visited_once_with_its_key() {
        let text = r#" {"a":[1,{"b":"x"},[]],"c":{},"d":null} behind"#;
        let mut seen = Vec::new();
        let of = |span: Span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned();
        let result = visit(text.as_bytes(), &mut |one| {
            seen.push(match one {
                Visit::Opens { key, kind } => format!("{} {kind:?}", of(key)),
                Visit::Closes => "end".to_owned(),
                Visit::Scalar { key, value, .. } => format!("{} {}", of(key), of(value)),
            });
        });
        assert_eq!(result, Ok(()));
        let expected = [
            " Object",
            "\"a\" Array",
            " 1",
            " Object",
            "\"b\" \"x\"",
            "end",
            " Array",
            "end",
            "end",
            "\"c\" Object",
            "end",
            "\"d\" null",
            "end",
        ];
        assert_eq!(seen, expected);
        for bad in ["", "1", "{", "[1", "{]", "{\"a\"}", &"[".repeat(DEPTH_MAX + 1)] {
            assert!(visit(bad.as_bytes(), &mut |_| {}).is_err(), "{bad}");
        }
    }
}
