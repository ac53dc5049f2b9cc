//! What a client's `cache-control` allows (RFC 9111 section 5.2.1).

use crate::units::Nanos;
use crate::wire::fields;

/// What a request says about caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// A kept response may be used, if it is at most so old.
    pub age_max: Option<Nanos>,
    /// The response may be kept.
    pub stores: bool,
    /// Without a kept response there is to be none.
    pub only_if_cached: bool,
}

impl Control {
    /// Reads the header lines of a request. What is not understood counts as `no-store`: a client that speaks of caches means one.
    pub fn read(lines: &[u8]) -> Self {
        let mut control = Self { age_max: Some(Nanos::NEVER), stores: true, only_if_cached: false };
        for line in fields::lines(lines) {
            if line.name.eq_ignore_ascii_case(b"cache-control") {
                line.value.split(|byte| *byte == b',').for_each(|part| control.directive(part.trim_ascii()));
            }
        }
        control
    }

    fn directive(&mut self, directive: &[u8]) {
        let is = |name: &str| directive.eq_ignore_ascii_case(name.as_bytes());
        if is("") || is("no-transform") {
            return;
        }
        if is("no-cache") {
            self.age_max = None;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if let Some(seconds) = value(directive, "max-age") {
            // "max-age=0" is how browsers reload.
            let most = Nanos(seconds.saturating_mul(1_000_000_000));
            self.age_max = self.age_max.map(|age| age.min(most)).filter(|age| *age > Nanos(0));
        } else if value(directive, "max-stale").is_none()
            && value(directive, "min-fresh").is_none()
            && !is("max-stale")
        {
            self.stores = false;
            self.age_max = None;
        }
    }
}

fn value(directive: &[u8], name: &str) -> Option<u64> {
    let (own, rest) = directive.split_at_checked(name.len())?;
    let digits = rest.strip_prefix(b"=").filter(|_| own.eq_ignore_ascii_case(name.as_bytes()))?;
    std::str::from_utf8(digits).ok()?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_obeyed_and_unknown_ones_keep_out_of_the_cache() {
        let seconds = |seconds: u64| Some(Nanos(seconds * 1_000_000_000));
        for (lines, age_max, stores, only) in [
            ("", Some(Nanos::NEVER), true, false),
            ("cache-control: no-cache\r\n", None, true, false),
            ("Cache-Control: max-age=60\r\n", seconds(60), true, false),
            ("Cache-Control: max-age=0\r\n", None, true, false),
            ("Cache-Control: no-store\r\n", None, false, false),
            ("Cache-Control: max-age=9, only-if-cached\r\n", seconds(9), true, true),
            ("Cache-Control: private\r\n", None, false, false),
            ("Cache-Control: max-age=-1\r\n", None, false, false),
            ("Cache-Control: max-stale, no-transform\r\n", Some(Nanos::NEVER), true, false),
            ("Cache-Control: max-age=60\r\nCache-Control: max-age=5\r\n", seconds(5), true, false),
        ] {
            let expected = Control { age_max, stores, only_if_cached: only };
            assert_eq!(Control::read(lines.as_bytes()), expected, "{lines}");
        }
    }
}
