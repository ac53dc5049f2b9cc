//! The two ends between one shard and the coordinator.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::counters::{Counter, ShardNumbers};
use super::histogram::{Intervals, Recorder, Totals, lane};
use super::record::Record;
use crate::units::ShardId;

/// How many rows the tables of a shard have, from the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// Virtual keys.
    pub keys: usize,
    /// Public models.
    pub models: usize,
    /// Backends.
    pub backends: usize,
}

/// The shard's end.
pub struct ShardOutbox {
    numbers: Arc<ShardNumbers>,
    recorder: Recorder,
    records: Option<Arc<ArrayQueue<Record>>>,
}

/// The coordinator's end.
pub struct ShardInbox {
    /// Whose it is.
    pub shard: ShardId,
    /// The shard's numbers.
    pub numbers: Arc<ShardNumbers>,
    intervals: Intervals,
    records: Option<Arc<ArrayQueue<Record>>>,
}

/// Both ends for one shard. `records_max` bounds the records that wait for the access log; `None` is for a log
/// that is off: no record is kept and none is counted as dropped.
pub fn channel(shard: ShardId, rows: Rows, records_max: Option<usize>) -> (ShardOutbox, ShardInbox) {
    let numbers = Arc::new(ShardNumbers::new(rows));
    let records = records_max.map(|most| Arc::new(ArrayQueue::new(most.max(1))));
    let (recorder, intervals) = lane(rows.models);
    let outbox = ShardOutbox { numbers: numbers.clone(), recorder, records: records.clone() };
    (outbox, ShardInbox { shard, numbers, intervals, records })
}

impl ShardOutbox {
    /// The shard's numbers; connections clone the `Arc`, which stays on the shard's thread.
    pub fn numbers(&self) -> &Arc<ShardNumbers> {
        &self.numbers
    }

    /// Counts, measures and logs one settled exchange. Never blocks; allocates only when a model is seen for the
    /// first time.
    pub fn settle(&mut self, record: &Record) {
        self.numbers.settle(record);
        self.recorder.record(record);
        if let Some(records) = &self.records
            && records.push(*record).is_err()
        {
            self.numbers.inc(Counter::RecordsDropped);
        }
    }

    /// Hands the histograms over; called once a second by the shard's tick and once when it ends.
    pub fn flush(&mut self) {
        self.recorder.flush();
    }
}

impl ShardInbox {
    /// Adds what the shard has handed over to `totals`, and gives the emptied histograms back.
    pub fn merge_into(&self, totals: &mut Totals) {
        self.intervals.merge_into(totals);
    }

    /// The next record for the access log.
    pub fn next_record(&self) -> Option<Record> {
        self.records.as_ref()?.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::record::tests::sample;
    use crate::units::ModelId;

    const ROWS: Rows = Rows { keys: 1, models: 1, backends: 1 };

    #[test]
    fn a_settled_exchange_arrives_in_all_three_ways() {
        let (mut outbox, inbox) = channel(ShardId::new(0), ROWS, Some(4));
        outbox.settle(&sample());
        outbox.flush();
        let mut totals = Totals::new(1);
        inbox.merge_into(&mut totals);
        assert_eq!(inbox.numbers.all().requests[0], 1);
        assert_eq!(totals.model(ModelId::new(0)).unwrap().duration.count(), 1);
        assert_eq!(inbox.next_record(), Some(sample()));
        assert_eq!(inbox.next_record(), None);
    }

    #[test]
    fn records_beyond_the_bound_are_dropped_and_counted() {
        let (mut outbox, inbox) = channel(ShardId::new(0), ROWS, Some(2));
        for _ in 0..5 {
            outbox.settle(&sample());
        }
        assert_eq!(inbox.numbers.get(Counter::RecordsDropped), 3);
        assert_eq!(std::iter::from_fn(|| inbox.next_record()).count(), 2);
    }

    #[test]
    fn a_log_that_is_off_drops_nothing() {
        let (mut outbox, inbox) = channel(ShardId::new(0), ROWS, None);
        outbox.settle(&sample());
        assert_eq!(inbox.numbers.get(Counter::RecordsDropped), 0);
        assert_eq!(inbox.next_record(), None);
    }
}
