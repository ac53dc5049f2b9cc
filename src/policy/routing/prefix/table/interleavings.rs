use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_reader_finds_an_old_or_a_new_entry_or_none() {
    check(|| {
        let table = Arc::new(Table::new(4));
        table.set(5, 0b01);
        let reader = {
            let table = Arc::clone(&table);
            spawn(move || (table.get(5), table.get(9)))
        };
        table.set(5, 0b11);
        table.set(5, 0);
        table.set(9, 0b100);
        let (five, nine) = reader.join().unwrap();
        assert!([0, 0b01, 0b11].contains(&five), "{five}");
        assert!([0, 0b100].contains(&nine), "{nine}");
        assert_eq!((table.get(5), table.get(9)), (0, 0b100));
    });
}
