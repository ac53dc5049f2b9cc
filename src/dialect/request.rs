//! What of a request decides about routing and billing, and the few bytes changed on the way to a backend.
//!
//! The body is looked through once at its top level. A member that the gateway acts on must mean the same to the
//! backend: written once, in its own spelling, with the type the API asks for. Everything else passes untouched,
//! duplicates, odd numbers and unknown members included.

mod cap;
mod config;

use std::borrow::Cow;

use super::{Api, Dialect, route};
use crate::error::{Fault, FaultKind};
use crate::units::Span;
use crate::wire::json;
pub(super) use cap::CapMember;
pub use cap::{Cap, may_be_capped};
use config::Config;

/// What a body asks for. Spans are offsets into the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peek {
    /// The endpoint it was sent to.
    pub api: Api,
    /// The value of `model`, a JSON string with its quotes; empty where the body names none.
    pub model: Span,
    /// Whether the response shall be an event stream.
    pub stream: bool,
    /// Whether the stream shall come as a list of responses (Google's, without `alt=sse`).
    pub list: bool,
    /// Whether the client wants usage in its stream.
    pub usage_asked: bool,
    /// Where `stream_options` is.
    pub stream_options: StreamOptions,
    /// The offset of the final `}`.
    pub object_end: usize,
    /// The most output tokens one response may have: the cap this endpoint obeys (the larger one, if a body names
    /// both), zero where there is no output, `None` if there is no cap. A zero is a cap in Anthropic's API only.
    pub output_cap: Option<u64>,
    /// The values of the members that cap the output, null ones included, by `CapMember`; empty for none.
    pub caps: [Span; CAP_MEMBERS],
    /// Where the cap stands in an object of its own (Google's `generationConfig`, Ollama's `options`): that object, empty for none.
    pub config: Span,
    /// The value in it that caps the output.
    pub config_cap: Span,
    /// Choices the client gets: `n`, at least 1.
    pub choices: u64,
    /// Responses that are computed and billed: `best_of` if it is more than `n`.
    pub generations: u64,
    /// Responses only: the value of `previous_response_id`, a JSON string with its quotes.
    pub previous: Option<Span>,
    /// Embeddings only: whether vectors are wanted as base64 (`encoding_format`).
    pub base64: bool,
    /// The values that are the prompt, in the order in which a model reads them; empty for none.
    pub prompt: [Span; PROMPT_MEMBERS],
    /// The values that may name the end user: `safety_identifier`, `user`, `metadata`; empty for none.
    pub end_user: [Span; 3],
    /// The value of `cache_salt`: engines share no cache between different ones.
    pub cache_salt: Span,
    /// The value of `prompt_cache_key`: which requests belong together.
    pub cache_key: Span,
}

/// Members that cap the output of some endpoint.
pub const CAP_MEMBERS: usize = 3;

/// Most members that are a prompt: tools, system, messages.
pub const PROMPT_MEMBERS: usize = 3;

/// The member that asks for usage in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamOptions {
    /// Not there.
    Absent,
    /// There and null: the span of the null.
    Null(Span),
    /// There.
    Object {
        /// The value of its `include_usage`, if it has one.
        include_usage: Option<Span>,
        /// The offset of its `}`.
        end: usize,
        /// Whether it has no member.
        is_empty: bool,
    },
}

/// Most choices one request may ask for. Chosen, not measured: an engine computes them all at once, and one huge number kills it.
pub const CHOICES_MAX: u64 = 128;
/// Largest output cap. Engines hold it in 32 bits.
pub const OUTPUT_CAP_MAX: u64 = u32::MAX as u64;

/// Where the names of the caps begin, in the order of `CapMember`.
const FIRST_CAP: usize = 3;
/// How many of the names are read of every endpoint; the others of their own endpoints only (`OwnMember`).
const COMMON: usize = 8;
/// The members that are routed, billed or converted by.
const NAMES: [&str; 11] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "encoding_format",
    "previous_response_id",
    "options",
];

/// Looks through the body of a request to `api`.
///
/// # Errors
/// `BodyMalformed`, with the byte or the member: no sound JSON object, no `model`; a member of the list written twice or
/// in another case (escapes resolved), of another type, or out of its range. Null counts as absent.
///
/// Cost: one pass over the body, no allocation.
pub fn peek(api: Api, body: &[u8]) -> Result<Peek, Fault> {
    read(api, body, false)
}

