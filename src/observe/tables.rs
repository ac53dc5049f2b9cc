//! Who used what on one shard: a row per key, model and backend.

use std::iter::repeat_with;
use std::sync::Arc;

use super::record::Record;
use super::usage::{Usage, UsageCells};
use crate::units::{BackendId, KeyId, ModelId};

/// How many rows there are, from the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// Virtual keys.
    pub keys: usize,
    /// Public models.
    pub models: usize,
    /// Backends.
    pub backends: usize,
}

/// Which row of the plan before means the same, by the rows of the plan after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Before {
    /// By `KeyId`.
    pub keys: Box<[Option<KeyId>]>,
    /// By `ModelId`.
    pub models: Box<[Option<ModelId>]>,
    /// By `BackendId`.
    pub backends: Box<[Option<BackendId>]>,
}

/// Rows that only the owning shard writes. Each has an owner of its own: the tables of the next plan go on with those
/// that mean the same there, while exchanges of this one are still settled into them.
pub struct UsageTables {
    keys: Table,
    models: Table,
    backends: Table,
}

type Table = Box<[Arc<UsageCells>]>;

impl UsageTables {
    /// All zero: 80 bytes a row.
    pub(super) fn new(rows: Rows) -> Self {
        let table = |rows: usize| repeat_with(Arc::default).take(rows).collect();
        Self { keys: table(rows.keys), models: table(rows.models), backends: table(rows.backends) }
    }

    /// The tables of the next plan.
    pub(super) fn next(&self, before: &Before) -> Self {
        Self {
            keys: carry(&self.keys, before.keys.iter().map(|id| id.map(KeyId::index))),
            models: carry(&self.models, before.models.iter().map(|id| id.map(ModelId::index))),
            backends: carry(&self.backends, before.backends.iter().map(|id| id.map(BackendId::index))),
        }
    }

    /// Adds a settled exchange to the rows of its key, model and backend. An id beyond the tables is left out.
    pub(super) fn settle(&self, record: &Record) {
        let rows = [
            record.key.and_then(|key| self.keys.get(key.index())),
            record.model.and_then(|model| self.models.get(model.index())),
            record.backend.and_then(|backend| self.backends.get(backend.index())),
        ];
        for row in rows.into_iter().flatten() {
            row.settle(record);
        }
    }

    /// What a key has used on this shard; zero for an id beyond the table.
    pub fn key(&self, key: KeyId) -> Usage {
        read(&self.keys, key.index())
    }

    /// What was used of a model on this shard; zero for an id beyond the table.
    pub fn model(&self, model: ModelId) -> Usage {
        read(&self.models, model.index())
    }

    /// What was used of a backend on this shard; zero for an id beyond the table.
    pub fn backend(&self, backend: BackendId) -> Usage {
        read(&self.backends, backend.index())
    }
}

fn read(table: &Table, row: usize) -> Usage {
    table.get(row).map(|cells| cells.read()).unwrap_or_default()
}

fn carry(table: &Table, before: impl Iterator<Item = Option<usize>>) -> Table {
    before.map(|row| row.and_then(|row| table.get(row)).cloned().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::record::tests::sample;

    const ROWS: Rows = Rows { keys: 1, models: 1, backends: 1 };

    #[test]
    fn a_record_counts_for_its_key_model_and_backend() {
        let tables = UsageTables::new(ROWS);
        tables.settle(&sample());
        for usage in
            [tables.key(KeyId::new(0)), tables.model(ModelId::new(0)), tables.backend(BackendId::new(0))]
        {
            assert_eq!((usage.requests[0], usage.tokens), (1, [100, 64, 11, 5]));
        }
    }

    #[test]
    fn ids_beyond_the_tables_are_left_out() {
        let tables = UsageTables::new(ROWS);
        tables.settle(&Record { key: Some(KeyId::new(7)), model: None, backend: None, ..sample() });
        assert_eq!(tables.key(KeyId::new(7)), Usage::default());
        assert_eq!(tables.key(KeyId::new(0)), Usage::default());
    }

    #[test]
    fn the_next_tables_go_on_with_the_rows_that_stay() {
        let old = UsageTables::new(Rows { keys: 2, models: 1, backends: 1 });
        let next = old.next(&Before {
            keys: Box::new([None, Some(KeyId::new(0))]),
            models: Box::new([Some(ModelId::new(0))]),
            backends: Box::new([None]),
        });
        old.settle(&sample()); // under the old plan, after the new one has come
        next.settle(&Record { key: Some(KeyId::new(1)), ..sample() });
        assert_eq!(next.key(KeyId::new(1)).requests[0], 2);
        assert_eq!(next.model(ModelId::new(0)).requests[0], 2);
        assert_eq!(next.key(KeyId::new(0)), Usage::default());
        assert_eq!(next.backend(BackendId::new(0)).requests[0], 1);
    }
}
