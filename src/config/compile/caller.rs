//! What the tables of a key and of a team have in common: models, endpoints, limits.

use super::bounds::within;
use super::file;
use super::models::Names;
use crate::config::problem::Report;
use crate::dialect::{Api, ApiSet};
use crate::policy::glob;
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::caller::{CallerLimits, Shadow};

/// The table of a key or a team.
pub(super) struct Caller<'a> {
    /// Where it stands: `["key", NAME]`.
    at: [&'a str; 2],
    /// What is reserved for a response without a cap.
    output_tokens: u64,
    models: &'a Option<Vec<String>>,
    apis: &'a Option<Vec<String>>,
    requests: [Option<u64>; 2],
    tokens: [Option<u64>; 2],
    in_flight_max: Option<u32>,
    /// Of the store, and judged before: a model that has gone since then is noted, no more.
    is_lenient: bool,
    shadow: &'a [file::RateLimit],
}

/// The models that patterns select from.
pub(super) struct Models<'a> {
    /// Every name and alias.
    pub(super) names: &'a Names,
    pub(super) count: usize,
}

impl<'a> Caller<'a> {
    pub(super) fn of_key(name: &'a str, key: &'a file::Key, output_tokens: u64, is_lenient: bool) -> Self {
        Self {
            at: ["key", name],
            output_tokens,
            models: &key.models,
            apis: &key.apis,
            requests: [key.requests_per_minute, key.requests_burst],
            tokens: [key.tokens_per_minute, key.tokens_burst],
            in_flight_max: key.in_flight_max,
            is_lenient,
            shadow: &key.shadow,
        }
    }

    pub(super) fn of_team(name: &'a str, team: &'a file::Team, output_tokens: u64, is_lenient: bool) -> Self {
        Self {
            at: ["team", name],
            output_tokens,
            models: &team.models,
            apis: &team.apis,
            requests: [team.requests_per_minute, team.requests_burst],
            tokens: [team.tokens_per_minute, team.tokens_burst],
            in_flight_max: team.in_flight_max,
            is_lenient,
            shadow: &team.shadow,
        }
    }

    pub(super) fn of_end_users(users: &'a file::EndUsers, output_tokens: u64) -> Self {
        Self {
            at: ["end_users", ""],
            output_tokens,
            models: &None,
            apis: &None,
            requests: [users.requests_per_minute, users.requests_burst],
            tokens: [users.tokens_per_minute, users.tokens_burst],
            in_flight_max: users.in_flight_max,
            is_lenient: false,
            shadow: &users.shadow,
        }
    }

    fn path(&self, field: &'a str) -> Vec<&'a str> {
        [self.at[0], self.at[1], field].into_iter().filter(|part| !part.is_empty()).collect()
    }

    /// By `ModelId`: whether one of the patterns fits its name or an alias.
    pub(super) fn models(&self, models: &Models<'_>, report: &mut Report<'_>) -> Box<[bool]> {
        let Some(patterns) = self.models else {
            return vec![true; models.count].into();
        };
        if patterns.is_empty() {
            let text = format!("is empty, so the {} could do nothing; leave it out to allow all", self.at[0]);
            report.problem(&self.path("models"), text);
        }
        let mut allowed = vec![false; models.count];
        for (at, pattern) in patterns.iter().enumerate() {
            let mut fits = false;
            for (_, model) in models.names.iter().filter(|(name, _)| glob::matches(pattern, name)) {
                allowed[model.index()] = true;
                fits = true;
            }
            if !fits && self.is_lenient {
                let [table, name] = self.at;
                report.note(format!("{table}.{name} of the store: \"{pattern}\" fits no model and no alias"));
            } else if !fits {
                let text = format!("\"{pattern}\" fits no model and no alias");
                report.problem(&[self.at[0], self.at[1], "models", &format!("[{at}]")], text);
            }
        }
        allowed.into()
    }

    /// The endpoints it may call.
    pub(super) fn apis(&self, report: &mut Report<'_>) -> ApiSet {
        let Some(names) = self.apis else { return ApiSet::ALL };
        if names.is_empty() {
            let text = format!("is empty, so the {} could do nothing; leave it out to allow all", self.at[0]);
            report.problem(&self.path("apis"), text);
        }
        let known = Api::ALL.iter().copied().filter(|api| !api.is_local());
        let mut set = ApiSet::default();
        for (at, name) in names.iter().enumerate() {
            match known.clone().find(|api| api.name() == name) {
                Some(api) => set = set.with(api),
                None => {
                    let known: Vec<&str> = known.clone().map(Api::name).collect();
                    let path = [self.at[0], self.at[1], "apis", &format!("[{at}]")];
                    report.problem(&path, format!("no such endpoint; expected some of {}", known.join(", ")));
                }
            }
        }
        set
    }

    /// How much it may use.
    pub(super) fn limits(&self, report: &mut Report<'_>) -> CallerLimits {
        if let Some(in_flight_max) = self.in_flight_max {
            within(&self.path("in_flight_max"), in_flight_max, 1, u32::MAX - 1, report);
        }
        CallerLimits {
            requests: self.rate(["requests_per_minute", "requests_burst"], self.requests, report),
            tokens: self.token_rate(report),
            in_flight_max: self.in_flight_max.unwrap_or(u32::MAX),
            shadow: self.shadows(report),
        }
    }

    fn shadows(&self, report: &mut Report<'_>) -> Shadow {
        use file::RateLimit::{InFlightMax, RequestsPerMinute, TokensPerMinute};
        let mut is_shadow = |limit, name: &str, is_set: bool| {
            let is_shadow = self.shadow.contains(&limit);
            if is_shadow && !is_set {
                report.problem(&self.path("shadow"), format!("names {name}, which is not set"));
            }
            is_shadow
        };
        Shadow {
            requests: is_shadow(RequestsPerMinute, "requests_per_minute", self.requests[0].is_some()),
            tokens: is_shadow(TokensPerMinute, "tokens_per_minute", self.tokens[0].is_some()),
            in_flight: is_shadow(InFlightMax, "in_flight_max", self.in_flight_max.is_some()),
        }
    }

    /// A request without a cap must be able to fit at all.
    fn token_rate(&self, report: &mut Report<'_>) -> Option<Rate> {
        let fields = ["tokens_per_minute", "tokens_burst"];
        let rate = self.rate(fields, self.tokens, report)?;
        if rate.burst <= self.output_tokens {
            let field = if self.tokens[1].is_some() { fields[1] } else { fields[0] };
            let text = format!(
                "is {}, so a request without a cap could never fit; expected more than estimate.output_tokens, \
                 which is {}",
                rate.burst, self.output_tokens
            );
            report.problem(&self.path(field), text);
        }
        Some(rate)
    }

    fn rate(
        &self,
        fields: [&'a str; 2],
        [rate, burst]: [Option<u64>; 2],
        report: &mut Report<'_>,
    ) -> Option<Rate> {
        for (field, value) in fields.into_iter().zip([rate, burst]) {
            if let Some(value) = value {
                within(&self.path(field), value, 1, UNITS_MAX, report);
            }
        }
        if rate.is_none() && burst.is_some() {
            report.problem(&self.path(fields[1]), format!("has no {} to be a burst of", fields[0]));
        }
        rate.map(|per_minute| Rate { per_minute, burst: burst.unwrap_or(per_minute), gateways: 1 })
    }
}

/// The largest limit per minute and burst: a unit is still regained in whole nanoseconds.
const UNITS_MAX: u64 = 10_000_000_000;
