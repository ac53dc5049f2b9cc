//! Whole answers told as streams: well-formed events that say what the answer says and nothing else.

use ringway::dialect::Api;
use ringway::dialect::stream::Meter;
use ringway::dialect::whole::{bytes_max, stream};
use ringway::wire::{json, sse};
use serde_json::Value;

const APIS: [Api; 4] = [Api::Chat, Api::Completions, Api::Responses, Api::Messages];

pub(crate) fn run(data: &[u8]) {
    for api in APIS {
        for include_usage in [true, false] {
            let mut out = b"front".to_vec();
            let told = stream(api, data, include_usage, &mut out);
            let events = out.strip_prefix(b"front").expect("what was there stays");
            match told {
                Err(_) => assert!(events.is_empty(), "what does not fit leaves nothing"),
                Ok(()) => check(api, data, include_usage, events),
            }
        }
    }
    assert!(stream(Api::Embeddings, data, true, &mut Vec::new()).is_err(), "this API has no streams");
}

fn check(api: Api, data: &[u8], include_usage: bool, stream: &[u8]) {
    assert!(json::is_object(data), "only sound answers are told");
    assert_eq!(sse::last_boundary(stream), stream.len(), "the stream ends with an event");
    assert!(stream.len() <= 2 * bytes_max(data.len()));
    let mut values = Vec::new();
    let mut done = 0;
    for event in sse::events(stream).map(|span| span.of(stream)) {
        let said = sse::event(event);
        assert_eq!(said.data_lines, 1);
        let text = said.data.expect("one line of data");
        assert_eq!(done, 0, "[DONE] is the last");
        if sse::is_done(event) {
            done += 1;
            continue;
        }
        assert!(json::is_object(text), "{}", text.escape_ascii());
        if let Some(value) = super::value(text) {
            let name = said.name.map(|name| String::from_utf8_lossy(name).into_owned());
            assert!(name.is_none() || value["type"].as_str() == name.as_deref(), "an event is of its type");
            values.push(value);
        }
    }
    assert_eq!(done == 1, matches!(api, Api::Chat | Api::Completions));

    // What a reader of whole values reads, it must find told; what it does not read is judged by its form only.
    let Some(body) = super::value(data) else { return };
    let count = sse::events(stream).count() - done;
    assert_eq!(values.len(), count, "a sound answer makes sound events");
    match api {
        Api::Chat | Api::Completions => choices(api, &body, include_usage, stream, &values),
        Api::Messages => message(&body, &values),
        _ => response(&body, &values),
    }
}

fn choices(api: Api, body: &Value, include_usage: bool, stream: &[u8], values: &[Value]) {
    let asked = body["choices"].as_array().expect("a stream has choices");
    let index = |choice: &Value, position: usize| {
        let index = &choice["index"];
        // Another spelling of a number is no index.
        index.as_u64().unwrap_or(position as u64)
    };
    let mut expected: Vec<(u64, &Value)> =
        asked.iter().enumerate().map(|(position, choice)| (index(choice, position), choice)).collect();
    expected.sort_by_key(|(index, _)| *index);
    let chunks: Vec<&Value> =
        values.iter().filter(|value| value["choices"] != Value::Array(Vec::new())).collect();
    assert_eq!(chunks.len(), 2 * expected.len(), "two chunks for each choice");
    for ((index, choice), pair) in expected.iter().zip(chunks.chunks(2)) {
        let [said, ended] = [&pair[0]["choices"][0], &pair[1]["choices"][0]];
        assert_eq!((said["index"].as_u64(), ended["index"].as_u64()), (Some(*index), Some(*index)));
        assert_eq!(said["finish_reason"], Value::Null, "no end before the end");
        assert_eq!(ended["finish_reason"], choice["finish_reason"], "no reason is made up or lost");
        if api == Api::Completions {
            assert_eq!(said["text"], choice["text"]);
            continue;
        }
        let message = choice["message"].as_object().expect("a choice has a message");
        for (name, value) in message {
            let told = &said["delta"][name];
            match value.as_array().filter(|_| name == "tool_calls") {
                None => assert_eq!(told, value),
                Some(calls) => calls.iter().enumerate().for_each(|(position, call)| {
                    let told = &told[position];
                    assert_eq!(told["index"].as_u64(), Some(position as u64));
                    let others = call.as_object().expect("a call is an object").iter();
                    others
                        .filter(|(name, _)| *name != "index")
                        .for_each(|(name, value)| assert_eq!(&told[name], value));
                }),
            }
        }
        assert_eq!(said["delta"].as_object().map(|delta| delta.len()), Some(message.len()));
    }
    let usages: Vec<&Value> = values.iter().filter_map(|value| value.get("usage")).collect();
    match body["usage"].is_object() && include_usage {
        true => assert_eq!(usages, [&body["usage"]], "usage once, as it was"),
        false => assert!(usages.is_empty(), "no usage is made up"),
    }

    // The meter takes it for ended exactly if the answer gave reasons; words deeper inside may count as well.
    let reasons = |choice: &&Value| choice["finish_reason"].as_str().is_some_and(|reason| !reason.is_empty());
    let given = asked.iter().filter(reasons).count();
    let mut meter = Meter::new(api, asked.len() as u64, false);
    meter.events(stream);
    assert!(meter.finished() || given < asked.len(), "an answer that ended is told as ended");
    assert!(meter.done());
}

