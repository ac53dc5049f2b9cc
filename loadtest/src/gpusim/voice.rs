//! Voices: how each API of the server says the same generation, whole or as a stream of records.

mod chat;
mod google;
mod messages;
mod responses;

pub use chat::Chat;
pub use google::Google;
pub use messages::Messages;
pub use responses::Responses;

use serde_json::{Value, json};

/// One server-sent record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Value of the `event:` line, where the API has one.
    pub event: Option<&'static str>,
    /// Value of the `data:` line.
    pub data: String,
}

impl Record {
    /// A record without a name.
    pub fn data(data: impl Into<String>) -> Self {
        Self { event: None, data: data.into() }
    }

    /// A record whose name is also the `type` of its payload, an object; `type` comes first, as servers write it.
    pub fn named(event: &'static str, payload: &Value) -> Self {
        let payload = payload.to_string();
        let members = payload.trim_start_matches('{');
        let comma = if members == "}" { "" } else { "," };
        Self { event: Some(event), data: format!(r#"{{"type":"{event}"{comma}{members}"#) }
    }
}

/// Token counts of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub prompt: usize,
    /// Those that came from the prefix cache.
    pub cached: usize,
    /// Tokens generated.
    pub completion: usize,
}

impl Usage {
    /// In OpenAI's shape.
    pub fn openai(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.completion,
            "completion_tokens": self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

/// Why the generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done.
    Stop,
    /// The token limit was reached.
    Length,
}

/// What a voice says, and what it leaves out.
#[derive(Debug, Clone)]
pub struct Manner {
    /// The answer's id, without its prefix.
    pub id: u64,
    /// Unix time of the answer, in seconds.
    pub created: u64,
    /// The model's name in the answer.
    pub model: String,
    /// Whether the answer is a tool call.
    pub tool: Option<String>,
    /// A usage chunk of its own at the end of a stream.
    pub usage_chunk: bool,
    /// Usage in every chunk.
    pub usage_everywhere: bool,
    /// Usage in the chunk with the finish reason.
    pub usage_in_finish: bool,
    /// Whether a stream ends with `[DONE]`.
    pub done: bool,
    /// Leaves usage out of whole answers and closing records.
    pub no_usage: bool,
}

/// One answer being said.
pub trait Voice {
    /// What comes before the first token.
    fn opening(&mut self, usage: Usage) -> Vec<Record>;
    /// One token's text; it has no character that JSON escapes.
    fn token(&mut self, text: &str, usage: Usage) -> Vec<Record>;
    /// What comes after the last token.
    fn closing(&mut self, finish: Finish, usage: Usage) -> Vec<Record>;
    /// The whole answer to a request without a stream.
    fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value;
    /// A server error said in mid-stream, and what follows it.
    fn error(&mut self) -> Vec<Record>;
}

/// `text` as a JSON string, with its quotes.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

const ERROR_MESSAGE: &str = "simulated engine failure";
