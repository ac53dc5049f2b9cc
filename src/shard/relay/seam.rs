//! A stream that its backend cut goes on at another one: the client sees one response.

use super::{Broken, Relay};
use crate::clock;
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::counters::Counter;
use crate::policy::routing::failure_state::{Probes, Report};
use crate::shard::body::Body;
use crate::shard::client::Client;
use crate::shard::dispatch;
use crate::shard::exchange::SentHead;
use crate::shard::interrupt::Interrupt;
use crate::shard::relay::buffers::HEADROOM;
use crate::shard::relay::inspect::Inspector;
use crate::shard::request::Request;
use crate::shard::response::Response;

impl Relay<'_> {
    /// The client is sent these events.
    #[inline]
    pub(super) fn note(&mut self, events: &[u8]) {
        if let Some(resume) = &mut self.resume {
            resume.note(events);
        }
    }

    /// What a read brought, as a part of the response that it goes on with. An error in it is where the backend cut it.
    #[inline]
    pub(super) fn joined(&mut self, buffer: &mut Buffer, ended: bool) {
        if let Some(resume) = &mut self.resume {
            resume.events(buffer, HEADROOM, ended);
            self.cut_failure(buffer, HEADROOM);
        }
    }

    /// Cuts off an error that has come from `from` on, and what follows it, if another backend can go on there.
    pub(super) fn cut_failure(&mut self, buffer: &mut Buffer, from: usize) {
        self.has_failed = self.resume.as_ref().is_some_and(|resume| resume.cut_failure(buffer, from));
    }

    /// The response broke off. Asks another backend for the rest, and takes its response in the place of the one that broke.
    ///
    /// # Errors
    /// It cannot go on: the response ends as a cut one.
    pub(super) async fn go_on(&mut self, client: &mut Client, broken: Broken) -> Result<(), Broken> {
        let kind = match &broken {
            Broken::Backend(fault) => fault.kind,
            Broken::Client(_) | Broken::Stopped(_) => return Err(broken),
        };
        let is_backends = matches!(
            kind,
            FaultKind::BackendCut
                | FaultKind::BackendFailed
                | FaultKind::BackendMalformed
                | FaultKind::EventTimeout
                | FaultKind::FirstTokenTimeout
        );
        let is_holding = self.metering.as_ref().is_some_and(|metering| metering.is_holding());
        let is_between = !is_holding && self.inspector.next_sequence().is_some() && !self.inspector.errored();
        let model = self.exchange.model;
        let resume = self.resume.take_if(|_| is_backends && is_between);
        let (Some(mut resume), Some(model)) = (resume, model) else { return Err(broken) };
        let Some(continued) = resume.go_on() else { return Err(broken) };
        self.blame(client, kind);
        self.count_events();
        self.output_before += self.inspector.output_estimate();
        let cut = self.response.deployment;
        self.response.lease.give_back();

        let (head, body) = (continued.head, Body::kept(&continued.head, &continued.request));
        let request = Request {
            head: &head,
            body: &body,
            api: self.exchange.api.unwrap_or_default(),
            peek: continued.peek,
            model,
            bound: None,
            id: Vec::new(),
        };
        client.take_request(continued.request);
        let resumed = dispatch::resume(client, self.exchange, &request, cut).await;
        client.forget_request();
        let resumed = resumed.map(|response| resume.join(response));
        match resumed {
            Ok(Some(response)) => {
                self.resume = Some(resume);
                client.shard.numbers.inc(Counter::StreamsResumed);
                self.join(client, response);
                Ok(())
            }
            Err(fault) if fault.kind == FaultKind::ClientGone => Err(Broken::Client(Interrupt::ClientGone)),
            Err(fault) if matches!(fault.kind, FaultKind::KeyRevoked | FaultKind::Draining) => {
                Err(Broken::Backend(fault))
            }
            _ => Err(broken),
        }
    }

    /// Goes on with another response.
    fn join(&mut self, client: &mut Client, response: Response) {
        if let Some(held) = self.next.take() {
            client.shard.buffers.put(held);
        }
        self.exchange.sent_head =
            Some(SentHead { framing: self.framing, keep_alive: self.keep_alive, bytes: self.written_bytes });
        self.inspector = Inspector::of(self.exchange, &response);
        self.response = response;
        (self.is_broken, self.has_failed, self.last, self.from) = (false, false, false, 0);
        self.open(client);
    }

    /// A backend that cuts a stream has failed.
    pub(super) fn blame(&self, client: &Client, kind: FaultKind) {
        let (plan, name) = (&client.shard.plan, self.exchange.model_hash());
        let state = plan.failure_state_of(self.response.deployment, name, self.response.alone);
        let report = Report { kind, asked: None, connected: true };
        state.report(report, Probes::default(), clock::now(), client.shard.random());
    }
}

/// An error in the middle of a stream.
pub(super) fn failed() -> Broken {
    Broken::Backend(Fault::new(FaultKind::BackendFailed, "the backend's stream ended with an error"))
}
