//! WHAT EVERY GENERATING API CAN SAY: the form between two dialects.
//!
//! A request is decoded from the client's dialect into a [`Request`] and encoded into the backend's. A response comes back
//! as [`Event`]s, whether it streams or not: a whole body is decoded into the same events, and folded back from them for
//! a client that did not ask for a stream. So each dialect is six functions, and none of them knows another dialect:
//!
//! ```text
//!            decode                         encode
//! request    body -> Request                Request -> body, Losses
//! response   record | body -> Event*        Event* -> records | body
//! fault      status, body -> FaultRecord    FaultRecord -> body | record
//! ```
//!
//! Text is never unescaped on the way: a [`Text`] is what stands between the quotes of a JSON string, as it was written.
//! The one exception are the arguments of tool calls, which are a string in some dialects and an object in others
//! ([`Arguments`]).

mod arguments;
mod call_ids;
mod calls;
pub mod claude;
pub mod custom;
mod losses;
mod object;
pub mod seal;
mod text;
mod unreadable;

pub use arguments::{Arguments, one_line};
pub use call_ids::CallIds;
pub use calls::{Calls, Names, Waiting};
pub use losses::Losses;
pub use object::Object;
pub use text::Text;
pub use unreadable::unreadable;

use std::borrow::Cow;

use super::usage::Usage;
use crate::error::{Fault, FaultKind};

/// A JSON value as it was written.
pub type Json<'a> = &'a [u8];

/// What a client asks a model for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Request<'a> {
    /// Whether the response shall be a stream.
    pub stream: bool,
    /// What precedes the conversation: system and developer messages at its start, in their order.
    pub system: Vec<Part<'a>>,
    /// The conversation, one turn per message of the client. Neighbours may be of one role.
    pub turns: Vec<Turn<'a>>,
    /// What the model may call.
    pub tools: Vec<Tool<'a>>,
    /// Whether it has to.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether it may call several tools in one turn; the API's own default if absent.
    pub parallel_calls: Option<bool>,
    /// Everything else that has a counterpart.
    pub params: Params<'a>,
    /// What the decoder met that has no place here.
    pub losses: Losses,
}

/// One message.
#[derive(Clone, PartialEq, Debug)]
pub struct Turn<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part<'a>>,
}

/// Who speaks in a turn. Results of tools are parts of a user's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// Instructions in the middle of a conversation.
    System,
}

