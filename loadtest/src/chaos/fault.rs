//! What may go wrong with a connection, as it is written on the command line.

use super::draw::Direction;
use crate::chance::Chance;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One fault as written: what happens, in which directions, to what share of the connections.
///
/// Written as its name, a direction (`up` is client to target, `down` target to client, `both` if left out), and
/// `key=value` words; `p=SHARE` is 1 if left out. [`FORMS`] has every form.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind<Span>,
    /// Where; empty for a fault of the whole connection.
    pub directions: &'static [Direction],
    /// Share of the connections that it strikes, 0 to 1.
    pub share: f64,
}

/// What happens to one direction. `at` is a count of bytes passed on; `N` is a [`Span`] as written, a number as drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<N> {
    /// Bytes come later, in order, and no fewer of them in a second.
    Latency {
        /// By this.
        delay: Duration,
        /// And by up to this more, for each read.
        jitter: Duration,
    },
    /// No more than so many bytes a second.
    Bandwidth {
        /// Bytes per second, at least 1.
        rate: u64,
    },
    /// Bytes come in small writes.
    Slice {
        /// Bytes of one write, drawn for each.
        size: Span,
        /// After each write.
        pause: Duration,
    },
    /// Nothing is read for a while, then all goes on.
    Stall {
        /// Bytes before it.
        at: N,
        /// How long.
        pause: Duration,
    },
    /// Nothing is read any more, not even the end.
    Freeze {
        /// Bytes before it.
        at: N,
        /// The connection is reset after this; without, it stays until a peer resets it.
        until: Option<Duration>,
    },
    /// Both sides get a RST; at 0, before the target is dialled.
    Reset {
        /// Bytes before it.
        at: N,
    },
    /// Both sides get a FIN, and nothing is passed on any more.
    Cut {
        /// Bytes before it.
        at: N,
    },
    /// The receiver gets a FIN once more than `at` bytes are read, before those read but not yet passed on, which are
    /// lost. The other direction goes on.
    EarlyFin {
        /// Bytes that may be read before it.
        at: N,
    },
    /// The receiver gets a FIN; what the sender still says is read and dropped. The other direction goes on.
    HalfClose {
        /// Bytes before it.
        at: N,
    },
    /// A range of bytes is sent twice, if the stream has all of it.
    Duplicate {
        /// Bytes before the range.
        at: N,
        /// Bytes of the range, at most [`DUPLICATE_MAX`].
        size: N,
    },
    /// The port is closed for a while in place of a connection. Who comes is refused; who waits to be accepted is
    /// reset, as when a server dies.
    Refuse {
        /// How long.
        pause: Duration,
    },
}

/// A number from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The least.
    pub low: u64,
    /// The most.
    pub high: u64,
}

impl Span {
    /// One of its numbers.
    pub fn draw(self, chance: &mut Chance) -> u64 {
        self.low + chance.below((self.high - self.low).saturating_add(1))
    }
}

impl Kind<Span> {
    /// The same fault with its numbers drawn.
    pub fn draw(&self, chance: &mut Chance) -> Kind<u64> {
        match *self {
            Self::Latency { delay, jitter } => Kind::Latency { delay, jitter },
            Self::Bandwidth { rate } => Kind::Bandwidth { rate },
            Self::Slice { size, pause } => Kind::Slice { size, pause },
            Self::Stall { at, pause } => Kind::Stall { at: at.draw(chance), pause },
            Self::Freeze { at, until } => Kind::Freeze { at: at.draw(chance), until },
            Self::Reset { at } => Kind::Reset { at: at.draw(chance) },
            Self::Cut { at } => Kind::Cut { at: at.draw(chance) },
            Self::EarlyFin { at } => Kind::EarlyFin { at: at.draw(chance) },
            Self::HalfClose { at } => Kind::HalfClose { at: at.draw(chance) },
            Self::Duplicate { at, size } => Kind::Duplicate { at: at.draw(chance), size: size.draw(chance) },
            Self::Refuse { pause } => Kind::Refuse { pause },
        }
    }
}

