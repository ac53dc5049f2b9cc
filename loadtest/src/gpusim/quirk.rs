//! Quirks: lawful ways in which one server's answers differ from another's.

use std::str::FromStr;
use std::time::Duration;

/// One habit of a real server, switched on for a whole simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// No `data: [DONE]` at the end of a stream.
    NoDone,
    /// Usage in the chunk with the finish reason, not in one of its own; sent whether asked or not.
    UsageInFinish,
    /// `stream_options` has no effect: no usage unless another quirk sends it.
    IgnoreStreamOptions,
    /// `stream` has no effect: a whole body is the answer.
    IgnoreStream,
    /// `encoding_format` has no effect: vectors are arrays of numbers.
    FloatVectors,
    /// `GET /v1/models` answers 500.
    Models500,
    /// The answer names the model with `@main` appended.
    ModelSuffix,
    /// `Transfer-Encoding` and `Content-Length` next to `content-type`.
    MixedCaseHeaders,
    /// Records end with CR LF.
    CrlfEvents,
    /// `data:{...}` without a space.
    NoSpace,
    /// A comment line before every fourth event.
    KeepaliveComments,
    /// Each event in two writes, cut in its middle.
    SplitWrites,
    /// The head in a write of its own, as soon as the request is taken.
    SeparateHead,
    /// An idle connection is closed after this long.
    CloseIdle(Duration),
}

impl FromStr for Quirk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(seconds) = text.strip_prefix("close-idle:") {
            let seconds: f64 = seconds.parse().map_err(|_| format!("{text:?}: {seconds:?} is no number"))?;
            let time = Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text:?}: {error}"))?;
            return Ok(Self::CloseIdle(time));
        }
        Ok(match text {
            "no-done" => Self::NoDone,
            "usage-in-finish" => Self::UsageInFinish,
            "ignore-stream-options" => Self::IgnoreStreamOptions,
            "ignore-stream" => Self::IgnoreStream,
            "float-vectors" => Self::FloatVectors,
            "models-500" => Self::Models500,
            "model-suffix" => Self::ModelSuffix,
            "mixed-case-headers" => Self::MixedCaseHeaders,
            "crlf-events" => Self::CrlfEvents,
            "no-space" => Self::NoSpace,
            "keepalive-comments" => Self::KeepaliveComments,
            "split-writes" => Self::SplitWrites,
            "separate-head" => Self::SeparateHead,
            _ => return Err(format!("no quirk is called {text:?}; known: {KNOWN}")),
        })
    }
}

/// Every quirk's form, for help and error texts.
pub const KNOWN: &str = "no-done, usage-in-finish, ignore-stream-options, ignore-stream, float-vectors, models-500, model-suffix, \
     mixed-case-headers, crlf-events, no-space, keepalive-comments, split-writes, separate-head, close-idle:SECONDS";

/// The quirks of one simulator.
#[derive(Debug, Clone, Default)]
pub struct Quirks(pub Vec<Quirk>);

impl Quirks {
    /// Whether `quirk` is on.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.0.contains(&quirk)
    }

    /// How long a connection may be idle.
    pub fn idle_max(&self) -> Option<Duration> {
        self.0.iter().find_map(|quirk| match quirk {
            Quirk::CloseIdle(time) => Some(*time),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_parses() {
        for name in KNOWN.split(", ") {
            let name = name.replace("SECONDS", "0.5");
            assert!(name.parse::<Quirk>().is_ok(), "{name}");
        }
        assert!("close-idle:-1".parse::<Quirk>().is_err());
        assert!("no_done".parse::<Quirk>().is_err());
    }
}
