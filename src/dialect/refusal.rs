//! How the gateway says no: status, header lines and body of a refusal, and the error record inside a stream.
//!
//! Clients branch on these words, so each dialect gets its own: OpenAI's `{"error":{..}}` with a `type` out of its
//! list, Anthropic's `{"type":"error",..}` likewise, Ollama's `{"error":".."}`. The `code` is the fault's and the same in metrics.

use super::neutral::{FaultRecord, Text};
use super::stream::form::ErrorRecord;
use super::{Api, Dialect, gemini, number};
use crate::error::{Fault, FaultKind, Side};
use crate::wire::coding;
use crate::wire::json::quote;

/// The status of the response while its head has not gone out.
///
/// As the fault says, except that Anthropic has its own status for overload (529) and for a used-up budget (402).
pub fn status(dialect: Dialect, fault: &Fault) -> u16 {
    match (dialect, fault.kind) {
        (
            Dialect::Anthropic,
            FaultKind::Overloaded
            | FaultKind::Draining
            | FaultKind::NoBackend
            | FaultKind::BackendBusy
            | FaultKind::BackendOverloaded,
        ) => 529,
        (Dialect::Anthropic, FaultKind::BudgetExceeded) => 402,
        (Dialect::Anthropic, _) if fault.status == Some(503) => 529,
        (_, kind) => fault.status.unwrap_or(kind.status()),
    }
}

/// Appends the body, `application/json`. `request_id` is the one of the response's head.
pub fn render(dialect: Dialect, fault: &Fault, request_id: &[u8], out: &mut Vec<u8>) {
    match dialect {
        Dialect::OpenAi => openai(fault, out),
        Dialect::Anthropic => anthropic(fault, request_id, out),
        Dialect::Google => google(fault, request_id, out),
        Dialect::Ollama => ollama(fault, out),
    }
}

