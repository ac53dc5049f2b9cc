//! Every endpoint, one row each. What differs between endpoints is a column here; other files do not ask which endpoint it is:
//! `tidy` refuses the name of an endpoint outside of this room and of the list of providers.
//!
//! A new endpoint is a row. A new generating dialect is a row here, a folder, and a row in `translate`.

use super::request::CapMember;
use super::stream::form::{self, StreamForm};
use super::whole::AsStream;
use super::{Dialect, chat, gemini, messages, ollama, responses};

/// What is wanted, in whichever dialect it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// The next turn of a conversation.
    Generate,
    /// The rest of a text.
    Complete,
    /// The same conversation in fewer tokens.
    Compact,
    /// A stored response: read, cancelled or deleted by its id, which stands in the path. The request has no body.
    Stored,
    /// How many tokens a request of another endpoint has.
    CountTokens,
    /// Vectors.
    Embed,
    /// Documents in the order of their relevance.
    Rerank,
    /// How well two texts match.
    Score,
    /// Labels.
    Classify,
    /// Hidden states.
    Pool,
    /// Text into tokens.
    Tokenize,
    /// Tokens into text.
    Detokenize,
    /// The catalogue: the gateway responds itself.
    ListModels,
    /// One model of it: the gateway responds itself.
    ShowModel,
    /// What a model can do, for a client that names it in the body: the gateway responds itself.
    DescribeModel,
    /// The models that are loaded, which are all: the gateway responds itself.
    ListLoaded,
    /// The version of the API: the gateway responds itself.
    ShowVersion,
    /// Whether a server is there: the gateway responds itself.
    Greet,
    /// The caller's own key, its limits and what is used of them: the gateway responds itself.
    ShowKey,
}

/// A member that `request::peek` reads of some endpoints only. The numbers index its list of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OwnMember {
    EncodingFormat = 8,
    PreviousResponse = 9,
    Options = 10,
}

/// What a member of a request may be beside text, where its name alone does not say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MediaMembers {
    /// Only what is named.
    Named,
    /// `result` is an image that was drawn.
    Results,
    /// `image` and entries of some lists are images: models of vectors take them so.
    Loose,
    /// `input` is the arguments of a call, so text.
    Blocks,
}

/// One endpoint.
pub(super) struct Endpoint {
    /// As a metric label and in the configuration.
    pub(super) name: &'static str,
    /// The one method it takes.
    pub(super) method: &'static str,
    /// At a backend, up to the id if it has one. Those under `/v1` are under the URL's own `/v1`, if it ends in one; the
    /// others beside it. Clients find all of them with and without `/v1`.
    pub(super) path: &'static str,
    /// What follows the id.
    pub(super) path_end: &'static str,
    /// What follows the model in the path of a backend that is asked for a stream; empty where the body says that.
    pub(super) path_end_stream: &'static str,
    /// The query with which a backend is asked for events; empty for none.
    pub(super) query_stream: &'static str,
    /// The model stands in the path, in front of its end, not in the body.
    pub(super) has_model_in_path: bool,
    /// No client speaks it: requests to it are made by translation only.
    pub(super) is_for_backends: bool,
    /// One more path under which clients find it.
    pub(super) also: &'static str,
    pub(super) task: Task,
    /// Whose errors it has. The catalogue has OpenAI's unless `anthropic-version` is present.
    pub(super) dialect: Dialect,
    /// The form of its events.
    pub(super) stream: &'static StreamForm,
    /// A request that does not say whether it wants a stream wants one.
    pub(super) streams_by_default: bool,
    /// How a whole response is made a stream.
    pub(super) as_stream: Option<AsStream>,
    /// The endpoint that a backend has to serve for this one, if not this one: the one that makes responses is asked for
    /// them too.
    pub(super) served_as: Option<Api>,
    /// The endpoint whose requests it counts.
    pub(super) counts: Option<Api>,
    /// What bounds its output; nothing where there is no output.
    pub(super) caps: &'static [CapMember],
    pub(super) own_member: Option<OwnMember>,
    /// The members that are its prompt, in the order in which a model reads them: tools, system, messages.
    pub(super) prompt: &'static [&'static str],
    pub(super) media: MediaMembers,
    /// Its responses are JSON objects, or events with one in each.
    pub(super) is_object: bool,
    /// A response that failed is a response: only its first member may say that it is none.
    pub(super) holds_errors: bool,
}

