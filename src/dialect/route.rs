//! Which endpoint is it?

use std::borrow::Cow;

use super::{Api, Dialect, Task};
use crate::error::{Fault, FaultKind};

/// The endpoint that a method and a path (without its query) name.
///
/// Paths count with and without `/v1` and with one trailing slash, because SDK base URLs come in both forms; and below
/// `/openai` and `/anthropic`, where gateways that are dropped in have the endpoints of one dialect. Azure's SDKs name the
/// model in the path (`/openai/deployments/MODEL/chat/completions`): see [`deployment`]. Nothing else is tidied up: `//v1/models` is unknown, since a path that two readers split differently must not be routed.
/// HEAD counts as GET where the gateway responds itself.
///
/// # Errors
/// `PathUnknown`; `MethodNotAllowed` for a known path ([`allow`] says what it takes).
pub fn route(method: &[u8], path: &[u8]) -> Result<Api, Fault> {
    let unknown = || {
        Fault::new(FaultKind::PathUnknown, "no such endpoint: see the list of supported paths, all under /v1")
    };
    let place = Place::of(path).ok_or_else(unknown)?;
    let takes = |api: &Api| api.method().as_bytes() == method || method == b"HEAD" && api.is_local();
    place.endpoints(Path::of(path).dialect).find(takes).ok_or_else(|| {
        Fault::new(
            FaultKind::MethodNotAllowed,
            match place.methods() {
                "GET" => "this endpoint takes GET",
                "POST" => "this endpoint takes POST",
                _ => "this endpoint takes GET and DELETE",
            },
        )
    })
}

/// The value of the `allow` line for a known path.
pub fn allow(path: &[u8]) -> Option<&'static str> {
    Place::of(path).map(|place| place.methods())
}

/// What a known path names.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Endpoints by their own path; for each method one.
    Own(&'a [u8]),
    /// Endpoints of a stored response, by what follows its id.
    Stored(&'a [u8]),
    /// One model.
    Model,
}

impl<'a> Place<'a> {
    fn of(path: &'a [u8]) -> Option<Self> {
        let path = Path::of(path);
        let is_known = |place: &Self| place.endpoints(path.dialect).next().is_some();
        if let Some(name) = path.deployment {
            decoded(name)?;
            let takes_model = |api: Api| !api.is_local() && !api.has_id();
            let place = Self::Own(path.rest);
            return place.endpoints(path.dialect).any(takes_model).then_some(place);
        }
        Some(Self::Own(path.rest))
            .filter(is_known)
            .or_else(|| path.model().map(|_| Self::Model))
            .or_else(|| path.response().map(|(_, end)| Self::Stored(end)).filter(is_known))
    }

    /// `dialect`: only of this one, and what every dialect has.
    fn endpoints(self, dialect: Option<Dialect>) -> impl Iterator<Item = Api> {
        let is_of = move |api: &Api| dialect.is_none_or(|dialect| api.dialect() == dialect || api.is_local());
        Api::ALL.iter().copied().filter(is_of).filter(move |api| {
            let endpoint = api.endpoint();
            match self {
                Self::Own(path) => {
                    let own = endpoint.path.strip_prefix("/v1").unwrap_or(endpoint.path);
                    let has_own = !matches!(endpoint.task, Task::Stored | Task::ShowModel);
                    has_own && own.as_bytes() == path || !path.is_empty() && endpoint.also.as_bytes() == path
                }
                Self::Stored(end) => endpoint.task == Task::Stored && endpoint.path_end.as_bytes() == end,
                Self::Model => endpoint.task == Task::ShowModel,
            }
        })
    }

    fn methods(self) -> &'static str {
        let mut methods = self.endpoints(None).map(Api::method);
        match (methods.next(), methods.next()) {
            (Some(_), Some(_)) => "GET, DELETE",
            (Some(method), None) => method,
            (None, _) => "",
        }
    }
}

/// The model that a `ModelById` path asks for, percent-decoded: ids may contain `/` and `:`.
pub fn model_id(path: &[u8]) -> Option<Cow<'_, str>> {
    Path::of(path).model()
}

/// The response that the path of one of those endpoints names ([`Api::has_id`]), percent-decoded.
///
/// It becomes a part of the path at a backend: one that could lead elsewhere there is none.
pub fn response_id(path: &[u8]) -> Option<Cow<'_, str>> {
    Path::of(path).response().map(|(id, _)| id)
}

/// The model that a path in the older form of Azure OpenAI's names, percent-decoded.
pub fn deployment(path: &[u8]) -> Option<Cow<'_, str>> {
    decoded(Path::of(path).deployment?)
}

