//! What Anthropic's models take, whichever API they are called by.

use super::{Json, Losses};

/// Whether a model of this name thinks by a budget of tokens: those of before Opus 4.5's successors. Later ones think as they see fit,
/// and each refuses the other's.
pub fn takes_budget(model: &str) -> bool {
    let older = ["claude-3", "claude-2", "-4-0", "-4-1", "-4-2025", "sonnet-4-5", "haiku-4-5", "opus-4-5"];
    older.iter().any(|name| model.contains(name))
}

/// Whether a model of this name lets the client choose how to sample: later ones refuse all but the default.
pub fn takes_sampling(model: &str) -> bool {
    let later = ["opus-4-7", "opus-4-8", "opus-4-9", "opus-5", "sonnet-5", "haiku-5", "fable"];
    !later.iter().any(|name| model.contains(name))
}

/// A temperature within 0 and 1, the range of Anthropic's API and of Converse; others go up to 2. What is beyond it is the nearest
/// of these, and a loss.
pub fn temperature<'a>(value: Json<'a>, losses: &mut Losses) -> Json<'a> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<f64>().ok());
    let nearest: Json<'a> = match number {
        Some(number) if number > 1.0 => b"1",
        Some(number) if number < 0.0 => b"0",
        _ => return value,
    };
    losses.note("temperature");
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_out_of_range_is_the_nearest_within() {
        for (value, expected) in [("1.7", "1"), ("2", "1"), ("-0.5", "0"), ("1e1", "1")] {
            let mut losses = Losses::default();
            assert_eq!(temperature(value.as_bytes(), &mut losses), expected.as_bytes());
            assert_eq!(losses.iter().collect::<Vec<_>>(), ["temperature"], "{value}");
        }
        for value in ["0", "1", "1.0", "0.7", "\"hot\""] {
            let mut losses = Losses::default();
            assert_eq!(temperature(value.as_bytes(), &mut losses), value.as_bytes());
            assert!(losses.is_empty(), "{value}");
        }
    }
}
