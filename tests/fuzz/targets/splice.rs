//! Edits of JSON bodies: the result is sound and differs only where it was edited.

use ringway::units::Span;
use ringway::wire::json::{self, Member};

const NEW: &[u8] = br#""new \"name\"""#;

fn members(text: &[u8]) -> Vec<Member> {
    json::members(text).map(|member| member.expect("the text is sound")).collect()
}

pub(crate) fn run(data: &[u8]) {
    if !json::is_object(data) {
        return;
    }
    let before = members(data);
    let readable = super::value(data).is_some();
    for (index, member) in before.iter().enumerate().take(8) {
        let mut out = b"front".to_vec();
        json::splice(&mut out, data, &[(member.value, NEW)]);
        let told = out.strip_prefix(b"front").expect("what was there stays");
        same_but(data, &before, told, |at| (at == index).then_some(NEW));
        assert!(!readable || super::value(told).is_some(), "a reader of whole values reads it");
        let name = json::string(member.key.of(data));
        if let (Some(name), true) = (name, readable && index + 1 == before.len()) {
            // Of members with one name, readers take the last.
            let told = super::value(told).expect("read above");
            assert_eq!(told[&*name].as_str(), Some(r#"new "name""#));
        }
    }

    // A value replaced, and a member put in before the end.
    let mut walk = json::members(data);
    let close = walk.by_ref().count().checked_sub(before.len()).and(walk.close()).expect("the text is sound");
    let end = Span::new(close, close);
    if let Some(first) = before.first() {
        let mut out = Vec::new();
        json::splice(&mut out, data, &[(first.value, b"[null]"), (end, b",\"put\":1")]);
        let after = members(&out);
        assert_eq!(after.len(), before.len() + 1);
        same_but(data, &before, &out, |at| (at == 0).then_some(b"[null]"));
        let put = after.last().expect("there is one");
        assert_eq!((put.key.of(&out), put.value.of(&out)), (&b"\"put\""[..], &b"1"[..]));
    }
}

/// Keys and values are those of before, byte for byte, but for the values said.
fn same_but(data: &[u8], before: &[Member], told: &[u8], new: impl Fn(usize) -> Option<&'static [u8]>) {
    let after = members(told);
    assert!(after.len() >= before.len());
    for (at, (was, is)) in before.iter().zip(&after).enumerate() {
        assert_eq!(was.key.of(data), is.key.of(told));
        assert_eq!(new(at).unwrap_or(was.value.of(data)), is.value.of(told));
    }
}