impl Endpoint {
    /// Whether clients name it by `path` as it stands: no id and no model is a part of it.
    pub(super) fn has_own_path(&self) -> bool {
        !matches!(self.task, Task::Stored | Task::ShowModel)
            && !self.has_model_in_path
            && !self.is_for_backends
    }
}

/// The columns of most rows.
const POST: Endpoint = Endpoint {
    name: "",
    method: "POST",
    path: "",
    path_end: "",
    path_end_stream: "",
    query_stream: "",
    has_model_in_path: false,
    is_for_backends: false,
    also: "",
    task: Task::Generate,
    dialect: Dialect::OpenAi,
    stream: &form::OTHER,
    streams_by_default: false,
    as_stream: None,
    served_as: None,
    counts: None,
    caps: &[],
    own_member: None,
    prompt: &[],
    media: MediaMembers::Named,
    is_object: false,
    holds_errors: false,
};

/// The columns of Google's API.
const GOOGLE: Endpoint = Endpoint {
    path: "/v1/models/",
    has_model_in_path: true,
    dialect: Dialect::Google,
    is_object: true,
    ..POST
};

/// What is done with stored responses.
const STORED: Endpoint = Endpoint {
    path: "/v1/responses/",
    task: Task::Stored,
    stream: &form::RESPONSE,
    served_as: Some(Api::Responses),
    ..POST
};

/// The columns of Ollama's own API.
const OLLAMA: Endpoint = Endpoint {
    dialect: Dialect::Ollama,
    stream: &form::COUNTS,
    own_member: Some(OwnMember::Options),
    media: MediaMembers::Loose,
    is_object: true,
    ..POST
};

/// Those of them that generate: a stream is what they give unless another form is asked for.
const OLLAMA_TEXT: Endpoint = Endpoint {
    stream: &form::LINES,
    streams_by_default: true,
    as_stream: Some(ollama::as_stream),
    caps: &[CapMember::Predict],
    ..OLLAMA
};

/// What the gateway itself says of its models and of itself in Ollama's words.
const LOCAL: Endpoint = Endpoint { method: "GET", dialect: Dialect::Ollama, ..POST };

