//! Google's `generateContent`: every record has the counts so far, and none marks the end.

use super::{ERROR_MESSAGE, Finish, Manner, Record, Usage, Voice};
use serde_json::{Value, json};

/// `/v1beta/models/MODEL:generateContent` and `:streamGenerateContent`.
#[derive(Debug)]
pub struct Google {
    manner: Manner,
    /// What the call is made with so far: calls come whole.
    text: String,
}

impl Google {
    /// A response.
    pub fn new(manner: Manner) -> Self {
        Self { manner, text: String::new() }
    }

    fn response(&self, parts: &Value, finish: Option<Finish>, usage: Usage) -> Value {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = match finish {
                Finish::Stop => "STOP".into(),
                Finish::Length => "MAX_TOKENS".into(),
            };
        }
        let mut response = json!({
            "candidates": [candidate],
            "modelVersion": self.manner.model,
            "responseId": format!("{:016x}", self.manner.id),
        });
        if !self.manner.no_usage {
            response["usageMetadata"] = json!({
                "promptTokenCount": usage.prompt,
                "cachedContentTokenCount": usage.cached,
                "candidatesTokenCount": usage.completion,
                "totalTokenCount": usage.prompt + usage.completion,
            });
        }
        response
    }

    fn part(&self, text: &str) -> Value {
        match &self.manner.tool {
            None => json!([{"text": text}]),
            Some(tool) => {
                json!([{"functionCall": {"name": tool, "args": {"text": text}}, "thoughtSignature": "c2ln"}])
            }
        }
    }
}

impl Voice for Google {
    fn opening(&mut self, _usage: Usage) -> Vec<Record> {
        Vec::new()
    }

    fn token(&mut self, text: &str, usage: Usage) -> Vec<Record> {
        if self.manner.tool.is_some() {
            self.text.push_str(text);
            return Vec::new();
        }
        vec![Record::data(self.response(&self.part(text), None, usage).to_string())]
    }

    fn closing(&mut self, finish: Finish, usage: Usage) -> Vec<Record> {
        let mut records = Vec::new();
        if self.manner.tool.is_some() {
            records.push(Record::data(self.response(&self.part(&self.text), None, usage).to_string()));
        }
        let end = self.response(&json!([{"text": ""}]), Some(finish), usage);
        records.push(Record::data(end.to_string()));
        records
    }

    fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        self.response(&self.part(text), Some(finish), usage)
    }

    fn error(&mut self) -> Vec<Record> {
        let error = json!({"error": {"code": 500, "message": ERROR_MESSAGE, "status": "INTERNAL"}});
        vec![Record::data(error.to_string())]
    }
}
