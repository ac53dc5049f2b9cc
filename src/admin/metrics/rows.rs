//! Rows of one table as series, up to the cap of series.

use std::ops::AddAssign;

use crate::observe::prometheus::{OTHER, shown};

/// Emits every row under its name, `sets` label sets each; rows beyond the cap of series are summed as `other`.
pub(super) fn rows<'a, T: AddAssign + Default>(
    count: usize,
    sets: usize,
    name: impl Fn(usize) -> &'a str,
    value: impl Fn(usize) -> T,
    mut emit: impl FnMut(&str, T),
) {
    let kept = shown(count, sets);
    let mut rest = T::default();
    for row in 0..count {
        // Once there is a sum of others, a row of that very name belongs to it.
        if row >= kept || (kept < count && name(row) == OTHER) {
            rest += value(row);
        } else {
            emit(name(row), value(row));
        }
    }
    if kept < count {
        emit(OTHER, rest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn emitted(names: &[String], sets: usize) -> Vec<(String, u64)> {
        let mut out = Vec::new();
        rows(
            names.len(),
            sets,
            |row| &names[row],
            |_| 1_u64,
            |name, value| out.push((name.to_owned(), value)),
        );
        out
    }

    #[test]
    fn rows_below_the_cap_keep_their_names() {
        let names: Vec<String> = (0..200).map(|row| format!("m{row}")).collect();
        let out = emitted(&names, 5);
        assert_eq!(out.len(), 200);
        assert!(out.iter().all(|(_, value)| *value == 1));
    }

    #[test]
    fn rows_beyond_the_cap_are_summed_and_none_is_lost() {
        let mut names: Vec<String> = (0..5_000).map(|row| format!("m{row}")).collect();
        names[3] = OTHER.to_owned();
        for sets in [1, 5] {
            let out = emitted(&names, sets);
            assert!(out.len() * sets <= 1_000);
            assert_eq!(out.iter().map(|(_, value)| value).sum::<u64>(), 5_000);
            let unique: HashSet<_> = out.iter().map(|(name, _)| name).collect();
            assert_eq!(unique.len(), out.len());
        }
    }
}
