use super::*;
use crate::wire::noise::Noise;

/// Key, value and kind of every member, or the error.
fn read(text: &str) -> Result<Vec<(&str, &str, ValueKind)>, BadJson> {
    members(text.as_bytes())
        .map(|member| {
            member.map(|member| {
                (
                    &text[member.key.start..member.key.end],
                    &text[member.value.start..member.value.end],
                    member.kind,
                )
            })
        })
        .collect()
}

#[test]
fn members_come_with_their_spans() {
    let text = " {\"model\":\"m\" , \"a b\" : [1,{\"x\":[]}],\"n\":-1.5e+3,\"t\":true,\"f\":false,\"z\":null,\"o\":{}}\n";
    assert_eq!(
        read(text),
        Ok(vec![
            ("\"model\"", "\"m\"", ValueKind::String),
            ("\"a b\"", "[1,{\"x\":[]}]", ValueKind::Array),
            ("\"n\"", "-1.5e+3", ValueKind::Number),
            ("\"t\"", "true", ValueKind::True),
            ("\"f\"", "false", ValueKind::False),
            ("\"z\"", "null", ValueKind::Null),
            ("\"o\"", "{}", ValueKind::Object),
        ])
    );
}

#[test]
fn the_braces_are_where_they_are() {
    for (text, open, close, empty) in
        [("{}", 0, 1, true), (" { } ", 1, 3, true), ("{\"a\":{}} ", 0, 7, false)]
    {
        let mut object = members(text.as_bytes());
        assert!(object.by_ref().all(|member| member.is_ok()));
        assert_eq!(
            (object.open(), object.close(), object.is_empty()),
            (Some(open), Some(close), empty),
            "{text}"
        );
    }
    let mut broken = members(b"{\"a\":1} x");
    assert_eq!((broken.by_ref().count(), broken.close()), (2, None));
}

#[test]
fn what_is_not_one_object_is_refused() {
    for text in [
        "",
        " ",
        "null",
        "[]",
        "\"a\"",
        "1",
        "{",
        "}",
        "{]",
        "{}}",
        "{}{}",
        "{} x",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1;}",
        "{1:2}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{\"a\":[}]",
        "\u{feff}{}",
        "{}\0",
        "{\"a\":1}{",
        "{\"a\"::1}",
        "{\"a\":1,,\"b\":2}",
        "\u{b}{}",
        "{/**/}",
        "{\"a\":[{]}]}",
        "[\"a\":1}",
        "{\"a\":[1}}",
        "{\"a\":{\"b\":1]}",
    ] {
        assert!(!is_object(text.as_bytes()), "{text}"); // K13
    }
}

