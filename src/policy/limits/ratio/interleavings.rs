use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn whatever_is_lost_the_ratio_is_one_that_was_observed_or_lies_between() {
    check(|| {
        let ratio = Arc::new(TextRatio::default());
        let other = Arc::clone(&ratio);
        let thread = spawn(move || other.observe(300, 100));
        ratio.observe(500, 100);
        thread.join().unwrap();
        assert!((3_000..=5_000).contains(&ratio.milli_bytes(4)));
    });
}
