//! Server-sent events: the same ones for any split, and what a slow reader of the standard sees in them.

use ringway::wire::sse;

/// The events of a stream that comes in pieces, each kept until it is complete.
fn events(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut found, mut held) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        found.extend(sse::events(&held).map(|span| span.of(&held).to_vec()));
        held.drain(..sse::last_boundary(&held));
    }
    (found, held)
}

pub(crate) fn run(data: &[u8]) {
    let spans: Vec<_> = sse::events(data).collect();
    let mut at = 0;
    for span in &spans {
        assert!(span.start == at && !span.is_empty(), "events lie side by side");
        assert_eq!(sse::next_boundary(data, at), Some(span.end));
        at = span.end;
    }
    assert_eq!(sse::last_boundary(data), at, "the search from the end finds the same end");

    let whole = events(&[data]);
    // A CR that ends a piece may be half of a CRLF, so its event is kept; an LF of it that comes later belongs to it.
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(events(&bytes), whole, "byte by byte");
    for cut in super::cuts(data.len()) {
        let (first, second) = data.split_at(cut);
        assert_eq!(events(&[first, second]), whole, "cut at {cut}");
    }
    for span in spans {
        check(span.of(data));
    }
    check(data);
}

/// One event, or what is to be read as one.
fn check(bytes: &[u8]) {
    let said = sse::event(bytes);
    // The standard's own steps, on text where every byte is one character.
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let text = text.strip_prefix("\u{ef}\u{bb}\u{bf}").unwrap_or(&text);
    let (mut name, mut data, mut comments, mut others) = (None, Vec::new(), 0, 0);
    for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n').filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => comments += 1,
            "event" => name = Some(value),
            "data" => data.push(value),
            _ => {}
        }
        others += usize::from(!field.is_empty());
    }
    let latin = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    assert_eq!(said.name.map(latin), name);
    assert_eq!(said.data.map(latin), data.first().cloned());
    assert_eq!(said.data_lines, data.len());
    assert_eq!(said.comment_only, comments > 0 && others == 0);
    let mut joined = Vec::new();
    sse::join_data(bytes, &mut joined);
    assert_eq!(latin(&joined), data.join("\n"));
    let is_done = data.len() == 1 && data[0].trim_matches([' ', '\t', '\x0c']) == "[DONE]";
    assert_eq!(sse::is_done(bytes), is_done);
}
