//! The commands' terminal face; nothing else in this package prints.

pub(crate) mod chaos;
pub(crate) mod drive;
pub(crate) mod gpusim;
pub(crate) mod sim;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Writes a line to standard output. A reader that is gone is no error.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes an error to standard error.
pub(crate) fn complain(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "loadtest: {error}");
}

/// SIGINT and SIGTERM, caught from the moment this is made.
pub(crate) struct Interrupt {
    runtime: Runtime,
    interrupted: Signal,
    terminated: Signal,
}

impl Interrupt {
    /// Catches the signals. Before the line that says a command is ready: who waits for it may signal at once.
    pub(crate) fn watch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (interrupted, terminated) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        Ok(Self { runtime, interrupted, terminated })
    }

    /// Waits for either.
    pub(crate) fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupted.recv() => {}
                _ = self.terminated.recv() => {}
            }
        });
    }
}

/// Raises the limit on open files to the hard one: ten thousand streams are ten thousand files.
pub(crate) fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it, fewer streams fit, and the run says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
