//! Which endpoint is it?

use std::borrow::Cow;

use super::Dialect;
use crate::error::{Fault, Kind};

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
    /// `POST /v1/rerank`, also `/v2/rerank`
    Rerank,
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
    pub const ALL: [Api; 9] = [
        Api::Chat,
        Api::Completions,
        Api::Embeddings,
        Api::Responses,
        Api::Rerank,
        Api::Messages,
        Api::CountTokens,
        Api::Models,
        Api::ModelById,
    ];

    /// The dialect of its errors. The model lists are OpenAI's unless `anthropic-version` is present.
    pub const fn dialect(self) -> Dialect {
        match self {
            Api::Messages | Api::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Its name as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
            Api::Embeddings => "embeddings",
            Api::Responses => "responses",
            Api::Rerank => "rerank",
            Api::Messages => "messages",
            Api::CountTokens => "count_tokens",
            Api::Models => "models",
            Api::ModelById => "model",
        }
    }

    /// Its path at a backend, under the URL without `/v1`. For the model endpoints, which are never forwarded, the
    /// path of the list.
    pub const fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Embeddings => "/v1/embeddings",
            Api::Responses => "/v1/responses",
            Api::Rerank => "/v1/rerank",
            Api::Messages => "/v1/messages",
            Api::CountTokens => "/v1/messages/count_tokens",
            Api::Models | Api::ModelById => "/v1/models",
        }
    }

    /// The one method it takes: the value of `allow`.
    pub const fn method(self) -> &'static str {
        match self {
            Api::Models | Api::ModelById => "GET",
            _ => "POST",
        }
    }

    /// Whether an answer may be an event stream.
    pub const fn streams(self) -> bool {
        matches!(self, Api::Chat | Api::Completions | Api::Responses | Api::Messages)
    }
}

/// A set of endpoints: what a backend serves, what a key may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiSet(u16);

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
///
/// # Errors
/// `PathUnknown`; `MethodNotAllowed` for a known path ([`allow`] says what it takes).
pub fn route(method: &[u8], path: &[u8]) -> Result<Api, Fault> {
    let api = named(path).ok_or_else(|| {
        Fault::new(Kind::PathUnknown, "no such endpoint: see the list of supported paths, all under /v1")
    })?;
    if method != api.method().as_bytes() {
        return Err(Fault::new(
            Kind::MethodNotAllowed,
            match api.method() {
                "GET" => "this endpoint takes GET",
                _ => "this endpoint takes POST",
            },
        ));
    }
    Ok(api)
}

/// The value of the `allow` line for a known path.
pub fn allow(path: &[u8]) -> Option<&'static str> {
    named(path).map(Api::method)
}

/// The model that a `ModelById` path asks for, percent-decoded: ids may contain `/` and `:`.
pub fn model_id(path: &[u8]) -> Option<Cow<'_, str>> {
    let id = trimmed(path).strip_prefix(b"/models/").filter(|id| !id.is_empty())?;
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

fn named(path: &[u8]) -> Option<Api> {
    if path == b"/v2/rerank" {
        return Some(Api::Rerank);
    }
    Some(match trimmed(path) {
        b"/chat/completions" => Api::Chat,
        b"/completions" => Api::Completions,
        b"/embeddings" => Api::Embeddings,
        b"/responses" => Api::Responses,
        b"/rerank" => Api::Rerank,
        b"/messages" => Api::Messages,
        b"/messages/count_tokens" => Api::CountTokens,
        b"/models" => Api::Models,
        _ if model_id(path).is_some() => Api::ModelById,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &str, path: &str) -> Result<Api, Kind> {
        route(method.as_bytes(), path.as_bytes()).map_err(|fault| fault.kind)
    }

    #[test]
    fn the_numbers_of_the_endpoints_index_their_list() {
        for (index, api) in Api::ALL.into_iter().enumerate() {
            assert_eq!(api as usize, index);
            assert_eq!(kind(api.method(), api.path()).unwrap().path(), api.path());
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
        ];
        for path in cases {
            assert_eq!(kind("POST", path), Err(Kind::PathUnknown), "{path}");
        }
    }

    #[test]
    fn a_known_path_with_another_method_says_what_it_takes() {
        for method in ["GET", "HEAD", "post", "", "DELETE"] {
            assert_eq!(kind(method, "/v1/chat/completions"), Err(Kind::MethodNotAllowed), "{method}");
        }
        assert_eq!(kind("POST", "/v1/models"), Err(Kind::MethodNotAllowed));
        assert_eq!(allow(b"/v1/messages"), Some("POST"));
        assert_eq!(allow(b"/v1/models/x"), Some("GET"));
        assert_eq!(allow(b"/x"), None);
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
