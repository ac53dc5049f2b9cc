use super::*;

#[test]
fn lines_come_with_trimmed_values_and_whole_raws() {
    let fields = b"Host: gw.test\r\nX:\t a: b \t\r\nEmpty:\r\n";
    let seen: Vec<_> = lines(fields).map(|line| (line.name, line.value, line.raw.len())).collect();
    assert_eq!(seen, [(&b"Host"[..], &b"gw.test"[..], 15), (b"X", b"a: b", 12), (b"Empty", b"", 8)]);
    assert_eq!(lines(fields).map(|line| line.raw).collect::<Vec<_>>().concat(), fields);
}

#[test]
fn lines_of_garbage_end_without_panic() {
    for bytes in [&b""[..], b"\r\n", b"\n", b"no colon", b":", b"a:b", b"\n\n:\r"] {
        assert!(lines(bytes).count() <= bytes.len());
    }
}

#[test]
fn names_are_known_in_any_case() {
    for (name, field) in [
        ("TE", Field::Te),
        ("Content-Length", Field::ContentLength),
        ("cOnNeCtIoN", Field::Connection),
        ("X-Api-Key", Field::ApiKey),
        ("api-key", Field::AzureApiKey),
        ("ORIGIN", Field::Origin),
        ("Access-Control-Allow-Origin", Field::AccessControl),
        ("X-Goog-Api-Key", Field::GoogleApiKey),
        ("Strict-Transport-Security", Field::Hsts),
        ("x-ratelimit-limit-requests", Field::RateLimit),
        ("Anthropic-RateLimit-Tokens-Reset", Field::RateLimit),
        ("retry-after-ms", Field::RateLimit),
        ("retry-after", Field::RetryAfter),
        ("CF-RAY", Field::CfRay),
        ("openai-organization", Field::OpenAiOrganization),
        ("OpenAI-Project", Field::OpenAiOrganization),
        ("x-forwarded-port", Field::XForwarded),
        ("HTTP2-Settings", Field::Http2Settings),
        ("x-should-retry", Field::ShouldRetry),
        ("X-Ringway-Backend", Field::Ringway),
        ("X_RINGWAY-backend", Field::Ringway),
        ("x_ringway_a_b", Field::Ringway),
    ] {
        assert_eq!(classify(name.as_bytes()), field, "{name}");
    }
    for name in
        ["", "x", "hosts", "content_length", "x-ringway", "cf", "ratelimi", "anthropic-version", "tE "]
    {
        assert_eq!(classify(name.as_bytes()), Field::Other, "{name}");
    }
}

#[test]
fn every_name_is_its_own_field_and_no_neighbour_is() {
    use Field::*;
    for (name, field) in [
        ("te", Te),
        ("via", Via),
        ("host", Host),
        ("date", Date),
        ("expect", Expect),
        ("server", Server),
        ("cookie", Cookie),
        ("api-key", AzureApiKey),
        ("upgrade", Upgrade),
        ("trailer", Trailer),
        ("alt-svc", AltSvc),
        ("x-api-key", ApiKey),
        ("forwarded", Forwarded),
        ("x-real-ip", XRealIp),
        ("ratelimit", RateLimit),
        ("connection", Connection),
        ("close", Close),
        ("keep-alive", KeepAlive),
        ("request-id", RequestId),
        ("set-cookie", SetCookie),
        ("retry-after", RetryAfter),
        ("content-type", ContentType),
        ("x-request-id", XRequestId),
        ("authorization", Authorization),
        ("content-length", ContentLength),
        ("retry-after-ms", RateLimit),
        ("x-should-retry", ShouldRetry),
        ("openai-project", OpenAiOrganization),
        ("http2-settings", Http2Settings),
        ("accept-encoding", AcceptEncoding),
        ("x-forwarded-for", XForwardedFor),
        ("content-encoding", ContentEncoding),
        ("x-forwarded-host", XForwardedHost),
        ("proxy-connection", ProxyConnection),
        ("transfer-encoding", TransferEncoding),
        ("x-forwarded-proto", XForwardedProto),
        ("proxy-authenticate", ProxyAuthenticate),
        ("openai-organization", OpenAiOrganization),
        ("proxy-authorization", ProxyAuthorization),
        ("strict-transport-security", Hsts),
        ("anthropic-organization-id", OpenAiOrganization),
    ] {
        assert_eq!(classify(name.as_bytes()), field, "{name}");
        for at in 0..name.len() {
            let mut near = name.as_bytes().to_vec();
            near[at] = b'0';
            assert_ne!(classify(&near), field, "{}", near.escape_ascii());
        }
        assert_ne!(classify(&name.as_bytes()[1..]), field, "{name}");
        assert_ne!(classify(format!("{name}0").as_bytes()), field, "{name}");
    }
}

