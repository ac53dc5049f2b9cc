//! A text that stands alone under rules: what each finds in it, and what it becomes.
//!
//! For people who write rules (`ringway guard test`); requests and responses go through [`whole`](super::whole) and
//! [`stream`](super::stream).

use std::ops::Range;

use super::detect::Detector;
use super::rules::{Action, Guards, Labels};
use super::scan::{Match, Scan};
use super::whole::merged;
use crate::dialect::texts::Place;

/// A match in a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spotted {
    /// Index of its rule.
    pub rule: usize,
    /// The detector that found it; none for a pattern or a word.
    pub detector: Option<Detector>,
    /// Bytes of the text.
    pub range: Range<usize>,
}

/// What rules say of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Every match, in the order of the text.
    pub found: Vec<Spotted>,
    /// The rule that decides what becomes of the whole, if one does: of those that matched the first in precedence.
    pub decides: Option<usize>,
    /// The text with its masks.
    pub masked: Vec<u8>,
}

/// Checks a text as one that lies at `place`. `applies` says whether a rule is meant for this caller.
pub fn check(guards: &Guards, place: Place, text: &[u8], applies: &dyn Fn(usize) -> bool) -> Checked {
    let mut checked = Checked { found: Vec::new(), decides: None, masked: Vec::new() };
    let Some(set) = guards.set(place) else { return Checked { masked: text.to_vec(), ..checked } };
    let mut masks = Vec::new();
    let mut sink = |one: Match, _: &[u8]| {
        if guards.is_label(one.rule) || !applies(one.rule) {
            return;
        }
        let range = one.start as usize..one.end as usize;
        let detector = set.row(one.pattern).detector;
        checked.found.push(Spotted { rule: one.rule, detector, range: range.clone() });
        let rule = guards.rule(one.rule);
        match rule.action {
            _ if rule.is_shadow => {}
            Action::Log => {}
            Action::Mask => masks.push((range, one.pattern)),
            _ => checked.decides = Some(checked.decides.map_or(one.rule, |first| first.min(one.rule))),
        }
    };
    let mut scan = Scan::default();
    scan.feed(set, text, usize::MAX, &mut sink);
    scan.finish(set, &mut sink);
    checked.found.sort_by_key(|one| (one.range.start, one.rule));
    let (mut labels, mut at) = (Labels::default(), 0);
    for (range, pattern) in merged(masks) {
        checked.masked.extend_from_slice(&text[at..range.start]);
        let row = set.row(pattern);
        let label = guards.rule(row.rule).label(row.detector);
        labels.append(label, &text[range.clone()], &mut checked.masked);
        at = range.end;
    }
    checked.masked.extend_from_slice(&text[at..]);
    checked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::guard::patterns::Find;
    use crate::policy::guard::rules::Rule;

    fn rule(name: &str, find: Find, action: Action) -> Rule {
        let places = vec![Place::Input];
        Rule { name: name.into(), finds: vec![find], places, action, ..Rule::default() }
    }

    #[test]
    fn a_text_says_what_is_found_by_span_and_what_it_becomes() {
        let guards = Guards::compile(vec![
            rule("mail", Find::Detector(Detector::Email), Action::Mask),
            rule("orion", Find::Phrase("orion".into()), Action::Refuse),
            rule("late", Find::Phrase("orion".into()), Action::Stop),
        ])
        .expect("rules");
        let text = b"to a@example.org and b@example.org, cc a@example.org: orion";
        let checked = check(&guards, Place::Input, text, &|_| true);
        let spans: Vec<_> = checked.found.iter().map(|one| (one.rule, one.range.clone())).collect();
        assert_eq!(spans, [(0, 3..16), (0, 21..34), (0, 39..52), (1, 54..59), (2, 54..59)]);
        assert_eq!(checked.decides, Some(1), "the first in precedence");
        assert_eq!(checked.masked, b"to <EMAIL_1> and <EMAIL_2>, cc <EMAIL_1>: orion");
        assert_eq!(check(&guards, Place::Input, text, &|rule| rule == 2).decides, Some(2));
        assert_eq!(check(&guards, Place::Output, text, &|_| true).masked, text);
    }
}
