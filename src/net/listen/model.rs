use super::*;
use crate::sync::model::{check, spawn};

#[test]
fn a_client_is_placed_by_counts_that_are_never_below_what_a_shard_holds_or_above_what_it_held() {
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
