//! `ringway guard test`: what content rules find in a text, and what would happen to a request or a response that says it.
//! `ringway guard matches`: what they have found.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::table::{Format, Table};
use super::time::{moment, rfc3339};
use super::{Place as ConfigPlace, complain, ledger, print};
use crate::config::{self, Process};
use crate::dialect::texts::Place;
use crate::plan::guards::ModelGuards;
use crate::plan::{Model, Plan};
use crate::policy::guard::patterns::Find;
use crate::policy::guard::rules::{Action, Rule};
use crate::policy::guard::text::{self, Checked, Spotted};
use crate::store::FindingFilter;
use crate::units::KeyId;

/// What can be done with content rules.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Print what content rules find in a text, and what would happen; nothing is sent
    Test(Test),
    /// Print what content rules found in requests and responses, from the ledger: rule, place and a hash, never the text
    Matches(Matches),
}

/// Which matches.
#[derive(clap::Args)]
pub(super) struct Matches {
    #[command(flatten)]
    place: ConfigPlace,
    /// Only matches since: 24h, 7d, 2026-11-01, 2026-11-01T08:30:00Z
    #[arg(long, value_parser = moment)]
    since: Option<u64>,
    /// Only those of this rule
    #[arg(long)]
    rule: Option<String>,
    /// Only those of the text with this hash
    #[arg(long)]
    hash: Option<String>,
    /// At most so many, the newest first
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    format: Format,
}

/// The text, and as whose.
#[derive(clap::Args)]
pub(super) struct Test {
    /// A file with the text; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "text")]
    file: Option<PathBuf>,
    /// The text itself
    #[arg(long, conflicts_with = "file")]
    text: Option<String>,
    /// The rules of this model or alias [default: of every model]
    #[arg(long)]
    model: Option<String>,
    /// Only rules that are for this key, as in [key.NAME] [default: all rules]
    #[arg(long)]
    key: Option<String>,
    /// Where the text is said: input, system, tools, thinking, output
    #[arg(long = "where", default_value = "input", value_parser = place)]
    place: Place,
    /// The configuration file [default: ./ringway.toml, then /etc/ringway/ringway.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object for each set of rules
    #[arg(long)]
    json: bool,
}

fn place(name: &str) -> Result<Place, String> {
    let known = Place::ALL.iter().find(|row| row.0 == name).map(|row| row.1);
    known.ok_or_else(|| format!("expected one of {}", Place::ALL.map(|row| row.0).join(", ")))
}

pub(super) fn command(command: Command) -> ExitCode {
    match command {
        Command::Test(test) => self::test(test),
        Command::Matches(matches) => self::matches(matches),
    }
}

fn matches(matches: Matches) -> ExitCode {
    let (store, _) = match ledger::open(matches.place) {
        Ok(opened) => opened,
        Err(status) => return status,
    };
    let Matches { since, rule, hash, limit, format, .. } = matches;
    let found = match store.findings(&FindingFilter { since_ms: since.unwrap_or(0), rule, hash }, limit) {
        Ok(found) => found,
        Err(error) => return complain(&error.to_string()),
    };
    let mut table =
        Table::new(&["at", "request_id", "key", "model", "rule", "where", "action", "hash", "count"]);
    for one in found {
        table.push(vec![
            json!(rfc3339(one.at_ms)),
            json!(one.request_id),
            json!(one.key),
            json!(one.model),
            json!(one.rule),
            json!(one.place),
            json!(one.action),
            json!(one.hash),
            json!(one.count),
        ]);
    }
    table.print(format, "no matches")
}

/// Exit status 1 for a configuration that is refused, a text that cannot be read, and a model or a key that is not there.
fn test(mut test: Test) -> ExitCode {
    let loaded = config::locate(test.config.take()).and_then(|path| config::load(&path, &Process));
    let plan = match loaded {
        Ok(compiled) => compiled.plan,
        Err(problems) => return complain(&problems.to_string()),
    };
    match said(&test).and_then(|text| report(&plan, &test, &text)) {
        Ok(lines) => print(&lines.join("\n")),
        Err(text) => complain(&format!("ringway: {text}")),
    }
}

/// The text to test.
fn said(test: &Test) -> Result<Vec<u8>, String> {
    let Some(path) = &test.file else { return Ok(test.text.clone().unwrap_or_default().into_bytes()) };
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(TEXT_BYTES_MAX).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)),
    };
    read.map(|_| bytes).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// For each set of rules what it finds.
fn report(plan: &Plan, test: &Test, text: &[u8]) -> Result<Vec<String>, String> {
    let key = match &test.key {
        None => None,
        Some(name) => Some(plan.key_named(name).ok_or_else(|| format!("there is no [key.{name}]"))?.id),
    };
    let models: Vec<&Model> = match &test.model {
        None => plan.models.iter().collect(),
        Some(name) => {
            let id =
                plan.find_model(name).ok_or_else(|| format!("there is no model and no alias \"{name}\""))?;
            vec![plan.model(id)]
        }
    };
    // Models with the same rules share them.
    let mut sets: BTreeMap<Box<[usize]>, (&ModelGuards, Vec<&str>)> = BTreeMap::new();
    let mut unguarded = Vec::new();
    for model in models {
        match &model.guards {
            None => unguarded.push(&*model.name),
            Some(guards) => {
                let ids = guards.ids.iter().map(|id| id.index()).collect();
                sets.entry(ids).or_insert((guards, Vec::new())).1.push(&model.name);
            }
        }
    }
    let mut lines = Vec::new();
    for (guards, models) in sets.values() {
        let page = Page { plan, guards, models, key, test, text };
        lines.extend(if test.json { vec![page.json().to_string()] } else { page.lines() });
    }
    if !unguarded.is_empty() && !test.json {
        lines.push(format!("{}: no content rules", named(&unguarded)));
    }
    Ok(lines)
}

