//! The rows of one kind: by id, by name, each with cells that outlive the plan.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::units::RowId;

/// What a [`Table`] holds: one thing that the configuration names.
pub trait Row {
    /// What it is found by, and what orders the table.
    type Name: Ord + ?Sized;
    /// What changes while it is in use: atomics, shared by all shards and the coordinator.
    type Cells;

    /// What it is found by.
    fn name(&self) -> &Self::Name;

    /// Whether this row of a new plan goes on with the cells of the row of the same name in the old one.
    fn continues(&self, _before: &Self) -> bool {
        true
    }
}

/// Rows in the order of their names, so that the same file always yields the same ids, and the cells of each.
///
/// `rows` and `cells` have one entry per id. Each row's cells have an owner of their own, so that the next plan goes on with
/// those of the rows it shares, while exchanges of this plan still write to them.
pub struct Table<Id, R: Row> {
    rows: Box<[R]>,
    cells: Box<[Arc<CachePadded<R::Cells>>]>,
    id: PhantomData<Id>,
}

impl<Id: RowId, R: Row> Table<Id, R> {
    /// The table of these rows, each with fresh cells.
    ///
    /// # Panics
    /// If the rows are not in the order of their names, or two have the same.
    pub fn new(rows: Vec<R>, fresh: impl Fn(&R) -> R::Cells) -> Self {
        assert!(rows.is_sorted_by(|one, next| one.name() < next.name()), "rows in the order of their names");
        let cells = rows.iter().map(|row| Arc::new(CachePadded::new(fresh(row)))).collect();
        Self { rows: rows.into(), cells, id: PhantomData }
    }

    /// The row of an id.
    pub fn row(&self, id: Id) -> &R {
        &self.rows[id.index()]
    }

    /// The cells of an id.
    pub fn cells(&self, id: Id) -> &R::Cells {
        &self.cells[id.index()]
    }

    /// The id of a name. Cost: a binary search.
    pub fn find<Q: Ord + ?Sized>(&self, name: &Q) -> Option<Id>
    where
        R::Name: Borrow<Q>,
    {
        self.rows.binary_search_by(|row| row.name().borrow().cmp(name)).ok().map(Id::new)
    }

    /// The row of a name.
    pub fn named<Q: Ord + ?Sized>(&self, name: &Q) -> Option<&R>
    where
        R::Name: Borrow<Q>,
    {
        self.find(name).map(|id| self.row(id))
    }

    /// Every id, in order.
    pub fn ids(&self) -> impl Iterator<Item = Id> + use<Id, R> {
        (0..self.rows.len()).map(Id::new)
    }

    /// Goes on with the cells of `old` where `before` finds the row that this one was there. Back come the pairs.
    pub(super) fn carry_from(&mut self, old: &Self, before: impl Fn(&R) -> Option<Id>) -> Vec<(Id, Id)> {
        let pairs = self.ids().filter_map(|id| Some((id, before(self.row(id))?))).collect::<Vec<_>>();
        for &(id, before) in &pairs {
            self.cells[id.index()] = Arc::clone(&old.cells[before.index()]);
        }
        pairs
    }

    /// Goes on with the cells of the rows of `old` that have the same name and [continue](Row::continues). Back come the pairs:
    /// the id here, and there.
    pub(super) fn carry(&mut self, old: &Self) -> Vec<(Id, Id)> {
        self.carry_from(old, |row| old.find(row.name()).filter(|before| row.continues(old.row(*before))))
    }
}

impl<Id, R: Row> Deref for Table<Id, R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        &self.rows
    }
}

/// Rows may be changed while a plan is made, but not their names.
impl<Id, R: Row> DerefMut for Table<Id, R> {
    fn deref_mut(&mut self) -> &mut [R] {
        &mut self.rows
    }
}

impl<'a, Id, R: Row> IntoIterator for &'a Table<Id, R> {
    type Item = &'a R;
    type IntoIter = std::slice::Iter<'a, R>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicU8, Ordering};
    use crate::units::KeyId;

    struct Named(&'static str, u8);

    impl Row for Named {
        type Name = str;
        type Cells = AtomicU8;

        fn name(&self) -> &str {
            self.0
        }

        fn continues(&self, before: &Self) -> bool {
            self.1 == before.1
        }
    }

    fn table(rows: &[(&'static str, u8)]) -> Table<KeyId, Named> {
        Table::new(rows.iter().map(|&(name, place)| Named(name, place)).collect(), |row| AtomicU8::new(row.1))
    }

    #[test]
    fn a_row_is_found_by_its_name_and_by_its_id() {
        let table = table(&[("a", 1), ("b", 2)]);
        assert_eq!(table.find("b"), Some(KeyId::new(1)));
        assert_eq!(table.named("a").map(|row| row.1), Some(1));
        assert!(table.find("c").is_none() && table.find("").is_none());
        assert_eq!(table.cells(KeyId::new(1)).load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_next_table_goes_on_with_the_cells_of_the_rows_that_continue() {
        let old = table(&[("a", 1), ("b", 2), ("c", 3)]);
        old.cells(KeyId::new(1)).store(20, Ordering::Relaxed);
        old.cells(KeyId::new(2)).store(30, Ordering::Relaxed);
        let mut new = table(&[("b", 2), ("c", 4), ("d", 5)]);
        assert_eq!(new.carry(&old), [(KeyId::new(0), KeyId::new(1))]);
        let read =
            |table: &Table<KeyId, Named>, id: usize| table.cells(KeyId::new(id)).load(Ordering::Relaxed);
        assert_eq!([0, 1, 2].map(|id| read(&new, id)), [20, 4, 5]);
        old.cells(KeyId::new(1)).store(21, Ordering::Relaxed);
        assert_eq!(read(&new, 0), 21, "an exchange of the old plan writes to the same cell");
    }

    #[test]
    #[should_panic(expected = "order of their names")]
    fn rows_out_of_order_are_no_table() {
        table(&[("b", 1), ("a", 2)]);
    }
}
