//! Content rules: what they search for is compiled once for all models with the same rules.

use std::collections::HashMap;
use std::sync::Arc;

use super::bounds::within;
use super::external;
use super::file::{Guard as Written, GuardAction, RequestShape, Words};
use super::kept::{self, Unkept};
use super::models::Names;
use super::{NAME_SIGNS, Source, check_name};
use crate::config::problem::Report;
use crate::config::quantity::Size;
use crate::dialect::texts::Place;
use crate::plan::guards::{External, Guard, ModelGuards};
use crate::plan::{Backend, Key, Model, Team};
use crate::policy::glob;
use crate::policy::guard::detect::Detector;
use crate::policy::guard::patterns::Find;
use crate::policy::guard::rules::{Action, Guards, Rule};
use crate::policy::guard::secret::Secret;
use crate::policy::guard::shape::Shape;
use crate::units::GuardId;

/// The rows, by name; each model gets the rules that are for it.
pub(super) fn compile(
    source: &Source<'_>,
    callers: (&[Team], &[Key]),
    names: &Names,
    (models, backends): (&mut [Model], &[Backend]),
    report: &mut Report<'_>,
) -> Vec<Guard> {
    let (mut rows, mut rules) = (Vec::new(), Vec::new());
    for (index, (name, written)) in source.file.guard.iter().enumerate() {
        check_name(&["guard", name], name, NAME_SIGNS, report);
        rows.push(row(name, written, callers, report));
        let rule = rule(source, name, written, names, report);
        rules.push((written.rank, GuardId::new(index), written, rule));
    }
    let mut externals: Vec<(u32, &Written, External)> = Vec::new();
    for (rank, id, written, rule) in &rules {
        if let Some(one) = &written.external {
            let at = external::At { name: &rule.name, id: *id, places: &rule.places };
            externals.extend(
                external::compile(at, written, one, backends, report).map(|one| (*rank, *written, one)),
            );
        }
    }
    rules.retain(|rule| rule.2.external.is_none());
    externals.sort_by_key(|one| (one.0, one.2.id));
    rules.sort_by_key(|rule| (rule.0, rule.1));
    let secret = (!rules.is_empty() || !externals.is_empty()).then(|| secret(source, report));
    let mut known: HashMap<Vec<GuardId>, Arc<ModelGuards>> = HashMap::new();
    for model in models.iter_mut() {
        let meant: Vec<_> = rules.iter().filter(|rule| is_for(&rule.2.models, &model.name)).collect();
        let ids: Vec<GuardId> = meant.iter().map(|rule| rule.1).collect();
        let asked = externals.iter().filter(|one| is_for(&one.1.models, &model.name));
        let externals: Box<[External]> = asked.map(|one| one.2.clone()).collect();
        let all: Vec<GuardId> = ids.iter().copied().chain(externals.iter().map(|one| one.id)).collect();
        if all.is_empty() {
            continue;
        }
        if let Some(guards) = known.get(&all) {
            model.guards = Some(Arc::clone(guards));
            continue;
        }
        match Guards::compile(meant.iter().map(|rule| rule.3.clone()).collect()) {
            Ok(guards) => {
                let guards = match &secret {
                    Some(secret) => guards.with_secret(secret.clone()),
                    None => guards,
                };
                let guards = Arc::new(ModelGuards { guards, ids: ids.into(), externals });
                model.guards = Some(Arc::clone(&guards));
                known.insert(all, guards);
            }
            Err(unfit) => {
                let name = &meant[unfit.rule].3.name;
                report.problem(&["guard", name], unfit.problem);
                return rows;
            }
        }
    }
    rows
}

/// The secret of the hashes of matches: that of this machine, or a new one.
fn secret(source: &Source<'_>, report: &mut Report<'_>) -> Secret {
    match kept::secret(source, FILE) {
        Ok(secret) => Secret::new(&secret),
        Err(Unkept { random, reasons }) => {
            if !reasons.is_empty() {
                report.note(format!(
                    "hashes of what content rules find differ from start to start, as their secret {}",
                    reasons.join(", ")
                ));
            }
            Secret::new(&random)
        }
    }
}

fn is_for(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, name))
}

fn row(name: &str, written: &Written, callers: (&[Team], &[Key]), report: &mut Report<'_>) -> Guard {
    let (teams, keys) = callers;
    let of_team = |patterns: &[String], key: &Key| {
        key.team.is_some_and(|team| is_for(patterns, &teams[team.index()].name))
    };
    let is_meant = |key: &Key| {
        written.keys.as_ref().is_none_or(|patterns| is_for(patterns, &key.name))
            && written.teams.as_ref().is_none_or(|patterns| of_team(patterns, key))
            && written.tags.as_ref().is_none_or(|patterns| key.tags.iter().any(|tag| is_for(patterns, tag)))
    };
    let row = Guard {
        name: name.into(),
        keys: keys.iter().map(is_meant).collect(),
        keyless: written.keys.is_none() && written.teams.is_none() && written.tags.is_none(),
    };
    if !row.keyless && !row.keys.contains(&true) {
        report.note(format!("guard {name} is for no key"));
    }
    row
}

