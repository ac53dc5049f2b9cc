//! Responses of backends.

use super::*;

fn body(text: &str) -> Result<Told, &'static str> {
    let mut told = Told::default();
    decode::body(&context(), text.as_bytes(), &mut |event| told.note(&event)).map_err(|unfit| unfit.0)?;
    Ok(told)
}

#[test]
fn a_stream_is_thoughts_text_and_calls_in_their_order() {
    let told = lines(STREAM);
    assert_eq!(
        told.parts,
        ["thinking:Let me see", r#"text:Hi \"é\"\n"#, r#"c1=ls{\"at\":\"a\\\\b\"}"#, "call_00c0ffee3=pwd{}",]
    );
    assert_eq!(
        (told.finish, told.usage, told.is_whole),
        (Some(FinishReason::ToolCalls), Some((26, 9)), true)
    );
}

#[test]
fn a_whole_response_says_what_its_stream_says() {
    let told = body(
        r#"{"model":"m","message":{"role":"assistant","content":"Hi","thinking":"T","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},
        "done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":4,"total_duration":5}"#,
    )
    .unwrap();
    assert_eq!(told.parts, ["thinking:T", "text:Hi", r#"call_00c0ffee2=f{\"a\":1}"#]);
    assert_eq!((told.finish, told.usage), (Some(FinishReason::Length), Some((3, 4))));
}

#[test]
fn generate_has_its_text_in_other_members() {
    let stream = concat!(
        r#"{"model":"m","response":"","thinking":"T","done":false}"#,
        "\n",
        r#"{"model":"m","response":"a","done":false}"#,
        "\n",
        r#"{"model":"m","response":"b","done":true,"done_reason":"stop","context":[1,2],"eval_count":2}"#,
    );
    let told = lines(stream);
    assert_eq!(told.parts, ["thinking:T", "text:ab"]);
    assert_eq!((told.finish, told.usage), (Some(FinishReason::Stop), Some((0, 2))));
}

#[test]
fn a_stream_without_done_was_cut() {
    for cut in 1..6 {
        let part: String = STREAM.split_inclusive('\n').take(cut).collect();
        let told = lines(&part);
        assert_eq!((told.finish, told.is_whole), (None, cut == 6), "{cut} lines");
    }
}

#[test]
fn arguments_of_every_spelling_are_the_text_of_an_object() {
    for (arguments, expected) in [
        (r#""arguments":{"a":1}"#, r#"{\"a\":1}"#),
        (r#""arguments":"{\"a\":1}""#, r#"{\"a\":1}"#),
        (r#""arguments":{}"#, "{}"),
        (r#""arguments":null"#, ""),
        (r#""x":1"#, ""),
    ] {
        let stream = format!(
            r#"{{"message":{{"tool_calls":[{{"function":{{"name":"f",{arguments}}}}}]}},"done":true}}"#
        );
        assert_eq!(lines(&stream).parts, [format!("call_00c0ffee0=f{expected}")], "{arguments}");
    }
}

#[test]
fn calls_without_ids_get_distinct_ones() {
    let call = r#"{"function":{"name":"f","arguments":{}}}"#;
    let line = format!(r#"{{"message":{{"tool_calls":[{call},{call}]}},"done":false}}"#);
    let told = lines(&format!("{line}\n{line}\n{{\"done\":true}}"));
    assert_eq!(told.parts.len(), 4);
    assert!(told.parts.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", told.parts);
}

#[test]
fn an_error_in_the_middle_is_a_fault_and_no_end() {
    for error in [r#"{"error":"out of memory"}"#, r#"{"error":{"message":"out of memory"}}"#] {
        let told = lines(&format!(
            "{{\"message\":{{\"content\":\"a\"}},\"done\":false}}\n{error}\n{{\"done\":true}}"
        ));
        assert_eq!((told.fault.as_deref(), told.is_whole, told.finish), (Some("out of memory"), false, None));
    }
    assert_eq!(lines(r#"{"error":null,"message":{"content":"a"},"done":true}"#).fault, None);
}

#[test]
fn what_is_no_response_is_not_taken_for_one() {
    for text in [
        "",
        "[]",
        "<html>",
        r#"{"error":"x"}"#,
        r#"{"choices":[{"message":{"content":"a"}}]}"#,
        r#"{"message":{"content":"a"},"done":false}"#,
        r#"{"message":{"content":"a"}}"#,
    ] {
        assert!(body(text).is_err(), "{text}");
    }
}

#[test]
fn a_fault_has_the_backends_words() {
    for (text, words) in [
        (r#"{"error":"model \"x\" not found"}"#, "model \"x\" not found"),
        (r#"{"error":{"message":"x"}}"#, "x"),
        (r#"{"detail":"x"}"#, "x"),
        ("<html>", ""),
        ("", ""),
    ] {
        let record = decode::fault(404, text.as_bytes());
        assert_eq!((record.message.to_plain().as_deref(), record.status), (Some(words), Some(404)), "{text}");
    }
}

#[test]
fn the_members_may_stand_in_any_order_and_others_have_no_effect() {
    let told = lines(
        r#"{"eval_count":2,"done":true,"x":[{"done":false}],"message":{"x":1,"content":"a","role":"assistant","images":null},"prompt_eval_count":1}"#,
    );
    assert_eq!((told.parts, told.usage), (vec!["text:a".to_owned()], Some((1, 2))));
}

#[test]
fn a_stream_that_nobody_asked_for_is_a_body() {
    let told = body(STREAM).unwrap();
    assert_eq!((told.parts.len(), told.usage, told.is_whole), (4, Some((26, 9)), true));
    let cut: String = STREAM.split_inclusive('\n').take(3).collect();
    assert!(body(&cut).is_err());
    assert!(body(&format!("{cut}{{\"error\":\"x\"}}\n")).is_err());
    let spread = "{\n \"message\": {\"content\": \"a\"},\n \"done\": true\n}";
    assert_eq!(body(spread).unwrap().parts, ["text:a"], "one object over several lines");
}
