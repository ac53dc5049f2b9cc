//! What can go wrong in an exchange: one closed list, each with its side, its status and whether a retry helps.
//!
//! "Need more bytes" is a state of a parser, never a fault. How a fault is worded for a client is the dialect's
//! business (`dialect::refusal`); this list only says what happened.

mod unreachable;

use std::borrow::Cow;
use std::fmt;

use crate::units::Nanos;
pub use unreachable::Unreachable;

/// One failed exchange or one refused request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// What a person needs to mend it; never a secret, a body, or a backend's address.
    pub note: Cow<'static, str>,
    /// How long the client should wait before it tries again, where that is known.
    pub retry_after: Option<Nanos>,
    /// The status that the client is told, if it is not the one of the kind.
    pub status: Option<u16>,
}

impl Fault {
    /// A fault with the words that name the offending part and the expected form.
    #[cold] // what leads to a fault lies out of the way of what does not
    pub fn new(kind: FaultKind, note: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, note: note.into(), retry_after: None, status: None }
    }

    /// The same fault, told with another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same fault with the time after which a retry may succeed.
    pub fn retry_after(mut self, wait: Nanos) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.code(), self.note)
    }
}

impl std::error::Error for Fault {}

/// Who has to act for the next try to succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The caller sent something we refuse.
    Client,
    /// A backend failed or misbehaved.
    Backend,
    /// We are at a limit of our own, or broken.
    Gateway,
}

/// Whether the gateway itself may send the request again, before any byte of the response has gone out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// A second try cannot help, or could do the work twice.
    Never,
    /// Only if the connection had been kept from an earlier exchange and not one byte of response came (the
    /// backend closed it while we sent).
    IfReused,
    /// The backend said it did not do the work: another backend may.
    Yes,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $side:ident $status:literal $code:literal $retry:ident,)*) => {
        /// What happened. The order groups them by side; the numbers index counters.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum FaultKind { $($(#[$doc])* $name,)* }

        impl FaultKind {
            /// Every kind, in order; counters have one cell for each.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$name,)*];

            /// Who has to act.
            pub const fn side(self) -> Side { match self { $(FaultKind::$name => Side::$side,)* } }

            /// The HTTP status when the head of the response has not gone out yet.
            pub const fn status(self) -> u16 { match self { $(FaultKind::$name => $status,)* } }

            /// The machine-readable code: `error.code` for clients, the `reason` label in metrics.
            pub const fn code(self) -> &'static str { match self { $(FaultKind::$name => $code,)* } }

            /// Whether the gateway may try again by itself.
            pub const fn retry(self) -> Retry { match self { $(FaultKind::$name => Retry::$retry,)* } }
        }
    };
}

