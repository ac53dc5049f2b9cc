//! Public models, their other names, and the backends that serve them.

use std::collections::{HashMap, HashSet};

use super::bounds::{model_timeout, timeout_relations, within};
use super::{MODEL_SIGNS, Source, check_name, file, row};
use crate::config::problem::Report;
use crate::plan::{Member, Model, Timeouts};
use crate::units::{BackendId, ModelId};
use crate::wire::json;

/// Public names and aliases, as in [`crate::plan::Plan::names`].
pub(super) type Names = HashMap<Box<str>, ModelId>;

/// The largest weight.
pub(super) const WEIGHT_MAX: u32 = 10_000;

/// One row per model, by name; and every name a client may ask for.
pub(super) fn compile(
    source: &Source<'_>,
    timeouts: &Timeouts,
    report: &mut Report<'_>,
) -> (Vec<Model>, Names) {
    let file = source.file;
    let created = source.environment.unix_seconds();
    let mut names: Names = file
        .model
        .keys()
        .enumerate()
        .map(|(index, name)| (name.as_str().into(), ModelId::new(index)))
        .collect();
    let mut used = HashSet::new();
    let mut models = Vec::new();
    for (index, (name, model)) in file.model.iter().enumerate() {
        check_name(&["model", name], name, MODEL_SIGNS, report);
        let id = ModelId::new(index);
        for (at, alias) in model.aliases.iter().enumerate() {
            let at = format!("[{at}]");
            let path = ["model", name, "aliases", &at];
            check_name(&path, alias, MODEL_SIGNS, report);
            if let Some(other) = names.insert(alias.as_str().into(), id) {
                let other = file.model.keys().nth(other.index()).expect("a row per model");
                report.problem(&path, format!("\"{alias}\" is a name of model \"{other}\" already"));
            }
        }
        let pool = pool(file, name, model, report);
        used.extend(pool.iter().map(|member| member.backend));
        models.push(Model {
            id,
            name: name.as_str().into(),
            aliases: model.aliases.iter().map(|alias| alias.as_str().into()).collect(),
            pool: pool.into(),
            timeouts: own_timeouts(name, &model.timeouts, timeouts, report),
            created,
        });
    }
    for (index, name) in file.backend.keys().enumerate() {
        if !used.contains(&BackendId::new(index)) {
            report.note(format!("backend {name} serves no model"));
        }
    }
    (models, names)
}

fn pool(file: &file::File, name: &str, model: &file::Model, report: &mut Report<'_>) -> Vec<Member> {
    let mut pool: Vec<Member> = Vec::new();
    if model.backends.is_empty() {
        report.problem(
            &["model", name, "backends"],
            "is empty; expected at least one name of a [backend.NAME]",
        );
    }
    for (at, entry) in model.backends.iter().enumerate() {
        let at = format!("[{at}]");
        let path = ["model", name, "backends", &at];
        let member = &entry.0;
        let Some(index) = row(&file.backend, &member.name) else {
            let text = format!("there is no [backend.{}]; {}", member.name, known(file));
            report.problem(&path, text);
            continue;
        };
        let backend = BackendId::new(index);
        if pool.iter().any(|other| other.backend == backend) {
            report
                .problem(&path, format!("{} is listed twice; expected one entry with a weight", member.name));
        }
        if let Some(weight) = member.weight {
            within(&[&path[..], &["weight"]].concat(), weight, 1, WEIGHT_MAX, report);
        }
        if member.model.as_ref().is_some_and(|model| model.is_empty() || model.chars().any(char::is_control))
        {
            report.problem(&[&path[..], &["model"]].concat(), "expected the backend's name for the model");
        }
        let weight = member.weight.or(file.backend[&member.name].weight).unwrap_or(1);
        // A client that asks by an alias means the public name; the backend knows nothing of aliases.
        let own = member.model.as_deref().or((!model.aliases.is_empty()).then_some(name));
        let model_json = own.map(|own| {
            let mut json = Vec::new();
            json::quote(&mut json, own);
            json.into()
        });
        pool.push(Member { backend, model_json, weight });
    }
    pool
}

fn known(file: &file::File) -> String {
    let names: Vec<&str> = file.backend.keys().map(String::as_str).take(8).collect();
    if names.is_empty() {
        "there are no backends".to_owned()
    } else {
        format!("expected one of {}", names.join(", "))
    }
}

fn own_timeouts(name: &str, own: &file::ModelTimeouts, all: &Timeouts, report: &mut Report<'_>) -> Timeouts {
    let at = |key| ["model", name, "timeouts", key];
    let mut timeouts = *all;
    model_timeout(&at("first_token"), own.first_token, &mut timeouts.first_token, report);
    model_timeout(&at("between_events"), own.between_events, &mut timeouts.between_events, report);
    model_timeout(&at("total"), own.total, &mut timeouts.total, report);
    if timeouts != *all {
        timeout_relations(&["model", name, "timeouts"], &timeouts, report);
    }
    timeouts
}
