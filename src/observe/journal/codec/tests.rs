use super::*;
use crate::observe::record::RequestId;
use crate::observe::record::tests::sample;

const POSITION: u64 = 7 << 20;

/// The segment that `count` appends leave, and where each frame starts and the last one ends.
fn history(count: usize) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = vec![0; SEGMENT_BYTES];
    bytes[..HEADER_BYTES].copy_from_slice(&header(1, POSITION));
    let mut scratch: Scratch = [0xAA; size_of::<Scratch>()];
    let mut starts = vec![HEADER_BYTES];
    for number in 0..count {
        let at = starts[number];
        let name = "x".repeat(number % 90);
        let names = Names { key: "ci", model: &name, backend: "gpu-1", ..Names::default() };
        let record = Record { request_id: RequestId::made(number as u128), ..sample() };
        let body = encode(&mut scratch, POSITION + at as u64, &record, &names);
        scratch[..4].copy_from_slice(&(body as u32).to_le_bytes());
        bytes[at..at + FRAME_HEAD_BYTES + body].copy_from_slice(&scratch[..FRAME_HEAD_BYTES + body]);
        starts.push(at + frame_bytes(body));
    }
    (bytes, starts)
}

/// The numbers of the records found, and the bytes passed over.
fn found(bytes: &[u8]) -> (Vec<usize>, usize) {
    let mut frames = Frames::left_over(bytes, POSITION, 0);
    let number = |entry: Entry| usize::from_str_radix(&entry.request_id, 16).unwrap();
    let numbers = frames.by_ref().map(|(_, entry)| number(entry.unwrap())).collect();
    (numbers, frames.damaged_bytes())
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let mut scratch: Scratch = [0; size_of::<Scratch>()];
    let names = Names {
        key: "ci",
        team: "search",
        user: "u-1",
        model: "llama",
        fallback_for: "big",
        backend: "gpu-1",
        marks: "cards/input/mask/00ff/1",
    };
    let record = Record {
        fault: Some(crate::error::FaultKind::ModelForbidden),
        estimated: true,
        from_cache: true,
        ..sample()
    };
    let body = encode(&mut scratch, 0, &record, &names);
    let entry = decode(&scratch[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + body], &mut Default::default()).unwrap();
    let text = |text: &str| text.to_owned();
    let wanted = Entry {
        at_unix_ms: 1_790_000_000_123,
        status: 200,
        attempts: 1,
        stream: true,
        usage_known: true,
        estimated: true,
        input_tokens: 100,
        cached_tokens: 64,
        cache_write_tokens: 3,
        output_tokens: 11,
        reasoning_tokens: 5,
        request_bytes: 512,
        response_bytes: 4096,
        duration_ns: 1_100_000_000,
        first_token_ns: Some(100_000_000),
        overhead_ns: 20_000,
        request_id: text("00000000000000000000000000abcdef"),
        api: text("chat").into(),
        fault: text("model_not_allowed").into(),
        key: text("ci").into(),
        team: text("search").into(),
        user: text("u-1").into(),
        model: text("llama").into(),
        fallback_for: text("big").into(),
        backend: text("gpu-1").into(),
        marks: text("cards/input/mask/00ff/1"),
        from_cache: true,
    };
    assert_eq!(entry, wanted);
}

#[test]
fn the_longest_record_fits_its_frame() {
    let long = "x".repeat(300);
    let names = Names {
        key: &long,
        team: &long,
        user: &long,
        model: &long,
        fallback_for: &long,
        backend: &long,
        marks: &"m".repeat(5000),
    };
    let record =
        Record { request_id: RequestId::given(&[b'r'; 128]).unwrap(), time_to_first_token: None, ..sample() };
    let mut scratch: Scratch = [0; size_of::<Scratch>()];
    let body = encode(&mut scratch, 0, &record, &names);
    assert!(body <= BODY_BYTES_MAX);
    let entry = decode(&scratch[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + body], &mut Default::default()).unwrap();
    assert_eq!((entry.backend.len(), entry.request_id.len(), entry.first_token_ns), (255, 128, None));
}

#[test]
fn a_body_that_ends_early_is_no_record() {
    let mut scratch: Scratch = [0; size_of::<Scratch>()];
    let body = encode(&mut scratch, 0, &sample(), &Names::default());
    // Where the matches of content rules begin a record of an older program ends.
    for end in (0..body).filter(|end| *end != body - 2) {
        assert_eq!(
            decode(&scratch[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + end], &mut Default::default()),
            None,
            "{end}"
        );
    }
}

