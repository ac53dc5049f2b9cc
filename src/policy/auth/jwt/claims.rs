//! The members of a token's header or claims.

use std::fmt;

use crate::units::Span;
use crate::wire::json::{self, ValueKind};

/// A JSON object whose members have different names.
#[derive(Debug)]
pub struct Claims {
    bytes: Vec<u8>,
    members: Vec<(String, Span, ValueKind)>,
}

/// The name of a claim; with dots, of a member of a claim: `realm_access.roles`. A claim of exactly this name goes before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path(Box<str>);

/// A number of seconds since 1970 (RFC 7519 section 2, NumericDate).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seconds {
    /// This one, fractions cut off.
    At(u64),
    /// There is none.
    Absent,
    /// It is no number, or before 1970.
    Wrong,
}

/// Members of one object, and values of one claim. Chosen, not measured: far above what identity providers send.
const MEMBERS_MAX: usize = 256;
/// Steps of a path.
const STEPS_MAX: usize = 8;

impl Path {
    /// The path that is written like this.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether it names something.
    pub fn is_path(&self) -> bool {
        let steps = self.0.split('.');
        !self.0.is_empty() && (self.0.contains("://") || steps.clone().all(|step| !step.is_empty()))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Claims {
    /// Reads an object. `None` for what is none to its last byte, is no UTF-8, or has two members of one name (RFC 7515 section 4,
    /// RFC 7519 section 4: readers that choose one of them could disagree).
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        std::str::from_utf8(&bytes).ok()?;
        let mut members: Vec<(String, Span, ValueKind)> = Vec::new();
        for member in json::members(&bytes) {
            let member = member.ok()?;
            let name = json::string(member.key.of(&bytes))?.into_owned();
            if members.len() == MEMBERS_MAX || members.iter().any(|(other, ..)| *other == name) {
                return None;
            }
            members.push((name, member.value, member.kind));
        }
        Some(Self { bytes, members })
    }

    /// Whether there is a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The member of this name, if it is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        let (span, ValueKind::String) = self.find(name)? else { return None };
        json::string(span.of(&self.bytes)).map(std::borrow::Cow::into_owned)
    }

    /// The values of a claim: a text is a list of one, and `scope` holds several with blanks between (RFC 8693 section 4.2).
    /// Numbers and truth values are as they are written. `None` if it is absent or holds anything else.
    pub fn texts(&self, path: &Path) -> Option<Vec<String>> {
        if let Some((span, kind)) = self.find(&path.0) {
            let list = texts(span.of(&self.bytes), kind)?;
            let is_scope = &*path.0 == "scope" && kind == ValueKind::String;
            return Some(match is_scope {
                true => list[0].split_ascii_whitespace().map(str::to_owned).collect(),
                false => list,
            });
        }
        let (first, rest) = path.0.split_once('.')?;
        let (span, ValueKind::Object) = self.find(first)? else { return None };
        let mut object = Self::read(span.of(&self.bytes).to_vec())?;
        let mut steps = rest.split('.').take(STEPS_MAX).peekable();
        while let Some(step) = steps.next() {
            let (span, kind) = object.find(step)?;
            if steps.peek().is_none() {
                return texts(span.of(&object.bytes), kind);
            }
            object = Self::read(span.of(&object.bytes).to_vec())?;
        }
        None
    }

    /// The member of this name as a time.
    pub fn seconds(&self, name: &str) -> Seconds {
        let Some((span, kind)) = self.find(name) else { return Seconds::Absent };
        let number = match kind {
            ValueKind::Number => std::str::from_utf8(span.of(&self.bytes)).ok(),
            _ => None,
        };
        match number.and_then(|number| number.parse::<f64>().ok()) {
            // A cast saturates: a time too large for a number is one that never comes.
            Some(seconds) if seconds >= 0.0 => Seconds::At(seconds as u64),
            _ => Seconds::Wrong,
        }
    }

