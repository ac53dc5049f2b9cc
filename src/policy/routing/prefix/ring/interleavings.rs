use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_note_is_read_whole_or_not_yet_and_in_order() {
    check(|| {
        let ring = Arc::new(Ring::new(4));
        let note = |table| Note { kind: NoteKind::Placed, table, member: 1 };
        let writer = {
            let ring = Arc::clone(&ring);
            spawn(move || {
                let taken =
                    [ring.append(note(1), &[11]), ring.append(note(2), &[22]), ring.append(note(3), &[33])];
                taken.iter().filter(|taken| **taken).count()
            })
        };
        let mut seen = Vec::new();
        let look = |seen: &mut Vec<u32>| {
            ring.take(&mut Vec::new(), |note, blocks| {
                assert_eq!(blocks, [u64::from(note.table) * 11]);
                seen.push(note.table);
            });
        };
        look(&mut seen);
        let appended = writer.join().unwrap();
        look(&mut seen);
        assert_eq!(seen.len(), appended, "what was taken in comes out");
        assert!(seen.is_sorted() && appended >= 2);
    });
}
