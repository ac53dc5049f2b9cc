use super::*;

fn peeked(api: Api, body: &str) -> Peek {
    peek(api, body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

fn fault(body: &str) -> String {
    let fault = peek(Api::Chat, body.as_bytes()).expect_err(body);
    assert_eq!(fault.kind, FaultKind::BodyMalformed, "{body}");
    fault.note.into_owned()
}

fn edited(api: Api, body: &str, model_json: Option<&str>, takes_stream_options: bool) -> String {
    let peek = peeked(api, body);
    let edits = peek.edits(model_json.map(str::as_bytes), None, takes_stream_options);
    let mut out = Vec::new();
    json::splice(&mut out, body.as_bytes(), edits.as_slice());
    assert_eq!(out.len(), edits.length(body.len()));
    assert_eq!(edits.asks_usage, edits.as_slice().len() > usize::from(model_json.is_some()));
    String::from_utf8(out).unwrap()
}

#[test]
fn what_routes_and_bills_is_found() {
    let body = r#" {"messages":[{"model":"no","n":7}],"model":"a\/b:c","stream":true,"n":3,"max_tokens":5,
        "max_completion_tokens":9,"stream_options":{"include_usage":true},"max_output_tokens":7} "#;
    let chat = peeked(Api::Chat, body);
    assert_eq!(chat.model_name(body.as_bytes()), "a/b:c");
    assert_eq!(chat.model.of(body.as_bytes()), br#""a\/b:c""#);
    assert!(chat.stream && chat.usage_asked);
    assert_eq!((chat.choices, chat.generations, chat.output_cap), (3, 3, Some(9)));
    assert_eq!(&body[chat.object_end..], "} ");
    assert_eq!(peeked(Api::Completions, body).output_cap, Some(5));
    assert_eq!(peeked(Api::Messages, body).output_cap, Some(5));
    assert_eq!(peeked(Api::Responses, body).output_cap, Some(7));
    assert_eq!(peeked(Api::Embeddings, body).output_cap, Some(0));
}

#[test]
fn null_and_absent_are_the_same() {
    for body in [
        r#"{"model":"m"}"#,
        r#"{"model":"m","stream":null,"n":null,"max_tokens":null,"best_of":null,"stream_options":null}"#,
        r#"{"model":"m","stream":false,"n":1,"stream_options":{"include_usage":null}}"#,
    ] {
        let peek = peeked(Api::Chat, body);
        assert!(!peek.stream && !peek.usage_asked);
        assert_eq!((peek.choices, peek.generations, peek.output_cap), (1, 1, None));
    }
    assert_eq!(peeked(Api::Completions, r#"{"model":"m","n":2,"best_of":5}"#).generations, 5);
    assert_eq!(peeked(Api::Messages, r#"{"model":"m","max_tokens":0}"#).output_cap, Some(0));
    assert_eq!(
        peeked(Api::Chat, r#"{"model":"m","max_tokens":4294967295}"#).output_cap,
        Some(u32::MAX.into())
    );
}

#[test]
fn a_cap_that_no_backend_need_obey_bounds_nothing() {
    let named = |api, body: &str| peek_named(api, body.as_bytes()).unwrap().output_bound();
    let plain = |api, body: &str| peeked(api, body).output_bound();
    for body in [
        r#"{"model":"m","max_tokens":0}"#,
        r#"{"model":"m","max_tokens":5,"max_completion_tokens":0}"#,
        r#"{"model":"m","max_tokens":0,"max_completion_tokens":5}"#,
    ] {
        assert_eq!(plain(Api::Chat, body), None, "{body}");
    }
    assert_eq!(plain(Api::Completions, r#"{"model":"m","max_tokens":0}"#), None);
    assert_eq!(plain(Api::Messages, r#"{"model":"m","max_tokens":0}"#), None);
    assert_eq!(plain(Api::Responses, r#"{"model":"m","max_output_tokens":0}"#), None);
    assert_eq!(plain(Api::Embeddings, r#"{"model":"m","max_tokens":0}"#), Some(0), "it has no output");
    for value in ["0", "-0", "-1", "-2", "0.0", "7.5", "\"7\"", "null", "[7]", "{}"] {
        let body = format!(r#"{{"model":"m","options":{{"num_predict":{value}}}}}"#);
        assert_eq!(plain(Api::OllamaChat, &body), None, "{body}");
    }
    for config in [r#""generationConfig""#, r#""generation_config""#] {
        let body = format!(r#"{{"contents":[],{config}:{{"maxOutputTokens":0}}}}"#);
        assert_eq!(named(Api::GenerateContent, &body), None, "{body}");
        for value in ["-1", "7.5", "\"7\"", "[]"] {
            let body = format!(r#"{{"contents":[],{config}:{{"maxOutputTokens":{value}}}}}"#);
            assert!(peek_named(Api::GenerateContent, body.as_bytes()).is_err(), "{body}");
        }
    }
    for (body, note) in [
        (
            r#"{"generationConfig":{"maxOutputTokens":1},"generation_config":{}}"#,
            "'generationConfig' is given twice",
        ),
        (
            r#"{"generationConfig":{"maxOutputTokens":9,"max_output_tokens":1}}"#,
            "'maxOutputTokens' is given twice",
        ),
    ] {
        assert_eq!(peek_named(Api::GenerateContent, body.as_bytes()).expect_err(body).note, note);
    }
}

#[test]
fn a_member_that_two_readers_may_read_differently_is_refused_by_name() {
    let cases = [
        (r#"{"model":"cheap","model":"dear"}"#, "'model' is given twice"),
        (r#"{"model":"m","mod\u0065l":"m"}"#, "'model' is given twice"),
        (r#"{"model":"cheap","Model":"dear"}"#, "'model' is written in another case"),
        (r#"{"MODEL":"m"}"#, "'model' is written in another case"),
        (r#"{"model":"m","\u004dodel":"x"}"#, "'model' is written in another case"),
        ("{\"model\":\"m\",\"\u{17f}tream\":true}", "'stream' is written in another case"),
        ("{\"model\":\"m\",\"max_to\u{212a}ens\":1}", "'max_tokens' is written in another case"),
        (r#"{"model":"m","max_tokens":1,"max_tokens":1}"#, "'max_tokens' is given twice"),
        (r#"{"model":"m","max_tokens":null,"max_tokens":1}"#, "'max_tokens' is given twice"),
        (r#"{"model":"m","stream":true,"stream":false}"#, "'stream' is given twice"),
        (r#"{"model":"m","n":1,"n":2}"#, "'n' is given twice"),
        (r#"{"model":"m","n":1,"N":2}"#, "'n' is written in another case"),
        (
            r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#,
            "'include_usage' is given twice",
        ),
        (
            r#"{"model":"m","stream_options":{"Include_usage":true}}"#,
            "'include_usage' is written in another case",
        ),
    ];
    for (body, note) in cases {
        assert_eq!(fault(body), note, "{body}");
    }
}

#[test]
fn ollama_streams_by_default_and_has_its_bound_among_options() {
    for (body, stream, cap) in [
        (r#"{"model":"m"}"#, true, None),
        (r#"{"model":"m","stream":null}"#, true, None),
        (
            r#"{"model":"m","stream":false,"options":{"num_predict":7,"stop":["num_predict"]}}"#,
            false,
            Some(7),
        ),
        (r#"{"model":"m","options":{"num_predict":-1}}"#, true, None),
        (r#"{"model":"m","options":[]}"#, true, None),
    ] {
        let peek = peek(Api::OllamaChat, body.as_bytes()).unwrap();
        assert_eq!((peek.stream, peek.output_cap), (stream, cap), "{body}");
    }
    assert!(!peek(Api::OllamaEmbed, br#"{"model":"m"}"#).unwrap().stream);
}

#[test]
fn every_member_that_counts_has_one_spelling_and_one_place() {
    for name in NAMES {
        let value = match name {
            "model" => r#""m""#,
            "encoding_format" => r#""float""#,
            "stream_options" => "{}",
            "stream" => "true",
            _ => "1",
        };
        let api = match name {
            "previous_response_id" => Api::Responses,
            "options" => Api::OllamaChat,
            _ => Api::Embeddings,
        };
        let own = format!(r#""{name}":{value}"#);
        let start = if name == "model" { own.clone() } else { format!(r#""model":"m",{own}"#) };
        let capital = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        let refused = |body: &str| peek(api, body.as_bytes()).expect_err(body).note.into_owned();
        assert!(peek(api, format!("{{{start}}}").as_bytes()).is_ok(), "{name}");
        for again in [name, &escaped] {
            let note = refused(&format!(r#"{{{start},"x":0,"{again}":{value}}}"#));
            assert_eq!(note, format!("'{name}' is given twice"));
        }
        for other in [name.to_uppercase(), capital] {
            let note = format!("'{name}' is written in another case");
            assert_eq!(refused(&format!(r#"{{{start},"{other}":{value}}}"#)), note);
            assert_eq!(refused(&format!(r#"{{"model":"m","{other}":{value}}}"#)), note, "alone");
        }
    }
}

#[test]
fn wrong_types_and_ranges_are_refused() {
    for value in [
        "-1",
        "1e999",
        "9223372036854775808",
        "4294967296",
        "1.5",
        "\"10\"",
        "1e3",
        "10.0",
        "true",
        "[]",
        "{}",
    ] {
        for name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            let note = fault(&format!(r#"{{"model":"m","{name}":{value}}}"#));
            assert_eq!(note, format!("'{name}' has to be a whole number from 0 to 4294967295"), "{value}");
        }
    }
    for value in ["0", "129", "1000000", "-1", "1.0", "\"1\""] {
        for name in ["n", "best_of"] {
            let note = fault(&format!(r#"{{"model":"m","{name}":{value}}}"#));
            assert_eq!(note, format!("'{name}' has to be a whole number from 1 to 128"), "{value}");
        }
    }
    for value in ["1", "\"true\"", "[]", "{}"] {
        assert_eq!(
            fault(&format!(r#"{{"model":"m","stream":{value}}}"#)),
            "'stream' has to be true or false"
        );
        let body = format!(r#"{{"model":"m","stream_options":{{"include_usage":{value}}}}}"#);
        assert_eq!(fault(&body), "'include_usage' has to be true or false");
    }
    for value in ["1", "\"x\"", "[]", "true"] {
        let note = fault(&format!(r#"{{"model":"m","stream_options":{value}}}"#));
        assert_eq!(note, "'stream_options' has to be an object");
    }
}

#[test]
fn no_model_or_no_object_is_refused() {
    assert_eq!(fault("{}"), "'model' is missing");
    assert_eq!(fault(r#"{"model":null}"#), "'model' is missing");
    for value in ["7", "\"\"", "[\"m\"]", r#""\ud83d""#, "true"] {
        assert_eq!(fault(&format!(r#"{{"model":{value}}}"#)), "'model' has to be a non-empty string");
    }
    for body in [
        "",
        " ",
        "[]",
        "\"m\"",
        "null",
        r#"{"model":"m""#,
        r#"{"model":"m"}}"#,
        r#"{"model":"m",}"#,
        "{'model':1}",
    ] {
        assert!(fault(body).starts_with("invalid JSON at byte "), "{body}");
    }
}

#[test]
fn unknown_members_survive_byte_for_byte() {
    let body = concat!(
        r#"{ "temperature" : 1.0e0, "x":12345678901234567890, "x":1,"é":"\u00e9\ud83d", "#,
        r#""model" : "public" ,"top_k":5,"chat_template_kwargs":{"a":[1, 2]}}"#
    );
    assert_eq!(
        edited(Api::Chat, body, Some(r#""org/real""#), true),
        body.replace(r#""public""#, r#""org/real""#)
    );
    assert_eq!(edited(Api::Chat, body, None, true), body);
}

#[test]
fn usage_is_asked_for_where_a_stream_would_not_report_it() {
    let cases = [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            "{\"stream\":true,\"model\":\"m\"\n}\n",
            "{\"stream\":true,\"model\":\"m\"\n,\"stream_options\":{\"include_usage\":true}}\n",
        ),
        (
            r#"{"stream_options":null,"stream":true,"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"model":"m"}"#,
        ),
        (
            r#"{"stream_options":{ },"stream":true,"model":"m"}"#,
            r#"{"stream_options":{ "include_usage":true},"stream":true,"model":"m"}"#,
        ),
        (
            r#"{"stream_options":{"a":{}},"stream":true,"model":"m"}"#,
            r#"{"stream_options":{"a":{},"include_usage":true},"stream":true,"model":"m"}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage": false ,"a":1}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage": true ,"a":1}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":null}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ];
    for (body, expected) in cases {
        for api in [Api::Chat, Api::Completions] {
            assert_eq!(edited(api, body, None, true), expected);
            assert_eq!(edited(api, body, Some("\"x\""), true), expected.replace("\"m\"", "\"x\""));
        }
    }
}

#[test]
fn usage_is_not_asked_for_where_it_comes_anyway_or_is_rejected() {
    let streaming = r#"{"model":"m","stream":true}"#;
    for api in [Api::Responses, Api::Messages, Api::Embeddings, Api::Rerank, Api::CountTokens] {
        assert_eq!(edited(api, streaming, None, true), streaming);
    }
    for body in [
        r#"{"model":"m"}"#,
        r#"{"model":"m","stream":false,"stream_options":{"include_usage":false}}"#,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
    ] {
        assert_eq!(edited(Api::Chat, body, None, true), body);
    }
    assert_eq!(edited(Api::Chat, streaming, None, false), streaming);
}

#[test]
fn base64_is_seen_where_vectors_are_asked_for() {
    for (encoding, asked) in [
        (r#""base64""#, true),
        (r#""base6\u0034""#, true),
        (r#""float""#, false),
        (r#""BASE64""#, false),
        ("null", false),
        ("64", false),
        (r#"["base64"]"#, false),
    ] {
        let body = format!(r#"{{"model":"m","input":["encoding_format"],"encoding_format":{encoding}}}"#);
        assert_eq!(peeked(Api::Embeddings, &body).base64, asked, "{body}");
        assert!(!peeked(Api::Chat, &body).base64, "{body}");
    }
    assert!(!peeked(Api::Embeddings, r#"{"model":"m"}"#).base64);

    let twice = r#"{"model":"m","encoding_format":"float","encoding_format":"base64"}"#;
    let fault = peek(Api::Embeddings, twice.as_bytes()).expect_err(twice);
    assert_eq!(fault.note, "'encoding_format' is given twice");
    assert!(!peeked(Api::Chat, twice).base64, "elsewhere it is just a member");
}

#[test]
fn the_response_before_is_found_where_it_can_be_and_replaced() {
    let body = r#"{"previous_response_id":"a\"b", "model":"m"}"#;
    for api in [Api::Responses, Api::ResponsesCompact, Api::ResponsesInputTokens] {
        let peek = peeked(api, body);
        assert_eq!(peek.previous.map(|span| span.of(body.as_bytes())), Some(&br#""a\"b""#[..]));
        let edits = peek.edits(Some(b"\"n\""), Some(b"\"c\""), true);
        let mut out = Vec::new();
        json::splice(&mut out, body.as_bytes(), edits.as_slice());
        assert_eq!(out, br#"{"previous_response_id":"c", "model":"n"}"#);
        assert_eq!(edits.length(body.len()), out.len());
    }
    assert_eq!(peeked(Api::Chat, body).previous, None);
    for value in ["null", "7", "[]", "{}"] {
        let body = format!(r#"{{"model":"m","previous_response_id":{value}}}"#);
        assert_eq!(peeked(Api::Responses, &body).previous, None, "{value}");
    }
}

#[test]
fn a_model_that_the_path_names_is_put_into_the_body() {
    for (body, stream, expected) in [
        (r#"{"messages":[]}"#, "", r#"{"messages":[],"model":"n"}"#),
        (
            r#"{"messages":[],"stream":true}"#,
            r#","stream_options":{"include_usage":true}"#,
            r#"{"messages":[],"stream":true,"model":"n""#,
        ),
        (r#"{"model":"m","messages":[]}"#, "", r#"{"model":"n","messages":[]}"#),
    ] {
        let peek = peek_named(Api::Chat, body.as_bytes()).unwrap();
        let own: &[u8] = if peek.lacks_model() { br#","model":"n""# } else { br#""n""# };
        let edits = peek.edits(Some(own), None, true);
        let mut out = Vec::new();
        json::splice(&mut out, body.as_bytes(), edits.as_slice());
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with(expected) && out.contains(stream), "{out}");
        assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
    }
    assert!(peek_named(Api::Chat, b"{}").is_err());
    assert_eq!(peek(Api::Chat, br#"{"messages":[]}"#).unwrap_err().note, "'model' is missing");
    let by_path = Peek::of_path(Api::ResponseById, b"");
    assert!(!by_path.lacks_model() && by_path.edits(Some(b"\"n\""), None, true).as_slice().is_empty());
}
