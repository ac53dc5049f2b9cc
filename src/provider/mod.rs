//! WHO DO WE CALL, AND HOW?
//!
//! `list` has every kind of backend, one line each: where it is, what it serves, how our credential is presented, what it
//! rejects. Kinds with habits of their own have a file. Path, query, credential and header lines are functions of the
//! model, the endpoint and the backend. Pure; `config` overrides what an operator may know better.

mod anthropic;
mod azure;
mod base;
mod bedrock;
mod engine_page;
mod gemini;
mod list;
mod ollama;
pub mod sign;

use crate::dialect::neutral::Target;
use crate::dialect::route::encode_id;
use crate::dialect::{Api, ApiSet, Call};
pub use base::Base;
pub use engine_page::{EngineLoad, EnginePage};

/// One kind of backend: how its servers are called unless the operator says otherwise.
#[derive(Debug)]
pub struct ProviderKind {
    /// In the configuration.
    pub name: &'static str,
    /// Another name that configurations may have for it; empty for none.
    pub also: &'static str,
    /// The base of its API, if all customers have the same.
    pub base: Option<&'static str>,
    /// What its base looks like.
    pub example: &'static str,
    /// The base of its API with `REGION` for the region, if all customers in a region have the same.
    base_in_region: Option<&'static str>,
    /// The service in the name of which requests are signed, where the operator has keys for that.
    pub signs_for: Option<&'static str>,
    /// Endpoints it serves.
    pub serves: ApiSet,
    /// Whether it accepts `stream_options` with `include_usage`.
    pub takes_stream_options: bool,
    /// Whether somebody else runs it and bills by the token, finished or not.
    pub hosted: bool,
    /// Path of its health probe, without the prefix of its URL; `None` if it has none that costs nothing.
    pub health_path: Option<&'static str>,
    /// The metrics of an engine; `None` if it serves none that say how busy it is.
    pub metrics: Option<&'static EnginePage>,
    /// How our credential is presented.
    pub credential: Credential,
    /// The member of chat completions that bounds its output.
    output_cap_member: &'static str,
    /// A line to send if the client's request has none of that name: the name in lower case, and the whole line.
    line_if_absent: Option<(&'static [u8], &'static [u8])>,
    /// Endpoints that are not where others have them.
    paths: &'static [(Api, &'static str)],
    /// What the path and the query of its URL put around every endpoint; the flag says that they are an API's base.
    base_of: fn(&str, &str, bool) -> Base,
}

/// How one backend is called: the defaults of its kind, or what the operator made of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Provider {
    /// Which kind.
    pub kind: &'static ProviderKind,
    /// Endpoints it serves; a request for another one is not sent to it.
    pub serves: ApiSet,
    /// Whether it accepts `stream_options` with `include_usage`; one that does not is never sent it.
    pub takes_stream_options: bool,
    /// Whether somebody else runs it and bills by the token, finished or not.
    pub hosted: bool,
    /// How our credential is presented.
    pub credential: Credential,
}

/// The header line that carries a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credential {
    /// `authorization: Bearer`
    Bearer,
    /// `x-api-key`
    ApiKey,
    /// `api-key`, as Azure reads it
    AzureKey,
    /// `x-goog-api-key`
    GoogleKey,
}

impl Credential {
    /// The way that uses this header, named in lower case.
    pub fn parse(header: &str) -> Option<Self> {
        match header {
            "authorization" => Some(Credential::Bearer),
            "x-api-key" => Some(Credential::ApiKey),
            "api-key" => Some(Credential::AzureKey),
            "x-goog-api-key" => Some(Credential::GoogleKey),
            _ => None,
        }
    }
}

impl ProviderKind {
    /// The columns of a server that copies OpenAI's.
    const COPY: Self = Self {
        name: "",
        also: "",
        base: None,
        example: "http://HOST:PORT",
        base_in_region: None,
        signs_for: None,
        serves: ApiSet::of(&[]),
        takes_stream_options: true,
        hosted: false,
        health_path: None,
        metrics: None,
        credential: Credential::Bearer,
        output_cap_member: "max_tokens",
        line_if_absent: None,
        paths: &[],
        base_of: Base::new,
    };

