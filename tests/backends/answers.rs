//! Answers of a backend that is trusted half at most: bad ones become a 502, cut ones stay cut, extra bytes reach nobody.
#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::client::End;
use support::folder::Folder;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin};
use support::{J, PATIENCE, chat, chat_head, eventually, nonce, sse};

/// What must become of an answer.
#[derive(Clone, PartialEq, Debug)]
enum Fate {
    /// A complete 502 for the client; the connection to the backend ends.
    Bad,
    /// This status and body; the connection to the backend ends.
    PassedThenClosed(u16, String),
    /// This status and body.
    Passed(u16, String),
    /// What came is passed, and nothing makes it look whole.
    Cut,
}

struct Case {
    id: &'static str,
    answer: Vec<u8>,
    /// What the backend does after it: `Keep` leaves the closing to the gateway.
    next: Next,
    fate: Vec<Fate>,
}

fn case(id: &'static str, answer: impl AsRef<[u8]>, fate: Fate) -> Case {
    Case { id, answer: answer.as_ref().to_vec(), next: Next::Keep, fate: vec![fate] }
}

impl Case {
    fn or(mut self, fate: Fate) -> Self {
        self.fate.push(fate);
        self
    }

    fn next(mut self, next: Next) -> Self {
        self.next = next;
        self
    }
}

fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{lines}\r\n{body}")
}

fn cases() -> Vec<Case> {
    use Fate::{Bad, Cut, Passed, PassedThenClosed};
    let passed = |body: &str| Passed(200, body.to_owned());
    let closed = |body: &str| PassedThenClosed(200, body.to_owned());
    let chunks = "5\r\n{ \n }\r\n0\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\n";
    let many_lines: String = (0..10_000).map(|index| format!("X-{index}: y\r\n")).collect();
    vec![
        case("L00", ok("Content-Length: 5\r\n", "{ \n }"), passed("{ \n }")),
        case("L00 chunks", ok("Transfer-Encoding: chunked\r\n", chunks), passed("{ \n }")),
        case(
            "L00 extension",
            ok("Transfer-Encoding: chunked\r\n", "5;a=b\r\n{ \n }\r\n0\r\nX: y\r\n\r\n"),
            passed("{ \n }"),
        ),
        case("L00 close", ok("", "{ \n }"), closed("{ \n }")).next(Next::Close),
        case("L01", ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks), Bad)
            .or(closed("{ \n }")),
        case("L02 lines", ok("Content-Length: 5\r\nContent-Length: 6\r\n", "{ \n }"), Bad),
        case("L02 list", ok("Content-Length: 5, 6\r\n", "{ \n }"), Bad),
        case("L03 abc", ok("Content-Length: abc\r\n", "{ \n }"), Bad),
        case("L03 -1", ok("Content-Length: -1\r\n", "{ \n }"), Bad),
        case("L03 +5", ok("Content-Length: +5\r\n", "{ \n }"), Bad),
        case("L03 empty", ok("Content-Length:\r\n", "{ \n }"), Bad),
        case("L03 2^64", ok("Content-Length: 18446744073709551616\r\n", "{ \n }"), Bad),
        // Its body would end with the connection, but it is in a coding that we took off the label of.
        case("L04", ok("Transfer-Encoding: chunked, gzip\r\n", "{ \n }"), Bad).next(Next::Close),
        case("L05", ok("Transfer-Encoding: chunked\r\n", chunks).replace("HTTP/1.1", "HTTP/1.0"), Bad),
        case("L07 chunks", ok("Transfer-Encoding: chunked\r\n", "5\r\n{ \n }\r\n"), Cut).next(Next::Close),
        case("L07 length", ok("Content-Length: 6\r\n", "{ \n }"), Cut).next(Next::Close),
        case("L07 reset", ok("Content-Length: 6\r\n", "{ \n }"), Cut).or(Bad).next(Next::Reset),
        case("L08", ok("X: a\r\n b\r\nContent-Length: 5\r\n", "{ \n }"), Bad).or(passed("{ \n }")),
        case("L09", ok("X : y\r\nContent-Length: 5\r\n", "{ \n }"), Bad).or(passed("{ \n }")),
        case("L10 LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\n{ \n }", Bad),
        case("L10 NUL", ok("X: a\0b\r\nContent-Length: 5\r\n", "{ \n }"), Bad),
        case("L10 CR", ok("X: a\rb\r\nContent-Length: 5\r\n", "{ \n }"), Bad),
        case("L11 204", "HTTP/1.1 204 No Content\r\n\r\n{ \n }", PassedThenClosed(204, String::new())),
        case("L11 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Passed(304, String::new()))
            .or(Bad)
            .or(PassedThenClosed(304, String::new())),
        case("L13", ok("Content-Length: 5\r\n", "{ \n }, more"), closed("{ \n }")),
        case(
            "L13 chunks",
            ok("Transfer-Encoding: chunked\r\n", "5\r\n{ \n }\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"),
            closed("{ \n }"),
        ),
        case(
            "L15 103",
            format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}",
                ok("Content-Length: 5\r\n", "{ \n }")
            ),
            passed("{ \n }"),
        ),
        case(
            "L15 100",
            format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("Content-Length: 5\r\n", "{ \n }")),
            passed("{ \n }"),
        ),
        case(
            "L15 many",
            format!(
                "{}{}",
                "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000),
                ok("Content-Length: 5\r\n", "{ \n }")
            ),
            Bad,
        )
        .or(passed("{ \n }")),
        case("L17 SSH", "SSH-2.0-x\r\n", Bad).next(Next::Close),
        case("L17 alert", b"\x15\x03\x01\x00\x02\x02\x46", Bad).next(Next::Close),
        case("L17 empty", "", Bad).next(Next::Close),
        case("L17 99", "HTTP/1.1 99 X\r\nContent-Length: 5\r\n\r\n{ \n }", Bad),
        case("L17 1000", "HTTP/1.1 1000 X\r\nContent-Length: 5\r\n\r\n{ \n }", Bad),
        case("L17 000", "HTTP/1.1 000 X\r\nContent-Length: 5\r\n\r\n{ \n }", Bad),
        case("L17 version", "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\n{ \n }", Bad),
        case("L18 lines", format!("{head}{many_lines}Content-Length: 5\r\n\r\n{{ \n }}"), Bad),
        case(
            "L18 long",
            format!("{head}X: {}\r\nContent-Length: 5\r\n\r\n{{ \n }}", "a".repeat(1 << 20)),
            Bad,
        ),
        case("L18 endless", format!("{head}X: {}", "a".repeat(256 << 10)), Bad),
        case("L20", ok("Connection: close\r\nContent-Length: 5\r\n", "{ \n }"), closed("{ \n }")),
    ]
}

