//! Expressions and detectors of a set of rules, compiled once into one automaton.

use regex_automata::Anchored;
use regex_automata::MatchKind;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::util::syntax;

use super::detect::Detector;

/// What a rule searches for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Find {
    /// A detector.
    Detector(Detector),
    /// A regular expression in the syntax of the regex crate. It has no look-around and no back-references, so the time
    /// of a search is linear in its text. A word boundary looks at ASCII letters: `(?-u:\b)`.
    Expression(String),
    /// A word or phrase: letters of ASCII in any case, between boundaries, any blanks for a blank.
    Phrase(String),
}

/// Why a set of rules was refused: which of its entries, and what is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfit {
    /// Index of the entry.
    pub entry: usize,
    /// What is wrong and what was expected.
    pub problem: String,
}

/// The automaton of a set of entries, each a [`Find`] with the index of its rule.
#[derive(Debug)]
pub struct Patterns {
    dfa: dense::DFA<Vec<u32>>,
    /// By pattern of the automaton: its rule, and who judges its candidates.
    rows: Vec<Row>,
    /// By the byte before (256: none): an index into `starts`.
    start_of: [u8; 257],
    starts: Vec<Start>,
}

/// A pattern of the automaton.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index of the rule.
    pub rule: usize,
    /// Who judges its candidates; all of them are matches if nobody does.
    pub detector: Option<Detector>,
}

/// Where a run starts, and the bytes with which it can begin.
#[derive(Debug)]
struct Start {
    state: StateID,
    /// Bit `byte` says that a run can begin with that byte.
    begins: [u64; 4],
}

impl Patterns {
    /// Compiles `entries`, each with the index of its rule.
    ///
    /// # Errors
    /// An expression that is malformed, that matches the empty text, or that is too large for the automaton.
    pub fn compile<'a>(entries: impl IntoIterator<Item = (usize, &'a Find)>) -> Result<Self, Unfit> {
        let (mut sources, mut rows) = (Vec::new(), Vec::new());
        for (entry, (rule, find)) in entries.into_iter().enumerate() {
            let detector = match find {
                Find::Detector(detector) => Some(*detector),
                _ => None,
            };
            for source in find.sources() {
                check(&source).map_err(|problem| Unfit { entry, problem })?;
                sources.push(source);
                rows.push(Row { rule, detector });
            }
        }
        let dfa = automaton(&sources).map_err(|problem| Unfit { entry: 0, problem })?;
        let mut patterns = Self { dfa, rows, start_of: [0; 257], starts: Vec::new() };
        patterns.find_starts();
        Ok(patterns)
    }

    pub(super) fn row(&self, pattern: usize) -> Row {
        self.rows[pattern]
    }

    /// The first position in `text`, from `from` on, at which a run can begin.
    #[inline]
    pub(super) fn next_start(&self, text: &[u8], from: usize) -> Option<usize> {
        let mut before = if from == 0 { 256 } else { usize::from(text[from - 1]) };
        for (position, byte) in text.iter().enumerate().skip(from) {
            let start = &self.starts[usize::from(self.start_of[before])];
            if start.begins[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1 {
                return Some(position);
            }
            before = usize::from(*byte);
        }
        None
    }

    /// The state in which a run at `position` starts.
    pub(super) fn start(&self, text: &[u8], position: usize) -> StateID {
        let before = if position == 0 { 256 } else { usize::from(text[position - 1]) };
        self.starts[usize::from(self.start_of[before])].state
    }

    #[inline]
    pub(super) fn step(&self, state: StateID, byte: u8) -> StateID {
        self.dfa.next_state(state, byte)
    }

    pub(super) fn end_of_text(&self, state: StateID) -> StateID {
        self.dfa.next_eoi_state(state)
    }

    /// Whether nothing can match any more, or `None` if `state` is an ordinary one.
    #[inline]
    pub(super) fn special(&self, state: StateID) -> Special {
        if !self.dfa.is_special_state(state) {
            Special::No
        } else if self.dfa.is_match_state(state) {
            Special::Match
        } else if self.dfa.is_dead_state(state) || self.dfa.is_quit_state(state) {
            Special::Dead
        } else {
            Special::No
        }
    }

    /// The patterns that end before the byte that led to `state`.
    pub(super) fn matching(&self, state: StateID) -> impl Iterator<Item = usize> + '_ {
        (0..self.dfa.match_len(state)).map(move |index| self.dfa.match_pattern(state, index).as_usize())
    }

    fn find_starts(&mut self) {
        for before in 0..=256_usize {
            let behind = u8::try_from(before).ok();
            let config = start::Config::new().anchored(Anchored::Yes).look_behind(behind);
            let Ok(state) = self.dfa.start_state(&config) else { continue };
            let known = self.starts.iter().position(|start| start.state == state);
            let index = known.unwrap_or_else(|| {
                let mut begins = [0_u64; 4];
                for byte in 0..=255_u8 {
                    if self.special(self.step(state, byte)) != Special::Dead {
                        begins[usize::from(byte >> 6)] |= 1 << (byte & 63);
                    }
                }
                self.starts.push(Start { state, begins });
                self.starts.len() - 1
            });
            self.start_of[before] = index as u8; // a handful: one for each kind of byte that an assertion looks at
        }
    }
}

