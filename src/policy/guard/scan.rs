//! Finds the matches of a text that comes in pieces, and says which end of it may still become one.

use regex_automata::util::primitives::StateID;

use super::patterns::{Patterns, Special};

/// A match: offsets count the bytes of the whole text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Index of its pattern in the set.
    pub pattern: usize,
    /// Index of its rule.
    pub rule: usize,
    /// Its first byte.
    pub start: u64,
    /// The byte behind its last.
    pub end: u64,
}

/// The search in one text.
///
/// Every pattern finds its matches as if it were alone: leftmost, longest, no two of one pattern overlap. A run starts
/// at each position that can begin a match and ends when no pattern can match any more; only the first run that has not
/// ended is kept while the text waits for its next piece.
///
/// Time: linear in the text. A run that reaches the state in which the run before it was at the same position ends as
/// that one did, so a text full of beginnings is not read again from each of them. The candidates of detectors are
/// excepted; their length is bounded by their expressions.
#[derive(Debug, Default)]
pub struct Scan {
    /// What may still matter: a few bytes before `start`, and all behind it.
    tail: Vec<u8>,
    /// Offset of `tail[0]` in the text.
    base: u64,
    /// Where the current run started, as an index into `tail`; its end if there is none.
    start: usize,
    /// Where the current run is.
    at: usize,
    state: Option<StateID>,
    /// Candidates of the current run: pattern, and the longest end so far.
    candidates: Vec<(usize, usize)>,
    /// By index into `tail`: the state behind that byte of the last run that was there.
    trace: Vec<StateID>,
    /// What became of that run.
    traced: Traced,
    /// The last match of each pattern: those of one pattern do not overlap.
    taken: Vec<Taken>,
    /// Runs that were given up because they had become too long.
    pub overlong: u64,
    /// Steps of the automaton.
    #[cfg(test)]
    pub(super) steps: u64,
}

/// A match that later ones may not overlap.
#[derive(Clone, Copy, Debug)]
struct Taken {
    pattern: usize,
    rule: usize,
    /// Offset of the byte behind it.
    end: u64,
}

/// The run before.
#[derive(Clone, Copy, Debug, Default)]
struct Traced {
    from: usize,
    to: usize,
    /// Its last candidate ended here; a run that meets it behind this finds nothing that it did not find.
    last_end: usize,
    is_alive: bool,
}

impl Scan {
    /// Reads the next piece of the text. `found` gets each match with its bytes. A run longer than `length_max` bytes is
    /// given up: what it would have matched passes.
    pub fn feed(
        &mut self,
        patterns: &Patterns,
        piece: &[u8],
        length_max: usize,
        found: &mut dyn FnMut(Match, &[u8]),
    ) {
        if self.state.is_none() {
            // The usual piece holds no beginning of anything: it is not even copied.
            let Some(from) = self.first_start(patterns, piece) else { return self.pass(piece) };
            self.pass(&piece[..from]);
            self.tail.extend_from_slice(&piece[from..]);
        } else {
            self.tail.extend_from_slice(piece);
        }
        self.search(patterns, length_max, found);
        self.trim();
    }

    /// The offset from which the text may still become part of a match.
    pub fn live_from(&self) -> u64 {
        self.base + self.start as u64
    }

    /// How many bytes of the text have been read.
    pub fn bytes_read(&self) -> u64 {
        self.base + self.tail.len() as u64
    }

    /// The text ends here.
    pub fn finish(&mut self, patterns: &Patterns, found: &mut dyn FnMut(Match, &[u8])) {
        while let Some(state) = self.state {
            let end = patterns.end_of_text(state);
            if patterns.special(end) == Special::Match {
                self.note(patterns, end, self.tail.len());
            }
            self.decide(patterns, found);
            self.next_run(patterns, false);
            self.search(patterns, usize::MAX, found);
        }
        self.trim();
    }

    /// What is held back is let go: matches that are complete so far are found, and the search goes on for those that
    /// are not. A match that completes later starts before what was let go.
    pub fn let_go(&mut self, patterns: &Patterns, found: &mut dyn FnMut(Match, &[u8])) {
        let Some(state) = self.state else { return };
        let kept = self.candidates.clone();
        let end = patterns.end_of_text(state);
        if patterns.special(end) == Special::Match {
            self.note(patterns, end, self.tail.len());
        }
        self.decide(patterns, found);
        self.candidates = kept;
    }

    fn first_start(&self, patterns: &Patterns, piece: &[u8]) -> Option<usize> {
        match (self.tail.last(), piece.first()) {
            (Some(before), Some(first)) => patterns
                .next_start(&[*before, *first], 1)
                .map(|_| 0)
                .or_else(|| (piece.len() > 1).then(|| patterns.next_start(piece, 1)).flatten()),
            _ => patterns.next_start(piece, 0),
        }
    }

    /// Counts bytes that begin nothing, and keeps the last as what stands before the next.
    fn pass(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        debug_assert!(self.state.is_none() && self.start == self.tail.len(), "no run is waiting");
        self.base = self.bytes_read() + piece.len() as u64 - 1;
        self.tail.clear();
        self.tail.push(*last);
        self.start = 1;
        self.at = 1;
        self.traced = Traced::default();
    }

    /// Runs from one start to the next until the text is used up.
    fn search(&mut self, patterns: &Patterns, length_max: usize, found: &mut dyn FnMut(Match, &[u8])) {
        loop {
            if self.state.is_none() && !self.begin(patterns) {
                return;
            }
            match self.run(patterns, length_max) {
                Run::Waits => return,
                Run::Ended => self.decide(patterns, found),
                Run::Overlong => {
                    self.overlong += 1;
                    self.decide(patterns, found);
                    self.next_run(patterns, true);
                    continue;
                }
            }
            self.next_run(patterns, false);
        }
    }

