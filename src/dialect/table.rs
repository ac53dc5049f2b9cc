//! Every endpoint, one row each. What differs between endpoints is a column here; other files do not ask which endpoint it is:
//! `tidy` refuses the name of an endpoint outside of this room and of the list of providers.
//!
//! A new endpoint is a row. A new generating dialect is a row here, a folder, and a row in `translate`.

use super::stream::form::{self, StreamForm};
use super::whole::AsStream;
use super::{Dialect, chat, messages, responses};

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
    /// The caller's own key, its limits and what is used of them: the gateway responds itself.
    ShowKey,
}

/// A member of a request that caps its output. The numbers index what `request::peek` reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::enum_variant_names)] // the members' own names
pub(super) enum CapMember {
    Tokens,
    CompletionTokens,
    OutputTokens,
}

/// A member that `request::peek` reads of some endpoints only. The numbers index its list of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OwnMember {
    EncodingFormat = 8,
    PreviousResponse = 9,
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
    /// One more path under which clients find it.
    pub(super) also: &'static str,
    pub(super) task: Task,
    /// Whose errors it has. The catalogue has OpenAI's unless `anthropic-version` is present.
    pub(super) dialect: Dialect,
    /// The form of its events.
    pub(super) stream: &'static StreamForm,
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

/// The columns of most rows.
const POST: Endpoint = Endpoint {
    name: "",
    method: "POST",
    path: "",
    path_end: "",
    also: "",
    task: Task::Generate,
    dialect: Dialect::OpenAi,
    stream: &form::OTHER,
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

/// What is done with stored responses.
const STORED: Endpoint = Endpoint {
    path: "/v1/responses/",
    task: Task::Stored,
    stream: &form::RESPONSE,
    served_as: Some(Api::Responses),
    ..POST
};

/// Writes the rows as an enum, the list of its members, and a table in the same order.
macro_rules! endpoints {
    ($($(#[doc = $doc:literal])* $(#[cfg($when:meta)])? $api:ident: $endpoint:expr;)*) => {
        /// One endpoint. The numbers index [`ApiSet`] and per-endpoint counters.
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
    /// `POST /v1/echo`
    #[cfg(test)]
    Echo: Endpoint { name: "echo", path: "/v1/echo", stream: &form::CHOICES, caps: &[CapMember::Tokens], ..POST };
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

    /// What it is for.
    pub fn task(self) -> Task {
        self.endpoint().task
    }

    /// The dialect of its errors. The catalogue has OpenAI's unless `anthropic-version` is present.
    pub fn dialect(self) -> Dialect {
        self.endpoint().dialect
    }

    /// Its name as a metric label and in the configuration.
    pub fn name(self) -> &'static str {
        self.endpoint().name
    }

    /// Its path at a backend, up to the id if it has one. Those under `/v1` are under the URL's own `/v1`, if it ends in
    /// one; the others beside it. For the model endpoints, which are never forwarded, the path of the list.
    pub fn path(self) -> &'static str {
        self.endpoint().path
    }

    /// What follows the id in its path.
    pub fn path_end(self) -> &'static str {
        self.endpoint().path_end
    }

    /// The one method it takes.
    pub fn method(self) -> &'static str {
        self.endpoint().method
    }

    /// Whether its path has the id of a response, which says all: it has no body that has to be read.
    pub fn has_id(self) -> bool {
        self.task() == Task::Stored
    }

    /// Whether its body may name an earlier response (`previous_response_id`).
    pub fn refers(self) -> bool {
        self.endpoint().own_member == Some(OwnMember::PreviousResponse)
    }

    /// Whether its responses have ids under which they can be asked for again.
    pub fn makes_ids(self) -> bool {
        Self::ALL.iter().any(|other| other.endpoint().served_as == Some(self))
    }

    /// Whether the gateway responds itself.
    pub fn is_local(self) -> bool {
        matches!(self.task(), Task::ListModels | Task::ShowModel | Task::ShowKey)
    }

    /// The endpoint that a backend has to serve for this one.
    pub fn served_as(self) -> Self {
        self.endpoint().served_as.unwrap_or(self)
    }

    /// The endpoint whose requests it counts the tokens of.
    pub fn counts(self) -> Option<Self> {
        self.endpoint().counts
    }

    /// The form of its events.
    pub fn stream(self) -> &'static StreamForm {
        self.endpoint().stream
    }

    /// Whether a response may be an event stream.
    pub fn streams(self) -> bool {
        self.stream().is_known()
    }

    /// Whether a response may be an event stream that is made for it, not repeated from a stored one.
    pub fn makes_streams(self) -> bool {
        self.streams() && !self.has_id()
    }
}

/// A set of endpoints: what a backend serves, what a key may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiSet(u64);

impl ApiSet {
    /// Every endpoint.
    pub const ALL: Self = Self::of(Api::ALL);

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

    /// What is in this set or in the other.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without one.
    pub const fn without(self, api: Api) -> Self {
        Self(self.0 & !(1 << api as u8))
    }

    /// What is in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it is in.
    pub const fn contains(self, api: Api) -> bool {
        self.0 & 1 << api as u8 != 0
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Api> {
        Api::ALL.iter().copied().filter(move |api| self.contains(*api))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_endpoints_index_their_list() {
        assert_eq!(Api::ALL.len(), ENDPOINTS.len());
        for (index, api) in Api::ALL.iter().enumerate() {
            assert_eq!(*api as usize, index);
            assert!(ApiSet::default().with(*api).contains(*api));
            let others = Api::ALL.iter().filter(|other| other.name() == api.name());
            assert_eq!(others.count(), 1, "{api:?}");
        }
        assert!(Api::ALL.len() <= u64::BITS as usize);
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let set = ApiSet::of(&[Api::Chat, Api::ModelById]).without(Api::Chat).with(Api::Rerank);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Api::Rerank, Api::ModelById]);
    }

    #[test]
    fn what_has_an_id_is_asked_of_those_who_made_it() {
        let stored: Vec<Api> = Api::ALL.iter().copied().filter(|api| api.has_id()).collect();
        assert_eq!(stored.len(), 4);
        assert!(stored.iter().all(|api| api.served_as() == Api::Responses && api.streams()));
        let makers: Vec<Api> = Api::ALL.iter().copied().filter(|api| api.makes_ids()).collect();
        assert_eq!(makers, [Api::Responses]);
    }

    #[test]
    fn only_generating_endpoints_cap_their_output() {
        for api in Api::ALL {
            let makes_text = matches!(api.task(), Task::Generate | Task::Complete | Task::Compact);
            assert_eq!(!api.endpoint().caps.is_empty(), makes_text, "{api:?}");
        }
    }
}
