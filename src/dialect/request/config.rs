//! Google's `generationConfig` and Ollama's `options`: what of them decides about routing and billing.

use super::{CHOICES_MAX, OUTPUT_CAP_MAX, integer, refused};
use crate::error::Fault;
use crate::units::Span;
use crate::wire::json;

/// What it says. Spans are offsets into the body.
#[derive(Clone, Copy, Default)]
pub(super) struct Config {
    /// The object, with its braces.
    pub(super) object: Span,
    /// The bound on output; none for a value that servers take for none.
    pub(super) cap: Option<u64>,
    /// The value that bounds it.
    pub(super) cap_at: Span,
    /// How many candidates are asked for.
    pub(super) candidates: Option<u64>,
}

/// Reads Ollama's. A bound that is negative, zero or no whole number is none.
pub(super) fn of_options(body: &[u8], object: Span) -> Config {
    let options = object.of(body);
    let members = json::members(options).map_while(Result::ok);
    let last = members.filter(|member| json::key_is(member.key.of(options), "num_predict")).last();
    let cap_at = last.map_or(Span::default(), |member| member.value.shifted(object.start));
    let cap = json::unsigned(cap_at.of(body)).filter(|most| *most > 0);
    let cap = cap.map(|most| most.min(OUTPUT_CAP_MAX));
    Config { object, cap, cap_at, candidates: None }
}

/// Reads Google's, under either of its spellings.
///
/// # Errors
/// `BodyMalformed` for numbers out of their range, and for a member that is given twice: readers differ in which they take.
pub(super) fn read(body: &[u8]) -> Result<Config, Fault> {
    let is = |key: &[u8], names: [&str; 2]| names.iter().any(|name| json::key_is(key, name));
    let (mut config, mut is_given) = (Config::default(), false);
    for member in json::members(body).map_while(Result::ok) {
        if !is(member.key.of(body), ["generationConfig", "generation_config"]) {
            continue;
        }
        if std::mem::replace(&mut is_given, true) {
            return Err(refused("'generationConfig' is given twice"));
        }
        if member.kind != json::ValueKind::Object {
            continue;
        }
        config.object = member.value;
        let object = member.value.of(body);
        for member in json::members(object).map_while(Result::ok) {
            let key = member.key.of(object);
            let given = Some(&member).filter(|member| member.kind != json::ValueKind::Null);
            if is(key, ["maxOutputTokens", "max_output_tokens"]) {
                if !config.cap_at.is_empty() {
                    return Err(refused("'maxOutputTokens' is given twice"));
                }
                let most = integer(given, "maxOutputTokens", object, 0..=OUTPUT_CAP_MAX)?;
                config.cap = most.filter(|most| *most > 0);
                config.cap_at = member.value.shifted(config.object.start);
            } else if is(key, ["candidateCount", "candidate_count"]) {
                config.candidates = integer(given, "candidateCount", object, 1..=CHOICES_MAX)?;
            }
        }
    }
    Ok(config)
}
