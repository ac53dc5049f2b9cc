//! Requests that wait for a slot of their pool: every backend that could take them has as much in flight as it may.
//!
//! Each shard has a queue of its own for each model; only the request whose turn it is looks for a slot, when one comes
//! free on this shard and at every tick, which is how it hears of those that come free on others. How many may wait is
//! one count over all shards.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::{Core, Shard};
use crate::observe::Counter;
use crate::policy::queue::FairQueue;
use crate::units::{KeyId, ModelId};

/// The queues of one shard.
#[derive(Default)]
pub(crate) struct Queues {
    /// Requests that wait, in all of them: almost always none.
    waiting: Cell<usize>,
    lines: RefCell<HashMap<Line, Queue>>,
}

type Queue = FairQueue<Option<KeyId>, Rc<Ticket>>;

/// A model, by the generation of the plan that numbers it.
type Line = (u64, ModelId);

/// One request that waits.
#[derive(Default)]
struct Ticket {
    /// It may look for a slot.
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place in a queue, left on drop.
pub(super) struct Place {
    shard: Rc<Shard>,
    model: ModelId,
    ticket: Rc<Ticket>,
}

impl Queues {
    /// Whether a request for this model has to wait behind others.
    pub(super) fn is_waiting(&self, shard: &Shard, model: ModelId) -> bool {
        self.waiting.get() > 0 && self.lines.borrow().contains_key(&(shard.plan.generation, model))
    }

    /// A slot may have come free: whoever has the turn looks.
    pub(super) fn call(&self) {
        if self.waiting.get() > 0 {
            self.lines.borrow().values().filter_map(FairQueue::head).for_each(|ticket| ticket.call());
        }
    }
}

impl Ticket {
    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Place {
    /// The last place of the key's; `None` if as many wait as may, over all shards.
    pub(super) fn take(shard: &Rc<Shard>, model: ModelId, key: Option<KeyId>) -> Option<Self> {
        let plan = &shard.plan;
        if !plan.cells.model(model).waiting.try_enter(plan.limits.queue) {
            return None;
        }
        let queues = &shard.queues;
        queues.waiting.set(queues.waiting.get() + 1);
        shard.numbers.inc(Counter::QueueWaiting);
        shard.numbers.inc(Counter::QueueEntered);
        let ticket = Rc::new(Ticket { called: Cell::new(true), ..Ticket::default() });
        queues.lines.borrow_mut().entry((plan.generation, model)).or_default().push(key, Rc::clone(&ticket));
        Some(Self { shard: Rc::clone(shard), model, ticket })
    }

    /// Waits until it has the turn and there is something to look for.
    pub(super) async fn turn(&self) {
        poll_fn(|context| {
            if self.has_turn() && self.ticket.called.take() {
                return Poll::Ready(());
            }
            *self.ticket.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn line(&self) -> Line {
        (self.shard.plan.generation, self.model)
    }

    fn has_turn(&self) -> bool {
        let lines = self.shard.queues.lines.borrow();
        let head = lines.get(&self.line()).and_then(FairQueue::head);
        head.is_some_and(|head| Rc::ptr_eq(head, &self.ticket))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let core: &Core = &self.shard;
        let queues = &core.queues;
        queues.waiting.set(queues.waiting.get() - 1);
        core.numbers.dec(Counter::QueueWaiting);
        self.shard.plan.cells.model(self.model).waiting.leave();
        let mut lines = queues.lines.borrow_mut();
        let line = self.line();
        if let Some(queue) = lines.get_mut(&line) {
            queue.remove(|ticket| Rc::ptr_eq(ticket, &self.ticket));
            match queue.head() {
                // There may be a slot for the next one, too.
                Some(next) => next.call(),
                None => drop(lines.remove(&line)),
            }
        }
    }
}
