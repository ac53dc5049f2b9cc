//! Backend connections between two exchanges, per shard and backend, last in first out.
//!
//! Each keeps its read armed. Taking one polls that read once: still pending means that the backend has neither closed
//! nor sent anything; no system call, and the same read then waits for the answer.

use std::cell::{Cell, RefCell};

use crate::net::blocks::Block;
use crate::net::stream::{Reader, Writer};
use crate::units::{BackendId, Nanos};

/// One connection to a backend.
pub(crate) struct Connection {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    /// Whether an exchange was answered on it before.
    pub(crate) reused: bool,
    /// When it went idle.
    idle_since: Nanos,
    /// How long it may be idle.
    idle_max: Nanos,
}

/// The idle connections of one shard.
pub(crate) struct Idle {
    /// By `BackendId`.
    stacks: RefCell<Vec<Vec<Connection>>>,
    /// Kept per backend at most.
    max: Cell<usize>,
}

impl Connection {
    pub(crate) fn new((reader, writer): (Reader, Writer)) -> Self {
        Self { reader, writer, reused: false, idle_since: Nanos(0), idle_max: Nanos(0) }
    }
}

impl Idle {
    pub(crate) fn new(backends: usize, max: usize) -> Self {
        let stacks = std::iter::repeat_with(|| Vec::with_capacity(max.min(64))).take(backends).collect();
        Self { stacks: RefCell::new(stacks), max: Cell::new(max) }
    }

    /// The connections under the next plan, by its backends: `before` tells which of ours each of them is. What is left
    /// closes, and so does whatever comes back here later.
    pub(crate) fn next(&self, before: impl Iterator<Item = Option<BackendId>>) -> Self {
        let mut stacks = std::mem::take(&mut *self.stacks.borrow_mut());
        let stacks =
            before.map(|id| id.map(|id| std::mem::take(&mut stacks[id.index()])).unwrap_or_default());
        Self { stacks: RefCell::new(stacks.collect()), max: Cell::new(self.max.replace(0)) }
    }

    /// A live connection, and how many dead ones lay above it.
    pub(crate) fn take(&self, backend: BackendId) -> (Option<Connection>, u64) {
        let mut stacks = self.stacks.borrow_mut();
        let Some(stack) = stacks.get_mut(backend.index()) else { return (None, 0) };
        let mut stale = 0;
        while let Some(mut connection) = stack.pop() {
            if connection.reader.submit().is_pending() {
                return (Some(connection), stale);
            }
            stale += 1;
        }
        (None, stale)
    }

    /// Keeps a connection whose answer has been read to its end, with `block` armed for the next one. Full stacks
    /// close it instead.
    pub(crate) fn put(
        &self,
        backend: BackendId,
        mut connection: Connection,
        block: Block,
        now: Nanos,
        max: Nanos,
    ) {
        let mut stacks = self.stacks.borrow_mut();
        let Some(stack) = stacks.get_mut(backend.index()) else { return };
        if stack.len() >= self.max.get() {
            return;
        }
        connection.reused = true;
        connection.idle_since = now;
        connection.idle_max = max;
        connection.reader.arm(block);
        if connection.reader.submit().is_pending() {
            stack.push(connection);
        }
    }

    /// How many there are, over all backends.
    pub(crate) fn count(&self) -> usize {
        self.stacks.borrow().iter().map(Vec::len).sum()
    }

    /// Closes all of them.
    pub(crate) fn close(&self) {
        self.stacks.borrow_mut().iter_mut().for_each(Vec::clear);
    }

    /// Closes what has been idle too long. The oldest lie at the bottom.
    pub(crate) fn sweep(&self, now: Nanos) {
        for stack in self.stacks.borrow_mut().iter_mut() {
            stack.retain_mut(|connection| now.since(connection.idle_since) < connection.idle_max);
        }
    }
}