#[test]
fn a_history_cut_at_any_byte_yields_every_record_before_the_cut_and_no_other() {
    let (whole, starts) = history(200);
    let mut bytes = whole.clone();
    for cut in (HEADER_BYTES..starts[200]).rev() {
        bytes[cut] = 0;
        let kept = starts.partition_point(|&start| start <= cut) - 1;
        // Padding and zero bytes at the end of a frame may be cut without a loss.
        let frame_is_whole = bytes[starts[kept]..starts[kept + 1]] == whole[starts[kept]..starts[kept + 1]];
        let kept = if frame_is_whole { kept + 1 } else { kept };
        // Every record is checked where a frame starts, else the last ones: a history of 200 has 40,000 cuts.
        if starts.contains(&cut) {
            assert_eq!(found(&bytes).0, (0..kept).collect::<Vec<_>>(), "cut at {cut}");
        } else {
            let from = starts[kept.saturating_sub(2)];
            let mut frames = Frames::left_over(&bytes[..starts[200].min(cut + 512)], POSITION, from);
            assert_eq!(frames.by_ref().count(), kept - kept.saturating_sub(2), "cut at {cut}");
            assert!(frame_is_whole || frames.damaged_bytes() > 0 || cut - starts[kept] == 0, "cut at {cut}");
        }
    }
}

#[test]
fn a_writer_killed_at_any_byte_of_a_frame_leaves_every_record_before_it() {
    let (whole, starts) = history(200);
    for number in 0..200 {
        let (start, end) = (starts[number], starts[number + 1]);
        let mut bytes = whole[..end].to_vec();
        bytes[start..].fill(0);
        for at in start + 4..end {
            bytes[at] = whole[at]; // the length word at `start` comes last
            let from = starts[number.saturating_sub(1)];
            let frames = Frames::left_over(&bytes, POSITION, from);
            assert_eq!(frames.count(), number.min(1), "record {number}, byte {at}");
        }
    }
}

#[test]
fn pages_that_a_power_cut_lost_take_only_their_own_records() {
    const PAGE: usize = 4096;
    let (whole, starts) = history(60);
    let pages = starts[60].div_ceil(PAGE);
    assert!((3..=5).contains(&pages), "{pages} pages: every subset of them is tried");
    for lost in 0..1_u32 << pages {
        let mut bytes = whole.clone();
        for page in (0..pages).filter(|page| lost & 1 << page != 0) {
            bytes[page * PAGE..(page + 1) * PAGE].fill(0);
        }
        let is_whole = |&number: &usize| {
            let frame = starts[number]..starts[number + 1];
            bytes[frame.clone()] == whole[frame]
        };
        let kept: Vec<usize> = (0..60).filter(is_whole).collect();
        assert_eq!(found(&bytes).0, kept, "lost pages {lost:b}");
    }
}

#[test]
fn a_flipped_bit_takes_one_record_and_is_counted() {
    let (whole, starts) = history(20);
    for at in HEADER_BYTES..starts[20] {
        let mut bytes = whole[..starts[20]].to_vec();
        bytes[at] ^= 1 << (at % 8);
        let number = starts.partition_point(|&start| start <= at) - 1;
        let (numbers, damaged) = found(&bytes);
        if damaged == 0 {
            assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "padding, at {at}");
        } else {
            assert_eq!(numbers, (0..20).filter(|&other| other != number).collect::<Vec<_>>(), "at {at}");
        }
    }
}

#[test]
fn a_frame_at_another_place_than_its_own_is_none() {
    let (bytes, starts) = history(3);
    let mut frames = Frames::left_over(&bytes, POSITION + 8, 0);
    assert_eq!(frames.by_ref().count(), 0);
    assert!(frames.damaged_bytes() >= starts[2] - starts[0]);
}

#[test]
fn a_live_journal_ends_at_the_frame_that_is_being_written() {
    let (mut bytes, starts) = history(3);
    bytes[starts[2]..starts[2] + 4].fill(0);
    let mut frames = Frames::live(&bytes, POSITION, 0);
    assert_eq!(frames.by_ref().count(), 2);
    assert_eq!((frames.offset(), frames.damaged_bytes()), (starts[2], 0));
}