/// What a state of the automaton says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// Nothing yet.
    No,
    /// Patterns have ended.
    Match,
    /// No pattern can end any more.
    Dead,
}

impl Find {
    fn sources(&self) -> Vec<String> {
        match self {
            Self::Detector(detector) => detector.sources().iter().map(|&source| source.to_owned()).collect(),
            Self::Expression(source) => vec![source.clone()],
            Self::Phrase(words) => vec![phrase(words)],
        }
    }
}

/// The expression of a phrase. Its blanks stand for up to four blanks or line ends.
fn phrase(words: &str) -> String {
    let mut source = String::from(r"(?i)");
    let is_word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    if is_word(words.trim().chars().next()) {
        source.push_str(r"(?-u:\b)");
    }
    for (index, word) in words.split_whitespace().enumerate() {
        if index > 0 {
            source.push_str(r"[ \t\r\n]{1,4}");
        }
        for letter in word.chars() {
            if letter.is_ascii_punctuation() {
                source.push('\\');
            }
            source.push(letter);
        }
    }
    if is_word(words.trim().chars().last()) {
        source.push_str(r"(?-u:\b)");
    }
    source
}

fn check(source: &str) -> Result<(), String> {
    if source.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("has {} bytes; expected at most {EXPRESSION_BYTES_MAX}", source.len()));
    }
    let dfa = automaton(std::slice::from_ref(&source.to_owned()))?;
    let config = start::Config::new().anchored(Anchored::Yes);
    let empty = dfa.start_state(&config).map(|state| dfa.next_eoi_state(state));
    if empty.is_ok_and(|state| dfa.is_match_state(state)) {
        return Err("matches the empty text; expected an expression that needs at least one byte".to_owned());
    }
    Ok(())
}

fn automaton(sources: &[String]) -> Result<dense::DFA<Vec<u32>>, String> {
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .determinize_size_limit(Some(4 * AUTOMATON_BYTES_MAX));
    dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().utf8(false))
        .thompson(
            regex_automata::nfa::thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(AUTOMATON_BYTES_MAX)),
        )
        .build_many(sources)
        .map_err(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                text = inner.to_string();
                cause = inner.source();
            }
            // The parser draws the expression above its reason.
            match text.rsplit_once("\nerror: ") {
                Some((_, reason)) => reason.trim_end().to_owned(),
                None => text,
            }
        })
}

/// Of one expression; chosen, not measured.
pub const EXPRESSION_BYTES_MAX: usize = 4096;
/// Of the automaton of a set.
pub const AUTOMATON_BYTES_MAX: usize = 16 << 20;
