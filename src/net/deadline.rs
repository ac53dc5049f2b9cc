//! Deadlines of a shard: one number per connection, looked at once per tick.
//!
//! Moving a deadline is a store. The tick walks the dense table (8 bytes a connection) and wakes whoever is due;
//! the woken task asks `is_due`. No timer is armed or cancelled per event, and no wake-up is lost for good: a due
//! entry is woken again on every tick until its owner moves it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::units::Nanos;

/// The table of one shard.
#[derive(Default)]
pub struct Deadlines {
    /// Due times; `Nanos::NEVER` for none. Same length as `wakers`.
    due: RefCell<Vec<Nanos>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    now: Cell<Nanos>,
}

/// One row of the table, given back on drop. It belongs to one task.
pub struct Deadline {
    table: Rc<Deadlines>,
    row: usize,
    /// The table knows whom to wake.
    known: Cell<bool>,
}

impl Deadlines {
    /// A row that is due never.
    pub fn row(self: &Rc<Self>) -> Deadline {
        let row = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.due.borrow_mut().push(Nanos::NEVER);
            self.wakers.borrow_mut().push(None);
            self.due.borrow().len() - 1
        });
        Deadline { table: Rc::clone(self), row, known: Cell::new(false) }
    }

    /// The time of the last tick: good enough for deadlines, free to read.
    pub fn now(&self) -> Nanos {
        self.now.get()
    }

    /// Moves the table's time forward and wakes the tasks that are due.
    ///
    /// After a pause of the whole process (a suspended machine, a stopped process) every deadline moves by the length
    /// of the pause: nobody had the chance to meet it.
    pub fn tick(&self, now: Nanos) {
        let gap = now.since(self.now.replace(now));
        if gap > PAUSE && self.now.get() != gap {
            for at in self.due.borrow_mut().iter_mut() {
                *at = at.plus(gap);
            }
        }
        let due = self.due.borrow();
        let wakers = self.wakers.borrow();
        for (row, at) in due.iter().enumerate() {
            if *at <= now
                && let Some(waker) = &wakers[row]
            {
                waker.wake_by_ref();
            }
        }
    }
}

impl Deadlines {
    /// Wakes the owner of one row, due or not.
    pub fn wake(&self, row: usize) {
        if let Some(Some(waker)) = self.wakers.borrow().get(row) {
            waker.wake_by_ref();
        }
    }

    /// Wakes everybody who waits with a deadline, due or not: something they all look at has changed.
    pub fn wake_all(&self) {
        self.wakers.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }
}

impl Deadline {
    /// Due `after` from the last tick.
    pub fn set(&self, after: Nanos) {
        self.set_at(self.table.now().plus(after));
    }

    /// Due at `at`.
    pub fn set_at(&self, at: Nanos) {
        self.table.due.borrow_mut()[self.row] = at;
    }

    /// Its row in the table.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Due never.
    pub fn clear(&self) {
        self.set_at(Nanos::NEVER);
    }

    /// When it is due.
    pub fn at(&self) -> Nanos {
        self.table.due.borrow()[self.row]
    }

    /// Waits until it is due.
    pub async fn passed(&self) {
        std::future::poll_fn(|context| if self.is_due(context) { Poll::Ready(()) } else { Poll::Pending })
            .await
    }

    /// Whether the last tick reached it. The first call says whom to wake when it does: a row is its task's for life.
    pub fn is_due(&self, context: &mut Context<'_>) -> bool {
        if !self.known.replace(true) {
            self.table.wakers.borrow_mut()[self.row] = Some(context.waker().clone());
        }
        self.at() <= self.table.now()
    }

    /// The time of the last tick.
    pub fn now(&self) -> Nanos {
        self.table.now()
    }
}

/// A tick later than this means that the process stood still, not that a peer did.
const PAUSE: Nanos = Nanos(1_000_000_000);

impl Drop for Deadline {
    fn drop(&mut self) {
        self.clear();
        self.table.wakers.borrow_mut()[self.row] = None;
        self.table.free.borrow_mut().push(self.row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(deadline: &Deadline) -> bool {
        deadline.is_due(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_deadline_is_due_from_the_tick_that_reaches_it() {
        let table = Rc::new(Deadlines::default());
        let row = table.row();
        assert!(!due(&row));
        row.set(Nanos(100));
        table.tick(Nanos(99));
        assert!(!due(&row));
        table.tick(Nanos(100));
        assert!(due(&row));
    }

    #[test]
    fn a_pause_of_the_process_expires_nothing() {
        let table = Rc::new(Deadlines::default());
        table.tick(Nanos(1));
        let row = table.row();
        row.set(Nanos(5_000_000_000));
        table.tick(Nanos(60_000_000_000));
        assert!(!due(&row));
        table.tick(Nanos(60_900_000_000));
        assert!(!due(&row));
    }

    #[test]
    fn a_row_given_back_is_due_never_for_its_next_owner() {
        let table = Rc::new(Deadlines::default());
        let row = table.row();
        row.set(Nanos(1));
        drop(row);
        let next = table.row();
        table.tick(Nanos(1000));
        assert!(!due(&next));
    }
}
