//! Anthropic Messages, so that a gateway's pass-through of that dialect has a server to talk to.

use super::{ERROR_MESSAGE, Finish, Manner, Record, Usage, Voice};
use serde_json::{Value, json};

/// `/v1/messages`.
#[derive(Debug)]
pub struct Messages {
    manner: Manner,
}

impl Messages {
    /// A message.
    pub fn new(manner: Manner) -> Self {
        Self { manner }
    }

    fn stop_reason(&self, finish: Finish) -> &'static str {
        match (finish, &self.manner.tool) {
            (Finish::Length, _) => "max_tokens",
            (Finish::Stop, Some(_)) => "tool_use",
            (Finish::Stop, None) => "end_turn",
        }
    }

    fn message(&self, content: &Value, stop_reason: &Value, usage: Usage) -> Value {
        let mut message = json!({
            "id": format!("msg_{:016x}", self.manner.id),
            "type": "message",
            "role": "assistant",
            "model": self.manner.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
        });
        if !self.manner.no_usage {
            message["usage"] = json!({
                "input_tokens": usage.prompt - usage.cached,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": usage.cached,
                "output_tokens": usage.completion,
            });
        }
        message
    }

    fn delta(&self, text: &str) -> Record {
        let delta = if self.manner.tool.is_some() {
            json!({"type": "input_json_delta", "partial_json": text})
        } else {
            json!({"type": "text_delta", "text": text})
        };
        let payload = json!({"index": 0, "delta": delta});
        Record::named("content_block_delta", &payload)
    }

    fn tool_block(&self, tool: &str, input: &Value) -> Value {
        json!({"type": "tool_use", "id": format!("toolu_{:016x}", self.manner.id), "name": tool, "input": input})
    }
}

impl Voice for Messages {
    fn opening(&mut self, usage: Usage) -> Vec<Record> {
        let message = self.message(&json!([]), &Value::Null, Usage { completion: 0, ..usage });
        let block = match &self.manner.tool {
            None => json!({"type": "text", "text": ""}),
            Some(tool) => self.tool_block(tool, &json!({})),
        };
        let mut records = vec![
            Record::named("message_start", &json!({"message": message})),
            Record::named("content_block_start", &json!({"index": 0, "content_block": block})),
            Record::named("ping", &json!({})),
        ];
        if self.manner.tool.is_some() {
            records.push(self.delta(r#"{"text":""#));
        }
        records
    }

    fn token(&mut self, text: &str, _usage: Usage) -> Vec<Record> {
        vec![self.delta(text)]
    }

    fn closing(&mut self, finish: Finish, usage: Usage) -> Vec<Record> {
        let mut records = Vec::new();
        if self.manner.tool.is_some() {
            records.push(self.delta(r#""}"#));
        }
        records.push(Record::named("content_block_stop", &json!({"index": 0})));
        let delta = json!({"stop_reason": self.stop_reason(finish), "stop_sequence": null});
        let mut payload = json!({"delta": delta});
        if !self.manner.no_usage {
            payload["usage"] = json!({"output_tokens": usage.completion});
        }
        records.push(Record::named("message_delta", &payload));
        records.push(Record::named("message_stop", &json!({})));
        records
    }

    fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        let block = match &self.manner.tool {
            None => json!({"type": "text", "text": text}),
            Some(tool) => self.tool_block(tool, &json!({"text": text})),
        };
        self.message(&json!([block]), &self.stop_reason(finish).into(), usage)
    }

    fn error(&mut self) -> Vec<Record> {
        let error = json!({"type": "overloaded_error", "message": ERROR_MESSAGE});
        vec![Record::named("error", &json!({"error": error}))]
    }
}
