use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn samples_of_two_shards_take_two_places() {
    check(|| {
        let speed = Arc::new(Speed::default());
        let other = Arc::clone(&speed);
        let shard = spawn(move || other.note(Sample { tokens: 1_000, streams: 1, seconds: 0.1 }));
        speed.note(Sample { tokens: 2_000, streams: 2, seconds: 0.2 });
        shard.join().unwrap();
        let taken = speed.words.iter().filter(|word| word.load(Ordering::Relaxed) != 0).count();
        assert_eq!(taken, 2);
    });
}
