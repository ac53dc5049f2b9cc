use std::sync::Arc;

use super::*;
use crate::coordinator::fixture;
use crate::plan::{Table, Team};
use crate::policy::limits::bucket::Rate;
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::sync::interleavings::{check, spawn};
use crate::units::TeamId;

#[test]
fn of_two_requests_one_passes_where_the_team_has_room_for_one_and_the_other_leaves_nothing() {
    check(|| {
        let rate = |burst| Some(Rate { per_minute: 60, burst, gateways: 1 });
        let mut plan = fixture::plan(&[]);
        plan.keys[0].grant.limits = CallerLimits { requests: rate(2), ..CallerLimits::default() };
        plan.keys[0].team = Some(TeamId::new(0));
        let limits = CallerLimits { requests: rate(1), ..CallerLimits::default() };
        let team = Team { id: TeamId::new(0), name: "team".into(), limits };
        plan.teams = Table::new(vec![team], |_| CallerCells::default());
        let plan = Arc::new(plan);
        let other = Arc::clone(&plan);
        let key = KeyId::new(0);
        let ask = move |plan: &Plan| enter(plan, key, Nanos(0)).is_ok();
        let thread = spawn(move || ask(&other));
        let passed = usize::from(ask(&plan)) + usize::from(thread.join().unwrap());
        assert_eq!(passed, 1);
        let cells = plan.keys.cells(key);
        let left = cells.requests.peek(&plan.key(key).grant.limits.requests.unwrap(), Nanos(0)).remaining;
        assert_eq!((left, cells.in_flight.count()), (1, 1));
    });
}
