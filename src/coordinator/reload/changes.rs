//! Changes of the roster: written to the store, then put in force, one after the other.
//!
//! The file is not read again: the plan is compiled from what was read last and from the roster, so that a key can be revoked
//! whatever has become of the file. Probes and lookups go on. What another process changed in the same store is followed.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::super::roster::{self, Author, Basis, Change, ChangeError, Changed, Edit, Roster, RowName, Scope};
use super::{Reloader, put};
use crate::clock;
use crate::config::{Compiled, LogLevel, Problems, Written};
use crate::coordinator::Watch;
use crate::store::{AccessKind, Store, StoreError};

/// How often a change is tried when another process changes the roster at the same time.
const ATTEMPTS: u32 = 5;

/// What was written, and the plan that it makes; `None` if it makes none.
struct Outcome {
    compiled: Option<Compiled>,
    roster: Roster,
    secret: Option<String>,
    compiled_ms: u64,
}

impl Reloader {
    /// Makes a change: in the store with its audit entry, then on every shard.
    pub(super) async fn change(&mut self, change: Change, author: Author) -> Result<Changed, ChangeError> {
        let watch = self.current.load_full();
        let (Some(source), Some(ledger)) = (&mut self.source, &watch.settings.ledger) else {
            return Err(ChangeError::NoStore);
        };
        is_of_store(&source.basis.written, &change, &author)?;
        let (basis, database) = (source.basis.clone(), ledger.database().to_owned());
        let work = move || {
            let mut store = Store::open(&database, true).map_err(failed)?;
            write(&mut store, &basis, &change, &author)
        };
        let done = spawn_blocking(work).await.map_err(|error| ChangeError::Failed(error.to_string()))??;
        source.basis.roster = Arc::new(done.roster);
        let generation = match done.compiled {
            None => {
                watch.show(&source.basis.roster);
                watch.plan.generation
            }
            Some(compiled) => {
                source.basis.compiled_ms = done.compiled_ms;
                self.put_roster(compiled).await.plan.generation
            }
        };
        Ok(Changed { secret: done.secret, generation })
    }

    /// Puts in force what another process has changed in the store, and what the time has changed: the end of a secret.
    pub(super) async fn follow_roster(&mut self) {
        let watch = self.current.load_full();
        let (Some(source), Some(ledger)) = (&mut self.source, &watch.settings.ledger) else { return };
        let database = ledger.database().to_owned();
        // Opened anew each time: the file may have been replaced.
        let look = move || Store::read(&database)?.access_revision();
        // A store that cannot be read says so elsewhere; it is opened anew the next time.
        let Ok(Ok(revision)) = spawn_blocking(look).await else { return };
        let old = &source.basis.roster;
        let is_stale = revision != old.revision || old.unreadable.is_some();
        let is_due = old.due(source.basis.compiled_ms).is_some_and(|end| end <= clock::unix_ms());
        if !is_stale && !is_due {
            return;
        }
        let (basis, database) = (source.basis.clone(), ledger.database().to_owned());
        let work = move || {
            let mut roster = match is_stale {
                true => Roster::new(Store::open(&database, true)?.access()?),
                false => (*basis.roster).clone(),
            };
            let compiled_ms = clock::unix_ms();
            let compiled = roster::compile(&basis.written, &mut roster, &*basis.recorded, None, |_| true);
            Ok::<_, StoreError>((compiled, roster, compiled_ms))
        };
        match spawn_blocking(work).await {
            Ok(Ok((Ok(compiled), roster, compiled_ms))) => {
                say_disabled(&watch, &source.basis.roster, &roster);
                source.basis.roster = Arc::new(roster);
                source.basis.compiled_ms = compiled_ms;
                self.put_roster(compiled).await;
            }
            Ok(Ok((Err(problems), ..))) => {
                watch.say(LogLevel::Error, &format!("the roster of the store is not in force: {problems}"));
            }
            Ok(Err(_)) | Err(_) => {} // tried again at the next look
        }
    }

    /// Puts a plan of the same file in force. Its backends are those of the plan before, so probes and lookups go on.
    async fn put_roster(&mut self, compiled: Compiled) -> Arc<Watch> {
        let old = self.current.load_full();
        let mut plan = compiled.plan;
        plan.follow(&old.plan);
        plan.keep_tls(&old.plan);
        let source = self.source.as_ref().expect("a roster is compiled with a file");
        put(&self.current, source, plan).await
    }
}

fn failed(error: StoreError) -> ChangeError {
    ChangeError::Failed(error.to_string())
}

