//! The commands' terminal face; nothing else in this package prints.

pub(crate) mod gpusim;

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
