//! The rules that apply to a model: where each searches, and what follows a match.

use super::detect::Detector;
use super::patterns::{Find, Patterns, Unfit};
use super::secret::Secret;
use crate::dialect::texts::Place;

/// What follows a match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is counted and recorded; nothing else.
    Log,
    /// Its text is replaced by a label.
    Mask,
    /// The request is refused. In a response: as [`Action::Stop`].
    Refuse,
    /// The response ends with an error, and the call of the backend with it. In a request: as [`Action::Refuse`].
    Stop,
    /// The request goes to another model. In a response: as [`Action::Log`].
    Route(Box<str>),
}

/// One content rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// What it searches for.
    pub finds: Vec<Find>,
    /// Where it searches.
    pub places: Vec<Place>,
    /// What follows a match.
    pub action: Action,
    /// It only counts what it would have done.
    pub is_shadow: bool,
    /// What stands for a masked match; the detector's own if absent.
    pub label: Option<Box<str>>,
}

impl Rule {
    /// What stands for a match of `detector`, or of a pattern of one's own.
    pub(super) fn label(&self, detector: Option<Detector>) -> &str {
        self.label.as_deref().unwrap_or(detector.map_or("MASKED", Detector::label))
    }
}

/// The rules of a model, with an automaton for each place.
#[derive(Debug, Default)]
pub struct Guards {
    rules: Vec<Rule>,
    /// By [`Place`].
    sets: [Option<Patterns>; Place::ALL.len()],
    /// Of the hashes of matches.
    secret: Option<Secret>,
}

/// A rule that could not be compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnfitRule {
    /// Index of the rule.
    pub rule: usize,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Guards {
    /// Compiles the rules, in the order in which they take precedence: of several that want different things of a
    /// request, the first decides.
    ///
    /// # Errors
    /// As [`Patterns::compile`].
    pub fn compile(rules: Vec<Rule>) -> Result<Self, UnfitRule> {
        let mut sets: [Option<Patterns>; Place::ALL.len()] = Default::default();
        for (index, (_, place)) in Place::ALL.iter().enumerate() {
            let entries: Vec<(usize, &Find)> = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| rule.places.contains(place))
                .flat_map(|(rule, row)| row.finds.iter().map(move |find| (rule, find)))
                .collect();
            if entries.is_empty() {
                continue;
            }
            let unfit = |Unfit { entry, problem }| UnfitRule { rule: entries[entry].0, problem };
            sets[index] = Some(Patterns::compile(entries.iter().copied()).map_err(unfit)?);
        }
        Ok(Self { rules, sets, secret: None })
    }

    /// The same with a secret for the hashes of matches.
    pub fn with_secret(self, secret: Secret) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// The hash of a text in reports.
    pub fn hash(&self, text: &[u8]) -> u128 {
        self.secret.as_ref().map_or(0, |secret| secret.hash(text))
    }

    /// A match as it is reported.
    pub(super) fn finding(&self, rule: usize, place: Place, text: &[u8]) -> Finding {
        Finding { rule, place, bytes: text.len(), hash: self.hash(text) }
    }

    /// Whether no rule searches anywhere.
    pub fn is_empty(&self) -> bool {
        self.sets.iter().all(Option::is_none)
    }

    /// Whether a rule searches in what clients send.
    pub fn reads_requests(&self) -> bool {
        [Place::System, Place::Input, Place::Tools, Place::Thinking]
            .iter()
            .any(|place| self.set(*place).is_some())
    }

    /// Whether a rule searches in what models say.
    pub fn reads_responses(&self) -> bool {
        [Place::Output, Place::Tools, Place::Thinking].iter().any(|place| self.set(*place).is_some())
    }

    /// The rule of an index.
    pub fn rule(&self, index: usize) -> &Rule {
        &self.rules[index]
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub(super) fn set(&self, place: Place) -> Option<&Patterns> {
        let index = Place::ALL.iter().position(|row| row.1 == place)?;
        self.sets[index].as_ref()
    }
}

/// A match of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Index of the rule.
    pub rule: usize,
    /// Where it was.
    pub place: Place,
    /// Its length in bytes of text.
    pub bytes: usize,
    /// [`Secret::hash`] of its text; zero without a secret.
    pub hash: u128,
}

/// The labels of one exchange: the same text has the same label everywhere in it.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    known: Vec<(Box<str>, Vec<u8>)>,
}

impl Labels {
    /// Appends the label of `text`: `<EMAIL_1>`. Beyond [`LABELS_MAX`] different texts all others share one without a number.
    pub(super) fn append(&mut self, label: &str, text: &[u8], out: &mut Vec<u8>) {
        let mut number = 0;
        for known in self.known.iter().filter(|known| *known.0 == *label) {
            number += 1;
            if known.1 == text {
                return Self::write(label, Some(number), out);
            }
        }
        if self.known.len() == LABELS_MAX {
            return Self::write(label, None, out);
        }
        self.known.push((label.into(), text.to_vec()));
        Self::write(label, Some(number + 1), out);
    }

    fn write(label: &str, number: Option<usize>, out: &mut Vec<u8>) {
        out.push(b'<');
        out.extend_from_slice(label.as_bytes());
        if let Some(number) = number {
            out.push(b'_');
            out.extend_from_slice(number.to_string().as_bytes());
        }
        out.push(b'>');
    }
}

/// Different texts that are told apart in one exchange; chosen, not measured.
pub const LABELS_MAX: usize = 256;
