//! Which endpoint is it?

use std::borrow::Cow;

use super::Dialect;
use crate::error::{Fault, FaultKind};

/// One endpoint. The numbers index [`ApiSet`] and per-endpoint counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Api {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/responses/compact`
    ResponsesCompact,
    /// `POST /v1/responses/input_tokens`
    ResponsesInputTokens,
    /// `GET /v1/responses/{id}`; see [`response_id`]
    ResponseById,
    /// `DELETE /v1/responses/{id}`
    ResponseDelete,
    /// `POST /v1/responses/{id}/cancel`
    ResponseCancel,
    /// `GET /v1/responses/{id}/input_items`
    ResponseInputItems,
    /// `POST /v1/rerank`, also `/v2/rerank`
    Rerank,
    /// `POST /score`
    Score,
    /// `POST /classify`
    Classify,
    /// `POST /pooling`
    Pooling,
    /// `POST /tokenize`
    Tokenize,
    /// `POST /detokenize`
    Detokenize,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `GET /v1/models`: answered by the gateway
    Models,
    /// `GET /v1/models/{id}`: answered by the gateway; see [`model_id`]
    ModelById,
}

impl Api {
    /// Every endpoint, in the order of the numbers.
    pub const ALL: [Api; 20] = [
        Api::Chat,
        Api::Completions,
        Api::Embeddings,
        Api::Responses,
        Api::ResponsesCompact,
        Api::ResponsesInputTokens,
        Api::ResponseById,
        Api::ResponseDelete,
        Api::ResponseCancel,
        Api::ResponseInputItems,
        Api::Rerank,
        Api::Score,
        Api::Classify,
        Api::Pooling,
        Api::Tokenize,
        Api::Detokenize,
        Api::Messages,
        Api::CountTokens,
        Api::Models,
        Api::ModelById,
    ];

    /// Its name as a metric label and in the configuration, its one method, and its path at a backend in front of and
    /// behind an id.
    const fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Api::Chat => ("chat", "POST", "/v1/chat/completions", ""),
            Api::Completions => ("completions", "POST", "/v1/completions", ""),
            Api::Embeddings => ("embeddings", "POST", "/v1/embeddings", ""),
            Api::Responses => ("responses", "POST", "/v1/responses", ""),
            Api::ResponsesCompact => ("responses_compact", "POST", "/v1/responses/compact", ""),
            Api::ResponsesInputTokens => ("responses_input_tokens", "POST", "/v1/responses/input_tokens", ""),
            Api::ResponseById => ("response", "GET", "/v1/responses/", ""),
            Api::ResponseDelete => ("response_delete", "DELETE", "/v1/responses/", ""),
            Api::ResponseCancel => ("response_cancel", "POST", "/v1/responses/", "/cancel"),
            Api::ResponseInputItems => ("response_input_items", "GET", "/v1/responses/", "/input_items"),
            Api::Rerank => ("rerank", "POST", "/v1/rerank", ""),
            Api::Score => ("score", "POST", "/v1/score", ""),
            Api::Classify => ("classify", "POST", "/classify", ""),
            Api::Pooling => ("pooling", "POST", "/pooling", ""),
            Api::Tokenize => ("tokenize", "POST", "/tokenize", ""),
            Api::Detokenize => ("detokenize", "POST", "/detokenize", ""),
            Api::Messages => ("messages", "POST", "/v1/messages", ""),
            Api::CountTokens => ("count_tokens", "POST", "/v1/messages/count_tokens", ""),
            Api::Models => ("models", "GET", "/v1/models", ""),
            Api::ModelById => ("model", "GET", "/v1/models", ""),
        }
    }

    /// The dialect of its errors. The model lists are OpenAI's unless `anthropic-version` is present.
    pub const fn dialect(self) -> Dialect {
        match self {
            Api::Messages | Api::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Its name as a metric label.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// Its path at a backend, up to the id if it has one. Those under `/v1` are under the URL's own `/v1`, if it ends in
    /// one; the others beside it. For the model endpoints, which are never forwarded, the path of the list.
    pub const fn path(self) -> &'static str {
        self.row().2
    }

    /// What follows the id in its path.
    pub const fn path_end(self) -> &'static str {
        self.row().3
    }

    /// The one method it takes.
    pub const fn method(self) -> &'static str {
        self.row().1
    }

    /// Whether its path holds the id of a response, which says all: it has no body that has to be read.
    pub const fn has_id(self) -> bool {
        matches!(
            self,
            Api::ResponseById | Api::ResponseDelete | Api::ResponseCancel | Api::ResponseInputItems
        )
    }

    /// Whether the gateway answers itself.
    pub const fn is_local(self) -> bool {
        matches!(self, Api::Models | Api::ModelById)
    }

    /// The endpoint that a backend has to serve for this one: whoever makes responses is asked for them, too.
    pub const fn served_as(self) -> Self {
        if self.has_id() { Api::Responses } else { self }
    }

    /// Whether a response may be an event stream.
    pub const fn streams(self) -> bool {
        matches!(self, Api::Chat | Api::Completions | Api::Responses | Api::ResponseById | Api::Messages)
    }

    /// The endpoint whose events its stream has.
    pub const fn streams_as(self) -> Self {
        if self.has_id() { Api::Responses } else { self }
    }
}

