//! Server-sent events for scripts, and a reader of what reached the client.

use serde_json::Value;

/// One content chunk, as an event.
pub fn content(text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The chunk that carries the finish reason, as an event.
pub fn finish() -> String {
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".to_owned()
}

/// The chunk that carries usage and no choice, as an event.
pub fn usage(prompt: u64, completion: u64) -> String {
    let total = prompt + completion;
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}}}}}\n\n"
    )
}

/// The last event.
pub const DONE: &str = "data: [DONE]\n\n";

/// A whole stream without usage: `count` chunks that say `text` and a number, the finish reason, the end.
pub fn stream_of(text: &str, count: usize) -> Vec<String> {
    let mut events: Vec<String> = (0..count).map(|index| content(&format!("{text}-{index} "))).collect();
    events.push(finish());
    events.push(DONE.to_owned());
    events
}

/// The data of all whole events, strictly: LF lines, a blank line after each, nothing but `data`, `event` and comments.
pub fn read(text: &str) -> Result<Vec<String>, String> {
    let mut events = Vec::new();
    let whole =
        text.strip_suffix("\n\n").or(text.is_empty().then_some("")).ok_or("half an event at the end")?;
    for event in whole.split("\n\n").filter(|event| !event.is_empty()) {
        let mut data = Vec::new();
        for line in event.split('\n') {
            match line.strip_prefix("data:") {
                Some(rest) => data.push(rest.strip_prefix(' ').unwrap_or(rest)),
                None if line.starts_with(':') || line.starts_with("event:") => {}
                None => return Err(format!("line {line:?}")),
            }
        }
        if !data.is_empty() {
            events.push(data.join("\n"));
        }
    }
    Ok(events)
}

/// How a stream of chunks ended, as a client sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// A finish reason and `[DONE]`, nothing after it.
    Finished,
    /// An error record with this code as the last event, no `[DONE]`.
    Failed(String),
    /// Neither.
    Cut,
}

/// Text and ending of a stream of chat chunks.
pub fn judge(body: &str) -> (String, Ending) {
    let whole = body.rfind("\n\n").map_or("", |at| &body[..at + 2]);
    let events = read(whole).expect("events that a client can read");
    let mut text = String::new();
    let mut finished = false;
    for (index, event) in events.iter().enumerate() {
        let last = index + 1 == events.len();
        if event == "[DONE]" {
            assert!(last, "events after [DONE] in {body}");
            let ending = if finished && whole == body { Ending::Finished } else { Ending::Cut };
            return (text, ending);
        }
        let json: Value = serde_json::from_str(event).expect("JSON in an event");
        if !json["error"].is_null() {
            assert!(last, "events after an error in {body}");
            let code = json["error"]["code"].as_str().unwrap_or("").to_owned();
            return (text, Ending::Failed(code));
        }
        for choice in json["choices"].as_array().into_iter().flatten() {
            text.push_str(choice["delta"]["content"].as_str().unwrap_or(""));
            finished |= choice["finish_reason"].is_string();
        }
    }
    (text, Ending::Cut)
}
