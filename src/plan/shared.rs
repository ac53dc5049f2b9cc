//! Limits that several gateways share.

use super::Plan;
use crate::units::Nanos;

impl Plan {
    /// Gives each shared limit that nobody has used the share that a gateway begins with. Before the first request of a plan, and
    /// without effect the second time.
    pub fn begin_shares(&self, now: Nanos) {
        for id in self.budgets.ids() {
            let most = self.budgets.row(id).budget.most;
            self.budgets.cells(id).share(most - most / u64::from(self.gateways.max(1)));
        }
        let keys = self.keys.ids().map(|id| (&self.keys.row(id).grant.limits, self.keys.cells(id)));
        let teams = self.teams.ids().map(|id| (&self.teams.row(id).limits, self.teams.cells(id)));
        for (limits, cells) in keys.chain(teams) {
            limits.requests.iter().for_each(|rate| cells.requests.begin(rate, now));
            limits.tokens.iter().for_each(|rate| cells.tokens.begin(rate, now));
        }
    }
}
