//! National identity and tax numbers, of those countries whose numbers have a checksum.
//!
//! Each is accepted in the forms in which its country writes it. Where the number begins with a date, the date has to be
//! one: a number of that many digits passes a checksum alone too often.

use super::{Candidate, digits, luhn};

pub(super) const SOURCES: &[&str] = &[
    r"(?-u:\b)[0-9](?:[ ./+-]?[0-9]){9,14}(?-u:\b)",
    r"(?-u:\b)[1-9][0-9]{16}[0-9Xx](?-u:\b)",
    r"(?-u:\b)[0-9]{6}[A-FU-Y+-][0-9]{3}[0-9A-Y](?-u:\b)",
    r"(?-u:\b)[0-9]{8}-?[A-Za-z](?-u:\b)",
    r"(?-u:\b)[XYZxyz]-?[0-9]{7}-?[A-Za-z](?-u:\b)",
    r"(?-u:\b)(?i:[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z])(?-u:\b)",
    r"(?-u:\b)[0-9]{1,2}\.?[0-9]{3}\.?[0-9]{3}-[0-9Kk](?-u:\b)",
];

/// The candidate is a number of one of the countries, at one of its possible ends.
pub(super) fn id(candidate: &Candidate<'_>) -> Option<usize> {
    if candidate.before.is_some_and(|byte| matches!(byte, b'.' | b'-' | b'+')) {
        return None;
    }
    candidate.ends(|byte| byte.is_ascii_alphanumeric()).find(|end| is_id(&candidate.text[..*end]))
}

fn is_id(text: &[u8]) -> bool {
    if !(9..=22).contains(&text.len()) {
        return false;
    }
    let mut form = [0_u8; 22];
    for (place, byte) in form.iter_mut().zip(text) {
        *place = if byte.is_ascii_digit() { b'd' } else { *byte };
    }
    let form = &form[..text.len()];
    let (values, count) = digits::<18>(text);
    let digits = &values[..count];
    FORMS.iter().any(|(known, check)| *known == form && check(digits)) || is_lettered(text, digits)
}