impl<N> Kind<N> {
    /// The first word of its form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Slice { .. } => "slice",
            Self::Stall { .. } => "stall",
            Self::Freeze { .. } => "freeze",
            Self::Reset { .. } => "reset",
            Self::Cut { .. } => "cut",
            Self::EarlyFin { .. } => "early-fin",
            Self::HalfClose { .. } => "half-close",
            Self::Duplicate { .. } => "duplicate",
            Self::Refuse { .. } => "refuse",
        }
    }
}

/// The words after name and direction, in the form that [`Fault`] reads.
impl<N: fmt::Display> fmt::Display for Kind<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency { delay, jitter } => write!(f, "{} jitter={}", Time(*delay), Time(*jitter)),
            Self::Bandwidth { rate } => write!(f, "{rate}"),
            Self::Slice { size, pause } => write!(f, "{size} pause={}", Time(*pause)),
            Self::Stall { at, pause } => write!(f, "at={at} for={}", Time(*pause)),
            Self::Freeze { at, until: Some(until) } => write!(f, "at={at} for={}", Time(*until)),
            Self::Freeze { at, until: None }
            | Self::Reset { at }
            | Self::Cut { at }
            | Self::EarlyFin { at }
            | Self::HalfClose { at } => write!(f, "at={at}"),
            Self::Duplicate { at, size } => write!(f, "at={at} size={size}"),
            Self::Refuse { pause } => write!(f, "for={}", Time(*pause)),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.low == self.high {
            true => write!(f, "{}", self.low),
            false => write!(f, "{}..{}", self.low, self.high),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.split_whitespace().next().unwrap_or_default();
        let Some((_, form)) = FORMS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = FORMS.iter().map(|(known, _)| *known).collect();
            return Err(format!("fault {text:?}: no fault is called {name:?}; known: {}", known.join(", ")));
        };
        read(name, text)
            .map_err(|why| format!("fault {text:?}: {why}; the form is `{name} {form} [p=SHARE]`"))
    }
}

fn read(name: &str, text: &str) -> Result<Fault, String> {
    let mut words = Words::of(text)?;
    let kind = match name {
        "latency" => Kind::Latency {
            delay: words.need("", time)?,
            jitter: words.take("jitter", time)?.unwrap_or_default(),
        },
        "bandwidth" => Kind::Bandwidth { rate: words.need("", rate)? },
        "slice" => {
            Kind::Slice { size: words.need("", size)?, pause: words.take("pause", time)?.unwrap_or_default() }
        }
        "stall" => Kind::Stall { at: words.need("at", span)?, pause: words.need("for", time)? },
        "freeze" => Kind::Freeze { at: words.at_or_0()?, until: words.take("for", time)? },
        "reset" => Kind::Reset { at: words.at_or_0()? },
        "cut" => Kind::Cut { at: words.need("at", span)? },
        "early-fin" => Kind::EarlyFin { at: words.at_or_0()? },
        "half-close" => Kind::HalfClose { at: words.need("at", span)? },
        "duplicate" => Kind::Duplicate { at: words.need("at", span)?, size: words.need("size", twice)? },
        _ => Kind::Refuse { pause: words.take("for", time)?.unwrap_or(REFUSE) },
    };
    let directions = match (&kind, words.directions) {
        (Kind::Refuse { .. }, Some(_)) => return Err("it has no direction".to_owned()),
        (Kind::Refuse { .. }, None) => &[],
        (_, directions) => directions.unwrap_or(&BOTH),
    };
    let share = words.take("p", share)?.unwrap_or(1.0);
    match words.values.first() {
        None => Ok(Fault { kind, directions, share }),
        Some(("", word)) => Err(format!("{word:?} has no meaning in it")),
        Some((key, _)) => Err(format!("{key}= has no meaning in it")),
    }
}

