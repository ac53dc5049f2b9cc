//! Requests, responses and streams under rules.

use super::super::detect::Detector;
use super::super::patterns::Find;
use super::super::rules::{Action, Finding, Guards, Labels, Rule};
use super::super::stream::{Filter, Passed};
use super::super::whole;
use crate::dialect::texts::Place;
use crate::wire::records::RecordForm;

fn rule(find: Find, places: &[Place], action: Action) -> Rule {
    Rule { name: "r".into(), finds: vec![find], places: places.to_vec(), action, ..Rule::default() }
}

fn masks(detector: Detector) -> Guards {
    let places = [Place::System, Place::Input, Place::Output, Place::Tools];
    Guards::compile(vec![rule(Find::Detector(detector), &places, Action::Mask)]).unwrap()
}

fn chunk(choice: usize, text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":{choice},\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// What a client gets of events that come one by one, and how the stream went.
fn pass(guards: &Guards, events: &[String]) -> (String, Vec<Finding>, Option<usize>) {
    pass_as(RecordForm::Sse, guards, events)
}

fn pass_as(form: RecordForm, guards: &Guards, events: &[String]) -> (String, Vec<Finding>, Option<usize>) {
    let mut filter = Filter::new(form, 1 << 20, Labels::default());
    let (mut got, mut findings) = (Vec::new(), Vec::new());
    for event in events {
        let mut out = Vec::new();
        match filter.events(guards, event.as_bytes(), &mut out, &|_| true, &mut |one| findings.push(one)) {
            Passed::Untouched => got.extend_from_slice(event.as_bytes()),
            Passed::Rewritten => got.append(&mut out),
            Passed::Stopped(rule) => return (String::from_utf8(got).unwrap(), findings, Some(rule)),
        }
    }
    let mut out = Vec::new();
    filter.let_go(guards, true, &mut out, &|_| true, &mut |one| findings.push(one));
    got.append(&mut out);
    (String::from_utf8(got).unwrap(), findings, None)
}

/// The texts of the choices of a stream, read as a client does.
fn texts(stream: &str) -> [String; 2] {
    let mut texts = [String::new(), String::new()];
    for data in
        stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]")
    {
        let event: serde_json::Value =
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        for choice in event["choices"].as_array().unwrap() {
            texts[choice["index"].as_u64().unwrap() as usize]
                .push_str(choice["delta"]["content"].as_str().unwrap_or(""));
        }
    }
    texts
}

#[test]
fn a_match_split_at_every_byte_is_masked_and_nothing_else_changes() {
    let guards = masks(Detector::PaymentCard);
    let text = "My card: 4111 1111 1111 1111, \"gültig\" bis 12/27.";
    let masked = "My card: <CARD_1>, \"gültig\" bis 12/27.";
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
    for at in &boundaries {
        let events = [chunk(0, &text[..*at]), chunk(0, &text[*at..]), FINISH.to_owned()];
        let (got, findings, _) = pass(&guards, &events);
        assert_eq!(texts(&got)[0], masked, "split at {at}");
        assert_eq!(findings.len(), 1);
        assert!(got.ends_with(FINISH));
    }
    let mut single: Vec<String> =
        text.chars().map(|letter| chunk(0, letter.encode_utf8(&mut [0; 4]))).collect();
    single.push(FINISH.to_owned());
    assert_eq!(texts(&pass(&guards, &single).0)[0], masked);
}

#[test]
fn a_stream_without_a_match_is_the_same_to_the_byte() {
    let guards = masks(Detector::PaymentCard);
    let mut events: Vec<String> = ["4111 1111", " is no card; nor is 4", "1", " or \\\"2\n", "5"]
        .iter()
        .map(|text| chunk(0, text))
        .collect();
    events.insert(2, ": comment\n\n".to_owned());
    events.insert(3, chunk(1, "4111"));
    events.push("event: x\r\ndata: not json\r\n\r\n".to_owned());
    events.push(FINISH.to_owned());
    assert_eq!(pass(&guards, &events).0, events.concat());
}

