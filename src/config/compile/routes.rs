//! Rules that send requests for one model to another.

use super::bounds::within;
use super::file;
use super::models::Names;
use crate::config::problem::Report;
use crate::plan::pattern::STAR;
use crate::plan::{Key, Model};
use crate::policy::glob;
use crate::policy::routing::route::{ALL, HeaderLine, Route};
use crate::units::ModelId;

/// Gives each model its rules. Back comes whether there is any.
pub(super) fn compile(
    file: &file::File,
    names: &Names,
    keys: &[Key],
    models: &mut [Model],
    report: &mut Report<'_>,
) -> bool {
    for (row, (name, model)) in models.iter_mut().zip(&file.model) {
        if model.route.len() > ROUTES_MAX {
            let text = format!("has {} rules; expected at most {ROUTES_MAX}", model.route.len());
            report.problem(&["model", name, "route"], text);
        }
        let rules = model.route.iter().enumerate();
        row.routes = rules
            .filter_map(|(at, route)| {
                let at = format!("[{at}]");
                One { path: ["model", name, "route", &at], route }.compile(names, row.id, keys, report)
            })
            .collect();
    }
    models.iter().any(|model| !model.routes.is_empty())
}

/// One rule as written.
struct One<'a> {
    path: [&'a str; 4],
    route: &'a file::Route,
}

impl One<'_> {
    fn problem(&self, key: &str, text: impl Into<String>, report: &mut Report<'_>) {
        report.problem(&[&self.path[..], &[key]].concat(), text.into());
    }

    fn compile(&self, names: &Names, own: ModelId, keys: &[Key], report: &mut Report<'_>) -> Option<Route> {
        let route = self.route;
        let to = self.target(names, own, report)?;
        let (min, max) = (route.prompt_tokens_min.unwrap_or(0), route.prompt_tokens_max.unwrap_or(u64::MAX));
        if min > max {
            let text = format!("is {min}; expected at most prompt_tokens_max, which is {max}");
            self.problem("prompt_tokens_min", text, report);
        }
        let percent = route.percent.unwrap_or(100.0);
        within(&[&self.path[..], &["percent"]].concat(), percent, 0.0, 100.0, report);
        Some(Route {
            to,
            prompt_tokens_min: min,
            prompt_tokens_max: max,
            tools: route.tools,
            images: route.images,
            header: route.header.as_ref().and_then(|header| self.header(header, report)),
            keys: route.keys.as_ref().map(|patterns| self.keys(patterns, keys, report)),
            share: (percent / 100.0 * ALL as f64) as u64,
        })
    }

    fn target(&self, names: &Names, own: ModelId, report: &mut Report<'_>) -> Option<ModelId> {
        let to = &self.route.to;
        match names.get(to.as_str()) {
            None => self.problem("to", format!("there is no [model.\"{to}\"] and no such alias"), report),
            Some(_) if to.contains(STAR) => {
                self.problem("to", format!("{to} is a pattern; expected the name of one model"), report);
            }
            Some(id) if *id == own => {
                self.problem("to", format!("{to} is the model itself; expected another"), report);
            }
            Some(id) => return Some(*id),
        }
        None
    }

    fn header(&self, header: &str, report: &mut Report<'_>) -> Option<HeaderLine> {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        let name = name.trim().to_ascii_lowercase();
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_name {
            self.problem("header", "expected \"name: value\", or \"name\" for any value", report);
            return None;
        }
        Some(HeaderLine { name: name.into_bytes().into(), value: value.trim().as_bytes().into() })
    }

    /// By `KeyId`: whether one of the patterns fits its name.
    fn keys(&self, patterns: &[String], keys: &[Key], report: &mut Report<'_>) -> Box<[bool]> {
        let fits = |pattern: &String| keys.iter().any(|key| glob::matches(pattern, &key.name));
        if let Some(pattern) = patterns.iter().find(|pattern| !fits(pattern)) {
            self.problem("keys", format!("\"{pattern}\" fits no key"), report);
        }
        let is_meant = |key: &Key| patterns.iter().any(|pattern| glob::matches(pattern, &key.name));
        keys.iter().map(is_meant).collect()
    }
}

/// Rules of one model. Chosen, not measured.
const ROUTES_MAX: usize = 32;
