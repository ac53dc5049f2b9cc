use super::*;
use crate::observe::record::tests::sample;
use crate::sync::interleavings::{check, spawn};

const ROWS: Rows = Rows { keys: 1, models: 1, backends: 1 };

#[test]
fn a_record_that_is_read_has_been_counted() {
    check(|| {
        let (mut outbox, inbox) = channel(ShardId::new(0), ROWS, Some(2));
        let shard = spawn(move || outbox.settle(&Record { backend: None, ..sample() }));
        if inbox.next_record().is_some() {
            assert_eq!(inbox.numbers.all().requests[0], 1);
            assert_eq!(inbox.tables.model(ModelId::new(0)).requests[0], 1);
        }
        shard.join().unwrap();
    });
}

#[test]
fn an_end_that_is_over_has_had_its_last_record_and_its_last_interval_taken() {
    check(|| {
        let (mut outbox, inbox) = channel(ShardId::new(0), ROWS, Some(2));
        let shard = spawn(move || {
            outbox.settle(&sample());
            drop(outbox);
        });
        let (mut totals, mut records) = (Totals::new(1), 0);
        let take = |totals: &mut Totals, records: &mut usize| {
            inbox.merge_into(totals, Some);
            *records += std::iter::from_fn(|| inbox.next_record()).count();
        };
        take(&mut totals, &mut records);
        let is_over = inbox.is_over();
        let measured =
            |totals: &Totals| totals.model(ModelId::new(0)).map_or(0, |times| times.duration.count());
        if is_over {
            assert_eq!((records, measured(&totals)), (1, 1));
        }
        shard.join().unwrap();
        take(&mut totals, &mut records);
        assert_eq!((records, measured(&totals)), (1, 1));
        assert!(inbox.is_over());
    });
}
