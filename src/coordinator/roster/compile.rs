//! From the file and the roster to a plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Roster, RowName};
use crate::clock;
use crate::config::{
    self, Compiled, Environment, Noting, Problems, Recorded, Stamp, StoreSettings, Written, compile_with,
};
use crate::store::Store;

/// What the plan in force was made of.
#[derive(Clone)]
pub struct Basis {
    /// The file, as it was read last.
    pub written: Arc<Written>,
    /// What it found around it.
    pub recorded: Arc<Recorded>,
    /// The roster.
    pub roster: Arc<Roster>,
    /// When it was compiled, Unix milliseconds: secrets that end after that are in it.
    pub compiled_ms: u64,
}

/// The first plan of a process.
pub struct Loaded {
    /// The plan, and what the process is started with.
    pub compiled: Compiled,
    /// What it was made of.
    pub basis: Basis,
    /// The files that were read, as they were then.
    pub files: Vec<(PathBuf, Option<Stamp>)>,
}

/// Reads the file, and the roster of the store that it names. Rows of the roster that do not go with the file are disabled and
/// noted: a process that does not start would be worse.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let noting = Noting::default();
    let written = config::read_file(path, &noting)?;
    // What is wrong with [store] is told with everything else.
    let settings = config::compile::store(&written, &noting).ok().and_then(|(settings, _)| settings);
    let mut roster = settings.as_ref().map(read).unwrap_or_default();
    let compiled_ms = clock::unix_ms();
    let mut compiled = compile(&written, &mut roster, &noting, None, |_| true)?;
    compiled.notes.extend(roster.unreadable.as_ref().map(|reason| {
        format!(
            "requests need a key, and only keys of the file are known: the store cannot be read: {reason}"
        )
    }));
    let told = roster
        .disabled
        .iter()
        .map(|((kind, name), reason)| format!("{} {name} of the store is disabled: {reason}", kind.word()));
    compiled.notes.extend(told);
    let files = noting.files();
    let basis = Basis {
        written: Arc::new(written),
        recorded: Arc::new(noting.recorded()),
        roster: Arc::new(roster),
        compiled_ms,
    };
    Ok(Loaded { compiled, basis, files })
}

/// The roster as the store has it. A store that is not there yet has none.
fn read(settings: &StoreSettings) -> Roster {
    if !settings.database.exists() {
        return Roster::default();
    }
    match Store::open(&settings.database, true).and_then(|mut store| store.access()) {
        Ok(rows) => Roster::new(rows),
        Err(error) => Roster::unreadable(format!("{}: {error}", settings.database.display())),
    }
}

/// Compiles the file with the roster. `changed` is judged like a row of the file. A row with a problem that `may_disable` is
/// left out, and noted in the roster.
///
/// # Errors
/// Everything that is wrong with the rest.
pub fn compile(
    written: &Written,
    roster: &mut Roster,
    environment: &dyn Environment,
    changed: Option<&RowName>,
    may_disable: impl Fn(&RowName) -> bool,
) -> Result<Compiled, Problems> {
    let now_ms = clock::unix_ms();
    let mut disabled = BTreeMap::new();
    loop {
        let (mut stored, unfit) = roster.stored(now_ms, &disabled);
        if let Some(reason) = changed.and_then(|changed| unfit.get(changed)) {
            return Err(Problems::of_file(&written.path, reason.clone()));
        }
        disabled.extend(unfit);
        stored.changed = changed.map(|(kind, name)| (kind.word(), name.clone()));
        match compile_with(written, &stored, environment) {
            Ok(compiled) => {
                roster.disabled = disabled;
                return Ok(compiled);
            }
            Err(problems) => {
                let found = rows_of(&problems, roster, |row| {
                    !disabled.contains_key(row) && Some(row) != changed && may_disable(row)
                });
                if found.is_empty() {
                    return Err(problems);
                }
                disabled.extend(found);
            }
        }
    }
}

/// The rows that problems are about, each with the first of them.
fn rows_of(
    problems: &Problems,
    roster: &Roster,
    is_meant: impl Fn(&RowName) -> bool,
) -> BTreeMap<RowName, String> {
    let mut found = BTreeMap::new();
    for problem in &problems.list {
        let is_about = |(kind, name): &RowName| problem.is_at(&[kind.word(), name]);
        if let Some(row) = roster.rows.keys().find(|row| is_about(row) && is_meant(row)) {
            found.entry(row.clone()).or_insert_with(|| format!("{}: {}", problem.key, problem.text));
        }
    }
    found
}
