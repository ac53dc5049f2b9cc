use jiff::tz::TimeZone;

use super::*;
use crate::sync::interleavings::{CROWD, check, spawn};

const MINUTE: u64 = 60_000;

fn budget(window: Window) -> Budget {
    Budget::hard(Unit::Tokens, 2, window)
}

#[test]
fn as_many_takes_pass_as_fit_however_many_shards_ask() {
    let budget = Arc::new(budget(Window::calendar(Per::Minute, TimeZone::UTC)));
    check(move || {
        let spent = Spent::default();
        spent.standing(&budget.window, MINUTE); // loom does not see that arc-swap publishes a slot
        let shared = Arc::new((spent, Arc::clone(&budget)));
        let ask = |(spent, budget): &(Spent, Arc<Budget>)| match spent.take(budget, 1, MINUTE) {
            Ok(held) => {
                held.settle(1);
                1
            }
            Err(_) => 0,
        };
        let shards: Vec<_> = (0..CROWD)
            .map(|_| {
                let shared = Arc::clone(&shared);
                spawn(move || ask(&shared))
            })
            .collect();
        let passed = ask(&shared) + shards.into_iter().map(|shard| shard.join().unwrap()).sum::<usize>();
        assert_eq!(passed, 2);
        let standing = shared.0.standing(&shared.1.window, MINUTE);
        assert_eq!((standing.used, standing.reserved), (2, 0));
    });
}

/// Not for loom, which takes a slot that arc-swap published for one that two threads use without any order.
#[cfg(not(ringway_loom))]
#[test]
fn a_rolling_window_admits_no_more_while_its_next_slot_begins() {
    let budget = Arc::new(budget(Window::rolling(Per::Minute)));
    check(move || {
        let shared = Arc::new((Spent::default(), Arc::clone(&budget)));
        let ask = |(spent, budget): &(Spent, Arc<Budget>), at: u64| match spent.take(budget, 2, at) {
            Ok(held) => {
                held.settle(2);
                1
            }
            Err(_) => 0,
        };
        let other = Arc::clone(&shared);
        let ahead = spawn(move || ask(&other, MINUTE + 1_000));
        let passed = ask(&shared, MINUTE) + ahead.join().unwrap();
        assert_eq!(passed, 1);
    });
}