    /// Starts the run at the next position that can begin a match.
    fn begin(&mut self, patterns: &Patterns) -> bool {
        let next = patterns.next_start(&self.tail, self.start);
        self.start = next.unwrap_or(self.tail.len());
        self.at = self.start;
        self.candidates.clear();
        self.state = next.map(|position| patterns.start(&self.tail, position));
        next.is_some()
    }

    /// Takes the current run to its end, or to the end of what has come.
    fn run(&mut self, patterns: &Patterns, length_max: usize) -> Run {
        let Some(mut state) = self.state else { return Run::Ended };
        self.trace.resize(self.tail.len(), StateID::ZERO);
        while self.at < self.tail.len() {
            state = patterns.step(state, self.tail[self.at]);
            #[cfg(test)]
            {
                self.steps += 1;
            }
            match patterns.special(state) {
                Special::Dead => {
                    self.state = None;
                    return Run::Ended;
                }
                Special::Match => self.note(patterns, state, self.at),
                Special::No => {}
            }
            if self.meets(state) {
                if !self.traced.is_alive {
                    self.state = None;
                    self.at = self.traced.to;
                    return Run::Ended;
                }
                self.at = self.traced.to - 1;
                state = self.trace[self.at];
            } else {
                self.trace[self.at] = state;
            }
            self.at += 1;
            if self.at - self.start >= length_max {
                self.state = Some(state);
                return Run::Overlong;
            }
        }
        self.state = Some(state);
        Run::Waits
    }

    /// Whether the run before was in `state` here, too, and found nothing behind.
    fn meets(&self, state: StateID) -> bool {
        let traced = &self.traced;
        (traced.from..traced.to).contains(&self.at)
            && traced.last_end <= self.at
            && self.trace[self.at] == state
    }

    /// Ends the current run; the next may start one byte further.
    fn next_run(&mut self, patterns: &Patterns, is_alive: bool) {
        let last_end = self.candidates.iter().map(|candidate| candidate.1).max().unwrap_or(0);
        // What a detector refused may be accepted from another start: such a run is no guide.
        let guides = self.candidates.iter().all(|candidate| patterns.row(candidate.0).detector.is_none());
        self.traced =
            Traced { from: self.start, to: if guides { self.at } else { self.start }, last_end, is_alive };
        self.state = None;
        self.candidates.clear();
        self.start = (self.start + 1).min(self.tail.len());
    }

    /// The patterns of `state` end before the byte at `end`.
    fn note(&mut self, patterns: &Patterns, state: StateID, end: usize) {
        for pattern in patterns.matching(state) {
            match self.candidates.iter_mut().find(|candidate| candidate.0 == pattern) {
                Some(candidate) => candidate.1 = end,
                None => self.candidates.push((pattern, end)),
            }
        }
    }

    /// Judges the candidates of a run that has ended, the longest first. What lies inside a match of the same rule is a
    /// part of it.
    fn decide(&mut self, patterns: &Patterns, found: &mut dyn FnMut(Match, &[u8])) {
        let from = self.base + self.start as u64;
        self.candidates.sort_unstable_by_key(|candidate| (std::cmp::Reverse(candidate.1), candidate.0));
        for index in 0..self.candidates.len() {
            let (pattern, longest) = self.candidates[index];
            let rule = patterns.row(pattern).rule;
            if self.taken.iter().any(|taken| taken.pattern == pattern && from < taken.end) {
                continue;
            }
            let Some(end) = self.accepted(patterns, pattern, longest) else { continue };
            let to = self.base + end as u64;
            if self.taken.iter().any(|taken| taken.rule == rule && to <= taken.end) {
                continue;
            }
            match self.taken.iter_mut().find(|taken| taken.pattern == pattern) {
                Some(taken) => taken.end = to,
                None => self.taken.push(Taken { pattern, rule, end: to }),
            }
            found(Match { pattern, rule, start: from, end: to }, &self.tail[self.start..end]);
        }
    }

    /// The end of the match of a candidate, if it is one.
    fn accepted(&self, patterns: &Patterns, pattern: usize, longest: usize) -> Option<usize> {
        let Some(detector) = patterns.row(pattern).detector else { return Some(longest) };
        let before = self.start.checked_sub(1).map(|index| self.tail[index]);
        let length = detector.judge(before, &self.tail[self.start..], longest - self.start)?;
        Some(self.start + length)
    }

    /// Drops what no later run looks at.
    fn trim(&mut self) {
        let drop = self.start.saturating_sub(CONTEXT_BYTES);
        if drop == 0 {
            return;
        }
        self.tail.drain(..drop);
        let traced = self.trace.len().min(drop);
        self.trace.drain(..traced);
        self.base += drop as u64;
        self.start -= drop;
        self.at = self.at.saturating_sub(drop);
        let Traced { from, to, last_end, .. } = &mut self.traced;
        for position in [from, to, last_end] {
            *position = position.saturating_sub(drop);
        }
        self.candidates.iter_mut().for_each(|candidate| candidate.1 -= drop);
        let base = self.base;
        self.taken.retain(|taken| taken.end > base);
    }
}

enum Run {
    /// The text was used up before it ended.
    Waits,
    /// No pattern can match any more.
    Ended,
    /// It had become too long.
    Overlong,
}

/// What detectors look at before a candidate.
const CONTEXT_BYTES: usize = 1;
