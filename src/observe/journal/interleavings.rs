use super::tests::segment;
use super::*;
use crate::observe::record::tests::sample;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_record_before_the_end_has_been_counted() {
    check(|| {
        let (mut journal, lane) = channel();
        assert!(lane.prepare(segment("model", 0)).is_ok());
        let shard = spawn(move || journal.append(&sample(), &Names::default()));
        if lane.end() > 0 {
            assert_eq!(lane.records(), 1);
        }
        assert!(shard.join().unwrap());
        assert!(lane.end() > 0);
    });
}
