//! What the coordinator tells running shards beside the plan: to take nothing new, and when to stop. And what they tell
//! it: that they have.
//!
//! Shards look at it in their tick; nothing here wakes anybody.

use std::cell::Cell;
use std::sync::Arc;

use crate::sync::{ArrayQueue, AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::units::{Nanos, ShardId};

/// Shared by the coordinator, which asks, and the shards, which obey.
pub struct Control {
    shards: usize,
    started: AtomicUsize,
    closing: AtomicUsize,
    ended: AtomicUsize,
    draining: AtomicBool,
    shedding: AtomicBool,
    stalls: AtomicU64,
    stop_accepting: AtomicBool,
    cut_at: AtomicU64,
    /// By `ShardId`: the rows of its table of deadlines whose responses were told to stop.
    stopped: Box<[ArrayQueue<u32>]>,
}

/// A shard that serves; dropping it (also by a panic of its thread) says that it has ended.
pub struct Presence {
    control: Arc<Control>,
    is_closing: Cell<bool>,
}

impl Presence {
    /// Says, once, that this shard hands no client to another any more.
    pub fn close(&self) {
        if !self.is_closing.replace(true) {
            self.control.closing.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Control {
    /// For so many shards, none of which has started.
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            started: AtomicUsize::new(0),
            closing: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            shedding: AtomicBool::new(false),
            stalls: AtomicU64::new(0),
            stop_accepting: AtomicBool::new(false),
            cut_at: AtomicU64::new(Nanos::NEVER.0),
            stopped: (0..shards).map(|_| ArrayQueue::new(STOPPED_MAX)).collect(),
        }
    }

    /// Called by a shard once its listeners are open; it keeps the guard for as long as it serves.
    pub fn enter(self: &Arc<Self>) -> Presence {
        self.started.fetch_add(1, Ordering::AcqRel);
        Presence { control: self.clone(), is_closing: Cell::new(false) }
    }

    /// Wakes a response that was told to stop, at the next tick of its shard. False if as many wait to be woken as may: it finds out
    /// with its next event.
    pub fn wake(&self, home: Home) -> bool {
        self.stopped.get(home.shard()).is_some_and(|rows| rows.push(home.row()).is_ok())
    }

    /// The row of the next response of this shard that was told to stop.
    pub fn next_stopped(&self, shard: ShardId) -> Option<u32> {
        self.stopped.get(shard.index())?.pop()
    }

    /// Whether clients should go elsewhere: answers ask them to, and readiness fails.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Lets readiness fail from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether new requests are refused, for want of memory.
    pub fn is_shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    /// Refuses new requests from now on, or takes them again.
    pub fn shed(&self, sheds: bool) {
        self.shedding.store(sheds, Ordering::Relaxed);
    }

    /// A shard was seen standing still.
    pub fn count_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// How often shards were seen standing still.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Whether shards close their listeners and idle connections, and end after their last exchange.
    pub fn stop_accepting(&self) -> bool {
        self.stop_accepting.load(Ordering::Acquire)
    }

    /// When the exchanges that still run are cut; [`Nanos::NEVER`] while serving. It may come closer, never recede.
    pub fn cut_at(&self) -> Nanos {
        Nanos(self.cut_at.load(Ordering::Acquire))
    }

    /// Asks the shards to end by `cut_at`; asking again with an earlier time brings the end closer.
    pub fn stop(&self, cut_at: Nanos) {
        self.cut_at.fetch_min(cut_at.0, Ordering::AcqRel);
        self.stop_accepting.store(true, Ordering::Release);
    }

    /// Whether no shard hands a client to another any more: what has not been handed over by now never will be.
    pub fn all_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) >= self.shards
    }

    /// How many serve now.
    pub fn running(&self) -> usize {
        // `ended` first: a shard enters before it ends.
        let ended = self.ended.load(Ordering::Acquire);
        self.started.load(Ordering::Acquire).saturating_sub(ended)
    }

    /// Whether every shard has started; stays true when they end.
    pub fn all_started(&self) -> bool {
        self.started.load(Ordering::Acquire) >= self.shards
    }

    /// Whether every shard has started and ended.
    pub fn all_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) >= self.shards
    }
}

/// Where a response runs: a shard, and the row of its client in the shard's table of deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Home(pub u64);

impl Home {
    /// Of a row of a shard.
    pub fn new(shard: ShardId, row: usize) -> Self {
        Self((shard.index() as u64) << 32 | row as u64 & u64::from(u32::MAX))
    }

    fn shard(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn row(self) -> u32 {
        self.0 as u32
    }
}

/// Responses of one shard that wait to be woken. Chosen, not measured.
const STOPPED_MAX: usize = 256;

impl Drop for Presence {
    fn drop(&mut self) {
        self.close();
        self.control.ended.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_in_and_out() {
        let control = Arc::new(Control::new(2));
        let first = control.enter();
        assert!(!control.all_started());
        let second = control.enter();
        assert_eq!(control.running(), 2);
        drop(first);
        assert_eq!(control.running(), 1);
        assert!(control.all_started() && !control.all_ended());
        drop(second);
        assert!(control.all_ended());
    }

    #[test]
    fn a_shard_that_panics_has_ended() {
        let control = Arc::new(Control::new(1));
        let inside = control.clone();
        let thread = std::thread::spawn(move || {
            let _presence = inside.enter();
            std::panic::resume_unwind(Box::new("scripted"));
        });
        assert!(thread.join().is_err());
        assert!(control.all_ended());
    }

    #[test]
    fn a_stopped_response_is_woken_where_it_runs() {
        let control = Control::new(2);
        assert!(control.wake(Home::new(ShardId::new(1), 70)));
        assert_eq!(control.next_stopped(ShardId::new(0)), None);
        assert_eq!(control.next_stopped(ShardId::new(1)), Some(70));
        assert!(!control.wake(Home::new(ShardId::new(2), 0)), "no such shard");
        assert!(
            (0..STOPPED_MAX + 1).map(|row| control.wake(Home::new(ShardId::new(0), row))).any(|woken| !woken)
        );
    }

    #[test]
    fn the_end_comes_closer_but_never_recedes() {
        let control = Control::new(1);
        assert_eq!((control.stop_accepting(), control.cut_at()), (false, Nanos::NEVER));
        control.stop(Nanos(50));
        control.stop(Nanos(90));
        assert_eq!((control.stop_accepting(), control.cut_at()), (true, Nanos(50)));
        control.stop(Nanos(10));
        assert_eq!(control.cut_at(), Nanos(10));
    }
}
