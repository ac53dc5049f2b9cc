//! Secrets that nobody has named: made once, and kept beside the configuration, or where systemd gives the service a folder for
//! its state.

use std::path::PathBuf;

use super::{Source, file_bytes};
use crate::config::secret::Secret;
use crate::units::hex;

/// A new secret that could not be kept.
pub(super) struct Unkept {
    pub(super) random: [u8; 32],
    /// Each a clause that follows "its secret"; none where nothing is kept on purpose.
    pub(super) reasons: Vec<String>,
}

/// The secret in the file of this name, which is made if it is not there.
pub(super) fn secret(source: &Source<'_>, file: &str) -> Result<Vec<u8>, Unkept> {
    let random = source.environment.random();
    let hex = hex(&random);
    let state = source.environment.variable("STATE_DIRECTORY");
    let state = state.as_deref().and_then(|folders| folders.split(':').next()).map(PathBuf::from);
    let places = [Some(source.folder.join(file)), state.map(|folder| folder.join(file))];
    let mut reasons = Vec::new();
    for place in places.into_iter().flatten() {
        let made = source.environment.keep(&place, &hex);
        let found = file_bytes(source, &place, Secret::BYTES_MAX + 2).ok();
        let text = found.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.and_then(|text| Secret::new(&text).ok()) {
            Some(secret) if secret.expose().len() >= hex.len() => {
                return Ok(secret.expose().as_bytes().to_vec());
            }
            Some(_) => reasons.push(format!("{} is too short", place.display())),
            None => {
                if let Err(error) = made
                    && error.kind() != std::io::ErrorKind::Unsupported
                {
                    reasons.push(format!("{} cannot be kept: {error}", place.display()));
                }
            }
        }
    }
    Err(Unkept { random, reasons })
}
