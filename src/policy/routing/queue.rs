//! Who waits for a backend, and whose turn it is: first in, first out within a key, and the keys take turns, so that a
//! key with a thousand requests waiting delays another key's first by one turn.

use std::collections::VecDeque;

/// Items that wait, in a line of their own for each key.
#[derive(Clone, Debug)]
pub struct FairQueue<K, T> {
    /// The keys that wait, in the order of their turns, each with what it waits with; no line is empty.
    lines: VecDeque<(K, VecDeque<T>)>,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self { lines: VecDeque::new() }
    }
}

impl<K: PartialEq, T> FairQueue<K, T> {
    /// Puts an item behind the others of its key; a key that does not wait yet has its turn last.
    pub fn push(&mut self, key: K, item: T) {
        match self.lines.iter_mut().find(|(other, _)| *other == key) {
            Some((_, line)) => line.push_back(item),
            None => self.lines.push_back((key, VecDeque::from([item]))),
        }
    }

    /// The item whose turn it is.
    pub fn head(&self) -> Option<&T> {
        self.lines.front().and_then(|(_, line)| line.front())
    }

    /// Takes out the first item that `is_it`. If it had its turn, the next key has the next one.
    pub fn remove(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index].1;
            let Some(at) = line.iter().position(&is_it) else { continue };
            let item = line.remove(at);
            let (had_turn, is_empty) = (index == 0 && at == 0, line.is_empty());
            if is_empty {
                self.lines.remove(index);
            } else if had_turn {
                self.lines.rotate_left(1);
            }
            return item;
        }
        None
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(queue: &mut FairQueue<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| {
            let head = *queue.head()?;
            queue.remove(|item| *item == head)
        })
        .collect()
    }

    #[test]
    fn keys_take_turns_and_each_is_served_in_its_order() {
        let mut queue = FairQueue::default();
        for item in 0..4 {
            queue.push('a', item);
        }
        queue.push('b', 10);
        queue.push('b', 11);
        queue.push('c', 20);
        assert_eq!(drained(&mut queue), [0, 10, 20, 1, 11, 2, 3]);
        assert!(queue.is_empty() && queue.head().is_none());
    }

    #[test]
    fn who_leaves_from_the_middle_changes_no_turn() {
        let mut queue = FairQueue::default();
        for (key, item) in [('a', 0), ('a', 1), ('b', 10), ('b', 11)] {
            queue.push(key, item);
        }
        assert_eq!(queue.remove(|item| *item == 11), Some(11));
        assert_eq!(queue.remove(|item| *item == 1), Some(1));
        assert_eq!(queue.remove(|item| *item == 1), None);
        assert_eq!(drained(&mut queue), [0, 10]);
    }

    #[test]
    fn the_first_of_a_key_that_has_no_turn_changes_no_turn() {
        let mut queue = FairQueue::default();
        for (key, item) in [('a', 0), ('b', 10), ('b', 11), ('c', 20)] {
            queue.push(key, item);
        }
        assert_eq!(queue.remove(|item| *item == 10), Some(10));
        assert!(!queue.is_empty());
        assert_eq!(drained(&mut queue), [0, 11, 20]);
    }

    #[test]
    fn a_key_that_comes_back_has_its_turn_last() {
        let mut queue = FairQueue::default();
        queue.push('a', 0);
        queue.push('b', 10);
        assert_eq!(queue.remove(|item| *item == 0), Some(0));
        queue.push('a', 1);
        assert_eq!(drained(&mut queue), [10, 1]);
    }
}
