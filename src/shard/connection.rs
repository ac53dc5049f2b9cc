//! One client connection: its inbox, the read that stays armed, one exchange after the other.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::early::Early;
use super::relay::Relay;
use super::response::Response;
use super::settle::Settle;
use super::watch::{self, Bell, Interrupt};
use super::{Shard, exchange, respond};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::{Buffer, grow, room};
use crate::net::deadline::Deadline;
use crate::net::listen::Accepted;
use crate::net::stream::{self, Reader, Writer};
use crate::net::tls;
use crate::observe::counters::Counter;
use crate::policy::auth::forwarded;
use crate::units::{KeyId, Nanos};
use crate::wire::Step;
use crate::wire::head::{self, RequestHead};
use crate::wire::proxy_protocol::{self, ProxyHeader};

/// The client's side of every exchange on one connection.
pub(crate) struct Client {
    pub(crate) shard: Rc<Shard>,
    pub(crate) writer: Writer,
    pub(crate) deadline: Deadline,
    pub(crate) address: SocketAddr,
    reader: Reader,
    /// Bytes received and not yet done with: the request in work, then what the client sent ahead.
    inbox: Buffer,
    /// Bytes of the inbox that belong to the request in work.
    request_bytes: usize,
    /// The request in flight if it is large: not in the inbox, so that it can be sent from where it lies.
    large: Option<Rc<Buffer>>,
    /// What the armed read fills: the inbox itself, or a buffer beside it.
    armed: Armed,
    /// Rings when the read beside the inbox is worth an inspection. Made at the first one.
    bell: Option<(Arc<Bell>, Waker)>,
    /// The client sent FIN and may still be reading.
    half_closed: bool,
    /// What it is sent while it waits for a stream.
    pub(super) early: Option<Box<Early>>,
    /// Whose request is in work.
    pub(super) key: Option<KeyId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    Nothing,
    Inbox,
    Beside,
}

/// Serves a client until it leaves, or a response ends the connection.
pub(super) async fn serve(shard: Rc<Shard>, mut accepted: Accepted) {
    let tls = shard.plan.listeners[accepted.listener].tls.clone();
    let deadline = shard.deadlines.row();
    if shard.plan.listeners[accepted.listener].proxy_protocol {
        deadline.set(PROXY_HEADER.min(shard.plan.timeouts.head));
        match watch::until(&deadline, Box::pin(proxied(&shard, &mut accepted))).await {
            Ok(Some(client)) => accepted.client = client,
            _ => return shard.numbers.add(Counter::ProxyHeadersRefused, 1),
        }
    }
    let address = accepted.client;
    deadline.set(shard.plan.timeouts.head);
    let Ok(socket) = accepted.into_socket(shard.tuning().busy_poll_us) else { return };
    let halves = match tls {
        None => stream::plain(socket),
        Some(config) => {
            deadline.set(TLS_HANDSHAKE.min(shard.plan.timeouts.head));
            match watch::until(&deadline, Box::pin(tls::accept(socket, config))).await {
                Ok(Ok(halves)) => {
                    shard.numbers.add(Counter::TlsHandshakes, 1);
                    halves
                }
                _ => return shard.numbers.add(Counter::TlsFailures, 1),
            }
        }
    };
    let mut client = Client::new(shard, deadline, address, halves);
    client.serve().await;
    client.shard.buffers.put(std::mem::take(&mut client.inbox));
}

/// Who connected to the proxy that the connection comes from, by the header that it begins with. `None`: the peer is no trusted
/// proxy, or sends no header that holds; what follows cannot be told from one, so the connection must close.
async fn proxied(shard: &Shard, accepted: &mut Accepted) -> Option<SocketAddr> {
    if !forwarded::is_trusted(accepted.client.ip(), &shard.plan.trusted_proxies) {
        return None;
    }
    let (mut bytes, mut had) = (vec![0; proxy_protocol::BYTES_MAX], 0);
    loop {
        let come = accepted.peek(&mut bytes[had..]).await.ok()?;
        let read = proxy_protocol::read(&bytes[..had + come])?;
        let end = match read {
            ProxyHeader::More => had + come,
            ProxyHeader::Done(end, _) => end,
        };
        accepted.take(&mut bytes[had..end]).ok()?;
        had = end;
        if let ProxyHeader::Done(_, client) = read {
            return Some(client.unwrap_or(accepted.client));
        }
    }
}

