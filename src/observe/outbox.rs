//! The two ends between one shard and the coordinator: a pair for each plan that the shard serves by. Records of all of
//! them wait in one queue.

use std::sync::Arc;

use super::counters::{Counter, ShardNumbers};
use super::histogram::{Intervals, Recorder, Totals, lane};
use super::record::Record;
use super::tables::{Before, Rows, UsageTables};
use crate::sync::ArrayQueue;
use crate::units::{ModelId, ShardId};

/// The shard's end.
pub struct ShardOutbox {
    numbers: Arc<ShardNumbers>,
    tables: Arc<UsageTables>,
    recorder: Recorder,
    records: Option<Arc<ArrayQueue<Record>>>,
}

/// The coordinator's end.
pub struct ShardInbox {
    /// Whose it is.
    pub shard: ShardId,
    /// The shard's numbers.
    pub numbers: Arc<ShardNumbers>,
    /// What was used on it, by the rows of this pair's plan.
    pub tables: Arc<UsageTables>,
    intervals: Intervals,
    records: Option<Arc<ArrayQueue<Record>>>,
}

/// Both ends for one shard. `records_max` bounds the records that wait for the access log; `None` is for a log
/// that is off: no record is kept and none is counted as dropped.
pub fn channel(shard: ShardId, rows: Rows, records_max: Option<usize>) -> (ShardOutbox, ShardInbox) {
    let records = records_max.map(|most| Arc::new(ArrayQueue::new(most.max(1))));
    pair(shard, Arc::default(), UsageTables::new(rows), rows.models, records)
}

fn pair(
    shard: ShardId,
    numbers: Arc<ShardNumbers>,
    tables: UsageTables,
    models: usize,
    records: Option<Arc<ArrayQueue<Record>>>,
) -> (ShardOutbox, ShardInbox) {
    let (tables, (recorder, intervals)) = (Arc::new(tables), lane(models));
    let outbox =
        ShardOutbox { numbers: numbers.clone(), tables: tables.clone(), recorder, records: records.clone() };
    (outbox, ShardInbox { shard, numbers, tables, intervals, records })
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
        self.tables.settle(record);
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
    /// The pair for the next plan of the same shard: what was counted goes on, rows that mean the same do too.
    pub fn next(&self, before: &Before) -> (ShardOutbox, ShardInbox) {
        let tables = self.tables.next(before);
        pair(self.shard, self.numbers.clone(), tables, before.models.len(), self.records.clone())
    }

    /// Whether the shard's end is gone, and all it had to say has been taken.
    pub fn is_over(&self) -> bool {
        self.intervals.has_left()
            && self.records.as_ref().is_none_or(|records| records.is_empty())
            && self.intervals.is_empty()
    }

    /// Adds what the shard has handed over to `totals`, and gives the emptied histograms back. `row` tells which row
    /// there a model of this pair's plan has; `None` leaves it out.
    pub fn merge_into(&self, totals: &mut Totals, row: impl Fn(ModelId) -> Option<ModelId>) {
        self.intervals.merge_into(totals, row);
    }

    /// The next record for the access log, whichever plan the exchange was served by.
    pub fn next_record(&self) -> Option<Record> {
        self.records.as_ref()?.pop()
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

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
        inbox.merge_into(&mut totals, Some);
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

    #[test]
    fn the_pair_of_an_old_plan_is_over_once_its_shard_has_left_and_everything_was_taken() {
        let (mut old, inbox) = channel(ShardId::new(0), ROWS, Some(4));
        let same = Before { keys: Box::new([None]), models: Box::new([None]), backends: Box::new([None]) };
        let (mut new, newer) = inbox.next(&same);
        old.settle(&sample());
        new.settle(&sample());
        assert_eq!(newer.numbers.all().requests[0], 2, "one shard, one count");
        assert!(!inbox.is_over());
        drop(old);
        assert!(!inbox.is_over(), "a record and an interval wait");
        let mut totals = Totals::new(1);
        inbox.merge_into(&mut totals, Some);
        assert_eq!(inbox.next_record(), Some(sample()));
        assert_eq!(newer.next_record(), Some(sample()), "one queue for both");
        assert!(inbox.is_over());
        assert_eq!(totals.model(ModelId::new(0)).unwrap().duration.count(), 1, "the last interval came, too");
    }
}