/// Appends the header lines that go with a fault, each ending in CRLF. `allow`: the method the path takes
/// (`route::allow`), for a 405.
///
/// `retry-after` is in whole seconds, rounded up, at least one; `retry-after-ms` is exact and what SDKs look at first.
/// `x-should-retry` overrides what SDKs make of the status.
pub fn lines(fault: &Fault, allow: Option<&'static str>, out: &mut Vec<u8>) {
    match fault.kind {
        FaultKind::KeyInvalid | FaultKind::KeyRevoked | FaultKind::KeyExpired => {
            out.extend_from_slice(b"www-authenticate: Bearer\r\n")
        }
        FaultKind::MediaUnsupported => {
            out.extend_from_slice(b"accept-encoding: ");
            out.extend_from_slice(coding::READ.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        FaultKind::MethodNotAllowed => {
            if let Some(method) = allow {
                out.extend_from_slice(b"allow: ");
                out.extend_from_slice(method.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        _ => {}
    }
    if let Some(wait) = fault.retry_after {
        let ms = wait.0.div_ceil(1_000_000);
        out.extend_from_slice(b"retry-after: ");
        number(out, ms.div_ceil(1_000).max(1));
        out.extend_from_slice(b"\r\nretry-after-ms: ");
        number(out, ms);
        out.extend_from_slice(b"\r\n");
    }
    match should_retry(fault.kind) {
        Some(true) => out.extend_from_slice(b"x-should-retry: true\r\n"),
        Some(false) => out.extend_from_slice(b"x-should-retry: false\r\n"),
        None => {}
    }
}

/// Whether the client should try again, where its SDK's reading of the status would be wrong or unsure.
fn should_retry(kind: FaultKind) -> Option<bool> {
    match kind {
        FaultKind::RequestsExceeded
        | FaultKind::TokensExceeded
        | FaultKind::InFlightExceeded
        | FaultKind::BudgetReserved => Some(true),
        // Not before its window ends, which may be a month away.
        FaultKind::BudgetExceeded => Some(false),
        // Will not fit next time either, nor will the key be right.
        FaultKind::TokensNeverFit | FaultKind::KeysExceeded => Some(false),
        // An operator has to act first.
        FaultKind::BackendDenied
        | FaultKind::TlsFailed
        | FaultKind::BackendMalformed
        | FaultKind::BackendRefused => Some(false),
        // The backend may still be at work; a second try costs as much again.
        FaultKind::FirstTokenTimeout | FaultKind::EventTimeout | FaultKind::TotalTimeout => Some(false),
        _ if kind.side() == Side::Client => None,
        _ => Some(true),
    }
}

/// Appends the record that ends a stream which failed after its head, at an event boundary.
///
/// No finish reason, no stop event and no `[DONE]` follow: a cut response must not look finished.
/// `sequence`: the next `sequence_number` of a Responses stream, unused otherwise (`stream::Meter::sequence`).
pub fn in_stream(api: Api, fault: &Fault, request_id: &[u8], sequence: u64, out: &mut Vec<u8>) {
    match api.stream().error {
        ErrorRecord::Failed => responses(fault, sequence, out),
        ErrorRecord::Data => {
            out.extend_from_slice(b"data: ");
            openai(fault, out);
        }
        ErrorRecord::Status => {
            out.extend_from_slice(b"data: ");
            google(fault, request_id, out);
        }
        ErrorRecord::Event => {
            out.extend_from_slice(b"event: error\ndata: ");
            anthropic(fault, request_id, out);
        }
        ErrorRecord::Line => {
            ollama(fault, out);
            return out.push(b'\n');
        }
    }
    out.extend_from_slice(b"\n\n");
}

/// Ollama's clients read the words only; the code is for people.
fn ollama(fault: &Fault, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":");
    quote(out, message(fault));
    out.extend_from_slice(b",\"code\":");
    quote(out, fault.kind.code());
    out.push(b'}');
}

fn openai(fault: &Fault, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"error":{"message":"#);
    quote(out, message(fault));
    out.extend_from_slice(br#","type":"#);
    quote(out, openai_type(fault));
    out.extend_from_slice(br#","param":null,"code":"#);
    quote(out, fault.kind.code());
    out.extend_from_slice(b"}}");
}

fn anthropic(fault: &Fault, request_id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"error","error":{"type":"#);
    quote(out, anthropic_type(fault));
    out.extend_from_slice(br#","message":"#);
    quote(out, message(fault));
    out.extend_from_slice(br#"},"request_id":"#);
    quote(out, &String::from_utf8_lossy(request_id));
    out.push(b'}');
}

/// The fault as a `google.rpc.Status`; its code is the reason in the details.
fn google(fault: &Fault, request_id: &[u8], out: &mut Vec<u8>) {
    let record = FaultRecord {
        message: Text::plain(message(fault)),
        code: Some(Text::plain(fault.kind.code())),
        ..FaultRecord::default()
    };
    let status = status(Dialect::Google, fault);
    gemini::encode::fault(&record, status, &String::from_utf8_lossy(request_id), out);
    // The Gemini CLI waits by this, not by the header line.
    if let Some(wait) = fault.retry_after
        && out.ends_with(b"]}}")
    {
        out.truncate(out.len() - 3);
        out.extend_from_slice(b",{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"");
        number(out, wait.0.div_ceil(1_000_000_000).max(1));
        out.extend_from_slice(b"s\"}]}}");
    }
}

/// Some clients read the flat `error` event, others only `response.failed`: both are sent.
fn responses(fault: &Fault, sequence: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"code\":");
    quote(out, fault.kind.code());
    out.extend_from_slice(br#","message":"#);
    quote(out, message(fault));
    out.extend_from_slice(br#","param":null,"sequence_number":"#);
    number(out, sequence);
    out.extend_from_slice(
        b"}\n\nevent: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":",
    );
    number(out, sequence.saturating_add(1));
    out.extend_from_slice(br#","response":{"object":"response","status":"failed","error":{"code":"#);
    quote(out, fault.kind.code());
    out.extend_from_slice(br#","message":"#);
    quote(out, message(fault));
    out.extend_from_slice(b"}}}");
}

fn message(fault: &Fault) -> &str {
    if fault.note.is_empty() { fault.kind.code() } else { &fault.note }
}

pub(super) fn openai_type(fault: &Fault) -> &'static str {
    match fault.kind {
        FaultKind::RequestsExceeded | FaultKind::InFlightExceeded => "requests",
        FaultKind::TokensExceeded | FaultKind::TokensNeverFit | FaultKind::BudgetReserved => "tokens",
        FaultKind::BudgetExceeded => "insufficient_quota",
        kind if kind.side() == Side::Client || fault.status.is_some_and(|status| status < 500) => {
            "invalid_request_error"
        }
        _ => "server_error",
    }
}

pub(super) fn anthropic_type(fault: &Fault) -> &'static str {
    match status(Dialect::Anthropic, fault) {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        // A refusal of ours that happens to be numbered like a server's.
        501 | 505 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Nanos;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn header_lines(fault: &Fault) -> String {
        text(|out| lines(fault, Some("POST"), out))
    }

    #[test]
    fn each_dialect_gets_its_own_body() {
        let fault = Fault::new(FaultKind::ModelUnknown, "no model \"x\"\n");
        assert_eq!(
            text(|out| render(Dialect::OpenAi, &fault, b"r1", out)),
            concat!(
                r#"{"error":{"message":"no model \"x\"\n","type":"invalid_request_error","#,
                r#""param":null,"code":"model_not_found"}}"#
            )
        );
        assert_eq!(
            text(|out| render(Dialect::Google, &fault, b"r1", out)),
            concat!(
                r#"{"error":{"code":404,"message":"no model \"x\"\n","status":"NOT_FOUND","details":["#,
                r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"model_not_found","domain":"ringway"},"#,
                r#"{"@type":"type.googleapis.com/google.rpc.RequestInfo","requestId":"r1"}]}}"#
            )
        );
        assert_eq!(
            text(|out| render(Dialect::Anthropic, &fault, b"r1", out)),
            concat!(
                r#"{"type":"error","error":{"type":"not_found_error","#,
                r#""message":"no model \"x\"\n"},"request_id":"r1"}"#
            )
        );
    }

    #[test]
    fn googles_clients_read_the_wait_in_the_body() {
        let fault = Fault::new(FaultKind::TokensExceeded, "x").retry_after(Nanos(1_500_000_000));
        let body = text(|out| render(Dialect::Google, &fault, b"r", out));
        let wait = r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}]}}"#;
        assert!(body.ends_with(wait), "{body}");
    }

    #[test]
    fn a_stream_ends_with_a_typed_record_and_without_done() {
        let fault = Fault::new(FaultKind::BackendCut, "");
        assert_eq!(
            text(|out| in_stream(Api::Chat, &fault, b"r", 0, out)),
            concat!(
                r#"data: {"error":{"message":"backend_stream_truncated","type":"server_error","#,
                r#""param":null,"code":"backend_stream_truncated"}}"#,
                "\n\n"
            )
        );
        assert_eq!(
            text(|out| in_stream(Api::Messages, &fault, b"r", 0, out)),
            concat!(
                "event: error\n",
                r#"data: {"type":"error","error":{"type":"api_error","message":"backend_stream_truncated"},"#,
                r#""request_id":"r"}"#,
                "\n\n"
            )
        );
        let responses = text(|out| in_stream(Api::Responses, &fault, b"r", 41, out));
        let events: Vec<_> = responses.split_terminator("\n\n").collect();
        assert!(events[0].starts_with("event: error\ndata: {\"type\":\"error\",\"code\":\"backend_stream"));
        assert!(events[0].ends_with(r#""param":null,"sequence_number":41}"#));
        assert!(events[1].starts_with("event: response.failed\ndata: {\"type\":\"response.failed\""));
        assert!(
            events[1].contains(r#""sequence_number":42,"response":{"object":"response","status":"failed""#)
        );
        assert_eq!(events.len(), 2);
        assert!(!responses.contains("[DONE]"));
    }

    #[test]
    fn waits_are_rounded_up_and_never_zero_seconds() {
        let wait = |ns| Fault::new(FaultKind::TokensExceeded, "x").retry_after(Nanos(ns));
        let cases = [(0, 1, 0), (1, 1, 1), (1_500_000_000, 2, 1_500), (60_000_000_000, 60, 60_000)];
        for (ns, seconds, ms) in cases {
            assert_eq!(
                header_lines(&wait(ns)),
                format!("retry-after: {seconds}\r\nretry-after-ms: {ms}\r\nx-should-retry: true\r\n")
            );
        }
        assert!(header_lines(&wait(u64::MAX)).contains("retry-after: 18446744074\r\n"));
    }

    #[test]
    fn a_refusal_says_whether_another_try_makes_sense() {
        for kind in [
            FaultKind::TokensNeverFit,
            FaultKind::BudgetExceeded,
            FaultKind::BackendDenied,
            FaultKind::TotalTimeout,
        ] {
            assert_eq!(header_lines(&Fault::new(kind, "x")), "x-should-retry: false\r\n");
        }
        for kind in [FaultKind::NoBackend, FaultKind::ConnectFailed, FaultKind::Internal] {
            assert_eq!(header_lines(&Fault::new(kind, "x")), "x-should-retry: true\r\n");
        }
        assert_eq!(header_lines(&Fault::new(FaultKind::BodyMalformed, "x")), "");
        assert_eq!(header_lines(&Fault::new(FaultKind::KeyInvalid, "x")), "www-authenticate: Bearer\r\n");
        assert_eq!(header_lines(&Fault::new(FaultKind::MethodNotAllowed, "x")), "allow: POST\r\n");
        assert_eq!(text(|out| lines(&Fault::new(FaultKind::MethodNotAllowed, "x"), None, out)), "");
    }

    #[test]
    fn words_are_out_of_the_lists_that_clients_branch_on() {
        let openai = ["invalid_request_error", "requests", "tokens", "insufficient_quota", "server_error"];
        let anthropic = [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ];
        for &kind in FaultKind::ALL {
            let fault = Fault::new(kind, "x");
            assert!(openai.contains(&openai_type(&fault)), "{kind:?}");
            let expected = anthropic.iter().find(|(code, _)| *code == status(Dialect::Anthropic, &fault));
            match expected {
                Some((_, word)) => assert_eq!(anthropic_type(&fault), *word, "{kind:?}"),
                None => assert!(["invalid_request_error", "api_error"].contains(&anthropic_type(&fault))),
            }
        }
        assert_eq!(openai_type(&Fault::new(FaultKind::KeyInvalid, "x")), "invalid_request_error");
        let not_found = Fault::new(FaultKind::BackendRefused, "x").with_status(404);
        assert_eq!(
            (openai_type(&not_found), anthropic_type(&not_found)),
            ("invalid_request_error", "not_found_error")
        );
    }
}
