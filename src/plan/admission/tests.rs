use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jiff::tz::TimeZone;

use super::*;
use crate::coordinator::fixture;
use crate::plan::{BudgetName, Holder, Table, Team, Used};
use crate::policy::limits::budget::{MONEY, Per, Window};
use crate::units::{ModelId, TeamId};

const KEY: usize = 0;
const START: Nanos = Nanos(1_000_000_000);
const AT: At = At { now: START, unix_ms: 1_796_040_000_000 };

/// A plan whose only key has these limits, and its team those.
fn plan(own: CallerLimits, team: CallerLimits) -> Plan {
    let mut plan = fixture::plan(&[]);
    plan.keys[KEY].grant.limits = own;
    plan.keys[KEY].team = Some(TeamId::new(0));
    let team = Team { id: TeamId::new(0), name: "search".into(), limits: team };
    plan.teams = Table::new(vec![team], |_| CallerCells::default());
    plan
}

fn limits(requests: Option<u64>, tokens: Option<u64>, in_flight_max: u32) -> CallerLimits {
    let rate = |burst| Rate { per_minute: 60, burst };
    CallerLimits { requests: requests.map(rate), tokens: tokens.map(rate), in_flight_max }
}

fn unlimited() -> CallerLimits {
    CallerLimits::default()
}

fn wanted(prompt: u64, output_max: Option<u64>) -> Wanted {
    Wanted { text: prompt, prompt, output_max, choices: 1, slice: 10, price: None }
}

/// What one request meets: both steps, and its slot and tokens kept.
fn ask(plan: &Plan, cost: u64) -> Result<Held, Fault> {
    let (mut held, _) = enter(plan, KeyId::new(KEY), START)?;
    match held.reserve(plan, &wanted(cost, Some(0)), AT) {
        Ok(_) => Ok(held),
        Err(fault) => {
            held.settle(plan, &Charge::default(), None, START);
            Err(fault)
        }
    }
}

/// What is left of the key's and the team's requests and tokens, and what is in flight.
fn state(plan: &Plan) -> [(Option<u64>, Option<u64>, u32); 2] {
    let callers: Vec<_> = plan.callers(KeyId::new(KEY)).collect();
    [0, 1].map(|index| {
        let Caller { limits, cells, .. } = callers[index];
        (
            limits.requests.map(|rate| cells.requests.peek(&rate, START).remaining),
            limits.tokens.map(|rate| cells.tokens.peek(&rate, START).remaining),
            cells.in_flight.count(),
        )
    })
}

#[test]
fn a_key_is_limited_by_its_own_limits_and_by_its_teams() {
    for (own, team, kind, words) in [
        (
            limits(Some(1), None, 9),
            unlimited(),
            FaultKind::RequestsExceeded,
            "60 requests per minute for key",
        ),
        (unlimited(), limits(Some(1), None, 9), FaultKind::RequestsExceeded, "minute for team 'search'"),
        (limits(None, Some(20), 9), unlimited(), FaultKind::TokensExceeded, "60 tokens per minute for key"),
        (unlimited(), limits(None, Some(20), 9), FaultKind::TokensExceeded, "minute for team 'search'"),
        (limits(None, None, 1), unlimited(), FaultKind::InFlightExceeded, "may have 1 at once"),
        (unlimited(), limits(None, None, 1), FaultKind::InFlightExceeded, "team 'search' may have 1"),
        (
            limits(None, Some(10), 9),
            unlimited(),
            FaultKind::TokensNeverFit,
            "more than the limit of 10 of key",
        ),
    ] {
        let plan = plan(own, team);
        let first = ask(&plan, 11);
        let fault = first.and_then(|_| ask(&plan, 11)).err().expect("the second is refused");
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.note.contains(words), "{fault}");
        assert_eq!(fault.retry_after.is_some(), kind != FaultKind::TokensNeverFit, "{fault}");
    }
}