/// Answers the first request of a client for whom there is no room, and ends its connection.
pub(super) async fn turn_away(shard: Rc<Shard>, accepted: Accepted) {
    let address = accepted.client;
    let deadline = shard.deadlines.row();
    let Ok(socket) = accepted.into_socket(0) else { return };
    let mut client = Client::new(shard, deadline, address, stream::plain(socket));
    let mut head = None;
    // Before a request nothing is said: a client may take words that it did not ask for as somebody else's.
    if client.read_head(TURN_AWAY, &mut head).await.is_ok()
        && let Some(head) = &head
    {
        exchange::turn_away(&mut client, head).await;
        client.linger().await;
    }
    client.shard.buffers.put(std::mem::take(&mut client.inbox));
}

impl Client {
    fn new(
        shard: Rc<Shard>,
        deadline: Deadline,
        address: SocketAddr,
        (reader, writer): (Reader, Writer),
    ) -> Self {
        Self {
            inbox: shard.buffers.small(),
            shard,
            writer,
            deadline,
            address,
            reader,
            request_bytes: 0,
            large: None,
            armed: Armed::Nothing,
            bell: None,
            half_closed: false,
            early: None,
            key: None,
        }
    }

    async fn serve(&mut self) {
        let mut patience = self.shard.plan.timeouts.head;
        loop {
            let mut head = None;
            if let Err(fault) = self.read_head(patience, &mut head).await {
                respond::unread(self, &fault).await;
                return self.linger().await;
            }
            let Some(head) = &head else { return };
            self.renew();
            match self.exchange(head).await {
                exchange::Next::Head => {}
                exchange::Next::Finish => return self.finish().await,
                exchange::Next::Close => return,
                exchange::Next::Linger => return self.linger().await,
            }
            patience = self.shard.plan.timeouts.keep_alive;
        }
    }

    /// One request and its response. What only `begin` needs is gone by the time the relay runs: a stream spends its life
    /// there. What both need lies here and is lent, for it is large.
    async fn exchange(&mut self, head: &RequestHead) -> exchange::Next {
        let mut settle = Settle::new(&self.shard, self.address.ip());
        let mut response = None;
        let mut relay = match exchange::begin(self, &mut settle, head, &mut response).await {
            Ok(opened) => Relay::new(self, &mut settle, opened),
            Err(next) => return next,
        };
        let next = match relay.run(self).await {
            Ok(()) => relay.ended(),
            Err(next) => return next,
        };
        // A response is large: what is left of it is dropped where it lies.
        let most = self.shard.plan.timeouts.backend_idle;
        if let Some(idle_max) = response.as_ref().and_then(|response| response.idle_max(most))
            && let Some(Response { connection, lease, .. }) = response
        {
            let (buffer, now) = (self.shard.buffers.large(), self.shard.deadlines.now());
            self.shard.idle.put(lease.backend(), connection, buffer, now, idle_max);
        }
        next
    }

    /// Waits for the next request in the inbox and puts its head into `place`, which stays empty when the client is
    /// done. `patience` is for its first byte; from then on the whole head has the head deadline, however slowly it drips.
    async fn read_head(&mut self, patience: Nanos, place: &mut Option<RequestHead>) -> Result<(), Fault> {
        let limits = self.shard.head_limits();
        let mut scanned = 0;
        let mut started = !self.inbox.is_empty();
        self.deadline.set(if started { self.shard.plan.timeouts.head } else { patience });
        loop {
            if started && let Step::Done(head) = head::request(&self.inbox, &mut scanned, &limits)? {
                *place = Some(head);
                return Ok(());
            }
            let filled = if started { self.fill(0).await } else { self.first().await };
            match filled {
                Ok(true) if !started => {
                    started = true;
                    self.deadline.set(self.shard.plan.timeouts.head);
                }
                Ok(true) => {}
                Ok(false)
                | Err(
                    Interrupt::ClientGone
                    | Interrupt::ClientStalled
                    | Interrupt::Stopping
                    | Interrupt::KeyRevoked,
                ) => {
                    return Ok(());
                }
                Err(Interrupt::Due) if !started => {
                    self.shard.numbers.inc(Counter::KeepAliveExpired);
                    return Ok(());
                }
                Err(Interrupt::Due) => {
                    return Err(Fault::new(
                        FaultKind::HeadTimeout,
                        "the request head did not arrive in time",
                    ));
                }
            }
        }
    }