#[test]
fn a_family_is_known_by_its_first_letters_and_a_dash() {
    use Field::*;
    for (front, field) in [
        ("x-ratelimit", RateLimit),
        ("anthropic-ratelimit", RateLimit),
        ("ratelimit", RateLimit),
        ("x-forwarded", XForwarded),
        ("x-ringway", Ringway),
        ("cf", CfRay),
    ] {
        assert_eq!(classify(format!("{front}-a").as_bytes()), field, "{front}");
        assert_eq!(classify(format!("{front}-and-more-than-thirty-two-bytes").as_bytes()), field, "{front}");
        assert_eq!(classify(format!("{front}0a").as_bytes()), Other, "{front}");
        for at in 0..front.len() {
            let mut near = format!("{front}-a").into_bytes();
            near[at] = b'0';
            assert_eq!(classify(&near), Other, "{}", near.escape_ascii());
        }
    }
}

#[test]
fn a_token_holds_letters_digits_and_fifteen_marks() {
    let tokens: Vec<u8> = (0..=255).filter(|&byte| is_token(byte)).collect();
    let wanted = b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
    assert_eq!(tokens, wanted);
}

#[test]
fn a_name_in_its_line_is_known_as_by_itself() {
    for name in [
        "TE",
        "Content-Length",
        "X-RateLimit-Limit-Requests",
        "x-ratelimit",
        "cf",
        "CF-Ray",
        "x-ringway",
        "x",
    ] {
        for behind in ["", ": 1\r\n", ":-ray: requests\r\nand so on, for many bytes\r\n"] {
            let line = format!("{name}{behind}");
            assert_eq!(classify_line(line.as_bytes(), name.len()), classify(name.as_bytes()), "{line}");
        }
    }
}

#[test]
fn lines_that_are_not_dropped_are_passed_on_as_they_are() {
    let lines = ["A: 1\r\n", "Bb:2\r\n", "C:\t \r\n"];
    for bits in 0..8u128 {
        let mut out = b"before ".to_vec();
        Dropped(bits).pass(lines.concat().as_bytes(), &mut out);
        let kept = lines.iter().enumerate().filter(|(index, _)| !Dropped(bits).contains(*index));
        let wanted: String = kept.map(|(_, line)| *line).collect();
        assert_eq!(out, format!("before {wanted}").into_bytes(), "{bits:b}");
    }
    let mut out = Vec::new();
    Dropped(u128::MAX).pass(b"", &mut out);
    assert!(out.is_empty());
}

#[test]
fn what_is_between_two_neighbours_stays_there() {
    let names = "Connection Keep-Alive Proxy-Connection Proxy-Authenticate Proxy-Authorization TE Trailer \
                 Transfer-Encoding Upgrade HTTP2-Settings Content-Length Host Authorization x-api-key \
                 x-request-id openai-organization x-ringway-backend cf-ray";
    for name in names.split_whitespace() {
        let field = classify(name.as_bytes());
        assert!(!to_backend(field) && !to_client(field), "{name}");
    }
    for name in ["Expect", "Accept-Encoding", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-IP"]
    {
        assert!(!to_backend(classify(name.as_bytes())), "{name}");
    }
    for name in
        ["Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "x-ratelimit-limit-tokens", "request-id"]
    {
        assert!(!to_client(classify(name.as_bytes())), "{name}");
    }
    for name in
        ["Content-Type", "User-Agent", "Accept", "anthropic-version", "Via", "traceparent", "x-stainless-os"]
    {
        assert!(to_backend(classify(name.as_bytes())), "{name}");
    }
    for name in
        ["Content-Type", "Date", "Retry-After", "x-should-retry", "Cache-Control", "openai-processing-ms"]
    {
        assert!(to_client(classify(name.as_bytes())), "{name}");
    }
}

#[test]
fn connection_names_are_found_on_every_line_and_in_any_case() {
    let fields =
        b"Connection: close, x-foo\r\nX-Foo: 1\r\nX-Fo: 2\r\nconnection:,X-BAR ,\r\nx-bar:3\r\nA:4\r\n";
    let mut dropped = Dropped::default();
    dropped.add(0);
    dropped.add(3);
    let mut out = Vec::new();
    pass_unnamed(dropped, fields, &mut out);
    assert_eq!(out, b"X-Fo: 2\r\nA:4\r\n");
}

#[test]
fn trimming_takes_blanks_and_tabs_only() {
    assert_eq!(trim(b" \t a b\t "), b"a b");
    assert_eq!(trim(b"\x0ba\xa0"), b"\x0ba\xa0");
    assert_eq!(trim(b" \t"), b"");
}
