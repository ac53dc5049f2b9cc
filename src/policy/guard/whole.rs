//! A request or a whole response under rules.

use std::cmp::Reverse;
use std::ops::Range;

use super::rules::{Action, Finding, Guards, Labels};
use super::scan::{Match, Scan};
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
    /// Why the request is not what its rule allows, where that is no match.
    pub reason: Option<String>,
    /// Masked matches: ranges of the body, in order, and what stands there instead.
    pub edits: Vec<(Span, Vec<u8>)>,
}

impl Checked {
    /// The body with its edits.
    pub fn edited(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut edits: Vec<(Span, &[u8])> = self.edits.iter().map(|(span, new)| (*span, &**new)).collect();
        edits.sort_by_key(|edit| edit.0.start);
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
    let mut check = Check { guards, applies, labels, plain: &mut Vec::new(), checked: Checked::default() };
    texts::request(body, &mut |located| check.located(body, located));
    check.shapes(body);
    check.checked
}

/// Checks the texts of a whole response.
pub fn response(
    guards: &Guards,
    body: &[u8],
    labels: &mut Labels,
    applies: &dyn Fn(usize) -> bool,
) -> Checked {
    let mut check = Check { guards, applies, labels, plain: &mut Vec::new(), checked: Checked::default() };
    texts::body(body, &mut |located| check.located(body, located));
    check.checked
}

/// A check of texts that are whole.
pub(super) struct Check<'a> {
    pub(super) guards: &'a Guards,
    pub(super) applies: &'a dyn Fn(usize) -> bool,
    pub(super) labels: &'a mut Labels,
    /// A text without its escapes, kept for its capacity.
    pub(super) plain: &'a mut Vec<u8>,
    pub(super) checked: Checked,
}

impl Check<'_> {
    /// Checks what the request is made of beside its texts.
    fn shapes(&mut self, body: &[u8]) {
        for index in (0..self.guards.len()).filter(|rule| (self.applies)(*rule)) {
            let rule = self.guards.rule(index);
            let Some(shape) = &rule.shape else { continue };
            let shaped = shape.check(body);
            let enforces = !rule.is_shadow && rule.action != Action::Log;
            if enforces {
                shaped.edits.into_iter().for_each(|(span, most)| self.clamp(span, most));
            }
            let Some(reason) = shaped.violation else { continue };
            self.checked.findings.push(self.guards.finding(index, Place::Input, reason.as_bytes()));
            if enforces && self.checked.decides.is_none_or(|first| index < first) {
                self.checked.decides = Some(index);
                self.checked.reason = Some(reason);
            }
        }
    }

    /// Replaces a parameter. Where several rules do, the lowest number stays; what was masked inside of it is not there any more.
    fn clamp(&mut self, span: Span, most: Vec<u8>) {
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
        let known = self.checked.edits.iter_mut().find(|edit| edit.0 == span);
        if let Some((own, own_most)) = known.map(|edit| (number(&edit.1), &mut edit.1)) {
            if own.is_none_or(|own| number(&most).is_some_and(|most| most < own)) {
                *own_most = most;
            }
            return;
        }
        self.checked.edits.retain(|(other, _)| other.end <= span.start || span.end <= other.start);
        self.checked.edits.push((span, most));
    }

    fn located(&mut self, body: &[u8], located: Located) {
        if let Located::Whole { place, inside } | Located::Piece { place, inside, .. } = located {
            self.text(body, place, inside);
        }
    }

    /// Checks one text, whose JSON string has its inside at `inside` in `bytes`.
    pub(super) fn text(&mut self, bytes: &[u8], place: Place, inside: Span) {
        let Some(set) = self.guards.set(place) else { return };
        let written = inside.of(bytes);
        let is_escaped = memchr::memchr(b'\\', written).is_some();
        if is_escaped {
            self.plain.clear();
            json::unescape(written, self.plain);
        }
        let said: &[u8] = if is_escaped { self.plain } else { written };
        let nested = nested(place, said);
        let text = nested.as_deref().unwrap_or(said);
        let (mut masks, mut originals) = (Vec::new(), Vec::new());
        let mut sink = |one: Match, bytes: &[u8]| {
            if self.guards.is_label(one.rule) {
                let original = self.labels.original(bytes, place);
                return originals.extend(original.map(|text| (one.start as usize..one.end as usize, text)));
            }
            if !(self.applies)(one.rule) {
                return;
            }
            self.checked.findings.push(self.guards.finding(one.rule, place, bytes));
            let rule = self.guards.rule(one.rule);
            match rule.action {
                _ if rule.is_shadow => {}
                Action::Log => {}
                Action::Mask => masks.push((one.start as usize..one.end as usize, one.pattern)),
                _ => {
                    let decides = &mut self.checked.decides;
                    *decides = Some(decides.map_or(one.rule, |first| first.min(one.rule)));
                }
            }
        };
        let mut scan = Scan::default();
        scan.feed(set, text, usize::MAX, &mut sink);
        scan.finish(set, &mut sink);
        let span = |range: Range<usize>| {
            let range = if nested.is_some() { json::inside_range(said, range) } else { range };
            let range = if is_escaped { json::inside_range(written, range) } else { range };
            Span::new(inside.start + range.start, inside.start + range.end)
        };
        let masks = merged(masks);
        let is_apart = |range: &Range<usize>| {
            masks.iter().all(|mask| mask.0.end <= range.start || range.end <= mask.0.start)
        };
        for (range, original) in originals.into_iter().filter(|(range, _)| is_apart(range)) {
            self.checked.edits.push((span(range), original));
        }
        for (range, pattern) in masks {
            let mut label = Vec::new();
            let row = set.row(pattern);
            self.labels.append(
                self.guards.rule(row.rule).label(row.detector),
                &text[range.clone()],
                &mut label,
            );
            self.checked.edits.push((span(range), label));
        }
    }
}

/// The arguments of a tool call, or what it brought, are often JSON in a string, with escapes of its own: what their reader reads.
fn nested(place: Place, said: &[u8]) -> Option<Vec<u8>> {
    let is_json = || json::visit(said, &mut |_| {}).is_ok();
    if place != Place::Tools || memchr::memchr(b'\\', said).is_none() || !is_json() {
        return None;
    }
    let mut text = Vec::with_capacity(said.len());
    json::unescape(said, &mut text);
    Some(text)
}

/// A masked match: where in its text, and by which pattern.
pub(super) type Masked = (Range<usize>, usize);

/// Matches that overlap become one, labelled as its first.
pub(super) fn merged(mut masks: Vec<Masked>) -> Vec<Masked> {
    masks.sort_by_key(|mask| (mask.0.start, Reverse(mask.0.end)));
    let mut out: Vec<Masked> = Vec::new();
    for mask in masks {
        match out.last_mut() {
            Some(last) if mask.0.start < last.0.end => last.0.end = last.0.end.max(mask.0.end),
            _ => out.push(mask),
        }
    }
    out
}
