//! What is tried, each a function of bytes that panics where a claim does not hold.

mod base64;
mod chunked;
mod config;
mod fields;
mod framing;
mod json;
mod meter;
mod one_shot;
mod peek;
mod request;
mod response;
mod splice;
mod sse;
mod url;
mod usage;

use serde_json::Value;

/// One function under trial.
pub(crate) struct Target {
    /// As the folder of its corpus is called.
    pub(crate) name: &'static str,
    /// The claims.
    pub(crate) run: fn(&[u8]),
    /// Pieces of its format that random bytes would seldom make.
    pub(crate) dictionary: &'static [&'static str],
    /// How much dearer one input is than that of a plain parser.
    pub(crate) weight: u64,
}

/// Every target.
pub(crate) const ALL: &[Target] = &[
    Target { name: "request", run: request::run, dictionary: HEAD, weight: 1 },
    Target { name: "response", run: response::run, dictionary: HEAD, weight: 1 },
    Target { name: "fields", run: fields::run, dictionary: HEAD, weight: 1 },
    Target { name: "framing", run: framing::run, dictionary: FRAMING, weight: 1 },
    Target { name: "url", run: url::run, dictionary: URL, weight: 1 },
    Target { name: "chunked", run: chunked::run, dictionary: CHUNKED, weight: 2 },
    Target { name: "sse", run: sse::run, dictionary: SSE, weight: 2 },
    Target { name: "json", run: json::run, dictionary: JSON, weight: 1 },
    Target { name: "splice", run: splice::run, dictionary: JSON, weight: 1 },
    Target { name: "config", run: config::run, dictionary: CONFIG, weight: 4 },
    Target { name: "peek", run: peek::run, dictionary: PEEK, weight: 1 },
    Target { name: "usage", run: usage::run, dictionary: USAGE, weight: 2 },
    Target { name: "meter", run: meter::run, dictionary: ANSWER, weight: 2 },
    Target { name: "one_shot", run: one_shot::run, dictionary: ANSWER, weight: 2 },
    Target { name: "base64", run: base64::run, dictionary: VECTORS, weight: 1 },
];

/// The value, if the bytes are one to a reader of whole values.
fn value(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

/// Lines that the gateway may pass on hold none of these.
fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Cuts of a text worth trying: all of a short one, some of a long one.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..=length).step_by(length / 256 + 1)
}

#[rustfmt::skip]
const HEAD: &[&str] = &[
    "\r\n", "\r\n\r\n", "\n", "\r", "\0", " ", "\t", ":", ",", "\x7f", "GET ", "POST ", "OPTIONS ", "HEAD ", "*", "/", " HTTP/1.1", " HTTP/1.0",
    "HTTP/1.1 ", "HTTP/1.0 ", "200 OK", "204", "304", "100", "101", "Host: a\r\n", "Connection: ", "close", "keep-alive", "content-type",
    "Content-Type: text/event-stream\r\n", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "Transfer_Encoding: chunked\r\n",
    "Expect: 100-continue\r\n", "Authorization: Bearer x\r\n", "x-api-key: x\r\n", "api-key: x\r\n", "Via: 1.1 a\r\n", "X-Forwarded-For: a\r\n",
    "x-ringway-a: b\r\n", "x_ringway_a: b\r\n", "TE: trailers\r\n", "Upgrade: h2c\r\n", "Keep-Alive: timeout=5\r\n", "Set-Cookie: a=b\r\n",
    "X-Request-Id: a\r\n", "Date: x\r\n", "Retry-After: 1\r\n", "x-ratelimit-a: 1\r\n", "Content-Encoding: gzip\r\n", " folded\r\n", "\u{e9}",
];

#[rustfmt::skip]
const FRAMING: &[&str] = &[
    "\r\n", " ", "\t", ",", ":", ";", "\"", "0", "1", "9", "+", "-", "_", "0x", "18446744073709551615", "18446744073709551616", "chunked", "CHUNKED",
    "gzip", "identity", ", ", "Content-Length: ", "Content-Length: 5\r\n", "content-length:5\r\n", "Content_Length: 5\r\n", "Content-Length : 5\r\n",
    "Transfer-Encoding: ", "Transfer-Encoding: chunked\r\n", "transfer_encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n", "X: y\r\n",
    "Connection: close\r\n", "Connection: content-length\r\n", "\x0b", "\u{a0}", "\0", "\n", "\r",
];

#[rustfmt::skip]
const URL: &[&str] = &[
    "/", "//", "/.", "/..", "/../", "%2e", "%2F", "%5c", "%00", "%C0%AE", "%", "?", "#", "\\", ";", "*", "@", ":", ":80", ":0", ":65536", "[::1]",
    "http://", "https://", "HTTP://", "/v1", "/v1/models/", "/models/", "/chat/completions", "/messages", "?a=b", "&", "%zz", " ", "\t", "a.b",
];

#[rustfmt::skip]
const CHUNKED: &[&str] = &[
    "\r\n", "\r", "\n", "0\r\n", "0\r\n\r\n", "1\r\na\r\n", "A\r\n", "00", "ffffffffffffffff", "0fffffffffffffff", "1000000000000000", ";", "=",
    ";a", ";a=b", ";a=\"b\"", "\\\"", "\"", "X: y\r\n", ":", " ", "\t", "\0", "0x1", "-1", "+1",
];

