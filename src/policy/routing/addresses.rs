//! Which address of a backend is next: all of them take turns, and one that failed is set aside for a while.
//!
//! Each shard decides for itself, and starts its turns at a random place.

use std::net::SocketAddr;

use crate::units::Nanos;

/// The addresses of one backend as one shard sees them.
#[derive(Default, Debug)]
pub struct Spread {
    /// Whose turn it is, modulo the addresses there are.
    turn: usize,
    /// At most one entry per address, and at most [`ASIDE_MAX`].
    aside: Vec<Aside>,
}

#[derive(Debug)]
struct Aside {
    address: SocketAddr,
    until: Nanos,
    /// How long it was set aside the last time.
    last: Nanos,
}

impl Spread {
    /// Starts at a place that differs from shard to shard.
    pub fn new(random: u64) -> Self {
        Self { turn: (random >> 32) as usize, aside: Vec::new() }
    }

    /// The address whose turn it is. One that is set aside is passed over, unless all of them are.
    pub fn next(&mut self, addresses: &[SocketAddr], now: Nanos) -> Option<SocketAddr> {
        if addresses.is_empty() {
            return None;
        }
        self.turn = self.turn.wrapping_add(1);
        let start = self.turn % addresses.len();
        let turns = addresses[start..].iter().chain(&addresses[..start]);
        turns.clone().find(|address| !self.is_aside(address, now)).or(turns.clone().next()).copied()
    }

    /// All addresses in the order in which a connection is tried: `first`, then the families in turn (RFC 8305 section 4),
    /// and last those that are set aside, the one that has waited longest first.
    pub fn order(&self, first: SocketAddr, addresses: &[SocketAddr], now: Nanos) -> Vec<SocketAddr> {
        let others = || {
            let at = addresses.iter().position(|address| *address == first).unwrap_or(0);
            addresses[at..].iter().chain(&addresses[..at]).copied().filter(move |address| *address != first)
        };
        let well = |v4: bool| {
            others().filter(move |address| address.is_ipv4() == v4 && !self.is_aside(address, now))
        };
        let (mut same, mut other) = (well(first.is_ipv4()), well(!first.is_ipv4()));
        let mut order = Vec::with_capacity(addresses.len());
        order.push(first);
        loop {
            let (one, two) = (other.next(), same.next());
            order.extend(one.into_iter().chain(two));
            if one.is_none() && two.is_none() {
                break;
            }
        }
        let well = order.len();
        order.extend(others().filter(|address| self.is_aside(address, now)));
        order[well..].sort_by_key(|address| self.entry(address).map(|aside| aside.until));
        order
    }

    /// A connection to this address failed, or took too long: others come before it for a while, which doubles with every
    /// failure up to [`ASIDE_LONGEST`].
    pub fn failed(&mut self, address: SocketAddr, now: Nanos) {
        self.aside.retain(|aside| now < aside.until.plus(ASIDE_LONGEST) || aside.address == address);
        if let Some(aside) = self.aside.iter_mut().find(|aside| aside.address == address) {
            if aside.until <= now {
                aside.last = Nanos((aside.last.0 * 2).min(ASIDE_LONGEST.0));
                aside.until = now.plus(aside.last);
            }
        } else if self.aside.len() < ASIDE_MAX {
            self.aside.push(Aside { address, until: now.plus(ASIDE_SHORTEST), last: ASIDE_SHORTEST });
        }
    }

    /// This address accepted a connection.
    pub fn accepted(&mut self, address: SocketAddr) {
        self.aside.retain(|aside| aside.address != address);
    }

    /// Whether others come before this address.
    pub fn is_aside(&self, address: &SocketAddr, now: Nanos) -> bool {
        !self.aside.is_empty() && self.entry(address).is_some_and(|aside| now < aside.until)
    }

    fn entry(&self, address: &SocketAddr) -> Option<&Aside> {
        self.aside.iter().find(|aside| aside.address == *address)
    }
}