#[test]
fn a_refused_request_takes_nothing_from_any_other_limit() {
    // Each column is the one that refuses; the others have room.
    let roomy = || limits(Some(5), Some(100), 5);
    for (own, team) in [
        (limits(Some(5), Some(100), 1), roomy()),
        (roomy(), limits(Some(5), Some(100), 1)),
        (limits(Some(1), Some(100), 5), roomy()),
        (roomy(), limits(Some(1), Some(100), 5)),
        (limits(Some(5), Some(15), 5), roomy()),
        (roomy(), limits(Some(5), Some(15), 5)),
    ] {
        let plan = plan(own, team);
        let held = ask(&plan, 10).expect("the first passes");
        let before = state(&plan);
        assert!(ask(&plan, 10).is_err());
        assert_eq!(state(&plan), before);
        drop(held);
    }
}

#[test]
fn settling_corrects_the_tokens_of_both_and_happens_once() {
    let plan = plan(limits(None, Some(100), 5), limits(None, Some(200), 5));
    let (mut held, _) = enter(&plan, KeyId::new(KEY), START).unwrap();
    // The cap fits the team's limit and not the key's: there a slice is taken.
    held.reserve(&plan, &wanted(30, Some(120)), AT).unwrap();
    assert_eq!(state(&plan), [(None, Some(60), 1), (None, Some(50), 1)]);
    let used = Charge { input: 20, output: 30, ..Charge::default() };
    held.settle(&plan, &used, None, START);
    held.settle(&plan, &used, None, START);
    assert_eq!(state(&plan), [(None, Some(50), 0), (None, Some(150), 0)]);
}

#[test]
fn the_header_lines_show_the_tightest_limit() {
    let plan = plan(limits(Some(9), None, 9), limits(Some(4), Some(50), 9));
    let (mut held, left) = enter(&plan, KeyId::new(KEY), START).unwrap();
    assert_eq!(left.map(|left| left.room.remaining), Some(3));
    let left = held.reserve(&plan, &wanted(10, Some(0)), AT).unwrap();
    assert_eq!(left.map(|left| left.room.remaining), Some(40));
}

