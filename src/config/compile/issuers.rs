//! Issuers of JSON Web Tokens. Each makes rows among the keys, one for each team that its tokens are mapped to: so they have
//! limits, budgets and content rules, and stand in reports, like keys. What sets them apart is how their callers are recognised.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::backends::Trusts;
use super::bounds::within;
use super::egress::Egress;
use super::{NAME_SIGNS, Source, check_name, file, row};
use crate::config::problem::Report;
use crate::config::quantity::Time;
use crate::config::tls;
use crate::config::url::{self, Url};
use crate::plan::issuer::KeySource;
use crate::plan::{Issuer, Key};
use crate::policy::auth::credential;
use crate::policy::auth::jwt::claims::Path;
use crate::policy::auth::jwt::{Algorithm, Expected, Required};
use crate::units::{IssuerId, KeyId, hex};

/// The issuer of each row of the keys that one has made.
pub(super) type Issued = BTreeMap<String, String>;

/// The file with the rows of its issuers among its keys.
pub(super) fn join<'a>(file: Cow<'a, file::File>, report: &mut Report<'_>) -> (Cow<'a, file::File>, Issued) {
    let mut issued = Issued::new();
    if file.issuer.is_empty() {
        return (file, issued);
    }
    let mut joined = file.into_owned();
    let mut rows = Vec::new();
    for (name, issuer) in &joined.issuer {
        rows.extend(teams(&joined, issuer).into_iter().map(|team| {
            let key = row_name(name, issuer, team);
            let row = template(issuer, &key, team);
            (name.clone(), key, row)
        }));
    }
    for (name, key, row) in rows {
        if joined.key.contains_key(&key) {
            let text = format!("makes the row '{key}', and {} has that name", owner(&issued, &key));
            report.problem(&["issuer", &name], text);
        } else {
            joined.key.insert(key.clone(), row);
            issued.insert(key, name);
        }
    }
    report.issued = issued.clone();
    (Cow::Owned(joined), issued)
}

fn owner(issued: &Issued, key: &str) -> String {
    issued.get(key).map_or_else(|| format!("[key.{key}]"), |issuer| format!("one of [issuer.{issuer}]"))
}

/// The teams that tokens of an issuer may be mapped to; `None` for a row without a team.
fn teams<'a>(file: &'a file::File, issuer: &'a file::Issuer) -> BTreeSet<Option<&'a str>> {
    let mut teams = BTreeSet::new();
    if issuer.claims.team.is_some() {
        let names: Vec<&String> = match issuer.teams.is_empty() {
            true => file.team.keys().collect(),
            false => issuer.teams.values().collect(),
        };
        teams
            .extend(names.into_iter().filter(|team| file.team.contains_key(*team)).map(|team| Some(&**team)));
    }
    match &issuer.team {
        Some(team) if file.team.contains_key(team) => _ = teams.insert(Some(&**team)),
        None if issuer.claims.team.is_none() => _ = teams.insert(None),
        _ => {}
    }
    teams
}

/// `corp` for what is mapped by no claim, `corp.search` for team search.
fn row_name(name: &str, issuer: &file::Issuer, team: Option<&str>) -> String {
    match team {
        Some(team) if issuer.claims.team.is_some() => format!("{name}.{team}"),
        _ => name.to_owned(),
    }
}

/// The row as a key would stand in the file. Its digest stands for the issuer, so that responses to its callers end when it
/// becomes another one; no secret has it, and no caller is looked for by it.
fn template(issuer: &file::Issuer, key: &str, team: Option<&str>) -> file::Key {
    let parts = [Some("issuer"), Some(key), Some(iss(issuer)), issuer.jwks_url.as_deref()];
    let parts: Vec<&str> = parts.into_iter().map(Option::unwrap_or_default).collect();
    file::Key {
        sha256: hex(&credential::digest(parts.join("\0").as_bytes())),
        team: team.map(str::to_owned),
        expires: None,
        tags: issuer.tags.clone(),
        metadata: BTreeMap::new(),
        models: issuer.models.clone(),
        trace: issuer.trace,
        apis: issuer.apis.clone(),
        requests_per_minute: issuer.requests_per_minute,
        requests_burst: issuer.requests_burst,
        tokens_per_minute: issuer.tokens_per_minute,
        tokens_burst: issuer.tokens_burst,
        in_flight_max: issuer.in_flight_max,
        shadow: issuer.shadow.clone(),
        budgets: issuer.budgets.clone(),
        names_users: true,
    }
}

