//! Calls of tools that wait for their results, and names that are kept once: found at once however long a conversation is.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use super::Text;

/// The calls of a conversation, numbered in their order, that have no result yet.
///
/// Cost: each call is passed over once, whatever the order in which results come.
#[derive(Clone, Debug, Default)]
pub struct Waiting<'a> {
    /// The numbers of calls by name, in order. Those that have a result are passed over when they come up.
    by_name: HashMap<Cow<'a, [u8]>, VecDeque<usize>>,
    /// By number: whether it has a result.
    has_result: Vec<bool>,
    /// No call before this one waits.
    first: usize,
}

impl<'a> Waiting<'a> {
    /// Adds a call; returns its number.
    pub fn push(&mut self, name: &Text<'a>) -> usize {
        let number = self.has_result.len();
        self.by_name.entry(name.key()).or_default().push_back(number);
        self.has_result.push(false);
        number
    }

    /// The first call of this name that waits; it no longer does.
    pub fn take_named(&mut self, name: &Text<'a>) -> Option<usize> {
        let calls = self.by_name.get_mut(&name.key())?;
        while let Some(number) = calls.pop_front() {
            if number >= self.first && !self.has_result[number] {
                self.has_result[number] = true;
                return Some(number);
            }
        }
        None
    }

    /// The first call that waits; it no longer does.
    pub fn take_first(&mut self) -> Option<usize> {
        while *self.has_result.get(self.first)? {
            self.first += 1;
        }
        self.has_result[self.first] = true;
        Some(self.first)
    }

    /// A call that was found by its id has its result.
    pub fn take(&mut self, number: usize) {
        self.has_result[number] = true;
    }

    /// The calls so far wait no longer.
    pub fn forget_all(&mut self) {
        self.first = self.has_result.len();
    }
}

/// The calls of a conversation, numbered in their order, each found by its id, or by its name as long as it waits.
#[derive(Clone, Debug, Default)]
pub struct Calls<'a> {
    names: Vec<Text<'a>>,
    /// The last call of an id: some backends number the calls of each response anew.
    by_id: HashMap<Cow<'a, [u8]>, usize>,
    waiting: Waiting<'a>,
}

impl<'a> Calls<'a> {
    /// Adds a call; without an id if that is empty.
    pub fn push(&mut self, id: &Text<'a>, name: &Text<'a>) {
        let number = self.waiting.push(name);
        self.names.push(name.clone());
        if !id.is_empty() {
            self.by_id.insert(id.key(), number);
        }
    }

    /// The call that a result is of: the one of its id, or the first one of its name that waits.
    pub fn pair(&mut self, id: &Text<'a>, name: Option<&Text<'a>>) -> Option<usize> {
        let by_id = if id.is_empty() { None } else { self.by_id.get(&id.key()).copied() };
        if let Some(number) = by_id {
            self.waiting.take(number);
            return by_id;
        }
        self.waiting.take_named(name?)
    }

    /// The first call that waits, for a result that says nothing of its call.
    pub fn take_first(&mut self) -> Option<usize> {
        self.waiting.take_first()
    }

    /// The name of a call.
    pub fn name(&self, number: usize) -> &Text<'a> {
        &self.names[number]
    }

    /// The calls so far are found by their id only.
    pub fn forget_all(&mut self) {
        self.waiting.forget_all();
    }
}

/// Names, each once, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    list: Vec<Text<'a>>,
    known: HashSet<Cow<'a, [u8]>>,
}

impl<'a> Names<'a> {
    /// Adds a name, if it is not there.
    pub fn insert(&mut self, name: &Text<'a>) {
        if self.known.insert(name.key()) {
            self.list.push(name.clone());
        }
    }

    /// Whether a name is there.
    pub fn contains(&self, name: &Text<'_>) -> bool {
        self.known.contains(&*name.key())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &Text<'a>> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_taken_once_by_name_or_in_order() {
        let mut waiting = Waiting::default();
        let (f, g) = (Text::escaped(b"f"), Text::escaped(b"g"));
        for name in [&f, &g, &f, &g, &f] {
            waiting.push(name);
        }
        assert_eq!(waiting.take_named(&Text::escaped(br"\u0067")), Some(1), "escapes do not matter");
        assert_eq!(waiting.take_first(), Some(0));
        waiting.take(2);
        assert_eq!(waiting.take_named(&f), Some(4));
        assert_eq!(waiting.take_named(&f), None);
        assert_eq!((waiting.take_first(), waiting.take_first()), (Some(3), None));
        waiting.push(&f);
        waiting.forget_all();
        assert_eq!((waiting.take_named(&f), waiting.take_first()), (None, None));
        assert_eq!(waiting.push(&g), 6);
        assert_eq!(waiting.take_named(&g), Some(6));
    }

    #[test]
    fn a_call_is_found_by_its_id_before_its_name() {
        let mut calls = Calls::default();
        let (f, g, none) = (Text::escaped(b"f"), Text::escaped(b"g"), Text::default());
        for (id, name) in [(&b"1"[..], &f), (b"", &g), (b"2", &f), (b"1", &g)] {
            calls.push(&Text::escaped(id), name);
        }
        assert_eq!(calls.pair(&Text::escaped(b"2"), Some(&g)), Some(2));
        assert_eq!(calls.pair(&Text::escaped(b"1"), None), Some(3), "the last one of an id");
        assert_eq!(calls.pair(&Text::escaped(b"3"), Some(&f)), Some(0));
        assert_eq!(calls.pair(&none, None), None);
        assert_eq!((calls.take_first(), calls.take_first()), (Some(1), None));
        assert_eq!(calls.name(1), &g);
    }

    #[test]
    fn names_are_kept_once_in_order() {
        let mut names = Names::default();
        for name in [&b"f"[..], b"g", b"f", br"\u0066"] {
            names.insert(&Text::escaped(name));
        }
        assert_eq!(names.iter().count(), 2);
        assert!(names.contains(&Text::escaped(b"g")) && !names.contains(&Text::escaped(b"h")));
    }
}