kinds! {
    /// The head breaks the grammar of RFC 9112 or is ambiguous.
    HeadMalformed => Client 400 "malformed_request" Never,
    /// The head is larger than the limit, or has too many lines.
    HeadTooLarge => Client 431 "request_header_fields_too_large" Never,
    /// The request target is longer than the limit.
    TargetTooLong => Client 414 "uri_too_long" Never,
    /// Not HTTP/1.0 or HTTP/1.1.
    VersionUnsupported => Client 505 "http_version_not_supported" Never,
    /// A method or transfer coding we do not implement.
    NotImplemented => Client 501 "not_implemented" Never,
    /// A known path with another method.
    MethodNotAllowed => Client 405 "method_not_allowed" Never,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed => Client 417 "expectation_failed" Never,
    /// A content coding we do not read.
    MediaUnsupported => Client 415 "unsupported_media_type" Never,
    /// No such path.
    PathUnknown => Client 404 "unknown_url" Never,
    /// The body breaks the chunked coding, or JSON, or a field has the wrong type.
    BodyMalformed => Client 400 "invalid_body" Never,
    /// A member of the body that this backend cannot be asked for in its API; another backend may have one that can say it.
    MemberUnsupported => Client 400 "unsupported_parameter" Yes,
    /// The body is larger than the limit.
    BodyTooLarge => Client 413 "request_too_large" Never,
    /// No credential, two of them, or one that is not known.
    KeyInvalid => Client 401 "invalid_api_key" Never,
    /// A key that does not hold, from an address that has sent too many of them.
    KeysExceeded => Client 429 "too_many_invalid_keys" Never,
    /// The key was taken out of service while its exchange ran.
    KeyRevoked => Client 401 "api_key_revoked" Never,
    /// The key's time is over.
    KeyExpired => Client 401 "api_key_expired" Never,
    /// The key may not call this endpoint.
    ApiForbidden => Client 403 "endpoint_not_allowed" Never,
    /// The key may not use this model.
    ModelForbidden => Client 403 "model_not_allowed" Never,
    /// A content rule does not allow what the request or the response says.
    ContentRefused => Client 400 "content_policy_violation" Never,
    /// The client wants a kept response (`cache-control: only-if-cached`), and there is none.
    NotCached => Client 504 "not_cached" Never,
    /// A web page asks that is not listed, of a gateway without keys.
    OriginForbidden => Client 403 "origin_not_allowed" Never,
    /// No model of that name.
    ModelUnknown => Client 404 "model_not_found" Never,
    /// No response of that id, as far as can be told here.
    ResponseUnknown => Client 404 "response_not_found" Never,
    /// The key's requests per minute are used up.
    RequestsExceeded => Client 429 "rate_limit_exceeded" Never,
    /// The key's tokens per minute are used up.
    TokensExceeded => Client 429 "rate_limit_exceeded" Never,
    /// A budget of the key or its team is used up.
    BudgetExceeded => Client 429 "insufficient_quota" Never,
    /// What is left of a budget is taken by requests that run.
    BudgetReserved => Client 429 "rate_limit_exceeded" Never,
    /// The request asks for more tokens than the key's whole limit: it can never fit.
    TokensNeverFit => Client 429 "request_exceeds_limit" Never,
    /// The key has as many requests in flight as it may.
    InFlightExceeded => Client 429 "too_many_in_flight" Never,
    /// The head did not arrive in time.
    HeadTimeout => Client 408 "request_head_timeout" Never,
    /// The body did not arrive in time.
    BodyTimeout => Client 408 "request_body_timeout" Never,
    /// The client left before its response was complete.
    ClientGone => Client 499 "client_closed_request" Never,
    /// The client stopped reading its response.
    ClientStalled => Client 499 "client_stalled" Never,

    /// The backend could not be reached.
    ConnectFailed => Backend 502 "backend_unavailable" Yes,
    /// The backend did not accept in time.
    ConnectTimeout => Backend 504 "backend_connect_timeout" Yes,
    /// TLS to the backend failed: its certificate does not verify, or it speaks no TLS.
    TlsFailed => Backend 502 "backend_tls_failed" Yes,
    /// The connection ended before a head came.
    BackendClosed => Backend 502 "backend_closed" IfReused,
    /// What came is not an HTTP answer a strict reader accepts.
    BackendMalformed => Backend 502 "backend_malformed" Never,
    /// No head or no first token in time, or not all of a response that is no stream.
    FirstTokenTimeout => Backend 504 "backend_timeout" Never,
    /// The stream went silent.
    EventTimeout => Backend 504 "backend_idle_timeout" Never,
    /// The whole exchange took too long.
    TotalTimeout => Backend 504 "backend_total_timeout" Never,
    /// The response ended before it was complete.
    BackendCut => Backend 502 "backend_stream_truncated" Never,
    /// The backend is at a limit (429).
    BackendBusy => Backend 429 "backend_rate_limited" Yes,
    /// The backend takes no work for now (503).
    BackendOverloaded => Backend 503 "backend_overloaded" Yes,
    /// The backend says that the request is at fault, without an error that a client could read, or to a client that
    /// has the head of its stream already.
    RequestRejected => Client 400 "request_rejected" Never,
    /// The backend does not serve such a request, which another one may (404, 501).
    BackendRefused => Backend 502 "backend_refused" Yes,
    /// The backend answered 5xx, or with an error inside a 200.
    BackendFailed => Backend 502 "backend_error" Yes,
    /// The prompt does not fit the backend's model.
    ContextExceeded => Client 400 "context_length_exceeded" Never,
    /// The backend refused our own credential.
    BackendDenied => Backend 502 "backend_auth_failed" Yes,

    /// No backend of the pool can take the request.
    NoBackend => Gateway 503 "no_healthy_backend" Never,
    /// No slot of the model's backends came free in time.
    QueueTimeout => Gateway 503 "queue_timeout" Never,
    /// A bound of ours is reached: connections, buffers, in-flight slots.
    Overloaded => Gateway 503 "overloaded" Never,
    /// No descriptor, port or kernel memory is free to connect to the backend with.
    SocketsExhausted => Gateway 503 "out_of_sockets" Yes,
    /// The caller's token cannot be verified: the keys of its issuer could not be read, or are too old.
    IssuerUnavailable => Gateway 503 "issuer_unavailable" Never,
    /// A content rule in another process gave no verdict, and the request may not pass without one.
    GuardFailed => Gateway 503 "guard_unavailable" Never,
    /// We are shutting down.
    Draining => Gateway 503 "draining" Never,
    /// A broken invariant of ours; the exchange failed, nothing else did.
    Internal => Gateway 500 "internal_error" Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kinds_index_their_list() {
        for (index, kind) in FaultKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }

    #[test]
    fn no_kind_answers_409_because_clients_retry_it() {
        assert!(FaultKind::ALL.iter().all(|kind| kind.status() != 409));
    }
}
