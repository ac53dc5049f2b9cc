//! From what was written to what runs: the only step that fails, and it fails whole.
//!
//! Pure: everything outside of the file is asked of the [`Environment`]. It can be called again for a new version
//! of the file; ids, cells and generation of the new plan start afresh, whoever reloads carries over what lives on.
//! Rows are in the order of their names, so the same file always yields the same ids.

mod aws;
mod backends;
mod bounds;
mod budgets;
mod cache;
mod caller;
mod cors;
mod egress;
mod end_users;
mod external;
mod guards;
mod ids;
mod issuers;
mod kept;
mod keys;
mod listen;
mod models;
mod prices;
mod routes;
mod secrets;
mod shards;
mod shared;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::file::{self, Driver, File, LogLevel};
use super::problem::{Problems, Report};
use super::read::Written;
use super::stored::Stored;
use crate::plan::cells::{BackendCells, DeploymentCells};
use crate::plan::placements::Placements;
use crate::plan::{Plan, Table};
use crate::policy::auth::credential::{KeyTable, Token};
pub use prices::PriceList;
pub use shared::SharedSettings;
pub use store::StoreSettings;

/// A configuration that holds.
pub struct Compiled {
    /// What the shards read. Its generation is 1.
    pub plan: Plan,
    /// What the process is started with.
    pub settings: Settings,
    /// Allowed, but worth a look: one sentence each.
    pub notes: Vec<String>,
}

/// What the process is started with and the shards do not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The operator's listener.
    pub admin: SocketAddr,
    /// What it asks for, if anything.
    pub admin_token: Option<Token>,
    /// The names under which it may be reached without, in lower case.
    pub admin_hosts: Box<[Box<str>]>,
    /// How to wait for the kernel.
    pub driver: Driver,
    /// Where finished exchanges are written down.
    pub access_log: AccessLog,
    /// Where usage is kept; `None` if it is not.
    pub store: Option<StoreSettings>,
    /// Where limits are shared with other gateways; `None` if they are not.
    pub shared: Option<SharedSettings>,
    /// The least serious level that is shown on standard error.
    pub log: LogLevel,
    /// Whether a change of the files it was read from is taken up without being asked.
    pub watch: bool,
}

/// Where finished exchanges are written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// What every part of the compiler looks at.
struct Source<'a> {
    file: &'a File,
    /// The folder of the configuration file: relative paths start here.
    folder: &'a Path,
    environment: &'a dyn Environment,
    /// What joined the file's keys and teams.
    stored: &'a Stored,
    /// Which of the keys are an issuer's.
    issued: &'a issuers::Issued,
}

impl Source<'_> {
    /// Whether a request needs a key: there is one, or there was, or the operator says so.
    fn requires_keys(&self) -> bool {
        !self.file.key.is_empty()
            || !self.file.issuer.is_empty()
            || self.file.require_keys
            || self.stored.had_keys
    }
}

/// Decides everything that can be decided before the first request.
///
/// # Errors
/// Everything that is wrong, at once. Nothing of the file runs then.
pub fn compile(written: &Written, environment: &dyn Environment) -> Result<Compiled, Problems> {
    compile_with(written, &Stored::default(), environment)
}

/// The same with the keys and teams of the store, which are judged like those of the file.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    written: &Written,
    stored: &Stored,
    environment: &dyn Environment,
) -> Result<Compiled, Problems> {
    let mut report = Report::new(&written.lines);
    report.problems.extend(written.unknown.iter().cloned());
    let folder = written.path.parent().unwrap_or(Path::new(""));
    let file = stored.join(&written.file, &mut report);
    let (file, issued) = issuers::join(file, &mut report);
    let source = Source { file: &file, folder, environment, stored, issued: &issued };
    let compiled = rows(&source, &mut report);
    match compiled {
        Some((plan, settings)) if report.problems.is_empty() => {
            Ok(Compiled { plan, settings, notes: report.notes })
        }
        _ => {
            let mut list = report.problems;
            list.sort();
            list.dedup();
            assert!(!list.is_empty(), "a part that failed says why");
            Err(Problems { file: written.path.clone(), list })
        }
    }
}

