//! The state of one exchange: what is known about a request and its response, and what they hold.
//!
//! The phases, `dispatch` and `relay` fill it in as they learn; each decides by it. The log record is written from it
//! once, by `settle`.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use super::caching::lead::Caching;
use super::frame::Framing;
use super::naming::Naming;
use super::state::Shard;
use crate::clock;
use crate::dialect::usage::{BodyMeter, Usage};
use crate::dialect::{self, Api, Dialect};
use crate::observe::Counter;
use crate::observe::record::RequestId;
use crate::plan::Home;
use crate::plan::admission::{Held, Left};
use crate::policy::auth::origin::PageGrant;
use crate::policy::guard::evidence::Marks;
use crate::policy::guard::rules::Labels;
use crate::units::{BackendId, KeyId, ModelId, Nanos};
use crate::wire::fields;
use crate::wire::framing;
use crate::wire::head::{Method, RequestHead, Version};

/// One request and its response.
pub(crate) struct Exchange {
    pub(crate) shard: Rc<Shard>,
    /// When the head was complete.
    pub(crate) started: Nanos,
    /// The same in Unix milliseconds, as of the shard's last tick.
    pub(super) started_unix_ms: u64,
    pub(crate) request_id: RequestId,
    /// The API called; `None` for a head that could not be read or routed.
    pub(super) api: Option<Api>,
    /// The name of the API in logs and metrics.
    pub(super) api_name: &'static str,
    /// What the head says about the response.
    pub(super) terms: ClientTerms,
    /// The request has been read to its end: the connection can be used again.
    pub(super) is_request_read: bool,

    /// Who called: the peer, or the client that a trusted proxy names.
    pub(super) client: Option<IpAddr>,
    /// What the web page that calls may do.
    pub(super) page: PageGrant,
    pub(crate) key: Option<KeyId>,
    /// What was left of the tightest limits at admission, for `x-ratelimit-*`.
    pub(super) requests_left: Option<Left>,
    pub(super) tokens_left: Option<Left>,
    /// Whom the client names as its end user, if its key may.
    pub(super) user: Option<Box<str>>,
    /// What the client is told of soft limits that were reached.
    pub(super) warning: Option<Box<str>>,
    /// How long it waits before it is sent, as a soft limit asks for.
    pub(super) throttle: Nanos,
    /// What was taken from the limits of the key and its team.
    pub(super) held: Held,

    /// The model that is called: the one asked for, or a fallback of it.
    pub(crate) model: Option<ModelId>,
    /// The model that was asked for, if `model` is its fallback.
    pub(super) fallback_for: Option<ModelId>,
    /// How the client named its model, where that is more than a name in the body.
    pub(super) naming: Option<Box<Naming>>,
    /// The client asked for a stream.
    pub(super) wants_stream: bool,
    /// Prompt tokens by estimate.
    pub(super) prompt_tokens: u64,
    /// Response ids are replaced by ids that lead back to their backend.
    pub(super) renames_ids: bool,

    /// The deadline of the whole exchange.
    pub(super) total: Nanos,
    /// The backend of the last attempt.
    pub(super) backend: Option<BackendId>,
    pub(super) attempts: u8,
    /// The client asked how its backend is chosen, and may know.
    pub(super) wants_trace: bool,
    /// How the backend of the last attempt was chosen, for a client that asked.
    pub(super) trace: Option<Box<str>>,
    /// Tokens of the prompt that the backend was expected to have in its cache, and all of them, if it was chosen by that.
    pub(super) expected_match: Option<ExpectedMatch>,
    /// Members of the request that the backend of the last attempt was not sent, because its dialect cannot say them.
    pub(super) dropped: Option<Box<str>>,
    /// Time spent waiting for a backend's slot or before a retry: not part of our overhead.
    pub(super) waited: Nanos,
    pub(super) overhead: Nanos,
    pub(super) time_to_first_token: Option<Nanos>,
    /// The head that the client was sent before a backend responded.
    pub(super) sent_head: Option<SentHead>,
    /// The response is a stream that is being relayed.
    pub(super) is_streaming: bool,
    /// What content rules have found; absent where none search.
    pub(super) marks: Option<Rc<RefCell<Marks>>>,
    /// Labels in the request that the response may be told by what they stand for.
    pub(super) labels: Option<Box<Labels>>,
    /// How the response cache takes part.
    pub(super) caching: Option<Box<Caching>>,

    /// Tokens by the backend's count.
    pub(super) usage: Usage,
    /// Output tokens counted on the way, for when the backend's count never comes.
    pub(super) output_estimate: u64,
    /// A backend has responded to a request whose tokens are limited: without a count of its own the estimate is charged.
    pub(super) is_charged: bool,
    /// Where it runs.
    pub(super) home: Home,
    /// Bytes of the request, and of the response up to the write that is under way.
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) is_settled: bool,
}

/// What a backend was expected to have of a prompt in its cache, in tokens by estimate.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedMatch {
    pub(super) matched: u64,
    pub(super) prompt: u64,
}

/// What the head of a request says about its response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientTerms {
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    /// `HEAD`: no body in the response.
    pub(super) head_only: bool,
    /// The dialect of refusals.
    pub(super) dialect: Dialect,
    /// The method that the path takes, for a client that used another.
    pub(super) allow: Option<&'static str>,
}