fn start(ids: &[&str], script_of: impl Fn(&Origin, usize)) -> (Origin, Gateway) {
    let origin = Origin::start();
    let mut config = Config::new().key("one", K1, "");
    for (index, _) in ids.iter().enumerate() {
        let (backend, model) = (format!("b{index}"), format!("m{index}"));
        config = config.backend(&backend, origin.port, "health = { enabled = false }");
        config = config.model(&model, &[&backend], "");
        script_of(&origin, index);
    }
    let gateway = Gateway::start(&config);
    (origin, gateway)
}

#[test]
fn the_table() {
    let cases = cases();
    let ids: Vec<&str> = cases.iter().map(|case| case.id).collect();
    let answered = Arc::new(AtomicUsize::new(0));
    let (origin, mut gateway) = start(&ids, |origin, index| {
        let (answer, next) = (cases[index].answer.clone(), cases[index].next);
        let told = Arc::clone(&answered);
        origin.case(&format!("case-{index}"), move |talk| {
            match talk.request.one("x-cut").as_str() {
                "whole" => talk.send(&answer),
                "bytes" => answer.iter().all(|byte| talk.send([*byte])),
                at => {
                    let at: usize = at.parse().expect("a place to cut at");
                    talk.send(&answer[..at]);
                    talk.pause(Duration::from_millis(2));
                    talk.send(&answer[at..])
                }
            };
            told.fetch_add(1, Ordering::SeqCst);
            next
        });
    });
    let mut complaints = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let mut cuts = vec!["whole".to_owned()];
        if (1..2000).contains(&case.answer.len()) {
            cuts.push("bytes".to_owned());
            cuts.extend(
                (1..case.answer.len()).step_by(case.answer.len().div_ceil(25)).map(|at| at.to_string()),
            );
        }
        let mut fates = Vec::new();
        for cut in cuts {
            match execute(&gateway, &origin, case, index, &cut, &answered) {
                Ok(fate) => fates.push(fate),
                Err(text) => complaints.push(format!("{} cut {cut}: {text}", case.id)),
            }
        }
        fates.dedup();
        if case.fate.len() > 1 {
            println!("{}: {fates:?}", case.id);
        }
    }
    gateway.check_alive();
    complaints.extend(origin.faults());
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