#[test]
fn texts_that_alternate_are_searched_apart_and_stay_in_their_order() {
    let guards = masks(Detector::PaymentCard);
    let events = [
        chunk(0, "a 4111 1111 "),
        chunk(1, "b 5500 0000 "),
        chunk(0, "1111 1111"),
        chunk(1, "0000 0004"),
        chunk(0, " c"),
        chunk(1, " d"),
        FINISH.to_owned(),
    ];
    let (got, findings, _) = pass(&guards, &events);
    assert_eq!(texts(&got), ["a <CARD_1> c".to_owned(), "b <CARD_2> d".to_owned()]);
    assert_eq!(findings.len(), 2);
}

#[test]
fn only_events_behind_a_possible_match_wait() {
    let guards = masks(Detector::PaymentCard);
    let mut filter = Filter::new(RecordForm::Sse, 1 << 20, Labels::default());
    let mut step = |event: &str| {
        let mut out = Vec::new();
        let passed = filter.events(&guards, event.as_bytes(), &mut out, &|_| true, &mut |_| {});
        (passed, String::from_utf8(out).unwrap(), filter.is_holding())
    };
    assert_eq!(step(&chunk(0, "hello")), (Passed::Untouched, String::new(), false));
    assert_eq!(step(&chunk(0, " 41")), (Passed::Rewritten, String::new(), true));
    assert_eq!(step(": ping\n\n"), (Passed::Rewritten, String::new(), true));
    let waiting = chunk(0, " 41") + ": ping\n\n" + &chunk(0, " apples");
    assert_eq!(step(&chunk(0, " apples")), (Passed::Rewritten, waiting, false));
}

#[test]
fn silence_lets_go_and_what_is_complete_is_masked() {
    let guards = masks(Detector::Email);
    let mut filter = Filter::new(RecordForm::Sse, 1 << 20, Labels::default());
    let mut out = Vec::new();
    filter.events(&guards, chunk(0, "to a@b.co").as_bytes(), &mut out, &|_| true, &mut |_| {});
    assert!(out.is_empty() && filter.is_holding());
    filter.let_go(&guards, false, &mut out, &|_| true, &mut |_| {});
    assert_eq!(texts(std::str::from_utf8(&out).unwrap())[0], "to <EMAIL_1>");
    assert!(!filter.is_holding());
}

#[test]
fn a_rule_that_stops_ends_the_stream_before_its_match() {
    let words = Find::Phrase("project orion".into());
    let guards = Guards::compile(vec![rule(words, &[Place::Output], Action::Stop)]).unwrap();
    let (got, findings, stopped) =
        pass(&guards, &[chunk(0, "about "), chunk(0, "proj"), chunk(0, "ect Orion!"), FINISH.to_owned()]);
    assert_eq!((texts(&got)[0].as_str(), findings.len(), stopped), ("about ", 1, Some(0)));
}

#[test]
fn the_whole_texts_of_a_responses_stream_are_masked_too() {
    let guards = masks(Detector::PaymentCard);
    let card = "4111111111111111";
    let events = [
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"{}\"}}\n\n",
            &card[..9]
        ),
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"{}\"}}\n\n",
            &card[9..]
        ),
        format!(
            "event: response.output_text.done\ndata: {{\"type\":\"response.output_text.done\",\"output_index\":0,\"content_index\":0,\"text\":\"{card}\"}}\n\n"
        ),
        format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"{card}\",\"output\":[{{\"type\":\"message\",\"content\":[{{\"type\":\"output_text\",\"text\":\"{card}\"}}]}}]}}}}\n\n"
        ),
    ];
    let (got, findings, _) = pass(&guards, &events);
    assert_eq!(got.matches("<CARD_1>").count(), 3, "{got}");
    assert_eq!(got.matches(card).count(), 1, "an identifier is not a text: {got}");
    assert_eq!(findings.len(), 3);
}

