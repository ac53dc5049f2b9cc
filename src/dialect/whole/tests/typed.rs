//! The streams with typed events, put together again the way the official SDKs do it: as strict as the strictest.

use super::*;

/// The message that a stream of Messages tells.
fn message(events: &[Json]) -> Json {
    let mut message = Json::Null;
    let (mut open, mut stopped) = (None, false);
    let mut partial_json = String::new();
    for event in events {
        assert!(!stopped, "nothing follows the end");
        match event["type"].as_str().unwrap() {
            "message_start" => {
                assert!(message.is_null());
                message = event["message"].clone();
                assert_eq!(message["content"], json!([]));
                assert_eq!(message["stop_reason"], Json::Null);
                assert_eq!(message["usage"]["output_tokens"], 0);
            }
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!((open, event["index"].as_u64()), (None, Some(content.len() as u64)));
                open = Some(content.len());
                content.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                assert_eq!(event["index"].as_u64(), open.map(|index| index as u64));
                let (block, delta) = (&mut message["content"][open.unwrap()], &event["delta"]);
                let joined = |name: &str| {
                    Json::from([block[name].as_str().unwrap(), delta[name].as_str().unwrap()].concat())
                };
                match (block["type"].as_str().unwrap(), delta["type"].as_str().unwrap()) {
                    ("text", "text_delta") => block["text"] = joined("text"),
                    ("text", "citations_delta") => {
                        block["citations"].as_array_mut().unwrap().push(delta["citation"].clone());
                    }
                    ("thinking", "thinking_delta") => block["thinking"] = joined("thinking"),
                    ("thinking", "signature_delta") => block["signature"] = joined("signature"),
                    ("tool_use" | "server_tool_use", "input_json_delta") => {
                        partial_json.push_str(delta["partial_json"].as_str().unwrap());
                        block["input"] = parsed(&partial_json);
                    }
                    other => panic!("{other:?}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(event["index"].as_u64(), open.take().map(|index| index as u64));
                partial_json.clear();
            }
            "message_delta" => {
                assert_eq!(open, None);
                for (name, value) in event["delta"].as_object().unwrap() {
                    message[name] = value.clone();
                }
                for (name, value) in event["usage"].as_object().unwrap() {
                    message["usage"][name] = value.clone();
                }
                message["context_management"] = event["context_management"].clone();
            }
            "message_stop" => stopped = true,
            other => panic!("{other}"),
        }
    }
    assert!(stopped);
    message
}

/// The response that a stream of Responses tells: the last one, and what the items before it add up to.
fn response(events: &[Json]) -> (Json, Json) {
    let mut snapshot = Json::Null;
    let mut last = Json::Null;
    for (number, event) in events.iter().enumerate() {
        assert!(last.is_null(), "nothing follows the end");
        assert_eq!(event["sequence_number"], number);
        let kind = event["type"].as_str().unwrap();
        assert_eq!(kind == "response.created", number == 0);
        if let Some(response) = event.get("response") {
            match kind {
                "response.created" | "response.in_progress" => snapshot = response.clone(),
                _ => last = response.clone(),
            }
            continue;
        }
        let output = snapshot["output"].as_array_mut().unwrap();
        let index = event["output_index"].as_u64().unwrap() as usize;
        if kind == "response.output_item.added" {
            assert_eq!(index, output.len());
            output.push(event["item"].clone());
            continue;
        }
        let item = &mut output[index];
        if kind == "response.output_item.done" {
            // Parts and arguments alone have told all of it but its status.
            if item.get("status").is_some() {
                item["status"] = event["item"]["status"].clone();
            }
            assert_eq!(*item, event["item"]);
            continue;
        }
        assert_eq!(event["item_id"], item["id"]);
        told_in(item, kind, event);
    }
    (snapshot["output"].take(), last)
}

/// Takes an event about a part or the arguments of `item` into it.
fn told_in(item: &mut Json, kind: &str, event: &Json) {
    let (list, name) = match event.get("summary_index") {
        Some(_) => ("summary", "summary_index"),
        None => ("content", "content_index"),
    };
    let at = event[name].as_u64().unwrap_or_default() as usize;
    let joined =
        |text: &Json| Json::from([text.as_str().unwrap(), event["delta"].as_str().unwrap()].concat());
    match kind {
        "response.content_part.added" | "response.reasoning_summary_part.added" => {
            let parts = item[list].as_array_mut().unwrap();
            assert_eq!(at, parts.len());
            parts.push(event["part"].clone());
        }
        "response.content_part.done" | "response.reasoning_summary_part.done" => {
            let part = &mut item[list][at];
            if part.get("logprobs").is_some() {
                part["logprobs"] = event["part"]["logprobs"].clone();
            }
            assert_eq!(*part, event["part"]);
        }
        "response.output_text.delta"
        | "response.reasoning_text.delta"
        | "response.reasoning_summary_text.delta" => {
            item[list][at]["text"] = joined(&item[list][at]["text"]);
        }
        "response.output_text.done"
        | "response.reasoning_text.done"
        | "response.reasoning_summary_text.done" => {
            assert_eq!(item[list][at]["text"], event["text"]);
        }
        "response.output_text.annotation.added" => {
            let annotations = item[list][at]["annotations"].as_array_mut().unwrap();
            assert_eq!(event["annotation_index"], annotations.len());
            annotations.push(event["annotation"].clone());
        }
        "response.refusal.delta" => item[list][at]["refusal"] = joined(&item[list][at]["refusal"]),
        "response.refusal.done" => assert_eq!(item[list][at]["refusal"], event["refusal"]),
        "response.function_call_arguments.delta" => item["arguments"] = joined(&item["arguments"]),
        "response.function_call_arguments.done" => {
            assert_eq!((&item["arguments"], &item["name"]), (&event["arguments"], &event["name"]));
        }
        "response.custom_tool_call_input.delta" => item["input"] = joined(&item["input"]),
        "response.custom_tool_call_input.done" => assert_eq!(item["input"], event["input"]),
        other => panic!("{other}"),
    }
}

#[test]
fn a_message_adds_up_to_what_it_was() {
    let stream = told(Api::Messages, MESSAGE, false);
    assert_eq!(message(&objects(&stream)), parsed(MESSAGE));
    assert!(stream.starts_with("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{"));
    assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    let input = r#"{\"b\":[1.50, \"é\\n\"],\n        \"a\":null}"#;
    assert!(stream.contains(input), "an input is told letter by letter: {stream}");
    assert_eq!(told(Api::Messages, MESSAGE, true), stream);
}

#[test]
fn a_response_adds_up_to_what_it_was() {
    let stream = told(Api::Responses, RESPONSE, false);
    let (output, last) = response(&objects(&stream));
    assert_eq!(last, parsed(RESPONSE));
    assert_eq!(output, last["output"]);
    let first = &objects(&stream)[0]["response"];
    assert_eq!(
        (&first["status"], &first["output"], &first["usage"]),
        (&json!("in_progress"), &json!([]), &Json::Null)
    );
    assert!(!stream.contains("[DONE]"));
}

#[test]
fn a_response_ends_as_its_status_says() {
    for (status, last) in [
        ("completed", "response.completed"),
        ("incomplete", "response.incomplete"),
        ("failed", "response.failed"),
    ] {
        let body = format!(r#"{{"status":"{status}","output":[],"error":null}}"#);
        let stream = told(Api::Responses, &body, false);
        assert_eq!(objects(&stream).last().unwrap()["type"], last);
        let mut meter = Meter::new(Api::Responses, 1, false);
        meter.events(stream.as_bytes());
        assert_eq!((meter.finished(), meter.errored()), (true, status == "failed"));
        assert_eq!(meter.sequence(), 3);
    }
}

#[test]
fn the_text_of_a_message_without_id_is_told() {
    let body = r#"{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"a"}]},
        {"type":"reasoning","summary":[{"type":"summary_text","text":"b"}]}]}"#;
    let events = objects(&told(Api::Responses, body, false));
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!((&events[4]["item_id"], &events[4]["delta"]), (&json!(""), &json!("a")));
}
