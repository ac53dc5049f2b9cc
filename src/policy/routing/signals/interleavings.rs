use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_reader_sees_no_report_or_whole_words_of_one() {
    check(|| {
        let signals = Arc::new(Signals::default());
        let written = Arc::clone(&signals);
        let report = Report { foreign: 7, foreign_waiting: 3, kv_usage: Some(0.5) };
        let coordinator = spawn(move || written.set(report, Some(1_000), Nanos(TENTH)));
        if let Some(seen) = signals.get(Nanos(TENTH), Nanos(TENTH)) {
            assert_eq!((seen.foreign, seen.foreign_waiting), (7, 3));
            assert!([None, Some(0.5)].contains(&seen.kv_usage));
        }
        coordinator.join().unwrap();
        assert_eq!(signals.get(Nanos(TENTH), Nanos(TENTH)), Some(report));
    });
}
