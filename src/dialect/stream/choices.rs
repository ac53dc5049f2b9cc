//! Which choices of a chat or completions stream have begun, and which have finished.

use crate::wire::json::{self, ValueKind};

/// What is known of the choices of one stream. While there is only one, its events are not read for it.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    /// As many were asked for.
    wanted: u32,
    /// Finish reasons so far.
    reasons: u32,
    /// By their index, one bit each; larger ones are not followed.
    begun: u128,
    finished: u128,
}

impl Choices {
    pub(super) fn new(wanted: u64) -> Self {
        Self { wanted: u32::try_from(wanted).unwrap_or(u32::MAX).max(1), reasons: 0, begun: 0, finished: 0 }
    }

    /// Whether every event has to be read: there is more than one.
    pub(super) fn are_several(&self) -> bool {
        self.wanted > 1 || self.begun > 1
    }

    /// Whether each of those asked for has finished, and every other that has begun.
    pub(super) fn all_finished(&self) -> bool {
        self.reasons >= self.wanted && self.none_is_open()
    }

    /// Whether at least one has finished, and every one that has begun.
    pub(super) fn none_is_open(&self) -> bool {
        self.reasons > 0 && self.begun & !self.finished == 0
    }

    /// Reads a chunk. False if it names no choice.
    pub(super) fn read(&mut self, data: &[u8]) -> bool {
        let Some(list) = super::member(data, "choices") else { return false };
        let list = list.value.of(data);
        let mut is_any = false;
        for (choice, _) in json::elements(list).map_while(Result::ok) {
            let choice = choice.of(list);
            let (mut index, mut finishes) = (0, false);
            for member in json::members(choice).map_while(Result::ok) {
                let value = member.value.of(choice);
                match member.key.of(choice) {
                    b"\"index\"" => index = json::unsigned(value).unwrap_or(0),
                    b"\"finish_reason\"" => finishes = member.kind == ValueKind::String && is_reason(value),
                    _ => {}
                }
            }
            self.mark(index, finishes);
            is_any = true;
        }
        is_any
    }

    /// Marks the choice of that index as begun, and as finished if it is.
    pub(super) fn mark(&mut self, index: u64, finishes: bool) {
        let bit = 1_u128.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        self.begun |= bit;
        if finishes {
            self.finished |= bit;
            self.reasons = self.reasons.saturating_add(1);
        }
    }
}

/// Whether a string, with its quotes, is a reason to finish: some backends send an empty one, or the word null, on every
/// chunk.
pub(super) fn is_reason(value: &[u8]) -> bool {
    !value.starts_with(b"\"\"") && !value.starts_with(b"\"null\"")
}
