use std::path::PathBuf;

use super::*;
use crate::observe::record::tests::sample;

const NAMES: Names<'_> = Names {
    key: "ci",
    team: "search",
    user: "",
    model: "llama-70b",
    fallback_for: "",
    backend: "gpu-1",
    marks: "",
};

fn path(name: &str, position: u64) -> PathBuf {
    std::env::temp_dir().join(format!("ringway-journal-{name}-{}-{position}", std::process::id()))
}

pub(super) fn segment(name: &str, position: u64) -> Segment {
    let path = path(name, position);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(SEGMENT_BYTES as u64).unwrap();
    Segment::new(&file, position).unwrap()
}

fn bytes(name: &str, position: u64) -> Vec<u8> {
    let path = path(name, position);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bytes
}

#[test]
fn appended_records_are_in_the_file_with_the_writer_still_there() {
    let (mut journal, lane) = channel();
    assert!(lane.prepare(segment("file", 0)).is_ok());
    for _ in 0..3 {
        assert!(journal.append(&sample(), &NAMES));
    }
    let bytes = bytes("file", 0);
    let mut frames = Frames::live(&bytes, 0, 0);
    let found: Vec<_> = frames.by_ref().collect();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].0, HEADER_BYTES as u64);
    let entry = found[0].1.as_ref().unwrap();
    assert_eq!((&*entry.key, &*entry.team, &*entry.backend), ("ci", "search", "gpu-1"));
    assert_eq!(frames.offset() as u64, lane.end());
    assert_eq!((lane.records(), lane.lost()), (3, 0));
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    let (mut journal, lane) = channel();
    assert!(lane.prepare(segment("next", 0)).is_ok());
    assert!(lane.prepare(segment("next", SEGMENT_BYTES as u64)).is_ok());
    assert!(!lane.wants_segment());
    let mut appended = 0;
    while lane.end() < SEGMENT_BYTES as u64 + 1000 {
        assert!(journal.append(&sample(), &NAMES));
        appended += 1;
    }
    let (first, second) = (bytes("next", 0), bytes("next", SEGMENT_BYTES as u64));
    let count =
        Frames::left_over(&first, 0, 0).count() + Frames::left_over(&second, SEGMENT_BYTES as u64, 0).count();
    assert_eq!(count, appended);
    assert!(lane.wants_segment());
}

#[test]
fn a_record_without_a_segment_is_counted_as_lost_and_later_ones_are_kept() {
    let (mut journal, lane) = channel();
    assert!(!journal.append(&sample(), &NAMES));
    assert_eq!((lane.records(), lane.lost(), lane.end()), (0, 1, 0));
    assert!(lane.prepare(segment("lost", 0)).is_ok());
    assert!(journal.append(&sample(), &NAMES));
    assert_eq!((lane.records(), lane.lost()), (1, 1));
    bytes("lost", 0);
}