/// What is in the file is changed there. Of other teams' rows in it an author who is confined to one hears nothing.
fn is_of_store(written: &Written, change: &Change, author: &Author) -> Result<(), ChangeError> {
    let (kind, name) = change.row();
    let found = match kind {
        AccessKind::Team => written.file.team.contains_key(name).then_some(Some(name)),
        AccessKind::Key => written.file.key.get(name).map(|key| key.team.as_deref()),
        AccessKind::AdminToken => None,
    };
    let Some(team) = found else { return Ok(()) };
    let word = kind.word();
    if matches!(&author.scope, Scope::Team(own) if team != Some(own)) {
        return Err(match change {
            Change::Create { .. } => ChangeError::Conflict(format!("there is a {word} {name} already")),
            _ => ChangeError::NotFound(format!("there is no {word} {name}")),
        });
    }
    let place = written.place(&[word, name]).unwrap_or_else(|| written.path.display().to_string());
    Err(ChangeError::ReadOnly(match change {
        Change::Create { .. } => {
            format!("there is a {word} {name} in the configuration file already ({place})")
        }
        _ => format!("{word} {name} is in the configuration file ({place}); change it there and reload"),
    }))
}

/// Writes a change to the store, once it is known that it compiles.
fn write(store: &mut Store, basis: &Basis, change: &Change, author: &Author) -> Result<Outcome, ChangeError> {
    let mut roster = (*basis.roster).clone();
    // Another process has changed keys or teams: what it changed comes into force with this change.
    let mut is_behind = false;
    for _ in 0..ATTEMPTS {
        if roster.unreadable.is_some() || store.access_revision().map_err(failed)? != roster.revision {
            is_behind = true;
            roster = Roster { disabled: roster.disabled, ..Roster::new(store.access().map_err(failed)?) };
        }
        let compiled_ms = clock::unix_ms();
        let edit = change.edit(&roster, author, compiled_ms)?;
        let mut next = roster.clone();
        let row = next.apply(&edit);
        let compiled = match row.0 {
            AccessKind::AdminToken => {
                has_team(&next, &basis.written, &row)?;
                is_behind.then(|| compile(basis, &mut next, &row)).transpose()?
            }
            _ => Some(compile(basis, &mut next, &row)?),
        };
        let Edit { row, is_removed, entry, secret } = &edit;
        let written = match is_removed {
            true => store.remove_access(roster.revision, row.kind, &row.name, entry),
            false => store.put_access(roster.revision, row, entry),
        };
        if written.map_err(failed)? {
            next.revision = roster.revision + 1;
            return Ok(Outcome { compiled, roster: next, secret: secret.clone(), compiled_ms });
        }
        roster.revision = u64::MAX; // read again
    }
    Err(ChangeError::Failed("other processes change keys all the time; try again".to_owned()))
}

fn compile(basis: &Basis, next: &mut Roster, changed: &RowName) -> Result<Compiled, ChangeError> {
    let disabled = std::mem::take(&mut next.disabled);
    let was_disabled = |row: &RowName| disabled.contains_key(row);
    roster::compile(&basis.written, next, &*basis.recorded, Some(changed), was_disabled).map_err(words)
}

/// The keys and what is wrong with them, without the file: they are not in it.
fn words(problems: Problems) -> ChangeError {
    let line = |problem: &crate::config::Problem| match problem.key.is_empty() {
        true => problem.text.clone(),
        false => format!("{}: {}", problem.key, problem.text),
    };
    ChangeError::Invalid(problems.list.iter().map(line).collect::<Vec<_>>().join("; "))
}

/// A token of a team that there is not would be one of a team that somebody else makes later.
fn has_team(roster: &Roster, written: &Written, row: &RowName) -> Result<(), ChangeError> {
    let Some(team) = roster.rows.get(row).and_then(|entry| entry.text("team")) else { return Ok(()) };
    if written.file.team.contains_key(team) || roster.find(AccessKind::Team, team).is_some() {
        return Ok(());
    }
    Err(ChangeError::Invalid(format!("team: there is no team {team:?}")))
}

/// Tells an operator of rows that are out of force from now on.
fn say_disabled(watch: &Watch, old: &Roster, new: &Roster) {
    for ((kind, name), reason) in new.disabled.iter().filter(|(row, _)| !old.disabled.contains_key(*row)) {
        let words = format!("{} {name} of the store is disabled: {reason}", kind.word());
        watch.say(LogLevel::Error, &words);
    }
}