/// The credential in a query, as clients of Google's APIs send it (`?key=`), percent-decoded.
pub fn query_key(query: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut parameters = query.split(|byte| *byte == b'&');
    let key =
        parameters.find_map(|parameter| parameter.strip_prefix(b"key=")).filter(|key| !key.is_empty())?;
    match key.contains(&b'%') {
        false => Some(Cow::Borrowed(key)),
        true => Some(Cow::Owned(decoded(key)?.into_owned().into_bytes())),
    }
}

/// What of a client's query is for a backend: not its credential, and not the version in which it speaks to Azure, which the
/// URL of an Azure backend has on its own.
pub fn forwarded_query<'q>(path: &[u8], query: &'q [u8]) -> Cow<'q, [u8]> {
    let is_version = |parameter: &[u8]| parameter.starts_with(b"api-version=");
    let drops_version = Path::of(path).dialect == Some(Dialect::OpenAi);
    let is_ours = |parameter: &[u8]| parameter.starts_with(b"key=") || drops_version && is_version(parameter);
    let parameters = || query.split(|byte| *byte == b'&');
    if query.is_empty() || !parameters().any(is_ours) {
        return Cow::Borrowed(query);
    }
    let passed: Vec<&[u8]> = parameters().filter(|parameter| !is_ours(parameter)).collect();
    Cow::Owned(passed.join(&b'&'))
}

/// A path without what says only by which base URL the client found it.
#[derive(Clone, Copy)]
struct Path<'a> {
    /// Without a prefix, `/v1` and one trailing slash.
    rest: &'a [u8],
    /// The dialect that its prefix names.
    dialect: Option<Dialect>,
    /// The segment that names a model.
    deployment: Option<&'a [u8]>,
}

impl<'a> Path<'a> {
    fn of(path: &'a [u8]) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let (dialect, rest) = match PREFIXES
            .iter()
            .find_map(|(prefix, dialect)| below(path, prefix).map(|rest| (*dialect, rest)))
        {
            Some((dialect, rest)) => (Some(dialect), rest),
            None => (None, path),
        };
        if dialect == Some(Dialect::OpenAi)
            && let Some(named) = rest.strip_prefix(b"/deployments/")
        {
            let end = memchr::memchr(b'/', named).unwrap_or(named.len());
            return Self { rest: &named[end..], dialect, deployment: Some(&named[..end]) };
        }
        Self { rest: below(rest, b"/v1").unwrap_or(rest), dialect, deployment: None }
    }

    fn model(&self) -> Option<Cow<'a, str>> {
        decoded(self.rest.strip_prefix(b"/models/").filter(|_| self.deployment.is_none())?)
    }

    /// The id in a path below `/responses/`, and what follows it.
    fn response(&self) -> Option<(Cow<'a, str>, &'a [u8])> {
        let path = self.rest.strip_prefix(b"/responses/")?;
        let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
        let id = decoded(&path[..end])?;
        let leads = |byte: u8| byte == b'/' || byte == b'\\' || byte.is_ascii_control();
        let fits = id.len() <= ID_BYTES_MAX && !id.bytes().any(leads) && id.bytes().any(|byte| byte != b'.');
        fits.then_some((id, &path[end..]))
    }
}

/// Where gateways that are dropped in have the endpoints of one dialect.
const PREFIXES: [(&[u8], Dialect); 2] = [(b"/openai", Dialect::OpenAi), (b"/anthropic", Dialect::Anthropic)];

/// What of a path is below a segment, with its slash.
fn below<'a>(path: &'a [u8], segment: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(segment).filter(|rest| rest.first() == Some(&b'/'))
}

impl Dialect {
    /// The dialect in which to refuse a request whose path may not name an endpoint, and of the catalogue.
    pub fn of_request(path: &[u8], has_anthropic_version: bool) -> Self {
        let path = Path::of(path);
        let guessed = match path.rest.starts_with(b"/messages") || has_anthropic_version {
            true => Dialect::Anthropic,
            false => Dialect::OpenAi,
        };
        path.dialect.unwrap_or(guessed)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &str, path: &str) -> Result<Api, FaultKind> {
        route(method.as_bytes(), path.as_bytes()).map_err(|fault| fault.kind)
    }

