//! A backend that is silent: what its client gets meanwhile, and when its time is over.

use super::{Broken, Relay, WaitsFor};
use crate::observe::counters::Counter;
use crate::shard::client::Client;
use crate::shard::frame::SIZE_BYTES;
use crate::units::Nanos;

impl Relay<'_> {
    /// Waits for the backend, no longer than `patience` and what is left of the exchange; to the next heartbeat at first, or until
    /// content rules let go of what they hold back.
    pub(super) fn wait(&mut self, client: &Client, patience: Nanos) {
        let now = client.deadline.now();
        let until = now.plus(patience).min(self.total);
        let mut at = now.plus(self.heartbeat).min(until);
        if let Some(guarding) = &self.response.guarding {
            at = at.min(guarding.due());
        }
        self.patience = until.since(at);
        client.deadline.set_at(at);
        self.waits_for = WaitsFor::Read;
    }

    /// The backend was silent until the deadline: lets go of what content rules held back, or starts a heartbeat. False if its time
    /// is over.
    pub(super) fn silent(&mut self, client: &mut Client) -> Result<bool, Broken> {
        let now = client.deadline.now();
        let Some(guarding) = self.response.guarding.as_mut().filter(|guarding| guarding.due() <= now) else {
            return Ok(self.beat(client));
        };
        let mut events = client.shard.buffers.large();
        guarding.let_go(&mut events).map_err(Broken::Backend)?;
        let found = self.inspector.take(&mut events, 0, false);
        self.record(&events, &found.pieces);
        self.first(client, found.first_token);
        if let Some(metering) = &mut self.metering {
            found.pieces.iter().for_each(|piece| metering.note(piece.of(&events)));
        }
        let mut out = client.shard.buffers.with_room(events.len() + SIZE_BYTES);
        let bytes: usize = found.pieces.iter().map(|piece| piece.len()).sum();
        self.framing.start(&mut out, bytes);
        found.pieces.iter().for_each(|piece| out.extend_from_slice(piece.of(&events)));
        self.framing.end(&mut out, bytes);
        client.shard.buffers.put(events);
        self.write(client, out, 0);
        // As after a heartbeat: the read goes on.
        self.waits_for = WaitsFor::Heartbeat;
        Ok(true)
    }

    /// Starts to write a heartbeat if it is one that is due, not the end of our patience: a whole record between two
    /// others. In the middle of a long event, or of a coded stream, there is no place for one.
    fn beat(&mut self, client: &mut Client) -> bool {
        if self.patience == Nanos(0) {
            return false;
        }
        if !self.inspector.is_between_events() {
            self.wait(client, self.patience);
            return true;
        }
        let (mut beat, mut out) = (client.shard.buffers.small(), client.shard.buffers.small());
        self.inspector.heartbeat(&mut beat);
        self.framing.records(&mut out, &beat);
        client.shard.buffers.put(beat);
        client.shard.numbers.inc(Counter::Heartbeats);
        self.write(client, out, 0);
        self.waits_for = WaitsFor::Heartbeat;
        true
    }
}
