//! OpenAI chat completions and legacy completions, as vLLM says them.

use super::{ERROR_MESSAGE, Finish, Manner, Record, Usage, Voice, quoted};
use serde_json::{Value, json};

/// `/v1/chat/completions`, and `/v1/completions` when `legacy`.
#[derive(Debug)]
pub struct Chat {
    manner: Manner,
    legacy: bool,
    /// Start of every chunk: id, object, created, model.
    start: String,
}

impl Chat {
    /// A chat completion.
    pub fn new(manner: Manner) -> Self {
        let start = format!(
            r#"{{"id":"chatcmpl-{:016x}","object":"chat.completion.chunk","created":{},"model":{},"choices":"#,
            manner.id,
            manner.created,
            quoted(&manner.model)
        );
        Self { manner, legacy: false, start }
    }

    /// A legacy completion.
    pub fn legacy(manner: Manner) -> Self {
        let start = format!(
            r#"{{"id":"cmpl-{:016x}","object":"text_completion","created":{},"model":{},"choices":"#,
            manner.id,
            manner.created,
            quoted(&manner.model)
        );
        Self { manner: Manner { tool: None, ..manner }, legacy: true, start }
    }

    fn chunk(&self, delta: &str, finish: Option<&str>, usage: Option<Usage>) -> Record {
        let member = if self.legacy { "text" } else { "delta" };
        let finish = finish.map_or("null".to_owned(), quoted);
        let stop = if finish == "null" { "" } else { r#","stop_reason":null"# };
        let start = &self.start;
        let usage = usage.map(|usage| format!(r#","usage":{}"#, usage.openai())).unwrap_or_default();
        Record::data(format!(
            r#"{start}[{{"index":0,"{member}":{delta},"logprobs":null,"finish_reason":{finish}{stop}}}]{usage}}}"#
        ))
    }

    fn everywhere(&self, usage: Usage) -> Option<Usage> {
        self.manner.usage_everywhere.then_some(usage)
    }

    fn finish_reason(&self, finish: Finish) -> &'static str {
        match (finish, &self.manner.tool) {
            (Finish::Length, _) => "length",
            (Finish::Stop, Some(_)) => "tool_calls",
            (Finish::Stop, None) => "stop",
        }
    }

    fn call_id(&self) -> String {
        format!("call_{:016x}", self.manner.id)
    }
}

impl Voice for Chat {
    fn opening(&mut self, usage: Usage) -> Vec<Record> {
        if self.legacy {
            return Vec::new();
        }
        let usage = self.everywhere(usage);
        let mut records = vec![self.chunk(r#"{"role":"assistant","content":""}"#, None, usage)];
        if let Some(tool) = &self.manner.tool {
            let call = json!({"index": 0, "id": self.call_id(), "type": "function",
                "function": {"name": tool, "arguments": ""}});
            records.push(self.chunk(&json!({"tool_calls": [call]}).to_string(), None, usage));
            records.push(self.chunk(&arguments_piece(TOOL_INPUT_START), None, usage));
        }
        records
    }

    fn token(&mut self, text: &str, usage: Usage) -> Vec<Record> {
        let usage = self.everywhere(usage);
        let delta = match (&self.manner.tool, self.legacy) {
            (Some(_), _) => arguments_piece(text),
            (None, true) => format!("\"{text}\""),
            (None, false) => format!(r#"{{"content":"{text}"}}"#),
        };
        vec![self.chunk(&delta, None, usage)]
    }

    fn closing(&mut self, finish: Finish, usage: Usage) -> Vec<Record> {
        let everywhere = self.everywhere(usage);
        let mut records = Vec::new();
        if self.manner.tool.is_some() {
            records.push(self.chunk(&arguments_piece(TOOL_INPUT_END), None, everywhere));
        }
        let in_finish = if self.manner.usage_in_finish { Some(usage) } else { everywhere };
        let empty = if self.legacy { "\"\"" } else { "{}" };
        records.push(self.chunk(empty, Some(self.finish_reason(finish)), in_finish));
        if self.manner.usage_chunk {
            records.push(Record::data(format!(r#"{}[],"usage":{}}}"#, self.start, usage.openai())));
        }
        if self.manner.done {
            records.push(Record::data("[DONE]"));
        }
        records
    }

    fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        let reason = self.finish_reason(finish);
        let choice = if self.legacy {
            json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason, "stop_reason": null})
        } else {
            let message = match &self.manner.tool {
                None => json!({"role": "assistant", "content": text, "refusal": null, "tool_calls": []}),
                Some(tool) => {
                    let arguments = format!("{TOOL_INPUT_START}{text}{TOOL_INPUT_END}");
                    let call = json!({"id": self.call_id(), "type": "function",
                        "function": {"name": tool, "arguments": arguments}});
                    json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]})
                }
            };
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": reason, "stop_reason": null})
        };
        let (prefix, object) =
            if self.legacy { ("cmpl", "text_completion") } else { ("chatcmpl", "chat.completion") };
        let mut answer = json!({
            "id": format!("{prefix}-{:016x}", self.manner.id),
            "object": object,
            "created": self.manner.created,
            "model": self.manner.model,
            "choices": [choice],
        });
        if !self.manner.no_usage {
            answer["usage"] = usage.openai();
        }
        answer
    }

    fn error(&mut self) -> Vec<Record> {
        let error = json!({"error": {"message": ERROR_MESSAGE, "type": "InternalServerError", "param": null,
            "code": 500}});
        let mut records = vec![Record::data(error.to_string())];
        if self.manner.done {
            records.push(Record::data("[DONE]"));
        }
        records
    }
}

/// A later piece of a tool call; `text` is part of a JSON text and is escaped here.
fn arguments_piece(text: &str) -> String {
    format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{}}}}}]}}"#, quoted(text))
}

const TOOL_INPUT_START: &str = r#"{"text":""#;
const TOOL_INPUT_END: &str = r#""}"#;
