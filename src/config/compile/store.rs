//! Where usage is kept.

use std::path::{Path, PathBuf};

use super::Source;
use super::bounds::within;
use crate::config::file::Fsync;
use crate::config::problem::Report;
use crate::config::quantity::{Size, Time};
use crate::units::Nanos;

/// What `[store]` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    /// Holds the journals.
    pub directory: PathBuf,
    /// The database.
    pub database: PathBuf,
    /// Whether the operator chose the directory: then a gateway that cannot write there does not start.
    pub is_chosen: bool,
    /// When what was written to a journal is forced to the disk.
    pub fsync: Fsync,
    /// Bytes that all journals may take up.
    pub journal_bytes: u64,
    /// How long exchanges are kept; `None` for ever.
    pub keep: Option<Nanos>,
    /// How long sums by hour are kept; `None` for ever.
    pub keep_sums: Option<Nanos>,
    /// Bytes of the database above which the oldest exchanges go.
    pub size_max: u64,
}

/// The folder beside the configuration file.
const FOLDER: &str = "ringway-data";
/// The folder of a gateway that is configured in /etc.
const SYSTEM_FOLDER: &str = "/var/lib/ringway";
/// The database in the data directory.
const DATABASE: &str = "ledger.db";

/// `None` if usage is not kept.
pub(super) fn compile(source: &Source<'_>, report: &mut Report<'_>) -> Option<StoreSettings> {
    let store = &source.file.store;
    within(&["store", "journal"], store.journal, Size::mib(16), Size::mib(1 << 20), report);
    within(&["store", "size"], store.size, Size::mib(16), Size::mib(1 << 30), report);
    for (key, time) in [("keep", store.keep), ("keep_sums", store.keep_sums)] {
        if time.0 != Nanos(0) {
            within(&["store", key], time, Time::minutes(60), Time::seconds(366 * 86_400), report);
        }
    }
    let directory = match &store.directory {
        Some(directory) => source.folder.join(directory),
        None => directory(source),
    };
    let database = match store.url.as_deref() {
        None => directory.join(DATABASE),
        Some(url) => match url.strip_prefix("sqlite://") {
            Some(path) if path.starts_with('/') && path.len() > 1 => PathBuf::from(path),
            _ => {
                report.problem(&["store", "url"], "expected sqlite:///PATH, with three slashes");
                return None;
            }
        },
    };
    let some = |time: Time| Some(time.0).filter(|&time| time != Nanos(0));
    store.enabled.then(|| StoreSettings {
        directory,
        database,
        is_chosen: store.directory.is_some() || store.url.is_some(),
        fsync: store.fsync,
        journal_bytes: store.journal.0,
        keep: some(store.keep),
        keep_sums: some(store.keep_sums),
        size_max: store.size.0,
    })
}

/// The first of: what systemd gives the service for its state; /var/lib/ringway for a configuration in /etc; a folder
/// beside the configuration file.
fn directory(source: &Source<'_>) -> PathBuf {
    let state = source.environment.variable("STATE_DIRECTORY");
    match state.as_deref().and_then(|folders| folders.split(':').next()).filter(|folder| !folder.is_empty()) {
        Some(state) => PathBuf::from(state),
        None if source.folder.starts_with(Path::new("/etc")) => PathBuf::from(SYSTEM_FOLDER),
        None => source.folder.join(FOLDER),
    }
}