    /// Waits for the first bytes of a request. Idle clients hold no old plan; when the shard closes they have a little
    /// time left, since a request may be on its way, and its response then tells them to connect anew.
    async fn first(&mut self) -> Result<bool, Interrupt> {
        let mut closing = false;
        loop {
            let shard = self.shard.clone();
            let filled = {
                let mut fill = pin!(self.fill(0));
                poll_fn(|context| match fill.as_mut().poll(context) {
                    Poll::Pending if shard.is_stopping() => Poll::Ready(Some(Err(Interrupt::Stopping))),
                    Poll::Pending if shard.is_closing() != closing || shard.is_outdated() => {
                        Poll::Ready(None)
                    }
                    polled => polled.map(Some),
                })
                .await
            };
            if let Some(filled) = filled {
                return filled;
            }
            self.renew();
            if self.shard.is_closing() && !std::mem::replace(&mut closing, true) {
                let until = self.deadline.now().plus(LAST_CHANCE);
                self.deadline.set_at(until.min(self.deadline.at()));
            }
        }
    }

    /// Serves by the plan in force from here on.
    fn renew(&mut self) {
        if self.shard.is_outdated()
            && let Some(newest) = self.shard.newest()
        {
            self.shard = newest;
        }
    }

    /// The bytes received and not done with; the request in work comes first.
    pub(crate) fn inbox(&self) -> &[u8] {
        self.large.as_deref().unwrap_or(&self.inbox)
    }

    /// The same while a request is read, to decode it where it lies.
    pub(super) fn inbox_mut(&mut self) -> &mut Buffer {
        &mut self.inbox
    }

    /// The request in flight, if it is one that is not copied to be sent.
    pub(super) fn large_request(&self) -> Option<&Rc<Buffer>> {
        self.large.as_ref()
    }

    /// Waits for more bytes in the inbox, with room for `wanted` of them, but for no more than have come or one read
    /// brings: a length is only a promise. False when the client sends no more.
    pub(crate) async fn fill(&mut self, wanted: usize) -> Result<bool, Interrupt> {
        if self.armed == Armed::Nothing {
            let mut buffer = std::mem::take(&mut self.inbox);
            if buffer.capacity() == 0 {
                buffer = self.shard.buffers.small();
            }
            let least = if buffer.len() < READ_BYTES { READ_BYTES } else { GROWTH_BYTES };
            let most = wanted.min(buffer.len().max(least));
            let wanted = match room(&buffer) {
                0 if wanted == 0 => buffer.len(),
                room if room >= wanted.min(READ_BYTES) => 0,
                _ => most,
            };
            grow(&mut buffer, wanted);
            self.reader.arm(buffer);
            self.armed = Armed::Inbox;
        }
        let (read, buffer) = watch::until(&self.deadline, self.reader.filled()).await?;
        Ok(matches!(self.received(read, buffer), Ok(1..)))
    }

    /// Keeps a read armed beside the inbox, so that a client that leaves is noticed.
    pub(crate) fn watch(&mut self) {
        if self.armed == Armed::Nothing && !self.half_closed {
            self.reader.arm(self.shard.buffers.small());
            self.armed = Armed::Beside;
            if let Some((bell, _)) = &self.bell {
                bell.ring();
            }
        }
    }

    /// Why a wait for something else has to end, if it has to: the shard stops, the key is no more, the client has gone,
    /// the deadline came.
    pub(crate) fn poll_interrupt(&mut self, context: &mut Context<'_>) -> Poll<Interrupt> {
        if self.shard.is_stopping() {
            return Poll::Ready(Interrupt::Stopping);
        }
        if self.shard.is_outdated() && self.key.is_some_and(|key| self.shard.plan.key(key).is_revoked()) {
            return Poll::Ready(Interrupt::KeyRevoked);
        }
        if self.poll_gone(context).is_ready() {
            return Poll::Ready(Interrupt::ClientGone);
        }
        if self.deadline.is_due(context) { Poll::Ready(Interrupt::Due) } else { Poll::Pending }
    }

