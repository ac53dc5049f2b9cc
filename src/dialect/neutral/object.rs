//! An object whose members are asked for by name.

use super::{Json, Text};
use crate::wire::json::{self, BadJson, Member, ValueKind};

/// Most members of an object that are looked at; requests and responses have far fewer. Chosen, not measured.
const MEMBERS_MAX: usize = 4096;

/// An object, sound to its last byte. Of two members of one name the last counts, as in most parsers.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    bytes: Json<'a>,
    members: Vec<Member>,
}

impl<'a> Object<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// It is no object, not sound, or has more members than are looked at.
    pub fn read(bytes: Json<'a>) -> Result<Self, BadJson> {
        let mut members = Vec::with_capacity(8);
        for member in json::members(bytes) {
            let member = member?;
            if members.len() == MEMBERS_MAX {
                return Err(BadJson { at: member.key.start, reason: "an object has too many members" });
            }
            members.push(member);
        }
        Ok(Self { bytes, members })
    }

    /// The value of a member; null counts as absent.
    pub fn get(&self, name: &str) -> Option<Json<'a>> {
        self.find(name).map(|member| member.value.of(self.bytes))
    }

    /// The value of a member that is of this kind.
    pub fn of_kind(&self, name: &str, kind: ValueKind) -> Option<Json<'a>> {
        self.find(name).filter(|member| member.kind == kind).map(|member| member.value.of(self.bytes))
    }

    /// The text of a member that is a string.
    pub fn text(&self, name: &str) -> Option<Text<'a>> {
        Text::of(self.of_kind(name, ValueKind::String)?)
    }

    /// Whether a member is this string.
    pub fn says(&self, name: &str, text: &str) -> bool {
        self.text(name).is_some_and(|said| said.is(text))
    }

    /// A member that is true or false.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.find(name)?.kind {
            ValueKind::True => Some(true),
            ValueKind::False => Some(false),
            _ => None,
        }
    }

    /// A member that is a whole number.
    pub fn unsigned(&self, name: &str) -> Option<u64> {
        json::unsigned(self.of_kind(name, ValueKind::Number)?)
    }

    /// A member that is an object itself.
    ///
    /// # Errors
    /// It is not sound, or has too many members.
    pub fn object(&self, name: &str) -> Result<Option<Object<'a>>, BadJson> {
        self.of_kind(name, ValueKind::Object).map(Object::read).transpose()
    }

    /// The elements of a member that is an array, each with its kind; none if it is absent or something else.
    pub fn elements(
        &self,
        name: &str,
    ) -> impl Iterator<Item = Result<(Json<'a>, ValueKind), BadJson>> + use<'a> {
        let array = self.of_kind(name, ValueKind::Array).unwrap_or(b"[]");
        json::elements(array).map(move |element| element.map(|(span, kind)| (span.of(array), kind)))
    }

    /// Its members that are not null, each with its key in quotes.
    pub fn iter(&self) -> impl Iterator<Item = (Json<'a>, Json<'a>, ValueKind)> + '_ {
        self.members
            .iter()
            .filter(|member| member.kind != ValueKind::Null)
            .map(|member| (member.key.of(self.bytes), member.value.of(self.bytes), member.kind))
    }

    fn find(&self, name: &str) -> Option<&Member> {
        let last = self.members.iter().rev().find(|member| json::key_is(member.key.of(self.bytes), name));
        last.filter(|member| member.kind != ValueKind::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_and_null_is_none() {
        let object = Object::read(br#"{"a":"x","b":null,"c":[1,"y"],"d":7,"e":true,"a":"z"}"#).unwrap();
        assert!(object.says("a", "z"), "the last of two counts");
        assert_eq!((object.get("b"), object.get("f")), (None, None));
        assert_eq!(
            (object.unsigned("d"), object.boolean("e"), object.boolean("d")),
            (Some(7), Some(true), None)
        );
        let elements: Vec<_> = object.elements("c").map(|element| element.unwrap().0).collect();
        assert_eq!(elements, [&b"1"[..], b"\"y\""]);
        assert_eq!(object.elements("a").count(), 0);
        assert_eq!(object.iter().count(), 5);
    }

    #[test]
    fn what_is_no_sound_object_is_refused() {
        for bytes in [&b"[]"[..], b"", b"{", b"{\"a\":}", b"{} x", b"null"] {
            assert!(Object::read(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