#[test]
fn a_shadow_rule_and_one_for_others_change_nothing() {
    let mut shadow = rule(Find::Detector(Detector::PaymentCard), &[Place::Output], Action::Stop);
    shadow.is_shadow = true;
    let guards = Guards::compile(vec![shadow]).unwrap();
    let events = [chunk(0, "4111111111111111"), FINISH.to_owned()];
    let (got, findings, stopped) = pass(&guards, &events);
    assert_eq!((got, findings.len(), stopped), (events.concat(), 1, None));
    let mut filter = Filter::new(RecordForm::Sse, 1 << 20, Labels::default());
    let mut out = Vec::new();
    filter.events(&masks(Detector::PaymentCard), events[0].as_bytes(), &mut out, &|_| false, &mut |one| {
        panic!("{one:?}")
    });
}

#[test]
fn data_in_several_lines_are_one_text() {
    let guards = masks(Detector::PaymentCard);
    let event = "event: m\ndata: {\"choices\":[{\"index\":0,\"delta\":\ndata: {\"content\":\"4111111111111111 \"}}]}\n\n";
    let (got, ..) = pass(&guards, &[event.to_owned()]);
    assert!(got.starts_with("event: m\ndata: {") && got.contains("<CARD_1> "), "{got}");
}

#[test]
fn requests_are_masked_in_place_with_one_label_for_one_text() {
    let guards = masks(Detector::Email);
    let body = br#"{"model":"m", "messages":[{"role":"user","content":"\u0061@b.example and b@b.example, a@b.example\n"}], "user":"a@b.example"}"#;
    let checked = whole::request(&guards, body, &mut Labels::default(), &|_| true);
    assert_eq!(
        String::from_utf8(checked.edited(body)).unwrap(),
        r#"{"model":"m", "messages":[{"role":"user","content":"<EMAIL_1> and <EMAIL_2>, <EMAIL_1>\n"}], "user":"a@b.example"}"#
    );
    assert_eq!((checked.findings.len(), checked.decides), (3, None));
}

#[test]
fn the_first_rule_in_precedence_decides() {
    let route = rule(Find::Phrase("cheap".into()), &[Place::Input], Action::Route("small".into()));
    let refuse = rule(Find::Phrase("orion".into()), &[Place::Input], Action::Refuse);
    let guards = Guards::compile(vec![route, refuse]).unwrap();
    let decides = |text: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        whole::request(&guards, body.as_bytes(), &mut Labels::default(), &|_| true).decides
    };
    assert_eq!(decides("Orion is cheap"), Some(0));
    assert_eq!(decides("Orion"), Some(1));
    assert_eq!(decides("other"), None);
}