#[test]
fn objects_follow_each_other_at_one_depth() {
    assert!(is_object(b"{\"a\":[{\"b\":1},{\"c\":2},[3],{\"d\":[4,{}]}]}"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let told = |bad: BadJson| (bad.at, bad.reason);
    for (text, at, reason) in [
        (" []", 1, "the text is not an object"),
        ("{\"a\":tro}", 5, "this starts no value"),
        ("{\"a\":\"\\x\"}", 6, "no such escape"),
        ("{\"a\":1}}", 7, "there is more behind the end of the text"),
    ] {
        assert_eq!(read(text).map_err(told), Err((at, reason)), "{text}");
    }
    let first = elements(b"{}").next().expect("an error");
    assert_eq!(first.map_err(told), Err((0, "the text is not an array")));
}

#[test]
fn numbers_and_literals_are_spelt_as_in_the_rfc() {
    let sound = |value: &str| is_object(format!("{{\"a\":{value}}}").as_bytes());
    for value in ["0", "-0", "10", "1.5", "0.0", "1e5", "1E-5", "-1.5e+30", "1e999", "true", "false", "null"]
    {
        assert!(sound(value), "{value}"); // K12: well-formed, whatever they mean
    }
    for value in [
        "NaN",
        "Infinity",
        "-Infinity",
        "-",
        "+1",
        "01",
        "-01",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "0x10",
        "1_0",
        "1.5.5",
        "True",
        "tru",
        "nul",
        "nulll",
        "undefined",
        "--1",
        "1-",
        "\u{ff15}",
    ] {
        assert!(!sound(value), "{value}"); // K13
    }
}

#[test]
fn strings_end_at_their_quote() {
    let sound = |value: &[u8]| is_object(&[b"{\"a\":\"", value, b"\"}"].concat());
    for value in
        [&b""[..], b"\\\"", b"\\\\", b"\\u00e9\\n\\/\\b\\f\\r\\t", b"\xc3\xa9", b"\xff", b"\\ud800", b"\x7f"]
    {
        assert!(sound(value), "{}", value.escape_ascii());
    }
    for value in [
        &b"\\"[..],
        b"\"",
        b"\\x",
        b"\\u12",
        b"\\u123g",
        b"\\u",
        b"\n",
        b"\0",
        b"a\x1f",
        b"\\\\\\",
        b"\\U0041",
    ] {
        assert!(!sound(value), "{}", value.escape_ascii());
    }
    let long = "x".repeat(1_000);
    assert!(sound(long.as_bytes()));
    assert!(!sound(format!("{long}\t{long}").as_bytes()));
}

#[test]
fn a_cut_text_ends_too_early_at_every_place() {
    let text = "{\"a\":[1.5e3,\"\\u00e9\\n\",{\"b\":true}],\"c\":null}";
    for cut in 0..text.len() {
        let bad = read(&text[..cut]).map_err(|bad| bad.at);
        assert_eq!(bad, Err(cut));
    }
    assert!(read(text).is_ok());
}

#[test]
fn deep_nesting_is_refused_without_a_stack() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(is_object(nested(DEPTH_MAX).as_bytes()));
    assert!(!is_object(nested(DEPTH_MAX + 1).as_bytes()));
    assert!(!is_object(nested(100_000).as_bytes())); // K10
    assert!(!is_object("[".repeat(100_000).as_bytes())); // K10
    assert!(!is_object("{\"a\":".repeat(200_000).as_bytes())); // K10
    let mixed = format!("{{\"a\":{}1{}}}", "[{\"b\":".repeat(255), "}]".repeat(255));
    assert!(is_object(mixed.as_bytes()));
    let crossed = format!("{{\"a\":{}1{}}}", "[{\"b\":".repeat(255), "]}".repeat(255));
    assert!(!is_object(crossed.as_bytes()));
}

#[test]
fn long_strings_of_escapes_are_read_in_one_pass() {
    let text = format!("{{\"a\":\"{}\"}}", "\\u0041".repeat(1 << 20)); // K10
    let member = members(text.as_bytes()).next();
    let Some(Ok(member)) = member else { panic!() };
    assert_eq!(member.value.len(), (6 << 20) + 2);
    assert_eq!(string(member.value.of(text.as_bytes())).map(|text| text.len()), Some(1 << 20));
}

#[test]
fn keys_are_compared_after_unescaping() {
    for raw in ["\"model\"", "\"mod\\u0065l\"", "\"\\u006d\\u006f\\u0064\\u0065\\u006c\"", "\"\\u006Dodel\""]
    {
        assert!(key_is(raw.as_bytes(), "model"), "{raw}"); // K11
        assert!(key_is_caseless(raw.as_bytes(), "model"), "{raw}");
    }
    for raw in ["\"Model\"", "\"MODEL\"", "\"\\u004dodel\"", "\"mode\\u004c\""] {
        assert!(!key_is(raw.as_bytes(), "model"), "{raw}");
        assert!(key_is_caseless(raw.as_bytes(), "model"), "{raw}"); // K11
    }
    for raw in [
        "\"mode\"",
        "\"models\"",
        "\"model\\u0000\"",
        "\"\"",
        "model",
        "\"mod\\u00e9l\"",
        "\"m\\\\odel\"",
        "\"",
    ] {
        assert!(!key_is(raw.as_bytes(), "model"), "{raw}");
        assert!(!key_is_caseless(raw.as_bytes(), "model"), "{raw}");
    }
    for raw in ["\"\u{17f}tream\"", "\"\\u017ftream\"", "\"STREAM\""] {
        assert!(key_is_caseless(raw.as_bytes(), "stream"), "{raw}");
    }
    assert!(key_is_caseless("\"max_to\u{212a}en\u{17f}\"".as_bytes(), "max_tokens"));
    assert!(!key_is_caseless("\"\u{e9}tream\"".as_bytes(), "stream"));
    assert!(!key_is_caseless("\"model\u{e9}\"".as_bytes(), "model"));
    assert!(!key_is_caseless("\"\u{4e16}\"".as_bytes(), ""));
}

#[test]
fn strings_are_decoded_or_refused() {
    for (raw, text) in [
        ("\"\"", ""),
        ("\"m\u{e9}\"", "m\u{e9}"),
        ("\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\u{8}\u{c}\n\r\tz"),
        ("\"\\ud83d\\ude00!\"", "\u{1f600}!"),
        ("\"a\\r\\nX-Evil: 1\"", "a\r\nX-Evil: 1"), // H26
    ] {
        assert_eq!(string(raw.as_bytes()).as_deref(), Some(text), "{raw}");
    }
    for raw in [
        &b"\"\\ud800\""[..],
        b"\"\\udc00\"",
        b"\"\\ud800\\u0041\"",
        b"\"\\ud800\\ud800\"",
        b"\"\\ud800x\"",
        b"\"\xff\"",
        b"\"\xc3\\n\xa9\"",
        b"\"a",
        b"a\"",
        b"\"",
        b"",
        b"\"\\u00\"",
        b"\"\\+041\"",
        b"\"\\u+041\"",
    ] {
        assert_eq!(string(raw), None, "{}", raw.escape_ascii()); // K13
    }
}

#[test]
fn integers_are_plain() {
    for (raw, number) in [("0", 0), ("10", 10), ("18446744073709551615", u64::MAX)] {
        assert_eq!(unsigned(raw.as_bytes()), Some(number));
    }
    for raw in ["-1", "1e3", "1.0", "1.5", "\"10\"", "null", "18446744073709551616", "+1", "", "1e999"] {
        assert_eq!(unsigned(raw.as_bytes()), None, "{raw}"); // K12
    }
}

#[test]
fn splicing_replaces_ranges_and_nothing_else() {
    let body = b"{\"model\":\"a\",\"x\":1}";
    let mut out = b"> ".to_vec();
    splice(&mut out, body, &[(Span::new(9, 12), b"\"long name\""), (Span::new(18, 18), b",\"y\":2")]);
    assert_eq!(out, b"> {\"model\":\"long name\",\"x\":1,\"y\":2}");
    out.clear();
    splice(&mut out, body, &[]);
    assert_eq!(out, body);
}

#[test]
fn quoted_text_reads_back() {
    let text: String = (0..0x80u8).map(char::from).chain("\u{e9}\u{1f600}".chars()).collect();
    let mut out = Vec::new();
    quote(&mut out, &text);
    assert!(is_object(&[b"{\"a\":", &out[..], b"}"].concat()));
    assert_eq!(string(&out).as_deref(), Some(&text[..]));
    out.clear();
    escape(&mut out, "a \"b\u{1f}");
    assert_eq!(out, b"a \\\"b\\u001f");
}

#[test]
fn elements_of_arrays_come_one_by_one() {
    let text = b" [1, {\"a\":[2]},\"]\"] ";
    let values: Vec<_> = elements(text).map(|element| element.map(|(span, _)| span.of(text))).collect();
    assert_eq!(values, [Ok(&b"1"[..]), Ok(b"{\"a\":[2]}"), Ok(b"\"]\"")]);
    assert_eq!(elements(b"[]").count(), 0);
    for text in ["", "{}", "[", "[1", "[1}", "[1,]", "[] []"] {
        assert!(elements(text.as_bytes()).any(|element| element.is_err()), "{text}");
    }
}

/// The object at the start of `bytes`, or the error in it.
fn leading(bytes: &[u8]) -> Result<&[u8], BadJson> {
    let mut object = leading_members(bytes);
    match object.by_ref().find_map(Result::err) {
        Some(bad) => Err(bad),
        None => Ok(&bytes[..=object.close().unwrap()]),
    }
}

#[test]
fn the_last_object_of_a_key_is_found() {
    let usage = Finder::new("usage");
    let find = |text: &'static str| match find_object(text.as_bytes(), &usage) {
        ObjectSearch::Opens { object, .. } => match leading(&text.as_bytes()[object..]) {
            Ok(found) => std::str::from_utf8(found).unwrap(),
            Err(bad) if bad.at == text.len() - object => "cut",
            Err(_) => "-",
        },
        ObjectSearch::Incomplete(_) => "cut",
        ObjectSearch::Absent => "-",
    };
    for (text, found) in [
        ("{\"usage\":{\"a\":1}}", "{\"a\":1}"),
        ("{\"usage\" \n: {\"a\":{\"b\":[1]}} ,\"x\":1}", "{\"a\":{\"b\":[1]}}"),
        ("{\"usage\":{\"a\":1}}\n{\"usage\":{\"a\":2}}", "{\"a\":2}"),
        ("{\"usage\":{\"a\":1},\"x\":{\"usage\":null}}", "{\"a\":1}"),
        ("ge\":1,\"usage\":{}", "{}"),
        ("{\"usage\":null}", "-"),
        ("{\"usage\":[{}]}", "-"),
        ("{\"x_usage\":{}}", "-"),
        ("{\"x\":\"\\\"usage\\\":{}\"}", "-"),
        ("{\"x\\\"usage\":{}}", "-"),
        ("{\"x\":\"\\\\\",\"usage\":{}}", "{}"),
        ("{\"usage\":{]}", "-"),
        ("", "-"),
        ("{\"usage\":{\"a\":1", "cut"),
        ("{\"usage\":{\"a\":\"\\u00", "cut"),
        ("{\"usage\":", "cut"),
        ("{\"usage\" ", "cut"),
        ("{\"usage\":{}, \"usage\"", "cut"),
        ("[\"usage\"]", "-"),
    ] {
        assert_eq!(find(text), found, "{text}");
    }
    assert_eq!(find_object(b"xx\"usage\": {\"a\"", &usage), ObjectSearch::Opens { key: 2, object: 11 });
    assert_eq!(find_object(b"xx\"usage\": ", &usage), ObjectSearch::Incomplete(2));
}