    /// Its name in the configuration.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Every kind.
    pub fn all() -> &'static [Self] {
        list::LIST
    }

    /// The kind an operator names in the configuration.
    pub fn named(name: &str) -> Option<&'static Self> {
        let is_name = |kind: &&Self| kind.name == name || !name.is_empty() && kind.also == name;
        Self::all().iter().find(is_name)
    }

    /// The kind of what only copies OpenAI's endpoints.
    pub fn generic() -> &'static Self {
        &list::LIST[list::LIST.len() - 1]
    }

    /// The base of its API in a region, where it has regions.
    pub fn base_in(&self, region: &str) -> Option<String> {
        self.base_in_region.map(|base| base.replace(bedrock::REGION, region))
    }

    /// Whether it has regions.
    pub fn has_regions(&self) -> bool {
        self.base_in_region.is_some()
    }

    /// What goes around every endpoint's path at a server of this kind. `is_api`: path and query are an API's base.
    pub fn base_of(&self, path: &str, query: &str, is_api: bool) -> Base {
        (self.base_of)(path, query, is_api)
    }
}

impl PartialEq for ProviderKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Provider {
    /// The defaults of a kind.
    pub const fn new(kind: &'static ProviderKind) -> Self {
        Self {
            kind,
            serves: kind.serves,
            takes_stream_options: kind.takes_stream_options,
            hosted: kind.hosted,
            credential: kind.credential,
        }
    }

    /// Whether its responses have ids under which they can be asked for again.
    pub fn makes_ids(&self) -> bool {
        self.serves.iter().any(Api::makes_ids)
    }

    /// Whether requests to this endpoint can be sent to it.
    pub fn speaks(&self, api: Api) -> bool {
        self.serves.contains(api.served_as())
    }

    /// How a client of this API can be served: in the API itself, or by another one that says the same.
    pub fn call(&self, api: Api) -> Option<Call> {
        if self.speaks(api) {
            Some(Call { client: api, backend: api })
        } else {
            Call::translated(api, self.serves)
        }
    }

    /// OpenAI's dialect only: the member that bounds the output of a chat.
    pub fn output_cap_member(&self) -> &'static str {
        self.kind.output_cap_member
    }

    /// Appends the request target: the endpoint's path with the `id` that belongs into it (empty for none) between what
    /// `base` puts around it, with the client's `query` (without `?`, empty for none). `model`: its own name for the model,
    /// which some have in the path.
    pub fn target(&self, place: &Place<'_>, base: &Base, query: &[u8], out: &mut Vec<u8>) {
        let Place { api, model, id, streams } = *place;
        let own = self.kind.paths.iter().find(|(other, _)| *other == api);
        base.begin(api, own.map_or(api.path(), |(_, path)| path), model, out);
        let (segment, end) = match api.path_end_behind_model(streams) {
            Some(end) => (model, end),
            None => (id, api.path_end()),
        };
        encode_id(segment, out);
        out.extend_from_slice(end.as_bytes());
        base.end(query, out);
    }

    /// What a translated request to it has to keep to. `model`: its own name for the model, a JSON string with its quotes.
    pub fn target_of<'a>(&self, model: &'a [u8]) -> Target<'a> {
        Target {
            model,
            output_max_default: OUTPUT_MAX_DEFAULT,
            takes_stream_options: self.takes_stream_options,
            output_cap_member: self.kind.output_cap_member,
            takes_extras: !self.hosted,
        }
    }

    /// The whole header line that presents `secret`, ending in CRLF.
    ///
    /// # Errors
    /// If `secret` is empty or has bytes that a header value cannot carry (RFC 9110 section 5.5; stricter: no spaces
    /// either). The text never contains the secret.
    pub fn credential_line(&self, secret: &[u8]) -> Result<Vec<u8>, &'static str> {
        if secret.is_empty() {
            return Err("the credential is empty");
        }
        if !secret.iter().all(u8::is_ascii_graphic) {
            return Err("the credential contains spaces, line ends or other bytes a header cannot carry");
        }
        let name = match self.credential {
            Credential::Bearer => b"authorization: Bearer ".as_slice(),
            Credential::ApiKey => b"x-api-key: ",
            Credential::AzureKey => b"api-key: ",
            Credential::GoogleKey => b"x-goog-api-key: ",
        };
        Ok([name, secret, b"\r\n"].concat())
    }

    /// A line to send if the client's request has none of that name: the name in lower case, and the whole line.
    pub fn line_if_absent(&self) -> Option<(&'static [u8], &'static [u8])> {
        self.kind.line_if_absent
    }
}

/// What a request is for, as far as its path tells.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The endpoint.
    pub api: Api,
    /// The backend's own name for the model.
    pub model: &'a [u8],
    /// The response that is asked for, empty for none.
    pub id: &'a [u8],
    /// A stream is asked for, which some have in the path.
    pub streams: bool,
}

/// The bound on output for APIs that want one, where the client names none: what the smallest of Anthropic's models takes.
const OUTPUT_MAX_DEFAULT: u64 = 4096;

#[cfg(test)]
mod tests;