/// The same for a request whose path names the model: its body need not, and what it says counts for nothing.
///
/// # Errors
/// As above, but for a `model` that is missing; `BodyMalformed` for an object without members.
pub fn peek_named(api: Api, body: &[u8]) -> Result<Peek, Fault> {
    read(api, body, true)
}

/// The same for a request by its path, which may name the model and say that a stream is wanted. Returns that model, too.
///
/// # Errors
/// As for those.
pub fn peek_at<'p>(
    api: Api,
    (path, query): (&'p [u8], &[u8]),
    body: &[u8],
) -> Result<(Peek, Option<Cow<'p, str>>), Fault> {
    let named = route::deployment(path);
    let peek = if named.is_some() { peek_named(api, body)? } else { peek(api, body)? };
    let stream = if api.has_model_in_path() { route::asks_stream(api, path) } else { peek.stream };
    let list = stream && api.has_model_in_path() && !route::asks_events(api, query);
    Ok((Peek { stream, list, ..peek }, named))
}

fn read(api: Api, body: &[u8], is_named: bool) -> Result<Peek, Fault> {
    let endpoint = api.endpoint();
    let (names, own) = (&NAMES[..COMMON], endpoint.own_member.map(|member| member as usize));
    let mut members = json::members(body);
    let mut values = [None; NAMES.len()];
    let mut prompt = [Span::default(); PROMPT_MEMBERS];
    let [mut cache_salt, mut cache_key] = [Span::default(); 2];
    let mut end_user = [Span::default(); 3];
    for member in &mut members {
        let member =
            member.map_err(|bad| refused(format!("invalid JSON at byte {}: {}", bad.at, bad.reason)))?;
        let key = member.key.of(body);
        let index = match own {
            Some(own) if watched(key, &NAMES[own..=own])?.is_some() => Some(own),
            _ => watched(key, names)?,
        };
        if let Some(index) = index
            && values[index].replace(member).is_some()
        {
            return Err(refused(format!("'{}' is given twice", NAMES[index])));
        }
        if index.is_none() {
            let name = &key[1..key.len() - 1];
            match endpoint.prompt.iter().position(|part| part.as_bytes() == name) {
                Some(part) => prompt[part] = member.value,
                None if name == b"safety_identifier" => end_user[0] = member.value,
                None if name == b"user" => end_user[1] = member.value,
                None if name == b"metadata" => end_user[2] = member.value,
                None if name == b"cache_salt" => cache_salt = member.value,
                None if name == b"prompt_cache_key" => cache_key = member.value,
                None => {}
            }
        }
    }
    let object_end = members.close().unwrap_or(body.len());
    let [
        model,
        stream,
        options,
        max_tokens,
        max_completion,
        max_output,
        n,
        best_of,
        encoding,
        previous,
        own_options,
    ] = values.each_ref().map(given);

    let model = match model {
        _ if endpoint.has_model_in_path => Span::default(),
        Some(model) if json::string(model.value.of(body)).is_none_or(|name| name.is_empty()) => {
            return Err(refused("'model' has to be a non-empty string"));
        }
        Some(model) => model.value,
        None if is_named && !members.is_empty() => Span::new(object_end, object_end),
        None => return Err(refused("'model' is missing")),
    };
    let stream = match stream {
        None => endpoint.streams_by_default,
        Some(_) => boolean(stream, "stream")?,
    };
    let (stream_options, usage_asked) = match (options, &values[2]) {
        (Some(options), _) => read_options(options, body)?,
        (None, Some(null)) => (StreamOptions::Null(null.value), false),
        (None, None) => (StreamOptions::Absent, false),
    };
    let max_tokens = integer(max_tokens, "max_tokens", body, 0..=OUTPUT_CAP_MAX)?;
    let max_completion = integer(max_completion, "max_completion_tokens", body, 0..=OUTPUT_CAP_MAX)?;
    let max_output = integer(max_output, "max_output_tokens", body, 0..=OUTPUT_CAP_MAX)?;
    let config = match own_options {
        Some(options) => config::of_options(body, options.value),
        None if endpoint.has_model_in_path => config::read(body)?,
        None => Config::default(),
    };
    let given_caps = [max_tokens, max_completion, max_output, None]; // by `CapMember`
    let choices = integer(n, "n", body, 1..=CHOICES_MAX)?.or(config.candidates).unwrap_or(1);
    let best_of = integer(best_of, "best_of", body, 1..=CHOICES_MAX)?.unwrap_or(1);
    Ok(Peek {
        api,
        model,
        stream,
        list: false,
        usage_asked,
        stream_options,
        object_end,
        output_cap: match endpoint.caps {
            [] => Some(0),
            caps => output_cap(api, caps.iter().filter_map(|cap| given_caps[*cap as usize])).max(config.cap),
        },
        caps: [3, 4, 5].map(|name: usize| values[name].map_or(Span::default(), |member| member.value)),
        config: config.object,
        config_cap: config.cap_at,
        choices,
        generations: choices.max(best_of),
        previous: previous.filter(|member| member.kind == json::ValueKind::String).map(|member| member.value),
        // An encoding that is no string is for the backend to refuse.
        base64: encoding.is_some_and(|encoding| json::key_is(encoding.value.of(body), "base64")),
        prompt,
        end_user,
        cache_salt,
        cache_key,
    })
}

