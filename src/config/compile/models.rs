//! Public models, their other names, and the backends that serve them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::bounds::{TIME_MIN, model_timeout, or_never, response_default, timeout_relations, within};
use super::{MODEL_SIGNS, Source, check_name, file, row};
use crate::config::problem::Report;
use crate::config::quantity::Time;
use crate::plan::pattern::{STAR, Template};
use crate::plan::placements::NO_SLOT;
use crate::plan::{Deployment, Hedge, Member, Model, Timeouts};
use crate::units::{BackendId, DeploymentId, ModelId};
use crate::wire::json;

/// Public names and aliases, as in [`crate::plan::Plan::names`].
pub(super) type Names = BTreeMap<Box<str>, ModelId>;

/// The largest weight.
pub(super) const WEIGHT_MAX: u32 = 10_000;

/// Tokens of output of a model that nothing is known of: almost every one makes as many.
const OUTPUT_MAX_DEFAULT: u64 = 4_096;

/// Fallbacks of one model: a client waits for each.
const FALLBACKS_MAX: usize = 8;

/// Public models as compiled.
pub(super) struct Compiled {
    /// One row per model, by name.
    pub(super) models: Vec<Model>,
    /// Every name a client may ask for.
    pub(super) names: Names,
    /// As in [`crate::plan::Plan::deployments`].
    pub(super) deployments: Vec<Deployment>,
}

/// The public models, and the deployments that serve them.
pub(super) fn compile(source: &Source<'_>, timeouts: &Timeouts, report: &mut Report<'_>) -> Compiled {
    let file = source.file;
    let created = source.environment.unix_seconds();
    let mut names: Names = file
        .model
        .keys()
        .enumerate()
        .map(|(index, name)| (name.as_str().into(), ModelId::new(index)))
        .collect();
    let mut models = Vec::new();
    for (index, (name, model)) in file.model.iter().enumerate() {
        let prefix = prefix(name, model, report);
        if prefix.is_none() {
            check_name(&["model", name], name, MODEL_SIGNS, report);
        }
        let id = ModelId::new(index);
        if let Some(tokens) = model.context_length {
            within(&["model", name, "context_length"], tokens, 1, 1 << 40, report);
        }
        if let Some(tokens) = model.output_max {
            let most = model.context_length.unwrap_or(1 << 40);
            within(&["model", name, "output_max"], tokens, 1, most, report);
        }
        for (at, alias) in model.aliases.iter().enumerate() {
            let at = format!("[{at}]");
            let path = ["model", name, "aliases", &at];
            check_name(&path, alias, MODEL_SIGNS, report);
            if let Some(other) = names.insert(alias.as_str().into(), id) {
                let other = file.model.keys().nth(other.index()).expect("a row per model");
                report.problem(&path, format!("\"{alias}\" is a name of model \"{other}\" already"));
            }
        }
        models.push(Model {
            id,
            name: name.as_str().into(),
            prefix,
            aliases: model.aliases.iter().map(|alias| alias.as_str().into()).collect(),
            pool: [].into(),
            fallbacks: [].into(),
            context_length: model.context_length,
            output_max: model.output_max.or(model.context_length).unwrap_or(OUTPUT_MAX_DEFAULT),
            renames_ids: false,
            price: None,
            guards: None,
            policy: model.policy.0,
            hedge: hedge(name, model, report),
            resumes: model.resume,
            routes: [].into(),
            refuses_losses: model.on_loss.unwrap_or(file.on_loss) == file::OnLoss::Refuse,
            timeouts: own_timeouts(name, &model.timeouts, timeouts, file.timeouts.response, report),
            created,
        });
    }
    for (index, (name, model)) in file.model.iter().enumerate() {
        models[index].fallbacks = fallbacks(name, model, &names, report).into();
    }
    let stand_in: HashSet<ModelId> = models
        .iter()
        .flat_map(|model| model.fallbacks.iter().copied())
        .chain(downgrades(file, &names))
        .collect();
    let mut used = HashSet::new();
    let deployments = deployments(file);
    for (row, model) in models.iter_mut().zip(file.model.values()) {
        // A client that asks by an alias, or for a model that this one stands in for, means the public name.
        let named = !model.aliases.is_empty() || stand_in.contains(&row.id);
        row.pool = pool(file, row, model, named, &deployments, report).into();
        used.extend(row.pool.iter().map(|member| member.backend));
    }
    for (index, name) in file.backend.keys().enumerate() {
        let guards = || file.guard.values().filter_map(|guard| guard.external.as_ref());
        let is_guard = || guards().any(|one| one.backend == *name);
        if !used.contains(&BackendId::new(index)) && !is_guard() {
            report.note(format!("backend {name} serves no model"));
        }
    }
    Compiled { models, names, deployments }
}