    /// Ready when the client has gone. What it sends ahead meanwhile is kept, up to a bound.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.armed != Armed::Nothing {
            let (bell, waker) = self.bell.get_or_insert_with(|| {
                let bell = Bell::of(context);
                (Arc::clone(&bell), Waker::from(bell))
            });
            if !bell.has_rung() {
                return Poll::Pending;
            }
            let filled = self.reader.poll_filled(&mut Context::from_waker(waker));
            let Poll::Ready((read, buffer)) = filled else { return Poll::Pending };
            match self.received(read, buffer) {
                Ok(1..) if self.inbox.len() < self.ahead_max() => self.watch(),
                Ok(0) if !self.shard.plan.half_close_is_gone => self.half_closed = true,
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// The first `bytes` of the inbox are the request in work. A large one leaves the inbox to what the client sends
    /// ahead.
    pub(crate) fn keep_request(&mut self, bytes: usize) {
        if bytes > LARGE_REQUEST_BYTES {
            let ahead = self.inbox.split_off(bytes);
            let mut request = std::mem::replace(&mut self.inbox, ahead);
            if request.capacity() > bytes + GROWTH_BYTES {
                request.shrink_to_fit(); // pages that framing has been in
            }
            self.large = Some(Rc::new(request));
        } else {
            self.request_bytes = bytes;
        }
    }

    /// The request in work will not be needed again: its bytes leave the inbox.
    pub(crate) fn forget_request(&mut self) {
        if self.large.take().is_some() {
            return;
        }
        let bytes = std::mem::take(&mut self.request_bytes);
        self.consume(bytes);
    }

    fn consume(&mut self, bytes: usize) {
        if bytes == self.inbox.len() {
            self.shard.buffers.put(std::mem::take(&mut self.inbox));
        } else {
            self.inbox.drain(..bytes);
        }
    }

    /// Writes `range` of `buffer`; the buffer comes back only from a write that was not interrupted.
    pub(crate) async fn write(
        &mut self,
        buffer: Buffer,
        range: std::ops::Range<usize>,
    ) -> Result<Buffer, Interrupt> {
        self.deadline.set(self.shard.plan.timeouts.write_stall);
        let (sent, buffer) = watch::until(&self.deadline, self.writer.write_all(buffer, range)).await?;
        sent.map(|()| buffer).map_err(|_| Interrupt::ClientGone)
    }

    fn received(&mut self, read: io::Result<usize>, buffer: Buffer) -> io::Result<usize> {
        let armed = std::mem::replace(&mut self.armed, Armed::Nothing);
        if let Ok(bytes) = read {
            self.shard.numbers.add(Counter::BytesFromClients, bytes as u64);
        }
        if armed == Armed::Inbox || self.inbox.is_empty() {
            self.shard.buffers.put(std::mem::replace(&mut self.inbox, buffer));
        } else {
            self.inbox.extend_from_slice(&buffer);
            self.shard.buffers.put(buffer);
        }
        read
    }

    fn ahead_max(&self) -> usize {
        self.shard.plan.limits.body_buffer_bytes + AHEAD_BYTES
    }

    /// Ends our side. Over TLS that is what tells a whole response from a cut one (RFC 9112 section 9.8).
    async fn finish(&mut self) {
        self.deadline.set(self.shard.plan.timeouts.write_stall);
        let _ = watch::until(&self.deadline, self.writer.finish()).await; // a client that stalls is left
    }

    /// Ends our side and reads on for a while, so that the client sees the response before a reset.
    async fn linger(&mut self) {
        self.finish().await;
        self.deadline.set(LINGER);
        let mut left = LINGER_BYTES;
        while left > 0 {
            let had = self.inbox.len();
            match self.fill(0).await {
                Ok(true) => left = left.saturating_sub(self.inbox.len() - had),
                _ => return,
            }
            self.consume(self.inbox.len());
        }
    }
}

/// Patience for a PROXY header: proxies send it at once.
const PROXY_HEADER: Nanos = Nanos(3_000_000_000);
/// Patience for the first byte of a request that will be refused.
const TURN_AWAY: Nanos = Nanos(1_000_000_000);
/// Patience for a TLS handshake.
const TLS_HANDSHAKE: Nanos = Nanos(5_000_000_000);
/// What an idle client has left when the shard closes: a request that was sent before it could know.
const LAST_CHANCE: Nanos = Nanos(1_000_000_000);
/// Bytes a client may send ahead of its response, beside the request in work.
const AHEAD_BYTES: usize = 64 * 1024;
/// How long, and how much, we read after a response that ends the connection.
const LINGER: Nanos = Nanos(2_000_000_000);
const LINGER_BYTES: usize = 64 * 1024;
/// Room for one read of a body.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// What a body of which more than that has come gets room for, at least, if it needs as much: few steps for large ones.
const GROWTH_BYTES: usize = 256 * 1024;
/// A request of more than this is held once and sent from there, in several writes; a smaller one is copied behind its
/// new head and leaves in one (by taste).
const LARGE_REQUEST_BYTES: usize = 64 * 1024;
