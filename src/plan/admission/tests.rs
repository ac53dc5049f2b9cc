use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::coordinator::fixture;
use crate::plan::{Table, Team};
use crate::units::TeamId;

const KEY: usize = 0;
const START: Nanos = Nanos(1_000_000_000);

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
    Wanted { text: prompt, prompt, output_max, choices: 1, slice: 10 }
}

/// What one request meets: both steps, and its slot and tokens kept.
fn ask(plan: &Plan, cost: u64) -> Result<Held, Fault> {
    let (mut held, _) = enter(plan, KeyId::new(KEY), START)?;
    match held.reserve(plan, &wanted(cost, Some(0)), START) {
        Ok(_) => Ok(held),
        Err(fault) => {
            held.settle(plan, 0, START);
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
    held.reserve(&plan, &wanted(30, Some(120)), START).unwrap();
    assert_eq!(state(&plan), [(None, Some(60), 1), (None, Some(50), 1)]);
    held.settle(&plan, 50, START);
    held.settle(&plan, 50, START);
    assert_eq!(state(&plan), [(None, Some(50), 0), (None, Some(150), 0)]);
}

#[test]
fn the_header_lines_show_the_tightest_limit() {
    let plan = plan(limits(Some(9), None, 9), limits(Some(4), Some(50), 9));
    let (mut held, left) = enter(&plan, KeyId::new(KEY), START).unwrap();
    assert_eq!(left.map(|left| left.room.remaining), Some(3));
    let left = held.reserve(&plan, &wanted(10, Some(0)), START).unwrap();
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
                held.settle(&plan, 0, START);
            }
            assert_eq!(state(&plan).map(|(_, _, in_flight)| in_flight), [0, 0]);
        }
    }
}
