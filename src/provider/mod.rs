//! WHO DO WE CALL, AND HOW?
//!
//! One kind of backend each, one file each: which endpoints it serves, where its health is asked, how our credential
//! is presented, what it rejects. Pure; `config` overrides the switches an operator may know better.

mod anthropic;
mod base;
mod generic;
mod llama_cpp;
mod openai;
mod sglang;
mod tensorrt_llm;
mod vllm;

use crate::dialect::neutral::Target;
use crate::dialect::route::encode_id;
use crate::dialect::translate::Call;
use crate::dialect::{Api, ApiSet};
pub use base::Base;

/// How one backend is called: the defaults of its kind, or what the operator made of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provider {
    /// Which kind.
    pub kind: ProviderKind,
    /// Endpoints it serves; a request for another one is not sent to it.
    pub serves: ApiSet,
    /// Whether it accepts `stream_options` with `include_usage`; one that does not is never sent it.
    pub takes_stream_options: bool,
    /// Whether somebody else runs it and bills by the token, finished or not.
    pub hosted: bool,
    /// Path of its health probe, without the prefix of its URL; `None` if it has none that costs nothing.
    pub health_path: Option<&'static str>,
    /// How our credential is presented.
    pub credential: Credential,
}

/// The kinds of backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProviderKind {
    /// vLLM's server.
    Vllm,
    /// SGLang's server or router.
    Sglang,
    /// `trtllm-serve`.
    TensorRtLlm,
    /// `llama-server` of llama.cpp.
    LlamaCpp,
    /// api.openai.com.
    OpenAi,
    /// api.anthropic.com.
    Anthropic,
    /// Anything else that copies OpenAI's endpoints.
    Generic,
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
}

impl Credential {
    /// The way that uses this header, named in lower case.
    pub fn parse(header: &str) -> Option<Self> {
        match header {
            "authorization" => Some(Credential::Bearer),
            "x-api-key" => Some(Credential::ApiKey),
            "api-key" => Some(Credential::AzureKey),
            _ => None,
        }
    }
}

impl ProviderKind {
    /// Every kind.
    pub const ALL: [ProviderKind; 7] = [
        ProviderKind::Vllm,
        ProviderKind::Sglang,
        ProviderKind::TensorRtLlm,
        ProviderKind::LlamaCpp,
        ProviderKind::OpenAi,
        ProviderKind::Anthropic,
        ProviderKind::Generic,
    ];

    /// The kind an operator names in the configuration.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            ProviderKind::Vllm => "vllm",
            ProviderKind::Sglang => "sglang",
            ProviderKind::TensorRtLlm => "tensorrt-llm",
            ProviderKind::LlamaCpp => "llama.cpp",
            ProviderKind::OpenAi => "openai",
            ProviderKind::Anthropic => "anthropic",
            ProviderKind::Generic => "openai-compatible",
        }
    }
}

impl From<ProviderKind> for Provider {
    fn from(kind: ProviderKind) -> Self {
        Self::new(kind)
    }
}

impl Provider {
    /// The defaults of a kind.
    pub const fn new(kind: ProviderKind) -> Self {
        match kind {
            ProviderKind::Vllm => vllm::PROVIDER,
            ProviderKind::Sglang => sglang::PROVIDER,
            ProviderKind::TensorRtLlm => tensorrt_llm::PROVIDER,
            ProviderKind::LlamaCpp => llama_cpp::PROVIDER,
            ProviderKind::OpenAi => openai::PROVIDER,
            ProviderKind::Anthropic => anthropic::PROVIDER,
            ProviderKind::Generic => generic::PROVIDER,
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

    /// Appends the request target: the endpoint's path with the `id` that belongs into it (empty for none) between what
    /// `base` puts around it, with the client's `query` (without `?`, empty for none).
    pub fn target(&self, api: Api, id: &[u8], base: &Base, query: &[u8], out: &mut Vec<u8>) {
        base.begin(self.path(api), out);
        encode_id(id, out);
        out.extend_from_slice(api.path_end().as_bytes());
        base.end(query, out);
    }

    /// What a translated request to it has to keep to. `model`: its own name for the model, a JSON string with its quotes.
    pub fn target_of<'a>(&self, model: &'a [u8]) -> Target<'a> {
        Target {
            model,
            output_max_default: OUTPUT_MAX_DEFAULT,
            takes_stream_options: self.takes_stream_options,
            output_cap_member: match self.kind {
                ProviderKind::OpenAi => "max_completion_tokens", // its newer models refuse the older name
                _ => "max_tokens",
            },
            takes_extras: !self.hosted,
        }
    }