/// How long an address is set aside after its first failure; chosen, not measured.
pub const ASIDE_SHORTEST: Nanos = Nanos(2_000_000_000);
/// And at most, however often it fails; chosen, not measured.
pub const ASIDE_LONGEST: Nanos = Nanos(30_000_000_000);
/// Entries kept: as many as the resolver keeps addresses of one name.
const ASIDE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const T: Nanos = Nanos(1_000_000_000_000);

    fn list(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 80)).collect()
    }

    fn seconds(count: u64) -> Nanos {
        T.plus(Nanos(count * 1_000_000_000))
    }

    #[test]
    fn all_addresses_take_turns() {
        let all = list(&["10.0.0.1", "10.0.0.2", "::1"]);
        let mut spread = Spread::new(u64::MAX);
        let turns: Vec<_> = (0..6).map(|_| spread.next(&all, T).unwrap()).collect();
        for address in &all {
            assert_eq!(turns.iter().filter(|turn| *turn == address).count(), 2, "{turns:?}");
        }
        assert_eq!(spread.next(&[], T), None);
        assert_eq!(spread.next(&all[..1], T), Some(all[0]));
    }

    #[test]
    fn shards_start_at_different_places() {
        let all = list(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let first = |random: u64| Spread::new(random << 32).next(&all, T).unwrap();
        assert!(first(0) != first(1) && first(1) != first(2) && first(0) != first(2));
    }

    #[test]
    fn one_that_failed_has_no_turn_until_its_time_is_over() {
        let all = list(&["10.0.0.1", "10.0.0.2"]);
        let mut spread = Spread::default();
        spread.failed(all[0], T);
        assert!((0..4).all(|_| spread.next(&all, seconds(1)) == Some(all[1])));
        assert!((0..2).any(|_| spread.next(&all, seconds(2)) == Some(all[0])));
        spread.failed(all[1], seconds(1));
        assert!(
            (0..2).any(|_| spread.next(&all, seconds(1)) == Some(all[0])),
            "all are set aside: any is tried"
        );
        spread.accepted(all[0]);
        assert!((0..4).all(|_| spread.next(&all, seconds(1)) == Some(all[0])));
    }

    #[test]
    fn the_time_doubles_up_to_a_bound_and_starts_anew() {
        let all = list(&["10.0.0.1"]);
        let mut spread = Spread::default();
        let mut now = T;
        for wait in [2, 4, 8, 16, 30, 30] {
            spread.failed(all[0], now);
            spread.failed(all[0], now);
            let until = now.plus(Nanos(wait * 1_000_000_000));
            assert!(
                spread.is_aside(&all[0], Nanos(until.0 - 1)) && !spread.is_aside(&all[0], until),
                "{wait}"
            );
            now = until;
        }
        spread.accepted(all[0]);
        spread.failed(all[0], now);
        assert!(!spread.is_aside(&all[0], now.plus(ASIDE_SHORTEST)));
    }

    #[test]
    fn families_are_tried_in_turn_and_failed_ones_last() {
        let all = list(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "::2"]);
        let mut spread = Spread::default();
        let shown = |spread: &Spread, first: usize| {
            let order = spread.order(all[first], &all, T);
            order.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shown(&spread, 0), ["10.0.0.1", "::1", "10.0.0.2", "::2", "10.0.0.3"]);
        assert_eq!(shown(&spread, 4), ["::2", "10.0.0.1", "::1", "10.0.0.2", "10.0.0.3"]);
        spread.failed(all[3], T);
        spread.failed(all[1], Nanos(T.0 - 1));
        assert_eq!(shown(&spread, 0), ["10.0.0.1", "::2", "10.0.0.3", "10.0.0.2", "::1"]);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut spread = Spread::default();
        for port in 1..1000 {
            spread.failed(SocketAddr::new("10.0.0.1".parse().unwrap(), port), T);
        }
        assert_eq!(spread.aside.len(), ASIDE_MAX);
        spread.failed(SocketAddr::new("10.0.0.2".parse().unwrap(), 1), seconds(60));
        assert_eq!(spread.aside.len(), 1);
    }
}
