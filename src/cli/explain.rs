//! `ringway explain KEY MODEL`: what a key may do with a model, and which line of the configuration says so.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, guard, print};
use crate::config::{self, Process, Written};
use crate::plan::guards::External;
use crate::plan::{BudgetRow, Holder, Key, Plan};
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::budget::Money;
use crate::policy::limits::budget::SoftAction;
use crate::policy::limits::caller::CallerLimits;
use crate::policy::limits::price::Price;
use crate::units::ModelId;

/// Whose policy is shown.
#[derive(clap::Args)]
pub(super) struct Explain {
    /// The name of a key, as in [key.NAME]; ISSUER.TEAM for tokens of an issuer
    key: String,
    /// A model or an alias
    model: String,
    /// The configuration file [default: ./ringway.toml, then /etc/ringway/ringway.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints the policy. Exit status 1 for a configuration that is refused, and for a key or a model that it has not.
pub(super) fn command(explain: Explain) -> ExitCode {
    let loaded = config::locate(explain.config).and_then(|path| {
        let written = config::read_file(&path, &Process)?;
        Ok((config::compile(&written, &Process)?, written))
    });
    let (compiled, written) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&problems.to_string()),
    };
    match policy(&compiled.plan, &written, &explain.key, &explain.model) {
        Ok(lines) => print(&lines.join("\n")),
        Err(text) => complain(&format!("ringway: {text}")),
    }
}

/// One line for each part of the policy.
fn policy(plan: &Plan, written: &Written, key: &str, model: &str) -> Result<Vec<String>, String> {
    let row = plan.key_named(key).ok_or_else(|| no_key(key))?;
    let id = plan.find_model(model).ok_or_else(|| format!("there is no model and no alias \"{model}\""))?;
    let page = Page { plan, written, key: row };
    let mut lines = page.access(id);
    lines.extend(page.limits());
    lines.extend(row.grant.budgets.iter().map(|id| page.budget(plan.budgets.row(*id))));
    lines.extend(page.prices(id));
    lines.extend(page.guards(id));
    Ok(lines)
}

/// Only the running gateway knows the keys of its store.
fn no_key(key: &str) -> String {
    format!(
        "there is no [key.{key}] in the file; of a key that was created on the gateway: `ringway key show {key}`, or the dashboard"
    )
}

struct Page<'a> {
    plan: &'a Plan,
    written: &'a Written,
    key: &'a Key,
}