    /// The endpoint's path at this kind of backend, up to its id if it has one.
    pub fn path(&self, api: Api) -> &'static str {
        match (self.kind, api) {
            // Beside it there is another one with a body of its own.
            (ProviderKind::Sglang, Api::Classify) => "/v1/classify",
            _ => api.path(),
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
        };
        Ok([name, secret, b"\r\n"].concat())
    }

    /// A line to send if the client's request has none of that name: the name in lower case, and the whole line.
    pub const fn line_if_absent(&self) -> Option<(&'static [u8], &'static [u8])> {
        match self.kind {
            ProviderKind::Anthropic => Some(anthropic::VERSION),
            _ => None,
        }
    }
}

/// The bound on output for APIs that want one, where the client names none: what the smallest of Anthropic's models takes.
const OUTPUT_MAX_DEFAULT: u64 = 4096;

/// The endpoints that every copy of OpenAI's server has.
const OPENAI_CORE: ApiSet = ApiSet::of(&[Api::Chat, Api::Completions, Api::Embeddings]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_back() {
        for kind in ProviderKind::ALL {
            assert_eq!(ProviderKind::parse(kind.name()), Some(kind));
            assert_eq!(Provider::new(kind).kind, kind);
        }
        for name in ["", "VLLM", "vllm ", "generic", "llamacpp"] {
            assert_eq!(ProviderKind::parse(name), None, "{name}");
        }
    }

    #[test]
    fn messages_go_only_where_they_are_understood() {
        let speak: Vec<_> =
            ProviderKind::ALL.into_iter().filter(|kind| Provider::new(*kind).speaks(Api::Messages)).collect();
        assert_eq!(speak, [ProviderKind::Vllm, ProviderKind::Anthropic]);
        assert!(!Provider::new(ProviderKind::Anthropic).speaks(Api::Chat));
        let mut provider = Provider::new(ProviderKind::Sglang);
        provider.serves = provider.serves.with(Api::Messages);
        assert!(provider.speaks(Api::Messages));
    }

    #[test]
    fn nobody_is_sent_what_the_gateway_answers_itself() {
        for kind in ProviderKind::ALL {
            let provider = Provider::new(kind);
            assert!(!provider.speaks(Api::Models) && !provider.speaks(Api::ModelById));
            assert_eq!(provider.speaks(Api::ResponseById), provider.speaks(Api::Responses));
        }
    }

    #[test]
    fn a_target_has_its_id_and_is_beside_the_version_where_its_server_has_it() {
        let target = |kind, api, id: &str, base: Base| {
            let mut out = Vec::new();
            Provider::new(kind).target(api, id.as_bytes(), &base, b"", &mut out);
            String::from_utf8(out).unwrap()
        };
        let server = Base::of_server;
        assert_eq!(target(ProviderKind::Vllm, Api::Tokenize, "", server("")), "/tokenize");
        assert_eq!(target(ProviderKind::Vllm, Api::Tokenize, "", server("/v1")), "/tokenize");
        assert_eq!(target(ProviderKind::Vllm, Api::Pooling, "", server("/engine/v1")), "/engine/pooling");
        assert_eq!(target(ProviderKind::Vllm, Api::Score, "", server("/engine/v1")), "/engine/v1/score");
        assert_eq!(target(ProviderKind::Sglang, Api::Classify, "", server("/v1")), "/v1/classify");
        assert_eq!(
            target(ProviderKind::OpenAi, Api::ResponseCancel, "a/b", server("")),
            "/v1/responses/a%2Fb/cancel"
        );
        assert_eq!(target(ProviderKind::OpenAi, Api::ResponseById, "a", server("/x")), "/x/v1/responses/a");
        let api = Base::of_api("/paas/v4", "k=v");
        assert_eq!(
            target(ProviderKind::OpenAi, Api::ResponseInputItems, "a", api),
            "/paas/v4/responses/a/input_items?k=v"
        );
        assert_eq!(target(ProviderKind::Vllm, Api::Tokenize, "", Base::of_api("/v1", "")), "/v1/tokenize");
    }

    #[test]
    fn a_credential_is_presented_the_way_its_owner_reads_it() {
        let line = |kind, secret| Provider::new(kind).credential_line(secret);
        assert_eq!(line(ProviderKind::OpenAi, b"sk-1").unwrap(), b"authorization: Bearer sk-1\r\n");
        assert_eq!(line(ProviderKind::Anthropic, b"sk-1").unwrap(), b"x-api-key: sk-1\r\n");
        for bad in [b"".as_slice(), b"a\r\nx: y", b"a b", b"a\n", "é".as_bytes(), b"\0"] {
            let reason = line(ProviderKind::OpenAi, bad).unwrap_err();
            assert!(bad.is_empty() || !reason.contains(&*String::from_utf8_lossy(bad)));
        }
    }

    #[test]
    fn only_anthropic_needs_a_version_line() {
        let (name, line) = Provider::new(ProviderKind::Anthropic).line_if_absent().unwrap();
        assert!(line.starts_with(name) && line.ends_with(b"\r\n"));
        assert_eq!(Provider::new(ProviderKind::Vllm).line_if_absent(), None);
    }
}
