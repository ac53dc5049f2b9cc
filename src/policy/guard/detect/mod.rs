//! What a detector accepts among the candidates of its expression.
//!
//! Each detector is one or more expressions, which say where a candidate may lie, and a judge, which says whether it is
//! one: by a checksum where there is one. Sources stand at each judge.

mod addresses;
mod bank;
mod national;
mod phrases;
mod secrets;

/// What can be detected without a list of one's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Detector {
    /// Numbers of payment cards (ISO/IEC 7812): prefix and length of a network, Luhn's checksum.
    PaymentCard,
    /// International bank account numbers (ISO 13616): length by country, checksum modulo 97.
    Iban,
    /// E-mail addresses.
    Email,
    /// Telephone numbers in international form (ITU-T E.164): `+`, a country code in use, 7 to 15 digits.
    Phone,
    /// National identity and tax numbers with a checksum, of sixteen countries.
    NationalId,
    /// IP addresses of both versions.
    Ip,
    /// Keys of providers and clouds, private keys, JSON web tokens, random tokens.
    Secrets,
    /// Phrases of prompt injections and jailbreaks: a heuristic.
    Injection,
}

impl Detector {
    /// All of them, each with its name in the configuration.
    pub const ALL: [(&'static str, Self); 8] = [
        ("payment_card", Self::PaymentCard),
        ("iban", Self::Iban),
        ("email", Self::Email),
        ("phone", Self::Phone),
        ("national_id", Self::NationalId),
        ("ip", Self::Ip),
        ("secrets", Self::Secrets),
        ("injection", Self::Injection),
    ];

    /// The detector of a name in the configuration.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }

    /// What stands for a match of it in a masked text: `<CARD>`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PaymentCard => "CARD",
            Self::Iban => "IBAN",
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::NationalId => "NATIONAL_ID",
            Self::Ip => "IP",
            Self::Secrets => "SECRET",
            Self::Injection => "INJECTION",
        }
    }

    /// Where its candidates lie.
    pub(super) fn sources(self) -> &'static [&'static str] {
        match self {
            Self::PaymentCard => bank::CARD,
            Self::Iban => bank::IBAN,
            Self::Email => addresses::EMAIL,
            Self::Phone => addresses::PHONE,
            Self::NationalId => national::SOURCES,
            Self::Ip => addresses::IP,
            Self::Secrets => secrets::SOURCES,
            Self::Injection => phrases::SOURCES,
        }
    }

    /// Length of the match at the start of `text`, whose candidate has `longest` bytes; `before` is the byte before it.
    pub(super) fn judge(self, before: Option<u8>, text: &[u8], longest: usize) -> Option<usize> {
        let candidate = Candidate { before, text, longest };
        match self {
            Self::PaymentCard => bank::card(&candidate),
            Self::Iban => bank::iban(&candidate),
            Self::Email => addresses::email(&candidate),
            Self::Phone => addresses::phone(&candidate),
            Self::NationalId => national::id(&candidate),
            Self::Ip => addresses::ip(&candidate),
            Self::Secrets => secrets::secret(&candidate),
            Self::Injection => Some(longest),
        }
    }
}

/// What an expression found.
struct Candidate<'a> {
    before: Option<u8>,
    /// The text from the candidate's first byte on.
    text: &'a [u8],
    /// Bytes of the longest candidate that starts here.
    longest: usize,
}

impl Candidate<'_> {
    /// The lengths, longest first, at which a run of the bytes that `inside` accepts ends.
    fn ends(&self, inside: fn(u8) -> bool) -> impl Iterator<Item = usize> + '_ {
        (1..=self.longest).rev().filter(move |end| {
            inside(self.text[end - 1]) && !self.text.get(*end).is_some_and(|next| inside(*next))
        })
    }
}

/// The digits of `text`, at most `N`; how many there are. More than `N`: none.
fn digits<const N: usize>(text: &[u8]) -> ([u8; N], usize) {
    let (mut values, mut count) = ([0; N], 0);
    for byte in text.iter().filter(|byte| byte.is_ascii_digit()) {
        if count == N {
            return ([0; N], 0);
        }
        values[count] = byte - b'0';
        count += 1;
    }
    (values, count)
}

/// Luhn's checksum (ISO/IEC 7812-1, annex B) over digits, the check digit last.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().map(|(index, digit)| luhn_term(index, *digit)).sum();
    sum.is_multiple_of(10)
}

fn luhn_term(index: usize, digit: u8) -> u32 {
    let doubled = u32::from(digit) << (index & 1);
    doubled / 10 + doubled % 10
}
