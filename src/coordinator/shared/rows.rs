//! The limits that are shared: what this gateway has of each, and what it does in a turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::WhenGone;
use crate::plan::{BudgetRow, Holder, Plan};
use crate::policy::limits::bucket::{Bucket, PARTS, Rate};
use crate::policy::limits::budget::{Spent, Unit};
use crate::policy::limits::lease::{Peers, View};
use crate::units::{BudgetId, KeyId, Nanos, TeamId};

/// All of them, by the names that the gateways have in common.
#[derive(Default)]
pub(super) struct Rows {
    generation: u64,
    list: Vec<Row>,
    by_name: HashMap<String, usize>,
    /// Which part of the idle ones was looked at last.
    part: usize,
}

struct Row {
    of: Of,
    name: String,
    /// Of a budget, which window the rest is about.
    window: u64,
    recent: u64,
    /// What was left at `at`, of a rate; what was used, of a budget.
    last: u64,
    at: Nanos,
    peers: Peers,
    /// What others leave of a rate; `None` if not heard lately.
    room: Option<u64>,
    /// What was reported last, leased and held.
    reported: Option<(u64, u64)>,
    reported_at: Nanos,
    /// Another gateway wants of it.
    is_wanted: bool,
    /// Something was said of it when it was looked at last.
    is_active: bool,
}

/// Which limit.
#[derive(Clone, Copy)]
enum Of {
    Key(KeyId, Count),
    Team(TeamId, Count),
    Budget(BudgetId),
}

#[derive(Clone, Copy)]
enum Count {
    Requests,
    Tokens,
}

enum Cell<'p> {
    Rate(&'p Rate, &'p Bucket),
    Budget(&'p BudgetRow, &'p Spent),
}

/// What is said of one limit in a turn. Amounts of a rate are in parts, those of a budget in its unit.
pub(super) struct Ask {
    index: usize,
    pub(super) name: String,
    window: u64,
    pub(super) is_budget: bool,
    pub(super) most: u64,
    pub(super) per_minute: u64,
    pub(super) leased: u64,
    pub(super) held: u64,
    pub(super) used: u64,
    pub(super) given: u64,
    pub(super) wanted: u64,
    pub(super) is_urgent: bool,
    /// How long Redis keeps what is known of it.
    pub(super) lives_ms: u64,
}

/// What comes back.
pub(super) struct Reply {
    /// Received, or to be given up.
    pub(super) delta: i64,
    pub(super) peers: Peers,
    /// What the others leave of a rate.
    pub(super) room: u64,
    pub(super) used_elsewhere: u64,
}

/// The time now, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Nanos,
    pub(super) unix_ms: u64,
}

/// Idle limits that are looked at in a turn. Chosen, not measured: of more, each has its turn after a few.
const IDLE_MAX: usize = 2_000;
/// What is not used is reported again after this time.
const REPORT_EVERY: Nanos = Nanos(5_000_000_000);
/// What Redis knows of a limit ends so long after its window.
const KEPT_MS: u64 = 3_600_000;
/// How long a limit that is closed stays so by itself. Chosen, not measured: longer than an attempt to connect.
const CLOSED: Duration = Duration::from_secs(3);

impl Rows {
    /// Goes on with the limits of a plan that has come into force.
    pub(super) fn follow(&mut self, plan: &Arc<Plan>) {
        if self.generation == plan.generation {
            return;
        }
        self.generation = plan.generation;
        let mut old: HashMap<String, Row> =
            std::mem::take(&mut self.list).into_iter().map(|row| (row.name.clone(), row)).collect();
        self.list = names(plan)
            .map(|(of, name)| match old.remove(&name) {
                Some(row) => Row { of, ..row },
                None => Row::new(of, name),
            })
            .collect();
        self.by_name = self.list.iter().enumerate().map(|(at, row)| (row.name.clone(), at)).collect();
    }

    /// Redis may have lost what it knew: everything is said again.
    pub(super) fn forget(&mut self) {
        for row in &mut self.list {
            (row.reported, row.peers, row.room) = (None, Peers::default(), None);
        }
    }

    /// Other gateways want of these.
    pub(super) fn note_wanted(&mut self, names: &[String]) {
        for name in names {
            let name = name.split('@').next().unwrap_or(name);
            if let Some(at) = self.by_name.get(name) {
                self.list[*at].is_wanted = true;
            }
        }
    }

    /// What is to be said of each limit this turn. What is given up has left the cells already.
    pub(super) fn look(&mut self, plan: &Plan, now: Now) -> Vec<Ask> {
        let parts = self.list.len() / IDLE_MAX + 1;
        self.part = (self.part + 1) % parts;
        let part = self.part;
        let is_due =
            |(index, row): &(usize, &mut Row)| row.is_active || row.is_wanted || index % parts == part;
        let rows = self.list.iter_mut().enumerate().filter(is_due);
        rows.filter_map(|(index, row)| {
            let ask = match row.of.cell(plan)? {
                Cell::Rate(rate, bucket) => row.look_at_rate(index, rate, bucket, now),
                Cell::Budget(budget, spent) => row.look_at_budget(index, (budget, spent), plan.gateways, now),
            };
            row.is_active = ask.is_some();
            ask
        })
        .collect()
    }

