//! The keys of clients, and their teams.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::caller::{Caller, Models};
use super::issuers::Issued;
use super::secrets::Known;
use super::{NAME_SIGNS, check_name, file, row};
use crate::config::problem::Report;
use crate::config::stored::Stored;
use crate::dialect::ApiSet;
use crate::plan::{Credential, Expiry, Grant, Key, Team};
use crate::units::{IssuerId, KeyId, TeamId};

/// Teams and keys, each in the order of their names.
pub(super) struct Compiled {
    pub(super) teams: Vec<Team>,
    pub(super) keys: Vec<Key>,
}

/// What is the same for all of them.
pub(super) struct Common<'a> {
    pub(super) file: &'a file::File,
    /// Which of them the store has.
    pub(super) stored: &'a Stored,
    /// Which of them are an issuer's.
    pub(super) issued: &'a Issued,
    pub(super) models: Models<'a>,
    /// The time at which the file is compiled, Unix seconds.
    pub(super) now: u64,
}

/// One row per team and per key.
pub(super) fn compile(common: &Common<'_>, report: &mut Report<'_>) -> Compiled {
    let file = common.file;
    let mut teams = Vec::new();
    let mut grants = Vec::new();
    for (index, (name, team)) in file.team.iter().enumerate() {
        check_name(&["team", name], name, NAME_SIGNS, report);
        let is_lenient = common.stored.is_lenient("team", name);
        let caller = Caller::of_team(name, team, file.estimate.output_tokens, is_lenient);
        let limits = caller.limits(report);
        grants.push((caller.models(&common.models, report), caller.apis(report)));
        teams.push(Team { id: TeamId::new(index), name: name.as_str().into(), limits });
    }
    Compiled { teams, keys: keys(common, &grants, report) }
}

fn keys(common: &Common<'_>, teams: &[(Box<[bool]>, ApiSet)], report: &mut Report<'_>) -> Vec<Key> {
    let file = common.file;
    let known = Known::new();
    let mut seen: HashMap<[u8; 32], &str> = HashMap::new();
    let mut keys = Vec::new();
    for (index, (name, key)) in file.key.iter().enumerate() {
        let at = |field| ["key", name, field];
        check_name(&["key", name], name, NAME_SIGNS, report);
        let digest = report.take(&at("sha256"), known.digest(&key.sha256));
        let earlier = common.stored.earlier(name);
        for secret in digest.iter().chain(earlier) {
            if let Some(other) = seen.insert(*secret, name) {
                report.problem(&at("sha256"), format!("is the same key as [key.{other}]"));
            }
        }
        let team = key.team.as_ref().and_then(|team| {
            let found = row(&file.team, team).ok_or_else(|| format!("there is no [team.{team}]"));
            report.take(&at("team"), found)
        });
        let is_lenient = common.stored.is_lenient("key", name);
        let caller = Caller::of_key(name, key, file.estimate.output_tokens, is_lenient);
        let mut grant = Grant {
            models: caller.models(&common.models, report),
            apis: caller.apis(report),
            trace: key.trace,
            limits: caller.limits(report),
            budgets: Box::default(),
            names_users: key.names_users,
        };
        if let Some((models, apis)) = team.map(|team| &teams[team]) {
            grant.models.iter_mut().zip(models).for_each(|(own, team)| *own &= team);
            grant.apis = grant.apis.and(*apis);
            if key.models.is_some() && !grant.models.contains(&true) && !is_lenient {
                report.problem(&at("models"), "has no model that its team may use");
            }
            if key.apis.is_some() && grant.apis == ApiSet::default() {
                report.problem(&at("apis"), "has no endpoint that its team may call");
            }
        }
        keys.push(Key {
            id: KeyId::new(index),
            name: name.as_str().into(),
            team: team.map(TeamId::new),
            tags: tags(name, key, report),
            metadata: metadata(name, key, report),
            credential: Credential {
                digest: digest.unwrap_or_default(),
                earlier: earlier.into(),
                issuer: common
                    .issued
                    .get(name)
                    .and_then(|issuer| row(&file.issuer, issuer))
                    .map(IssuerId::new),
                expires: expires(name, key, common.now, report),
            },
            grant,
            revoked: Arc::default(),
        });
    }
    keys
}

fn tags(name: &str, key: &file::Key, report: &mut Report<'_>) -> Box<[Box<str>]> {
    if key.tags.len() > TAGS_MAX {
        let text = format!("has {} tags; expected at most {TAGS_MAX}", key.tags.len());
        report.problem(&["key", name, "tags"], text);
    }
    for (at, tag) in key.tags.iter().enumerate() {
        check_name(&["key", name, "tags", &format!("[{at}]")], tag, NAME_SIGNS, report);
    }
    key.tags.iter().map(|tag| tag.as_str().into()).collect()
}

fn metadata(name: &str, key: &file::Key, report: &mut Report<'_>) -> Box<[(Box<str>, Box<str>)]> {
    let count = key.metadata.len();
    if count > METADATA_MAX {
        let text = format!("has {count} entries; expected at most {METADATA_MAX}");
        report.problem(&["key", name, "metadata"], text);
    }
    for (entry, value) in &key.metadata {
        let path = ["key", name, "metadata", entry];
        check_name(&path, entry, NAME_SIGNS, report);
        if value.chars().count() > METADATA_CHARS_MAX || value.chars().any(char::is_control) {
            let text =
                format!("expected at most {METADATA_CHARS_MAX} characters, none of them a control character");
            report.problem(&path, text);
        }
    }
    key.metadata.iter().map(|(entry, value)| (entry.as_str().into(), value.as_str().into())).collect()
}

/// A key that has expired already is allowed, and noted: its name stays in reports.
fn expires(name: &str, key: &file::Key, now: u64, report: &mut Report<'_>) -> Option<Expiry> {
    let written = key.expires.as_deref()?;
    let instant = written.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    let expected = "expected an instant with its offset, like \"2027-01-01T00:00:00Z\"";
    let unix_ms = report.take(&["key", name, "expires"], instant.ok_or(expected))?;
    if unix_ms <= now * 1_000 {
        report.note(format!("key.{name}: expired at {written}"));
    }
    Some(Expiry { unix_ms, written: written.into() })
}

/// Tags of one key. Chosen, not measured.
const TAGS_MAX: usize = 16;
/// Entries of the metadata of one key, and characters of a value. Chosen, not measured.
const METADATA_MAX: usize = 16;
const METADATA_CHARS_MAX: usize = 256;
