//! Streams of events: the meter sees the same in any blocks, and nothing that was not said.

use ringway::dialect::Api;
use ringway::dialect::stream::Meter;
use ringway::units::Span;
use ringway::wire::sse;

const APIS: [Api; 4] = [Api::Chat, Api::Completions, Api::Responses, Api::Messages];

/// What a meter has seen at the end, how often it dropped an event, and what a client is passed.
type Seen = (ringway::dialect::usage::Usage, bool, bool, bool, u64);

/// Feeds blocks of whole events, up to `[DONE]`.
fn metered(api: Api, blocks: &[&[u8]], asks_usage: bool) -> (Seen, usize) {
    let mut meter = Meter::new(api, 1, asks_usage);
    let mut first_tokens = 0;
    for block in blocks {
        let found = meter.events(block);
        first_tokens += usize::from(found.first_token);
        if let Some(drop) = found.drop {
            assert!(asks_usage, "only our own question is dropped");
            assert!(spans(block).contains(&drop), "what is dropped is one event");
            assert!(drop.of(block).windows(7).any(|window| window == b"\"usage\""));
        }
        if let Some(end) = found.end {
            assert!(meter.done() && spans(block).iter().any(|span| span.end == end));
            break;
        }
    }
    assert!(first_tokens <= 1, "the first comes once");
    assert!(first_tokens == 1 || !meter.finished(), "an end counts as output");
    ((*meter.usage(), meter.finished(), meter.done(), meter.errored(), meter.sequence()), first_tokens)
}

/// The events of a block of whole ones: a CR at its very end ends the last.
fn spans(block: &[u8]) -> Vec<Span> {
    let ended = [block, b"x"].concat();
    sse::events(&ended).collect()
}

pub(crate) fn run(data: &[u8]) {
    // Events that are not complete never come to the meter, and none behind the end counts.
    let data = &data[..sse::last_boundary(data)];
    let end = spans(data).iter().find(|span| sse::is_done(span.of(data))).map_or(data.len(), |span| span.end);
    let data = &data[..end];
    let events: Vec<&[u8]> = spans(data).iter().map(|span| span.of(data)).collect();
    let has = |word: &str| data.windows(word.len()).any(|window| window == word.as_bytes());
    for api in APIS {
        let (whole, first) = metered(api, &[data], false);
        let (usage, finished, done, errored, sequence) = whole;
        assert_eq!(metered(api, &events, false).0, whole, "{api:?}: event by event");
        for cut in 1..events.len().min(64) {
            let length: usize = events[..cut].iter().map(|event| event.len()).sum();
            let (one, two) = data.split_at(length);
            assert_eq!(metered(api, &[one, two], false), (whole, first), "{api:?}: cut behind event {cut}");
        }
        assert_eq!(metered(api, &[data], true).0, whole, "who asked for usage changes no count");

        super::usage::holds(usage);
        assert!(!usage.seen || (has("_tokens") && has("usage")), "{api:?}: no counts without their names");
        assert!(!done || has("[DONE]"));
        assert!(!errored || has("error") || has("failed"));
        assert!(sequence == 0 || has("sequence_number"));
        let ends = match api {
            Api::Responses => ["completed", "incomplete", "failed", "cancelled"]
                .iter()
                .any(|last| has(&format!("response.{last}"))),
            Api::Messages => has("message_stop"),
            _ => has("finish_reason\":") || (has("finish_reason\"") && has(":")),
        };
        assert!(!finished || ends, "{api:?}: no end without its word");
        if let (true, Api::Chat) = (finished, api) {
            assert!(reasons(&events) != Some(0), "no reason to finish, and finished");
        }
    }
}

/// Reasons to finish, at any depth, where every event is one that a reader of whole values reads; `None` where not.
fn reasons(events: &[&[u8]]) -> Option<usize> {
    let mut count = 0;
    for event in events {
        let mut data = Vec::new();
        sse::join_data(event, &mut data);
        let silent = !event.windows(13).any(|window| window == b"finish_reason");
        if !(silent && (data.is_empty() || sse::is_done(event))) {
            count += count_in(&super::value(&data)?);
            // One name twice in an object: readers see the last, the meter both.
            if event.windows(15).filter(|window| window == b"\"finish_reason\"").count() > 1 {
                return None;
            }
            // A field without a name that matters may hold anything.
            if sse::event(event).data_lines != 1 || event.split(|&byte| byte == b'\n').any(is_foreign) {
                return None;
            }
        }
    }
    Some(count)
}

fn is_foreign(line: &[u8]) -> bool {
    !line.is_empty() && line != b"\r" && !line.starts_with(b"data:") || line.contains(&b'\r')
}

fn count_in(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                let ends = name == "finish_reason" && value.as_str().is_some_and(|reason| !reason.is_empty());
                usize::from(ends) + count_in(value)
            })
            .sum(),
        serde_json::Value::Array(list) => list.iter().map(count_in).sum(),
        _ => 0,
    }
}
