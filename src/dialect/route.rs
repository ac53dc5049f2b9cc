//! Which endpoint is it?

use std::borrow::Cow;

use super::{Api, Dialect, Task};
use crate::error::{Fault, FaultKind};
use crate::units::hex_digit;

/// The endpoint that a method and a path (without its query) name.
///
/// Paths count with and without `/v1` and with one trailing slash, because SDK base URLs come in both forms; and below
/// `/openai`, `/anthropic`, `/gemini` and `/ollama`, where gateways that are dropped in have the endpoints of one dialect. Azure's SDKs
/// name the model in the path (`/openai/deployments/MODEL/chat/completions`): see [`deployment`], and so do
/// Google's, with what is wanted of it behind a colon (`/v1beta/models/MODEL:generateContent`), and with the project in front
/// of it for Vertex AI. Nothing else is tidied up: `//v1/models` is unknown, since a path that two readers split differently must not be routed.
/// HEAD counts as GET where the gateway responds itself.
///
/// # Errors
/// `PathUnknown`; `MethodNotAllowed` for a known path ([`allow`] says what it takes).
pub fn route(method: &[u8], path: &[u8]) -> Result<Api, Fault> {
    let unknown = || {
        Fault::new(FaultKind::PathUnknown, "no such endpoint: see the list of supported paths, all under /v1")
    };
    let takes = |api: &Api| api.method().as_bytes() == method || method == b"HEAD" && api.is_local();
    // Most paths are written as in the table.
    if let Some(api) = Api::ALL.iter().find(|api| is_as_written(**api, path) && takes(api)) {
        return Ok(*api);
    }
    let place = Place::of(path).ok_or_else(unknown)?;
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

/// Whether a path is an endpoint's own, without a part that differs from request to request.
fn is_as_written(api: Api, path: &[u8]) -> bool {
    let endpoint = api.endpoint();
    endpoint.path.as_bytes() == path && endpoint.has_own_path()
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
    /// Endpoints of a model, by what follows its name.
    OfModel(&'a [u8]),
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
            let place =
                if path.rest.starts_with(b":") { Self::OfModel(path.rest) } else { Self::Own(path.rest) };
            return place.endpoints(path.dialect).any(takes_model).then_some(place);
        }
        Some(Self::Own(path.rest))
            .filter(is_known)
            .or_else(|| path.model().map(|_| Self::Model))
            .or_else(|| path.response().map(|(_, end)| Self::Stored(end)).filter(is_known))
    }

    /// `dialect`: only of this one, and what every dialect has.
    fn endpoints(self, dialect: Option<Dialect>) -> impl Iterator<Item = Api> {
        let is_shared = |api: &Api| api.is_local() && api.dialect() != Dialect::Ollama;
        let is_of = move |api: &Api| dialect.is_none_or(|dialect| api.dialect() == dialect || is_shared(api));
        Api::ALL.iter().copied().filter(is_of).filter(move |api| {
            let endpoint = api.endpoint();
            match self {
                _ if endpoint.is_for_backends => false,
                Self::Own(path) => {
                    let own = endpoint.path.strip_prefix("/v1").unwrap_or(endpoint.path);
                    endpoint.has_own_path() && own.as_bytes() == path
                        || !path.is_empty() && endpoint.also.as_bytes() == path
                }
                Self::Stored(end) => endpoint.task == Task::Stored && endpoint.path_end.as_bytes() == end,
                Self::OfModel(end) => {
                    endpoint.has_model_in_path
                        && [endpoint.path_end, endpoint.path_end_stream]
                            .iter()
                            .any(|own| own.as_bytes() == end)
                }
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

/// The model that a path in the older form of Azure OpenAI's names, or one of Google's, percent-decoded.
pub fn deployment(path: &[u8]) -> Option<Cow<'_, str>> {
    decoded(Path::of(path).deployment?)
}

/// Whether a path of an endpoint that has the model in its path asks for a stream.
pub fn asks_stream(api: Api, path: &[u8]) -> bool {
    let end = api.endpoint().path_end_stream;
    !end.is_empty() && Path::of(path).rest == end.as_bytes()
}

/// Whether the query asks for events, where the API has another form of streams too.
pub fn asks_events(api: Api, query: &[u8]) -> bool {
    let asked = api.endpoint().query_stream.as_bytes();
    query.split(|byte| *byte == b'&').any(|parameter| parameter == asked)
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
        let google = dialect.is_none_or(|dialect| dialect == Dialect::Google);
        let (dialect, rest) = match GOOGLES_VERSIONS.iter().find_map(|version| below(rest, version)) {
            Some(rest) if google => (Some(Dialect::Google), rest),
            _ => match below(rest, b"/v1") {
                // Ollama copies OpenAI's endpoints, too, under `/v1`.
                Some(rest) if dialect == Some(Dialect::Ollama) => (Some(Dialect::OpenAi), rest),
                Some(rest) => (dialect, rest),
                None => (dialect, rest),
            },
        };
        match of_model(rest) {
            Some((model, end)) if google => Self { rest: end, dialect, deployment: Some(model) },
            _ => Self { rest, dialect, deployment: None },
        }
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
const PREFIXES: [(&[u8], Dialect); 4] = [
    (b"/openai", Dialect::OpenAi),
    (b"/anthropic", Dialect::Anthropic),
    (b"/gemini", Dialect::Google),
    (b"/ollama", Dialect::Ollama),
];
/// Versions that only Google's API has; its `/v1` is everybody's.
const GOOGLES_VERSIONS: [&[u8]; 3] = [b"/v1beta", b"/v1alpha", b"/v1beta1"];

/// The model, and what is wanted of it with its colon, of a path in Google's form.
fn of_model(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let named = match rest.strip_prefix(b"/projects/") {
        Some(project) => {
            let publisher = memchr::memmem::find(project, b"/publishers/")?;
            let models = memchr::memmem::find(&project[publisher..], b"/models/")?;
            &project[publisher + models + b"/models/".len()..]
        }
        None => rest.strip_prefix(b"/models/")?,
    };
    let (model, end) = named.split_at(memchr::memrchr(b':', named)?);
    let is_known = |api: &&Api| {
        let endpoint = api.endpoint();
        [endpoint.path_end, endpoint.path_end_stream].iter().any(|own| own.as_bytes() == end)
    };
    Api::ALL.iter().find(is_known)?;
    Some((model.strip_prefix(b"models/").unwrap_or(model), end))
}

/// What of a path is below a segment, with its slash.
fn below<'a>(path: &'a [u8], segment: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(segment).filter(|rest| rest.first() == Some(&b'/'))
}

impl Dialect {
    /// The dialect in which to refuse a request whose path may not name an endpoint, and of the catalogue.
    pub fn of_request(path: &[u8], has_anthropic_version: bool) -> Self {
        let path = Path::of(path);
        let guessed = match path.rest {
            rest if rest.starts_with(b"/api/") || rest == b"/ollama" => Dialect::Ollama,
            rest if rest.starts_with(b"/messages") || has_anthropic_version => Dialect::Anthropic,
            rest if rest.starts_with(b":") => Dialect::Google,
            _ => Dialect::OpenAi,
        };
        path.dialect.unwrap_or(guessed)
    }

    /// The same where the credential is in Google's header line, for paths that several APIs have.
    pub fn with_googles_key(self, path: &[u8]) -> Self {
        match (self, Path::of(path).dialect) {
            (Self::OpenAi, None) => Self::Google,
            _ => self,
        }
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
        decoded.push(hex_digit(digits[0])? << 4 | hex_digit(digits[1])?);
        rest = tail;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests;