/// A set of endpoints: what a backend serves, what a key may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiSet(u32);

impl ApiSet {
    /// The set of these endpoints.
    pub const fn of(apis: &[Api]) -> Self {
        let (mut set, mut index) = (Self(0), 0);
        while index < apis.len() {
            set = set.with(apis[index]);
            index += 1;
        }
        set
    }

    /// This set and one more.
    pub const fn with(self, api: Api) -> Self {
        Self(self.0 | 1 << api as u8)
    }

    /// This set without one.
    pub const fn without(self, api: Api) -> Self {
        Self(self.0 & !(1 << api as u8))
    }

    /// Whether it is in.
    pub const fn contains(self, api: Api) -> bool {
        self.0 & 1 << api as u8 != 0
    }
}

/// The endpoint that a method and a path (without its query) name.
///
/// Paths count with and without `/v1` and with one trailing slash, because SDK base URLs come in both forms. Nothing
/// else is tidied up: `//v1/models` is unknown, since a path that two readers split differently must not be routed.
/// HEAD counts as GET where the gateway answers itself.
///
/// # Errors
/// `PathUnknown`; `MethodNotAllowed` for a known path ([`allow`] says what it takes).
pub fn route(method: &[u8], path: &[u8]) -> Result<Api, Fault> {
    let apis = named(path).ok_or_else(|| {
        Fault::new(FaultKind::PathUnknown, "no such endpoint: see the list of supported paths, all under /v1")
    })?;
    let takes = |api: &Api| api.method().as_bytes() == method || method == b"HEAD" && api.is_local();
    apis.iter().copied().find(takes).ok_or_else(|| {
        Fault::new(
            FaultKind::MethodNotAllowed,
            match methods(apis) {
                "GET" => "this endpoint takes GET",
                "POST" => "this endpoint takes POST",
                _ => "this endpoint takes GET and DELETE",
            },
        )
    })
}

/// The value of the `allow` line for a known path.
pub fn allow(path: &[u8]) -> Option<&'static str> {
    named(path).map(methods)
}

fn methods(apis: &[Api]) -> &'static str {
    if apis.len() > 1 { "GET, DELETE" } else { apis[0].method() }
}

/// The model that a `ModelById` path asks for, percent-decoded: ids may contain `/` and `:`.
pub fn model_id(path: &[u8]) -> Option<Cow<'_, str>> {
    decoded(trimmed(path).strip_prefix(b"/models/")?)
}

/// The response that the path of one of those endpoints names ([`Api::has_id`]), percent-decoded.
///
/// It becomes a part of the path at a backend: one that could lead elsewhere there is none.
pub fn response_id(path: &[u8]) -> Option<Cow<'_, str>> {
    response(path).map(|(id, _)| id)
}

/// The id in a path below `/responses/`, and what follows it.
fn response(path: &[u8]) -> Option<(Cow<'_, str>, &[u8])> {
    let path = trimmed(path).strip_prefix(b"/responses/")?;
    let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
    let id = decoded(&path[..end])?;
    let leads = |byte: u8| byte == b'/' || byte == b'\\' || byte.is_ascii_control();
    let fits = id.len() <= ID_BYTES_MAX && !id.bytes().any(leads) && id.bytes().any(|byte| byte != b'.');
    fits.then_some((id, &path[end..]))
}

/// Appends an id as a segment of a path: what is not unreserved (RFC 3986 section 2.3) is percent-encoded.
pub fn encode_id(id: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in id {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
        }
    }
}

/// The longest id of a response in bytes. Theirs have about 50, ours twice as many.
const ID_BYTES_MAX: usize = 1024;

fn decoded(id: &[u8]) -> Option<Cow<'_, str>> {
    if id.is_empty() {
        return None;
    }
    if !id.contains(&b'%') {
        return std::str::from_utf8(id).ok().map(Cow::Borrowed);
    }
    let mut decoded = Vec::with_capacity(id.len());
    let mut rest = id;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        decoded.push(hex(digits[0])? << 4 | hex(digits[1])?);
        rest = tail;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// The path without `/v1` and without one trailing slash.
