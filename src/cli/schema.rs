//! `ringway schema`.

use std::process::ExitCode;

use super::{complain, print};
use crate::config;

/// Prints the JSON Schema of the configuration.
pub(super) fn command() -> ExitCode {
    match serde_json::to_string_pretty(&config::schema()) {
        Ok(schema) => print(&schema),
        Err(error) => complain(&error.to_string()),
    }
}