impl Peek {
    /// What a request to an endpoint asks for that says all in its path and `query`.
    pub fn of_path(api: Api, query: &[u8]) -> Self {
        let asks = |pair: &[u8]| matches!(pair, b"stream=true" | b"stream=True" | b"stream=1");
        Self {
            api,
            model: Span::new(0, 0),
            stream: query.split(|&byte| byte == b'&').any(asks),
            list: false,
            usage_asked: false,
            stream_options: StreamOptions::Absent,
            object_end: 0,
            output_cap: Some(0),
            caps: [Span::default(); CAP_MEMBERS],
            config: Span::default(),
            config_cap: Span::default(),
            choices: 1,
            generations: 1,
            previous: None,
            base64: false,
            prompt: [Span::default(); PROMPT_MEMBERS],
            end_user: [Span::default(); 3],
            cache_salt: Span::default(),
            cache_key: Span::default(),
        }
    }

    /// The name of the model, escapes resolved. `body` is the one that was peeked into.
    pub fn model_name<'b>(&self, body: &'b [u8]) -> Cow<'b, str> {
        json::string(self.model.of(body)).unwrap_or_default()
    }

    /// The end user that the body names, escapes resolved. `body` is the one that was peeked into.
    pub fn end_user_name<'b>(&self, body: &'b [u8]) -> Option<Cow<'b, str>> {
        let [safety, user, metadata] = self.end_user.map(|span| span.of(body));
        let of_metadata = || {
            let id = json::members(metadata).map_while(Result::ok);
            let id = id.filter(|member| json::key_is(member.key.of(metadata), "user_id")).last();
            json::string(id?.value.of(metadata))
        };
        let named = [safety, user].into_iter().find_map(json::string).or_else(of_metadata);
        named.filter(|name| !name.is_empty())
    }

    /// The most output tokens that limits may count on. A cap of zero is none: not every backend obeys it, and what it makes
    /// instead has no bound.
    pub fn output_bound(&self) -> Option<u64> {
        self.output_cap.filter(|cap| *cap > 0 || self.api.endpoint().caps.is_empty())
    }

    /// Whether the request defines tools.
    pub fn has_tools(&self, body: &[u8]) -> bool {
        let tools = self.prompt[0].of(body);
        tools.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"{"))
    }

    /// Whether the stream has no usage unless the gateway asks for it on the client's behalf.
    pub fn needs_usage(&self) -> bool {
        self.stream && !self.usage_asked && self.api.stream().usage_on_request()
    }

    /// Whether the body names no model, which then has to be put in as a member (`edits`).
    pub fn lacks_model(&self) -> bool {
        self.model.is_empty() && self.model.end > 0
    }

    /// What to change for a backend that calls the model `model_json` (for a body that [`Peek::lacks_model`] a whole member
    /// with a comma in front) and the response before this one `previous_json`
    /// (JSON strings with their quotes; `None` leaves the client's) and that takes `stream_options` or not.
    ///
    /// Usage is asked for on behalf of a streaming client that does not, where it has to be asked for: chat and
    /// completions. The chunk with that usage is the gateway's and must be dropped (`stream::Meter`).
    pub fn edits<'a>(
        &self,
        model_json: Option<&'a [u8]>,
        previous_json: Option<&'a [u8]>,
        takes_stream_options: bool,
    ) -> Edits<'a> {
        let mut edits = Edits::default();
        if let (Some(span), Some(id)) = (self.previous, previous_json) {
            edits.push(span, id);
        }
        // Where a request says all in its path there is no body to name a model in.
        if let Some(name) = model_json
            && self.model.end > 0
        {
            edits.push(self.model, name);
        }
        if self.needs_usage() && takes_stream_options {
            let (span, text) = match self.stream_options {
                StreamOptions::Absent => (
                    Span::new(self.object_end, self.object_end),
                    br#","stream_options":{"include_usage":true}"#.as_slice(),
                ),
                StreamOptions::Null(null) => (null, br#"{"include_usage":true}"#.as_slice()),
                StreamOptions::Object { include_usage: Some(value), .. } => (value, b"true".as_slice()),
                StreamOptions::Object { end, is_empty: true, .. } => {
                    (Span::new(end, end), br#""include_usage":true"#.as_slice())
                }
                StreamOptions::Object { end, .. } => {
                    (Span::new(end, end), br#","include_usage":true"#.as_slice())
                }
            };
            edits.push(span, text);
            edits.asks_usage = true;
        }
        edits
    }
}

/// At most six replacements, in order, for `json::splice`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Edits<'a> {
    list: [(Span, &'a [u8]); 6],
    count: usize,
    /// Whether usage is asked for that the client did not ask for.
    pub asks_usage: bool,
}

impl<'a> Edits<'a> {
    fn push(&mut self, span: Span, text: &'a [u8]) {
        self.list[self.count] = (span, text);
        self.count += 1;
        self.list[..self.count].sort_unstable_by_key(|(span, _)| span.start);
    }

    /// What to replace by what, in order.
    pub fn as_slice(&self) -> &[(Span, &'a [u8])] {
        &self.list[..self.count]
    }

    /// How long a body of `length` bytes becomes: the `content-length`.
    pub fn length(&self, length: usize) -> usize {
        self.as_slice().iter().fold(length, |length, (span, text)| length + text.len() - span.len())
    }
}

/// The cap among those that a body gives. Zero is none, whatever stands beside it: some servers take it for no bound.
fn output_cap(api: Api, given: impl Iterator<Item = u64> + Clone) -> Option<u64> {
    let is_none = api.dialect() != Dialect::Anthropic && given.clone().any(|cap| cap == 0);
    if is_none { None } else { given.max() }
}

/// The index of the name that `key` spells. Refuses a spelling that only some readers take for it.
fn watched(key: &[u8], names: &[&'static str]) -> Result<Option<usize>, Fault> {
    let text = &key[1..key.len() - 1];
    if let Some(index) = names.iter().position(|name| name.as_bytes() == text) {
        return Ok(Some(index));
    }
    let plain = text.iter().all(|&byte| byte.is_ascii() && byte != b'\\');
    let caseless = |name: &&str| match plain {
        true => text.eq_ignore_ascii_case(name.as_bytes()),
        false => json::key_is_caseless(key, name),
    };
    match names.iter().position(caseless) {
        Some(index) if json::key_is(key, names[index]) => Ok(Some(index)),
        Some(index) => Err(refused(format!("'{}' is written in another case", names[index]))),
        None => Ok(None),
    }
}

/// A member whose value is not null.
fn given(member: &Option<json::Member>) -> Option<&json::Member> {
    member.as_ref().filter(|member| member.kind != json::ValueKind::Null)
}

fn read_options(options: &json::Member, body: &[u8]) -> Result<(StreamOptions, bool), Fault> {
    let object = options.value.of(body);
    let mut members = json::members(object);
    let mut include_usage = None;
    for member in &mut members {
        let member = member.map_err(|_| refused("'stream_options' has to be an object"))?;
        if watched(member.key.of(object), &["include_usage"])?.is_some()
            && include_usage.replace(member).is_some()
        {
            return Err(refused("'include_usage' is given twice"));
        }
    }
    let asked = boolean(given(&include_usage), "include_usage")?;
    let options = StreamOptions::Object {
        include_usage: include_usage.map(|member| member.value.shifted(options.value.start)),
        end: options.value.end - 1,
        is_empty: members.is_empty(),
    };
    Ok((options, asked))
}

fn boolean(member: Option<&json::Member>, name: &str) -> Result<bool, Fault> {
    match member.map(|member| member.kind) {
        None | Some(json::ValueKind::False) => Ok(false),
        Some(json::ValueKind::True) => Ok(true),
        Some(_) => Err(refused(format!("'{name}' has to be true or false"))),
    }
}

fn integer(
    member: Option<&json::Member>,
    name: &str,
    body: &[u8],
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, Fault> {
    let Some(member) = member else { return Ok(None) };
    match json::unsigned(member.value.of(body)) {
        Some(value) if range.contains(&value) => Ok(Some(value)),
        _ => Err(refused(format!(
            "'{name}' has to be a whole number from {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

fn refused(note: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(FaultKind::BodyMalformed, note)
}

#[cfg(test)]
mod tests;
