//! A request's place in the queue of its model.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::observe::Counter;
use crate::shard::queue::{QueueId, Ticket};
use crate::shard::state::Shard;
use crate::units::{KeyId, ModelId};

/// A place in a queue, left on drop.
pub(super) struct QueuePlace {
    shard: Rc<Shard>,
    model: ModelId,
    ticket: Rc<Ticket>,
}

impl QueuePlace {
    /// The last place among those of the key; `None` if the queue is full, counted over all shards.
    pub(super) fn take(shard: &Rc<Shard>, model: ModelId, key: Option<KeyId>) -> Option<Self> {
        let plan = &shard.plan;
        if !plan.models.cells(model).waiting.try_enter(plan.limits.queue) {
            return None;
        }
        shard.numbers.inc(Counter::QueueWaiting);
        shard.numbers.inc(Counter::QueueEntered);
        let ticket = shard.queues.enter((plan.generation, model), key);
        Some(Self { shard: Rc::clone(shard), model, ticket })
    }

    /// Waits until the request is at the head of the queue and a slot may be free.
    pub(super) async fn turn(&self) {
        poll_fn(|context| {
            if self.shard.queues.may_look(self.queue(), &self.ticket) {
                return Poll::Ready(());
            }
            self.ticket.set_waker(context.waker());
            Poll::Pending
        })
        .await
    }

    fn queue(&self) -> QueueId {
        (self.shard.plan.generation, self.model)
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.shard.numbers.dec(Counter::QueueWaiting);
        self.shard.plan.models.cells(self.model).waiting.leave();
        self.shard.queues.leave(self.queue(), &self.ticket);
    }
}