/// A response head that was sent before that of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentHead {
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    /// Bytes sent, with the heartbeats that followed.
    pub(super) bytes: u64,
}

/// What happens to the client's connection after a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterResponse {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed: the client has its response, and everything it sent has been read.
    Finish,
    /// It is closed without a proper end: the client has gone, or must see that its response is cut.
    Close,
    /// It is closed once the client, which may still be sending, has had time to read its response.
    Linger,
}

impl Exchange {
    /// Opens the exchange of a request, whose head lies at the front of `bytes`. `api`: what it was routed to.
    pub(super) fn open(
        shard: &Rc<Shard>,
        peer: IpAddr,
        api: Option<Api>,
        head: &RequestHead,
        bytes: &[u8],
    ) -> Self {
        let mut exchange = Self::unread(shard, peer);
        exchange.api = api;
        exchange.api_name = api.map_or("unknown", Api::name);
        exchange.terms = ClientTerms::new(head, bytes, api);
        exchange.request_bytes = head.len as u64;
        exchange.is_request_read =
            matches!(head.framing, framing::Request::None | framing::Request::Length(0));
        if let Some(id) = head.request_id.and_then(|id| RequestId::given(id.of(bytes))) {
            exchange.request_id = id;
        }
        exchange
    }

    /// Opens the exchange of a request that is refused whatever its head says, or because it cannot be read.
    pub(super) fn unread(shard: &Rc<Shard>, peer: IpAddr) -> Self {
        shard.numbers.inc(Counter::ExchangesActive);
        Self {
            started: clock::now(),
            started_unix_ms: shard.unix_ms.get(),
            request_id: RequestId::made(u128::from(shard.random()) << 64 | u128::from(shard.random())),
            shard: Rc::clone(shard),
            api: None,
            api_name: "unread",
            terms: ClientTerms::UNREADABLE,
            is_request_read: false,
            client: Some(peer),
            page: PageGrant::None,
            key: None,
            requests_left: None,
            tokens_left: None,
            user: None,
            warning: None,
            throttle: Nanos(0),
            held: Held::default(),
            model: None,
            fallback_for: None,
            naming: None,
            wants_stream: false,
            prompt_tokens: 0,
            renames_ids: false,
            total: Nanos::NEVER,
            backend: None,
            attempts: 0,
            wants_trace: false,
            trace: None,
            expected_match: None,
            dropped: None,
            waited: Nanos(0),
            overhead: Nanos(0),
            time_to_first_token: None,
            sent_head: None,
            is_streaming: false,
            marks: None,
            labels: None,
            caching: None,
            usage: Usage::default(),
            output_estimate: 0,
            is_charged: false,
            home: Home::default(),
            request_bytes: 0,
            response_bytes: 0,
            is_settled: false,
        }
    }

    /// A response that the client does not get has cost what it says, or what is estimated.
    pub(super) fn charge_unsent(&mut self, status: u16, body: &[u8]) {
        let mut meter = BodyMeter::default();
        meter.block(body);
        match meter.usage().seen && !self.api.is_some_and(Api::has_id) {
            true => self.usage = *meter.usage(),
            false => self.is_charged = self.charges(status),
        }
    }

    /// Where matches of content rules are noted.
    pub(super) fn marks(&mut self) -> Rc<RefCell<Marks>> {
        Rc::clone(self.marks.get_or_insert_default())
    }

    /// The response is a stream, and is being relayed from now on.
    pub(super) fn starts_streaming(&mut self) {
        self.is_streaming = true;
        self.shard.numbers.inc(Counter::StreamsActive);
    }

    /// Whether estimates of what a response cost are charged: its request was taken, and says something of its own.
    pub(super) fn charges(&self, status: u16) -> bool {
        status < 300 && self.held.takes_tokens() && !self.api.is_some_and(Api::has_id)
    }

    /// What failures of the model count by, where it is one of a pattern.
    pub(super) fn model_hash(&self) -> u64 {
        self.naming.as_ref().map_or(0, |naming| naming.hash)
    }

    /// Whether the connection can be used again after a response that ends properly.
    pub(super) fn keeps_alive(&self) -> bool {
        self.terms.keep_alive && !self.shard.is_draining()
    }
}

impl ClientTerms {
    /// For a head that could not be read.
    const UNREADABLE: Self = Self {
        version: Version::Http11,
        keep_alive: false,
        head_only: false,
        dialect: Dialect::OpenAi,
        allow: None,
    };

    pub(super) fn new(head: &RequestHead, bytes: &[u8], api: Option<Api>) -> Self {
        Self {
            version: head.version,
            keep_alive: head.keep_alive,
            head_only: head.method == Method::Head,
            dialect: match api.filter(|api| !api.is_local()) {
                None if head.api_keys[2].is_some() => {
                    of_path(head, bytes).with_googles_key(head.path.of(bytes))
                }
                None => of_path(head, bytes),
                Some(api) => api.dialect(),
            },
            allow: dialect::route::allow(head.path.of(bytes)),
        }
    }
}

fn of_path(head: &RequestHead, bytes: &[u8]) -> Dialect {
    Dialect::of_request(head.path.of(bytes), has_anthropic_version(head, bytes))
}

fn has_anthropic_version(head: &RequestHead, bytes: &[u8]) -> bool {
    fields::lines(head.fields.of(bytes)).any(|line| line.name.eq_ignore_ascii_case(b"anthropic-version"))
}