#[test]
fn mutated_texts_never_panic_and_never_look_sound_when_cut() {
    let seed = 0x5eed_0005_u64;
    let mut noise = Noise::new(seed);
    let finder = Finder::new("usage");
    let sound = b"{\"model\":\"m\\u00e9\\\"\",\"messages\":[{\"a\":[1.5e-3,true]},[]],\"usage\":{\"n\":12}} ";
    for round in 0..20_000 {
        let bytes = noise.mutate(sound);
        let text = bytes.escape_ascii();
        if is_object(&bytes) {
            let last = bytes.iter().rposition(|&byte| byte == b'}').unwrap_or(0);
            assert!((0..=last).all(|cut| !is_object(&bytes[..cut])), "seed {seed:#x} round {round}: {text}");
            for member in members(&bytes).flatten() {
                let raw = member.value.of(&bytes);
                match member.kind {
                    ValueKind::Object => assert!(is_object(raw), "seed {seed:#x} round {round}: {text}"),
                    ValueKind::String => _ = string(raw),
                    _ => {}
                }
            }
        }
        if let ObjectSearch::Opens { object, .. } = find_object(&bytes, &finder)
            && let Ok(found) = leading(&bytes[object..])
        {
            assert!(is_object(found), "seed {seed:#x} round {round}: {text}");
        }
    }
}