    /// The values of a member that is a list, each as it stands in the text.
    pub fn elements(&self, name: &str) -> Option<Vec<&[u8]>> {
        let (span, ValueKind::Array) = self.find(name)? else { return None };
        let bytes = span.of(&self.bytes);
        json::elements(bytes).map(|element| element.ok().map(|(span, _)| span.of(bytes))).collect()
    }

    fn find(&self, name: &str) -> Option<(Span, ValueKind)> {
        self.members.iter().find(|(own, ..)| own == name).map(|(_, span, kind)| (*span, *kind))
    }
}

fn texts(bytes: &[u8], kind: ValueKind) -> Option<Vec<String>> {
    if kind != ValueKind::Array {
        return Some(vec![text(bytes, kind)?]);
    }
    let mut list = Vec::new();
    for element in json::elements(bytes) {
        let (span, kind) = element.ok()?;
        if list.len() == MEMBERS_MAX {
            return None;
        }
        list.push(text(span.of(bytes), kind)?);
    }
    Some(list)
}

fn text(bytes: &[u8], kind: ValueKind) -> Option<String> {
    match kind {
        ValueKind::String => json::string(bytes).map(std::borrow::Cow::into_owned),
        ValueKind::Number | ValueKind::True | ValueKind::False => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        ValueKind::Object | ValueKind::Array | ValueKind::Null => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        Claims::read(text.as_bytes().to_vec()).expect("an object")
    }

    #[test]
    fn a_text_is_a_list_of_one_and_dots_lead_into_objects() {
        let claims = claims(
            r#"{"groups":["a","b"],"team":"a","realm_access":{"roles":["r"],"x":{"y":7}},"https://h.example/groups":"n",
               "scope":"read llm","ok":true,"none":null,"mixed":["a",{}]}"#,
        );
        for (path, expected) in [
            ("groups", Some(vec!["a", "b"])),
            ("team", Some(vec!["a"])),
            ("realm_access.roles", Some(vec!["r"])),
            ("realm_access.x.y", Some(vec!["7"])),
            ("https://h.example/groups", Some(vec!["n"])),
            ("scope", Some(vec!["read", "llm"])),
            ("ok", Some(vec!["true"])),
            ("none", None),
            ("mixed", None),
            ("absent", None),
            ("team.x", None),
            ("realm_access.x.z", None),
        ] {
            let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect());
            assert_eq!(claims.texts(&Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn two_members_of_one_name_are_refused_however_they_are_written() {
        for text in
            [r#"{"sub":"a","sub":"b"}"#, r#"{"sub":"a","s\u0075b":"b"}"#, r#"{"a":1"#, "[]", "{} {}", ""]
        {
            assert!(Claims::read(text.as_bytes().to_vec()).is_none(), "{text}");
        }
        assert!(Claims::read(b"{\"a\":\"\xff\"}".to_vec()).is_none());
        let many: Vec<String> = (0..300).map(|at| format!("\"m{at}\":1")).collect();
        assert!(Claims::read(format!("{{{}}}", many.join(",")).into_bytes()).is_none());
    }

    #[test]
    fn times_are_numbers() {
        let claims = claims(
            r#"{"a":1300819380,"b":1300819380.9,"c":"1300819380","d":-1,"e":1e300,"f":null,"g":1.3e9}"#,
        );
        for (name, expected) in [
            ("a", Seconds::At(1_300_819_380)),
            ("b", Seconds::At(1_300_819_380)),
            ("c", Seconds::Wrong),
            ("d", Seconds::Wrong),
            ("e", Seconds::At(u64::MAX)),
            ("f", Seconds::Wrong),
            ("g", Seconds::At(1_300_000_000)),
            ("h", Seconds::Absent),
        ] {
            assert_eq!(claims.seconds(name), expected, "{name}");
        }
    }

    #[test]
    fn a_path_has_no_empty_step() {
        for (text, is) in
            [("sub", true), ("a.b", true), ("", false), ("a.", false), (".a", false), ("https://h/x", true)]
        {
            assert_eq!(Path::new(text).is_path(), is, "{text}");
        }
    }
}
