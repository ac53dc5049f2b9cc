//! Payment cards and bank accounts.

use super::{Candidate, digits, luhn};

pub(super) const CARD: &[&str] = &[r"(?-u:\b)[2-6](?:[ -]?[0-9]){12,18}"];
pub(super) const IBAN: &[&str] = &[r"(?-u:\b)[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}"];

/// A card number: a network's prefix with one of its lengths, and Luhn's checksum. What follows it may be another number
/// of which it is not a part, so every place where its digits could end is tried, the last first.
pub(super) fn card(candidate: &Candidate<'_>) -> Option<usize> {
    if candidate.before.is_some_and(|byte| byte == b'.' || byte == b'-') {
        return None; // the end of a longer number
    }
    candidate.ends(|byte| byte.is_ascii_digit()).find(|end| {
        let (values, count) = digits::<19>(&candidate.text[..*end]);
        is_network(&values, count) && luhn(&values[..count])
    })
}

/// Prefixes and lengths of the networks (ISO/IEC 7812-1; the networks' own public rules).
fn is_network(digits: &[u8; 19], count: usize) -> bool {
    let prefix = digits[..4].iter().fold(0_u32, |value, digit| value * 10 + u32::from(*digit));
    match (prefix, count) {
        (4000..=4999, 13 | 16 | 19) => true,                               // Visa
        (5100..=5599 | 2221..=2720, 16) => true,                           // Mastercard
        (3400..=3499 | 3700..=3799, 15) => true,                           // American Express
        (6011 | 6440..=6599, 16..=19) => true,                             // Discover
        (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..=19) => true, // Diners Club
        (3528..=3589, 16..=19) => true,                                    // JCB
        (6200..=6299 | 8100..=8171, 16..=19) => true,                      // UnionPay
        (5000..=5099 | 5600..=5899 | 6300..=6399 | 6700..=6799, 13..=19) => true, // Maestro
        (2200..=2204, 16..=19) => true,                                    // Mir
        _ => false,
    }
}

/// An account number: the length of its country, checksum 1 modulo 97 with the first four characters at the end.
pub(super) fn iban(candidate: &Candidate<'_>) -> Option<usize> {
    let country = [candidate.text[0].to_ascii_uppercase(), candidate.text[1].to_ascii_uppercase()];
    let length = LENGTHS.iter().find(|row| row.0 == country)?.1;
    let mut letters = [0_u8; 34];
    let (mut count, mut end) = (0, 0);
    for (index, byte) in candidate.text[..candidate.longest].iter().enumerate() {
        if byte.is_ascii_alphanumeric() {
            letters[count] = byte.to_ascii_uppercase();
            count += 1;
            end = index + 1;
        }
        if count == length {
            break;
        }
    }
    let is_apart = !candidate.text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    let (head, account) = letters[..count].split_at(4.min(count));
    let remainder = account.iter().chain(head).fold(0_u32, |remainder, letter| match letter {
        b'0'..=b'9' => (remainder * 10 + u32::from(letter - b'0')) % 97,
        _ => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (count == length && is_apart && remainder == 1).then_some(end)
}

/// Lengths by country (SWIFT, IBAN registry).
const LENGTHS: &[([u8; 2], usize)] = &[
    (*b"AD", 24),
    (*b"AE", 23),
    (*b"AL", 28),
    (*b"AT", 20),
    (*b"AZ", 28),
    (*b"BA", 20),
    (*b"BE", 16),
    (*b"BG", 22),
    (*b"BH", 22),
    (*b"BI", 27),
    (*b"BR", 29),
    (*b"BY", 28),
    (*b"CH", 21),
    (*b"CR", 22),
    (*b"CY", 28),
    (*b"CZ", 24),
    (*b"DE", 22),
    (*b"DJ", 27),
    (*b"DK", 18),
    (*b"DO", 28),
    (*b"EE", 20),
    (*b"EG", 29),
    (*b"ES", 24),
    (*b"FI", 18),
    (*b"FK", 18),
    (*b"FO", 18),
    (*b"FR", 27),
    (*b"GB", 22),
    (*b"GE", 22),
    (*b"GI", 23),
    (*b"GL", 18),
    (*b"GR", 27),
    (*b"GT", 28),
    (*b"HR", 21),
    (*b"HU", 28),
    (*b"IE", 22),
    (*b"IL", 23),
    (*b"IQ", 23),
    (*b"IS", 26),
    (*b"IT", 27),
    (*b"JO", 30),
    (*b"KW", 30),
    (*b"KZ", 20),
    (*b"LB", 28),
    (*b"LC", 32),
    (*b"LI", 21),
    (*b"LT", 20),
    (*b"LU", 20),
    (*b"LV", 21),
    (*b"LY", 25),
    (*b"MC", 27),
    (*b"MD", 24),
    (*b"ME", 22),
    (*b"MK", 19),
    (*b"MN", 20),
    (*b"MR", 27),
    (*b"MT", 31),
    (*b"MU", 30),
    (*b"NI", 28),
    (*b"NL", 18),
    (*b"NO", 15),
    (*b"OM", 23),
    (*b"PK", 24),
    (*b"PL", 28),
    (*b"PS", 29),
    (*b"PT", 25),
    (*b"QA", 29),
    (*b"RO", 24),
    (*b"RS", 22),
    (*b"RU", 33),
    (*b"SA", 24),
    (*b"SC", 31),
    (*b"SD", 18),
    (*b"SE", 24),
    (*b"SI", 19),
    (*b"SK", 24),
    (*b"SM", 27),
    (*b"SO", 23),
    (*b"ST", 25),
    (*b"SV", 28),
    (*b"TL", 23),
    (*b"TN", 24),
    (*b"TR", 26),
    (*b"UA", 29),
    (*b"VA", 22),
    (*b"VG", 24),
    (*b"XK", 20),
    (*b"YE", 30),
];
