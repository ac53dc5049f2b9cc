//! The vectors of RFC 7515 and RFC 8037, and what attackers send.

use support::jwt::{Signer, encoded, key_set};

use super::*;

const NOW: u64 = 1_800_000_000;

fn expected() -> Expected {
    Expected {
        issuer: "https://login.example/".into(),
        audiences: ["ringway".into(), "other".into()].into(),
        algorithms: [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].into(),
        skew: 60,
        user: Path::new("sub"),
        team: Some(Path::new("groups")),
        required: Box::default(),
    }
}

/// Claims that are valid, with these in their place or beside them.
fn claims(more: &[(&str, &str)]) -> String {
    let exp = (NOW + 600).to_string();
    let mut all = vec![
        ("iss", r#""https://login.example/""#),
        ("aud", r#""ringway""#),
        ("sub", r#""anna""#),
        ("groups", r#"["search"]"#),
        ("exp", &*exp),
    ];
    all.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    all.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    let members: Vec<String> = all.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn check(token: &str, expected: &Expected, set: &str) -> Result<Verified, Refusal> {
    let keys = KeySet::read(set.as_bytes()).expect("a key set");
    Token::read(token.as_bytes())?.verify(expected, &keys, NOW)
}

fn words(result: Result<Verified, Refusal>) -> String {
    match result.expect_err("a refusal") {
        Refusal::Invalid(words) => words.into_owned(),
        other => format!("{other:?}"),
    }
}

/// RFC 7515 appendices A.2 and A.3, RFC 8037 appendix A.4; and each with one bit changed.
#[test]
fn the_signatures_of_the_standards_are_valid() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let ec = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let ed = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    for (algorithm, set, signed, signature) in [
        (Algorithm::Rs256, key_set(&[&Signer::rsa("1")]), format!("eyJhbGciOiJSUzI1NiJ9.{payload}"), rsa),
        (
            Algorithm::Es256,
            ec.to_owned(),
            format!("eyJhbGciOiJFUzI1NiJ9.{payload}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            Algorithm::EdDsa,
            ed.to_owned(),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let keys = KeySet::read(set.as_bytes()).unwrap();
        let signature = decode_url(signature.as_bytes()).unwrap();
        assert_eq!(keys.verify(algorithm, None, signed.as_bytes(), &signature), Ok(()), "{algorithm:?}");
        let mut other = signature.clone();
        other[7] ^= 1;
        assert!(keys.verify(algorithm, None, signed.as_bytes(), &other).is_err());
        assert!(keys.verify(algorithm, None, format!("{signed}A").as_bytes(), &signature).is_err());
    }
}

#[test]
fn a_valid_token_says_whose_it_is_until_when() {
    for signer in [Signer::rsa("1"), Signer::ec("1"), Signer::ed("1")] {
        let set = key_set(&[&signer]);
        let verified = check(&signer.token(&claims(&[])), &expected(), &set).unwrap();
        let ends = NOW + 660;
        assert_eq!(verified, Verified { ends, user: "anna".to_owned(), teams: vec!["search".to_owned()] });
        let more = [("aud", r#"["a","other"]"#), ("groups", r#""x""#), ("nbf", "1800000059")];
        assert_eq!(check(&signer.token(&claims(&more)), &expected(), &set).unwrap().teams, ["x"]);
    }
}

#[test]
fn claims_that_do_not_fit_are_refused_by_name() {
    let signer = Signer::ed("1");
    let set = key_set(&[&signer]);
    let mut expected = expected();
    expected.required = [Required { claim: Path::new("scope"), values: ["llm".into()].into() }].into();
    let scope = ("scope", r#""read llm""#);
    assert!(check(&signer.token(&claims(&[scope])), &expected, &set).is_ok());
    for (claim, value, part) in [
        ("exp", "1799999940", "Expired"),
        ("exp", "1799999940.5", "Expired"),
        ("exp", r#""1900000000""#, "'exp'"),
        ("exp", "-1", "'exp'"),
        ("exp", "null", "'exp'"),
        ("exp", "", "'exp'"),
        ("nbf", "1800000061", "'nbf'"),
        ("nbf", r#""0""#, "'nbf'"),
        ("aud", r#""ringwa""#, "'aud'"),
        ("aud", r#"["a",{"b":"ringway"}]"#, "'aud'"),
        ("aud", "[]", "'aud'"),
        ("aud", "", "'aud'"),
        ("iss", r#""https://login.example""#, "'iss'"),
        ("iss", r#"["https://login.example/"]"#, "'iss'"),
        ("sub", "", "'sub'"),
        ("sub", r#"["a","b"]"#, "'sub'"),
        ("scope", r#""llms""#, "'scope'"),
        ("scope", "", "'scope'"),
    ] {
        let more = if claim == "scope" { vec![(claim, value)] } else { vec![scope, (claim, value)] };
        let token = signer.token(&claims(&more));
        let refused = words(check(&token, &expected, &set));
        assert!(refused.contains(part), "{claim} {value}: {refused}");
    }
    // The last second of the skew, on both sides.
    for (claim, value) in [("exp", "1799999941"), ("exp", "1799999941.9"), ("nbf", "1800000060")] {
        assert!(check(&signer.token(&claims(&[scope, (claim, value)])), &expected, &set).is_ok(), "{value}");
    }
}

/// `none`, HMAC with the public key, the algorithm of another kind of key, algorithms that are not configured.
#[test]
fn the_token_does_not_choose_how_it_is_verified() {
    let (rsa, ec, ed) = (Signer::rsa("r"), Signer::ec("e"), Signer::ed("d"));
    let set = key_set(&[&rsa, &ec, &ed]);
    for algorithm in
        ["none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "rs256", "", "ES512", "RSA1_5"]
    {
        for kid in ["r", "e", "d"] {
            let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
            let refused = words(check(&rsa.sign(&header, &claims(&[])), &expected(), &set));
            assert!(refused.contains("algorithm"), "{algorithm}: {refused}");
        }
    }
    let unsigned = format!("{}.{}.", encoded(br#"{"alg":"none"}"#), encoded(claims(&[]).as_bytes()));
    assert!(words(check(&unsigned, &expected(), &set)).contains("algorithm"));
    for (algorithm, kid) in [("ES256", "r"), ("EdDSA", "r"), ("RS256", "e"), ("RS256", "d"), ("EdDSA", "e")] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        for signer in [&rsa, &ec, &ed] {
            let refused = words(check(&signer.sign(&header, &claims(&[])), &expected(), &set));
            assert!(refused.contains("signature"), "{algorithm} {kid}: {refused}");
        }
    }
    let only = Expected { algorithms: [Algorithm::Es256].into(), ..expected() };
    assert!(words(check(&rsa.token(&claims(&[])), &only, &set)).contains("algorithm"));
    // A key that is for one algorithm is for no other of its kind.
    let pss = Expected { algorithms: [Algorithm::Ps256].into(), ..expected() };
    let token = rsa.sign(r#"{"alg":"PS256","kid":"r"}"#, &claims(&[]));
    assert!(words(check(&token, &pss, &set)).contains("signature"));
}

#[test]
fn keys_come_from_the_set_and_from_nowhere_else() {
    let (own, foreign) = (Signer::ed("1"), Signer::ed("1"));
    let set = key_set(&[&own]);
    let jwk = foreign.jwk();
    for header in [
        format!(r#"{{"alg":"EdDSA","kid":"1","jwk":{jwk}}}"#),
        r#"{"alg":"EdDSA","kid":"1","jku":"http://127.0.0.1/keys"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"1","x5u":"file:///etc/passwd"}"#.to_owned(),
        r#"{"alg":"EdDSA"}"#.to_owned(),
    ] {
        let refused = words(check(&foreign.sign(&header, &claims(&[])), &expected(), &set));
        assert!(refused.contains("signature"), "{header}: {refused}");
        assert!(check(&own.sign(&header, &claims(&[])), &expected(), &set).is_ok(), "{header}");
    }
    for kid in ["2", "../1", "1' OR '1'='1", "/dev/null", ""] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
        assert_eq!(words(check(&own.sign(&header, &claims(&[])), &expected(), &set)), "UnknownKey", "{kid}");
    }
    assert!(
        words(check(&own.sign(r#"{"alg":"EdDSA","kid":1}"#, &claims(&[])), &expected(), &set))
            .contains("key id")
    );
    // Without a key id only where there is one key to choose from.
    let both = key_set(&[&own, &Signer::ed("2")]);
    assert!(
        words(check(&own.sign(r#"{"alg":"EdDSA"}"#, &claims(&[])), &expected(), &both)).contains("which")
    );
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let signer = Signer::ed("1");
    let set = key_set(&[&signer]);
    for (header, part) in [
        (r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#, "crit"),
        (r#"{"alg":"EdDSA","crit":[]}"#, "crit"),
        (r#"{"alg":"EdDSA","crit":null}"#, "crit"),
        (r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#, "crit"),
        (r#"{"alg":"EdDSA","b64":false}"#, "b64"),
        (r#"{"alg":"EdDSA","alg":"RS256"}"#, "JSON object"),
        (r#"{"alg":"EdDSA","\u0061lg":"none"}"#, "JSON object"),
        (r#"{"alg":["EdDSA"]}"#, "algorithm"),
        (r#"["EdDSA"]"#, "JSON object"),
        (r#"{"alg":"EdDSA"} x"#, "JSON object"),
        ("{}", "algorithm"),
    ] {
        let refused = words(check(&signer.sign(header, &claims(&[])), &expected(), &set));
        assert!(refused.contains(part), "{header}: {refused}");
    }
    for body in [r#"{"sub":"a","sub":"b"}"#, "[]", "7", "", r#"{"sub":"a"}{}"#, "{\"sub\":\"a\u{0}\"}"] {
        let refused = words(check(&signer.token(body), &expected(), &set));
        assert!(refused.contains("claims are not"), "{body}: {refused}");
    }
}

#[test]
fn the_form_is_taken_strictly() {
    let signer = Signer::ed("1");
    let set = key_set(&[&signer]);
    let token = signer.token(&claims(&[]));
    assert!(is_token(token.as_bytes()) && check(&token, &expected(), &set).is_ok());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for other in [
        format!("{token}."),
        format!("{token}.x"),
        format!("{token}="),
        format!("{token}A"),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        token.replacen('.', " .", 1),
        token.replacen('.', "\n.", 1),
        token.replacen('.', "=.", 1),
        token.replacen("eyJ", "ey J", 1),
        token.replacen("eyJ", "ey+J", 1),
        format!("{signed}."),
        signed.to_owned(),
        format!("{signed}.{}", &signature[1..]),
        format!(".{signed}"),
        String::new(),
        "..".to_owned(),
    ] {
        assert!(check(&other, &expected(), &set).is_err(), "{other:?}");
    }
    let long = signer.token(&claims(&[("x", &format!("\"{}\"", "x".repeat(TOKEN_BYTES_MAX)))]));
    assert!(words(check(&long, &expected(), &set)).contains("8 KiB"));
    for other in ["sk-rw-abc", "rw-test-key", "ey", "ey.x", "ey.x.y.z", "a.b.c"] {
        assert!(!is_token(other.as_bytes()), "{other}");
    }
}

/// No refusal repeats what the token says.
#[test]
fn refusals_hold_nothing_of_the_token() {
    let signer = Signer::ed("1");
    let set = key_set(&[&signer]);
    for more in
        [("iss", r#""s3cret""#), ("aud", r#""s3cret""#), ("exp", r#""s3cret""#), ("sub", r#"["s3cret","b"]"#)]
    {
        assert!(!words(check(&signer.token(&claims(&[more])), &expected(), &set)).contains("s3cret"));
    }
}

#[test]
fn a_key_set_keeps_what_verifies_signatures() {
    let (rsa, ec, ed) = (Signer::rsa("r").jwk(), Signer::ec("e").jwk(), Signer::ed("d").jwk());
    let count = |keys: &str| KeySet::read(format!("{{\"keys\":[{keys}]}}").as_bytes()).map(|set| set.count());
    assert_eq!(count(&format!("{rsa},{ec},{ed}")), Ok(3));
    for (jwk, why) in [
        (rsa.replace("\"sig\"", "\"enc\""), "to encipher with"),
        (rsa.replace("RS256", "RSA-OAEP"), "another algorithm"),
        (ed.replace("Ed25519", "X25519"), "no signatures"),
        (ec.replace("P-256", "P-521"), "a curve that is not known"),
        (ec.replace("\"x\":\"", "\"x\":\"AA"), "no point"),
        (r#"{"kty":"oct","k":"AAAA","alg":"HS256"}"#.to_owned(), "a secret"),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(), "a short key"),
        ("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}".to_owned(), "a short key"),
        ("7".to_owned(), "no key"),
    ] {
        assert_eq!(count(&format!("{jwk},{ed}")), Ok(1), "{why}: {jwk}");
        assert!(count(&jwk).is_err(), "{why}");
    }
    for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#, "<html>", r#"{"keys":[],"keys":[]}"#] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
    assert!(count(&vec![&*ed; 101].join(",")).is_err());
    // Zeros in front of a number change nothing.
    let padded = rsa.replace("\"n\":\"", "\"n\":\"AAAA");
    assert_eq!(count(&padded), Ok(1));
}
