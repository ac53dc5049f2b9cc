//! The commands' terminal face; nothing else in this package prints.

pub(crate) mod drive;
pub(crate) mod gpusim;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;

/// Writes a line to standard output. A reader that is gone is no error.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes an error to standard error.
pub(crate) fn complain(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "loadtest: {error}");
}

/// Raises the limit on open files to the hard one: ten thousand streams are ten thousand files.
pub(crate) fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it, fewer streams fit, and the run says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
