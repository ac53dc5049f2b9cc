use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_full_shard_gives_its_client_away_whatever_the_other_is_at_and_counts_end_where_they_began() {
    check(|| {
        let (spill, _bells) = Spill::new(2).expect("socket pairs");
        (0..2 * SLACK + 2).for_each(|_| spill.enter(0));
        let own = Arc::clone(&spill);
        let shard = spawn(move || {
            own.enter(1);
            own.leave(1);
        });
        assert!(spill.held(1) <= 1);
        assert_eq!(spill.place(0, 1 << 32), 1, "far above the mean, whatever the other shard is at");
        shard.join().unwrap();
        assert_eq!((spill.held(0), spill.held(1)), (2 * SLACK + 2, 0));
    });
}
