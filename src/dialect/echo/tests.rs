use crate::dialect::neutral::{Context, Target};
use crate::dialect::translate::{self, Translator};
use crate::dialect::{Api, ApiSet, Call, route};

const CONTEXT: fn() -> Context = || Context {
    request_id: "r1".to_owned(),
    model: "m".to_owned(),
    custom_tools: Vec::new(),
    created: 7,
    include_usage: false,
    held_bytes_max: 1024,
};

const TARGET: Target<'_> = Target {
    model: b"\"own\"",
    output_max_default: 9,
    takes_stream_options: false,
    output_cap_member: "max_tokens",
    takes_extras: false,
};

/// All dialects that clients and backends have.
const OTHERS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];

fn sent(call: Call, body: &str) -> String {
    let mut out = Vec::new();
    translate::request(call, body.as_bytes(), body.contains("\"stream\":true"), &TARGET, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_new_dialect_is_found_by_its_path_and_called_by_clients_of_all_others() {
    assert_eq!(route(b"POST", b"/v1/echo"), Ok(Api::Echo));
    for client in OTHERS {
        let call = Call::translated(client, ApiSet::of(&[Api::Echo])).unwrap();
        assert_eq!((call.client, call.backend), (client, Api::Echo));
        assert!(!call.is_plain());
        assert_eq!(Call::translated(Api::Echo, ApiSet::of(&[client])).unwrap().backend, client);
    }
}

#[test]
fn requests_go_both_ways() {
    for (client, body) in [
        (Api::Chat, r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#),
        (Api::Responses, r#"{"model":"m","input":"hi"}"#),
        (Api::Messages, r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#),
    ] {
        assert_eq!(sent(Call { client, backend: Api::Echo }, body), r#"{"model":"own","text":"hi"}"#);
        let back = sent(Call { client: Api::Echo, backend: client }, r#"{"model":"m","text":"hi"}"#);
        assert!(back.contains("\"own\"") && back.contains("hi"), "{back}");
    }
}

#[test]
fn responses_go_both_ways_streamed_and_whole() {
    let pieces = "data: {\"echo\":\"a \\\"b\"}\n\ndata: {\"echo\":\" c\"}\n\ndata: {\"end\":true}\n\n";
    for other in OTHERS {
        let mut there = Translator::new(Call { client: other, backend: Api::Echo }, CONTEXT());
        let mut back = Translator::new(Call { client: Api::Echo, backend: other }, CONTEXT());
        let (mut stream, mut echo) = (Vec::new(), Vec::new());
        there.records(pieces.as_bytes(), false, &mut stream).unwrap();
        assert!(there.may_end());
        there.end(&mut stream).unwrap();
        back.records(&stream, false, &mut echo).unwrap();
        back.end(&mut echo).unwrap();
        assert_eq!(String::from_utf8(echo).unwrap(), pieces, "{other:?}");

        let mut there = Translator::new(Call { client: other, backend: Api::Echo }, CONTEXT());
        let mut back = Translator::new(Call { client: Api::Echo, backend: other }, CONTEXT());
        let (mut whole, mut echo) = (Vec::new(), Vec::new());
        there.whole(br#"{"echo":"a \"b c"}"#, false, &mut whole).unwrap();
        back.whole(&whole, false, &mut echo).unwrap();
        assert_eq!(echo, br#"{"echo":"a \"b c"}"#, "{other:?}");
    }
}

#[test]
fn errors_keep_their_words() {
    for client in OTHERS {
        let mut out = Vec::new();
        translate::fault(Call { client, backend: Api::Echo }, 400, br#"{"fault":"no"}"#, "r1", &mut out);
        let mut back = Vec::new();
        translate::fault(Call { client: Api::Echo, backend: client }, 400, &out, "r1", &mut back);
        assert_eq!(back, br#"{"fault":"no"}"#);
    }
}