fn message(body: &Value, values: &[Value]) {
    let of_type = |name: &str| values.iter().filter(move |value| value["type"] == name).collect::<Vec<_>>();
    let content = body["content"].as_array().expect("a message has content");
    let [starts, stops] = [of_type("content_block_start"), of_type("content_block_stop")];
    assert_eq!((starts.len(), stops.len()), (content.len(), content.len()));
    let begin = &values[0]["message"];
    assert_eq!(
        (values[0]["type"].as_str(), &begin["content"]),
        (Some("message_start"), &Value::Array(Vec::new()))
    );
    assert!(begin["stop_reason"].is_null(), "no end before the end");
    let delta = of_type("message_delta");
    assert_eq!(delta.len(), 1);
    assert_eq!(delta[0]["delta"]["stop_reason"], body["stop_reason"], "no reason is made up or lost");
    assert_eq!(delta[0]["usage"], body["usage"]);
    assert_eq!(values.last().and_then(|value| value["type"].as_str()), Some("message_stop"));
    for (index, block) in content.iter().enumerate() {
        let told = |kind: &str, name: &str| -> String {
            let deltas = of_type("content_block_delta").into_iter();
            let deltas = deltas.filter(|value| value["index"].as_u64() == Some(index as u64));
            let deltas = deltas.filter(|value| value["delta"]["type"] == kind);
            deltas.map(|value| value["delta"][name].as_str().expect("a piece is text")).collect()
        };
        if let ("text", Some(text)) = (block["type"].as_str().unwrap_or(""), block["text"].as_str()) {
            assert_eq!(told("text_delta", "text"), text);
        }
        let parts = told("input_json_delta", "partial_json");
        if !parts.is_empty() {
            assert_eq!(super::value(parts.as_bytes()).as_ref(), Some(&block["input"]));
        }
    }
}

fn response(body: &Value, values: &[Value]) {
    for (number, value) in values.iter().enumerate() {
        assert_eq!(value["sequence_number"].as_u64(), Some(number as u64), "numbers grow by one");
    }
    let last = values.last().expect("a response has events");
    assert_eq!(&last["response"], body, "the last event has all of it");
    let status = body["status"].as_str().expect("a response has a status");
    assert_eq!(last["type"].as_str(), Some(&*format!("response.{status}")), "no other end is told");
    let ends = ["response.completed", "response.incomplete", "response.failed"];
    let count = values.iter().filter(|value| ends.contains(&value["type"].as_str().unwrap_or(""))).count();
    assert_eq!(count, 1, "one end");
    let items = body["output"].as_array().expect("a response has output");
    let done = values.iter().filter(|value| value["type"] == "response.output_item.done");
    assert!(done.map(|value| &value["item"]).eq(items), "every item is told as it is");
}