#[test]
fn strings_end_at_their_quote_wherever_the_words_fall() {
    let whole = |text: &[u8]| skip_string(text, 0);
    for length in 0..3 * 8 * NEAR_WORDS {
        let plain = vec![b'a'; length];
        let quoted = [b"\"", &plain[..], b"\" tail \"\\\x00"].concat();
        assert_eq!(whole(&quoted), Ok(length + 2), "{length} bytes");
        assert!(whole(&quoted[..=length]).is_err_and(|bad| bad.at == length + 1), "{length} bytes, cut");
        for at in 1..=length {
            let with = |byte| {
                let mut odd = quoted.clone();
                odd[at] = byte;
                whole(&odd)
            };
            assert_eq!(with(b'"'), Ok(at + 1), "at {at} of {length}");
            for byte in [b' ', 0x7f, 0x80, 0xff] {
                assert_eq!(with(byte), Ok(length + 2), "{byte:#x} at {at} of {length}");
            }
            for byte in [0, b'\n', 0x1f] {
                assert_eq!(
                    with(byte),
                    bad(at, "a control byte in a string"),
                    "{byte:#x} at {at} of {length}"
                );
            }
            // An escaped quote does not end it; the next one does, behind the tail.
            let escaped = if at == length { Ok(length + 9) } else { bad(at, "no such escape") };
            assert_eq!(with(b'\\'), escaped, "at {at} of {length}");
        }
    }
}

