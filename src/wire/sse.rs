//! Server-sent events (WHATWG HTML, section 9.2.6): where an event ends, and what its lines say.
//!
//! A line ends in CRLF, LF or CR; an event ends with an empty line. Callers give bytes that begin at an event's
//! start. A CR as the very last byte may be half of a CRLF, so what it ends is not ended yet. Every byte belongs to
//! an event: spans are contiguous and can be passed on as they are.

use memchr::{memchr2, memrchr2};

use crate::units::Span;

/// The offset just behind the last complete event in `bytes`, 0 if none is complete.
///
/// Searches from the end: the cost is the length of the incomplete tail plus one event's last lines.
pub fn last_boundary(bytes: &[u8]) -> usize {
    let mut end = match bytes {
        [rest @ .., b'\r'] => rest.len(),
        _ => bytes.len(),
    };
    while let Some(at) = memrchr2(b'\n', b'\r', &bytes[..end]) {
        let line_end = if at > 0 && &bytes[at - 1..=at] == b"\r\n" { at - 1 } else { at };
        if line_end == 0 || is_break(bytes[line_end - 1]) {
            return at + 1;
        }
        end = line_end;
    }
    0
}

/// The offset just behind the event that starts at `from`, or `None` if it is not complete.
pub fn next_boundary(bytes: &[u8], from: usize) -> Option<usize> {
    let mut start = from;
    loop {
        let (end, next) = line(bytes, start)?;
        if end == start {
            return Some(next);
        }
        start = next;
    }
}

/// The line that starts at `start`: where it ends and where the next begins, if that is certain.
fn line(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let end = start + memchr2(b'\n', b'\r', bytes.get(start..)?)?;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', None) => None,
        (b'\r', Some(b'\n')) => Some((end, end + 2)),
        _ => Some((end, end + 1)),
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The complete events in `bytes`, in order and without gaps; they end at [`last_boundary`].
pub fn events(bytes: &[u8]) -> Events<'_> {
    Events { bytes, at: 0 }
}

/// Iterator over complete events, see [`events`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Events<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let end = next_boundary(self.bytes, self.at)?;
        let span = Span::new(self.at, end);
        self.at = end;
        Some(span)
    }
}

/// What the lines of one event say. Values borrow the event's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event<'a> {
    /// Value of the last `event` line.
    pub name: Option<&'a [u8]>,
    /// Value of the first `data` line. `None` for comments, keep-alives and empty events.
    pub data: Option<&'a [u8]>,
    /// Number of `data` lines: if more than one, the data is all of them joined by LF, see [`join_data`].
    pub data_lines: usize,
    /// Whether all its lines are comments, and there is one.
    pub comment_only: bool,
}

/// Reads one event, a span from [`events`]. A BOM in front is passed over (it is legal in front of the first).
pub fn event(bytes: &[u8]) -> Event<'_> {
    let mut event = Event::default();
    let (mut comments, mut others) = (0, 0);
    for (field, value) in fields(bytes) {
        match field {
            b"" => comments += 1,
            b"data" => {
                event.data.get_or_insert(value);
                event.data_lines += 1;
            }
            b"event" => event.name = Some(value),
            _ => {}
        }
        others += usize::from(!field.is_empty());
    }
    event.comment_only = comments > 0 && others == 0;
    event
}

/// The values of the `data` lines of one event, in order.
pub fn data_spans(bytes: &[u8]) -> impl Iterator<Item = Span> {
    let start = bytes.as_ptr() as usize;
    fields(bytes).filter(|(field, _)| *field == b"data").map(move |(_, value)| {
        let at = if value.is_empty() { 0 } else { value.as_ptr() as usize - start };
        Span::new(at, at + value.len())
    })
}

/// Appends the values of all `data` lines of one event to `out`, joined by LF.
pub fn join_data(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, (_, value)) in fields(bytes).filter(|(field, _)| *field == b"data").enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(value);
    }
}

/// Whether the event is the `[DONE]` that ends an OpenAI stream.
pub fn is_done(bytes: &[u8]) -> bool {
    let event = event(bytes);
    event.data_lines == 1 && event.data.is_some_and(|data| data.trim_ascii() == b"[DONE]")
}

/// Field name and value of each line that is not empty; comments have an empty name.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(field(line));
            }
        }
        None
    })
}

