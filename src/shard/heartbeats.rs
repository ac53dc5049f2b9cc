//! Heartbeats for a client that waits for a stream of which nothing has come.
//!
//! Proxies and clients give up on a connection that stays silent. With `[timeouts] heartbeat`, a client that asked for
//! a stream and has waited that long gets a head of the gateway's own and heartbeats, whatever its request waits for: a
//! slot, a retry, a connection, a head, the first content. Nothing that a backend sent has gone out by then, so another
//! one may still be called; the head of the backend that responds in the end is not passed on, and a failure is an error
//! record in the stream instead of a status.
//!
//! Every wait before the relay goes through [`Client::wait`](super::client::Client::wait), which polls this. A write goes on
//! in the client's writer meanwhile, and what is left of it is finished before anything else is written.

use std::task::{Context, Poll};

use super::exchange::{Exchange, SentHead};
use super::frame::{Framing, Transfer};
use super::heads;
use super::interrupt::{self, Interrupt};
use super::state::Shard;
use crate::dialect::Api;
use crate::dialect::request::Peek;
use crate::dialect::stream;
use crate::net::deadline::Deadline;
use crate::net::stream::Writer;
use crate::observe::counters::Counter;
use crate::units::Nanos;
use crate::wire::head::Version;

/// What a waiting client is sent, and when.
pub(super) struct Heartbeats {
    api: Api,
    version: Version,
    keep_alive: bool,
    every: Nanos,
    /// Header lines of the gateway's own, without those that depend on the time they are sent.
    lines: Vec<u8>,
    /// When the next heartbeat is due; during a write, when the client counts as stalled.
    due: Deadline,
    is_writing: bool,
    sent: Option<SentHead>,
}

impl Heartbeats {
    /// For a client that waits from now on. `None` where heartbeats are off, no stream was asked for, or the API has no form
    /// for one; nor for a client that fetches a stored response, whose next sequence number only the backend knows.
    pub(super) fn new(exchange: &Exchange, peek: &Peek) -> Option<Box<Self>> {
        let shard = &exchange.shard;
        let every = shard.plan.timeouts.heartbeat;
        if every == Nanos::NEVER || !peek.stream || !peek.api.makes_streams() || !peek.api.beats() {
            return None;
        }
        let due = shard.deadlines.row();
        due.set(every);
        let mut lines = Vec::new();
        heads::identity_lines(&mut lines, exchange);
        let (version, keep_alive) = (exchange.terms.version, exchange.terms.keep_alive);
        let (is_writing, sent) = (false, None);
        Some(Box::new(Self { api: peek.api, version, keep_alive, every, lines, due, is_writing, sent }))
    }

    /// What the client has been sent.
    pub(super) fn sent(&self) -> Option<SentHead> {
        self.sent
    }

    /// Sends what is due. `Some`: the client does not take it.
    #[cold] // only where heartbeats are on
    pub(super) fn poll(
        &mut self,
        shard: &Shard,
        writer: &mut Writer,
        context: &mut Context<'_>,
    ) -> Option<Interrupt> {
        loop {
            if self.is_writing {
                match writer.poll_sent(context) {
                    Poll::Ready((Ok(()), buffer)) => {
                        shard.buffers.put(buffer);
                        self.is_writing = false;
                        self.due.set(self.every);
                    }
                    Poll::Ready((Err(_), _)) => return Some(Interrupt::ClientGone),
                    Poll::Pending => return self.due.is_due(context).then_some(Interrupt::ClientStalled),
                }
            }
            if !self.due.is_due(context) {
                return None;
            }
            self.send(shard, writer);
        }
    }

    fn send(&mut self, shard: &Shard, writer: &mut Writer) {
        let mut out = shard.buffers.small();
        let sent = *self.sent.get_or_insert_with(|| {
            let framing = match self.version {
                Version::Http11 => Framing::Chunked,
                Version::Http10 => Framing::Close,
            };
            let keep_alive = self.keep_alive && framing == Framing::Chunked && !shard.is_draining();
            let transfer = Transfer { version: self.version, framing, keep_alive };
            heads::heartbeat_head(&mut out, shard, &self.lines, transfer);
            SentHead { framing, keep_alive, bytes: 0 }
        });
        let mut record = shard.buffers.small();
        stream::heartbeat(self.api, 0, &mut record);
        sent.framing.records(&mut out, &record);
        shard.buffers.put(record);
        shard.numbers.inc(Counter::Heartbeats);
        let end = out.len();
        self.sent = Some(SentHead { bytes: sent.bytes + end as u64, ..sent });
        self.due.set(shard.plan.timeouts.write_stall);
        self.is_writing = true;
        writer.start(out, 0..end);
    }

    /// Finishes the write that is under way.
    ///
    /// # Errors
    /// The client has gone, or does not take it.
    pub(super) async fn finish(&mut self, shard: &Shard, writer: &mut Writer) -> Result<(), Interrupt> {
        if !self.is_writing {
            return Ok(());
        }
        let sent = std::future::poll_fn(|context| writer.poll_sent(context));
        match interrupt::until(&self.due, sent).await {
            Ok((Ok(()), buffer)) => {
                shard.buffers.put(buffer);
                self.is_writing = false;
                Ok(())
            }
            Ok((Err(_), _)) => Err(Interrupt::ClientGone),
            Err(_) => Err(Interrupt::ClientStalled),
        }
    }
}