/// Writes the rows as an enum, the list of its members, and a table in the same order.
macro_rules! endpoints {
    ($($(#[doc = $doc:literal])* $(#[cfg($when:meta)])? $api:ident: $endpoint:expr;)*) => {
        /// One endpoint. The numbers index `ApiSet` and per-endpoint counters.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[repr(u8)]
        pub enum Api {
            #[default]
            $($(#[doc = $doc])* $(#[cfg($when)])? $api,)*
        }

        impl Api {
            /// Every endpoint, in the order of the numbers.
            pub const ALL: &'static [Api] = &[$($(#[cfg($when)])? Api::$api,)*];
        }

        static ENDPOINTS: &[Endpoint] = &[$($(#[cfg($when)])? $endpoint,)*];
    };
}

endpoints! {
    /// `POST /v1/chat/completions`
    Chat: Endpoint {
        name: "chat",
        prompt: &["tools", "messages"],
        path: "/v1/chat/completions",
        stream: &form::CHOICES,
        as_stream: Some(chat::as_stream),
        caps: &[CapMember::Tokens, CapMember::CompletionTokens],
        is_object: true,
        ..POST
    };
    /// `POST /v1/completions`
    Completions: Endpoint {
        name: "completions",
        prompt: &["prompt"],
        path: "/v1/completions",
        task: Task::Complete,
        stream: &form::CHOICES,
        as_stream: Some(chat::completions_as_stream),
        caps: &[CapMember::Tokens],
        is_object: true,
        ..POST
    };
    /// `POST /v1/embeddings`
    Embeddings: Endpoint {
        name: "embeddings",
        path: "/v1/embeddings",
        task: Task::Embed,
        own_member: Some(OwnMember::EncodingFormat),
        media: MediaMembers::Loose,
        is_object: true,
        ..POST
    };
    /// `POST /v1/responses`
    Responses: Endpoint {
        name: "responses",
        prompt: &["tools", "instructions", "input"],
        path: "/v1/responses",
        stream: &form::RESPONSE,
        as_stream: Some(responses::as_stream),
        caps: &[CapMember::OutputTokens],
        own_member: Some(OwnMember::PreviousResponse),
        media: MediaMembers::Results,
        is_object: true,
        holds_errors: true,
        ..POST
    };
    /// `POST /v1/responses/compact`
    ResponsesCompact: Endpoint {
        name: "responses_compact",
        path: "/v1/responses/compact",
        task: Task::Compact,
        caps: &[CapMember::OutputTokens],
        own_member: Some(OwnMember::PreviousResponse),
        ..POST
    };
    /// `POST /v1/responses/input_tokens`
    ResponsesInputTokens: Endpoint {
        name: "responses_input_tokens",
        path: "/v1/responses/input_tokens",
        task: Task::CountTokens,
        counts: Some(Api::Responses),
        own_member: Some(OwnMember::PreviousResponse),
        ..POST
    };
    /// `GET /v1/responses/{id}`; see [`super::route::response_id`]
    ResponseById: Endpoint { name: "response", method: "GET", ..STORED };
    /// `DELETE /v1/responses/{id}`
    ResponseDelete: Endpoint { name: "response_delete", method: "DELETE", ..STORED };
    /// `POST /v1/responses/{id}/cancel`
    ResponseCancel: Endpoint { name: "response_cancel", path_end: "/cancel", ..STORED };
    /// `GET /v1/responses/{id}/input_items`
    ResponseInputItems: Endpoint {
        name: "response_input_items",
        method: "GET",
        path_end: "/input_items",
        ..STORED
    };
    /// `POST /v1/rerank`, also `/v2/rerank`
    Rerank: Endpoint {
        name: "rerank",
        path: "/v1/rerank",
        also: "/v2/rerank",
        task: Task::Rerank,
        media: MediaMembers::Loose,
        is_object: true,
        ..POST
    };
    /// `POST /score`
    Score: Endpoint { name: "score", path: "/v1/score", task: Task::Score, ..POST };
    /// `POST /classify`
    Classify: Endpoint { name: "classify", path: "/classify", task: Task::Classify, ..POST };
    /// `POST /pooling`
    Pooling: Endpoint { name: "pooling", path: "/pooling", task: Task::Pool, ..POST };
    /// `POST /tokenize`
    Tokenize: Endpoint { name: "tokenize", path: "/tokenize", task: Task::Tokenize, ..POST };
    /// `POST /detokenize`
    Detokenize: Endpoint { name: "detokenize", path: "/detokenize", task: Task::Detokenize, ..POST };
    /// `POST /v1/messages`
    Messages: Endpoint {
        name: "messages",
        prompt: &["tools", "system", "messages"],
        path: "/v1/messages",
        dialect: Dialect::Anthropic,
        stream: &form::MESSAGE,
        as_stream: Some(messages::as_stream),
        caps: &[CapMember::Tokens],
        media: MediaMembers::Blocks,
        is_object: true,
        ..POST
    };
    /// `POST /v1/messages/count_tokens`
    CountTokens: Endpoint {
        name: "count_tokens",
        path: "/v1/messages/count_tokens",
        task: Task::CountTokens,
        dialect: Dialect::Anthropic,
        counts: Some(Api::Messages),
        media: MediaMembers::Blocks,
        ..POST
    };
    /// `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent`
    GenerateContent: Endpoint {
        name: "generate_content",
        prompt: &["tools", "systemInstruction", "contents"],
        path_end: ":generateContent",
        path_end_stream: ":streamGenerateContent",
        query_stream: "alt=sse",
        stream: &form::CANDIDATES,
        as_stream: Some(gemini::as_stream),
        caps: &[CapMember::OutputTokens],
        ..GOOGLE
    };
    /// `POST /v1beta/models/{model}:countTokens`
    GoogleCountTokens: Endpoint {
        name: "google_count_tokens",
        path_end: ":countTokens",
        task: Task::CountTokens,
        counts: Some(Api::GenerateContent),
        ..GOOGLE
    };
    /// `POST /v1beta/models/{model}:embedContent`
    EmbedContent: Endpoint {
        name: "embed_content",
        path_end: ":embedContent",
        task: Task::Embed,
        ..GOOGLE
    };
    /// `POST /v1beta/models/{model}:batchEmbedContents`
    BatchEmbedContents: Endpoint {
        name: "batch_embed_contents",
        path_end: ":batchEmbedContents",
        task: Task::Embed,
        ..GOOGLE
    };
    /// `POST /v1/echo`
    #[cfg(test)]
    Echo: Endpoint { name: "echo", path: "/v1/echo", stream: &form::CHOICES, caps: &[CapMember::Tokens], ..POST };
    /// `POST /api/chat`, Ollama's
    OllamaChat: Endpoint {
        name: "ollama_chat",
        prompt: &["tools", "messages"],
        path: "/api/chat",
        ..OLLAMA_TEXT
    };
    /// `POST /api/generate`, Ollama's
    OllamaGenerate: Endpoint {
        name: "ollama_generate",
        prompt: &["system", "prompt"],
        path: "/api/generate",
        ..OLLAMA_TEXT
    };
    /// `POST /model/MODEL/converse` and `/converse-stream`, Bedrock's: of backends only
    Converse: Endpoint {
        name: "converse",
        path: "/model/",
        path_end: "/converse",
        path_end_stream: "/converse-stream",
        has_model_in_path: true,
        is_for_backends: true,
        stream: &form::MESSAGES_OF_AWS,
        caps: &[CapMember::OutputTokens],
        is_object: true,
        ..POST
    };
    /// `POST /api/embed`, Ollama's
    OllamaEmbed: Endpoint { name: "ollama_embed", path: "/api/embed", task: Task::Embed, ..OLLAMA };
    /// `POST /api/embeddings`, Ollama's older one
    OllamaEmbeddings: Endpoint { name: "ollama_embeddings", path: "/api/embeddings", task: Task::Embed, ..OLLAMA };
    /// `GET /api/tags`, Ollama's catalogue: the gateway responds itself
    OllamaTags: Endpoint { name: "ollama_tags", path: "/api/tags", task: Task::ListModels, ..LOCAL };
    /// `GET /api/ps`, Ollama's: the gateway responds itself
    OllamaPs: Endpoint { name: "ollama_ps", path: "/api/ps", task: Task::ListLoaded, ..LOCAL };
    /// `POST /api/show`, Ollama's: the gateway responds itself
    OllamaShow: Endpoint { name: "ollama_show", path: "/api/show", task: Task::DescribeModel, method: "POST", ..LOCAL };
    /// `GET /api/version`, Ollama's: the gateway responds itself
    OllamaVersion: Endpoint { name: "ollama_version", path: "/api/version", task: Task::ShowVersion, ..LOCAL };
    /// `GET /ollama`, what Ollama has at its root: the gateway responds itself
    OllamaRoot: Endpoint { name: "ollama_root", path: "/ollama", task: Task::Greet, ..LOCAL };
    /// `GET /v1/models`: the gateway responds itself
    Models: Endpoint {
        name: "models",
        method: "GET",
        path: "/v1/models",
        task: Task::ListModels,
        ..POST
    };
    /// `GET /v1/key`: the gateway responds itself
    Key: Endpoint {
        name: "key",
        method: "GET",
        path: "/v1/key",
        task: Task::ShowKey,
        ..POST
    };
    /// `GET /v1/models/{id}`: the gateway responds itself; see [`super::route::model_id`]
    ModelById: Endpoint {
        name: "model",
        method: "GET",
        path: "/v1/models",
        task: Task::ShowModel,
        ..POST
    };
}

impl Api {
    pub(super) fn endpoint(self) -> &'static Endpoint {
        &ENDPOINTS[self as usize]
    }
}

#[cfg(test)]
mod tests;