/// `name[:[ ]value]`: one blank behind the colon is not part of the value.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        None => (line, b""),
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::noise::Noise;

    #[test]
    fn an_event_ends_with_an_empty_line_of_any_kind() {
        for (bytes, boundary) in [
            (&b""[..], 0),
            (b"data: a", 0),
            (b"data: a\n", 0),
            (b"data: a\r\n", 0),
            (b"data: a\n\n", 9),
            (b"data: a\r\n\r\n", 11),
            (b"data: a\r\rx", 9),
            (b"data: a\n\r\n", 10),
            (b"data: a\r\n\n", 10),
            (b"data: a\n\rx", 9),
            (b"data: a\r\n\rx", 10),
            (b"data: a\n\ndata: b", 9),
            (b"data: a\n\ndata: b\n", 9),
            (b"data: a\n\ndata: b\n\n", 18),
            (b"data: a\nid: 1\n\n: c\n\n", 20),
            (b"\n", 1),
            (b"\n\n\n", 3),
            (b"data: a\n\n\n", 10),
        ] {
            assert_eq!(last_boundary(bytes), boundary, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_trailing_cr_ends_nothing_yet() {
        for (bytes, boundary) in [
            (&b"data: a\r\r"[..], 0),
            (b"data: a\n\r", 0),
            (b"data: a\r\n\r", 0),
            (b"data: a\n\ndata: b\r\n\r", 9),
            (b"data: a\n\n\r", 9),
            (b"\r", 0),
        ] {
            assert_eq!(last_boundary(bytes), boundary, "{}", bytes.escape_ascii());
            assert_eq!(events(bytes).last().map_or(0, |span| span.end), boundary, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn searching_from_either_end_finds_the_same_boundary() {
        let seed = 0x5eed_0004_u64;
        let mut noise = Noise::new(seed);
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..noise.below(24)).map(|_| b"\r\n\n\raa:"[noise.below(7)]).collect();
            let spans: Vec<_> = events(&bytes).collect();
            assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(
                last_boundary(&bytes),
                spans.last().map_or(0, |span| span.end),
                "seed {seed:#x} round {round}: {}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn events_are_the_same_at_every_cut() {
        let stream =
            b"\xef\xbb\xbfdata: {\"a\":1}\r\n\r\n: ping\n\nevent: x\rdata:1\rdata: 2\r\rdata: [DONE]\n\n";
        let whole: Vec<_> = events(stream).map(|span| span.of(stream)).collect();
        for cut in 0..=stream.len() {
            let first = last_boundary(&stream[..cut]);
            let mut parts: Vec<_> = events(&stream[..cut]).map(|span| span.of(stream)).collect();
            parts.extend(events(&stream[first..]).map(|span| span.of(&stream[first..])));
            assert_eq!(parts, whole, "cut at {cut}");
        }
        assert_eq!(whole.len(), 4);
    }

    #[test]
    fn the_lines_of_an_event_are_read() {
        let read = |bytes| {
            let event = event(bytes);
            (event.name, event.data, event.data_lines, event.comment_only)
        };
        assert_eq!(read(b"data: {}\n\n"), (None, Some(&b"{}"[..]), 1, false));
        assert_eq!(read(b"\xef\xbb\xbfdata:{}\r\n\r\n"), (None, Some(&b"{}"[..]), 1, false));
        assert_eq!(read(b"event: a\rdata:  b\r\r"), (Some(&b"a"[..]), Some(&b" b"[..]), 1, false));
        assert_eq!(read(b"data: a\ndata\ndata: c\n\n"), (None, Some(&b"a"[..]), 3, false));
        assert_eq!(read(b": ping\n:\n\n"), (None, None, 0, true));
        assert_eq!(read(b": ping\nid: 1\n\n"), (None, None, 0, false));
        assert_eq!(read(b"retry: 3\n\n"), (None, None, 0, false));
        assert_eq!(read(b"\n"), (None, None, 0, false));
        assert_eq!(read(b"datas: a\n Data: a\n\n"), (None, None, 0, false));
        assert_eq!(read(b""), (None, None, 0, false));
    }

    #[test]
    fn several_data_lines_are_joined() {
        let mut out = b"> ".to_vec();
        join_data(b"data: a\r\nevent: x\r\ndata:\r\ndata: c\r\n\r\n", &mut out);
        assert_eq!(out, b"> a\n\nc");
    }

    #[test]
    fn done_is_a_single_data_line() {
        for bytes in [&b"data: [DONE]\n\n"[..], b"data:[DONE]\r\n\r\n", b": x\ndata: [DONE] \n\n"] {
            assert!(is_done(bytes));
        }
        for bytes in
            [&b"data: \"[DONE]\"\n\n"[..], b": [DONE]\n\n", b"data: [DONE]\ndata: x\n\n", b"data: [done]\n\n"]
        {
            assert!(!is_done(bytes));
        }
    }
}
