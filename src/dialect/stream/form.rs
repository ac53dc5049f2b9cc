//! What the event streams of an API look like: what each of its endpoints' rows refers to.

use std::sync::LazyLock;

use super::words::{self, Search};
use crate::wire::records::RecordForm;

/// The form of a stream.
pub struct StreamForm {
    /// How it is cut into records.
    pub(super) records: RecordForm,
    pub(super) end: StreamEnd,
    /// Every record names its event in a line of its own.
    pub(super) is_named: bool,
    /// Its SDKs take records without data for events and raise on them: such records are dropped.
    pub(super) drops_silent: bool,
    /// Events carry a `sequence_number`.
    pub(super) is_numbered: bool,
    /// Usage comes only if it is asked for (`stream_options`).
    pub(super) usage_on_request: bool,
    pub(super) heartbeat: Heartbeat,
    pub(in crate::dialect) error: ErrorRecord,
    /// The words that give away the few events worth reading.
    pub(super) words: LazyLock<Search>,
}

/// How a stream comes to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamEnd {
    /// A finish reason for each choice, then `[DONE]`, which may be missing.
    Choices,
    /// `message_stop`, after a stop reason.
    Message,
    /// `response.completed` or one of its kind.
    Response,
    /// A finish reason, or a blocked prompt; the body ends with it.
    Candidates,
    /// A line with `"done":true`.
    Line,
    /// With its body: nothing else is known.
    Body,
}

/// A record of our own that tells a client only that the gateway is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heartbeat {
    /// A comment, which SDKs skip (the HTML standard's event streams, section 9.2.6).
    Comment,
    /// Anthropic's `ping` (its streaming page: it may come at any time, before `message_start` too).
    Ping,
    /// An event that Responses clients wait for: Codex's idle timer is not reset by comments.
    Keepalive,
    /// There is none that clients can read.
    None,
}

/// The record that ends a stream which failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::dialect) enum ErrorRecord {
    /// OpenAI's error object as data.
    Data,
    /// An event `error` with Anthropic's error object.
    Event,
    /// Google's error object as data.
    Status,
    /// An event `error`, then `response.failed`: some clients read the one, some the other.
    Failed,
    /// A line with Ollama's error object.
    Line,
}

/// Chat and completions.
pub(in crate::dialect) static CHOICES: StreamForm = StreamForm {
    records: RecordForm::Sse,
    end: StreamEnd::Choices,
    is_named: false,
    drops_silent: true,
    is_numbered: false,
    usage_on_request: true,
    heartbeat: Heartbeat::Comment,
    error: ErrorRecord::Data,
    words: LazyLock::new(|| Search::new(words::CHOICES)),
};

/// Responses.
pub(in crate::dialect) static RESPONSE: StreamForm = StreamForm {
    records: RecordForm::Sse,
    end: StreamEnd::Response,
    is_named: true,
    drops_silent: true,
    is_numbered: true,
    usage_on_request: false,
    heartbeat: Heartbeat::Keepalive,
    error: ErrorRecord::Failed,
    words: LazyLock::new(|| Search::new(words::RESPONSE)),
};

/// Messages. Anthropic's SDKs skip records without data.
pub(in crate::dialect) static MESSAGE: StreamForm = StreamForm {
    records: RecordForm::Sse,
    end: StreamEnd::Message,
    is_named: true,
    drops_silent: false,
    is_numbered: false,
    usage_on_request: false,
    heartbeat: Heartbeat::Ping,
    error: ErrorRecord::Event,
    words: LazyLock::new(|| Search::new(words::MESSAGE)),
};

/// Google's. Its SDKs take every line that does not begin with `data: ` for an error.
pub(in crate::dialect) static CANDIDATES: StreamForm = StreamForm {
    records: RecordForm::Sse,
    end: StreamEnd::Candidates,
    is_named: false,
    drops_silent: true,
    is_numbered: false,
    usage_on_request: false,
    heartbeat: Heartbeat::None,
    error: ErrorRecord::Status,
    words: LazyLock::new(|| Search::new(words::CANDIDATES)),
};

/// A stream that came where the API has none.
pub(in crate::dialect) static OTHER: StreamForm = StreamForm {
    records: RecordForm::Sse,
    end: StreamEnd::Body,
    is_named: false,
    drops_silent: false,
    is_numbered: false,
    usage_on_request: false,
    heartbeat: Heartbeat::Comment,
    error: ErrorRecord::Data,
    words: LazyLock::new(|| Search::new(words::CHOICES)),
};

/// Ollama's generating endpoints. A blank line is one that its clients cannot read.
pub(in crate::dialect) static LINES: StreamForm = StreamForm {
    records: RecordForm::Ndjson,
    end: StreamEnd::Line,
    is_named: false,
    drops_silent: true,
    is_numbered: false,
    usage_on_request: false,
    heartbeat: Heartbeat::None,
    error: ErrorRecord::Line,
    words: LazyLock::new(|| Search::new(words::LINES)),
};

/// Bedrock's, which never pass as they are: only their translations are looked into.
pub(in crate::dialect) static MESSAGES_OF_AWS: StreamForm = StreamForm {
    records: RecordForm::EventStream,
    end: StreamEnd::Response,
    is_named: false,
    drops_silent: false,
    is_numbered: false,
    usage_on_request: false,
    heartbeat: Heartbeat::None,
    error: ErrorRecord::Data,
    words: LazyLock::new(|| Search::new(words::RESPONSE)),
};

/// Ollama's other endpoints: whole bodies with counts in them.
pub(in crate::dialect) static COUNTS: StreamForm = StreamForm {
    records: RecordForm::Ndjson,
    end: StreamEnd::Body,
    is_named: false,
    drops_silent: true,
    is_numbered: false,
    usage_on_request: false,
    heartbeat: Heartbeat::None,
    error: ErrorRecord::Line,
    words: LazyLock::new(|| Search::new(words::LINES)),
};

impl StreamForm {
    /// How it is cut into records.
    pub fn records(&self) -> RecordForm {
        self.records
    }

    /// Whether the API has streams.
    pub fn is_known(&self) -> bool {
        self.end != StreamEnd::Body
    }

    /// Whether it ends with `[DONE]`.
    pub fn takes_done(&self) -> bool {
        self.end == StreamEnd::Choices
    }

    /// Whether usage comes only if it is asked for (`stream_options`).
    pub fn usage_on_request(&self) -> bool {
        self.usage_on_request
    }

    /// Whether a record of our own can tell a client that the gateway is there.
    pub fn beats(&self) -> bool {
        self.heartbeat != Heartbeat::None
    }

    /// Whether its heartbeat is a comment, which a client that has seen an `id` takes for an event without data.
    pub fn beats_by_comment(&self) -> bool {
        self.heartbeat == Heartbeat::Comment
    }

    /// Events in `bytes`, whole ones, from their line ends alone: an event is a line and a blank one, with its name on a
    /// line of its own where events are named. Engines send about one token per event, so this is what a stream without
    /// usage is taken to have cost.
    pub fn count(&self, bytes: &[u8]) -> u64 {
        let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
        match (self.records, self.is_named) {
            (RecordForm::Sse, true) => lines / 3,
            (RecordForm::Sse, false) => lines / 2,
            _ => lines,
        }
    }
}
