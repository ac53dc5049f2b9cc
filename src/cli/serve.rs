//! `ringway serve`: serves what was compiled until the process is asked to stop.

use std::io;

use crate::config::Compiled;

/// Serves until told to stop: starts the coordinator and the shards, and waits for them.
///
/// # Errors
/// What the machine refuses: an address that is taken, a driver, a thread.
pub fn run(_compiled: Compiled) -> io::Result<()> {
    Err(io::Error::other("this build has no shards to serve with"))
}