    /// What came back; whether something was received.
    pub(super) fn apply(&mut self, plan: &Plan, ask: &Ask, reply: &Reply, now: Now) -> bool {
        let row = &mut self.list[ask.index];
        let Some(cell) = row.of.cell(plan) else { return false };
        let received = u64::try_from(reply.delta).unwrap_or(0);
        let mut moved = reply.delta;
        match cell {
            Cell::Rate(rate, bucket) => {
                bucket.deposit(rate, received, now.at);
                row.last = row.last.saturating_add(received);
                row.room = Some(reply.room);
            }
            Cell::Budget(budget, spent) => {
                let budget = &budget.budget;
                match reply.delta {
                    0.. => spent.receive(budget, ask.window, received, now.unix_ms),
                    less => {
                        let given = spent.give(budget, ask.window, less.unsigned_abs(), now.unix_ms);
                        moved = -i64::try_from(given).unwrap_or(0);
                    }
                }
                spent.note_used_elsewhere(budget, ask.window, reply.used_elsewhere, now.unix_ms);
            }
        }
        row.peers = reply.peers;
        row.reported = Some((ask.leased.saturating_add_signed(moved), ask.held.saturating_add_signed(moved)));
        row.reported_at = now.at;
        received > 0
    }

    /// Redis has been away for too long: what is left is the share of one gateway, or nothing.
    pub(super) fn stay_alone(&mut self, plan: &Plan, rates: WhenGone, budgets: WhenGone, now: Now) {
        for row in &mut self.list {
            (row.peers, row.room, row.reported) = (Peers::default(), None, None);
            match row.of.cell(plan) {
                Some(Cell::Rate(rate, bucket)) => match rates {
                    WhenGone::CappedLocal => {
                        let more = bucket.held(rate, now.at).saturating_sub(rate.share_parts());
                        bucket.withdraw(rate, more, now.at);
                    }
                    WhenGone::FailClosed => bucket.close(rate, now.at, Nanos(CLOSED.as_nanos() as u64)),
                },
                Some(Cell::Budget(BudgetRow { budget, .. }, spent)) => {
                    let share = match budgets {
                        WhenGone::CappedLocal => budget.most / u64::from(plan.gateways),
                        WhenGone::FailClosed => 0,
                    };
                    spent.share(budget.most - share);
                    if let Some(lease) = spent.lease(budget, now.unix_ms) {
                        spent.give(budget, lease.window, lease.leased.saturating_sub(share), now.unix_ms);
                    }
                }
                None => {}
            }
        }
    }
}

impl Row {
    fn new(of: Of, name: String) -> Self {
        Self {
            of,
            name,
            window: 0,
            recent: 0,
            last: 0,
            at: Nanos(0),
            peers: Peers::default(),
            room: None,
            reported: None,
            reported_at: Nanos(0),
            is_wanted: false,
            is_active: false,
        }
    }

    fn look_at_rate(&mut self, index: usize, rate: &Rate, bucket: &Bucket, now: Now) -> Option<Ask> {
        let share = rate.share_parts();
        let most = self.room.unwrap_or(share).max(share);
        let mut held = bucket.held(rate, now.at);
        if held > most {
            held -= bucket.withdraw(rate, held - most, now.at);
        }
        let passed = now.at.since(self.at).0;
        let regained = u128::from(rate.per_minute) * u128::from(PARTS) * u128::from(passed)
            / (60_000_000_000 * u128::from(rate.gateways));
        let expected = self.last.saturating_add(u64::try_from(regained).unwrap_or(u64::MAX)).min(most);
        // Less than a part of a unit is rounding.
        let used = if self.at == Nanos(0) { 0 } else { expected.saturating_sub(held) };
        let view = self.view(held, if used < PARTS / 2 { 0 } else { used }, bucket.take_missed());
        let turn = view.turn();
        let given = bucket.withdraw(rate, turn.give, now.at);
        (self.last, self.at) = (held - given.min(held), now.at);
        let held = held - given.min(held);
        // What it has above its share is others' room: that is heard of every turn.
        let is_changed =
            self.is_changed((held, held), share, now) || held > share || given > 0 || turn.want > 0;
        (is_changed || self.is_busy(&view)).then(|| Ask {
            index,
            name: self.name.clone(),
            window: 0,
            is_budget: false,
            most: rate.most_parts(),
            per_minute: rate.per_minute.saturating_mul(PARTS),
            leased: held,
            held,
            used: 0,
            given,
            wanted: turn.want,
            is_urgent: turn.is_urgent,
            lives_ms: KEPT_MS,
        })
    }