fn execute(
    gateway: &Gateway,
    origin: &Origin,
    case: &Case,
    index: usize,
    cut: &str,
    answered: &AtomicUsize,
) -> Result<Fate, String> {
    let mut client = gateway.connect();
    let body = format!(r#"{{"model":"m{index}","messages":[]}}"#);
    // A good answer first: it keeps the backend's record clean, and proves that the last bad one harmed nobody.
    let good = nonce();
    client.send(&chat(K1, &good, &body));
    let answer = client.answer()?;
    if answer.status() != 200 || !answer.text().contains(&good) {
        return Err(format!("the request before it got {answer:?}"));
    }
    let own = nonce();
    let before = answered.load(Ordering::SeqCst);
    let head = chat_head(K1, &own);
    client.send(
        format!("{head}X-Case: case-{index}\r\nX-Cut: {cut}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
    let fate = match client.answer() {
        Ok(answer) if answer.status() == 502 => {
            let error = answer.json();
            if !error["error"]["code"].is_string() {
                return Err(format!("a 502 without a code: {answer:?}"));
            }
            Fate::Bad
        }
        Ok(answer) => Fate::Passed(answer.status(), answer.text()),
        Err(_) if client.end() != End::Open => Fate::Cut,
        Err(error) => return Err(error),
    };
    // Bytes behind the answer lie at the gateway before the next request does.
    if !eventually(PATIENCE, || answered.load(Ordering::SeqCst) > before) {
        return Err("the origin was never done".to_owned());
    }
    let seen = origin.with_nonce(&own);
    let line = seen.last().ok_or("it never reached the origin")?.line;
    let line = Arc::clone(&origin.lines()[line]);
    let expects_end = case.fate.iter().all(|fate| !matches!(fate, Fate::Passed(..)));
    // What comes behind a whole answer is only seen once it is there; until then the connection is kept, and checked
    // before it is used again.
    if expects_end
        && cut == "whole"
        && case.next == Next::Keep
        && !eventually(Duration::from_secs(2), || line.ended.load(Ordering::SeqCst))
    {
        return Err(format!("{fate:?}, but the connection to the backend is kept"));
    }
    let fits = case.fate.iter().any(|wanted| match (wanted, &fate) {
        (Fate::PassedThenClosed(status, text), Fate::Passed(got, body)) => status == got && text == body,
        (wanted, fate) => wanted == fate,
    });
    if !fits {
        return Err(format!("{fate:?}, expected one of {:?}", case.fate));
    }
    // Nothing but an end on a kept connection is a connection that had gone stale: one more try is right.
    if case.fate == [Fate::Bad] && seen.len() > 1 && !case.answer.is_empty() {
        return Err(format!("it was sent {} times", seen.len()));
    }
    Ok(fate)
}

/// L06: chunks that turn bad after good events: the events pass, the end is an error, never a finish.
#[test]
fn broken_chunks_in_a_stream_do_not_finish_it() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        for index in 0..3 {
            talk.chunk(sse::content(&format!("e{index}")));
        }
        // What comes in one read with the fault has not gone out: that would be a 502, which is fine, and another test.
        talk.pause(Duration::from_millis(100));
        talk.send("ZZ\r\n");
        Next::Keep
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(&chat(K1, "broken", r#"{"model":"m","stream":true}"#));
    let outcome = client.finish(&[], Duration::from_secs(3));
    let answer = outcome.answers.first().or(outcome.cut.as_ref()).expect("a stream");
    let (text, ending) = sse::judge(&answer.text());
    assert_eq!(text, "e0e1e2");
    assert!(matches!(ending, sse::Ending::Failed(_)), "{ending:?} {answer:?}");
}

/// L15, L16: interim answers move no deadline: not of the first token, of a whole response or of its first byte.
#[test]
fn interim_answers_do_not_hold_the_clock() {
    let origin = Origin::start();
    origin.case("silent", |talk| {
        talk.send("HTTP/1.1 100 Continue\r\n\r\n");
        talk.gone(PATIENCE);
        Next::Close
    });
    origin.case("dripping", |talk| {
        while !talk.gone(Duration::from_millis(100)) && !talk.stopped() {
            talk.send("HTTP/1.1 102 Processing\r\n\r\n");
        }
        Next::Close
    });
    let stream = r#"{"model":"m","messages":[],"stream":true}"#;
    let deadlines = [("first_token", stream), ("response", J), ("first_byte", J), ("first_byte", stream)];
    for (key, body) in deadlines {
        let tables = format!("[timeouts]\nconnect = \"500ms\"\n{key} = \"1s\"");
        let gateway = Gateway::start(&Config::simple(origin.port).tables(&tables));
        for name in ["silent", "dripping"] {
            let mut client = gateway.connect();
            client.send(&support::case_request(K1, name, body));
            let answer = client.answer().unwrap_or_else(|error| panic!("{key}, {name}: {error}"));
            assert_eq!(answer.status(), 504, "{key}, {name}: {answer:?}");
        }
    }
}

/// L19: an answer while the request is still on its way is passed, and that connection is not used again.
#[test]
fn an_answer_before_the_request_has_gone_is_passed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            use std::io::{Read, Write};
            let mut stream = stream.expect("a connection");
            count.fetch_add(1, Ordering::SeqCst);
            let mut some = [0; 1024];
            let _ = stream.read(&mut some);
            let _ = stream
                .write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let mut total = 0;
            while let Ok(more @ 1..) = stream.read(&mut some) {
                total += more;
                if total > 64 << 20 {
                    break;
                }
            }
        }
    });
    let config = Config::simple(port).tables("[limits]\nbody_buffer = \"64KiB\"");
    let gateway = Gateway::start(&config);
    let body = format!(r#"{{"model":"m","pad":"{}"}}"#, "a".repeat(8 << 20));
    for turn in 0..2 {
        let mut client = gateway.connect();
        let head = format!("{}Content-Length: {}\r\n\r\n", chat_head(K1, "early"), body.len());
        client.send(head.as_bytes());
        client.send(body.as_bytes());
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status(), 413, "turn {turn}: {answer:?}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 2, "the connection was used again");
    drop(gateway);
    server.join().expect("the server");
}

/// L21, L22, L23: what an answer may carry to the client.
#[test]
fn an_answer_carries_only_what_is_for_the_client() {
    let secret = "sk-provider-secret-000111222";
    let origin = Origin::start();
    origin.case("fields", |talk| {
        talk.answer(
            "200 OK",
            "Connection: X-Secret\r\nX-Secret: 1\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a=b\r\nAlt-Svc: h3\r\n\
             openai-organization: org-1\r\nKeep-Alive: timeout=5\r\nX-Plain: 1\r\nstrict-transport-security: x\r\n",
            "{}",
        )
    });
    origin.case("redirect", |talk| {
        talk.answer("307 Temporary Redirect", "Location: http://169.254.169.254/\r\n", "")
    });
    origin.case("echo", move |talk| {
        let credential = talk.request.one("authorization");
        assert!(credential.contains(secret), "{:?}", talk.request);
        talk.answer(
            "401 Unauthorized",
            &format!("X-Debug: {credential}\r\n"),
            &format!("{{\"error\":\"{credential}\"}}"),
        )
    });
    let folder = Folder::new("secret");
    let file = folder.file("key", secret);
    let more =
        format!("api_key = {{ file = {:?} }}\nhealth = {{ enabled = false }}", file.display().to_string());
    let config = Config::new().backend("b1", origin.port, &more).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let ask = |name: &str| {
        let mut client = gateway.connect();
        client.send(
            format!("{}X-Case: {name}\r\nContent-Length: 27\r\n\r\n{J}", chat_head(K1, name)).as_bytes(),
        );
        client.answer().expect("an answer")
    };
    let answer = ask("fields");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.one("x-plain"), "1");
    for name in [
        "x-secret",
        "proxy-authenticate",
        "set-cookie",
        "alt-svc",
        "openai-organization",
        "keep-alive",
        "strict-transport-security",
    ] {
        assert!(!answer.has(name), "{name}: {answer:?}");
    }
    let answer = ask("redirect");
    assert!([307, 502].contains(&answer.status()), "{answer:?}");
    let answer = ask("echo");
    assert!(
        (500..600).contains(&answer.status()),
        "our own bad credential is not the client's fault: {answer:?}"
    );
    let everything = format!("{answer:?}{}{}", answer.text(), gateway.said());
    assert!(!everything.contains(secret), "{everything}");
}

/// L24: a line without an end costs no memory.
#[test]
fn a_line_without_an_end_is_streamed() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk("data: {\"x\":\"");
        let block = "a".repeat(64 << 10);
        for _ in 0..512 {
            if !talk.chunk(&block) {
                return Next::Close;
            }
        }
        talk.chunk("\"}\n\n");
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let before = gateway.resident();
    let mut client = gateway.connect();
    client.send(&chat(K1, "long", r#"{"model":"m","stream":true}"#));
    let mut total = 0_usize;
    let mut tail = Vec::new();
    while client.read_some(PATIENCE) {
        total += client.buffer.len();
        tail = std::mem::take(&mut client.buffer);
        if tail.ends_with(b"0\r\n\r\n") {
            break;
        }
    }
    assert!(total > 32 << 20, "{total} bytes came; last {}", tail.escape_ascii());
    assert!(
        tail.ends_with(b"[DONE]\n\n\r\n0\r\n\r\n"),
        "{}",
        tail[tail.len().saturating_sub(80)..].escape_ascii()
    );
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for 32 MiB");
}
