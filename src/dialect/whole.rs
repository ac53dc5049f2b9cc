//! A whole response as the stream that says the same in the same API, for a client that asked for a stream of a backend that
//! sent none. Each dialect's folder says how (`as_stream`); here is what they write with.
//!
//! The events say what the body says, each thing once where the dialect allows it. Values are copied as they were
//! written (numbers, escapes, the order of keys, members the gateway does not know); only line breaks between tokens go, because
//! they would end a line of the stream. Nothing is made up: no reason to finish, no identifier, no count.
//!
//! This is not the way through the neutral form, which would drop what it does not know.

use memchr::memchr2;

use super::{Api, Unfit, number};
use crate::wire::json::{self, Member, ValueKind};

/// How one API does it. The flag: whether usage was asked for.
pub(super) type AsStream = fn(&[u8], bool, &mut Events<'_>) -> Result<(), Unfit>;

/// Appends to `out` the event stream that says what `body`, the whole response of `api`, says.
///
/// `include_usage`: whether chat and completions get the chunk with the usage (`Peek::usage_asked`); the other APIs
/// carry usage in any case. A body without usage has no such chunk.
///
/// # Errors
/// `out` is as it was. The body is no sound JSON object of the expected shape (an error, another API's response, a
/// response that is not finished), a member that decides is there twice, the stream would be longer than
/// [`bytes_max`], or the API has no streams.
///
/// Cost: a handful of passes over the body. The stream of a chat is about as long as the body, that of a response up to
/// six times, because its events repeat the text.
pub fn stream(api: Api, body: &[u8], include_usage: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let start = out.len();
    let mut events = Events { bytes_max: start.saturating_add(bytes_max(body.len())), count: 0, out };
    let as_stream = api.endpoint().as_stream.ok_or(Unfit("this API has no streams"))?;
    let told = as_stream(body, include_usage, &mut events);
    if told.is_err() {
        out.truncate(start);
    }
    told
}

/// The longest stream that is made of a body, but for its last event. Far above what responses need; it bounds what a body
/// of many tiny parts costs.
pub const fn bytes_max(body_bytes: usize) -> usize {
    body_bytes.saturating_mul(16).saturating_add(64 * 1024)
}

/// Most members of an object that is looked into. Chosen, not measured: responses have below 40.
const MEMBERS_MAX: usize = 1024;

/// An object of the body that is looked into, sound to its end.
pub(super) struct Object<'b> {
    text: &'b [u8],
    members: Vec<Member>,
}

impl<'b> Object<'b> {
    pub(super) fn read(text: &'b [u8]) -> Result<Self, Unfit> {
        let mut members = Vec::new();
        for member in json::members(text) {
            if members.len() == MEMBERS_MAX {
                return Err(Unfit("an object has too many members"));
            }
            members.push(member?);
        }
        Ok(Self { text, members })
    }

    /// The value of a member. Two of one name are refused: readers differ in which they take.
    pub(super) fn get(&self, name: &str) -> Result<Option<Value<'b>>, Unfit> {
        let mut found = None;
        for member in self.members.iter().filter(|member| json::key_is(member.key.of(self.text), name)) {
            let value = Value { text: member.value.of(self.text), kind: member.kind };
            if found.replace(value).is_some() {
                return Err(Unfit("a member is given twice"));
            }
        }
        Ok(found)
    }

    /// The text of a member's value, if it is of that kind.
    pub(super) fn of_kind(&self, name: &str, kind: ValueKind) -> Result<Option<&'b [u8]>, Unfit> {
        Ok(self.get(name)?.filter(|value| value.kind == kind).map(|value| value.text))
    }

    /// Whether a member is this string.
    pub(super) fn says(&self, name: &str, text: &str) -> Result<bool, Unfit> {
        Ok(self.get(name)?.is_some_and(|value| json::key_is(value.text, text)))
    }
}

/// A value of the body.
#[derive(Clone, Copy)]
pub(super) struct Value<'b> {
    pub(super) text: &'b [u8],
    pub(super) kind: ValueKind,
}

/// What to do with a member that is not copied as it is: another value, or `None` to leave it out.
pub(super) type Change<'a> = (&'a str, Option<&'a [u8]>);
pub(super) const EMPTY_STRING: Option<&[u8]> = Some(b"\"\"");
pub(super) const EMPTY_ARRAY: Option<&[u8]> = Some(b"[]");
pub(super) const NULL: Option<&[u8]> = Some(b"null");

/// The stream as it is written: one event at a time, one object in each.
pub(super) struct Events<'o> {
    out: &'o mut Vec<u8>,
    /// Longest that `out` may become.
    bytes_max: usize,
    /// Numbered events so far.
    count: u64,
}

impl Events<'_> {
    /// Begins an event without a name, up to the brace of its object.
    pub(super) fn open(&mut self) {
        self.out.extend_from_slice(b"data: {");
    }

    /// Begins an event of that name, up to the type in its object.
    pub(super) fn open_named(&mut self, name: &str) {
        for text in ["event: ", name, "\ndata: {\"type\":\"", name, "\""] {
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    /// Begins an event of that name, up to its number.
    pub(super) fn open_numbered(&mut self, name: &str) {
        self.open_named(name);
        self.index("sequence_number", self.count);
        self.count += 1;
    }

    /// Ends the object and the event.
    pub(super) fn close(&mut self) -> Result<(), Unfit> {
        self.out.extend_from_slice(b"}\n\n");
        match self.out.len() <= self.bytes_max {
            true => Ok(()),
            false => Err(Unfit("the stream would be too long")),
        }
    }

    /// A comma, unless an object or array has just begun.
    pub(super) fn comma(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    /// The name of a member; its value is to follow.
    pub(super) fn name(&mut self, name: &str) {
        self.comma();
        json::quote(self.out, name);
        self.out.push(b':');
    }

    /// A piece of our own.
    pub(super) fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A value of the body. Line breaks stand between its tokens only: in strings they are escaped.
    pub(super) fn value(&mut self, text: &[u8]) {
        match memchr2(b'\n', b'\r', text) {
            None => self.out.extend_from_slice(text),
            Some(_) => self.out.extend(text.iter().filter(|byte| !matches!(byte, b'\n' | b'\r'))),
        }
    }

    /// A member with a value of the body.
    pub(super) fn member(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.value(value);
    }

    /// A member with a number of our own.
    pub(super) fn index(&mut self, name: &str, index: u64) {
        self.name(name);
        number(self.out, index);
    }

    /// The members of an object, without its braces, in their order.
    pub(super) fn members(&mut self, object: &Object<'_>, changes: &[Change<'_>]) {
        for member in &object.members {
            let key = member.key.of(object.text);
            let value = match changes.iter().find(|(name, _)| json::key_is(key, name)) {
                None => member.value.of(object.text),
                Some((_, Some(value))) => value,
                Some((_, None)) => continue,
            };
            self.comma();
            self.out.extend_from_slice(key);
            self.out.push(b':');
            self.value(value);
        }
    }

    /// A member with an object of the body in it.
    pub(super) fn object(&mut self, name: &str, object: &Object<'_>, changes: &[Change<'_>]) {
        self.name(name);
        self.text("{");
        self.members(object, changes);
        self.text("}");
    }
}

#[cfg(test)]
mod tests;