    fn look_at_budget(
        &mut self,
        index: usize,
        (row, spent): (&BudgetRow, &Spent),
        gateways: u32,
        now: Now,
    ) -> Option<Ask> {
        let budget = &row.budget;
        let lease = spent.lease(budget, now.unix_ms)?;
        if lease.window != self.window {
            (self.window, self.recent, self.last) = (lease.window, 0, 0);
            (self.peers, self.reported) = (Peers::default(), None);
        }
        let used = lease.used.saturating_sub(self.last);
        let is_first = self.at == Nanos(0);
        (self.last, self.at) = (lease.used, now.at);
        // What earlier processes had used was not used in the last second.
        let view = self.view(lease.held(), if is_first { 0 } else { used }, spent.take_missed());
        let turn = view.turn();
        let given = spent.give(budget, lease.window, turn.give, now.unix_ms);
        let (leased, held) = (lease.leased - given.min(lease.leased), lease.held().saturating_sub(given));
        let share = budget.most / u64::from(gateways.max(1));
        let is_changed = self.is_changed((leased, held), share, now) || given > 0 || turn.want > 0;
        let name = match budget.window.is_rolling() {
            true => self.name.clone(),
            false => format!("{}@{}", self.name, lease.window),
        };
        (is_changed || self.is_busy(&view)).then(|| Ask {
            index,
            name,
            window: lease.window,
            is_budget: true,
            most: budget.most,
            per_minute: 0,
            leased,
            held,
            used: lease.used,
            given,
            wanted: turn.want,
            is_urgent: turn.is_urgent,
            lives_ms: lease.left_ms.saturating_add(KEPT_MS),
        })
    }

    /// What is known of the limit. What others want was heard for this turn only.
    fn view(&mut self, held: u64, used: u64, missed: u64) -> View {
        self.recent = (self.recent - self.recent.div_ceil(RECENT)).saturating_add(used);
        let view = View { held, recent: self.recent, missed, peers: self.peers };
        (self.peers.urgent, self.peers.short) = (0, 0);
        view
    }

    fn is_busy(&mut self, view: &View) -> bool {
        std::mem::take(&mut self.is_wanted) || view.missed > 0 || view.recent > 0
    }

    /// Whether Redis knows other than `leased` and `held`; of a limit that it knows nothing of, it takes the share for granted.
    fn is_changed(&self, now_has: (u64, u64), share: u64, now: Now) -> bool {
        match self.reported {
            None => now_has != (share, share),
            Some(had) if had != now_has => true,
            Some(_) => now_has != (share, share) && now.at.since(self.reported_at) > REPORT_EVERY,
        }
    }
}

/// Turns in the time constant of what was used recently.
const RECENT: u64 = 24;

impl Of {
    /// Where it is; `None` for one that is not shared.
    fn cell(self, plan: &Plan) -> Option<Cell<'_>> {
        let (limits, cells, count) = match self {
            Self::Budget(id) => return Some(Cell::Budget(plan.budgets.row(id), plan.budgets.cells(id))),
            Self::Key(id, count) => (&plan.keys.row(id).grant.limits, plan.keys.cells(id), count),
            Self::Team(id, count) => (&plan.teams.row(id).limits, plan.teams.cells(id), count),
        };
        let (rate, bucket) = match count {
            Count::Requests => (&limits.requests, &cells.requests),
            Count::Tokens => (&limits.tokens, &cells.tokens),
        };
        rate.as_ref().filter(|rate| rate.gateways > 1).map(|rate| Cell::Rate(rate, bucket))
    }
}

/// Every shared limit, and what the gateways call it.
fn names(plan: &Plan) -> impl Iterator<Item = (Of, String)> {
    let counts = [(Count::Requests, "requests"), (Count::Tokens, "tokens")];
    let keys = plan.keys.ids().flat_map(move |id| {
        counts.map(|(count, word)| (Of::Key(id, count), format!("key:{}:{word}", plan.keys.row(id).name)))
    });
    let teams = plan.teams.ids().flat_map(move |id| {
        counts.map(|(count, word)| (Of::Team(id, count), format!("team:{}:{word}", plan.teams.row(id).name)))
    });
    let budgets = plan.budgets.ids().map(|id| {
        let name = &plan.budgets.row(id).name;
        let holder = match &name.holder {
            Holder::Key(key) => format!("key:{key}"),
            Holder::Team(team) => format!("team:{team}"),
            Holder::EndUser => "end-user".to_owned(),
        };
        let unit = if name.unit == Unit::Tokens { "tokens" } else { "money" };
        let zone = name.zone.as_deref().unwrap_or("rolling");
        (Of::Budget(id), format!("{holder}:budget:{unit}:{}:{zone}", name.per.name()))
    });
    keys.chain(teams).chain(budgets).filter(|(of, _)| of.cell(plan).is_some())
}
