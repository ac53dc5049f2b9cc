//! Every parser on a corpus of small inputs and on what random edits make of them, each judged by more than "it did not
//! panic": the claims stand in `targets`.
//!
//! `RINGWAY_CAMPAIGN=1` makes a hundred times as many edits. A failure prints its seed, from which `RINGWAY_SEED` starts
//! again, and the input in hex, which `RINGWAY_FUZZ_INPUT` takes alone. `scripts/fuzz` runs the same for as long as wanted.

mod edits;
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use support::chance::Chance;
use targets::Target;

/// Inputs made of a target's corpus in one run.
const ROUNDS: u64 = 2_000;

/// The corpus of a target, in the order of the names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).expect("every target has a corpus");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a corpus can be listed").path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "{} is hardly a corpus", folder.display());
    let name = |path: &Path| path.file_name().expect("a file has a name").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).expect("an entry can be read"))).collect()
}

/// Runs the target on one input; on a failure, says how to run it again.
fn judge(target: &Target, input: &[u8], origin: &str) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!(
            "{}, {origin}: {}\nagain: RINGWAY_FUZZ_INPUT={hex} cargo test --test fuzz {}",
            target.name,
            input.escape_ascii(),
            target.name
        );
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "an input is pairs of hex digits");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("an input is pairs of hex digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The corpus as it is, then edits of it, one seed each.
fn hold(name: &str) {
    let target = targets::ALL.iter().find(|target| target.name == name).expect("the target is listed");
    if let Ok(input) = std::env::var("RINGWAY_FUZZ_INPUT") {
        return judge(target, &unhex(&input), "the input given");
    }
    let corpus = corpus(target);
    for (entry, input) in &corpus {
        judge(target, input, &format!("corpus entry {entry}"));
    }
    let first: u64 = std::env::var("RINGWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let rounds = if std::env::var_os("RINGWAY_CAMPAIGN").is_some() { 100 * ROUNDS } else { ROUNDS };
    for seed in first..first + rounds / target.weight {
        let input = edits::input(&mut Chance(seed), &corpus, target.dictionary);
        judge(target, &input, &format!("seed {seed}"));
    }
}

macro_rules! hold {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { hold($name) })*

        #[test]
        fn every_target_is_run() {
            let mut run = [$($name),*];
            let mut listed: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
            run.sort_unstable();
            listed.sort_unstable();
            assert_eq!(listed, run);
        }
    };
}

hold! {
    request_heads_read_the_same_at_any_cut_and_when_written_again: "request",
    response_heads_read_the_same_at_any_cut_and_when_written_again: "response",
    fields_that_travel_are_those_the_rules_let_through: "fields",
    framing_is_what_a_slow_reader_of_the_rfc_decides: "framing",
    request_targets_hide_no_other_path: "url",
    chunked_bodies_are_what_a_slow_reader_of_the_rfc_decodes: "chunked",
    sse_events_are_what_a_slow_reader_of_the_standard_sees: "sse",
    json_is_sound_where_serde_says_so: "json",
    json_splices_change_one_value_only: "splice",
    config_texts_become_a_plan_or_problems_in_their_lines: "config",
    peek_takes_what_a_careful_reader_takes: "peek",
    usage_is_the_same_at_any_cut_and_never_more_than_was_said: "usage",
    stream_meters_see_the_same_in_any_blocks_and_invent_nothing: "meter",
    one_shot_streams_say_what_the_answer_says: "one_shot",
    base64_vectors_are_the_numbers_that_were_written: "base64",
}

#[test]
fn the_same_seed_makes_the_same_input() {
    let corpus = corpus(&targets::ALL[0]);
    let make = |seed| edits::input(&mut Chance(seed), &corpus, targets::ALL[0].dictionary);
    assert_eq!(make(7), make(7));
    assert!((0..20).any(|seed| make(seed) != make(seed + 1)));
}
