//! Token counts: sums that hold, and the same for every cut of a body.

use ringway::dialect::usage::{BodyMeter, COUNT_MAX, Usage};
use serde_json::Value;

fn metered(blocks: &[&[u8]]) -> Usage {
    let mut meter = BodyMeter::default();
    blocks.iter().for_each(|block| meter.block(block));
    *meter.usage()
}

/// What every report has to keep, whatever was written.
pub(super) fn holds(usage: Usage) {
    assert!(usage.cached + usage.cache_write <= usage.input, "{usage:?}");
    assert!(usage.reasoning <= usage.output, "{usage:?}");
    assert!(usage.input <= COUNT_MAX && usage.output <= COUNT_MAX, "{usage:?}");
    assert!(usage.seen || usage == Usage::default(), "{usage:?}");
}

pub(crate) fn run(data: &[u8]) {
    if let Ok(Some(read)) = Usage::read(data) {
        holds(read);
        let behind = [data, b",\"usage\":{\"input_tokens\":9}"].concat();
        assert_eq!(Usage::read(&behind), Ok(Some(read)), "what follows is not looked at");
        let mut twice = read;
        twice.merge(read);
        assert_eq!(twice, read, "a report that is repeated changes nothing");
        plain(data, read);
    }

    let whole = metered(&[data]);
    holds(whole);
    let keys = data.windows(7).filter(|window| window == b"\"usage\"").count();
    assert!(!whole.seen || keys > 0, "no usage without its name");
    // Of several, a whole block counts the last, and blocks count one after the other.
    if keys <= 1 {
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(metered(&bytes), whole, "byte by byte");
        for cut in super::cuts(data.len()) {
            let (first, second) = data.split_at(cut);
            assert_eq!(metered(&[first, second]), whole, "cut at {cut}");
        }
    }
    if let (Some(value), 1) = (super::value(data), keys)
        && let Some(usage) = value.get("usage").filter(|usage| usage.is_object())
    {
        let text = serde_json::to_vec(usage).expect("a value can be written");
        if !is_ambiguous(usage) {
            assert_eq!(Some(whole).filter(|usage| usage.seen), Usage::read(&text).expect("an object"));
        }
    }
}

/// Whether writing the object anew may change what it says: members of one name, numbers of another spelling.
fn is_ambiguous(usage: &Value) -> bool {
    let text = usage.to_string();
    text.contains(['.', 'e', '-', '\\'])
}

/// The counts of an object without surprises are those a reader of whole values sees.
fn plain(data: &[u8], read: Usage) {
    let Some(Value::Object(members)) = super::value(data) else { return };
    let names = ["prompt_tokens", "completion_tokens", "total_tokens"];
    let count = |name: &str| members.get(name).and_then(Value::as_u64);
    let is_plain = members.len() == 3 && data.iter().filter(|&&byte| byte == b':').count() == 3;
    if let ([Some(input), Some(output), Some(_)], true) = (names.map(count), is_plain)
        && input <= COUNT_MAX
        && output <= COUNT_MAX
    {
        assert_eq!((read.input, read.output), (input, output));
        assert!(read.seen);
    }
}
