//! A seeded corpus: every detector finds all of its positives (10,000 in an optimized build), whatever stands around them and however the text is
//! split, and of near misses of a checksum only those that pass another one.

use super::super::detect::Detector;
use super::super::scan::{Match, Scan};
use super::detector;
use crate::policy::guard::patterns::Patterns;

/// Of each kind; a build without optimization draws fewer.
const SAMPLES: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

#[test]
fn cards() {
    recall(Detector::PaymentCard, |chance| {
        let (prefix, length) =
            chance.pick(&[("4", 16), ("51", 16), ("2345", 16), ("34", 15), ("6011", 16), ("3530", 16)]);
        let mut digits: Vec<u8> = prefix.bytes().map(|byte| byte - b'0').collect();
        while digits.len() < length - 1 {
            digits.push(chance.below(10) as u8);
        }
        digits.push((0..10).find(|check| luhn(&[&digits[..], &[*check]].concat())).unwrap());
        let text: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let separator = chance.pick(&["", " ", "-"]);
        let groups: Vec<&str> = match length {
            15 => vec![&text[..4], &text[4..10], &text[10..]],
            _ => vec![&text[..4], &text[4..8], &text[8..12], &text[12..]],
        };
        groups.join(separator)
    });
}

#[test]
fn accounts() {
    recall(Detector::Iban, |chance| {
        let (country, form) = chance.pick(&[
            ("DE", "dddddddddddddddddd"),
            ("GB", "aaaadddddddddddddd"),
            ("FR", "ddddddddddccccccccccc12"),
            ("NL", "aaaadddddddddd"),
            ("NO", "ddddddddddd"),
            ("MT", "aaaadddddcccccccccccccccccc"),
        ]);
        let account = chance.form(form);
        let check = (0..=96_u32)
            .map(|value| 98 - value % 97)
            .find(|check| remainder(&format!("{account}{country}{check:02}")) == 1);
        let text = format!("{country}{:02}{account}", check.unwrap());
        match chance.below(3) {
            0 => text,
            1 => text.to_lowercase(),
            _ => text
                .as_bytes()
                .chunks(4)
                .map(|group| std::str::from_utf8(group).unwrap())
                .collect::<Vec<_>>()
                .join(" "),
        }
    });
}

#[test]
fn national_numbers() {
    recall(Detector::NationalId, |chance| {
        loop {
            let form = chance.pick(&[
                "ddd.ddd.ddd-dd",
                "ddddddddA",
                "XdddddddA",
                "ddMMdd-dddS",
                "yyMMDDddddd",
                "yyMMDD-dddd",
                "dddd dddd dddd",
                "1yyMMddddddddddd",
                "dddddd19yyMMDDdddX",
                "dd.ddd.ddd-K",
                "yyMMDDddddddd",
            ]);
            // Drawn until the checksum holds; what counts is that the scan finds in a text what the judge accepts alone.
            let text = chance.form(form);
            if Detector::NationalId.judge(None, text.as_bytes(), text.len()) == Some(text.len()) {
                return text;
            }
        }
    });
}

#[test]
fn addresses() {
    recall(Detector::Email, |chance| {
        let form = chance.pick(&["cc@cc.aaa", "ccc.cccc+cc@ccc-cc.ccccc.aa", "c_c%c@c.c.aaaaaa"]);
        chance.form(form).replace("..", ".")
    });
    recall(Detector::Phone, |chance| {
        let country = chance.pick(&["1", "44", "49", "351", "86", "971"]);
        let form = chance.pick(&["dddddddd", " ddd ddd dddd", " (ddd) ddd-dddd", ".dd.dd.dd.dd"]);
        format!("+{country}{}", chance.form(form))
    });
    recall(Detector::Ip, |chance| match chance.below(2) {
        0 => std::net::Ipv4Addr::from(chance.next() as u32).to_string(),
        _ => std::net::Ipv6Addr::from([
            (chance.next() | 1 << 63) as u16 | 0x2000,
            0,
            0,
            0,
            0,
            0,
            chance.next() as u16,
            1,
        ])
        .to_string(),
    });
}

#[test]
fn secrets() {
    recall(Detector::Secrets, |chance| {
        let form = chance.pick(&[
            "sk-cccccccccccccccccccccccc",
            "AKIAAAAAAAAAAAAAAAAA",
            "AIzaccccccccccccccccccccccccccccccccccc",
            "ghp_cccccccccccccccccccccccccccccccccccc",
            "xoxb-dddddddddd-cccccccccc",
            "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "SG.cccccccccccccccccccccc.ccccccccccccccccccccccccccccccccccccccccccc",
            "eyJcccccccccccc.eyJcccccccccccccc.cccccccccccccccccc",
            "glpat-cccccccccccccccccccc",
        ]);
        let kept = form.find(['-', '_', '.']).map_or(4, |at| at + 1).min(if form.starts_with("eyJ") {
            3
        } else {
            9
        });
        let rest = chance.form(&form[kept..].replace("eyJ", "\u{1}"));
        format!("{}{}", &form[..kept], rest.replace('\u{1}', "eyJ"))
    });
}

