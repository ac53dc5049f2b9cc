use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jiff::tz::TimeZone;

use super::caller::Caller;
use super::*;
use crate::coordinator::fixture;
use crate::plan::{BudgetName, BudgetRow, Holder, Table, Team, Used};
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::budget::{Budget, MONEY, Per, Window};
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::units::{BudgetId, ModelId, TeamId};

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
    let rate = |burst| Rate { per_minute: 60, burst, gateways: 1 };
    CallerLimits {
        requests: requests.map(rate),
        tokens: tokens.map(rate),
        in_flight_max,
        ..CallerLimits::default()
    }
}

fn unlimited() -> CallerLimits {
    CallerLimits::default()
}

fn wanted(prompt: u64, output_max: Option<u64>) -> Wanted {
    Wanted {
        text: prompt,
        prompt,
        output_max,
        choices: 1,
        slice: 10,
        price: None,
        is_stream: true,
        model_max: 1_000_000,
        home: 0,
    }
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
    let callers: Vec<_> = callers(plan, KeyId::new(KEY), None).collect();
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
        BudgetRow { name: BudgetName { holder, unit, per, zone }, budget: Budget::hard(unit, most, window) }
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

/// A stream without a cap on a budget of so many tokens: a prompt of 10, and slices of 10.
fn stream(plan: &Plan, home: u64) -> Held {
    let (mut held, _) = enter(plan, KeyId::new(KEY), START).unwrap();
    held.reserve(plan, &Wanted { home, ..wanted(10, None) }, AT).unwrap();
    held
}

/// A plan with a budget of so many tokens a day.
fn with_tokens(tokens: u64) -> Plan {
    let mut plan = with_budgets(tokens, MONEY);
    plan.keys[KEY].grant.budgets = [BudgetId::new(0)].into();
    plan
}

#[test]
fn a_stream_takes_slice_by_slice_up_to_the_last_token() {
    let plan = with_tokens(45);
    let mut held = stream(&plan, 0);
    assert_eq!((held.grows(), held.covered(&plan), spent(&plan)[0]), (true, 10, (20, 20)));
    assert!(matches!(held.grow(&plan, 5, AT), Grown::Covered) && held.covered(&plan) == 10, "it has as much");
    assert!(matches!(held.grow(&plan, 12, AT), Grown::Covered) && held.covered(&plan) == 22);
    assert!(
        matches!(held.grow(&plan, 35, AT), Grown::Covered) && held.covered(&plan) == 35,
        "less than a slice was left"
    );
    let Grown::Stop(fault) = held.grow(&plan, 36, AT) else { panic!("nothing is left") };
    assert_eq!(fault.kind, FaultKind::BudgetExceeded);
    assert!(held.stopped(&plan).is_some());
    held.settle(&plan, &Charge { input: 10, output: 35, ..Charge::default() }, None, START);
    assert_eq!(spent(&plan)[0], (45, 0));
}

#[test]
fn at_the_line_the_youngest_stops_the_oldest_goes_on_and_nothing_new_is_admitted() {
    let plan = with_tokens(65);
    let [mut old, mut middle, mut young] = [1, 2, 3].map(|home| stream(&plan, home));
    // 60 of 65 are taken; the oldest wants 6 more than there are.
    assert!(matches!(old.grow(&plan, 21, AT), Grown::Wait(Some(3))));
    assert!(matches!(middle.grow(&plan, 11, AT), Grown::Wait(None)), "the oldest comes first");
    let (mut new, _) = enter(&plan, KeyId::new(KEY), START).unwrap();
    let fault = new.reserve(&plan, &wanted(0, Some(0)), AT).unwrap_err();
    assert_eq!((fault.kind, fault.retry_after.is_some()), (FaultKind::BudgetReserved, true));
    assert!(old.stopped(&plan).is_none() && middle.stopped(&plan).is_none());
    assert!(young.stopped(&plan).is_some());
    assert!(matches!(old.grow(&plan, 21, AT), Grown::Wait(None)), "it has not left yet");
    young.settle(&plan, &Charge { input: 10, output: 3, ..Charge::default() }, None, START);
    assert!(
        matches!(old.grow(&plan, 21, AT), Grown::Covered) && old.covered(&plan) == 22,
        "what the youngest had not used"
    );
    // Now the middle one is the youngest of those that are left.
    assert!(matches!(middle.grow(&plan, 11, AT), Grown::Stop(_)));
    middle.settle(&plan, &Charge { input: 10, output: 10, ..Charge::default() }, None, START);
    assert!(matches!(old.grow(&plan, 22, AT), Grown::Covered));
    old.settle(&plan, &Charge { input: 10, output: 22, ..Charge::default() }, None, START);
    assert_eq!(spent(&plan)[0], (65, 0));
    let fault = new.reserve(&plan, &wanted(1, Some(0)), AT).unwrap_err();
    assert_eq!(fault.kind, FaultKind::BudgetExceeded);
}

#[test]
fn a_stream_grows_on_every_limit_in_its_own_unit() {
    // Tokens a minute for the team, tokens a day and money a month for the key.
    let mut plan = with_budgets(1_000, 80);
    plan.teams = Table::new(
        vec![Team { id: TeamId::new(0), name: "search".into(), limits: limits(None, Some(60), 9) }],
        |_| CallerCells::default(),
    );
    let (mut held, _) = enter(&plan, KeyId::new(KEY), START).unwrap();
    held.reserve(&plan, &priced(&plan, 10, None), AT).unwrap();
    // 10 of input and 10 of output cost 30.
    assert_eq!((spent(&plan)[1], held.covered(&plan)), ((30, 30), 10));
    assert!(matches!(held.grow(&plan, 20, AT), Grown::Covered) && held.covered(&plan) == 30);
    assert_eq!((state(&plan)[1].1, spent(&plan)), (Some(20), [(40, 40), (70, 70)]));
    assert!(
        matches!(held.grow(&plan, 35, AT), Grown::Covered) && held.covered(&plan) == 35,
        "money for 5 more tokens"
    );
    let Grown::Stop(fault) = held.grow(&plan, 36, AT) else { panic!("no money is left") };
    assert!(fault.note.contains("team 'search' may use 0.00000008 per month"), "{fault}");
    held.settle(&plan, &Charge::default(), plan.models[0].price.as_ref(), START);
    assert_eq!((state(&plan)[1].1, spent(&plan)), (Some(60), [(0, 0), (0, 0)]));
}

#[test]
fn a_response_that_cannot_be_stopped_is_capped_at_half_of_what_is_left() {
    let plan = with_tokens(1_000);
    let plain = |model_max, output_max| {
        let (mut held, _) = enter(&plan, KeyId::new(KEY), START).unwrap();
        let wanted = Wanted { is_stream: false, model_max, ..wanted(10, output_max) };
        held.reserve(&plan, &wanted, AT).map(|_| held)
    };
    let mut roomy = plain(500, None).unwrap();
    assert_eq!((roomy.output_cap(), spent(&plan)[0].1), (None, 20), "its model makes no more than is left");
    let mut capped = plain(100_000, None).unwrap();
    assert_eq!((capped.output_cap(), spent(&plan)[0].1), (Some(485), 515));
    let caps: Vec<_> = (0..9).filter_map(|_| plain(100_000, Some(100_000)).ok()).collect();
    let found: Vec<_> = caps.iter().map(|held| held.output_cap()).collect();
    assert_eq!(found, [237, 114, 52, 21].map(Some), "half of what is left each time");
    assert!(spent(&plan)[0].1 <= 1_000);
    let fault = plain(100_000, None).err().expect("too little is left for a response");
    assert_eq!(fault.kind, FaultKind::BudgetReserved, "{fault}");
    capped.settle(&plan, &Charge { input: 10, output: 485, ..Charge::default() }, None, START);
    caps.into_iter().for_each(|mut held| held.settle(&plan, &Charge::default(), None, START));
    roomy.settle(&plan, &Charge::default(), None, START);
    assert_eq!(plain(100_000, Some(100_000)).unwrap().output_cap(), Some(247));
}

/// Many choices of a response that cannot be stopped share what is left, and leave nothing behind.
#[test]
fn a_request_of_many_choices_gets_what_is_left() {
    let plan = plan(limits(None, Some(800), u32::MAX), unlimited());
    let many = Wanted { choices: 32, is_stream: false, slice: 256, ..wanted(10, None) };
    for _ in 0..5 {
        let (mut held, _) = enter(&plan, KeyId::new(KEY), START).unwrap();
        held.reserve(&plan, &many, AT).expect("there are sixteen tokens for each");
        assert_eq!(held.output_cap(), Some(790 / 32));
        held.settle(&plan, &Charge::default(), None, START);
        assert_eq!(state(&plan)[0].1, Some(800));
    }
}

/// Four at once: each takes half of what the one before has left.
#[test]
fn those_who_ask_at_once_share_what_is_left() {
    let plan = plan(limits(None, Some(2_000), u32::MAX), unlimited());
    let plain = Wanted { is_stream: false, slice: 256, ..wanted(10, None) };
    let barrier = Barrier::new(4);
    let ask = || {
        let (mut held, _) = enter(&plan, KeyId::new(KEY), START).unwrap();
        barrier.wait();
        let passes = held.reserve(&plan, &plain, AT).is_ok();
        (passes, held)
    };
    let held: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(held.iter().all(|(passes, _)| *passes));
}
