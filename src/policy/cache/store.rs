//! Responses by key, bounded in bytes. The one that was not used for the longest time leaves first.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Key;
use crate::units::Nanos;

/// A response that was kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Its media type, as the value of a header line.
    pub media_type: Box<[u8]>,
    /// Members of the request that its backend was not sent, as the value of a header line.
    pub dropped: Option<Box<str>>,
    /// Whether it is a stream.
    pub is_stream: bool,
    /// Its body as the client got it, of a stream all its events.
    pub body: Vec<u8>,
    /// Tokens that it cost.
    pub tokens: u64,
}

impl Entry {
    /// Bytes of memory.
    fn bytes(&self) -> usize {
        self.body.capacity() + self.media_type.len() + ROW_BYTES
    }
}

/// The responses of one shard.
#[derive(Debug, Default)]
pub struct Store {
    rows: HashMap<Key, Row>,
    /// By the turn in which it was used last.
    order: BTreeMap<u64, Key>,
    turn: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    entry: Rc<Entry>,
    turn: u64,
    since: Nanos,
}

impl Store {
    /// The response of a key, and its age, if it is at most `age_max` old.
    pub fn get(&mut self, key: &Key, now: Nanos, age_max: Nanos) -> Option<(Rc<Entry>, Nanos)> {
        let row = self.rows.get_mut(key)?;
        let age = now.since(row.since);
        if age > age_max {
            return None;
        }
        self.turn += 1;
        self.order.remove(&row.turn);
        self.order.insert(self.turn, *key);
        row.turn = self.turn;
        Some((Rc::clone(&row.entry), age))
    }

    /// Keeps a response, in the place of an older one of its key. Back comes how many others had to leave.
    pub fn put(&mut self, key: Key, entry: Rc<Entry>, now: Nanos, bytes_max: usize) -> u64 {
        self.remove(&key);
        if entry.bytes() > bytes_max {
            return 0;
        }
        self.turn += 1;
        self.bytes += entry.bytes();
        self.order.insert(self.turn, key);
        self.rows.insert(key, Row { entry, turn: self.turn, since: now });
        let mut left = 0;
        while self.bytes > bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            left += 1;
            self.forget(&oldest);
        }
        left
    }

    /// Removes what is older than `age_max`, of the `rows_max` responses that were not used for the longest time.
    pub fn sweep(&mut self, now: Nanos, age_max: Nanos, rows_max: usize) {
        let old: Vec<Key> = self
            .order
            .values()
            .take(rows_max)
            .filter(|key| self.rows.get(*key).is_some_and(|row| now.since(row.since) > age_max))
            .copied()
            .collect();
        old.iter().for_each(|key| self.remove(key));
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, key: &Key) {
        if let Some(row) = self.rows.get(key) {
            self.order.remove(&row.turn);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(row) = self.rows.remove(key) {
            self.bytes -= row.entry.bytes();
        }
    }
}

/// About what a row takes in the tables.
const ROW_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize) -> Rc<Entry> {
        Rc::new(Entry { body: vec![0; bytes], ..Entry::default() })
    }

    #[test]
    fn a_response_is_used_until_it_is_too_old() {
        let mut store = Store::default();
        store.put([1; 32], entry(10), Nanos(100), 10_000);
        assert_eq!(store.get(&[1; 32], Nanos(150), Nanos(50)).map(|found| found.1), Some(Nanos(50)));
        assert_eq!(store.get(&[1; 32], Nanos(151), Nanos(50)), None);
        assert_eq!(store.get(&[2; 32], Nanos(100), Nanos(50)), None);
        store.put([1; 32], entry(10), Nanos(200), 10_000);
        assert_eq!(store.get(&[1; 32], Nanos(201), Nanos(50)).map(|found| found.1), Some(Nanos(1)));
        store.sweep(Nanos(1000), Nanos(50), 8);
        assert_eq!((store.rows.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_least_used_leaves_first() {
        let mut store = Store::default();
        for key in 0..4 {
            store.put([key; 32], entry(1000), Nanos(1), 4 * (1000 + ROW_BYTES));
        }
        store.get(&[0; 32], Nanos(1), Nanos::NEVER);
        assert_eq!(store.put([9; 32], entry(1000), Nanos(1), 4 * (1000 + ROW_BYTES)), 1);
        let mut has = |key: u8| store.get(&[key; 32], Nanos(1), Nanos::NEVER).is_some();
        assert_eq!([0, 1, 2, 3, 9].map(&mut has), [true, false, true, true, true]);
        assert_eq!(store.put([8; 32], entry(9000), Nanos(1), 4 * (1000 + ROW_BYTES)), 0);
        assert_eq!(store.rows.len(), 4, "what is larger than the cache is not kept");
        assert!(store.bytes() <= 4 * (1000 + ROW_BYTES));
    }
}
