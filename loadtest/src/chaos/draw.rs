//! What one connection drew: a function of the faults, the seed and the connection's number, and of nothing else.

use super::fault::{Fault, Kind, Span};
use crate::chance::Chance;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to target.
    Up,
    /// Target to client.
    Down,
}

/// A fault that a connection drew, with its numbers.
///
/// Shown in the form that [`Fault`] reads, so a line of the log can be given to `--fault` again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// What happens.
    pub kind: Kind<u64>,
    /// Where; `None` for the whole connection.
    pub direction: Option<Direction>,
}

/// The faults of connection `connection` under `seed`, in the order they are written.
///
/// Each fault has chance of its own, so that another share or another fault beside it changes nothing about it.
pub fn draw(faults: &[Fault], seed: u64, connection: u64) -> Vec<Strike> {
    let word = Chance::for_item(seed, connection).word();
    let mut strikes = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let mut chance = Chance::for_item(word, index as u64);
        if chance.share() >= fault.share {
            continue;
        }
        if fault.directions.is_empty() {
            strikes.push(Strike { kind: fault.kind.draw(&mut chance), direction: None });
        }
        for direction in fault.directions {
            strikes.push(Strike { kind: fault.kind.draw(&mut chance), direction: Some(*direction) });
        }
    }
    strikes
}

/// What the strikes of a connection make of one direction.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Delay and jitter; latencies add up.
    pub(super) latency: Option<(Duration, Duration)>,
    /// Bytes per second: the lowest of all.
    pub(super) rate: Option<u64>,
    /// Bytes of a write and the pause after it: the last one.
    pub(super) slice: Option<(Span, Duration)>,
    /// More bytes read than this, and a FIN goes out: the lowest of all.
    pub(super) early_fin: Option<u64>,
    /// What happens to the reader, by bytes read; the earliest last.
    pub(super) stops: Vec<(u64, Stop)>,
    /// What happens to the writer, by bytes passed on; the earliest last.
    pub(super) turns: Vec<(u64, Turn)>,
    /// For jitter and sizes.
    pub(super) chance: Chance,
}

/// The reader stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// For this long.
    Stall(Duration),
    /// For ever, or until the connection is reset.
    Freeze(Option<Duration>),
}

/// The writer does something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Reset,
    Cut,
    HalfClose,
    /// Sends the last so many bytes again.
    Again(usize),
}

impl Line {
    pub(super) fn of(strikes: &[Strike], direction: Direction, seed: u64, connection: u64) -> Self {
        let word = Chance::for_item(seed, connection).word();
        let mut line = Self {
            latency: None,
            rate: None,
            slice: None,
            early_fin: None,
            stops: Vec::new(),
            turns: Vec::new(),
            chance: Chance::for_item(word, u64::MAX - direction as u64),
        };
        for strike in strikes.iter().filter(|strike| strike.direction == Some(direction)) {
            line.add(&strike.kind);
        }
        // Stable and then turned round: of those at one byte, the first written is first.
        line.stops.reverse();
        line.stops.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        line.turns.reverse();
        line.turns.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        line
    }

    fn add(&mut self, kind: &Kind<u64>) {
        match *kind {
            Kind::Latency { delay, jitter } => {
                let (delays, jitters) = self.latency.unwrap_or_default();
                self.latency = Some((delays + delay, jitters + jitter));
            }
            Kind::Bandwidth { rate } => self.rate = Some(self.rate.map_or(rate, |other| other.min(rate))),
            Kind::Slice { size, pause } => self.slice = Some((size, pause)),
            Kind::EarlyFin { at } => {
                self.early_fin = Some(self.early_fin.map_or(at, |other| other.min(at)));
            }
            Kind::Stall { at, pause } => self.stops.push((at, Stop::Stall(pause))),
            Kind::Freeze { at, until } => self.stops.push((at, Stop::Freeze(until))),
            Kind::Reset { at } => self.turns.push((at, Turn::Reset)),
            Kind::Cut { at } => self.turns.push((at, Turn::Cut)),
            Kind::HalfClose { at } => self.turns.push((at, Turn::HalfClose)),
            Kind::Duplicate { at, size } => {
                self.turns.push((at.saturating_add(size), Turn::Again(size as usize)));
            }
            Kind::Refuse { .. } => {}
        }
    }
}

/// How long the port is closed in place of a connection with these strikes.
pub(super) fn refusal(strikes: &[Strike]) -> Option<Duration> {
    strikes.iter().find_map(|strike| match strike.kind {
        Kind::Refuse { pause } => Some(pause),
        _ => None,
    })
}

