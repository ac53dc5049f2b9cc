//! A stream that its backend cut goes on at another one: the client sees one response.

use std::rc::Rc;

use super::{Broken, Relay};
use crate::clock;
use crate::error::{Fault, FaultKind};
use crate::observe::counters::Counter;
use crate::policy::routing::failure_state::{Probes, Report};
use crate::shard::body::Body;
use crate::shard::client::Client;
use crate::shard::dispatch;
use crate::shard::exchange::SentHead;
use crate::shard::interrupt::Interrupt;
use crate::shard::relay::inspect::Inspector;
use crate::shard::request::Request;
use crate::shard::response::Response;

impl Relay<'_> {
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
        let resume = self.response.resume.take_if(|_| is_backends && is_between);
        let (Some(mut resume), Some(model)) = (resume, self.exchange.model) else { return Err(broken) };
        let Some((said, kept)) = resume.go_on() else { return Err(broken) };
        self.response.lease.give_back();

        let (cut, body) = (self.response.deployment, Body::kept(kept.payload));
        let request = Request {
            head: &kept.head,
            body: &body,
            api: self.exchange.api.unwrap_or_default(),
            peek: kept.peek,
            model,
            bound: None,
            id: Vec::new(),
            said: Some(said),
        };
        client.take_request(Rc::clone(&kept.bytes));
        let rest = dispatch::resume(client, self.exchange, &request, cut).await;
        client.forget_request();
        match rest {
            Ok(mut response) if response.can_go_on(request.api) => {
                if !self.response.decoded.ended {
                    self.blame(client, kind);
                }
                self.count_events();
                self.output_before += self.inspector.output_estimate();
                resume.join();
                response.resume = Some(resume);
                response.translation = self.response.translation.take();
                client.shard.numbers.inc(Counter::StreamsResumed);
                self.join(client, response)
            }
            Err(fault) if fault.kind == FaultKind::ClientGone => Err(Broken::Client(Interrupt::ClientGone)),
            Err(fault) if matches!(fault.kind, FaultKind::KeyRevoked | FaultKind::Draining) => {
                Err(Broken::Backend(fault))
            }
            _ => Err(broken),
        }
    }

    /// Goes on with another response.
    fn join(&mut self, client: &mut Client, mut response: Response) -> Result<(), Broken> {
        if let Some(held) = self.next.take() {
            client.shard.buffers.put(held);
        }
        let from = response.head.len;
        if let Some(resume) = &mut response.resume {
            response.has_failed = resume.events(&mut response.buffer, from, response.decoded.ended);
            response.decoded.ended &= !response.has_failed;
        }
        if let Some(translation) = &mut response.translation {
            translation.go_on();
            let ended = response.decoded.ended;
            translation.records(&mut response.buffer, from, ended).map_err(Broken::Backend)?;
        }
        self.exchange.sent_head =
            Some(SentHead { framing: self.framing, keep_alive: self.keep_alive, bytes: self.written_bytes });
        self.inspector = Inspector::of(self.exchange, &response);
        self.response = response;
        (self.is_broken, self.last, self.from) = (false, false, 0);
        self.open(client);
        Ok(())
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