fn iss(issuer: &file::Issuer) -> &str {
    issuer.issuer.as_deref().or(issuer.url.as_deref()).unwrap_or_default()
}

/// One row per issuer, by name.
pub(super) fn compile(source: &Source<'_>, keys: &[Key], report: &mut Report<'_>) -> Vec<Issuer> {
    let all = &source.file.issuer;
    if all.is_empty() {
        return Vec::new();
    }
    let egress = Egress::compile(source, report);
    let mut trusts = Trusts::default();
    let mut issuers = Vec::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, (name, issuer)) in all.iter().enumerate() {
        let one = One { name, issuer };
        check_name(&["issuer", name], name, NAME_SIGNS, report);
        if let Some(other) = seen.insert(iss(issuer), name) {
            let text = format!("is that of [issuer.{other}] too; expected one table for each issuer");
            report.problem(&one.at(one.iss_key()), text);
        }
        one.times(report);
        let expected = one.expected(report);
        let (teams, other) = one.rows(source, keys, report);
        let key_source = one.source(source, &egress, &mut trusts, report);
        let Some((expected, key_source)) = expected.zip(key_source) else { continue };
        issuers.push(Issuer {
            id: IssuerId::new(index),
            name: name.as_str().into(),
            expected,
            teams,
            other,
            source: key_source,
            refresh: issuer.refresh.0,
            refresh_min: issuer.refresh_min.0,
            age_max: issuer.age_max.0,
        });
    }
    issuers
}

/// One issuer as written.
struct One<'a> {
    name: &'a str,
    issuer: &'a file::Issuer,
}

