//! Which model serves a request that asked for this one: rules over what the request looks like, in the order of the
//! configuration. The first one that fits decides.

use crate::units::{KeyId, ModelId};
use crate::wire::fields;

/// One rule. What it does not name fits every request.
#[derive(Clone, Debug)]
pub struct Route {
    /// The model that serves instead.
    pub to: ModelId,
    /// Prompts of at least so many tokens, by estimate.
    pub prompt_tokens_min: u64,
    /// Prompts of at most so many tokens, by estimate.
    pub prompt_tokens_max: u64,
    /// Requests with tools, or without.
    pub tools: Option<bool>,
    /// Requests with images, or without.
    pub images: Option<bool>,
    /// Requests with this header line.
    pub header: Option<HeaderLine>,
    /// By `KeyId`: requests with these keys.
    pub keys: Option<Box<[bool]>>,
    /// Share of the requests that fit, in 2^32ths; `ALL` for every one.
    pub share: u64,
}

/// A header line.
#[derive(Clone, Debug)]
pub struct HeaderLine {
    /// In lower case.
    pub name: Box<[u8]>,
    /// Compared whole; empty for any value.
    pub value: Box<[u8]>,
}

/// The share of every request.
pub const ALL: u64 = 1 << 32;

/// What rules look at.
pub struct Facts<'a, I: Fn() -> bool> {
    /// Tokens of the prompt, by estimate.
    pub prompt_tokens: u64,
    /// The request defines tools.
    pub tools: bool,
    /// Whether it has an image. Asked only if a rule wants to know: it costs a pass over the prompt.
    pub images: I,
    /// The lines of its head.
    pub lines: &'a [u8],
    /// Whose it is.
    pub key: Option<KeyId>,
    /// The same for the requests of a session, random for others.
    pub draw: u32,
}

/// The first of `routes` that fits.
pub fn first<'a, I: Fn() -> bool>(
    routes: impl IntoIterator<Item = &'a Route>,
    facts: &Facts<'_, I>,
) -> Option<&'a Route> {
    routes.into_iter().find(|route| route.fits(facts))
}

impl Route {
    fn fits<I: Fn() -> bool>(&self, facts: &Facts<'_, I>) -> bool {
        (self.prompt_tokens_min..=self.prompt_tokens_max).contains(&facts.prompt_tokens)
            && self.tools.is_none_or(|tools| tools == facts.tools)
            && self.keys.as_ref().is_none_or(|keys| {
                facts.key.is_some_and(|key| keys.get(key.index()).copied().unwrap_or(false))
            })
            && self.header.as_ref().is_none_or(|line| line.is_in(facts.lines))
            && u64::from(facts.draw) < self.share
            && self.images.is_none_or(|images| images == (facts.images)())
    }
}

impl HeaderLine {
    fn is_in(&self, lines: &[u8]) -> bool {
        let has_value = |value: &[u8]| self.value.is_empty() || *value == *self.value;
        fields::lines(lines).any(|line| line.name.eq_ignore_ascii_case(&self.name) && has_value(line.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(to: usize) -> Route {
        Route {
            to: ModelId::new(to),
            prompt_tokens_min: 0,
            prompt_tokens_max: u64::MAX,
            tools: None,
            images: None,
            header: None,
            keys: None,
            share: ALL,
        }
    }

    fn to(routes: &[Route], change: impl FnOnce(&mut Facts<'_, fn() -> bool>)) -> Option<usize> {
        let mut facts = Facts {
            prompt_tokens: 1_000,
            tools: false,
            images: (|| false) as fn() -> bool,
            lines: b"x-tier: gold\r\n",
            key: Some(KeyId::new(1)),
            draw: u32::MAX,
        };
        change(&mut facts);
        first(routes, &facts).map(|route| route.to.index())
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_one_without_conditions_fits_all() {
        assert_eq!(to(&[], |_| {}), None);
        let long = Route { prompt_tokens_min: 1_001, ..rule(1) };
        assert_eq!(to(&[long.clone(), rule(2), rule(3)], |_| {}), Some(2));
        assert_eq!(to(std::slice::from_ref(&long), |_| {}), None);
        assert_eq!(to(&[long], |facts| facts.prompt_tokens = 1_001), Some(1));
        let short = Route { prompt_tokens_max: 999, ..rule(1) };
        assert_eq!(to(&[short], |_| {}), None);
    }

    #[test]
    fn each_condition_has_to_hold() {
        let tools = Route { tools: Some(true), ..rule(1) };
        assert_eq!(to(std::slice::from_ref(&tools), |_| {}), None);
        assert_eq!(to(std::slice::from_ref(&tools), |facts| facts.tools = true), Some(1));
        let both = Route { images: Some(true), ..tools };
        assert_eq!(to(std::slice::from_ref(&both), |facts| facts.tools = true), None);
        let seen = |facts: &mut Facts<'_, fn() -> bool>| {
            facts.tools = true;
            facts.images = || true;
        };
        assert_eq!(to(&[both], seen), Some(1));
        let without = Route { images: Some(false), ..rule(2) };
        assert_eq!(to(&[without], |_| {}), Some(2));
    }

    #[test]
    fn headers_and_keys_are_compared_whole() {
        let header = |value: &[u8]| Route {
            header: Some(HeaderLine { name: b"x-tier"[..].into(), value: value.into() }),
            ..rule(1)
        };
        assert_eq!(to(&[header(b"gold")], |_| {}), Some(1));
        assert_eq!(to(&[header(b"")], |_| {}), Some(1), "any value");
        assert_eq!(to(&[header(b"gol")], |_| {}), None);
        assert_eq!(to(&[header(b"gold")], |facts| facts.lines = b""), None);
        let keys = Route { keys: Some(Box::new([false, true])), ..rule(1) };
        assert_eq!(to(std::slice::from_ref(&keys), |_| {}), Some(1));
        for key in [None, Some(KeyId::new(0)), Some(KeyId::new(7))] {
            assert_eq!(to(std::slice::from_ref(&keys), |facts| facts.key = key), None);
        }
    }

    #[test]
    fn a_share_takes_its_part_of_the_draws() {
        let tenth = [Route { share: ALL / 10, ..rule(1) }];
        assert_eq!(to(&tenth, |facts| facts.draw = u32::MAX / 10 - 1), Some(1));
        assert_eq!(to(&tenth, |facts| facts.draw = u32::MAX / 10 + 1), None);
        assert_eq!(to(&[Route { share: 0, ..rule(1) }], |facts| facts.draw = 0), None);
        assert_eq!(to(&[rule(1)], |facts| facts.draw = u32::MAX), Some(1));
    }
}