    #[test]
    fn every_endpoint_is_found_by_its_own_path() {
        for api in Api::ALL {
            let id = if api.has_id() { "resp_1" } else { "" };
            let path = format!("{}{id}{}", api.path(), api.path_end());
            assert_eq!(kind(api.method(), &path).unwrap().path(), api.path());
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
    fn a_prefix_has_the_endpoints_of_its_dialect_with_and_without_a_version() {
        for (method, path, api) in [
            ("POST", "/openai/v1/chat/completions", Ok(Api::Chat)),
            ("POST", "/openai/chat/completions/", Ok(Api::Chat)),
            ("GET", "/openai/v1/models", Ok(Api::Models)),
            ("GET", "/openai/responses/resp_1", Ok(Api::ResponseById)),
            ("POST", "/openai/v1/messages", Err(FaultKind::PathUnknown)),
            ("POST", "/anthropic/v1/messages", Ok(Api::Messages)),
            ("POST", "/anthropic/messages/count_tokens", Ok(Api::CountTokens)),
            ("GET", "/anthropic/v1/models/a", Ok(Api::ModelById)),
            ("POST", "/anthropic/v1/chat/completions", Err(FaultKind::PathUnknown)),
            ("GET", "/anthropic/v1/responses/resp_1", Err(FaultKind::PathUnknown)),
            ("POST", "/openai/openai/v1/chat/completions", Err(FaultKind::PathUnknown)),
            ("POST", "/v1/openai/chat/completions", Err(FaultKind::PathUnknown)),
            ("POST", "/openai", Err(FaultKind::PathUnknown)),
            ("POST", "/openaix/chat/completions", Err(FaultKind::PathUnknown)),
        ] {
            assert_eq!(kind(method, path), api, "{path}");
        }
        assert_eq!(model_id(b"/openai/v1/models/org/name").as_deref(), Some("org/name"));
        assert_eq!(allow(b"/anthropic/v1/messages"), Some("POST"));
        for (path, dialect) in [("/anthropic/x", Dialect::Anthropic), ("/openai/v1/models", Dialect::OpenAi)]
        {
            assert_eq!(Dialect::of_request(path.as_bytes(), false), dialect, "{path}");
        }
    }

    #[test]
    fn azures_sdk_names_the_model_in_the_path() {
        for (path, api, model) in [
            ("/openai/deployments/gpt-4o/chat/completions", Ok(Api::Chat), Some("gpt-4o")),
            ("/openai/deployments/org%2Fm/embeddings/", Ok(Api::Embeddings), Some("org/m")),
            ("/openai/deployments/m/completions", Ok(Api::Completions), Some("m")),
            ("/openai/responses", Ok(Api::Responses), None),
            ("/openai/deployments/m", Err(FaultKind::PathUnknown), Some("m")),
            ("/openai/deployments//chat/completions", Err(FaultKind::PathUnknown), None),
            ("/openai/deployments/m/v1/chat/completions", Err(FaultKind::PathUnknown), Some("m")),
            ("/openai/deployments/m/models", Err(FaultKind::PathUnknown), Some("m")),
            ("/openai/deployments/m/responses/r", Err(FaultKind::PathUnknown), Some("m")),
            ("/openai/v1/deployments/m/chat/completions", Err(FaultKind::PathUnknown), None),
            ("/anthropic/deployments/m/messages", Err(FaultKind::PathUnknown), None),
        ] {
            assert_eq!(kind("POST", path), api, "{path}");
            assert_eq!(deployment(path.as_bytes()).as_deref(), model, "{path}");
        }
    }

    #[test]
    fn a_credential_in_the_query_is_found_and_goes_no_further() {
        for (path, query, key, passed) in [
            ("/v1/chat/completions", "", None, ""),
            ("/v1/chat/completions", "beta=true", None, "beta=true"),
            ("/v1/chat/completions", "a=1&key=sk-1&b=2", Some("sk-1"), "a=1&b=2"),
            ("/v1/chat/completions", "key=sk%2D1", Some("sk-1"), ""),
            ("/v1/chat/completions", "key=&monkey=1", None, "monkey=1"),
            ("/v1/chat/completions", "api-version=1&key=k", Some("k"), "api-version=1"),
            ("/openai/deployments/m/chat/completions", "api-version=2024-10-21", None, ""),
            ("/openai/responses", "x=1&api-version=2024-10-21", None, "x=1"),
        ] {
            let found = query_key(query.as_bytes());
            assert_eq!(found.as_deref(), key.map(str::as_bytes), "{query}");
            let forwarded = forwarded_query(path.as_bytes(), query.as_bytes());
            assert_eq!(String::from_utf8_lossy(&forwarded), passed, "{path} {query}");
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
    fn an_unknown_path_is_refused_in_the_dialect_it_looks_like() {
        assert_eq!(Dialect::of_request(b"/v1/messages/batches", false), Dialect::Anthropic);
        assert_eq!(Dialect::of_request(b"/messages", false), Dialect::Anthropic);
        assert_eq!(Dialect::of_request(b"/v1/models", true), Dialect::Anthropic);
        assert_eq!(Dialect::of_request(b"/v1/anything", false), Dialect::OpenAi);
    }
}