/// Every part is compiled even if an earlier one failed, so that all problems are found; `None` if one did.
fn rows(source: &Source<'_>, report: &mut Report<'_>) -> Option<(Plan, Settings)> {
    let file = source.file;
    if !bounds::tables(file, report) {
        return None;
    }
    let shards = shards::compile(&file.shards, &source.environment.machine(), report);
    let listeners = listen::listeners(source, shards.len(), report);
    let trusted_proxies = listen::trusted_proxies(&file.trusted_proxies, report);
    let pages = cors::pages(&file.cors, report);
    let admin = listen::admin(source, &listeners, report);
    let timeouts = bounds::timeouts(&file.timeouts, report);
    let limits = bounds::limits(&file.limits, report);
    let resolve_every = bounds::dns(&file.dns, report);
    let scrape_every = bounds::scrape(&file.routing, report);
    let session_headers = bounds::session_headers(&file.routing, report);
    let estimate = bounds::estimate(&file.estimate, report);
    bounds::health(&["health"], &file.health, report);
    let mut backends = backends::compile(source, report);
    let models::Compiled { mut models, names, deployments } = models::compile(source, &timeouts, report);
    let common = keys::Common {
        file,
        stored: source.stored,
        issued: source.issued,
        models: caller::Models { names: &names, count: models.len() },
        now: source.environment.unix_seconds(),
    };
    let keys::Compiled { mut teams, mut keys } = keys::compile(&common, report);
    let issuers = issuers::compile(source, &keys, report);
    prices::compile(source, &names, &mut models, report);
    let has_routes = routes::compile(file, &names, &keys, &mut models, report);
    let budgets = budgets::compile(file, &teams, &mut keys, &models, report);
    let mut users = end_users::compile(source, &keys, &models, report);
    let shared = shared::compile(source, report);
    let gateways = shared.as_ref().map_or(1, |shared| shared.gateways);
    shared::divide(gateways, &mut teams, &mut keys, users.as_mut());
    let guards = guards::compile(source, (&teams, &keys), &names, (&mut models, &backends), report);
    let cache = cache::compile(&file.cache, &models, shards.len(), report);
    let admin_hosts = listen::admin_hosts(&file.admin.hosts, report);
    let admin_token = secrets::admin_token(source, &keys, report);
    let access_log = access_log(source, report);
    let store = store::compile(source, report);
    if !report.problems.is_empty() {
        return None;
    }
    let ids = ids::compile(source, &mut backends, &mut models, report);
    if !report.problems.is_empty() {
        return None;
    }
    let own = keys.iter().filter(|key| key.credential.issuer.is_none());
    let digests = own.flat_map(|key| key.credential.digests().map(|digest| (*digest, key.id)));
    let key_table = KeyTable::of(digests.collect());
    let shard_count = shards.len();
    let patterns = models::patterns(&models);
    let plan = Plan {
        generation: 1,
        listeners: listeners.into(),
        shards: shards.into(),
        timeouts,
        resolve_every,
        scrape_every,
        session_headers,
        has_routes,
        limits,
        backends: Table::new(backends, |_| BackendCells::new(shard_count)),
        deployments: Table::new(deployments, DeploymentCells::new),
        models: Table::new(models, |_| Default::default()),
        names,
        budgets: Table::new(budgets, |_| Default::default()),
        users,
        guards: Table::new(guards, |_| Default::default()),
        cache,
        patterns,
        teams: Table::new(teams, |_| Default::default()),
        keys_required: source.requires_keys(),
        issuers: Table::new(issuers, |_| Default::default()),
        keys: Table::new(keys, |_| Default::default()),
        key_table,
        trusted_proxies,
        pages,
        debug_headers: file.debug_headers,
        half_close_is_gone: file.half_close_is_gone,
        output_tokens_default: file.estimate.output_tokens,
        estimate,
        ids,
        placements: Arc::new(Placements::new(shard_count)),
        gateways,
    };
    plan.open_prefixes();
    Some((
        plan,
        Settings {
            admin: admin?,
            admin_token,
            admin_hosts,
            driver: file.driver,
            access_log: access_log?,
            store,
            shared,
            log: file.log.level,
            watch: file.reload.watch,
        },
    ))
}

/// Where a file says that usage is kept, and what tokens cost, whatever else is wrong with it: for commands that read the
/// store.
///
/// # Errors
/// What is wrong with those parts.
pub fn store(
    written: &Written,
    environment: &dyn Environment,
) -> Result<(Option<StoreSettings>, PriceList), Problems> {
    let mut report = Report::new(&written.lines);
    let folder = written.path.parent().unwrap_or(Path::new(""));
    let (stored, issued) = (Stored::default(), issuers::Issued::default());
    let source = Source { file: &written.file, folder, environment, stored: &stored, issued: &issued };
    let settings = store::compile(&source, &mut report);
    let prices = prices::list(&source, &mut report);
    match report.problems.is_empty() {
        true => Ok((settings, prices)),
        false => Err(Problems { file: written.path.clone(), list: report.problems }),
    }
}

fn access_log(source: &Source<'_>, report: &mut Report<'_>) -> Option<AccessLog> {
    match source.file.access_log.path.as_str() {
        "off" => Some(AccessLog::Off),
        "stdout" => Some(AccessLog::Stdout),
        path if path.contains('/') => Some(AccessLog::File(source.folder.join(path))),
        _ => {
            report.problem(
                &["access_log", "path"],
                "expected \"off\", \"stdout\" or the path of a file, with a slash",
            );
            None
        }
    }
}

/// Reads a file the configuration names, from its own folder if the path is relative.
fn file_bytes(source: &Source<'_>, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let path = source.folder.join(path);
    let bytes = source.environment.file(&path, bytes_max);
    bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The row of a name: its place among the sorted names.
fn row<T>(table: &BTreeMap<String, T>, name: &str) -> Option<usize> {
    table.keys().position(|key| key == name)
}

/// Names of backends and keys go into header values, labels and logs as they are.
fn check_name(path: &[&str], name: &str, also: &str, report: &mut Report<'_>) {
    if let Err(problem) = name_of(name, also) {
        report.problem(path, problem);
    }
}

fn name_of(name: &str, also: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits) {
        return Ok(());
    }
    let also: Vec<String> = also.chars().map(String::from).collect();
    Err(format!("is no name; expected 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9 and {}", also.join(" ")))
}

/// Whether a key may have this name.
///
/// # Errors
/// What is wrong with it, as a clause that follows the name.
pub fn check_key_name(name: &str) -> Result<(), String> {
    name_of(name, NAME_SIGNS)
}

/// The longest name in bytes.
const NAME_BYTES_MAX: usize = 128;
/// What a name may hold beside letters and digits.
const NAME_SIGNS: &str = "-_.";
/// The same for models: `meta-llama/Llama-3.3:fp8`.
const MODEL_SIGNS: &str = "-_.:/@+";

#[cfg(test)]
mod tests;
