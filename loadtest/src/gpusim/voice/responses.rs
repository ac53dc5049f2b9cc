//! OpenAI Responses: named records with dense sequence numbers, ending in `response.completed`.

use super::{ERROR_MESSAGE, Finish, Manner, Record, Usage, Voice};
use serde_json::{Value, json};

/// `/v1/responses`.
#[derive(Debug)]
pub struct Responses {
    manner: Manner,
    sequence_number: u64,
    text: String,
}

impl Responses {
    /// A response.
    pub fn new(manner: Manner) -> Self {
        Self { manner, sequence_number: 0, text: String::new() }
    }

    fn record(&mut self, event: &'static str, mut payload: Value) -> Record {
        payload["sequence_number"] = self.sequence_number.into();
        self.sequence_number += 1;
        Record::named(event, &payload)
    }

    fn item_id(&self) -> String {
        format!("msg_{:016x}", self.manner.id)
    }

    fn item(&self, status: &str, text: Option<&str>) -> Value {
        let content: Vec<Value> = text.map(part).into_iter().collect();
        json!({"id": self.item_id(), "type": "message", "role": "assistant", "status": status, "content": content})
    }

    fn response(&self, status: &str, text: Option<&str>, usage: Option<Usage>) -> Value {
        let output: Vec<Value> = text.map(|text| self.item(status, Some(text))).into_iter().collect();
        let usage = usage.filter(|_| !self.manner.no_usage).map(|usage| {
            json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt + usage.completion,
            })
        });
        let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        json!({
            "id": format!("resp_{:016x}", self.manner.id),
            "object": "response",
            "created_at": self.manner.created,
            "status": status,
            "error": null,
            "incomplete_details": incomplete,
            "model": self.manner.model,
            "output": output,
            "parallel_tool_calls": true,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        })
    }
}

impl Voice for Responses {
    fn opening(&mut self, _usage: Usage) -> Vec<Record> {
        let started = self.response("in_progress", None, None);
        let item = self.item("in_progress", None);
        let id = self.item_id();
        vec![
            self.record("response.created", json!({"response": started})),
            self.record("response.in_progress", json!({"response": started})),
            self.record("response.output_item.added", json!({"output_index": 0, "item": item})),
            self.record(
                "response.content_part.added",
                json!({"item_id": id, "output_index": 0, "content_index": 0, "part": part("")}),
            ),
        ]
    }

    fn token(&mut self, text: &str, _usage: Usage) -> Vec<Record> {
        self.text.push_str(text);
        let id = self.item_id();
        let payload =
            json!({"item_id": id, "output_index": 0, "content_index": 0, "delta": text, "logprobs": []});
        vec![self.record("response.output_text.delta", payload)]
    }

    fn closing(&mut self, finish: Finish, usage: Usage) -> Vec<Record> {
        let text = std::mem::take(&mut self.text);
        let id = self.item_id();
        let (status, last) = match finish {
            Finish::Stop => ("completed", "response.completed"),
            Finish::Length => ("incomplete", "response.incomplete"),
        };
        let item = self.item(status, Some(&text));
        let response = self.response(status, Some(&text), Some(usage));
        let place = |member: &str, value: Value| {
            let mut payload = json!({"item_id": id, "output_index": 0, "content_index": 0});
            payload[member] = value;
            payload
        };
        vec![
            self.record("response.output_text.done", place("text", text.as_str().into())),
            self.record("response.content_part.done", place("part", part(&text))),
            self.record("response.output_item.done", json!({"output_index": 0, "item": item})),
            self.record(last, json!({"response": response})),
        ]
    }

    fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        let status = if finish == Finish::Stop { "completed" } else { "incomplete" };
        self.response(status, Some(text), Some(usage))
    }

    fn error(&mut self) -> Vec<Record> {
        let error = json!({"code": "server_error", "message": ERROR_MESSAGE});
        let mut failed = self.response("failed", None, None);
        failed["error"] = error.clone();
        let mut flat = error;
        flat["param"] = Value::Null;
        vec![self.record("error", flat), self.record("response.failed", json!({"response": failed}))]
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