fn trimmed(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.strip_prefix(b"/v1") {
        Some(rest) if rest.first() == Some(&b'/') => rest,
        _ => path,
    }
}

/// The endpoints of a path: one for each method that it takes.
fn named(path: &[u8]) -> Option<&'static [Api]> {
    if path == b"/v2/rerank" {
        return Some(&[Api::Rerank]);
    }
    Some(match trimmed(path) {
        b"/chat/completions" => &[Api::Chat],
        b"/completions" => &[Api::Completions],
        b"/embeddings" => &[Api::Embeddings],
        b"/responses" => &[Api::Responses],
        b"/responses/compact" => &[Api::ResponsesCompact],
        b"/responses/input_tokens" => &[Api::ResponsesInputTokens],
        b"/rerank" => &[Api::Rerank],
        b"/score" => &[Api::Score],
        b"/classify" => &[Api::Classify],
        b"/pooling" => &[Api::Pooling],
        b"/tokenize" => &[Api::Tokenize],
        b"/detokenize" => &[Api::Detokenize],
        b"/messages" => &[Api::Messages],
        b"/messages/count_tokens" => &[Api::CountTokens],
        b"/models" => &[Api::Models],
        _ if model_id(path).is_some() => &[Api::ModelById],
        _ => match response(path)?.1 {
            b"" => &[Api::ResponseById, Api::ResponseDelete],
            b"/cancel" => &[Api::ResponseCancel],
            b"/input_items" => &[Api::ResponseInputItems],
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &str, path: &str) -> Result<Api, FaultKind> {
        route(method.as_bytes(), path.as_bytes()).map_err(|fault| fault.kind)
    }

    #[test]
    fn the_numbers_of_the_endpoints_index_their_list() {
        for (index, api) in Api::ALL.into_iter().enumerate() {
            assert_eq!(api as usize, index);
            let id = if api.has_id() { "resp_1" } else { "" };
            let path = format!("{}{id}{}", api.path(), api.path_end());
            assert_eq!(kind(api.method(), &path).unwrap().path(), api.path());
            assert!(ApiSet::default().with(api).contains(api));
        }
    }

    #[test]
    fn known_paths_count_with_and_without_version_and_trailing_slash() {
        let cases = [
            ("POST", "/v1/chat/completions", Api::Chat),
            ("POST", "/chat/completions", Api::Chat),
            ("POST", "/v1/chat/completions/", Api::Chat),
            ("POST", "/completions", Api::Completions),
            ("POST", "/v1/embeddings", Api::Embeddings),
            ("POST", "/v1/responses", Api::Responses),
            ("POST", "/v1/responses/compact", Api::ResponsesCompact),
            ("POST", "/responses/input_tokens/", Api::ResponsesInputTokens),
            ("GET", "/v1/responses/resp_1", Api::ResponseById),
            ("DELETE", "/responses/resp_1/", Api::ResponseDelete),
            ("POST", "/v1/responses/resp_1/cancel", Api::ResponseCancel),
            ("GET", "/v1/responses/resp_1/input_items/", Api::ResponseInputItems),
            ("POST", "/tokenize", Api::Tokenize),
            ("POST", "/v1/tokenize", Api::Tokenize),
            ("POST", "/v1/detokenize/", Api::Detokenize),
            ("POST", "/pooling", Api::Pooling),
            ("POST", "/v1/classify", Api::Classify),
            ("POST", "/score", Api::Score),
            ("POST", "/v1/score", Api::Score),
            ("POST", "/rerank", Api::Rerank),
            ("POST", "/v1/rerank", Api::Rerank),
            ("POST", "/v2/rerank", Api::Rerank),
            ("POST", "/v1/messages", Api::Messages),
            ("POST", "/v1/messages/count_tokens", Api::CountTokens),
            ("GET", "/v1/models", Api::Models),
            ("GET", "/models/", Api::Models),
            ("GET", "/v1/models/org%2Fname", Api::ModelById),
            ("GET", "/v1/models/org/name:tag", Api::ModelById),
        ];
        for (method, path, api) in cases {
            assert_eq!(kind(method, path), Ok(api), "{path}");
        }
    }

    #[test]
    fn look_alikes_are_unknown() {
        let cases = [
            "",
            "/",
            "*",
            "/v1",
            "/v1/",
            "//v1/models",
            "/v1//models",
            "/v1/chat",
            "/v1/chat/completions//",
            "/V1/chat/completions",
            "/v1/v1/models",
            "/v2/chat/completions",
            "/v1chat/completions",
            "/v1/models/%zz",
            "/v1/models/%2",
            "/v1/models/%ff",
            "/v1/responses/..",
            "/v1/responses/%2e%2E/cancel",
            "/v1/responses/a%2fb",
            "/v1/responses/a%5Cb",
            "/v1/responses/a%0d",
            "/v1/responses//cancel",
            "/v1/responses/a/cancel/b",
            "/v1/responses/a/output",
            "/v2/score",
        ];
        for path in cases {
            assert_eq!(kind("POST", path), Err(FaultKind::PathUnknown), "{path}");
        }
    }

    #[test]
    fn a_known_path_with_another_method_says_what_it_takes() {
        for method in ["GET", "HEAD", "post", "", "DELETE"] {
            assert_eq!(kind(method, "/v1/chat/completions"), Err(FaultKind::MethodNotAllowed), "{method}");
        }
        assert_eq!(kind("POST", "/v1/models"), Err(FaultKind::MethodNotAllowed));
        assert_eq!(allow(b"/v1/messages"), Some("POST"));
        assert_eq!(allow(b"/v1/models/x"), Some("GET"));
        assert_eq!(allow(b"/x"), None);
        assert_eq!(kind("HEAD", "/v1/models/x"), Ok(Api::ModelById));
        for method in ["HEAD", "POST", "PUT"] {
            assert_eq!(kind(method, "/v1/responses/resp_1"), Err(FaultKind::MethodNotAllowed), "{method}");
        }
        assert_eq!(allow(b"/v1/responses/resp_1"), Some("GET, DELETE"));
        assert_eq!(kind("GET", "/v1/responses/compact"), Err(FaultKind::MethodNotAllowed));
        assert_eq!(kind("GET", "/v1/responses/resp_1/cancel"), Err(FaultKind::MethodNotAllowed));
    }

    #[test]
    fn a_model_id_is_the_decoded_tail() {
        let cases: &[(&str, Option<&str>)] = &[
            ("/v1/models/a", Some("a")),
            ("/models/a/", Some("a")),
            ("/v1/models/org/name:latest", Some("org/name:latest")),
            ("/v1/models/org%2fname%3Alatest", Some("org/name:latest")),
            ("/v1/models/%C3%A9", Some("é")),
            ("/v1/models/%25", Some("%")),
            ("/v1/models/", None),
            ("/v1/models", None),
            ("/v1/models/%", None),
            ("/v1/models/%+1", None),
            ("/v1/models/%e9", None),
        ];
        for &(path, id) in cases {
            assert_eq!(model_id(path.as_bytes()).as_deref(), id, "{path}");
        }
    }

    #[test]
    fn the_id_of_a_response_is_one_segment_before_and_behind() {
        let long = format!("/v1/responses/{}", "a".repeat(ID_BYTES_MAX + 1));
        let cases: &[(&str, Option<&str>, &str)] = &[
            ("/v1/responses/resp_1", Some("resp_1"), "resp_1"),
            ("/responses/resp%3A1.-~/cancel", Some("resp:1.-~"), "resp%3A1.-~"),
            ("/responses/a b?c#d%25", Some("a b?c#d%"), "a%20b%3Fc%23d%25"),
            ("/v1/responses/é", Some("é"), "%C3%A9"),
            (&long, None, ""),
            ("/v1/responses/", None, ""),
        ];
        for &(path, id, told) in cases {
            let found = response_id(path.as_bytes());
            assert_eq!(found.as_deref(), id, "{path}");
            let mut out = Vec::new();
            encode_id(found.as_deref().unwrap_or_default().as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), told);
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = ApiSet::of(&[Api::Chat, Api::ModelById]).without(Api::Chat).with(Api::Rerank);
        let held: Vec<_> = Api::ALL.into_iter().filter(|api| set.contains(*api)).collect();
        assert_eq!(held, [Api::Rerank, Api::ModelById]);
    }

    #[test]
    fn an_unknown_path_is_refused_in_the_dialect_it_looks_like() {
        assert_eq!(Dialect::of_request(b"/v1/messages/batches", false), Dialect::Anthropic);
        assert_eq!(Dialect::of_request(b"/messages", false), Dialect::Anthropic);
        assert_eq!(Dialect::of_request(b"/v1/models", true), Dialect::Anthropic);
        assert_eq!(Dialect::of_request(b"/v1/anything", false), Dialect::OpenAi);
    }
}
