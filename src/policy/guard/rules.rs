//! The rules that apply to a model: where each searches, and what follows a match.

use super::detect::Detector;
use super::patterns::{Find, Patterns, Unfit};
use super::secret::Secret;
use super::shape::Shape;
use crate::dialect::texts::Place;
use crate::wire::json;

/// What follows a match.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Action {
    /// It is counted and recorded; nothing else.
    #[default]
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
#[derive(Clone, PartialEq, Debug, Default)]
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
    /// Its labels are replaced in the response by what they stand for.
    pub restores: bool,
    /// What a request may be made of.
    pub shape: Option<Shape>,
}

impl Rule {
    /// What stands for a match of `detector`, or of a pattern of one's own, and whether it is put back in the response.
    pub(super) fn label(&self, detector: Option<Detector>) -> (&str, bool) {
        (self.label.as_deref().unwrap_or(detector.map_or("MASKED", Detector::label)), self.restores)
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
        let restores = rules.iter().any(|rule| rule.restores).then(|| Find::Expression(LABEL.to_owned()));
        for (index, (_, place)) in Place::ALL.iter().enumerate() {
            let entries: Vec<(usize, &Find)> = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| rule.places.contains(place))
                .flat_map(|(rule, row)| row.finds.iter().map(move |find| (rule, find)))
                .chain(restores.iter().map(|find| (rules.len(), find)).filter(|_| RESTORED.contains(place)))
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

    /// Whether no rule reads anything.
    pub fn is_empty(&self) -> bool {
        !self.reads_requests() && !self.reads_responses()
    }

    /// Whether a rule reads what clients send.
    pub fn reads_requests(&self) -> bool {
        let places = [Place::System, Place::Input, Place::Tools, Place::Thinking];
        self.searches(&places) || self.rules.iter().any(|rule| rule.shape.is_some())
    }

    /// Whether a rule searches in what models say.
    pub fn reads_responses(&self) -> bool {
        self.searches(&RESTORED)
    }

    fn searches(&self, places: &[Place]) -> bool {
        let reads =
            |rule: &Rule| !rule.finds.is_empty() && rule.places.iter().any(|place| places.contains(place));
        self.rules.iter().any(reads)
    }

    /// Whether a match is that of a label, which may stand for something.
    pub(super) fn is_label(&self, rule: usize) -> bool {
        rule == self.rules.len()
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
    known: Vec<Known>,
    /// They are those of a response: labels in it may be put back.
    is_response: bool,
}

#[derive(Clone, Debug)]
struct Known {
    label: Box<str>,
    text: Vec<u8>,
    /// It may be put back.
    restores: bool,
}

impl Labels {
    /// Appends the label of `text`: `<EMAIL_1>`. Beyond [`LABELS_MAX`] different texts all others share one without a number.
    /// `restores`: whether the text may be put back in the response.
    pub(super) fn append(&mut self, (label, restores): (&str, bool), text: &[u8], out: &mut Vec<u8>) {
        let mut number = 0;
        for known in self.known.iter_mut().filter(|known| *known.label == *label) {
            number += 1;
            if known.text == text {
                known.restores |= restores;
                return Self::write(label, Some(number), out);
            }
        }
        if self.known.len() == LABELS_MAX {
            return Self::write(label, None, out);
        }
        self.known.push(Known { label: label.into(), text: text.to_vec(), restores });
        Self::write(label, Some(number + 1), out);
    }

    /// The same for the response. A request is never unmasked: what it says of a label stays a label.
    pub fn for_response(&self) -> Self {
        Self { known: self.known.clone(), is_response: true }
    }

    /// Whether a label may be put back.
    pub fn restores(&self) -> bool {
        self.known.iter().any(|known| known.restores)
    }

    /// What a label stands for, as the inside of a JSON string, if it may be put back. Where the text lies in JSON that lies in a
    /// string (`place` is that of a tool's arguments), only what needs no escape there.
    pub(super) fn original(&self, label: &[u8], place: Place) -> Option<Vec<u8>> {
        let inside = label.strip_prefix(b"<")?.strip_suffix(b">")?;
        let (name, number) = std::str::from_utf8(inside).ok()?.rsplit_once('_')?;
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        let known = self.known.iter().filter(|known| *known.label == *name).nth(index)?;
        let mut text = Vec::new();
        json::escape_bytes(&mut text, &known.text);
        let fits = place != Place::Tools || text == known.text;
        (self.is_response && known.restores && fits).then_some(text)
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
/// The form of a label.
const LABEL: &str = "<[A-Z0-9_]{1,32}_[0-9]{1,3}>";
/// Where what models say is read, and labels are put back.
const RESTORED: [Place; 3] = [Place::Output, Place::Tools, Place::Thinking];
