//! E-mail addresses, telephone numbers and IP addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Candidate;

pub(super) const EMAIL: &[&str] =
    &[r"(?-u:\b)[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{2,120}"];
pub(super) const PHONE: &[&str] = &[r"\+[1-9](?:[ ().-]{0,2}[0-9]){6,14}"];
pub(super) const IP: &[&str] = &[
    r"(?-u:\b)[0-9]{1,3}(?:\.[0-9]{1,3}){3}",
    r"(?-u:\b)[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,34}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?",
    r"::[0-9A-Fa-f][0-9A-Fa-f:]{0,34}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?",
];

/// An address whose domain has a top level of letters (RFC 5321 section 4.1.2, without quoted local parts and literals).
pub(super) fn email(candidate: &Candidate<'_>) -> Option<usize> {
    let text = &candidate.text[..candidate.longest];
    let at = text.iter().position(|byte| *byte == b'@')?;
    let local = &text[..at];
    if local.ends_with(b".") || local.windows(2).any(|pair| pair == b"..") {
        return None;
    }
    // The domain ends where its last sound label does: a full stop behind it is the sentence's.
    let (mut end, mut labels, mut from) = (None, 0, at + 1);
    for label in text[at + 1..].split(|byte| *byte == b'.') {
        if !is_label(label) {
            let sound = label.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            if labels > 0 && is_top(&label[..sound]) {
                end = Some(from + sound); // `a@b.example-` or `a@b.example--x`
            }
            break;
        }
        labels += 1;
        if labels > 1 && is_top(label) {
            end = Some(from + label.len());
        }
        from += label.len() + 1;
    }
    end
}

fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len()) && !label.starts_with(b"-") && !label.ends_with(b"-")
}

fn is_top(label: &[u8]) -> bool {
    (2..=24).contains(&label.len()) && label.iter().all(u8::is_ascii_alphabetic)
}

/// 7 to 15 digits with a country code in use (ITU-T E.164, list of assigned codes).
pub(super) fn phone(candidate: &Candidate<'_>) -> Option<usize> {
    if candidate.before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'+') {
        return None;
    }
    let end = candidate.ends(|byte| byte.is_ascii_digit()).next()?;
    let mut digits =
        candidate.text[1..end].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
    let [a, b, c] = [digits.next()?, digits.next()?, digits.next()?];
    is_country(a, b, c).then_some(end)
}

fn is_country(a: u8, b: u8, c: u8) -> bool {
    match (a, b) {
        (1 | 7, _) => true,
        (2, 0 | 7) | (3, 0..=4 | 6 | 9) | (4, 0 | 1 | 3..=9) | (5, 1..=8) | (6, 0..=6) => true,
        (8, 1 | 2 | 4 | 6) | (9, 0..=5 | 8) => true,
        (2, 1..=6 | 9) | (3, 5 | 7 | 8) | (4, 2) | (5, 0 | 9) | (6, 7..=9) => true,
        (8, 0 | 5 | 7 | 8) => true,
        (9, 6 | 7) => true,
        (9, 9) => matches!(c, 2..=6 | 8),
        _ => false,
    }
}

/// What the standard library reads as an address, and is not a part of a longer number or word.
pub(super) fn ip(candidate: &Candidate<'_>) -> Option<usize> {
    let text = &candidate.text[..candidate.longest];
    let before = candidate.before;
    if before.is_some_and(|byte| matches!(byte, b'.' | b':') || byte.is_ascii_alphanumeric()) {
        return None;
    }
    let is_inside = |byte: &u8| byte.is_ascii_alphanumeric();
    if !text.contains(&b':') {
        let follows = candidate.text.get(candidate.longest..).unwrap_or_default();
        let goes_on = follows.first().is_some_and(is_inside)
            || follows.starts_with(b".") && follows.get(1).is_some_and(u8::is_ascii_digit);
        let address = std::str::from_utf8(text).ok()?.parse::<Ipv4Addr>();
        return (!goes_on && address.is_ok()).then_some(text.len());
    }
    // Colons at the end may belong to the sentence.
    let end = text.iter().rposition(|byte| *byte != b':').map_or(0, |last| last + 1);
    [text.len(), end].into_iter().find(|end| {
        let address = std::str::from_utf8(&text[..*end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        let goes_on = candidate.text.get(*end).is_some_and(is_inside);
        address.is_some_and(|address| !address.is_unspecified()) && !goes_on
    })
}