/// When a second backend is asked.
fn hedge(name: &str, model: &file::Model, report: &mut Report<'_>) -> Option<Hedge> {
    let hedge = model.hedge.as_ref()?;
    let at = |key| ["model", name, "hedge", key];
    within(&at("after"), hedge.after, TIME_MIN, Time::minutes(10), report);
    within(&at("factor"), hedge.factor, 1.0, 1_000.0, report);
    if model.backends.len() < 2 {
        report.problem(
            &["model", name, "hedge"],
            "has no second backend to ask; expected two or more backends",
        );
    }
    Some(Hedge { after: hedge.after.0, factor: hedge.factor as f32 })
}

/// The models that soft limits call in place of others.
fn downgrades<'a>(file: &'a file::File, names: &'a Names) -> impl Iterator<Item = ModelId> + use<'a> {
    let teams = file.team.values().flat_map(|team| &team.budgets);
    let keys = file.key.values().flat_map(|key| &key.budgets);
    let budgets = teams.chain(keys).chain(&file.end_users.budgets);
    let models = budgets.flat_map(|budget| &budget.soft).filter_map(|soft| soft.model.as_deref());
    models.filter_map(|name| names.get(name).copied())
}

/// The patterns among the models, the longest prefix first: the first that fits a name is the closest.
pub(super) fn patterns(models: &[Model]) -> Box<[ModelId]> {
    let mut found: Vec<&Model> = models.iter().filter(|model| model.prefix.is_some()).collect();
    found.sort_by_key(|model| std::cmp::Reverse(model.prefix.as_ref().map(|prefix| prefix.len())));
    found.into_iter().map(|model| model.id).collect()
}

/// What stands before the star of a pattern: `openai/` of `openai/*`. `None` for the name of one model.
fn prefix(name: &str, model: &file::Model, report: &mut Report<'_>) -> Option<Box<str>> {
    let prefix = name.split_once(STAR)?.0;
    let path = ["model", name];
    if prefix.len() + 1 != name.len() {
        report.problem(
            &path,
            "has a * that is not at its end; expected a name, or a pattern like \"openai/*\"",
        );
    }
    if !prefix.is_empty() {
        check_name(&path, prefix, MODEL_SIGNS, report);
    }
    if !model.aliases.is_empty() {
        report.problem(&["model", name, "aliases"], "has names for a pattern; expected none");
    }
    Some(prefix.into())
}

/// What every member of a pool is: a backend, and its own name for the model. Members that are the same share a row.
fn deployments(file: &file::File) -> Vec<Deployment> {
    let members =
        file.model.iter().flat_map(|(name, model)| model.backends.iter().map(move |entry| (name, &entry.0)));
    let rows: BTreeSet<Deployment> = members
        .filter_map(|(name, member)| {
            let backend = BackendId::new(row(&file.backend, &member.name)?);
            Some(deployment(name, member, backend))
        })
        .collect();
    rows.into_iter().collect()
}

