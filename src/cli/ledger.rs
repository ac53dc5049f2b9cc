//! Opens the store of a configuration for a command, with everything in it that has been settled so far.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::{Place, complain};
use crate::config::{self, PriceList, Process, StoreSettings};
use crate::store::{Store, StoreError, folder, recover};

/// How long a command waits for the gateway to move what its journals hold.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// The store, to read from. What a gateway that is gone left in its journals is moved into it first; what a running one
/// has in its own is waited for, shortly. And what tokens cost. Error: the exit status of a command that has said why.
pub(super) fn open(place: Place) -> Result<(Store, PriceList), ExitCode> {
    let (settings, prices) = settings(place)?;
    if let Err(error) = bring_up_to_date(&settings) {
        complain(&format!("note: the newest requests may be missing: {error}"));
    }
    if !settings.database.exists() {
        return Err(complain(&format!(
            "{} is not there: nothing has been kept yet",
            settings.database.display()
        )));
    }
    Store::read(&settings.database)
        .map(|store| (store, prices))
        .map_err(|error| complain(&format!("{} cannot be read: {error}", settings.database.display())))
}

fn settings(place: Place) -> Result<(StoreSettings, PriceList), ExitCode> {
    let loaded = config::locate(place.named()).and_then(|file| config::load_store(&file, &Process));
    match loaded {
        Ok((Some(settings), prices)) => Ok((settings, prices)),
        Ok((None, _)) => Err(complain("usage is not kept: [store] enabled = false")),
        Err(problems) => Err(complain(&problems.to_string())),
    }
}

fn bring_up_to_date(settings: &StoreSettings) -> Result<(), StoreError> {
    let left_over = folder::Run::left_over(&settings.directory)?;
    if !left_over.is_empty() {
        drop(left_over); // its locks
        let mut store = Store::open(&settings.database, true)?;
        let recovered = recover::all(&settings.directory, &mut store)?;
        if recovered.damaged_bytes > 0 {
            complain(&format!(
                "note: {} bytes of a journal hold no valid record and were passed over",
                recovered.damaged_bytes
            ));
        }
    }
    let ends = folder::live_ends(&settings.directory)?;
    if ends.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let store = Store::read(&settings.database)?;
        let is_behind = |(journal, end): &(String, u64)| store.moved_to(journal).map(|moved| moved < *end);
        let behind = ends.iter().map(is_behind).collect::<Result<Vec<_>, _>>()?;
        if !behind.contains(&true) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(StoreError::Journal(std::io::Error::other(
                "the gateway has not yet moved all that its journals hold into the store",
            )));
        }
        thread::sleep(LOOK);
    }
}
