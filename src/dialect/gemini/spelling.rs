//! Members under both of their spellings: `functionCall`, as the reference has it, and `function_call`, which the API takes too.

use std::borrow::Cow;

use crate::dialect::neutral::{Json, Object, Text};
use crate::wire::json::{BadJson, ValueKind};

/// An object of a request.
pub(super) struct Members<'a>(pub(super) Object<'a>);

impl<'a> Members<'a> {
    pub(super) fn get(&self, name: &str) -> Option<Json<'a>> {
        self.0.get(name).or_else(|| self.0.get(&snake(name)))
    }

    pub(super) fn of_kind(&self, name: &str, kind: ValueKind) -> Option<Json<'a>> {
        self.0.of_kind(name, kind).or_else(|| self.0.of_kind(&snake(name), kind))
    }

    pub(super) fn text(&self, name: &str) -> Option<Text<'a>> {
        Text::of(self.of_kind(name, ValueKind::String)?)
    }

    /// A member that is a word.
    pub(super) fn word(&self, name: &str) -> Option<String> {
        Some(self.text(name)?.to_plain()?.into_owned())
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.0.boolean(name).or_else(|| self.0.boolean(&snake(name)))
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, BadJson> {
        self.of_kind(name, ValueKind::Object).map(|object| Object::read(object).map(Self)).transpose()
    }

    /// The elements of a list, or the one object that stands for a list of one.
    pub(super) fn elements(&self, name: &str) -> Result<Vec<Json<'a>>, BadJson> {
        if let Some(one) = self.of_kind(name, ValueKind::Object) {
            return Ok(vec![one]);
        }
        let camel = self.0.of_kind(name, ValueKind::Array).is_some();
        let name = if camel { Cow::Borrowed(name) } else { Cow::Owned(snake(name)) };
        self.0.elements(&name).map(|element| element.map(|(value, _)| value)).collect()
    }

    /// Its members that are not null: their names in camel case, and their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, Json<'a>, ValueKind)> {
        self.0.iter().map(|(key, value, kind)| (camel(key), value, kind))
    }
}

/// The name of a key, given with its quotes, in camel case.
pub(super) fn camel(key: &[u8]) -> String {
    let text = Text::of(key).unwrap_or_default();
    let plain = text.to_plain().unwrap_or_default();
    let mut name = String::with_capacity(plain.len());
    let mut is_after = false;
    for letter in plain.chars() {
        match letter {
            '_' if !name.is_empty() => is_after = true,
            _ if std::mem::take(&mut is_after) => name.extend(letter.to_uppercase()),
            _ => name.push(letter),
        }
    }
    name
}

/// A name in snake case.
fn snake(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_name() {
        for (key, name) in [("\"function_call\"", "functionCall"), ("\"topK\"", "topK"), ("\"_x\"", "_x")] {
            assert_eq!(camel(key.as_bytes()), name);
        }
        let members =
            Members(Object::read(br#"{"max_output_tokens":5,"stopSequences":["a"],"top_k":null}"#).unwrap());
        assert_eq!(members.get("maxOutputTokens"), Some(&b"5"[..]));
        assert_eq!(members.elements("stopSequences").unwrap(), [b"\"a\""]);
        assert_eq!(members.get("topK"), None);
    }
}
