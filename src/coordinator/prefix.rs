//! Keeps the tables of prompt prefixes: what shards placed goes in, what backends will have evicted comes out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::aggregate::Current;
use crate::plan::cells::Health;
use crate::plan::{Model, Plan};
use crate::policy::routing::prefix::{Keeper, MEMBERS_MAX, Note, NoteKind, bit};
use crate::units::ModelId;

/// Time between two readings of the shards' rings. Chosen, not measured: simulated delays up to 2 s change nothing that
/// can be measured, but a ring has to hold what comes in one.
const TICK: Duration = Duration::from_millis(20);

/// The tables of every model, by the models' names: those outlive plans.
#[derive(Default)]
struct Keepers {
    /// Generation of the plan that the rest is about.
    generation: u64,
    by_model: HashMap<Box<str>, Kept>,
    /// Which model a table's number means.
    by_number: HashMap<u32, Box<str>>,
    scratch: Vec<u64>,
}

struct Kept {
    keeper: Keeper,
    /// Bits that members of the pool have.
    used: u64,
}

/// Reads the rings for as long as the process runs.
pub(super) async fn run(current: Current) -> Infallible {
    let mut keepers = Keepers::default();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let watch = current.load();
        keepers.read(&watch.plan);
    }
}

impl Keepers {
    fn read(&mut self, plan: &Arc<Plan>) {
        if plan.generation != self.generation {
            self.follow(plan);
        }
        let Self { by_model, by_number, scratch, .. } = self;
        plan.placements.take(scratch, |note, blocks| {
            let Some(name) = by_number.get(&note.table) else { return };
            let (Some(kept), Some(id)) = (by_model.get_mut(name), plan.models.find(&**name)) else { return };
            let Some(shared) = plan.models.cells(id).prefixes.get() else { return };
            kept.take(&shared.table, note, blocks);
        });
        for (name, kept) in by_model {
            let Some(id) = plan.models.find(&**name) else { continue };
            kept.refresh(plan, id);
        }
    }

    /// The tables of a plan that has come into force, with the capacities that it knows.
    fn follow(&mut self, plan: &Plan) {
        self.generation = plan.generation;
        self.by_model.retain(|name, _| plan.models.find(&**name).is_some());
        self.by_number.clear();
        for model in &plan.models {
            let Some(shared) = plan.models.cells(model.id).prefixes.get() else { continue };
            self.by_number.insert(shared.number, model.name.clone());
            let fresh = || Kept { keeper: Keeper::default(), used: 0 };
            let kept = self.by_model.entry(model.name.clone()).or_insert_with(fresh);
            kept.follow(plan, model);
        }
    }
}

impl Kept {
    fn follow(&mut self, plan: &Plan, model: &Model) {
        let Some(shared) = plan.models.cells(model.id).prefixes.get() else { return };
        let used = model.pool.iter().fold(0, |used, member| used | bit(member.slot.into()));
        let gone = std::mem::replace(&mut self.used, used) & !used;
        (0..MEMBERS_MAX)
            .filter(|slot| gone & bit(*slot) != 0)
            .for_each(|slot| self.keeper.clear(&shared.table, slot));
    }

    fn take(&mut self, table: &crate::policy::routing::prefix::Table, note: Note, blocks: &[u64]) {
        let member = usize::from(note.member);
        match note.kind {
            NoteKind::Placed => self.keeper.place(table, member, blocks),
            NoteKind::Dropped => self.keeper.drop_blocks(table, member, blocks),
            NoteKind::Restarted => self.keeper.clear(table, member),
        }
    }

    /// Applies what has been learned of the backends: how much their caches hold, and that one that is down comes back with
    /// an empty cache.
    fn refresh(&mut self, plan: &Plan, id: ModelId) {
        let Some(shared) = plan.models.cells(id).prefixes.get() else { return };
        for member in &plan.model(id).pool {
            let slot = usize::from(member.slot);
            self.keeper.set_capacity(&shared.table, slot, plan.kv_blocks(member.backend));
            if plan.backends.cells(member.backend).health() == Health::Down {
                self.keeper.clear(&shared.table, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fixture::{plan, tcp};
    use crate::units::ShardId;

    const BLOCKS: [u64; 3] = [101, 103, 105];

    fn note(plan: &Plan, kind: NoteKind, member: u8, blocks: &[u64]) {
        let table = plan.models.cells(ModelId::new(0)).prefixes.get().unwrap().number;
        assert!(plan.placements.append(ShardId::new(0), Note { kind, table, member }, blocks));
    }

    fn members(plan: &Plan) -> [u64; 3] {
        let shared = plan.models.cells(ModelId::new(0)).prefixes.get().unwrap();
        BLOCKS.map(|block| shared.table.get(block))
    }

    #[test]
    fn what_shards_tell_is_in_the_table_after_one_reading() {
        let plan = two();
        let mut keepers = Keepers::default();
        keepers.read(&plan);
        note(&plan, NoteKind::Placed, 0, &BLOCKS);
        note(&plan, NoteKind::Placed, 1, &BLOCKS[..1]);
        keepers.read(&plan);
        assert_eq!(members(&plan), [0b11, 0b01, 0b01]);
        note(&plan, NoteKind::Dropped, 0, &BLOCKS[2..]);
        keepers.read(&plan);
        assert_eq!(members(&plan), [0b11, 0b01, 0]);
        note(&plan, NoteKind::Restarted, 1, &[]);
        keepers.read(&plan);
        assert_eq!(members(&plan), [0b01, 0b01, 0]);
    }

    #[test]
    fn a_backend_that_is_down_loses_its_blocks() {
        let plan = two();
        let mut keepers = Keepers::default();
        keepers.read(&plan);
        note(&plan, NoteKind::Placed, 0, &BLOCKS);
        note(&plan, NoteKind::Placed, 1, &BLOCKS);
        keepers.read(&plan);
        let backend = plan.models[0].pool[1].backend;
        plan.backends.cells(backend).set_health(Health::Down);
        keepers.read(&plan);
        assert_eq!(members(&plan), [0b01; 3]);
    }

    #[test]
    fn a_note_for_a_table_that_is_gone_is_ignored() {
        let plan = two();
        let stray = Note { kind: NoteKind::Placed, table: u32::MAX, member: 0 };
        assert!(plan.placements.append(ShardId::new(0), stray, &BLOCKS));
        Keepers::default().read(&plan);
        assert_eq!(members(&plan), [0; 3]);
    }

    fn two() -> Arc<Plan> {
        let plan = Arc::new(plan(&[tcp("127.0.0.1", 1), tcp("127.0.0.1", 2)]));
        plan.open_prefixes();
        plan
    }
}