#[rustfmt::skip]
const SSE: &[&str] = &[
    "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\n\r\n", "data", "data:", "data: ", "event: ", "id: ", "retry: 5", ":", ": ", " ", "\u{feff}",
    "[DONE]", "data: [DONE]\n\n", "data:{}\n\n", "\0",
];

#[rustfmt::skip]
const JSON: &[&str] = &[
    "{", "}", "[", "]", "[[[[[[[[", "\"", ":", ",", "\\", "\\\"", "\\\\", "\\u0065", "\\ud83d\\ude00", "\\ud800", "\\x", "null", "true", "false", "0",
    "-", "-0", "1.5", "1e5", "E+", ".", "01", " ", "\n", "\r", "\t", "\u{1f}", "\0", "\u{e9}", "\u{feff}", "\"usage\":{", "\"usage\"", "\"model\":\"m\"",
    "\"a\":1,", "\"mod\\u0065l\"", "\u{17f}", "\u{212a}",
];

#[rustfmt::skip]
const CONFIG: &[&str] = &[
    "\n", "[", "]", "[[", "\"", "'", "=", ".", ",", "#", "{", "}", "\"\"\"", "true", "-1", "0", "18446744073709551615", "9223372036854775807", "\"0s\"",
    "\"99999h\"", "\"1GiB\"", "\"17179869183GiB\"", "[backend.a]\n", "[model.m]\n", "[key.k]\n", "[listen]\n", "[limits]\n", "[timeouts]\n",
    "[shards]\n", "[health]\n", "url = ", "\"http://a\"", "\"https://[::1]:1/v1\"", "\"unix:/a\"", "backends = [\"a\"]\n", "env:", "file:", "*",
    "\u{e9}", "\u{0}", "\r\n",
];

#[rustfmt::skip]
const PEEK: &[&str] = &[
    "{", "}", "[", "]", "\"", ":", ",", "null", "true", "false", "0", "1", "128", "129", "4294967295", "4294967296", "-1", "1.0", "1e2",
    "\"model\":\"m\",", "\"model\":\"\",", "\"Model\":1,", "\"mod\\u0065l\":\"m\",", "\"\\u017ftream\":true,", "\"\u{17f}tream\":1,", "\"\u{212a}\":1,",
    "\"stream\":true,", "\"stream_options\":{},", "\"stream_options\":null,", "\"include_usage\":true", "\"include_usage\":false,", "\"max_tokens\":5,",
    "\"max_completion_tokens\":6,", "\"max_output_tokens\":7,", "\"n\":2,", "\"best_of\":3,", "\"encoding_format\":\"base64\",", "\\ud800", " ", "\n",
];

#[rustfmt::skip]
const USAGE: &[&str] = &[
    "{", "}", "\"", ":", ",", "null", "0", "5", "-1", "1.5", "1099511627776", "1099511627777", "18446744073709551615", "18446744073709551616",
    "\"usage\":{", "\"usage\":null,", "\"usage\"", "\"prompt_tokens\":5,", "\"completion_tokens\":6,", "\"total_tokens\":11,", "\"input_tokens\":5,",
    "\"output_tokens\":6,", "\"cached_tokens\":3,", "\"cache_read_input_tokens\":3,", "\"cache_creation_input_tokens\":2,",
    "\"prompt_tokens_details\":{\"cached_tokens\":4},", "\"completion_tokens_details\":{\"reasoning_tokens\":4},", "\\\"", "\\", " ", "\n",
];

#[rustfmt::skip]
const ANSWER: &[&str] = &[
    "{", "}", "[", "]", "\"", ":", ",", "null", "0", "1", "\n", "\n\n", "\r\n\r\n", "data: ", "event: error\n", "data: [DONE]\n\n", "[DONE]", "error",
    "\"error\":{}", "\"error\":null,", "\"finish_reason\":\"stop\"", "\"finish_reason\": \"length\"", "\"finish_reason\":\"\"", "\"finish_reason\":null",
    "\"choices\":[]", "\"index\":0,", "\"index\":1,", "\"message\":{\"content\":\"a\"},", "\"text\":\"a\",", "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2},",
    "\"delta\":{\"content\":\"a\"}", "\"tool_calls\":[{\"id\":\"a\"}],", "\"type\":\"message\",", "\"type\":\"message_stop\"", "\"type\":\"text\",", "\"content\":[],",
    "\"stop_reason\":\"end_turn\",", "\"status\":\"completed\",", "\"status\":\"failed\",", "\"output\":[],", "\"sequence_number\":9", "response.completed",
    "\"input_tokens\":1", "\\u2028", "\\\"",
];

#[rustfmt::skip]
const VECTORS: &[&str] = &[
    "{", "}", "[", "]", "\"", ",", ":", "0", "-0", "1.5", "1e-50", "3.5e38", "1e400", "-", ".", "null", "\"data\":[", "\"embedding\":[", "\"embedding\":\"\"",
    "{\"embedding\":[1]},", "\"d\\u0061ta\":[]", " ", "\n",
];