/// A piece of a turn.
#[derive(Clone, PartialEq, Debug)]
pub enum Part<'a> {
    /// Text.
    Text(Text<'a>),
    /// A picture.
    Image(Source<'a>),
    /// A document, with its title or file name.
    Document {
        /// Where it is.
        source: Source<'a>,
        /// Its title or file name.
        title: Option<Text<'a>>,
    },
    /// Sound: base64, and its format (`wav`, `mp3`).
    Audio {
        /// The sound in base64.
        data: Text<'a>,
        /// Its format, without the `audio/`.
        format: Text<'a>,
    },
    /// What the model thought. Without a signature no provider takes it for its own.
    Thinking {
        /// The thought.
        text: Text<'a>,
        /// The provider's seal over it; it is only of use to that provider's models.
        signature: Option<Text<'a>>,
    },
    /// A thought that only its provider can read.
    Redacted(Text<'a>),
    /// A call of a tool.
    ToolCall {
        /// Pairs it with its result; empty if the dialect has none.
        id: Text<'a>,
        /// The tool.
        name: Text<'a>,
        /// What it is called with.
        arguments: Arguments<'a>,
        /// Whether the tool takes free text ([`ToolKind::Custom`]).
        is_custom: bool,
    },
    /// What a call brought.
    ToolResult {
        /// The call's.
        id: Text<'a>,
        /// The tool, where the dialect says it.
        name: Option<Text<'a>>,
        /// What it brought: text, images, documents.
        parts: Vec<Part<'a>>,
        /// Whether it failed.
        is_error: bool,
    },
    /// The model's refusal, as a text of its own kind.
    Refusal(Text<'a>),
}

/// Where a binary part is.
#[derive(Clone, PartialEq, Debug)]
pub enum Source<'a> {
    /// Here, in base64.
    Base64 {
        /// `image/png`.
        media_type: Text<'a>,
        /// The bytes in base64.
        data: Text<'a>,
    },
    /// Here, as plain text.
    Text(Text<'a>),
    /// At a URL.
    Url(Text<'a>),
    /// At the provider, by the id of an upload.
    File(Text<'a>),
}

impl Request<'_> {
    /// Notes that arguments were to fit the schemas of their tools, for a dialect that has no word for it.
    pub fn note_strict(&self, losses: &mut Losses) {
        let is_strict = |tool: &Tool<'_>| matches!(tool.kind, ToolKind::Function { strict: Some(true), .. });
        if self.tools.iter().any(is_strict) {
            losses.note("tools.strict");
        }
    }
}

/// Something the model may call.
#[derive(Clone, PartialEq, Debug)]
pub struct Tool<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// What it does.
    pub description: Option<Text<'a>>,
    /// What it takes.
    pub kind: ToolKind<'a>,
}

/// What a tool takes.
#[derive(Clone, PartialEq, Debug)]
pub enum ToolKind<'a> {
    /// Arguments by a JSON schema; absent for a function without parameters.
    Function {
        /// The schema, untouched.
        schema: Option<Json<'a>>,
        /// Whether the arguments have to fit it.
        strict: Option<bool>,
    },
    /// Free text, perhaps in a grammar.
    Custom {
        /// The grammar as it was written.
        format: Option<Json<'a>>,
    },
}

/// Whether the model has to call a tool.
#[derive(Clone, PartialEq, Debug)]
pub enum ToolChoice<'a> {
    /// As it likes.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(Text<'a>),
}

/// Members with a counterpart in most dialects. Numbers are JSON as they were written.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Params<'a> {
    /// The most output tokens.
    pub output_max: Option<u64>,
    /// Sampling.
    pub temperature: Option<Json<'a>>,
    /// Sampling.
    pub top_p: Option<Json<'a>>,
    /// Sampling.
    pub top_k: Option<Json<'a>>,
    /// Sampling.
    pub seed: Option<Json<'a>>,
    /// Sampling.
    pub presence_penalty: Option<Json<'a>>,
    /// Sampling.
    pub frequency_penalty: Option<Json<'a>>,
    /// Where to stop.
    pub stop: Vec<Text<'a>>,
    /// How much to think.
    pub reasoning: Option<Reasoning<'a>>,
    /// The form of the output.
    pub format: Option<Format<'a>>,
    /// Who uses the client's application.
    pub user: Option<Text<'a>>,
}

/// How much the model shall think.
#[derive(Clone, PartialEq, Debug)]
pub enum Reasoning<'a> {
    /// Not at all.
    Off,
    /// As it sees fit.
    Adaptive,
    /// In words: `low`, `medium`, `high`, ...
    Effort(Text<'a>),
    /// At most so many tokens.
    Budget(u64),
}

/// The form of the output.
#[derive(Clone, PartialEq, Debug)]
pub enum Format<'a> {
    /// Any JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema {
        /// The schema's name, where the dialect has one.
        name: Option<Text<'a>>,
        /// The schema, untouched.
        schema: Json<'a>,
        /// Whether the output has to fit it.
        strict: Option<bool>,
    },
}

/// The refusal of a member that would change the meaning of a request and cannot be carried.
pub fn unsupported(member: &str, why: &str) -> Fault {
    Fault::new(FaultKind::MemberUnsupported, format!("'{member}' {why}"))
}

/// The refusal of a body that is not what its API defines.
pub fn malformed(note: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(FaultKind::BodyMalformed, note)
}