#[test]
fn of_many_at_once_exactly_as_many_pass_as_the_tightest_limit_has_room_for() {
    for (own, team, fit) in [
        (limits(Some(3), None, 99), unlimited(), 3),
        (limits(Some(9), Some(1_000), 99), limits(Some(5), None, 99), 5),
        (limits(Some(9), Some(40), 99), limits(Some(7), None, 99), 4),
        (limits(None, Some(60), 99), limits(None, Some(20), 99), 2),
        (limits(None, None, 8), limits(Some(6), Some(1_000), 7), 6),
        (limits(None, None, 8), limits(Some(20), Some(1_000), 5), 5),
    ] {
        for crowd in [1, 8, 64] {
            let plan = plan(own.clone(), team.clone());
            let (barrier, passed) = (Barrier::new(crowd), AtomicUsize::new(0));
            let held: Vec<_> = thread::scope(|scope| {
                let ask = || {
                    barrier.wait();
                    let held = ask(&plan, 10).ok();
                    passed.fetch_add(usize::from(held.is_some()), Ordering::Relaxed);
                    held
                };
                let threads: Vec<_> = (0..crowd).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(passed.into_inner(), fit.min(crowd), "{crowd} at once, {own:?}, {team:?}");
            for mut held in held {
                held.settle(&plan, &Charge::default(), None, START);
            }
            assert_eq!(state(&plan).map(|(_, _, in_flight)| in_flight), [0, 0]);
        }
    }
}

/// The same with budgets: of tokens a day for the key, of money a month for the team.
fn with_budgets(tokens: u64, money: u64) -> Plan {
    let mut plan = plan(unlimited(), unlimited());
    let row = |holder, unit, most, per| {
        let window = Window::calendar(per, TimeZone::UTC);
        let zone = window.zone().map(Into::into);
        BudgetRow { name: BudgetName { holder, unit, per, zone }, budget: Budget { unit, most, window } }
    };
    let key = Holder::Key(plan.keys[KEY].name.clone());
    let rows = vec![
        row(key, Unit::Tokens, tokens, Per::Day),
        row(Holder::Team("search".into()), Unit::Money, money, Per::Month),
    ];
    plan.budgets = Table::new(rows, |_| Default::default());
    plan.keys[KEY].grant.budgets = [0, 1].map(BudgetId::new).into();
    let price = Price { input: 1_000_000, cached: 500_000, cache_write: 1_000_000, output: 2_000_000 };
    plan.models[0].price = Some(price);
    plan
}

fn spent(plan: &Plan) -> [(u64, u64); 2] {
    [0, 1].map(BudgetId::new).map(|id| {
        let standing = plan.budgets.cells(id).standing(&plan.budgets.row(id).budget.window, AT.unix_ms);
        (standing.used, standing.reserved)
    })
}

fn priced(plan: &Plan, prompt: u64, output_max: Option<u64>) -> Wanted {
    Wanted { price: plan.models[0].price, ..wanted(prompt, output_max) }
}

#[test]
fn budgets_are_taken_settled_and_refused_together() {
    let plan = with_budgets(1_000, 2_000);
    let open = || enter(&plan, KeyId::new(KEY), START).unwrap().0;
    let mut held = open();
    held.reserve(&plan, &priced(&plan, 300, Some(500)), AT).unwrap();
    // 800 tokens; 300 of input and 500 of output cost 1,300.
    assert_eq!(spent(&plan), [(800, 800), (1_300, 1_300)]);
    let fault = open().reserve(&plan, &priced(&plan, 10, Some(490)), AT).unwrap_err();
    assert_eq!(fault.kind, FaultKind::BudgetReserved, "it would fit if nothing ran: {fault}");
    assert_eq!(spent(&plan), [(800, 800), (1_300, 1_300)]);
}

#[test]
fn a_budget_that_is_used_up_names_itself_and_its_reset() {
    let plan = with_budgets(1_000, 900);
    let open = || enter(&plan, KeyId::new(KEY), START).unwrap().0;
    let mut held = open();
    held.reserve(&plan, &priced(&plan, 100, Some(100)), AT).unwrap();
    let used = Charge { input: 200, cached: 100, output: 325, ..Charge::default() };
    held.settle(&plan, &used, plan.models[0].price.as_ref(), START);
    assert_eq!(spent(&plan), [(625, 0), (900, 0)]);
    let mut refused = open();
    let fault = refused.reserve(&plan, &priced(&plan, 1, Some(0)), AT).unwrap_err();
    assert_eq!(fault.kind, FaultKind::BudgetExceeded);
    assert_eq!(fault.retry_after, None);
    assert_eq!(
        fault.note,
        "budget exceeded: team 'search' has used 0.0000009 of 0.0000009 per month (UTC), and this request may use 0.000000001; it \
         resets at 2026-12-01T00:00:00+00:00"
    );
    assert_eq!(spent(&plan), [(625, 0), (900, 0)], "nothing of the key's budget is taken");
    let fault = open().reserve(&plan, &priced(&plan, 1_001, None), AT).unwrap_err();
    assert_eq!(fault.kind, FaultKind::TokensNeverFit, "{fault}");
}

#[test]
fn without_a_cap_or_with_a_huge_one_a_slice_is_taken() {
    let plan = with_budgets(1_000, MONEY);
    let mut held = Vec::new();
    for output_max in [None, Some(1_000_000_000)] {
        let mut one = enter(&plan, KeyId::new(KEY), START).unwrap().0;
        one.reserve(&plan, &priced(&plan, 90, output_max), AT).unwrap();
        held.push(one);
    }
    assert_eq!(spent(&plan)[0], (200, 200));
}

#[test]
fn tokens_of_the_ledger_count_by_the_prices_of_today() {
    let plan = with_budgets(1_000, 5_000);
    let charge = Charge { input: 100, cached: 50, output: 10, ..Charge::default() };
    let used = [("llama", "gpu-0"), ("gone", "gone")];
    let used = used.map(|(model, backend)| Used { model: model.into(), backend: backend.into(), charge });
    // The model that has no price any more counts its tokens.
    assert_eq!([Unit::Tokens, Unit::Money].map(|unit| plan.amount(unit, &used)), [320, 145]);
    assert_eq!(plan.price(ModelId::new(0), None), plan.models[0].price.as_ref());
}
