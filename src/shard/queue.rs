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
use crate::policy::routing::queue::FairQueue;
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
pub(super) type Line = (u64, ModelId);

/// One request that waits.
#[derive(Default)]
pub(super) struct Ticket {
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
    /// Whether a request for this line has to wait behind others.
    pub(super) fn is_waiting(&self, line: Line) -> bool {
        self.waiting.get() > 0 && self.lines.borrow().contains_key(&line)
    }

    /// A slot may have come free: whoever has the turn looks.
    pub(super) fn call(&self) {
        if self.waiting.get() > 0 {
            self.lines.borrow().values().filter_map(FairQueue::head).for_each(|ticket| ticket.call());
        }
    }

    /// The last place of the key's. It has to be left.
    pub(super) fn enter(&self, line: Line, key: Option<KeyId>) -> Rc<Ticket> {
        self.waiting.set(self.waiting.get() + 1);
        let ticket = Rc::new(Ticket { called: Cell::new(true), ..Ticket::default() });
        self.lines.borrow_mut().entry(line).or_default().push(key, Rc::clone(&ticket));
        ticket
    }

    /// Whether a ticket has the turn and there is something to look for: true once for each call.
    pub(super) fn may_look(&self, line: Line, ticket: &Rc<Ticket>) -> bool {
        let lines = self.lines.borrow();
        let head = lines.get(&line).and_then(FairQueue::head);
        head.is_some_and(|head| Rc::ptr_eq(head, ticket)) && ticket.called.take()
    }

    /// Takes a ticket out, and calls the next one: there may be a slot for it, too.
    pub(super) fn leave(&self, line: Line, ticket: &Rc<Ticket>) {
        self.waiting.set(self.waiting.get() - 1);
        let mut lines = self.lines.borrow_mut();
        if let Some(queue) = lines.get_mut(&line) {
            queue.remove(|other| Rc::ptr_eq(other, ticket));
            match queue.head() {
                Some(next) => next.call(),
                None => drop(lines.remove(&line)),
            }
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
        if !plan.models.cells(model).waiting.try_enter(plan.limits.queue) {
            return None;
        }
        shard.numbers.inc(Counter::QueueWaiting);
        shard.numbers.inc(Counter::QueueEntered);
        let ticket = shard.queues.enter((plan.generation, model), key);
        Some(Self { shard: Rc::clone(shard), model, ticket })
    }

    /// Waits until it has the turn and there is something to look for.
    pub(super) async fn turn(&self) {
        poll_fn(|context| {
            if self.shard.queues.may_look(self.line(), &self.ticket) {
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
}

impl Drop for Place {
    fn drop(&mut self) {
        let core: &Core = &self.shard;
        core.numbers.dec(Counter::QueueWaiting);
        self.shard.plan.models.cells(self.model).waiting.leave();
        core.queues.leave(self.line(), &self.ticket);
    }
}