#[test]
fn whole_responses_are_masked_where_they_have_text() {
    let guards = masks(Detector::PaymentCard);
    let body = br#"{"id":"4111111111111111","choices":[{"index":0,"message":{"role":"assistant","content":"4111111111111111","tool_calls":[{"id":"c","function":{"name":"pay","arguments":"{\"card\":\"4111111111111111\"}"}}]}}]}"#;
    let checked = whole::response(&guards, body, &mut Labels::default(), &|_| true);
    let text = String::from_utf8(checked.edited(body)).unwrap();
    assert_eq!(text.matches("<CARD_1>").count(), 2, "{text}");
    assert!(text.starts_with(r#"{"id":"4111111111111111""#));
}

#[test]
fn too_much_that_waits_is_let_go_and_counted() {
    let guards = Guards::compile(vec![rule(
        Find::Expression("(?s)begin.*end".into()),
        &[Place::Output],
        Action::Mask,
    )])
    .unwrap();
    let mut filter = Filter::new(RecordForm::Sse, 2_000, Labels::default());
    let mut got = 0;
    let events: Vec<String> =
        (0..40).map(|index| chunk(0, if index == 0 { "begin" } else { " more" })).collect();
    for event in &events {
        let mut out = Vec::new();
        match filter.events(&guards, event.as_bytes(), &mut out, &|_| true, &mut |_| {}) {
            Passed::Untouched => got += event.len(),
            _ => got += out.len(),
        }
    }
    assert!(filter.overflows > 0 && got > 0, "{got}");
}

#[test]
fn a_match_over_several_lines_of_json_is_masked_and_lines_stay_lines() {
    let guards = masks(Detector::PaymentCard);
    let text = "My card: 4111 1111 1111 1111, until 12/27.";
    let line = |text: &str, done: bool| {
        format!("{{\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"done\":{done}}}\n")
    };
    for cut in 1..text.len() {
        let (first, second) = text.split_at(cut);
        let lines = [line(first, false), line(second, false), line("", true)];
        let (got, findings, _) = pass_as(RecordForm::Ndjson, &guards, &lines);
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect(line);
        let said: String =
            got.lines().map(|line| read(line)["message"]["content"].as_str().unwrap().to_owned()).collect();
        assert_eq!(
            (said.as_str(), findings.len()),
            ("My card: <CARD_1>, until 12/27.", 1),
            "cut at {cut}: {got}"
        );
        assert_eq!(got.lines().count(), 3, "cut at {cut}: {got}");
    }
}

#[test]
fn of_two_rules_that_clamp_one_parameter_the_tighter_counts() {
    use super::super::shape::Shape;
    let clamp = |most: f64, action: Action| Rule {
        shape: Some(Shape { clamp: vec![("max_tokens".into(), most)], ..Shape::default() }),
        ..rule(Find::Phrase("never".into()), &[Place::Input], action)
    };
    let body = br#"{"max_tokens":9000,"messages":[{"role":"user","content":"hi"}]}"#;
    for most in [[100.0, 50.0, 70.0], [50.0, 100.0, 50.0], [70.0, 100.0, 50.0]] {
        let mut rules: Vec<Rule> = most.into_iter().map(|most| clamp(most, Action::Refuse)).collect();
        rules.push(clamp(1.0, Action::Log));
        let guards = Guards::compile(rules).unwrap();
        let checked = whole::request(&guards, body, &mut Labels::default(), &|_| true);
        let edited = String::from_utf8(checked.edited(body)).unwrap();
        assert_eq!(edited, r#"{"max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#);
    }
    // What a mask has changed inside of it is replaced with it.
    let mask = rule(Find::Expression("[0-9]{4}".into()), &[Place::Input], Action::Mask);
    let suffix = Rule {
        shape: Some(Shape { clamp: vec![("suffix".into(), 5.0)], ..Shape::default() }),
        ..clamp(1.0, Action::Refuse)
    };
    let guards = Guards::compile(vec![mask, suffix]).unwrap();
    let body = br#"{"suffix":"1234 5678"}"#;
    let checked = whole::request(&guards, body, &mut Labels::default(), &|_| true);
    assert_eq!(checked.edited(body), br#"{"suffix":5}"#);
}

#[test]
fn an_escape_inside_the_arguments_of_a_tool_hides_nothing() {
    let guards = masks(Detector::PaymentCard);
    let call = |arguments: &str| {
        format!(
            r#"{{"messages":[{{"role":"assistant","tool_calls":[{{"function":{{"name":"f","arguments":"{arguments}"}}}}]}}]}}"#
        )
    };
    for (arguments, expected) in [
        (
            r#"{\"card\":\"\\u0034111 1111 1111 1111\",\"n\":\"a\\nb\"}"#,
            r#"{\"card\":\"<CARD_1>\",\"n\":\"a\\nb\"}"#,
        ),
        (r#"[\"\\u00344111\",\"4111 1111\\u00201111 1111\"]"#, r#"[\"\\u00344111\",\"<CARD_1>\"]"#),
        (r#"{\"card\":\"4111 1111 1111 1111\"}"#, r#"{\"card\":\"<CARD_1>\"}"#),
        (r"{\\u0034111 1111 1111 1111", r"{\\u0034111 1111 1111 1111"), // is no JSON
    ] {
        let body = call(arguments);
        let checked = whole::request(&guards, body.as_bytes(), &mut Labels::default(), &|_| true);
        assert_eq!(String::from_utf8(checked.edited(body.as_bytes())).unwrap(), call(expected));
    }
}
