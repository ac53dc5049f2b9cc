//! A new connection to a backend: which address, TCP, a proxy's tunnel, TLS on top.

use std::io;
use std::net::SocketAddr;

use nix::libc;

use crate::error::{Fault, FaultKind, Unreachable};
use crate::net::stream as sockets;
use crate::net::{dial, tls};
use crate::plan::{Backend, BackendTls, Proxy, Target};
use crate::shard::idle::Connection;
use crate::shard::interrupt;
use crate::shard::state::Shard;
use crate::shard::wording::RETRY_SOON;
use crate::units::Nanos;
use crate::wire::Step;
use crate::wire::connect::{self, Reply};

/// A new connection to a backend. What it learns about addresses is kept by the shard.
pub(in crate::shard) struct Dial<'a> {
    shard: &'a Shard,
    backend: &'a Backend,
    /// The time there is for all of it.
    connect: Nanos,
    /// How long one address is waited for before the next is tried as well.
    delay: Nanos,
}

impl<'a> Dial<'a> {
    /// `connect`: the time there is for all of it; the caller bounds it.
    pub(in crate::shard) fn new(shard: &'a Shard, backend: &'a Backend, connect: Nanos) -> Self {
        Self { shard, backend, connect, delay: RACE_DELAY.min(Nanos(connect.0 / 4)) }
    }

    /// Connects to a backend: its addresses race, or its proxy's, the one whose `turn` it is first; then the proxy's tunnel,
    /// and TLS on top where it is asked for. An address whose TLS fails, or where no proxy responds, is left out, and the
    /// others race once more.
    ///
    /// Errors: no address accepts, the proxy refuses, or the last address fails.
    pub(in crate::shard) async fn run(self, turn: Option<SocketAddr>) -> Result<Connection, Fault> {
        if let Target::Unix(path) = &self.backend.target {
            let socket = dial::unix(path).await.inspect_err(|error| self.note(Unreachable::of(error)));
            let socket = socket.map_err(not_dialled)?;
            return Ok(Connection::new(sockets::plain(socket), None));
        }
        let mut order = self.order(turn);
        if order.is_empty() {
            self.note(Unreachable::NoAddress);
        }
        loop {
            let race = dial::Race {
                order: &order,
                busy_poll_us: self.shard.tuning().busy_poll_us,
                delay: self.delay,
                deadlines: &self.shard.deadlines,
            };
            let (socket, peer) = race
                .run(|address, error| self.failed(address, Unreachable::of(error)))
                .await
                .map_err(not_dialled)?;
            if let Some(proxy) = &self.backend.proxy
                && let Err(reason) = self.tunnel(&socket, peer, proxy).await
            {
                let is_final = !matches!(reason, Unreachable::ProxyClosed | Unreachable::NotProxy);
                if is_final || order.len() == 1 {
                    let message = format!("cannot connect: {}", reason.words());
                    return Err(Fault::new(FaultKind::ConnectFailed, message));
                }
                order.retain(|address| *address != peer);
                continue;
            }
            let halves = match &self.backend.tls {
                None => sockets::plain(socket),
                Some(tls) => match self.secure(socket, peer, tls, order.len()).await {
                    Ok(halves) => halves,
                    Err(_) if order.len() > 1 && self.backend.proxy.is_none() => {
                        order.retain(|address| *address != peer);
                        continue;
                    }
                    Err(fault) => return Err(fault),
                },
            };
            self.shard.idle.with_spread(self.backend.id, |spread| spread.accepted(peer));
            return Ok(Connection::new(halves, Some(peer)));
        }
    }

    /// The addresses in the order in which they are tried.
    fn order(&self, turn: Option<SocketAddr>) -> Vec<SocketAddr> {
        let (addresses, now) = (self.backend.addresses.load(), self.shard.deadlines.now());
        if addresses.len() < 2 {
            return addresses.to_vec();
        }
        let ordered = self.shard.idle.with_spread(self.backend.id, |spread| {
            let first =
                turn.filter(|turn| addresses.contains(turn)).or_else(|| spread.next(&addresses, now))?;
            Some(spread.order(first, &addresses, now))
        });
        ordered.flatten().unwrap_or_else(|| addresses.to_vec())
    }

