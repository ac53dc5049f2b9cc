//! Ids that pair calls of tools with their results, in the form that a backend takes.

use super::{Text, Waiting, seal};

/// Makes the ids of one request's history.
///
/// An id that the backend takes stays. Another one becomes an id made of it, the same for the call and its result. Where
/// the client's dialect has no ids, calls are numbered and results are paired by name, in order.
#[derive(Clone, Debug)]
pub struct CallIds<'a> {
    fits: fn(&[u8]) -> bool,
    /// Calls without an id that have no result yet.
    waiting: Waiting<'a>,
    /// The numbers in the ids of those, by their place among them.
    numbers: Vec<usize>,
    count: usize,
}

/// Bytes of an id that does not fit which are kept in front, for people who read logs.
const KEPT_BYTES: usize = 24;

impl<'a> CallIds<'a> {
    /// For a backend that takes the ids that `fits` holds for.
    pub fn new(fits: fn(&[u8]) -> bool) -> Self {
        Self { fits, waiting: Waiting::default(), numbers: Vec::new(), count: 0 }
    }

    /// The id of a call.
    pub fn call(&mut self, id: &Text<'a>, name: &Text<'a>) -> Text<'a> {
        if !id.is_empty() {
            return self.fitting(id);
        }
        self.count += 1;
        self.waiting.push(name);
        self.numbers.push(self.count);
        numbered(self.count)
    }

    /// The id of a result: of the first call of this name that waits for one, or of the first call at all.
    pub fn result(&mut self, id: &Text<'a>, name: Option<&Text<'a>>) -> Text<'a> {
        if !id.is_empty() {
            return self.fitting(id);
        }
        let named = name.and_then(|name| self.waiting.take_named(name));
        if let Some(place) = named.or_else(|| self.waiting.take_first()) {
            return numbered(self.numbers[place]);
        }
        self.count += 1;
        numbered(self.count)
    }

    fn fitting(&self, id: &Text<'a>) -> Text<'a> {
        // Another provider's seal is of no use to this one, and longer than the ids it takes.
        if let (bare, Some(_)) = seal::split(id.inside()) {
            return self.fitting(&Text::owned(bare.to_vec()));
        }
        if (self.fits)(id.inside()) {
            return id.clone();
        }
        let plain = id.to_plain();
        let bytes = plain.as_ref().map_or(id.inside(), |plain| plain.as_bytes());
        if plain.is_some() && !bytes.contains(&b'"') && !bytes.contains(&b'\\') && (self.fits)(bytes) {
            return Text::owned(bytes.to_vec());
        }
        let word = |byte: &u8| if byte.is_ascii_alphanumeric() || *byte == b'-' { *byte } else { b'_' };
        let mut made: Vec<u8> = bytes.iter().take(KEPT_BYTES).map(word).collect();
        made.extend_from_slice(format!("_{:016x}", hash(bytes)).as_bytes());
        Text::owned(made)
    }
}

fn numbered<'a>(number: usize) -> Text<'a> {
    Text::owned(format!("call_{number}").into_bytes())
}

/// FNV-1a: the same on every machine and in every release, as conversations go on for days.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_word(id: &[u8]) -> bool {
        !id.is_empty() && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }

    #[test]
    fn ids_that_do_not_fit_are_made_anew_and_stay_distinct() {
        let mut ids = CallIds::new(is_word);
        let name = Text::escaped(b"f");
        assert_eq!(ids.call(&Text::escaped(b"call_1"), &name), Text::escaped(b"call_1"));
        let dot = ids.call(&Text::escaped(b"functions.f:0"), &name);
        let colon = ids.call(&Text::escaped(b"functions:f.0"), &name);
        assert!(is_word(dot.inside()) && is_word(colon.inside()) && dot != colon, "{dot:?} {colon:?}");
        assert_eq!(ids.result(&Text::escaped(b"functions.f:0"), None), dot);
        assert_eq!(ids.result(&Text::escaped(br"functions\u002ef:0"), None), dot, "escapes do not matter");
        assert_eq!(ids.result(&Text::escaped(br"call\u005f1"), None), Text::escaped(b"call_1"));
    }

    #[test]
    fn a_seal_in_an_id_stays_behind() {
        let mut ids = CallIds::new(is_word);
        let (sealed, name) = (Text::escaped(b"call_1_gsig_QUJD"), Text::escaped(b"f"));
        assert_eq!(ids.call(&sealed, &name), Text::escaped(b"call_1"));
        assert_eq!(ids.result(&sealed, None), Text::escaped(b"call_1"));
    }

    #[test]
    fn without_ids_results_are_paired_by_name_in_order() {
        let mut ids = CallIds::new(is_word);
        let (none, f, g) = (Text::default(), Text::escaped(b"f"), Text::escaped(b"g"));
        let calls = [ids.call(&none, &f), ids.call(&none, &g), ids.call(&none, &f)];
        assert_eq!(ids.result(&none, Some(&g)), calls[1]);
        assert_eq!(ids.result(&none, Some(&f)), calls[0]);
        assert_eq!(ids.result(&none, None), calls[2]);
        assert!(!calls.contains(&ids.result(&none, Some(&f))), "a result too many has an id of its own");
    }
}
