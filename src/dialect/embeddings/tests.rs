use super::*;
use crate::wire::noise::Noise;

fn converted(body: &str) -> Result<Option<String>, Unfit> {
    let mut out = b"> ".to_vec();
    let done = floats_to_base64(body.as_bytes(), &mut out);
    let text = String::from_utf8(out.split_off(2)).unwrap();
    assert_eq!(out, b"> ");
    if !matches!(done, Ok(true)) {
        assert_eq!(text, "", "nothing is written for {body}");
    }
    done.map(|done| done.then_some(text))
}

/// The floats of a base64 string: the reading side, written apart from the writing one.
fn floats(text: &str) -> Vec<f32> {
    assert_eq!(text.len() % 4, 0, "{text}");
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit of base64"),
    };
    let bits: Vec<bool> = text
        .trim_end_matches('=')
        .bytes()
        .flat_map(|byte| (0..6).rev().map(move |shift| digit(byte) >> shift & 1 == 1))
        .collect();
    let byte = |bits: &[bool]| bits.iter().fold(0_u8, |byte, &bit| byte << 1 | u8::from(bit));
    let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
    assert_eq!(bytes.len() % 4, 0);
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn arrays_become_strings_and_nothing_else_changes() {
    let body = r#" {"object":"list", "model":"m\u00e9", "data":[
        {"object":"embedding","index":0,"embedding": [ 0.5 , 1.0 ] ,"extra":[1e400]},
        {"embedding":[],"index":1}, {"index":2,"embedding":"AAAAPw=="} ],
        "usage":{"prompt_tokens":12345678901234567890,"total_tokens":4}} "#;
    let expected = body.replace("[ 0.5 , 1.0 ]", "\"AAAAPwAAgD8=\"").replace("[],", "\"\",");
    assert_eq!(converted(body), Ok(Some(expected)));
}

#[test]
fn the_vectors_of_rfc_4648_are_met() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        let mut out = Vec::new();
        base64::encode(bytes.as_bytes(), &mut out);
        assert_eq!(out, text.as_bytes());
    }
    let mut out = Vec::new();
    base64::encode(b"\xfb\xff\xbf", &mut out);
    assert_eq!(out, b"+/+/");
}

#[test]
fn strings_are_left_alone() {
    for body in [r#"{"data":[{"embedding":"AAAAPw=="}]}"#, r#"{"data":[]}"#] {
        assert_eq!(converted(body), Ok(None));
    }
}

#[test]
fn what_is_no_response_with_vectors_is_refused() {
    for body in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{"embedding":[1]}}"#,
        r#"{"data":[[1.0]]}"#,
        r#"{"data":[{}]}"#,
        r#"{"data":[{"embedding":null}]}"#,
        r#"{"data":[{"embedding":1}]}"#,
        r#"{"data":[{"embedding":{"0":1}}]}"#,
        r#"{"data":[{"embedding":[[1.0]]}]}"#,
        r#"{"data":[{"embedding":[1,null]}]}"#,
        r#"{"data":[{"embedding":[1,"2"]}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":[true]}]}"#,
        r#"{"data":[{"embedding":[NaN]}]}"#,
        r#"{"data":[{"embedding":[3.5e38]}]}"#,
        r#"{"data":[{"embedding":[-1e999]}]}"#,
        r#"{"data":[{"embedding":[1],"embedding":[2]}]}"#,
        r#"{"data":[{"embedding":[1]}],"data":[]}"#,
        r#"{"data":[{"embedding":[1]}]"#,
        r#"{"data":[{"embedding":[1]}]} x"#,
        r#"{"error":{"message":"no"}}"#,
    ] {
        assert!(converted(body).is_err(), "{body}");
    }
}

#[test]
fn numbers_are_read_as_the_nearest_float() {
    for (text, float) in [
        ("0", 0.0_f32),
        ("-0.0", -0.0),
        ("1E2", 100.0),
        ("-1.5e+1", -15.0),
        ("0.1", 0.1),
        ("0.10000000149011612", 0.1), // what Python writes for the same float
        ("1e-46", 0.0),
        ("1.4e-45", f32::from_bits(1)),
        ("3.4028234663852886e38", f32::MAX),
        ("16777217.000000001", 16_777_218.0), // by way of 64 bits it would be 16777216
    ] {
        let string = converted(&format!("{{\"data\":[{{\"embedding\":[{text}]}}]}}")).unwrap().unwrap();
        let read = floats(string.split('"').nth(5).unwrap());
        assert_eq!(read.iter().map(|float| float.to_bits()).collect::<Vec<_>>(), [float.to_bits()], "{text}");
    }
}

#[test]
fn random_vectors_come_back() {
    let seed = 0x5eed_a015_u64;
    let mut noise = Noise::new(seed);
    for round in 0..500 {
        let vectors: Vec<Vec<f32>> = (0..noise.below(4))
            .map(|_| (0..noise.below(9)).map(|_| f32::from_bits(noise.below(1 << 32) as u32)).collect())
            .map(|floats: Vec<f32>| floats.into_iter().filter(|float| float.is_finite()).collect())
            .collect();
        let items: Vec<String> = vectors
            .iter()
            .map(|floats| match noise.below(3) {
                0 => floats.iter().map(f32::to_string).collect::<Vec<_>>(),
                1 => floats.iter().map(|&float| format!("{:e}", f64::from(float))).collect(),
                _ => floats.iter().map(|float| format!(" {float:E}\n")).collect(),
            })
            .map(|numbers| format!("{{\"embedding\":[{}]}}", numbers.join(",")))
            .collect();
        let body = format!("{{\"data\":[{}]}}", items.join(","));
        let out = converted(&body).unwrap();
        assert_eq!(out.is_some(), !vectors.is_empty(), "seed {seed:#x} round {round}");
        let read: Vec<Vec<f32>> = out
            .unwrap_or_default()
            .split("\"embedding\":\"")
            .skip(1)
            .map(|rest| floats(rest.split('"').next().unwrap()))
            .collect();
        let bits = |vectors: &[Vec<f32>]| {
            vectors.iter().map(|floats| floats.iter().map(|float| float.to_bits()).collect()).collect()
        };
        let (read, vectors): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (bits(&read), bits(&vectors));
        assert_eq!(read, vectors, "seed {seed:#x} round {round}: {body}");
    }
}

#[test]
fn no_bytes_panic() {
    let seed = 0x5eed_a016_u64;
    let mut noise = Noise::new(seed);
    let sound =
        br#"{"data":[{"embedding":[0.5,-1e3],"index":0},{"embedding":"AAAA"}],"usage":{"total_tokens":4}}"#;
    for round in 0..20_000 {
        let body = noise.mutate(sound);
        let mut out = b"> ".to_vec();
        let done = floats_to_base64(&body, &mut out);
        let shown = body.escape_ascii();
        assert!(out.starts_with(b"> "), "seed {seed:#x} round {round}: {shown}");
        match done {
            Ok(true) => {
                assert!(json::is_object(&out[2..]), "seed {seed:#x} round {round}: {shown}");
                assert_eq!(floats_to_base64(&out[2..], &mut Vec::new()), Ok(false), "{shown}");
            }
            _ => assert_eq!(out.len(), 2, "seed {seed:#x} round {round}: {shown}"),
        }
    }
}
