use super::*;

/// `[input, cached, cache_write, output, reasoning]`
fn counts(usage: Usage) -> [u64; 5] {
    [usage.input, usage.cached, usage.cache_write, usage.output, usage.reasoning]
}

fn read(object: &str) -> Usage {
    Usage::read(object.as_bytes()).unwrap().unwrap()
}

#[test]
fn every_family_becomes_the_same_normal_form() {
    let cases: &[(&str, [u64; 5])] = &[
        // Chat and completions.
        (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#, [10, 0, 0, 5, 0]),
        (
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
               "prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2,"audio_tokens":1},
               "completion_tokens_details":{"reasoning_tokens":3,"accepted_prediction_tokens":9}}"#,
            [10, 4, 2, 5, 3],
        ),
        (r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":null}"#, [10, 0, 0, 5, 0]),
        // Embeddings and rerank.
        (r#"{"prompt_tokens":8,"total_tokens":8}"#, [8, 0, 0, 0, 0]),
        (r#"{"total_tokens":8}"#, [8, 0, 0, 0, 0]),
        // Responses.
        (
            r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,
               "output_tokens_details":{"reasoning_tokens":3},"total_tokens":15}"#,
            [10, 4, 0, 5, 3],
        ),
        // Anthropic: parts are added.
        (
            r#"{"input_tokens":10,"cache_creation_input_tokens":2,"cache_read_input_tokens":30,
               "output_tokens":5,"output_tokens_details":{"thinking_tokens":4}}"#,
            [42, 30, 2, 5, 4],
        ),
        (r#"{"input_tokens":10,"output_tokens":1}"#, [10, 0, 0, 1, 0]),
        (r#"{"output_tokens":15}"#, [0, 0, 0, 15, 0]),
        // Vendors.
        (
            r#"{"prompt_tokens":10,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":4,"completion_tokens":1}"#,
            [10, 6, 0, 1, 0],
        ),
        (r#"{"prompt_tokens":10,"completion_tokens":1,"cached_tokens":7}"#, [10, 7, 0, 1, 0]),
        (
            r#"{"prompt_tokens":10,"completion_tokens":1,"cache_read_input_tokens":3,"cache_creation_input_tokens":2}"#,
            [10, 3, 2, 1, 0],
        ),
    ];
    for (object, expected) in cases {
        let usage = read(object);
        assert_eq!(counts(usage), *expected, "{object}");
        assert!(usage.seen && !usage.doubtful, "{object}");
    }
}

#[test]
fn what_names_no_count_is_no_usage() {
    for object in [
        "",
        "null",
        "[]",
        "7",
        "{}",
        r#"{"prompt_tokens":null}"#,
        r#"{"prompt_tokens":"7"}"#,
        r#"{"prompt_tokens":-7}"#,
        r#"{"prompt_tokens":7"#,
        r#"{"prompt_tokens":7]"#,
        r#"{"type":"string"}"#,
        r#"{"prompt_tokens_details":{"cached_tokens":4}}"#,
    ] {
        assert!(!matches!(Usage::read(object.as_bytes()), Ok(Some(_))), "{object}");
    }
}

#[test]
fn absurd_counts_are_clamped_and_flagged() {
    let cases: &[(&str, [u64; 5])] = &[
        (r#"{"prompt_tokens":9999999999999,"completion_tokens":1}"#, [COUNT_MAX, 0, 0, 1, 0]),
        (r#"{"prompt_tokens":18446744073709551615,"completion_tokens":1}"#, [COUNT_MAX, 0, 0, 1, 0]),
        (r#"{"prompt_tokens":1e999,"completion_tokens":1}"#, [0, 0, 0, 1, 0]),
        (r#"{"prompt_tokens":-5,"completion_tokens":1}"#, [0, 0, 0, 1, 0]),
        (r#"{"prompt_tokens":5.5,"completion_tokens":1}"#, [0, 0, 0, 1, 0]),
        (
            r#"{"prompt_tokens":5,"completion_tokens":1,"cached_tokens":9,
               "completion_tokens_details":{"reasoning_tokens":2}}"#,
            [5, 5, 0, 1, 1],
        ),
        (
            r#"{"input_tokens":1099511627776,"cache_read_input_tokens":1099511627776,"output_tokens":0}"#,
            [COUNT_MAX, COUNT_MAX, 0, 0, 0],
        ),
    ];
    for (object, expected) in cases {
        let usage = read(object);
        assert_eq!(counts(usage), *expected, "{object}");
    }
    let flagged = |(object, _): &&(&str, _)| read(object).doubtful;
    assert_eq!(cases.iter().filter(flagged).count(), cases.len() - 1);
}

#[test]
fn a_later_report_replaces_and_anthropics_overwrites_what_it_names() {
    let merged = |first: &str, second: &str| {
        let mut usage = read(first);
        usage.merge(read(second));
        counts(usage)
    };
    assert_eq!(
        merged(
            r#"{"prompt_tokens":10,"completion_tokens":1,"cached_tokens":7}"#,
            r#"{"prompt_tokens":10,"completion_tokens":9}"#
        ),
        [10, 0, 0, 9, 0]
    );
    let start = r#"{"input_tokens":34824,"output_tokens":1}"#;
    assert_eq!(merged(start, r#"{"output_tokens":77}"#), [34_824, 0, 0, 77, 0]);
    assert_eq!(
        merged(start, r#"{"input_tokens":3883,"cache_read_input_tokens":30464,"output_tokens":77}"#),
        [34_347, 30_464, 0, 77, 0]
    );
    assert_eq!(
        merged(
            r#"{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}"#,
            r#"{"input_tokens":null,"cache_read_input_tokens":null,"output_tokens":8}"#
        ),
        [15, 5, 0, 8, 0]
    );
}

#[test]
fn a_key_that_ends_in_usage_is_none_at_any_cut() {
    let body = br#"{"\"usage":{"prompt_tokens":5},"\\\"usage":{"prompt_tokens":5}}"#;
    for cut in 0..=body.len() {
        let mut meter = BodyMeter::default();
        meter.block(&body[..cut]);
        meter.block(&body[cut..]);
        assert!(!meter.usage().seen, "cut at {cut}");
    }
    let mut meter = BodyMeter::default();
    body.iter().for_each(|byte| meter.block(std::slice::from_ref(byte)));
    assert!(!meter.usage().seen);
}

#[test]
fn a_body_is_read_at_every_cut() {
    let bodies = [
        r#"{"choices":[{"text":"a \"usage\":{\"prompt_tokens\":1} b"}],"usage" : {"prompt_tokens":10,"completion_tokens":5}}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1},"x":"usage","usage":{"prompt_tokens":10,"completion_tokens":5},"y":"\"usage"}"#,
        r#"{"tools":[{"usage":{"type":"string"}}],"usage":{"input_tokens":10,"output_tokens":5,"output_tokens_details":{"thinking_tokens":0}},"usage":null}"#,
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":5},"properties":{"usage":{"type":"}{"}}}"#,
    ];
    for body in bodies {
        let body = body.as_bytes();
        for first in 0..=body.len() {
            for second in [first, (first + 7).min(body.len()), body.len()] {
                let mut meter = BodyMeter::default();
                meter.block(&body[..first]);
                meter.block(&body[first..second]);
                meter.block(&body[second..]);
                assert_eq!(
                    counts(*meter.usage()),
                    [10, 0, 0, 5, 0],
                    "{} cut at {first}, {second}",
                    body.escape_ascii()
                );
            }
        }
        let mut meter = BodyMeter::default();
        body.iter().for_each(|byte| meter.block(std::slice::from_ref(byte)));
        assert_eq!(counts(*meter.usage()), [10, 0, 0, 5, 0]);
    }
}

#[test]
fn a_body_without_usage_holds_nothing_and_reports_nothing() {
    let mut meter = BodyMeter::default();
    for block in [&b"{\"data\":[0.1,0.2"[..], b",0.3],\"usage\":null", b"}"] {
        meter.block(block);
        assert!(meter.carry.is_empty());
    }
    assert!(!meter.usage().seen);
    meter.block(br#"{"usage":{"prompt_tokens":1}}"#);
    assert_eq!(meter.carry.capacity(), 0, "one block, no allocation");
}

#[test]
fn an_endless_object_is_given_up_and_a_later_one_still_found() {
    let mut meter = BodyMeter::default();
    meter.block(br#"{"usage":{"x":""#);
    for _ in 0..100 {
        meter.block(&[b'a'; 1000]);
        assert!(meter.carry.len() <= CARRY_BYTES_MAX);
    }
    meter.block(br#""},"usage":{"prompt_tokens":10,"completion_tokens":5}}"#);
    assert_eq!(counts(*meter.usage()), [10, 0, 0, 5, 0]);
    let mut meter = BodyMeter::default();
    meter.block(br#"{"usage":{"x":""#);
    meter.block(&[&[b'a'; 9000][..], br#""},"usage":{"prompt_tokens":3}}"#].concat());
    assert_eq!(meter.usage().input, 3);
}

#[test]
fn decoys_are_passed_over_up_to_a_bound() {
    let with = |decoys: usize| {
        let mut meter = BodyMeter::default();
        meter.block(
            [r#"{"usage":{"prompt_tokens":3}"#, &r#","usage":{}"#.repeat(decoys), "}"].concat().as_bytes(),
        );
        meter.usage().seen
    };
    assert!(with(TRIES_MAX - 1));
    assert!(!with(TRIES_MAX));
}
