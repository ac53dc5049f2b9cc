//! A stream that has come to its end but for the verdict of guards in other processes.

use std::task::{Context, Poll};

use super::buffers::{HEADROOM, ready};
use super::{Broken, Relay, WaitsFor};
use crate::shard::client::Client;
use crate::shard::external::Asking;
use crate::shard::interrupt::Interrupt;
use crate::shard::rename;

impl Relay<'_> {
    pub(super) fn awaits_verdict(&self) -> bool {
        self.response.guarding.as_ref().is_some_and(|guarding| guarding.awaits_verdict())
    }

    /// Everything before the end has been written: asks.
    pub(super) fn ask(&mut self) {
        if let Some(guarding) = &mut self.response.guarding {
            guarding.ask(self.exchange);
        }
        self.waits_for = WaitsFor::Verdict;
    }

    pub(super) fn poll_verdict(
        &mut self,
        client: &mut Client,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while let Some(asking) = self.asking()
            && let Some(due) = asking.due()
        {
            if asking.poll(context).is_ready() {
                continue;
            }
            client.deadline.set_at(due.min(self.total));
            match client.poll_interrupt(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Interrupt::DeadlineExceeded) if due <= self.total => {
                    self.asking().into_iter().for_each(|asking| asking.time_out(due));
                }
                Poll::Ready(interrupt) => return Poll::Ready(Err(self.interrupted(client, interrupt))),
            }
        }
        Poll::Ready(self.judged(client))
    }

    fn asking(&mut self) -> Option<&mut Asking> {
        self.response.guarding.as_mut()?.asking.as_mut()
    }

    /// The verdict is there: starts to write the end.
    fn judged(&mut self, client: &mut Client) -> Result<(), Broken> {
        let Some(guarding) = &mut self.response.guarding else { return Ok(()) };
        let verdict = guarding.asking.take().map_or(Ok(()), |asking| asking.decide(self.exchange));
        let mut buffer = ready(client.shard.buffers.large());
        guarding.release(&mut buffer);
        rename::events(self.exchange, &self.inspector, &self.response, &mut buffer, HEADROOM);
        // The usage in it counts whatever the verdict is.
        let found = self.inspector.take(&mut buffer, HEADROOM, true);
        if let Err(fault) = verdict {
            client.shard.buffers.put(buffer);
            return Err(Broken::Backend(fault));
        }
        self.is_broken |= self.inspector.is_cut();
        self.last = !self.is_broken && !self.response.has_failed;
        self.keep(client, found, &mut buffer, HEADROOM);
        self.send(client, buffer);
        Ok(())
    }
}