    /// Opens a tunnel through the proxy at the other end. A refusal says nothing against its address; anything else than a
    /// response does.
    async fn tunnel(
        &self,
        socket: &sockets::Socket,
        peer: SocketAddr,
        proxy: &Proxy,
    ) -> Result<(), Unreachable> {
        let mut suspect = Suspect { dial: self, peer, since: self.shard.deadlines.now(), cleared: false };
        let judge = |bytes: &[u8]| match connect::reply(bytes) {
            Step::More => None,
            Step::Done(Reply::Status { status, end }) => Some((Some(status), end)),
            Step::Done(Reply::NotHttp) => Some((None, bytes.len())),
        };
        let reply = dial::converse(socket, &proxy.connect, connect::BYTES_MAX, judge).await;
        suspect.cleared = true;
        let reason = match reply {
            Ok(Some(200..300)) => return Ok(()),
            Ok(Some(status)) => {
                let reason = Unreachable::of_proxy(status);
                self.note(reason);
                return Err(reason);
            }
            Ok(None) => Unreachable::NotProxy,
            Err(_) => Unreachable::ProxyClosed,
        };
        self.failed(peer, reason);
        Err(reason)
    }

    /// TLS on a socket. With other addresses left to try, one that accepts and then stays silent has a share of the time:
    /// `left` counts it among them.
    async fn secure(
        &self,
        socket: sockets::Socket,
        peer: SocketAddr,
        tls: &BackendTls,
        left: usize,
    ) -> Result<(sockets::Reader, sockets::Writer), Fault> {
        let mut suspect = Suspect { dial: self, peer, since: self.shard.deadlines.now(), cleared: false };
        let handshake = tls::connect(socket, tls.config.clone(), tls.server_name.clone());
        let result = match left {
            0 | 1 => handshake.await,
            _ => {
                let due = self.shard.deadlines.row();
                due.set(Nanos(self.connect.0 / (left as u64 + 1)).max(self.delay));
                let late = |_| Err(io::ErrorKind::TimedOut.into());
                interrupt::until(&due, handshake).await.unwrap_or_else(late)
            }
        };
        suspect.cleared = result.is_ok();
        result.map_err(|error| {
            let reason = Unreachable::of(&error);
            suspect.cleared = true;
            if self.backend.proxy.is_none() {
                self.failed(peer, reason);
            } else {
                self.note(reason); // the address is the proxy's, which did what it was asked for
            }
            Fault::new(FaultKind::TlsFailed, format!("TLS to the backend failed: {}", reason.words()))
        })
    }

    fn failed(&self, address: SocketAddr, reason: Unreachable) {
        let now = self.shard.deadlines.now();
        self.shard.idle.with_spread(self.backend.id, |spread| spread.failed(address, now));
        self.note(reason);
    }

    fn note(&self, reason: Unreachable) {
        let cells = self.shard.plan.backends.cells(self.backend.id);
        cells.unreached.note(reason, self.shard.deadlines.now());
    }
}

/// An address in its handshake. If the handshake is abandoned after a while, the address has failed.
struct Suspect<'a> {
    dial: &'a Dial<'a>,
    peer: SocketAddr,
    since: Nanos,
    cleared: bool,
}

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        if !self.cleared && self.dial.shard.deadlines.now().since(self.since) >= self.dial.delay {
            self.dial.failed(self.peer, Unreachable::TimedOut);
        }
    }
}

/// The fault of a connection that could not be opened: of the machine, or of the backend.
fn not_dialled(error: io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            let message = format!("the gateway cannot open a connection: {}", error.kind());
            Fault::new(FaultKind::SocketsExhausted, message).retry_after(RETRY_SOON)
        }
        _ => Fault::new(
            FaultKind::ConnectFailed,
            format!("cannot connect: {}", Unreachable::of(&error).words()),
        ),
    }
}

/// How long one address is waited for before the next is tried as well (RFC 8305 section 8), or a quarter of the time
/// to connect if that is shorter.
const RACE_DELAY: Nanos = Nanos(250_000_000);
