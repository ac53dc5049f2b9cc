//! How a stream is cut into records: the forms that streams of model output come in.

use super::{event_stream, fields, ndjson, sse};
use crate::units::Span;

/// The form of a stream. Callers give bytes that begin at a record's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RecordForm {
    /// Server-sent events.
    #[default]
    Sse,
    /// A JSON object per line.
    Ndjson,
    /// Messages of AWS, each with its length and two checksums.
    EventStream,
}

impl RecordForm {
    /// The form that a `Content-Type` names, with or without parameters.
    pub fn of_media_type(value: &[u8]) -> Option<Self> {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let media_type = fields::trim(&value[..end]);
        let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("text/event-stream") => Some(Self::Sse),
            () if is("application/x-ndjson") || is("application/ndjson") => Some(Self::Ndjson),
            () if is("application/vnd.amazon.eventstream") => Some(Self::EventStream),
            () => None,
        }
    }

    /// The `Content-Type` of a stream of this form.
    pub const fn media_type(self) -> &'static [u8] {
        match self {
            Self::Sse => b"text/event-stream; charset=utf-8",
            Self::Ndjson => b"application/x-ndjson",
            Self::EventStream => b"application/vnd.amazon.eventstream",
        }
    }

    /// The offset just behind the last complete record in `bytes`, 0 if none is complete.
    pub fn last_boundary(self, bytes: &[u8]) -> usize {
        match self {
            Self::Sse => sse::last_boundary(bytes),
            Self::Ndjson => ndjson::last_boundary(bytes),
            Self::EventStream => event_stream::last_boundary(bytes),
        }
    }

    /// The offset just behind the record that starts at `from`, or `None` if it is not complete.
    pub fn next_boundary(self, bytes: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::Sse => sse::next_boundary(bytes, from),
            Self::Ndjson => ndjson::next_boundary(bytes, from),
            Self::EventStream => event_stream::next_boundary(bytes, from),
        }
    }

    /// The complete records in `bytes`, in order and without gaps, and at the end of a body what is left as one more: but for
    /// server-sent events, of which one without its blank line is none.
    pub fn records(self, bytes: &[u8], ended: bool) -> impl Iterator<Item = Span> {
        let mut at = 0;
        let ended = ended && self != Self::Sse;
        std::iter::from_fn(move || {
            let end = self.next_boundary(bytes, at).or((ended && at < bytes.len()).then_some(bytes.len()))?;
            let span = Span::new(at, end);
            at = end;
            Some(span)
        })
    }

    /// Whether `bytes`, the end of what a client was sent, end with a whole record.
    pub fn is_ended(self, bytes: &[u8]) -> bool {
        match self {
            Self::Sse => bytes.ends_with(b"\n\n"),
            Self::Ndjson => bytes.ends_with(b"\n"),
            Self::EventStream => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_its_media_type() {
        for form in [RecordForm::Sse, RecordForm::Ndjson, RecordForm::EventStream] {
            assert_eq!(RecordForm::of_media_type(form.media_type()), Some(form));
        }
        assert_eq!(RecordForm::of_media_type(b"Application/NDJSON ;charset=utf-8"), Some(RecordForm::Ndjson));
        for other in [&b""[..], b"application/json", b"text/event-streams", b"text/plain; text/event-stream"]
        {
            assert_eq!(RecordForm::of_media_type(other), None);
        }
    }

    #[test]
    fn records_lie_side_by_side_and_the_end_of_a_body_ends_the_last() {
        let bytes = b"{\"a\":1}\n\n{\"b\"";
        let of =
            |ended| RecordForm::Ndjson.records(bytes, ended).map(|span| span.of(bytes)).collect::<Vec<_>>();
        assert_eq!(of(false), [&b"{\"a\":1}\n"[..], b"\n"]);
        assert_eq!(of(true), [&b"{\"a\":1}\n"[..], b"\n", b"{\"b\""]);
    }
}