fn deployment(name: &str, member: &file::Member, backend: BackendId) -> Deployment {
    let all = if name.contains(STAR) { "*" } else { name };
    Deployment { backend, model: member.model.as_deref().unwrap_or(all).into() }
}

/// The models that stand in for one, by what the operator calls them.
fn fallbacks(name: &str, model: &file::Model, names: &Names, report: &mut Report<'_>) -> Vec<ModelId> {
    let mut found: Vec<ModelId> = Vec::new();
    for (at, fallback) in model.fallbacks.iter().enumerate() {
        let at = format!("[{at}]");
        let path = ["model", name, "fallbacks", &at];
        match names.get(fallback.as_str()) {
            None => report.problem(&path, format!("there is no [model.\"{fallback}\"] and no such alias")),
            Some(id) if Some(id) == names.get(name) => {
                report.problem(&path, format!("{fallback} is the model itself; expected another"));
            }
            Some(id) if found.contains(id) => {
                report.problem(&path, format!("{fallback} is listed twice; expected each model once"));
            }
            Some(_) if fallback.contains(STAR) => {
                report.problem(&path, format!("{fallback} is a pattern; expected the name of one model"));
            }
            Some(id) => found.push(*id),
        }
    }
    if found.len() > FALLBACKS_MAX {
        report.problem(
            &["model", name, "fallbacks"],
            format!("has {} models; expected at most {FALLBACKS_MAX}", found.len()),
        );
    }
    found
}

/// The pool of a model; `named`: its backends are told the public name even where they have no name of their own for it.
fn pool(
    file: &file::File,
    row: &Model,
    model: &file::Model,
    named: bool,
    deployments: &[Deployment],
    report: &mut Report<'_>,
) -> Vec<Member> {
    let mut pool: Vec<Member> = Vec::new();
    let name = &*row.name;
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
        let Some(index) = super::row(&file.backend, &member.name) else {
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
        let template =
            row.prefix.as_ref().and_then(|_| Template::new(member.model.as_deref().unwrap_or("*")));
        let own = member.model.as_deref().or(named.then_some(name)).filter(|_| template.is_none());
        let model_json = own.map(|own| {
            let mut json = Vec::new();
            json::quote(&mut json, own);
            json.into()
        });
        let deployment =
            deployments.binary_search(&deployment(name, member, backend)).expect("a row per member");
        let slot = pool.len().min(usize::from(NO_SLOT)) as u8;
        pool.push(Member {
            backend,
            deployment: DeploymentId::new(deployment),
            model_json,
            template,
            weight,
            price: None,
            slot,
        });
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

/// `response`: what is written for all models.
fn own_timeouts(
    name: &str,
    own: &file::ModelTimeouts,
    all: &Timeouts,
    response: Option<Time>,
    report: &mut Report<'_>,
) -> Timeouts {
    let at = |key| ["model", name, "timeouts", key];
    let mut timeouts = *all;
    model_timeout(&at("first_token"), own.first_token, TIME_MIN, &mut timeouts.first_token, report);
    model_timeout(&at("between_events"), own.between_events, TIME_MIN, &mut timeouts.between_events, report);
    model_timeout(&at("total"), own.total, TIME_MIN, &mut timeouts.total, report);
    if own.response.or(response).is_none() {
        timeouts.response = response_default(timeouts.total);
    }
    model_timeout(&at("response"), own.response, TIME_MIN, &mut timeouts.response, report);
    model_timeout(&at("first_byte"), own.first_byte, Time::seconds(0), &mut timeouts.first_byte, report);
    if let Some(first_byte) = own.first_byte {
        timeouts.first_byte = or_never(first_byte);
    }
    model_timeout(&at("retry_wait"), own.retry_wait, Time::seconds(0), &mut timeouts.retry_wait, report);
    if timeouts != *all {
        timeout_relations(&["model", name, "timeouts"], &timeouts, report);
    }
    timeouts
}
