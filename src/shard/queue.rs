//! The queues of a shard: requests that wait for a slot because every backend of their model is at its in-flight limit.
//!
//! Each shard has one queue per model. Only the request at its head looks for a slot: when one is given back on this shard,
//! and at every tick, which is how it notices slots that other shards give back. How many requests may wait is one count
//! over all shards (`dispatch::queue_place`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;

use crate::policy::routing::queue::FairQueue;
use crate::units::{KeyId, ModelId};

/// The queues of one shard.
#[derive(Default)]
pub(crate) struct Queues {
    /// Requests that wait, in all queues: almost always none.
    waiting: Cell<usize>,
    queues: RefCell<HashMap<QueueId, Queue>>,
}

type Queue = FairQueue<Option<KeyId>, Rc<Ticket>>;

/// A model, and the generation of the plan that numbers it.
pub(super) type QueueId = (u64, ModelId);

/// One request that waits.
#[derive(Default)]
pub(super) struct Ticket {
    /// It may look for a slot.
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queues {
    /// Whether a request for this queue has to wait behind others.
    pub(super) fn is_waiting(&self, id: QueueId) -> bool {
        self.waiting.get() > 0 && self.queues.borrow().contains_key(&id)
    }

    /// A slot may have been given back: the head of each queue looks for one.
    pub(super) fn call(&self) {
        if self.waiting.get() > 0 {
            self.queues.borrow().values().filter_map(FairQueue::head).for_each(|ticket| ticket.call());
        }
    }

    /// Appends a ticket to the queue, behind those of the same key. It has to [`leave`](Self::leave).
    pub(super) fn enter(&self, id: QueueId, key: Option<KeyId>) -> Rc<Ticket> {
        self.waiting.set(self.waiting.get() + 1);
        let ticket = Rc::new(Ticket { called: Cell::new(true), ..Ticket::default() });
        self.queues.borrow_mut().entry(id).or_default().push(key, Rc::clone(&ticket));
        ticket
    }

    /// Whether a ticket is at the head of its queue and was called since it last looked: true once for each call.
    pub(super) fn may_look(&self, id: QueueId, ticket: &Rc<Ticket>) -> bool {
        let queues = self.queues.borrow();
        let head = queues.get(&id).and_then(FairQueue::head);
        head.is_some_and(|head| Rc::ptr_eq(head, ticket)) && ticket.called.take()
    }

    /// Removes a ticket and calls the next one: there may be a slot for it, too.
    pub(super) fn leave(&self, id: QueueId, ticket: &Rc<Ticket>) {
        self.waiting.set(self.waiting.get() - 1);
        let mut queues = self.queues.borrow_mut();
        if let Some(queue) = queues.get_mut(&id) {
            queue.remove(|other| Rc::ptr_eq(other, ticket));
            match queue.head() {
                Some(next) => next.call(),
                None => drop(queues.remove(&id)),
            }
        }
    }
}

impl Ticket {
    /// The task to wake when the ticket is called.
    pub(super) fn set_waker(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