#[test]
fn of_several_control_bytes_the_first_is_named() {
    let plain = "a".repeat(8 * NEAR_WORDS);
    let text = format!("\"{plain} \x01\x02\"");
    assert_eq!(skip_string(text.as_bytes(), 0), bad(plain.len() + 2, "a control byte in a string"));
}

#[test]
fn what_was_escaped_is_unescaped_to_the_same_bytes() {
    let mut noise = crate::wire::noise::Noise::new(7);
    for _ in 0..2_000 {
        let length = noise.below(40);
        let text: String =
            (0..length).map(|_| char::from_u32(noise.below(0x3000) as u32).unwrap_or('x')).collect();
        let (mut inside, mut plain) = (Vec::new(), Vec::new());
        escape(&mut inside, &text);
        unescape(&inside, &mut plain);
        assert_eq!(plain, text.as_bytes());
    }
}

#[test]
fn every_escape_is_undone_and_a_broken_one_is_replaced() {
    for (inside, plain) in [
        ("\\\"\\/\\b\\f\\n\\r\\t\\\\", "\"/\u{8}\u{c}\n\r\t\\"),
        (r"\u00e9\ud83d\ude00", "\u{e9}\u{1f600}"),
        (r"a\ud83db", "a\u{fffd}b"),
        (r"\ude00", "\u{fffd}"),
        (r"\u12", "\u{fffd}"),
        ("x\\", "x\u{fffd}"),
        (r"\q", "\u{fffd}"),
    ] {
        let mut out = Vec::new();
        unescape(inside.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), plain, "{inside}");
    }
}

#[test]
fn a_key_is_folded_to_what_its_most_lenient_reader_takes_it_for() {
    for (key, expected) in [
        ("content", "content"),
        (r"\u0063ontent", "content"),
        ("CONTENT", "content"),
        ("toolUse", "tooluse"),
        (r"Tool\u005fUse", "tooluse"),
        ("me\u{17f}\u{17f}ages", "messages"),
        ("c\u{f6}ntent", ""),
        (r"\ud800content", ""),
        ("", ""),
        (&"x".repeat(FOLDED_BYTES_MAX), &*"x".repeat(FOLDED_BYTES_MAX)),
        (&"x".repeat(FOLDED_BYTES_MAX + 1), ""),
    ] {
        let mut room = [0; FOLDED_BYTES_MAX];
        assert_eq!(folded(format!("\"{key}\"").as_bytes(), &mut room), expected.as_bytes(), "{key}");
    }
}
