//! Backend connections between two exchanges, per shard and backend, last in first out. Where a backend has several
//! addresses they take turns, and the last one kept of the address whose turn it is comes first.
//!
//! Each keeps its read armed. Taking one polls that read once: still pending means that the backend has neither closed
//! nor sent anything; no system call, and the same read then waits for the response.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::net::buffers::Buffer;
use crate::net::stream::{Reader, Writer};
use crate::policy::routing::addresses::Spread;
use crate::units::{BackendId, Nanos};

/// One connection to a backend.
pub(crate) struct Connection {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    /// Where it leads; `None` for a Unix socket. In a box, for a connection goes from hand to hand and back: what has
    /// no more than 128 bytes is moved without a call.
    peer: Option<Box<SocketAddr>>,
    /// Whether an exchange was answered on it before.
    pub(crate) reused: bool,
}

const _: () = assert!(size_of::<Connection>() <= 128);

/// A connection that waits for its next exchange.
struct Kept {
    connection: Connection,
    since: Nanos,
    /// How long it may be idle.
    max: Nanos,
}

/// The idle connections of one shard.
pub(crate) struct Idle {
    /// By `BackendId`.
    stacks: RefCell<Vec<Stack>>,
    /// Kept per backend at most.
    max: Cell<usize>,
    /// Where new backends start the turns of their addresses.
    random: u64,
}

/// The idle connections to one backend, the oldest at the bottom.
#[derive(Default)]
struct Stack {
    kept: Vec<Kept>,
    /// Where the backend was at the last sweep; a connection to anywhere else is not kept. Empty before the first.
    addresses: Arc<Vec<SocketAddr>>,
    spread: Spread,
}

impl Stack {
    fn new(addresses: &ArcSwap<Vec<SocketAddr>>, max: usize, random: u64) -> Self {
        Self {
            kept: Vec::with_capacity(max.min(64)),
            addresses: addresses.load_full(),
            spread: Spread::new(random),
        }
    }

    fn leads_there(&self, connection: &Connection) -> bool {
        let is_there = |peer: &SocketAddr| self.addresses.contains(peer);
        self.addresses.is_empty() || connection.peer.as_deref().is_none_or(is_there)
    }
}

impl Connection {
    pub(crate) fn new((reader, writer): (Reader, Writer), peer: Option<SocketAddr>) -> Self {
        Self { reader, writer, peer: peer.map(Box::new), reused: false }
    }
}

