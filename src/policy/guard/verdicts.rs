//! Verdicts of guards in other processes that are used again for the same texts.

use std::collections::HashMap;

use ring::digest::{Context, SHA256};

use super::external::{About, Verdict};
use crate::dialect::texts::Place;
use crate::units::{Nanos, Span};

/// What a verdict is known by.
pub type Key = [u8; 32];

/// Verdicts, each until its time.
#[derive(Debug, Default)]
pub struct Verdicts {
    known: HashMap<Key, (Verdict, Nanos)>,
}

/// The key of these texts, which lie in `body`. `rule`: the number of the plan, and that of the rule in it. `about`: for a guard that
/// is told whose request it is; its verdict may be another for another model or key.
pub fn key(rule: (u64, usize), about: Option<&About<'_>>, body: &[u8], texts: &[(Place, Span)]) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(&rule.0.to_le_bytes());
    context.update(&(rule.1 as u64).to_le_bytes());
    if let Some(About { model, key, .. }) = about {
        for part in [model, key] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
    }
    for (place, inside) in texts {
        context.update(&[*place as u8]);
        context.update(&(inside.len() as u64).to_le_bytes());
        context.update(inside.of(body));
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

impl Verdicts {
    /// The verdict of a key, if its time has not come.
    pub fn get(&self, key: &Key, now: Nanos) -> Option<Verdict> {
        self.known.get(key).filter(|known| now < known.1).map(|known| known.0.clone())
    }

    /// Keeps a verdict. Of [`VERDICTS_MAX`] those whose time has come leave, or if there are none, all.
    pub fn keep(&mut self, key: Key, verdict: Verdict, until: Nanos, now: Nanos) {
        if self.known.len() >= VERDICTS_MAX {
            self.known.retain(|_, known| now < known.1);
        }
        if self.known.len() >= VERDICTS_MAX {
            self.known.clear();
        }
        self.known.insert(key, (verdict, until));
    }
}

/// Verdicts that are kept at once. Chosen, not measured.
pub const VERDICTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_used_until_its_time_and_there_are_only_so_many() {
        let mut verdicts = Verdicts::default();
        let verdict = Verdict { refuses: true, reason: None };
        let key_of = |number: usize| key((1, number), None, b"", &[]);
        for number in 0..3 * VERDICTS_MAX {
            verdicts.keep(key_of(number), verdict.clone(), Nanos(10), Nanos(1));
            assert!(verdicts.known.len() <= VERDICTS_MAX);
        }
        let last = key_of(3 * VERDICTS_MAX - 1);
        assert_eq!(verdicts.get(&last, Nanos(9)), Some(verdict));
        assert_eq!(verdicts.get(&last, Nanos(10)), None);
    }

    #[test]
    fn a_verdict_about_one_caller_is_none_about_another() {
        let of = |model, caller| {
            let about = About { guard: "g", request_id: "r", model, key: caller };
            key((1, 1), Some(&about), b"hi", &[(Place::Input, Span::new(0, 2))])
        };
        assert_eq!(of("m", "one"), of("m", "one"));
        assert_ne!(of("m", "one"), of("m", "two"));
        assert_ne!(of("m", "one"), of("n", "one"));
        assert_ne!(of("mo", "ne"), of("m", "one"));
    }
}
