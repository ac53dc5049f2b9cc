//! Quantities with their unit written out: `"60s"`, `"32MiB"`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::units::Nanos;

/// A span of time as the operator wrote it: whole numbers with units, `"60s"`, `"250ms"`, `"1m30s"`.
///
/// At most a year, so that sums of a few never overflow nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time(pub Nanos);

impl Time {
    /// The longest a configuration may ask for.
    const NANOS_MAX: u64 = 366 * 86_400 * 1_000_000_000;
    /// Nanoseconds per unit, the largest first.
    const UNITS: [(&str, u64); 6] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];

    /// Whole seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Nanos(count * 1_000_000_000))
    }

    /// Whole minutes.
    pub const fn minutes(count: u64) -> Self {
        Self::seconds(count * 60)
    }

    /// Reads one or more of number and unit; `None` if it is anything else, or longer than a year.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut nanos = 0_u64;
        loop {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            let (_, scale) = Self::UNITS.iter().find(|(name, _)| *name == unit)?;
            nanos = number.parse::<u64>().ok()?.checked_mul(*scale)?.checked_add(nanos)?;
            if after.is_empty() {
                return (nanos <= Self::NANOS_MAX).then_some(Self(Nanos(nanos)));
            }
            rest = after;
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.0;
        let (unit, scale) = Self::UNITS
            .iter()
            .find(|(_, scale)| nanos > 0 && nanos.is_multiple_of(*scale))
            .unwrap_or(&("us", 1_000));
        if nanos == 0 { out.write_str("0s") } else { write!(out, "{}{unit}", nanos / scale) }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Time;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a time with its unit, like \"60s\", \"250ms\" or \"1m30s\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+(d|h|m|s|ms|us))+$",
            "description": "A time with its unit: \"60s\", \"250ms\", \"1m30s\"",
        })
    }
}

/// A number of bytes as the operator wrote it: an integer, or `"64KiB"`, `"32MiB"`, `"1GiB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

impl Size {
    /// Bytes per unit, the largest first.
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// Whole KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// Whole MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Reads one number and unit; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, scale) = Self::UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        number.parse::<u64>().ok()?.checked_mul(*scale).map(Self)
    }

    /// The same for an index of memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = Self::UNITS
            .iter()
            .find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale))
            .unwrap_or(&("B", 1));
        write!(out, "{}{unit}", self.0 / scale)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Size;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number of bytes, or a size like \"64KiB\", \"32MiB\" or \"1GiB\"")
            }
            fn visit_i64<E: Error>(self, count: i64) -> Result<Size, E> {
                let bytes = u64::try_from(count);
                bytes.map(Size).map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(count), &self))
            }
            fn visit_u64<E: Error>(self, count: u64) -> Result<Size, E> {
                Ok(Size(count))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$" },
            ],
            "description": "A number of bytes, or a size: \"64KiB\", \"32MiB\", \"1GiB\"",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_names_its_unit() {
        for (text, nanos) in [
            ("60s", Some(60_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("2h", Some(7_200_000_000_000)),
            ("90d", Some(7_776_000_000_000_000)),
            ("5us", Some(5_000)),
            ("0s", Some(0)),
            ("60", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("60 s", None),
            ("60S", None),
            ("9000h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(Time::parse(text), nanos.map(|nanos| Time(Nanos(nanos))), "{text}");
        }
    }

    #[test]
    fn a_size_counts_in_1024() {
        for (text, bytes) in [
            ("64KiB", Some(65_536)),
            ("32 MiB", Some(33_554_432)),
            ("1GiB", Some(1 << 30)),
            ("12B", Some(12)),
            ("64KB", None),
            ("64k", None),
            ("64", None),
            ("", None),
            ("-1B", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(Size::parse(text), bytes.map(Size), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for time in
            [Time::seconds(0), Time::seconds(90), Time::minutes(30), Time::minutes(120), Time(Nanos(1_000))]
        {
            assert_eq!(Time::parse(&time.to_string()), Some(time));
        }
        for size in [Size(0), Size(7), Size::kib(64), Size::mib(32)] {
            assert_eq!(Size::parse(&size.to_string()), Some(size));
        }
    }
}