/// One step of a response.
///
/// Order: `Start`; then parts, each `Open`, `Delta`s, `Close`, numbered from 0 without gaps in the order of their
/// opening; then `Finish`; `Usage` anywhere (a later one replaces an earlier one); `End`. Parts follow each other, except
/// that calls of tools may be open at the same time. `Fault` may come at any point and is the last event. A response
/// whose `End` does not come was cut.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// The response begins.
    Start {
        /// The backend's id of it; empty if it has none.
        id: Text<'a>,
        /// The model, by the backend's name; empty if it does not say.
        model: Text<'a>,
    },
    /// A part begins.
    Open {
        /// Its number.
        part: usize,
        /// What it is.
        kind: PartKind<'a>,
    },
    /// More of a part. Of a tool's arguments: the next piece of their JSON, as the inside of a JSON string.
    Delta {
        /// The part's number.
        part: usize,
        /// What is appended.
        text: Text<'a>,
    },
    /// The seal over a thinking part, once, before it closes.
    Signature {
        /// The part's number.
        part: usize,
        /// The seal.
        text: Text<'a>,
    },
    /// A part ends.
    Close {
        /// Its number.
        part: usize,
    },
    /// Why the model stopped.
    Finish {
        /// The reason.
        reason: FinishReason,
        /// The stop sequence that was hit, if the backend says it.
        stop_sequence: Option<Text<'a>>,
    },
    /// Tokens so far.
    Usage(Usage),
    /// The backend lives, and says no more.
    Ping,
    /// The backend failed.
    Fault(FaultRecord<'a>),
    /// The response came to its proper end.
    End,
}

/// What a part of a response is.
#[derive(Clone, PartialEq, Debug)]
pub enum PartKind<'a> {
    /// Text.
    Text,
    /// A refusal in words.
    Refusal,
    /// A thought.
    Thinking,
    /// A thought that only its provider can read; it comes whole.
    Redacted(Text<'a>),
    /// A call of a tool.
    ToolCall {
        /// Pairs it with its result. Never empty: a decoder makes one where the backend has none.
        id: Text<'a>,
        /// The tool.
        name: Text<'a>,
        /// Whether the tool takes free text; then deltas are that text.
        is_custom: bool,
    },
}

/// Why a model stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishReason {
    /// It was done, or hit a stop sequence.
    Stop,
    /// A bound on tokens was reached.
    Length,
    /// It calls a tool.
    ToolCalls,
    /// A filter held the output back, or the model refused.
    ContentFilter,
}

/// A failure that a backend reports, in no dialect.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FaultRecord<'a> {
    /// The backend's own words.
    pub message: Text<'a>,
    /// Its type or status in words, as the backend's dialect has it.
    pub kind: Option<Text<'a>>,
    /// Its code.
    pub code: Option<Text<'a>>,
    /// The member that is wrong, where it says so.
    pub param: Option<Text<'a>>,
    /// The status that fits it, where its dialect tells one.
    pub status: Option<u16>,
}

/// What an encoder of responses needs to know of the exchange.
#[derive(Clone, Debug)]
pub struct Context {
    /// The exchange's id in hex: ids of our own are made of it.
    pub request_id: String,
    /// The model as the client named it, for a backend that does not say who responds.
    pub model: String,
    /// The client's tools that take free text, by name. A dialect without such tools calls them as functions with one
    /// string ([`custom`]); an encoder towards the client makes free text of that again.
    pub custom_tools: Vec<Text<'static>>,
    /// Unix time in seconds.
    pub created: u64,
    /// Whether a chat client asked for usage in its stream.
    pub include_usage: bool,
    /// Most bytes that are held back until they can be told in order (`[limits] held`).
    pub held_bytes_max: usize,
}

impl Context {
    /// For a look at a response of which nothing is passed on.
    pub fn probe() -> Self {
        Self {
            request_id: String::new(),
            model: String::new(),
            custom_tools: Vec::new(),
            created: 0,
            include_usage: false,
            held_bytes_max: usize::MAX,
        }
    }
}

/// What an encoder of requests needs to know of the deployment that is called.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The backend's own name for the model, a JSON string with its quotes.
    pub model: Json<'a>,
    /// The bound on output tokens for a dialect that wants one, where the client names none.
    pub output_max_default: u64,
    /// Whether the backend takes `stream_options`.
    pub takes_stream_options: bool,
    /// OpenAI's dialect only: the member that bounds the output, `max_tokens` or `max_completion_tokens`.
    pub output_cap_member: &'a str,
    /// Whether the backend takes members beyond its API's own: `top_k`, and thoughts in a conversation's history.
    pub takes_extras: bool,
}

/// Held back more than `Context::held_bytes_max`: the response cannot be told in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldTooMuch;