impl Idle {
    /// No connections; `addresses` by `BackendId`.
    pub(crate) fn new<'a>(
        addresses: impl Iterator<Item = &'a ArcSwap<Vec<SocketAddr>>>,
        max: usize,
        random: u64,
    ) -> Self {
        let stacks = addresses.map(|addresses| Stack::new(addresses, max, random)).collect();
        Self { stacks: RefCell::new(stacks), max: Cell::new(max), random }
    }

    /// The connections under the next plan, by its backends: which of ours each of them is, and its addresses. What is
    /// left closes, and so does whatever comes back here later.
    pub(crate) fn next<'a>(
        &self,
        backends: impl Iterator<Item = (Option<BackendId>, &'a ArcSwap<Vec<SocketAddr>>)>,
    ) -> Self {
        let mut stacks = std::mem::take(&mut *self.stacks.borrow_mut());
        let max = self.max.replace(0);
        let next = backends.map(|(before, addresses)| match before {
            Some(id) => std::mem::take(&mut stacks[id.index()]),
            None => Stack::new(addresses, max, self.random),
        });
        Self { stacks: RefCell::new(next.collect()), max: Cell::new(max), random: self.random }
    }

    /// Whose turn it is among the addresses of a backend, where there are several.
    pub(crate) fn turn(&self, backend: BackendId, now: Nanos) -> Option<SocketAddr> {
        let mut stacks = self.stacks.borrow_mut();
        let Stack { addresses, spread, .. } = stacks.get_mut(backend.index())?;
        if addresses.len() < 2 { None } else { spread.next(addresses, now) }
    }

    /// Works with what is known of the addresses of a backend; `None` under a plan that is not in force any more.
    pub(crate) fn with_spread<T>(
        &self,
        backend: BackendId,
        work: impl FnOnce(&mut Spread) -> T,
    ) -> Option<T> {
        self.stacks.borrow_mut().get_mut(backend.index()).map(|stack| work(&mut stack.spread))
    }

    /// A live connection to the address whose `turn` it is, and how many dead ones were found before it. With `any`, one
    /// to another address that is not set aside will do.
    pub(crate) fn take_of(
        &self,
        backend: BackendId,
        turn: SocketAddr,
        any: bool,
        now: Nanos,
    ) -> (Option<Connection>, u64) {
        let mut stacks = self.stacks.borrow_mut();
        let Some(Stack { kept, spread, .. }) = stacks.get_mut(backend.index()) else { return (None, 0) };
        let mut stale = 0;
        for pass in 0..=u8::from(any) {
            let fits = |one: &Kept| {
                let peer = one.connection.peer.as_deref();
                peer.is_some_and(|peer| if pass == 0 { *peer == turn } else { !spread.is_aside(peer, now) })
            };
            while let Some(at) = kept.iter().rposition(fits) {
                let Kept { mut connection, .. } = kept.remove(at);
                if connection.reader.submit().is_pending() {
                    return (Some(connection), stale);
                }
                stale += 1;
            }
        }
        (None, stale)
    }

    /// A live connection, and how many dead ones lay above it.
    pub(crate) fn take(&self, backend: BackendId) -> (Option<Connection>, u64) {
        let mut stacks = self.stacks.borrow_mut();
        let Some(stack) = stacks.get_mut(backend.index()) else { return (None, 0) };
        let mut stale = 0;
        while let Some(Kept { mut connection, .. }) = stack.kept.pop() {
            if connection.reader.submit().is_pending() {
                return (Some(connection), stale);
            }
            stale += 1;
        }
        (None, stale)
    }

    /// Keeps a connection whose response has been read to its end, with `buffer` armed for the next one. Full stacks
    /// close it instead, and so do those of a backend that has moved.
    pub(crate) fn put(
        &self,
        backend: BackendId,
        mut connection: Connection,
        buffer: Buffer,
        since: Nanos,
        max: Nanos,
    ) {
        let mut stacks = self.stacks.borrow_mut();
        let Some(stack) = stacks.get_mut(backend.index()) else { return };
        if stack.kept.len() >= self.max.get() || !stack.leads_there(&connection) {
            return;
        }
        connection.reused = true;
        connection.reader.arm(buffer);
        if connection.reader.submit().is_pending() {
            stack.kept.push(Kept { connection, since, max });
        }
    }

    /// How many there are, over all backends.
    pub(crate) fn count(&self) -> usize {
        self.stacks.borrow().iter().map(|stack| stack.kept.len()).sum()
    }

    /// Closes all of them.
    pub(crate) fn close(&self) {
        self.stacks.borrow_mut().iter_mut().for_each(|stack| stack.kept.clear());
    }

    /// Closes what has been idle too long, and what leads to where a backend is not any more; `addresses` tells where
    /// it is, by `BackendId`.
    pub(crate) fn sweep<'a>(
        &self,
        now: Nanos,
        addresses: impl Iterator<Item = &'a ArcSwap<Vec<SocketAddr>>>,
    ) {
        for (stack, addresses) in self.stacks.borrow_mut().iter_mut().zip(addresses) {
            let mut kept = std::mem::take(&mut stack.kept);
            stack.addresses = addresses.load_full();
            kept.retain(|one| now.since(one.since) < one.max && stack.leads_there(&one.connection));
            stack.kept = kept;
        }
    }
}