fn named(models: &[&str]) -> String {
    format!("{} {}", if models.len() == 1 { "model" } else { "models" }, models.join(", "))
}

/// One set of rules over the text.
struct Page<'a> {
    plan: &'a Plan,
    guards: &'a ModelGuards,
    models: &'a [&'a str],
    key: Option<KeyId>,
    test: &'a Test,
    text: &'a [u8],
}

impl Page<'_> {
    fn check(&self) -> Checked {
        let applies = |rule| self.key.is_none() || self.guards.applies(self.plan, rule, self.key);
        text::check(&self.guards.guards, self.test.place, self.text, &applies)
    }

    fn rule(&self, index: usize) -> &Rule {
        self.guards.guards.rule(index)
    }

    fn lines(&self) -> Vec<String> {
        let checked = self.check();
        let mut lines = vec![format!("{}:", named(self.models))];
        for one in &checked.found {
            let rule = self.rule(one.rule);
            let said = String::from_utf8_lossy(&self.text[one.range.clone()]);
            let span = format!("{}..{}", one.range.start, one.range.end);
            let shadow = if rule.is_shadow { ", only counted (shadow)" } else { "" };
            lines.push(format!(
                "  {span:<12} {:<16} {:<14} {}{shadow}  {said:?}",
                rule.name,
                found_by(one),
                action(&rule.action)
            ));
        }
        if checked.found.is_empty() {
            lines.push("  nothing is found".to_owned());
        }
        for (what, outcome) in self.outcomes(&checked) {
            lines.push(format!("  {what}: {outcome}"));
        }
        if checked.masked != self.text {
            lines.push(format!("  text: {}", String::from_utf8_lossy(&checked.masked)));
        }
        lines
    }

    fn json(&self) -> Value {
        let checked = self.check();
        let found: Vec<Value> = checked
            .found
            .iter()
            .map(|one| {
                let rule = self.rule(one.rule);
                json!({
                    "rule": rule.name, "found_by": found_by(one), "action": action(&rule.action), "shadow": rule.is_shadow,
                    "start": one.range.start, "end": one.range.end,
                    "text": String::from_utf8_lossy(&self.text[one.range.clone()]),
                })
            })
            .collect();
        let outcomes: serde_json::Map<_, _> = self
            .outcomes(&checked)
            .into_iter()
            .map(|(what, outcome)| (what.to_owned(), json!(outcome)))
            .collect();
        json!({
            "models": self.models, "found": found, "outcomes": outcomes,
            "decides": checked.decides.map(|rule| self.rule(rule).name.clone()),
            "text": String::from_utf8_lossy(&checked.masked),
        })
    }

    /// What would happen to a request and to a response that says it, where rules read both.
    fn outcomes(&self, checked: &Checked) -> Vec<(&'static str, String)> {
        let masks = checked.masked != self.text;
        let passes = || if masks { "passes, masked" } else { "passes" }.to_owned();
        let decides = checked.decides.map(|rule| self.rule(rule));
        let request = || match decides {
            None => passes(),
            Some(Rule { name, action: Action::Route(model), .. }) => {
                format!("goes to model {model}, by rule {name}")
            }
            Some(rule) => format!("is refused, by rule {}: 400 content_policy_violation", rule.name),
        };
        let stops = |one: &&Spotted| {
            let rule = self.rule(one.rule);
            !rule.is_shadow && matches!(rule.action, Action::Refuse | Action::Stop)
        };
        let response = || match checked.found.iter().find(stops) {
            None => passes(),
            Some(one) => format!(
                "a stream ends before byte {} with an error, a whole one becomes 400 content_policy_violation, by rule {}",
                one.range.start,
                self.rule(one.rule).name
            ),
        };
        match self.test.place {
            Place::Input | Place::System => vec![("request", request())],
            Place::Output => vec![("response", response())],
            Place::Tools | Place::Thinking => vec![("request", request()), ("response", response())],
        }
    }
}

fn found_by(one: &Spotted) -> &'static str {
    one.detector.map_or("pattern", |detector| detector.name())
}

fn action(action: &Action) -> String {
    match action {
        Action::Log => "log".to_owned(),
        Action::Mask => "mask".to_owned(),
        Action::Refuse => "refuse".to_owned(),
        Action::Stop => "stop".to_owned(),
        Action::Route(model) => format!("route to {model}"),
    }
}

/// A rule in a line.
pub(super) fn words(rule: &Rule) -> String {
    let detectors = rule.finds.iter().filter_map(|find| match find {
        Find::Detector(detector) => Some(detector.name().to_owned()),
        _ => None,
    });
    let own = rule.finds.iter().filter(|find| !matches!(find, Find::Detector(_))).count();
    let own = (own > 0).then(|| format!("{own} of its own"));
    let shape = rule.shape.is_some().then(|| "what requests are made of".to_owned());
    let finds: Vec<String> = detectors.chain(own).chain(shape).collect();
    let name = |place: &Place| Place::ALL.iter().find(|row| row.1 == *place).map_or("", |row| row.0);
    let places: Vec<&str> = rule.places.iter().map(name).collect();
    let shadow = if rule.is_shadow { ", only counted (shadow)" } else { "" };
    format!("{}: {} {} in {}{shadow}", rule.name, action(&rule.action), finds.join(", "), places.join(", "))
}

/// Of a text.
const TEXT_BYTES_MAX: u64 = 16 << 20;
