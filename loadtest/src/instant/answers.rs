//! Prebuilt answers: whole ones, and streams cut into the runs that each write sends.

use super::conversation::Counts;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of one answer, head included, and where its writes end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Ends of the runs that are sent apart when paced; the last is the length. `cuts: [end; content events + 1]`.
    pub(super) cuts: Vec<usize>,
}

impl Answer {
    fn whole(status: &str, content_type: &str, body: &str) -> Rc<Self> {
        let bytes = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
        Rc::new(Self { cuts: vec![bytes.len()], bytes })
    }
}

/// The answers of one thread. Not shared: a loop owns its own.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) events: u32,
    pub(super) pace_ms: u32,
    model: String,
    chat: Option<Rc<Answer>>,
    embedding: Option<Rc<Answer>>,
    models: Option<Rc<Answer>>,
    /// By number of events, and whether there is a usage chunk.
    streams: HashMap<(u32, bool), Rc<Answer>>,
    counts: Arc<[Counts]>,
    thread: usize,
}

impl Answers {
    pub(super) fn new(model: &str, events: u32, pace_ms: u32, counts: Arc<[Counts]>, thread: usize) -> Self {
        Self {
            events,
            pace_ms,
            model: serde_json::Value::from(model).to_string(),
            chat: None,
            embedding: None,
            models: None,
            streams: HashMap::new(),
            counts,
            thread,
        }
    }

    /// This thread's counts.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts[self.thread]
    }

    pub(super) fn chat(&mut self) -> Rc<Answer> {
        let model = &self.model;
        self.chat
            .get_or_insert_with(|| Answer::whole("200 OK", "application/json", &chat_body(model)))
            .clone()
    }

    pub(super) fn embedding(&mut self) -> Rc<Answer> {
        let body = format!(
            r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[0.5,-0.5,0.5,-0.5]}}],"model":{},"usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#,
            self.model
        );
        self.embedding.get_or_insert_with(|| Answer::whole("200 OK", "application/json", &body)).clone()
    }

    pub(super) fn models(&mut self) -> Rc<Answer> {
        let body = format!(
            r#"{{"object":"list","data":[{{"id":{},"object":"model","created":1700000000,"owned_by":"sim"}}]}}"#,
            self.model
        );
        self.models.get_or_insert_with(|| Answer::whole("200 OK", "application/json", &body)).clone()
    }

    pub(super) fn health(&self) -> Rc<Answer> {
        Answer::whole("200 OK", "text/plain", "")
    }

    pub(super) fn not_found(&self) -> Rc<Answer> {
        let body = r#"{"error":{"message":"unknown path","type":"NotFoundError","param":null,"code":404}}"#;
        Answer::whole("404 Not Found", "application/json", body)
    }

    /// All threads' counts, as JSON.
    pub(super) fn state(&self) -> Rc<Answer> {
        let sum = |field: fn(&Counts) -> u64| self.counts.iter().map(field).sum::<u64>();
        let body = serde_json::json!({
            "received": sum(|c| c.received.load(Ordering::Relaxed)),
            "completed": sum(|c| c.completed.load(Ordering::Relaxed)),
            "aborted": sum(|c| c.aborted.load(Ordering::Relaxed)),
            "streams": sum(|c| c.streams.load(Ordering::Relaxed)),
        });
        Answer::whole("200 OK", "application/json", &body.to_string())
    }

    /// A stream of `events` content events. Kept for the next request unless too many shapes are kept already.
    pub(super) fn stream(&mut self, events: u32, usage: bool) -> Rc<Answer> {
        let events = events.clamp(1, EVENTS_MAX);
        if let Some(answer) = self.streams.get(&(events, usage)) {
            return answer.clone();
        }
        let answer = Rc::new(build_stream(&self.model, events, usage));
        if self.streams.len() < SHAPES_MAX {
            self.streams.insert((events, usage), answer.clone());
        }
        answer
    }
}

/// About 600 bytes, the size at which proxies were compared before.
fn chat_body(model: &str) -> String {
    let body = |text: &str| {
        format!(
            r#"{{"id":"chatcmpl-instant0000000000","object":"chat.completion","created":1700000000,"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":24,"total_tokens":88,"completion_tokens":64,"prompt_tokens_details":{{"cached_tokens":0}}}}}}"#
        )
    };
    let text = words(0, BODY_BYTES.saturating_sub(body("").len()));
    body(&text)
}

fn build_stream(model: &str, events: u32, usage: bool) -> Answer {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
        transfer-encoding: chunked\r\n\r\n"
            .to_vec();
    let start = format!(
        r#"{{"id":"chatcmpl-instant0000000000","object":"chat.completion.chunk","created":1700000000,"model":{model},"choices":"#
    );
    let mut cuts = Vec::with_capacity(events as usize + 1);
    for index in 0..events {
        let role = if index == 0 { r#""role":"assistant","# } else { "" };
        let event = |text: &str| {
            format!(
                r#"data: {start}[{{"index":0,"delta":{{{role}"content":"{text}"}},"logprobs":null,"finish_reason":null}}]}}"#
            ) + "\n\n"
        };
        let text = words(index, EVENT_BYTES.saturating_sub(event("").len()).max(8));
        push_chunk(&mut bytes, &event(&text));
        cuts.push(bytes.len());
    }
    push_chunk(
        &mut bytes,
        &format!(
            "data: {start}[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}]}}\n\n"
        ),
    );
    if usage {
        let total = u64::from(events) + 24;
        let usage = format!(
            r#"{{"prompt_tokens":24,"total_tokens":{total},"completion_tokens":{events},"prompt_tokens_details":{{"cached_tokens":0}}}}"#
        );
        push_chunk(&mut bytes, &format!("data: {start}[],\"usage\":{usage}}}\n\n"));
    }
    push_chunk(&mut bytes, "data: [DONE]\n\n");
    bytes.extend_from_slice(b"0\r\n\r\n");
    cuts.push(bytes.len());
    Answer { bytes, cuts }
}

fn push_chunk(bytes: &mut Vec<u8>, data: &str) {
    bytes.extend_from_slice(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes());
}

/// `size` bytes of text that differs by `index`, so that nothing on the way can take events for repeats.
fn words(index: u32, size: usize) -> String {
    let mut text = format!("w{index} ");
    while text.len() < size {
        text.push_str("ring way ");
    }
    text.truncate(size);
    text
}

const BODY_BYTES: usize = 600;
const EVENT_BYTES: usize = 210;
/// Longest stream, about 20 MB prebuilt.
const EVENTS_MAX: u32 = 100_000;
/// Stream shapes kept prebuilt, by taste.
const SHAPES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_proxies_were_compared_at() {
        assert_eq!(chat_body("\"mock-model\"").len(), 600);
        let answer = build_stream("\"mock-model\"", 64, false);
        let event = answer.cuts[5] - answer.cuts[4] - "d2\r\n\r\n".len();
        assert_eq!((answer.cuts.len(), event), (65, 210));
        assert_ne!(
            answer.bytes[answer.cuts[3]..answer.cuts[4]],
            answer.bytes[answer.cuts[4]..answer.cuts[5]]
        );
    }
}