fn rule(source: &Source<'_>, name: &str, written: &Written, names: &Names, report: &mut Report<'_>) -> Rule {
    within(&["guard", name, "rank"], written.rank, 0, 1_000_000, report);
    let mut finds = detectors(name, written, report);
    finds.extend(written.patterns.iter().cloned().map(Find::Expression));
    finds.extend(words(source, name, &written.words, report).into_iter().map(Find::Phrase));
    if finds.is_empty() && written.external.is_none() && written.request.is_none() {
        let text = "searches for nothing; expected detect, patterns, words, request or external";
        report.problem(&["guard", name], text);
    }
    if finds.len() > FINDS_MAX {
        let count = finds.len();
        report
            .problem(&["guard", name], format!("searches for {count} things; expected at most {FINDS_MAX}"));
        finds.truncate(FINDS_MAX);
    }
    let action = match &written.action {
        GuardAction::Log => Action::Log,
        GuardAction::Mask => Action::Mask,
        GuardAction::Refuse => Action::Refuse,
        GuardAction::Stop => Action::Stop,
        GuardAction::Route(model) => {
            if !names.contains_key(model.as_str()) {
                report.problem(&["guard", name, "action"], format!("there is no model \"{model}\""));
            }
            Action::Route(model.as_str().into())
        }
    };
    let is_label = |label: &str| {
        (1..=32).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    if written.label.as_deref().is_some_and(|label| !is_label(label)) {
        report.problem(&["guard", name, "label"], "expected 1 to 32 capitals, digits and underscores");
    }
    Rule {
        name: name.into(),
        finds,
        places: places(name, written, report),
        action,
        is_shadow: written.shadow,
        label: written.label.as_deref().map(Into::into),
        restores: restores(name, written, report),
        shape: written.request.as_ref().map(|request| shape(name, written, request, report)),
    }
}

fn restores(name: &str, written: &Written, report: &mut Report<'_>) -> bool {
    if written.restore && written.action != GuardAction::Mask {
        report.problem(&["guard", name, "restore"], "expected action = \"mask\" beside it");
    }
    written.restore
}

fn shape(name: &str, written: &Written, request: &RequestShape, report: &mut Report<'_>) -> Shape {
    let at = |key| ["guard", name, "request", key];
    if matches!(written.action, GuardAction::Mask | GuardAction::Stop) {
        let text = "expected \"refuse\", \"log\" or a route for what a request may be made of";
        report.problem(&["guard", name, "action"], text);
    }
    if written.external.is_some() {
        report.problem(&["guard", name, "request"], "stands beside external; expected a rule of its own");
    }
    if *request == RequestShape::default() {
        report.problem(&["guard", name, "request"], "is empty; expected some of body_max, tools_max, ...");
    }
    for (parameter, most) in &request.clamp {
        if !most.is_finite() {
            report.problem(&at("clamp"), format!("{parameter} is {most}; expected a number"));
        }
    }
    Shape {
        body_bytes_max: request.body_max.map(Size::bytes),
        tools_max: request.tools_max,
        tools_allow: request.tools_allow.clone(),
        tools_deny: request.tools_deny.clone(),
        images_max: request.images_max,
        audio_max: request.audio_max,
        image_hosts: request
            .image_hosts
            .as_ref()
            .map(|hosts| hosts.iter().map(|host| host.to_ascii_lowercase()).collect()),
        clamp: request.clamp.iter().map(|(name, most)| (name.as_str().into(), *most)).collect(),
    }
}

fn detectors(name: &str, written: &Written, report: &mut Report<'_>) -> Vec<Find> {
    let known = Detector::ALL.map(|row| row.0).join(", ");
    let mut finds = Vec::new();
    for (index, detector) in written.detect.iter().enumerate() {
        match Detector::named(detector) {
            Some(detector) => finds.push(Find::Detector(detector)),
            None => {
                let at = format!("[{index}]");
                report.problem(
                    &["guard", name, "detect", &at],
                    format!("is \"{detector}\"; expected one of {known}"),
                );
            }
        }
    }
    finds
}

fn places(name: &str, written: &Written, report: &mut Report<'_>) -> Vec<Place> {
    let known = Place::ALL.map(|row| row.0).join(", ");
    let mut places = Vec::new();
    for (index, place) in written.places.iter().enumerate() {
        match Place::ALL.iter().find(|row| row.0 == place) {
            Some(row) => places.push(row.1),
            None => {
                let at = format!("[{index}]");
                report.problem(
                    &["guard", name, "where", &at],
                    format!("is \"{place}\"; expected one of {known}"),
                );
            }
        }
    }
    if written.places.is_empty() {
        report.problem(&["guard", name, "where"], format!("is empty; expected some of {known}"));
    }
    places
}

fn words(source: &Source<'_>, name: &str, words: &Words, report: &mut Report<'_>) -> Vec<String> {
    let list = match words {
        Words::List(list) => list.clone(),
        Words::File { file } => {
            let path = source.folder.join(file);
            let text = source.environment.file(&path, WORDS_BYTES_MAX).and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| std::io::Error::other("is not UTF-8"))
            });
            let text = text.map_err(|error| format!("{}: {error}", path.display()));
            let text = report.take(&["guard", name, "words"], text).unwrap_or_default();
            let is_word = |line: &&str| !line.is_empty() && !line.starts_with('#');
            text.lines().map(str::trim).filter(is_word).map(str::to_owned).collect()
        }
    };
    if list.iter().any(|word| word.trim().is_empty()) {
        report.problem(&["guard", name, "words"], "has an empty word");
    }
    list.into_iter().filter(|word| !word.trim().is_empty()).collect()
}

/// The file of the secret of the hashes of matches.
const FILE: &str = "ringway.guard-secret";
/// Of a file of words.
const WORDS_BYTES_MAX: usize = 1 << 20;
/// Of one rule; an automaton of ten thousand words has some megabytes.
const FINDS_MAX: usize = 10_000;
