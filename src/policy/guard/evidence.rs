//! What is written of a match: the rule, where it was, what followed, and a keyed hash of its text. Never the text.
//!
//! The same text has the same hash for as long as the secret stays, so that an operator can see that it is the same card every
//! time, and can look for one that is known. Without the secret nobody can try all card numbers against a hash.

use std::fmt::Write as _;

use super::rules::{Action, Finding, Guards};
use crate::dialect::texts::Place;

/// The matches of one exchange.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    rows: Vec<Mark>,
    /// Different matches that were left out.
    more: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Mark {
    rule: Box<str>,
    place: Place,
    action: &'static str,
    hash: u128,
    count: u32,
}

impl Marks {
    /// Notes a match. The same one again only counts; beyond [`MARKS_MAX`] different ones they are only counted.
    pub fn note(&mut self, guards: &Guards, finding: &Finding) {
        let rule = guards.rule(finding.rule);
        let action = match &rule.action {
            _ if rule.is_shadow => "shadow",
            Action::Log => "log",
            Action::Mask => "mask",
            Action::Refuse => "refuse",
            Action::Stop => "stop",
            Action::Route(_) => "route",
        };
        self.add(&rule.name, finding.place, action, finding.hash);
    }

    /// Notes what a rule did, by its parts.
    pub fn add(&mut self, rule: &str, place: Place, action: &'static str, hash: u128) {
        let same = |mark: &&mut Mark| {
            mark.hash == hash && mark.place == place && *mark.rule == *rule && mark.action == action
        };
        if let Some(mark) = self.rows.iter_mut().find(same) {
            mark.count = mark.count.saturating_add(1);
        } else if self.rows.len() == MARKS_MAX {
            self.more = self.more.saturating_add(1);
        } else {
            self.rows.push(Mark { rule: rule.into(), place, action, hash, count: 1 });
        }
    }

    /// As a text of at most `bytes_max` bytes: `rule/place/action/hash/count` with `;` between them, and `+N` for those left out.
    pub fn text(&self, bytes_max: usize) -> String {
        let (mut text, mut more) = (String::new(), self.more);
        for mark in &self.rows {
            let start = text.len();
            let place = Place::ALL.iter().find(|row| row.1 == mark.place).map_or("", |row| row.0);
            let gap = if start == 0 { "" } else { ";" };
            let Mark { rule, action, hash, count, .. } = mark;
            let _ = write!(text, "{gap}{rule}/{place}/{action}/{hash:032x}/{count}");
            if text.len() + MORE_BYTES > bytes_max {
                text.truncate(start);
                more = more.saturating_add(1);
            }
        }
        if more > 0 {
            let _ = write!(text, "{}+{more}", if text.is_empty() { "" } else { ";" });
        }
        text
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Different matches of one exchange that are told apart. Chosen, not measured.
pub const MARKS_MAX: usize = 16;
/// Room for the number of those left out.
const MORE_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::guard::patterns::Find;
    use crate::policy::guard::rules::Rule;
    use crate::policy::guard::secret::Secret;

    fn guards() -> Guards {
        let rule = Rule {
            name: "cards".into(),
            finds: vec![Find::Phrase("x".into())],
            places: vec![Place::Input],
            action: Action::Mask,
            ..Rule::default()
        };
        Guards::compile(vec![rule]).expect("a rule")
    }

    #[test]
    fn one_match_is_one_row_and_its_text_is_in_none() {
        let (guards, secret) = (guards(), Secret::new(b"secret"));
        let mut marks = Marks::default();
        for text in ["4111", "4111", "4222"] {
            let hash = secret.hash(text.as_bytes());
            marks.note(&guards, &Finding { rule: 0, place: Place::Input, bytes: 4, hash });
        }
        let hash = format!("{:032x}", secret.hash(b"4111"));
        let text = marks.text(1000);
        assert!(text.starts_with(&format!("cards/input/mask/{hash}/2;cards/input/mask/")), "{text}");
        assert!(!text.contains("4111") && !text.contains("4222"));
        assert_ne!(Secret::new(b"other").hash(b"4111"), secret.hash(b"4111"));
    }

    #[test]
    fn many_matches_are_counted_and_the_text_is_bounded() {
        let guards = guards();
        let mut marks = Marks::default();
        for hash in 0..1000 {
            marks.note(&guards, &Finding { rule: 0, place: Place::Input, bytes: 4, hash });
        }
        assert!(marks.text(4000).ends_with("/1;+984"));
        for bytes_max in [12, 60, 200] {
            let text = marks.text(bytes_max);
            assert!(text.len() <= bytes_max && text.contains('+'), "{text}");
        }
    }
}
