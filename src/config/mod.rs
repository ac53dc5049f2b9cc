//! WHAT THE OPERATOR WROTE.
//!
//! `file` is what was written, with its defaults; `read` turns text into it and knows the line of every key;
//! `compile` turns it into a [`crate::plan::Plan`] and is the only step that fails. A configuration is taken whole
//! or refused whole, with everything that is wrong with it in one response.

pub mod compile;
pub mod cores;
pub mod entry;
pub mod environment;
pub mod file;
mod no_proxy;
pub mod problem;
pub mod quantity;
pub mod read;
pub mod secret;
pub mod stored;
mod tls;
pub(crate) mod url;

use std::path::{Path, PathBuf};

pub use compile::{
    AccessLog, Compiled, PriceList, Settings, SharedSettings, StoreSettings, check_key_name, compile,
    compile_with,
};
pub use environment::{Environment, Noting, Process, Recorded, Stamp};
pub use file::{Fsync, LogLevel, WhenGone};
pub use problem::{Problem, Problems};
pub use read::{Written, read};
pub use stored::{Stored, StoredKey};

/// Where a configuration is looked for if none is named, in this order.
pub const PLACES: [&str; 2] = ["./ringway.toml", "/etc/ringway/ringway.toml"];

/// The file to load: the one named, or the first of [`PLACES`] that exists.
///
/// # Errors
/// If none is named and none is there.
pub fn locate(named: Option<PathBuf>) -> Result<PathBuf, Problems> {
    let found = named.or_else(|| PLACES.iter().map(PathBuf::from).find(|place| place.exists()));
    found.ok_or_else(|| {
        Problems::of_file(Path::new(PLACES[0]), format!("is not there, nor is {}; name a file", PLACES[1]))
    })
}

/// Reads and compiles one file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, environment: &dyn Environment) -> Result<Compiled, Problems> {
    compile(&read_file(path, environment)?, environment)
}

/// Reads what a file says about the store and prices, whatever else is wrong with it: keys and secrets of backends that only the
/// gateway can read are no concern of a command that reads the store.
///
/// # Errors
/// The file has not the right shape, or that part of it is wrong.
pub fn load_store(
    path: &Path,
    environment: &dyn Environment,
) -> Result<(Option<StoreSettings>, PriceList), Problems> {
    compile::store(&read_file(path, environment)?, environment)
}

/// Reads the shape of a file, for commands that show where something stands in it.
///
/// # Errors
/// The file cannot be read, or has not the right shape.
pub fn read_file(path: &Path, environment: &dyn Environment) -> Result<Written, Problems> {
    let bytes = environment.file(path, read::CONFIG_BYTES_MAX);
    let bytes = bytes.map_err(|error| Problems::of_file(path, format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| Problems::of_file(path, "is not UTF-8 text"))?;
    read(path, &text)
}

/// The JSON Schema of the file, for completion in editors.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(file::File)
}
