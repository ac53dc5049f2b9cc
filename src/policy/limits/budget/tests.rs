use std::sync::Barrier;
use std::thread;

use jiff::tz::TimeZone;

use super::*;

const HOUR: u64 = 3_600_000;
/// 2026-11-30T12:00:00Z.
const NOON: u64 = 1_796_040_000_000;

fn budget(most: u64, window: Window) -> Budget {
    Budget::hard(Unit::Tokens, most, window)
}

fn daily(most: u64) -> Budget {
    budget(most, Window::calendar(Per::Day, TimeZone::UTC))
}

fn rolling(most: u64) -> Budget {
    budget(most, Window::rolling(Per::Hour))
}

fn used(spent: &Spent, budget: &Budget, at: u64) -> (u64, u64) {
    let standing = spent.standing(&budget.window, at);
    (standing.used, standing.reserved)
}

#[test]
fn a_budget_is_taken_settled_and_there_again_in_the_next_window() {
    let (budget, spent) = (daily(100), Spent::default());
    let held = spent.take(&budget, 60, NOON).ok().unwrap();
    let refused = spent.take(&budget, 41, NOON).err().unwrap();
    assert_eq!((refused.used, refused.reserved), (60, 60));
    assert_eq!((refused.start_ms, refused.reset_ms), (NOON - 12 * HOUR, NOON + 12 * HOUR));
    held.settle(10);
    assert_eq!(used(&spent, &budget, NOON), (10, 0));
    spent.take(&budget, 90, NOON).ok().unwrap().settle(150);
    assert_eq!(used(&spent, &budget, NOON), (160, 0), "what was used beyond it is charged");
    assert!(spent.take(&budget, 1, NOON + 12 * HOUR - 1).is_err());
    spent.take(&budget, 100, NOON + 12 * HOUR).ok().unwrap().settle(100);
}

#[test]
fn an_exchange_counts_in_the_window_in_which_it_began() {
    let (budget, spent) = (daily(100), Spent::default());
    let held = spent.take(&budget, 50, NOON).ok().unwrap();
    assert_eq!(used(&spent, &budget, NOON + 12 * HOUR), (0, 0));
    held.settle(80);
    assert_eq!(used(&spent, &budget, NOON + 12 * HOUR), (0, 0));
}

#[test]
fn a_clock_that_jumps_opens_no_window_twice() {
    let (budget, spent) = (daily(100), Spent::default());
    spent.take(&budget, 100, NOON).ok().unwrap().settle(100);
    assert!(spent.take(&budget, 1, NOON - 48 * HOUR).is_err(), "a clock that steps back gives nothing back");
    spent.take(&budget, 70, NOON + 24 * HOUR).ok().unwrap().settle(70);
    assert!(spent.take(&budget, 31, NOON).is_err());
    assert!(spent.take(&budget, 31, NOON + 24 * HOUR).is_err(), "tomorrow began once");
}

#[test]
fn a_rolling_window_gives_back_what_is_an_hour_old() {
    let (budget, spent) = (rolling(100), Spent::default());
    spent.take(&budget, 40, NOON).ok().unwrap().settle(40);
    spent.take(&budget, 60, NOON + 30 * 60_000).ok().unwrap().settle(60);
    let refused = spent.take(&budget, 1, NOON + 60 * 60_000).err().unwrap();
    assert_eq!((refused.used, refused.reset_ms), (100, NOON + 61 * 60_000));
    assert!(spent.take(&budget, 41, NOON + 61 * 60_000).is_err());
    spent.take(&budget, 40, NOON + 61 * 60_000).ok().unwrap().settle(40);
    assert!(spent.take(&budget, 1, NOON + 90 * 60_000).is_err());
    assert_eq!(used(&spent, &budget, NOON + 92 * 60_000), (40, 0));
    assert_eq!(used(&spent, &budget, NOON + 1_000 * 60_000), (0, 0));
}

#[test]
fn what_was_used_before_a_restart_counts() {
    for budget in [daily(100), rolling(100)] {
        let spent = Spent::default();
        spent.restore(&budget.window, 95, NOON);
        assert!(spent.take(&budget, 6, NOON).is_err());
        spent.take(&budget, 5, NOON).ok().unwrap().settle(5);
    }
}

#[test]
fn no_cost_overflows() {
    for budget in [daily(u64::MAX), rolling(u64::MAX)] {
        let spent = Spent::default();
        let held = spent.take(&budget, u64::MAX, NOON).ok().unwrap();
        assert!(spent.take(&budget, 1, NOON).is_err());
        held.settle(0);
        assert_eq!(used(&spent, &budget, NOON), (0, 0));
    }
}

#[test]
fn of_many_at_once_exactly_as_many_pass_as_fit_also_while_a_window_begins() {
    for crowd in [1, 8, 64] {
        for budget in [daily(50), rolling(50)] {
            let (spent, barrier) = (Spent::default(), Barrier::new(crowd));
            let slot_end = NOON + 12 * HOUR;
            let ask = |index: usize| {
                barrier.wait();
                // Half of them see the clock a moment before the next slot.
                spent.take(&budget, 10, slot_end - (index % 2) as u64).ok()
            };
            let held: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..crowd).map(|index| scope.spawn(move || ask(index))).collect::<Vec<_>>();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            let windows = if budget.window.is_rolling() { 1 } else { 2 };
            assert!(
                held.len() >= crowd.min(5) && held.len() <= crowd.min(5 * windows),
                "{} of {crowd}",
                held.len()
            );
            held.into_iter().for_each(|held| held.settle(0));
            assert_eq!(used(&spent, &budget, slot_end), (0, 0));
        }
    }
}

#[test]
fn a_budget_reads_as_it_was_written() {
    let berlin = Window::calendar(Per::Month, TimeZone::get("Europe/Berlin").unwrap());
    let money = |most| Budget::hard(Unit::Money, most, berlin.clone());
    assert_eq!(daily(1_000).to_string(), "1000 tokens per day (UTC)");
    assert_eq!(rolling(7).to_string(), "7 tokens per rolling hour");
    assert_eq!(money(50 * MONEY).to_string(), "50.00 per month (Europe/Berlin)");
    assert_eq!(money(1_250_000).to_string(), "0.00125 per month (Europe/Berlin)");
}

#[test]
fn the_last_soft_limit_that_is_reached_is_the_one_that_counts() {
    let soft = |at_permille, action| Soft { at_permille, action };
    let throttle = SoftAction::Throttle(Nanos(5));
    let soft = [soft(500, SoftAction::Warn), soft(900, throttle)].into();
    let budget = Budget { soft, ..daily(1_000) };
    for (used, action) in
        [(499, None), (500, Some(SoftAction::Warn)), (899, Some(SoftAction::Warn)), (900, Some(throttle))]
    {
        assert_eq!(budget.soft_at(used).map(|soft| soft.action), action, "{used}");
    }
    assert_eq!(budget.soft_at(u64::MAX).map(|soft| soft.action), Some(throttle));
}
