//! How a relay ends: with the last bytes of its response, or before them.

use super::{Broken, Relay};
use crate::dialect::{Api, refusal};
use crate::error::{Fault, FaultKind};
use crate::observe::counters::Counter;
use crate::shard::client::Client;
use crate::shard::exchange::AfterResponse;
use crate::shard::interrupt::Interrupt;
use crate::shard::respond::{self, RecordEnd};
use crate::shard::settle::{Outcome, settle};
use crate::shard::wording::RESPONSE_LATE;

impl Relay<'_> {
    pub(super) fn interrupted(&self, client: &Client, interrupt: Interrupt) -> Broken {
        if interrupt == Interrupt::ClientGone {
            return Broken::Client(interrupt);
        }
        Broken::Backend(interrupt.fault(|| match client.deadline.at() >= self.total {
            true if self.is_response_late => Fault::new(FaultKind::FirstTokenTimeout, RESPONSE_LATE),
            true => Fault::new(FaultKind::TotalTimeout, "the response took too long"),
            false => Fault::new(FaultKind::EventTimeout, "the backend went silent"),
        }))
    }

    /// The last bytes are about to be written: the true usage is known.
    pub(super) fn settle_whole(&mut self) {
        self.response.lease.first_token();
        if let (Some(metering), Some(usage)) = (&self.metering, self.inspector.usage()) {
            metering.learn(self.exchange, &self.response, usage.output);
        }
        let status = self.response.head.status;
        self.see_usage();
        self.record_end();
        self.settle(match self.inspector.errored() {
            true => Outcome::failed(FaultKind::BackendFailed, status),
            false => Outcome::served(status),
        });
    }

    /// The response does not get to its end: the client must be able to tell, and pays for what it got.
    pub(super) async fn broken(&mut self, client: &mut Client, broken: Broken) -> AfterResponse {
        let status = self.response.head.status;
        let (fault, is_stopped) = match broken {
            Broken::Client(interrupt) => {
                self.settle(Outcome::failed(interrupt.client_fault(), status));
                return AfterResponse::Close;
            }
            Broken::Backend(fault) => (fault, false),
            Broken::Stopped(fault) => (fault, true),
        };
        let outcome = Outcome::failed(fault.kind, status);
        if is_stopped {
            client.shard.numbers.inc(Counter::StreamsStopped);
        }
        // A body that ended as its transport should, but without a finish reason, is a habit of the server: it works.
        if !self.response.decoded.ended && !is_stopped {
            self.blame(client, fault.kind);
        }
        let is_holding = self.metering.as_ref().is_some_and(|metering| metering.is_holding());
        let is_mid_event = self.metering.as_ref().is_some_and(|metering| metering.is_mid_event());
        let sequence = match is_holding {
            true if is_mid_event => None,
            true => self.inspector.sequence(),
            false => self.inspector.next_sequence(),
        };
        let Some(sequence) = sequence else {
            // No proper end exists: leave the body short, or where only the close ends it, break the connection.
            self.settle(outcome);
            client.writer.reset_on_close();
            return AfterResponse::Close;
        };
        self.count();
        let api = self.exchange.api.unwrap_or_default();
        let mut record = client.shard.buffers.large();
        refusal::in_stream(api, &fault, self.exchange.request_id.as_bytes(), sequence, &mut record);
        let end = RecordEnd { framing: self.framing, outcome, after: self.after() };
        respond::error_record(client, self.exchange, record, end).await
    }

    fn settle(&mut self, outcome: Outcome) {
        self.count();
        settle(self.exchange, outcome);
    }

    /// Takes over what was counted on the way.
    fn count(&mut self) {
        self.exchange.response_bytes = self.written_bytes;
        let numbers = &self.exchange.shard.numbers;
        numbers.add(Counter::BytesFromBackends, self.read_bytes);
        numbers.add(Counter::BytesToClients, self.written_bytes);
        self.count_events();
        self.see_usage();
    }

    /// Takes over how many events passed.
    pub(super) fn count_events(&self) {
        let numbers = &self.exchange.shard.numbers;
        numbers.add(Counter::EventsRelayed, self.inspector.event_count());
        numbers.add(Counter::EventsInPieces, self.inspector.pieces_count());
    }

    /// Takes over the usage.
    fn see_usage(&mut self) {
        // A stored response that is fetched says what it has cost; it is not charged once more.
        if self.exchange.api.is_some_and(Api::has_id) {
            return;
        }
        if let Some(usage) = self.inspector.usage() {
            self.exchange.usage = *usage;
        }
        if self.response.head.status < 300 {
            self.exchange.is_charged = self.exchange.charges(self.response.head.status);
            let metered = self.metering.as_ref().map(|metering| metering.tokens());
            self.exchange.output_estimate =
                metered.unwrap_or_else(|| self.output_before + self.inspector.output_estimate());
        }
    }
}