impl Page<'_> {
    fn team(&self) -> Option<&str> {
        self.key.team.map(|team| &*self.plan.teams.row(team).name)
    }

    /// A line with the place of the key that says so, or with the word default.
    fn line(&self, text: String, path: &[&str]) -> String {
        format!("{text:<64} {}", self.place(path).unwrap_or_else(|| "default".to_owned()))
    }

    /// Where a key stands; what is said of the row of an issuer stands in the issuer's table.
    fn place(&self, path: &[&str]) -> Option<String> {
        let issuer = self.key.credential.issuer.map(|id| &*self.plan.issuers.row(id).name);
        match (issuer, path) {
            (Some(issuer), ["key", _, "team"]) => {
                let at = |field| self.written.place(&["issuer", issuer, field]);
                at("teams").or_else(|| at("claims")).or_else(|| at("team"))
            }
            (Some(issuer), ["key", _, rest @ ..]) => {
                self.written.place(&[&["issuer", issuer], rest].concat())
            }
            _ => self.written.place(path),
        }
    }

    fn access(&self, model: ModelId) -> Vec<String> {
        let (key, plan) = (&*self.key.name, self.plan);
        let mut lines = vec![self.line(format!("key {key}"), &["key", key])];
        if let Some(team) = self.team() {
            lines.push(self.line(format!("team {team}"), &["key", key, "team"]));
        }
        if let Some(expires) = &self.key.credential.expires {
            lines.push(self.line(format!("valid until {}", expires.written), &["key", key, "expires"]));
        }
        let may = if self.key.grant.models[model.index()] { "may" } else { "may NOT" };
        let name = &plan.model(model).name;
        let tables = self.tables();
        let of = |field: &str| {
            tables.iter().filter_map(|[table, name]| self.place(&[table, name, field])).collect::<Vec<_>>()
        };
        let from =
            |places: Vec<String>| if places.is_empty() { "default".to_owned() } else { places.join(", ") };
        lines.push(format!("{:<64} {}", format!("{may} use the model {name}"), from(of("models"))));
        let apis: Vec<&str> =
            self.key.grant.apis.iter().filter(|api| api.is_for_clients()).map(|api| api.name()).collect();
        lines.push(format!("{:<64} {}", format!("may call {}", apis.join(", ")), from(of("apis"))));
        lines
    }

    /// The tables that decide: the key's, then its team's.
    fn tables(&self) -> Vec<[&str; 2]> {
        std::iter::once(["key", &self.key.name]).chain(self.team().map(|team| ["team", team])).collect()
    }

    fn limits(&self) -> Vec<String> {
        let team = self.key.team.map(|team| self.plan.teams.row(team));
        let own = std::iter::once((["key", &*self.key.name], &self.key.grant.limits));
        let all = own.chain(team.map(|team| (["team", &*team.name], &team.limits)));
        all.flat_map(|(table, limits)| self.of_table(table, limits)).collect()
    }

    fn of_table(&self, [table, name]: [&str; 2], limits: &CallerLimits) -> Vec<String> {
        let mut lines = Vec::new();
        for (rate, what, field) in [
            (limits.requests, "requests", "requests_per_minute"),
            (limits.tokens, "tokens", "tokens_per_minute"),
        ] {
            if let Some(Rate { per_minute, burst, .. }) = rate {
                let is_shadow = if what == "tokens" { limits.shadow.tokens } else { limits.shadow.requests };
                let shadow = if is_shadow { ", in the shadow" } else { "" };
                let text = format!("{table} {name}: {per_minute} {what} per minute, {burst} at once{shadow}");
                lines.push(self.line(text, &[table, name, field]));
            }
        }
        if limits.in_flight_max != u32::MAX {
            let shadow = if limits.shadow.in_flight { ", in the shadow" } else { "" };
            let text = format!("{table} {name}: {} requests in flight{shadow}", limits.in_flight_max);
            lines.push(self.line(text, &[table, name, "in_flight_max"]));
        }
        lines
    }

    fn budget(&self, row: &BudgetRow) -> String {
        let (table, name) = match &row.name.holder {
            Holder::Key(name) => ("key", name),
            Holder::Team(name) => ("team", name),
            Holder::EndUser => {
                return self
                    .line(format!("each end user: budget of {}", row.budget), &["end_users", "budgets"]);
            }
        };
        let mut text = format!("{table} {name}: budget of {}", row.budget);
        for soft in &row.budget.soft {
            let what = match soft.action {
                SoftAction::Warn => "a warning".to_owned(),
                SoftAction::Throttle(wait) => format!("a wait of {} ms", wait.millis()),
                SoftAction::Downgrade(model) => format!("the model {}", self.plan.model(model).name),
            };
            text += &format!("; from {}% on {what}", soft.at_permille as f64 / 10.0);
        }
        self.line(text, &[table, name, "budgets"])
    }

    /// The content rules that apply, in the order of their precedence.
    fn guards(&self, model: ModelId) -> Vec<String> {
        let Some(rows) = &self.plan.model(model).guards else { return Vec::new() };
        let applies = |rule: &usize| rows.applies(self.plan, *rule, Some(self.key.id));
        let line = |(index, rule): (usize, usize)| {
            let row = rows.guards.rule(rule);
            let text = format!("content rule {}: {}", index + 1, guard::words(row));
            self.line(text, &["guard", &row.name])
        };
        let own = (0..rows.guards.len()).filter(applies).enumerate().map(line);
        let externals =
            rows.externals.iter().filter(|one| self.plan.guards.row(one.id).applies(Some(self.key.id)));
        own.chain(externals.map(|one| self.external(one))).collect()
    }

    fn external(&self, one: &External) -> String {
        let name = &self.plan.guards.row(one.id).name;
        let what = match (one.is_shadow, one.enforces) {
            (true, _) => "only counts",
            (false, true) => "refuses",
            (false, false) => "logs",
        };
        let backend = &self.plan.backend(one.backend).name;
        let failure = if one.fails_open || !one.enforces { "passes" } else { "is refused" };
        let response = if one.reads_responses() { "; reads responses, too" } else { "" };
        let text = format!(
            "external guard {name}: {what} by backend {backend}; without a verdict a request {failure}{response}"
        );
        self.line(text, &["guard", name])
    }

    /// What the model costs at each of its backends.
    fn prices(&self, model: ModelId) -> Vec<String> {
        // The parts in which the price of a token is kept are those in which the money for a million is counted.
        let shown = |price: u64| Money(price).to_string();
        let line = |member: &crate::plan::Member| {
            let backend = &self.plan.backend(member.backend).name;
            match &member.price {
                None => format!("no price at backend {backend}"),
                Some(Price { input, cached, cache_write, output }) => format!(
                    "price at backend {backend}, per million tokens: input {}, cached {}, cache write {}, output {}",
                    shown(*input),
                    shown(*cached),
                    shown(*cache_write),
                    shown(*output)
                ),
            }
        };
        self.plan.model(model).pool.iter().map(line).collect()
    }
}
