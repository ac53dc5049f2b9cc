//! Limits that several gateways share.

use super::bounds::within;
use super::file::WhenGone;
use super::{Source, secrets};
use crate::config::problem::Report;
use crate::config::secret::Secret;
use crate::plan::users::UserRules;
use crate::plan::{Key, Team};
use crate::policy::limits::caller::CallerLimits;

/// What `[shared]` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedSettings {
    /// The server, without user and password.
    pub url: String,
    /// The user there.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Gateways that share the limits.
    pub gateways: u32,
    /// What remains of limits per minute while Redis is away.
    pub when_gone: WhenGone,
    /// What remains of budgets.
    pub budgets_when_gone: WhenGone,
    /// What names in Redis start with.
    pub prefix: String,
}

/// `None` if limits are not shared.
pub(super) fn compile(source: &Source<'_>, report: &mut Report<'_>) -> Option<SharedSettings> {
    let shared = &source.file.shared;
    let Some(url) = &shared.url else {
        if *shared != Default::default() {
            report.problem(&["shared"], "has no url of a Redis server: url = \"redis://HOST:PORT\"");
        }
        return None;
    };
    if !cfg!(feature = "redis") {
        report.problem(&["shared", "url"], "this program was built without the feature redis");
    }
    report.take(&["shared", "url"], check(url));
    let Some(gateways) = shared.gateways else {
        report.problem(&["shared"], "has no gateways: how many of them share the limits");
        return None;
    };
    within(&["shared", "gateways"], gateways, 2, GATEWAYS_MAX, report);
    let is_prefix = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:{}".contains(&byte);
    if shared.prefix.is_empty() || shared.prefix.len() > 64 || !shared.prefix.bytes().all(is_prefix) {
        report.problem(&["shared", "prefix"], "expected 1 to 64 of a-z, A-Z, 0-9 and - _ . : { }");
    }
    if shared.username.is_some() && shared.password.is_none() {
        report.problem(&["shared", "username"], "has no password beside it");
    }
    let password = shared.password.as_ref();
    let password = password.and_then(|place| secrets::read(&["shared", "password"], place, source, report));
    Some(SharedSettings {
        url: url.clone(),
        username: shared.username.clone(),
        password,
        gateways: gateways.max(1),
        when_gone: shared.when_gone,
        budgets_when_gone: shared.budgets_when_gone.unwrap_or(shared.when_gone),
        prefix: shared.prefix.clone(),
    })
}

/// Never repeats the URL, which may hold a password.
fn check(url: &str) -> Result<(), &'static str> {
    const FORM: &str = "expected redis://HOST:PORT or rediss://HOST:PORT, with or without /DATABASE";
    let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://")).ok_or(FORM)?;
    if rest.contains('@') {
        return Err(
            "holds a user or password; write username = \"NAME\" and password = { env = \"NAME\" } instead",
        );
    }
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (place, "6379"),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    let is_form = !host.is_empty()
        && host.bytes().all(is_host)
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && (database.is_empty() || database.parse::<u16>().is_ok());
    is_form.then_some(()).ok_or(FORM)
}

/// Marks the limits per minute as shared. What cannot be shared is divided: each gateway has its part.
pub(super) fn divide(gateways: u32, teams: &mut [Team], keys: &mut [Key], users: Option<&mut UserRules>) {
    if gateways < 2 {
        return;
    }
    let keys = keys.iter_mut().map(|key| &mut key.grant.limits);
    for limits in teams.iter_mut().map(|team| &mut team.limits).chain(keys) {
        limits.requests.iter_mut().chain(&mut limits.tokens).for_each(|rate| rate.gateways = gateways);
        divide_in_flight(limits, gateways);
    }
    let Some(users) = users else { return };
    divide_in_flight(&mut users.limits, gateways);
    for rate in users.limits.requests.iter_mut().chain(&mut users.limits.tokens) {
        rate.per_minute = (rate.per_minute / u64::from(gateways)).max(1);
        rate.burst = (rate.burst / u64::from(gateways)).max(1);
    }
    for row in &mut users.budgets {
        row.budget.most = (row.budget.most / u64::from(gateways)).max(1);
    }
}

fn divide_in_flight(limits: &mut CallerLimits, gateways: u32) {
    if limits.in_flight_max != u32::MAX {
        limits.in_flight_max = (limits.in_flight_max / gateways).max(1);
    }
}

/// The most gateways. Chosen, not measured: an even share of a limit should still be some requests.
const GATEWAYS_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_server_and_never_a_password() {
        for url in ["redis://r", "redis://10.0.0.1:6380", "rediss://[::1]:6379/2", "redis://cache.example/"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in
            ["r", "http://r", "redis://", "redis://:6379", "redis://r:0", "redis://r/x", "redis://:pw@r"]
        {
            let wrong = check(url).unwrap_err();
            assert!(!wrong.contains(":pw"), "{wrong}");
        }
    }
}
