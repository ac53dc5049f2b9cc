//! A request or a whole response under rules.

use super::rules::{Action, Finding, Guards, Labels};
use super::scan::Scan;
use crate::dialect::texts::{self, Located, Place};
use crate::units::Span;
use crate::wire::json;

/// What rules say of a body.
#[derive(Debug, Default)]
pub struct Checked {
    /// Every match, in the order of the body.
    pub findings: Vec<Finding>,
    /// The rule that decides what becomes of the whole, if one does: of those that matched the first in precedence.
    pub decides: Option<usize>,
    /// Masked matches: ranges of the body, in order, and what stands there instead.
    pub edits: Vec<(Span, Vec<u8>)>,
}

impl Checked {
    /// The body with its edits.
    pub fn edited(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let edits: Vec<(Span, &[u8])> = self.edits.iter().map(|(span, new)| (*span, &**new)).collect();
        json::splice(&mut out, body, &edits);
        out
    }
}

/// Checks the texts of a request. `applies` says whether a rule is meant for this caller.
pub fn request(
    guards: &Guards,
    body: &[u8],
    labels: &mut Labels,
    applies: &dyn Fn(usize) -> bool,
) -> Checked {
    let mut check = Check { guards, body, labels, applies, checked: Checked::default(), plain: Vec::new() };
    texts::request(body, &mut |located| check.located(located));
    check.checked
}

/// Checks the texts of a whole response.
pub fn response(
    guards: &Guards,
    body: &[u8],
    labels: &mut Labels,
    applies: &dyn Fn(usize) -> bool,
) -> Checked {
    let mut check = Check { guards, body, labels, applies, checked: Checked::default(), plain: Vec::new() };
    texts::body(body, &mut |located| check.located(located));
    check.checked
}

struct Check<'a> {
    guards: &'a Guards,
    body: &'a [u8],
    labels: &'a mut Labels,
    applies: &'a dyn Fn(usize) -> bool,
    checked: Checked,
    /// A text without its escapes.
    plain: Vec<u8>,
}

impl Check<'_> {
    fn located(&mut self, located: Located) {
        let (Located::Whole { place, inside } | Located::Piece { place, inside, .. }) = located else {
            return;
        };
        text(
            self.guards,
            place,
            self.body,
            inside,
            self.labels,
            self.applies,
            &mut self.plain,
            &mut self.checked,
        );
    }
}

/// Checks one whole text, whose JSON string has its inside at `inside` in `bytes`.
#[allow(clippy::too_many_arguments)] // the parts of a check that the caller keeps between texts
pub(super) fn text(
    guards: &Guards,
    place: Place,
    bytes: &[u8],
    inside: Span,
    labels: &mut Labels,
    applies: &dyn Fn(usize) -> bool,
    plain: &mut Vec<u8>,
    checked: &mut Checked,
) {
    let Some(set) = guards.set(place) else { return };
    let written = inside.of(bytes);
    let is_escaped = memchr::memchr(b'\\', written).is_some();
    plain.clear();
    if is_escaped {
        json::unescape(written, plain);
    }
    let text: &[u8] = if is_escaped { plain } else { written };
    let mut masks: Vec<(std::ops::Range<usize>, usize)> = Vec::new();
    let mut sink = |one: super::scan::Match, bytes: &[u8]| {
        if !applies(one.rule) {
            return;
        }
        let rule = guards.rule(one.rule);
        checked.findings.push(Finding { rule: one.rule, place, bytes: bytes.len() });
        if rule.is_shadow {
            return;
        }
        match rule.action {
            Action::Log => {}
            Action::Mask => masks.push((one.start as usize..one.end as usize, one.pattern)),
            _ => checked.decides = Some(checked.decides.map_or(one.rule, |first| first.min(one.rule))),
        }
    };
    let mut scan = Scan::default();
    scan.feed(set, text, usize::MAX, &mut sink);
    scan.finish(set, &mut sink);
    for (range, pattern) in merged(masks) {
        let mut label = Vec::new();
        let row = set.row(pattern);
        labels.append(guards.rule(row.rule).label(row.detector), &text[range.clone()], &mut label);
        let range = if is_escaped { json::inside_range(written, range) } else { range };
        checked.edits.push((Span::new(inside.start + range.start, inside.start + range.end), label));
    }
}

/// Matches that overlap become one, labelled as its first.
fn merged(mut masks: Vec<(std::ops::Range<usize>, usize)>) -> Vec<(std::ops::Range<usize>, usize)> {
    masks.sort_by_key(|mask| (mask.0.start, std::cmp::Reverse(mask.0.end)));
    let mut out: Vec<(std::ops::Range<usize>, usize)> = Vec::new();
    for mask in masks {
        match out.last_mut() {
            Some(last) if mask.0.start < last.0.end => last.0.end = last.0.end.max(mask.0.end),
            _ => out.push(mask),
        }
    }
    out
}
