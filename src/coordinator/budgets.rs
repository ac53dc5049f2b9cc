//! Budgets survive the process: what the store says was used in their windows is charged to them.
//!
//! Once before the first request, and again whenever records were moved that an earlier process had left in its journals: what is
//! new since the last time is added. Only exchanges that began before this process count here, the others it counts itself. A
//! budget that a reload adds begins at zero.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::Ledger;
use crate::clock;
use crate::plan::{Holder, Plan, Used};
use crate::policy::limits::price::Charge;
use crate::store::{self, Store, UsageRow};

/// The budgets of the plan that the process began with, and what was charged to each.
pub struct Refill {
    plan: Arc<Plan>,
    started_ms: u64,
    /// By `BudgetId`: since when its window runs, and when that ends.
    windows: Box<[(u64, u64)]>,
    /// By `BudgetId`: what was charged so far.
    charged: Box<[u64]>,
}

/// Usage since one moment: of keys, and of teams.
type Sums = [BTreeMap<String, Vec<UsageRow>>; 2];

impl Refill {
    /// For a plan that has served nothing yet; charges what the database has now.
    ///
    /// # Errors
    /// None that ends anything: with what could not be read, the budgets begin at zero until it can.
    pub fn start(plan: &Arc<Plan>, database: &Path) -> (Self, store::Result<()>) {
        let now_ms = clock::unix_ms();
        let mut refill = Self::new(plan, now_ms);
        let filled = refill.fill(database, now_ms);
        (refill, filled)
    }

    fn new(plan: &Arc<Plan>, started_ms: u64) -> Self {
        let windows = plan.budgets.ids().map(|id| {
            let standing = plan.budgets.cells(id).standing(&plan.budgets.row(id).budget.window, started_ms);
            (standing.start_ms, standing.reset_ms)
        });
        Self {
            windows: windows.collect(),
            charged: vec![0; plan.budgets.len()].into(),
            plan: Arc::clone(plan),
            started_ms,
        }
    }

    /// Whether there is anything to charge.
    pub fn is_empty(&self) -> bool {
        self.charged.is_empty()
    }

    /// Charges what the database has more than the last time. A database that is not there yet has nothing.
    ///
    /// # Errors
    /// It cannot be read.
    fn fill(&mut self, database: &Path, now_ms: u64) -> store::Result<()> {
        if self.is_empty() || !database.exists() {
            return Ok(());
        }
        let store = Store::read(database)?;
        let mut sums = BTreeMap::<u64, Sums>::new();
        for (index, id) in self.plan.budgets.ids().enumerate() {
            let (since, reset) = &self.windows[index];
            let row = self.plan.budgets.row(id);
            if now_ms >= *reset && !row.budget.window.is_rolling() {
                continue; // its window is over: nothing counts any more
            }
            if !sums.contains_key(since) {
                let until = Some(self.started_ms);
                sums.insert(
                    *since,
                    [store.used_by_keys(*since, until)?, store.used_by_teams(*since, until)?],
                );
            }
            let [keys, teams] = &sums[since];
            let used = match &row.name.holder {
                Holder::Key(name) => keys.get(&**name),
                Holder::Team(name) => teams.get(&**name),
                Holder::EndUser => None,
            };
            let used: Vec<Used> = used.into_iter().flatten().map(used_of).collect();
            let amount = self.plan.amount(row.budget.unit, &used);
            let charged = &mut self.charged[index];
            let more = amount.saturating_sub(*charged);
            self.plan.budgets.cells(id).restore(&row.budget.window, more, now_ms);
            *charged += more;
        }
        Ok(())
    }
}

/// Charges what earlier processes had used, as it gets into the store: what they left in their journals once it has been moved, and
/// what one that hands over still finishes.
pub(super) async fn run(mut refill: Refill, ledger: Arc<Ledger>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let (mut seen, mut count) = (0, 0_u32);
    loop {
        ticks.tick().await;
        count = count.saturating_add(1);
        let moved = ledger.status().recovered_rows;
        let is_due = count.is_multiple_of(TICKS_BETWEEN) && count < TICKS_MAX;
        if moved == seen && !is_due {
            continue;
        }
        let database = ledger.database().to_owned();
        let filled = tokio::task::spawn_blocking(move || {
            let result = refill.fill(&database, clock::unix_ms());
            (refill, result)
        });
        let Ok((back, result)) = filled.await else { return };
        refill = back;
        if result.is_ok() {
            seen = moved;
        }
    }
}

/// Time between two looks at what was moved.
const INTERVAL: Duration = Duration::from_secs(1);
/// Ticks between two looks into the store, whatever was moved, for the process that hands over; and until when.
const TICKS_BETWEEN: u32 = 30;
const TICKS_MAX: u32 = 3_600;

fn used_of(row: &UsageRow) -> Used {
    let sums = &row.sums;
    Used {
        model: row.model.as_str().into(),
        backend: row.backend.as_str().into(),
        charge: Charge::of_counts(
            sums.input_tokens,
            sums.cached_tokens,
            sums.cache_write_tokens,
            sums.output_tokens,
        ),
    }
}