/// A form, `d` for a digit, and what its digits have to pass.
type Form = (&'static [u8], fn(&[u8]) -> bool);

const FORMS: &[Form] = &[
    (b"ddddddddddd", |d| brazil(d) || germany(d) || poland(d) || turkey(d) || norway(d) || belgium(d)),
    (b"ddd.ddd.ddd-dd", brazil),
    (b"dd ddd ddd ddd", germany),
    (b"dddddd ddddd", norway),
    (b"dd.dd.dd-ddd.dd", belgium),
    (b"dddddddddddd", |d| india(d) || sweden(&d[2..])),
    (b"dddd dddd dddd", india),
    (b"dddd-dddd-dddd", india),
    (b"dddddd-dddd", sweden),
    (b"dddddd+dddd", sweden),
    (b"dddddddd-dddd", |d| sweden(&d[2..])),
    (b"ddddddddddddd", |d| korea(d) || south_africa(d)),
    (b"dddddd-ddddddd", korea),
    (b"ddddddddddddddd", france),
    (b"d dd dd dd ddd ddd dd", france),
];

fn is_lettered(text: &[u8], digits: &[u8]) -> bool {
    china(text, digits) || finland(text, digits) || spain(text, digits) || italy(text) || chile(text, digits)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

fn is_date(day: u64, month: u64) -> bool {
    let days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    (1..=12).contains(&month) && (1..=days[month as usize - 1]).contains(&day)
}

fn are_same(digits: &[u8]) -> bool {
    digits.iter().all(|digit| *digit == digits[0])
}

/// CPF: two check digits modulo 11 (Receita Federal).
fn brazil(d: &[u8]) -> bool {
    let check = |count: usize| {
        let sum: u32 = (0..count).map(|index| u32::from(d[index]) * (count + 1 - index) as u32).sum();
        (sum * 10 % 11 % 10) as u8
    };
    !are_same(d) && check(9) == d[9] && check(10) == d[10]
}

/// Steuer-Identifikationsnummer: ISO/IEC 7064 MOD 11,10; of the first ten digits exactly one occurs twice or thrice.
fn germany(d: &[u8]) -> bool {
    let mut counts = [0; 10];
    d[..10].iter().for_each(|digit| counts[usize::from(*digit)] += 1);
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let mut product = 10;
    for digit in &d[..10] {
        let sum = (u32::from(*digit) + product) % 10;
        product = (if sum == 0 { 10 } else { sum }) * 2 % 11;
    }
    d[0] != 0
        && repeated == 1
        && counts.iter().all(|count| *count <= 3)
        && (11 - product) % 10 == u32::from(d[10])
}

/// PESEL: weights 1, 3, 7, 9; the century is added to the month.
fn poland(d: &[u8]) -> bool {
    let sum = weighted(&d[..10], &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
    is_date(number(&d[4..6]), number(&d[2..4]) % 20) && (10 - sum % 10) % 10 == u32::from(d[10])
}

/// T.C. Kimlik No.
fn turkey(d: &[u8]) -> bool {
    let sum =
        |from: usize, to: usize| -> i32 { (from..to).step_by(2).map(|index| i32::from(d[index])).sum() };
    let tenth = (sum(0, 9) * 7 - sum(1, 8)).rem_euclid(10);
    let last = d[..10].iter().map(|digit| i32::from(*digit)).sum::<i32>() % 10;
    d[0] != 0 && !are_same(&d[..9]) && tenth == i32::from(d[9]) && last == i32::from(d[10])
}

/// Fødselsnummer and D-nummer: two check digits modulo 11.
fn norway(d: &[u8]) -> bool {
    let first = weighted(d, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]);
    let second = weighted(d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]);
    let day = number(&d[..2]);
    is_date(if day > 40 { day - 40 } else { day }, number(&d[2..4]))
        && first.is_multiple_of(11)
        && second.is_multiple_of(11)
}

/// Rijksregisternummer: 97 less the remainder; those born from 2000 on with a 2 in front.
fn belgium(d: &[u8]) -> bool {
    let (base, check) = (number(&d[..9]), number(&d[9..]));
    let is_right = |base: u64| 97 - base % 97 == check;
    is_date(number(&d[4..6]), number(&d[2..4]) % 20) && (is_right(base) || is_right(2_000_000_000 + base))
}

/// Aadhaar: Verhoeff's checksum; the first digit is neither 0 nor 1.
fn india(d: &[u8]) -> bool {
    let check = d.iter().rev().enumerate().fold(0, |check, (index, digit)| {
        VERHOEFF_PRODUCT[check][usize::from(VERHOEFF_ORDER[index % 8][usize::from(*digit)])].into()
    });
    d[0] > 1 && check == 0 && !are_same(d)
}

/// Personnummer and samordningsnummer, the ten digits without the century: Luhn's checksum.
fn sweden(d: &[u8]) -> bool {
    let day = number(&d[4..6]);
    is_date(if day > 60 { day - 60 } else { day }, number(&d[2..4])) && luhn(d)
}

/// Resident registration number, those issued until October 2020.
fn korea(d: &[u8]) -> bool {
    let sum = weighted(&d[..12], &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
    is_date(number(&d[4..6]), number(&d[2..4])) && d[6] != 0 && (11 - sum % 11) % 10 == u32::from(d[12])
}

/// Identity number: a date, Luhn's checksum, a digit for citizenship.
fn south_africa(d: &[u8]) -> bool {
    is_date(number(&d[4..6]), number(&d[2..4])) && d[10] < 3 && luhn(d)
}

/// NIR: 97 less the remainder. Not those of Corsica, which have a letter.
fn france(d: &[u8]) -> bool {
    let month = number(&d[3..5]);
    (1..=2).contains(&d[0])
        && matches!(month, 1..=12 | 20..=42 | 50..=99)
        && 97 - number(&d[..13]) % 97 == number(&d[13..])
}

/// Resident identity number (GB 11643): ISO/IEC 7064 MOD 11-2.
fn china(text: &[u8], d: &[u8]) -> bool {
    if text.len() != 18 || d.len() < 17 || !text[..17].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum = weighted(&d[..17], &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    let check = b"10X98765432"[(sum % 11) as usize];
    let year = number(&d[6..10]);
    d[0] != 0
        && is_date(number(&d[12..14]), number(&d[10..12]))
        && (1900..=2099).contains(&year)
        && check == text[17].to_ascii_uppercase()
}

/// Henkilötunnus: the number modulo 31 names the last character.
fn finland(text: &[u8], d: &[u8]) -> bool {
    if text.len() != 11 || !matches!(text[6], b'-' | b'+' | b'A'..=b'F' | b'U'..=b'Y') || d.len() < 9 {
        return false;
    }
    let is_plain = text[..6].iter().chain(&text[7..10]).all(u8::is_ascii_digit);
    let check = b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(number(&d[..9]) % 31) as usize];
    is_plain && is_date(number(&d[..2]), number(&d[2..4])) && check == text[10]
}

/// DNI and NIE: the number modulo 23 names the letter.
fn spain(text: &[u8], d: &[u8]) -> bool {
    let letter = text[text.len() - 1].to_ascii_uppercase();
    let prefix = match text[0].to_ascii_uppercase() {
        b'X' => 0,
        b'Y' => 10_000_000,
        b'Z' => 20_000_000,
        _ => 100_000_000,
    };
    let (count, dashes) = if prefix == 100_000_000 { (8, 1) } else { (7, 2) };
    if d.len() != count || !letter.is_ascii_alphabetic() || text.len() > count + 2 + dashes {
        return false;
    }
    let base = number(d) + prefix % 100_000_000;
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(base % 23) as usize] == letter
}

/// Codice fiscale: two tables, by odd and even position, modulo 26.
fn italy(text: &[u8]) -> bool {
    if text.len() != 16 || !text.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let sum: u32 =
        text[..15].iter().enumerate().map(|(index, byte)| italian(index, byte.to_ascii_uppercase())).sum();
    b'A' + (sum % 26) as u8 == text[15].to_ascii_uppercase()
}

fn italian(index: usize, byte: u8) -> u32 {
    let value = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
    match index % 2 {
        0 => ITALIAN_ODD[usize::from(value)].into(),
        _ => value.into(),
    }
}

/// RUT: weights 2 to 7 from the right, modulo 11, `K` for 10.
fn chile(text: &[u8], d: &[u8]) -> bool {
    let Some(dash) = text.iter().position(|byte| *byte == b'-') else { return false };
    let count = text[..dash].iter().filter(|byte| byte.is_ascii_digit()).count();
    if dash + 2 != text.len() || !(7..=8).contains(&count) || are_same(&d[..count]) {
        return false;
    }
    let sum: u32 =
        d[..count].iter().rev().enumerate().map(|(index, d)| u32::from(*d) * (index as u32 % 6 + 2)).sum();
    b"0K987654321"[(sum % 11) as usize] == text[dash + 1].to_ascii_uppercase()
}

/// The dihedral group of order ten (J. Verhoeff, Error Detecting Decimal Codes, 1969).
const VERHOEFF_PRODUCT: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];

const VERHOEFF_ORDER: [[u8; 10]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
    [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
    [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
    [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
    [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
    [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
    [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
];

/// Values of digits and letters in odd places; digits share those of the first ten letters.
const ITALIAN_ODD: [u8; 26] =
    [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