impl One<'_> {
    fn at<'a>(&'a self, key: &'a str) -> [&'a str; 3] {
        ["issuer", self.name, key]
    }

    /// The key under which its `iss` stands.
    fn iss_key(&self) -> &'static str {
        if self.issuer.issuer.is_some() { "issuer" } else { "url" }
    }

    fn times(&self, report: &mut Report<'_>) {
        let issuer = self.issuer;
        within(&self.at("clock_skew"), issuer.clock_skew, Time::seconds(0), Time::minutes(10), report);
        within(&self.at("refresh_min"), issuer.refresh_min, Time::seconds(1), Time::minutes(60), report);
        within(&self.at("refresh"), issuer.refresh, issuer.refresh_min, Time::seconds(86_400), report);
        within(&self.at("age_max"), issuer.age_max, issuer.refresh, Time::seconds(30 * 86_400), report);
    }

    fn expected(&self, report: &mut Report<'_>) -> Option<Expected> {
        let issuer = self.issuer;
        let before = report.problems.len();
        if issuer.issuer.as_deref() == Some("") {
            report.problem(&self.at("issuer"), "is empty; expected what tokens have for 'iss'");
        }
        if issuer.audience.is_empty() || issuer.audience.iter().any(String::is_empty) {
            let text = "expected what tokens have for 'aud', for example [\"ringway\"]: tokens for others would be \
                        taken without";
            report.problem(&self.at("audience"), text);
        }
        let algorithms = issuer.algorithms.iter().enumerate().filter_map(|(at, name)| {
            let known = Algorithm::named(name).ok_or_else(|| {
                let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
                format!("is \"{name}\"; expected one with a public key: {}", known.join(", "))
            });
            report.take(&["issuer", self.name, "algorithms", &format!("[{at}]")], known)
        });
        let algorithms: Box<[Algorithm]> = algorithms.collect();
        if issuer.algorithms.is_empty() {
            report.problem(&self.at("algorithms"), "is empty, so no token could be valid");
        }
        let user = self.path(&["claims", "user"], &issuer.claims.user, report);
        let team = issuer.claims.team.as_ref().map(|team| self.path(&["claims", "team"], team, report));
        let required = issuer.required.iter().map(|(claim, values)| {
            if values.is_empty() {
                report.problem(
                    &["issuer", self.name, "required", claim],
                    "is empty, so no token could be valid",
                );
            }
            let values = values.iter().map(|value| value.as_str().into()).collect();
            Required { claim: self.path(&["required", claim], claim, report), values }
        });
        let required = required.collect();
        (report.problems.len() == before).then(|| Expected {
            issuer: iss(issuer).into(),
            audiences: issuer.audience.iter().map(|audience| audience.as_str().into()).collect(),
            algorithms,
            skew: issuer.clock_skew.0.0 / 1_000_000_000,
            user,
            team,
            required,
        })
    }

    fn path(&self, key: &[&str], text: &str, report: &mut Report<'_>) -> Path {
        let path = Path::new(text);
        if !path.is_path() {
            let key = [&["issuer", self.name], key].concat();
            report.problem(&key, "expected the name of a claim, like \"groups\" or \"realm_access.roles\"");
        }
        path
    }

    /// The row of each value of the team's claim, and that of other tokens.
    fn rows(
        &self,
        source: &Source<'_>,
        keys: &[Key],
        report: &mut Report<'_>,
    ) -> (BTreeMap<Box<str>, KeyId>, Option<KeyId>) {
        let (issuer, file) = (self.issuer, source.file);
        if issuer.claims.team.is_none() && !issuer.teams.is_empty() {
            report.problem(&self.at("teams"), "has no claims.team whose values it could map");
        }
        if issuer.claims.team.is_some() && issuer.teams.is_empty() && file.team.is_empty() {
            report.problem(&["issuer", self.name, "claims", "team"], "has no [team.NAME] to lead to");
        }
        let key_of = |team: Option<&str>| {
            let name = row_name(self.name, issuer, team);
            keys.iter().find(|key| *key.name == *name).map(|key| key.id)
        };
        for (value, team) in &issuer.teams {
            if row(&file.team, team).is_none() {
                let path = ["issuer", self.name, "teams", value];
                report.problem(&path, format!("there is no [team.{team}]"));
            }
        }
        if let Some(team) = &issuer.team
            && row(&file.team, team).is_none()
        {
            report.problem(&self.at("team"), format!("there is no [team.{team}]"));
        }
        let mapped = |value: &str, team: &str| Some((value.into(), key_of(Some(team))?));
        let teams = match (issuer.claims.team.is_some(), issuer.teams.is_empty()) {
            (false, _) => BTreeMap::new(),
            (true, true) => file.team.keys().filter_map(|team| mapped(team, team)).collect(),
            (true, false) => issuer.teams.iter().filter_map(|(value, team)| mapped(value, team)).collect(),
        };
        let is_open = issuer.team.is_some() || issuer.claims.team.is_none();
        (teams, is_open.then(|| key_of(issuer.team.as_deref())).flatten())
    }

    fn source(
        &self,
        source: &Source<'_>,
        egress: &Egress,
        trusts: &mut Trusts,
        report: &mut Report<'_>,
    ) -> Option<KeySource> {
        let (key, text) = match (&self.issuer.url, &self.issuer.jwks_url) {
            (Some(url), None) => ("url", url),
            (None, Some(url)) => ("jwks_url", url),
            (Some(_), Some(_)) => {
                report.problem(&self.at("jwks_url"), "is there beside url; take away one of them");
                return None;
            }
            (None, None) => {
                report.problem(&self.at("url"), "is missing; expected the URL of the issuer, or jwks_url");
                return None;
            }
        };
        if key == "jwks_url" && self.issuer.issuer.is_none() {
            report.problem(&self.at("issuer"), "is missing; expected what tokens have for 'iss'");
        }
        let url: Url = report.take(&self.at(key), url::parse_base(text))?;
        if !url.tls && !url.is_near() {
            let text = "expected https: who stands between could sign tokens (http only on this machine)";
            report.problem(&self.at(key), text);
            return None;
        }
        let tls = match (url.tls, &self.issuer.ca_file) {
            (true, Some(path)) => {
                let trust = report.take(&self.at("ca_file"), trusts.authority(path, source))?;
                Some(report.take(&self.at("ca_file"), tls::client(trust, None))?)
            }
            (true, None) => {
                let trust = report.take(&self.at(key), trusts.machine(source))?;
                Some(report.take(&self.at(key), tls::client(trust, None))?)
            }
            (false, Some(_)) => {
                report.problem(&self.at("ca_file"), "is for https only; this issuer has another url");
                return None;
            }
            (false, None) => None,
        };
        let proxy = if url.is_near() { None } else { egress.proxy_to(&url, source, report) };
        let is_discovery = key == "url";
        let page = match is_discovery {
            true => format!("{}/.well-known/openid-configuration", text.trim_end_matches('/')),
            false => text.clone(),
        };
        let ca_file = self.issuer.ca_file.as_ref().map(|path| path.display().to_string().into());
        Some(KeySource { url: page.into(), is_discovery, tls, ca_file, proxy })
    }
}