#[test]
fn near_misses_of_a_checksum_are_not_found() {
    let mut chance = Chance(7);
    let (cards, ibans) = (detector(Detector::PaymentCard), detector(Detector::Iban));
    let (mut wrong_cards, mut wrong_ibans) = (0, 0);
    for _ in 0..SAMPLES {
        let mut card = *b"4111111111111111";
        let at = chance.below(16);
        card[at] = b'0' + (card[at] - b'0' + 1 + chance.below(9) as u8) % 10;
        wrong_cards += matches(&cards, &card, &mut chance).len();
        let mut iban = *b"DE89370400440532013000";
        let at = 4 + chance.below(18);
        iban[at] = b'0' + (iban[at] - b'0' + 1 + chance.below(9) as u8) % 10;
        wrong_ibans += matches(&ibans, &iban, &mut chance).len();
    }
    assert_eq!((wrong_cards, wrong_ibans), (0, 0), "of {SAMPLES} each");
}

/// Every sample is found, in full, wherever it stands and however the text is split.
#[track_caller]
fn recall(kind: Detector, mut sample: impl FnMut(&mut Chance) -> String) {
    let patterns = detector(kind);
    let mut chance = Chance(kind.name().len() as u64 * 7919);
    for index in 0..SAMPLES {
        let wanted = sample(&mut chance);
        let before = chance.pick(&["", "see ", "(", "key: ", "é", "\n", "\"", "10 + "]);
        let after = chance.pick(&["", " and", ")", ", 12", "\n", "\"", "; é", "!"]);
        let text = format!("{before}{wanted}{after}");
        let found = matches(&patterns, text.as_bytes(), &mut chance);
        let whole = (before.len() as u64, (before.len() + wanted.len()) as u64);
        assert!(
            found.iter().any(|one| one.start <= whole.0 && one.end >= whole.1),
            "{kind:?} {index}: {text:?} gave {found:?}"
        );
    }
}

/// The matches of a text in a random split; empty pieces too.
fn matches(patterns: &Patterns, mut text: &[u8], chance: &mut Chance) -> Vec<Match> {
    let (mut scan, mut found) = (Scan::default(), Vec::new());
    let size = 1 + chance.below(12);
    while !text.is_empty() {
        let (piece, rest) = text.split_at(chance.below(size + 1).min(text.len()));
        scan.feed(patterns, piece, 4096, &mut |one, _| found.push(one));
        text = rest;
    }
    scan.finish(patterns, &mut |one, _| found.push(one));
    found
}

struct Chance(u64);

impl Chance {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// `d`: a digit, `a`: a letter, `c`: either, `A`, `S`, `X`, `K`: a check character; `yy`, `MM`, `DD`: parts of a date.
    fn form(&mut self, form: &str) -> String {
        let mut text = String::new();
        let mut letters = form.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                'y' | 'M' | 'D' => {
                    letters.next();
                    let bound = match letter {
                        'y' => 100,
                        'M' => 12,
                        _ => 28,
                    };
                    let from = usize::from(letter != 'y');
                    text.push_str(&format!("{:02}", from + self.below(bound)));
                }
                'd' => text.push(char::from(b'0' + self.below(10) as u8)),
                'a' => text.push(char::from(b'A' + self.below(26) as u8)),
                'A' => text.push(char::from(self.pick(b"ABCDEFGHJKLMNPQRSTVWXYZ"))),
                'S' => text.push(char::from(self.pick(b"0123456789ABCDEFHJKLMNPRSTUVWXY"))),
                'X' => text.push(char::from(self.pick(b"0123456789X"))),
                'K' => text.push(char::from(self.pick(b"0123456789K"))),
                'c' => text.push(char::from(
                    self.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
                )),
                other => text.push(other),
            }
        }
        text
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().fold(0, |sum, (index, digit)| {
        let value = u32::from(*digit) * (1 + index as u32 % 2);
        sum + if value > 9 { value - 9 } else { value }
    });
    sum.is_multiple_of(10)
}

fn remainder(text: &str) -> u32 {
    text.chars().fold(0, |sum, letter| {
        let value = letter.to_ascii_uppercase().to_digit(36).unwrap();
        (sum * if value > 9 { 100 } else { 10 } + value) % 97
    })
}
