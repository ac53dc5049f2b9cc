//! Which cores: what the operator wrote, what the machine has.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// The cores to run shards on, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// One per physical core that the process may use.
    Auto,
    /// These, in this order, none twice.
    List(Vec<usize>),
}

/// The highest core number plus one that is understood.
pub const CORES_MAX: usize = 4096;

/// Reads `0-3,8,10-11`: the form of the kernel and of `taskset -c`. `None` if it is anything else, names a core
/// twice or is empty.
pub fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| {
            let digits = digits.trim();
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<usize>().ok()).flatten()
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    distinct(&cores).then_some(cores)
}

fn distinct(cores: &[usize]) -> bool {
    !cores.is_empty() && cores.iter().collect::<BTreeSet<_>>().len() == cores.len()
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrList;
        impl<'de> Visitor<'de> for AutoOrList {
            type Value = Cores;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("\"auto\", a range like \"0-15\" or \"0-3,8-11\", or a list like [2, 4, 6], no core twice")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Cores, E> {
                if text == "auto" {
                    return Ok(Cores::Auto);
                }
                let list = parse_list(text).map(Cores::List);
                list.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Cores, A::Error> {
                let mut cores = Vec::new();
                while let Some(core) = list.next_element::<usize>()? {
                    cores.push(core);
                }
                if distinct(&cores) && cores.iter().all(|core| *core < CORES_MAX) {
                    Ok(Cores::List(cores))
                } else {
                    Err(A::Error::invalid_value(serde::de::Unexpected::Seq, &self))
                }
            }
        }
        deserializer.deserialize_any(AutoOrList)
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cores::Auto => serializer.serialize_str("auto"),
            Cores::List(cores) => cores.serialize(serializer),
        }
    }
}

impl JsonSchema for Cores {
    fn schema_name() -> Cow<'static, str> {
        "Cores".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "auto" },
                { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$" },
                { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1, "uniqueItems": true },
            ],
        })
    }
}

/// What the process may run on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The cores it may use, ascending, each with the lowest number among the hardware threads of the same
    /// physical core: two cores with the same number share their execution units.
    pub cores: Vec<Core>,
    /// Cores' worth of time it gets (a container's quota) where that is less than it may use.
    pub quota: Option<usize>,
}

/// One core the process may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Core {
    /// The kernel's number for it.
    pub number: usize,
    /// The lowest number among the hardware threads of its physical core.
    pub physical: usize,
}

impl Machine {
    /// A machine with this many cores of one hardware thread each.
    pub fn plain(count: usize) -> Self {
        Self { cores: (0..count).map(|number| Core { number, physical: number }).collect(), quota: None }
    }

    /// The first allowed hardware thread of every physical core.
    pub fn physical(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        self.cores.iter().filter(|core| seen.insert(core.physical)).map(|core| core.number).collect()
    }

    /// Whether the process may use this core.
    pub fn allows(&self, number: usize) -> bool {
        self.cores.iter().any(|core| core.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_each_core_once() {
        for (text, cores) in [
            ("0", Some(vec![0])),
            ("0-3", Some(vec![0, 1, 2, 3])),
            ("8-9,1", Some(vec![8, 9, 1])),
            ("0-1, 4\n", Some(vec![0, 1, 4])),
            ("", None),
            ("3-1", None),
            ("1,1", None),
            ("0-2,1", None),
            ("-1", None),
            ("1-", None),
            ("+1", None),
            ("a", None),
            ("0-99999999999", None),
            ("5000", None),
        ] {
            assert_eq!(parse_list(text), cores, "{text}");
        }
    }

    #[test]
    fn two_threads_of_one_core_count_once() {
        let core = |number, physical| Core { number, physical };
        let machine =
            Machine { cores: vec![core(1, 0), core(2, 2), core(4, 0), core(6, 2), core(7, 3)], quota: None };
        assert_eq!(machine.physical(), [1, 2, 7]);
    }
}
