//! Newtypes: ids that index the plan's dense tables, and quantities with their unit in the name.
//!
//! An id is only ever made by the room that builds the table it indexes (`config` when it compiles a plan),
//! so `table[id.index()]` holds by construction.

use std::fmt;
use std::time::Duration;

/// An id: the number of a row.
pub trait RowId: Copy {
    /// The id of row `index`. Panics at load time if the table is larger than the id can name.
    fn new(index: usize) -> Self;

    /// The row this id names.
    fn index(self) -> usize;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name($repr);

        impl $name {
            /// The id of row `index`. Panics at load time if the table is larger than the id can name.
            pub fn new(index: usize) -> Self {
                Self(<$repr>::try_from(index).expect(concat!("too many rows for ", stringify!($name))))
            }

            /// The row this id names.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl RowId for $name {
            fn new(index: usize) -> Self {
                Self::new(index)
            }

            fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// One shard: a pinned thread with its own ring, connections and buffers.
    ShardId(u16)
}
id! {
    /// One server we call, a row of `Plan::backends`.
    BackendId(u16)
}
id! {
    /// One public model, a row of `Plan::models`.
    ModelId(u16)
}
id! {
    /// One deployment: a backend serving a model under the backend's own name for it, a row of `Plan::deployments`.
    DeploymentId(u32)
}
id! {
    /// One budget of a key or a team, a row of `Plan::budgets`.
    BudgetId(u32)
}
id! {
    /// One content rule, a row of `Plan::guards`.
    GuardId(u32)
}
id! {
    /// One team of keys, a row of `Plan::teams`.
    TeamId(u32)
}
id! {
    /// One virtual API key, a row of `Plan::keys`.
    KeyId(u32)
}
id! {
    /// One issuer of JSON Web Tokens, a row of `Plan::issuers`.
    IssuerId(u16)
}

/// Nanoseconds: a duration, or a moment of the monotonic clock, which counts from when the machine was started (so that
/// two processes agree about a moment).
///
/// Pure rooms are told the time; `shard` and the control plane read it from `clock`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Later than anything: a deadline that never comes.
    pub const NEVER: Nanos = Nanos(u64::MAX);

    /// The time from `earlier` until now, zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved `by` into the future.
    pub const fn plus(self, by: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(by.0))
    }

    /// Whole microseconds, rounded down.
    pub const fn micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds, rounded down.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Seconds as a float, for scores and metrics.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", Duration::from_nanos(self.0))
    }
}

/// A byte range of the caller's buffer.
///
/// Parsers return spans instead of slices, so that the buffer can be owned by the kernel in the meantime.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to, not including, `end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The bytes this span names in `buffer`, the same buffer that was parsed.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start..self.end]
    }

    /// How many bytes it covers.
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether it covers none.
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// The same bytes in a buffer in which they lie `by` bytes further on.
    pub const fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }
}
/// Bytes in lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// What a hexadecimal digit stands for.
pub fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_two_lower_case_digits_for_each_byte() {
        assert_eq!(hex(&[0, 9, 10, 0xab, 0xff]), "00090aabff");
        assert_eq!([b'0', b'a', b'F', b'g', b'-'].map(hex_digit), [Some(0), Some(10), Some(15), None, None]);
    }
}