/// The words of a fault after its name.
struct Words<'a> {
    directions: Option<&'static [Direction]>,
    /// `key=value`, and a bare value under the key `""`; those read are taken out.
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let mut words = Self { directions: None, values: Vec::new() };
        for word in text.split_whitespace().skip(1) {
            let directions: &[Direction] = match word {
                "up" => &[Direction::Up],
                "down" => &[Direction::Down],
                "both" => &BOTH,
                _ => {
                    words.values.push(word.split_once('=').unwrap_or(("", word)));
                    continue;
                }
            };
            if words.directions.replace(directions).is_some() {
                return Err(format!("{word:?} is a second direction"));
            }
        }
        let mut keys: Vec<_> = words.values.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(words),
            Some(["", _]) => Err("it has two values".to_owned()),
            Some(pair) => Err(format!("{}= stands twice", pair[0])),
        }
    }

    fn take<T>(&mut self, key: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let Some(index) = self.values.iter().position(|(known, _)| *known == key) else {
            return Ok(None);
        };
        read(self.values.remove(index).1).map(Some)
    }

    fn need<T>(&mut self, key: &str, read: fn(&str) -> Result<T, String>) -> Result<T, String> {
        let missing =
            || if key.is_empty() { "its value is missing".to_owned() } else { format!("{key}= is missing") };
        self.take(key, read)?.ok_or_else(missing)
    }

    fn at_or_0(&mut self) -> Result<Span, String> {
        Ok(self.take("at", span)?.unwrap_or(Span { low: 0, high: 0 }))
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn span(text: &str) -> Result<Span, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(Span { low, high }),
        (Some(_), Some(_)) => Err(format!("the range {text:?} ends before it begins")),
        _ => Err(format!("{text:?} is neither a number of bytes nor a range A..B")),
    }
}

fn size(text: &str) -> Result<Span, String> {
    span(text)?.some(text)
}

fn twice(text: &str) -> Result<Span, String> {
    let span = span(text)?.some(text)?;
    match span.high <= DUPLICATE_MAX {
        true => Ok(span),
        false => Err(format!("{text:?} is more than {DUPLICATE_MAX} bytes")),
    }
}

impl Span {
    fn some(self, text: &str) -> Result<Self, String> {
        if self.low > 0 { Ok(self) } else { Err(format!("{text:?} allows no byte at all")) }
    }
}

fn rate(text: &str) -> Result<u64, String> {
    let rate = number(text).filter(|rate| *rate > 0);
    rate.ok_or_else(|| format!("{text:?} is no number of bytes a second above 0"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("p={text} is not from 0 to 1"))
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 5ms, 200us or 2s");
    let unit = text.find(|byte: char| !byte.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at(unit);
    let us = UNITS.iter().find(|(known, _)| *known == unit).map(|(_, us)| *us).ok_or_else(wrong)?;
    let us = number(count).and_then(|count| count.checked_mul(us)).filter(|us| *us <= TIME_MAX_US);
    us.map(Duration::from_micros).ok_or_else(wrong)
}

/// Writes a time that [`time`] reads.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let (unit, size) = UNITS.iter().find(|(_, size)| us.is_multiple_of(*size)).unwrap_or(&("us", 1));
        write!(f, "{}{unit}", us / size)
    }
}

/// Every fault's name and the words after it, for help and error texts. Each takes `p=SHARE` too.
pub const FORMS: [(&str, &str); 11] = [
    ("latency", "[up|down|both] TIME [jitter=TIME]"),
    ("bandwidth", "[up|down|both] BYTES_PER_SECOND"),
    ("slice", "[up|down|both] N|A..B [pause=TIME]"),
    ("stall", "[up|down|both] at=N|A..B for=TIME"),
    ("freeze", "[up|down|both] [at=N|A..B] [for=TIME]"),
    ("reset", "[up|down|both] [at=N|A..B]"),
    ("cut", "[up|down|both] at=N|A..B"),
    ("early-fin", "[up|down|both] [at=N|A..B]"),
    ("half-close", "[up|down|both] at=N|A..B"),
    ("duplicate", "[up|down|both] at=N|A..B size=N|A..B"),
    ("refuse", "[for=TIME]"),
];

/// Bytes that one duplicate may hold; they are kept per connection.
pub const DUPLICATE_MAX: u64 = 65_536;

const BOTH: [Direction; 2] = [Direction::Up, Direction::Down];
/// How long the port stays closed if not said; by taste.
const REFUSE: Duration = Duration::from_secs(1);
/// Microseconds of each unit, the longest first.
const UNITS: [(&str, u64); 3] = [("s", 1_000_000), ("ms", 1000), ("us", 1)];
/// A day: longer than any run, short enough for every clock.
const TIME_MAX_US: u64 = 86_400_000_000;

#[cfg(test)]
mod tests;