/// Whether the connection is reset before its target is dialled.
pub(super) fn resets_at_once(strikes: &[Strike]) -> bool {
    strikes.iter().any(|strike| strike.kind == Kind::Reset { at: 0 })
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.direction {
            Some(direction) => write!(f, "{} {direction} {}", self.kind.name(), self.kind),
            None => write!(f, "{} {}", self.kind.name(), self.kind),
        }
    }
}

impl Serialize for Strike {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(texts: &[&str]) -> Vec<Fault> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn draw_depends_on_seed_and_number_only() {
        let faults = faults(&["cut down at=0..1000000 p=0.5", "stall at=0..1000000 for=1ms"]);
        let all = |seed| (1..100).map(|number| draw(&faults, seed, number)).collect::<Vec<_>>();
        let (first, other) = (all(7), all(8));
        assert_ne!(first, other);
        for number in (1..100).rev() {
            assert_eq!(draw(&faults, 7, number), first[number as usize - 1]);
        }
    }

    #[test]
    fn share_is_kept_and_0_and_1_are_never_and_always() {
        let struck = |text: &str| {
            let faults = faults(&[text]);
            (0..10_000).filter(|number| !draw(&faults, 1, *number).is_empty()).count()
        };
        assert!((2800..3200).contains(&struck("reset p=0.3")), "{}", struck("reset p=0.3"));
        assert_eq!((struck("reset p=0"), struck("reset p=1")), (0, 10_000));
    }

    #[test]
    fn share_and_neighbour_do_not_change_the_numbers_of_a_fault() {
        let alone = faults(&["cut at=0..1000000"]);
        let beside = faults(&["cut at=0..1000000 p=0.5", "reset at=0..9 p=0.5"]);
        let cuts = |faults: &[Fault], number| {
            let mut strikes = draw(faults, 5, number);
            strikes.retain(|strike| strike.kind.name() == "cut");
            strikes
        };
        let both: Vec<_> = (0..64).map(|number| (cuts(&alone, number), cuts(&beside, number))).collect();
        assert!(both.iter().all(|(alone, beside)| beside.is_empty() || alone == beside));
        assert!(both.iter().any(|(_, beside)| beside.is_empty()));
        assert!(both.iter().any(|(_, beside)| !beside.is_empty()));
    }

    #[test]
    fn each_direction_draws_numbers_of_its_own() {
        let strikes = draw(&faults(&["cut both at=0..1000000"]), 1, 1);
        assert_eq!(strikes[0].direction, Some(Direction::Up));
        assert_eq!(strikes[1].direction, Some(Direction::Down));
        assert_ne!(strikes[0].kind, strikes[1].kind);
    }

    #[test]
    fn strike_is_shown_as_the_fault_that_draws_it_again() {
        let texts = [
            "latency up 5ms jitter=200us",
            "bandwidth down 100",
            "slice up 1..16 pause=2s",
            "slice up 3 pause=0s",
            "stall down at=5 for=1500ms",
            "freeze up at=0",
            "freeze up at=3 for=1s",
            "reset down at=812",
            "cut down at=812",
            "early-fin up at=7",
            "half-close up at=7",
            "duplicate down at=7 size=9",
            "refuse for=1s",
        ];
        let shown: Vec<_> =
            draw(&faults(&texts), 1, 1).iter().map(std::string::ToString::to_string).collect();
        assert_eq!(shown, texts);
    }

    #[test]
    fn faults_of_one_kind_add_up() {
        let texts = [
            "latency down 5ms jitter=1ms",
            "latency down 7ms",
            "bandwidth down 90",
            "bandwidth down 100",
            "early-fin down at=9",
            "early-fin down at=8",
            "cut down at=30",
            "duplicate down at=10 size=20",
            "half-close down at=5",
            "stall down at=4 for=1s",
            "freeze down at=2",
            "cut up at=1",
        ];
        let line = Line::of(&draw(&faults(&texts), 1, 1), Direction::Down, 1, 1);
        assert_eq!(line.latency, Some((Duration::from_millis(12), Duration::from_millis(1))));
        assert_eq!((line.rate, line.early_fin), (Some(90), Some(8)));
        assert_eq!(line.turns, [(30, Turn::Again(20)), (30, Turn::Cut), (5, Turn::HalfClose)]);
        assert_eq!(line.stops, [(4, Stop::Stall(Duration::from_secs(1))), (2, Stop::Freeze(None))]);
    }
}
