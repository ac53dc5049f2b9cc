//! The keys of clients: digests, limits, and what each may use.

use std::collections::HashMap;
use std::sync::Arc;

use super::bounds::within;
use super::models::Names;
use super::secrets::Known;
use super::{NAME_SIGNS, check_name, file};
use crate::config::glob;
use crate::config::problem::Report;
use crate::plan::{Credential, Grant, Key};
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::caller::CallerLimits;
use crate::units::KeyId;

/// The largest limit per minute and burst: a unit is still regained in whole nanoseconds.
const UNITS_MAX: u64 = 10_000_000_000;

/// One row per key, by name.
pub(super) fn compile(file: &file::File, names: &Names, models: usize, report: &mut Report<'_>) -> Vec<Key> {
    let known = Known::new();
    let mut seen: HashMap<[u8; 32], &str> = HashMap::new();
    let mut keys = Vec::new();
    for (index, (name, key)) in file.key.iter().enumerate() {
        let at = |field| ["key", name, field];
        check_name(&["key", name], name, NAME_SIGNS, report);
        let digest = report.take(&at("sha256"), known.digest(&key.sha256));
        if let Some(other) = digest.and_then(|digest| seen.insert(digest, name)) {
            report.problem(&at("sha256"), format!("is the same key as [key.{other}]"));
        }
        let rates = Rates { name, output_tokens: file.estimate.output_tokens };
        let requests = rates.requests(key, report);
        let tokens = rates.tokens(key, report);
        if let Some(in_flight_max) = key.in_flight_max {
            within(&at("in_flight_max"), in_flight_max, 1, u32::MAX - 1, report);
        }
        keys.push(Key {
            id: KeyId::new(index),
            name: name.as_str().into(),
            credential: Credential { digest: digest.unwrap_or_default() },
            grant: Grant {
                models: allowed(name, key, names, models, report),
                limits: CallerLimits {
                    requests,
                    tokens,
                    in_flight_max: key.in_flight_max.unwrap_or(u32::MAX),
                },
            },
            revoked: Arc::default(),
        });
    }
    keys
}

/// By `ModelId`: whether one of the patterns fits its name or an alias.
fn allowed(
    name: &str,
    key: &file::Key,
    names: &Names,
    models: usize,
    report: &mut Report<'_>,
) -> Box<[bool]> {
    let Some(patterns) = &key.models else {
        return vec![true; models].into();
    };
    if patterns.is_empty() {
        report.problem(
            &["key", name, "models"],
            "is empty, so the key could do nothing; leave it out to allow all",
        );
    }
    let mut allowed = vec![false; models];
    for (at, pattern) in patterns.iter().enumerate() {
        let mut fits = false;
        for (_, model) in names.iter().filter(|(name, _)| glob::matches(pattern, name)) {
            allowed[model.index()] = true;
            fits = true;
        }
        if !fits {
            let text = format!("\"{pattern}\" fits no model and no alias");
            report.problem(&["key", name, "models", &format!("[{at}]")], text);
        }
    }
    allowed.into()
}

/// Limits per minute of one key.
struct Rates<'a> {
    name: &'a str,
    /// What is reserved for a response without a cap.
    output_tokens: u64,
}

impl Rates<'_> {
    fn requests(&self, key: &file::Key, report: &mut Report<'_>) -> Option<Rate> {
        self.rate(
            ["requests_per_minute", "requests_burst"],
            key.requests_per_minute,
            key.requests_burst,
            report,
        )
    }

    /// As above; and a request without a cap must be able to fit at all.
    fn tokens(&self, key: &file::Key, report: &mut Report<'_>) -> Option<Rate> {
        let fields = ["tokens_per_minute", "tokens_burst"];
        let rate = self.rate(fields, key.tokens_per_minute, key.tokens_burst, report)?;
        if rate.burst <= self.output_tokens {
            let field = if key.tokens_burst.is_some() { fields[1] } else { fields[0] };
            let text = format!(
                "is {}, so a request without a cap could never fit; expected more than estimate.output_tokens, \
                 which is {}",
                rate.burst, self.output_tokens
            );
            report.problem(&["key", self.name, field], text);
        }
        Some(rate)
    }

    fn rate(
        &self,
        fields: [&str; 2],
        rate: Option<u64>,
        burst: Option<u64>,
        report: &mut Report<'_>,
    ) -> Option<Rate> {
        for (field, value) in fields.into_iter().zip([rate, burst]) {
            if let Some(value) = value {
                within(&["key", self.name, field], value, 1, UNITS_MAX, report);
            }
        }
        if rate.is_none() && burst.is_some() {
            report.problem(&["key", self.name, fields[1]], format!("has no {} to be a burst of", fields[0]));
        }
        rate.map(|per_minute| Rate { per_minute, burst: burst.unwrap_or(per_minute) })
    }
}
