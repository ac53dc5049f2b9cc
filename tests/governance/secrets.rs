//! S04, S11, S28: secrets that can be recognised go through everything the gateway does, and everything it says is
//! searched for them, for their digests and for what base64 makes of either.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use support::gateway::{Config, Gateway, free_port};
use support::origin::{Next, Origin, Talk, echo};
use support::tls::{Authority, Certified, Tunnel, secured};
use support::{J, PATIENCE, chat, chat_head, eventually};

// Without a-f, so that no run of eight is ever part of an id or a digest.
/// The key of a client.
const CLIENT: &str = "rwKqZvWmXrTgYpNhJsLwuzQVxRtHkGmP";
/// One that nobody has; whoever typed it may have meant another.
const WRONG: &str = "rwHsMzKxPvTnWqJgRyLkUwNtGhVmXsZr";
/// The credential of a backend, in the environment.
const BY_ENV: &str = "skTzNgWvKmPxRqHyLsJkXwUtVhZnGrMp";
/// The credential of another one, in a file.
const BY_FILE: &str = "skLwXkVtRzGmNyHpQsJvTgKxWrUnZhPm";
/// The token of the operator.
const ADMIN: &str = "rtGxPwZkNvHtMsRyJqLzVmUgXnKhTrWp";
/// One that an operator once had.
const WRONG_ADMIN: &str = "rtWzRkTvXmQgLpHnYsJxKuNwVhGzMtPr";

const TEXTS: [(&str, &str); 6] = [
    ("client key", CLIENT),
    ("wrong key", WRONG),
    ("credential by env", BY_ENV),
    ("credential by file", BY_FILE),
    ("admin token", ADMIN),
    ("wrong admin token", WRONG_ADMIN),
];

/// What is looked for: every run of some bytes of every form of every secret.
struct Canaries {
    /// `names: [whose; needles]`.
    names: Vec<&'static str>,
    needles: Vec<Vec<u8>>,
}

impl Canaries {
    fn of(certified: &Certified) -> Self {
        let mut all = Self { names: Vec::new(), needles: Vec::new() };
        for (name, text) in TEXTS {
            let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            let digest = digest.as_ref();
            all.add(name, text.as_bytes(), 8);
            all.add(name, digest, 8);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            all.add(name, hex.as_bytes(), 16);
            all.add(name, hex.to_uppercase().as_bytes(), 16);
            for bytes in [text.as_bytes(), digest] {
                let listed: Vec<String> = bytes.iter().map(u8::to_string).collect();
                all.needles.push(listed[..8].join(", ").into_bytes());
                all.names.push(name);
                // Wherever the bytes stand in what is coded: three ways to cut them into threes.
                for start in 0..3 {
                    all.add(name, base64(&bytes[start..]).as_bytes(), 12);
                }
            }
        }
        for line in certified.key.lines().filter(|line| !line.starts_with("-----")) {
            all.add("tls key", line.as_bytes(), 16);
        }
        let der = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("a key");
        all.add("tls key", der.secret_der(), 16);
        all
    }

    fn add(&mut self, name: &'static str, bytes: &[u8], run: usize) {
        for needle in bytes.windows(run.min(bytes.len())) {
            self.needles.push(needle.to_vec());
            self.names.push(name);
        }
    }

    /// Whose secrets occur in these bytes.
    fn seen_in(&self, bytes: &[u8]) -> BTreeSet<&'static str> {
        let search = AhoCorasick::new(&self.needles).expect("few needles");
        search.find_iter(bytes).map(|found| self.names[found.pattern().as_usize()]).collect()
    }
}

/// Base64 of whole threes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks_exact(3) {
        let word = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        for place in [18, 12, 6, 0] {
            text.push(char::from(LETTERS[(word >> place & 63) as usize]));
        }
    }
    text
}

/// Everything that came out, and where.
#[derive(Default)]
struct Outputs(Vec<(String, Vec<u8>)>);

impl Outputs {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// Sends these bytes on a connection of their own and takes whatever comes back until its end.
    fn ask(&mut self, place: &str, port: u16, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = stream.write_all(bytes); // it may be refused before it is all there
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // so may the connection be
        let text = String::from_utf8_lossy(&answer).into_owned();
        self.add(place, answer);
        text
    }

    /// `ringway check` on this text in that folder.
    fn check(&mut self, folder: &Path, text: &str, config: &Config) -> bool {
        let file = folder.join("checked.toml");
        std::fs::write(&file, text).expect("a configuration file");
        let mut command = Command::new(support::binary());
        let output = command.arg("check").arg(&file).envs(config.variables()).output().expect("it runs");
        self.add(format!("check, stdout, of {text}"), output.stdout);
        self.add(format!("check, stderr, of {text}"), output.stderr);
        output.status.success()
    }
}

/// A backend that repeats the credential it was sent, in a field and in the middle of its body, with any status that the
/// request names. It stops in the middle of it for a moment.
fn blabs(talk: &mut Talk) -> Next {
    let status = talk.request.one("x-status");
    if status.is_empty() {
        return echo(talk);
    }
    let (bearer, key) = (talk.request.one("authorization"), talk.request.one("x-api-key"));
    let before = format!(r#"{{"error":{{"message":"Incorrect API key provided: {bearer}{key}, not "#);
    let body = format!(r#"{before}{bearer}{key}"}}}}"#);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Given: {bearer}{key}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(before.len() + (bearer.len() + key.len()) / 2);
    talk.send(head + first);
    talk.pause(Duration::from_millis(30));
    talk.send(rest);
    Next::Keep
}

/// Where a secret stands that should not, by mistake.
fn mistakes() -> Vec<String> {
    let backend = |line: &str| format!("[backend.x]\nurl = \"http://127.0.0.1:1\"\n{line}\n");
    vec![
        backend(&format!("api_key = \"{BY_ENV}\"")),
        backend(&format!("api_key = {BY_ENV}")),
        backend(&format!("api_key = {{ env = \"{BY_ENV}\" }}")),
        backend(&format!("api_key = {{ sha256 = \"{BY_ENV}\" }}")),
        backend(&format!("kind = \"{BY_ENV}\"")),
        backend(&format!("serves = [\"{BY_ENV}\"]")),
        backend(&format!("weight = \"{BY_ENV}\"")),
        backend("api_key = { env = \"TWO_LINES\" }"),
        backend("api_key = { file = \"two-lines\" }"),
        format!("[backend.x]\nurl = \"http://user:{BY_ENV}@127.0.0.1:1\"\n"),
        format!("[backend.x]\nurl = \"{BY_ENV}\"\n"),
        format!("[key.x]\nsha256 = \"{CLIENT}\"\n"),
        format!("[key.x]\nsha256 = {CLIENT}\n"),
        format!("[key.x]\nsha256 = \"{CLIENT}\nmodels = []\n"),
        format!("[timeouts]\nhead = \"{ADMIN}\"\n"),
        format!("[access_log]\npath = \"{ADMIN}\"\n"),
        format!("[log]\nlevel = \"{ADMIN}\"\n"),
        format!("[reload]\nwatch = \"{ADMIN}\"\n"),
    ]
}

#[test]
fn no_secret_is_ever_said() {
    let authority = Authority::new();
    let certified = authority.certify("localhost");
    let canaries = Canaries::of(&certified);
    let (by_env, by_file) = (Origin::scripted(blabs), Origin::scripted(blabs));
    let cut = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(support::sse::content("half"));
        Next::Close
    });
    let quiet = "health = { enabled = false }";
    let config = Config::new()
        .top("debug_headers = true")
        .tables("[access_log]\npath = \"./access.jsonl\"\n[log]\nlevel = \"debug\"")
        .admin("token = { env = \"ADMIN_TOKEN\" }")
        .variable("ADMIN_TOKEN", ADMIN)
        .variable("BACKEND_KEY", BY_ENV)
        .variable("TWO_LINES", &format!("{BY_ENV}\r\n{BY_FILE}"))
        .file("backend-key", &format!("{BY_FILE}\n"))
        .file("two-lines", &format!("{BY_ENV}\n{BY_FILE}\n"))
        .backend("env", by_env.port, &format!("api_key = {{ env = \"BACKEND_KEY\" }}\n{quiet}"))
        .backend(
            "file",
            by_file.port,
            &format!("kind = \"anthropic\"\nserves = [\"chat\", \"messages\"]\napi_key = {{ file = \"backend-key\" }}\n{quiet}"),
        )
        .backend("cut", cut.port, &format!("api_key = {{ env = \"BACKEND_KEY\" }}\n{quiet}"))
        .backend("gone", free_port(), &format!("api_key = {{ env = \"BACKEND_KEY\" }}\n{quiet}"))
        .model("m", &["env"], "")
        .model("n", &["file"], "")
        .model("cut", &["cut"], "")
        .model("gone", &["gone"], "fallbacks = [\"n\"]")
        .model("lost", &["gone"], "")
        .key("one", CLIENT, "models = [\"m\", \"n\", \"cut\", \"gone\", \"lost\"]\nin_flight_max = 64");
    let config = secured(config, &certified);
    let mut gateway = Gateway::start(&config);
    gateway.panics_expected = true;
    let tunnel = Tunnel::into_tls(gateway.port, authority.client(&TLS13));
    let mut outputs = Outputs::default();

    // The data plane: what is served, what is refused, what fails.
    let post = |key: &str, more: &str, body: &str| {
        let head = chat_head(key, "canary");
        format!("{head}{more}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let body =
        |model: &str, stream: bool| format!(r#"{{"model":"{model}","messages":[],"stream":{stream}}}"#);
    for (model, stream) in [("m", false), ("m", true), ("n", false), ("gone", false)] {
        let said = outputs.ask("served", tunnel.port, &post(CLIENT, "", &body(model, stream)));
        assert!(said.starts_with("HTTP/1.1 200 "), "{model}: {said}");
    }
    for (what, bytes, status) in [
        ("wrong key", post(WRONG, "", J), "401"),
        ("two keys", post(CLIENT, &format!("x-api-key: {WRONG}\r\n"), J), "200"),
        ("two wrong keys", post(WRONG, &format!("api-key: {WRONG}\r\nx-goog-api-key: {WRONG}\r\n"), J), "401"),
        ("same line twice", post(CLIENT, &format!("Authorization: Bearer {WRONG}\r\n"), J), "400"),
        ("another scheme", format!("GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {CLIENT}\r\nConnection: close\r\n\r\n").into_bytes(), "401"),
        ("in the query", format!("GET /v1/models?key={WRONG} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes(), "401"),
        ("in the path", format!("GET /{WRONG} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes(), "404"),
        ("a folded line", format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n {CLIENT}\r\n\r\n").into_bytes(), "400"),
        ("a bare key", format!("{CLIENT}\r\n\r\n").into_bytes(), "400"),
        ("no JSON", post(CLIENT, "", "{"), "400"),
        ("no such model", post(CLIENT, "", &body("nobody", false)), "404"),
        ("the backend refuses us", post(CLIENT, "X-Status: 401 Unauthorized\r\n", J), "502"),
        ("the backend forbids us", post(CLIENT, "X-Status: 403 Forbidden\r\n", J), "502"),
        ("the backend fails", post(CLIENT, "X-Status: 500 Internal Server Error\r\n", J), "500"),
        ("the backend finds fault", post(CLIENT, "X-Status: 400 Bad Request\r\n", J), "400"),
        ("the backend does not know it", post(CLIENT, "X-Status: 404 Not Found\r\n", J), "404"),
        ("the backend cannot do it", post(CLIENT, "X-Status: 422 Unprocessable Content\r\n", J), "422"),
        ("a status of its own", post(CLIENT, "X-Status: 418 I'm a teapot\r\n", J), "418"),
        ("a stream", post(CLIENT, "X-Status: 400 Bad Request\r\n", &body("m", true)), "400"),
        ("the other refuses us", post(CLIENT, "X-Status: 401 Unauthorized\r\n", &body("n", false)), "502"),
        ("the other finds fault", post(CLIENT, "X-Status: 400 Bad Request\r\n", &body("n", false)), "400"),
        ("nobody there", post(CLIENT, "", &body("lost", false)), "50"),
        ("a cut stream", post(CLIENT, "", &body("cut", true)), "200"),
    ] {
        let said = outputs.ask(what, tunnel.port, &bytes);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {said}");
    }
    if cfg!(debug_assertions) {
        let said = outputs.ask("a panic", tunnel.port, &post(CLIENT, "x-ringway-failpoint: panic\r\n", J));
        assert_eq!(said, "");
        assert!(eventually(PATIENCE, || gateway.said().contains("panicked")), "{}", gateway.said());
    }
    outputs.ask("plaintext on a TLS port", gateway.port, &chat(CLIENT, "canary", J));

    // The operator's side.
    for (method, path) in
        [("GET", "/status"), ("GET", "/metrics"), ("GET", "/readyz"), ("GET", "/nobody"), ("POST", "/reload")]
    {
        for token in ["", WRONG_ADMIN, CLIENT, ADMIN] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let said = outputs.ask(&format!("{method} {path}"), gateway.admin, request.as_bytes());
            assert!(token != ADMIN || !said.starts_with("HTTP/1.1 401"), "{said}");
        }
    }
    let whole = config.text(gateway.port, gateway.admin);
    assert!(outputs.check(gateway.folder(), &whole, &config), "the good file holds");
    let status = |place: &str, outputs: &mut Outputs, method: &str, path: &str| {
        let line = format!("Authorization: Bearer {ADMIN}\r\n");
        let answer = gateway.send_admin(method, path, &line).expect("an answer");
        outputs.add(place, answer.text());
        answer.status()
    };
    for mistake in mistakes() {
        let text = format!("{whole}\n{mistake}");
        assert!(!outputs.check(gateway.folder(), &text, &config), "{mistake}");
        gateway.rewrite_text(&text);
        assert_eq!(status("reload", &mut outputs, "POST", "/reload"), 422, "{mistake}");
        assert_eq!(status("status", &mut outputs, "GET", "/status"), 200);
    }
    let tls = |text: &str| whole.replace("key_file = \"key.pem\"", text);
    for text in [
        tls("key_file = \"cert.pem\""),
        tls("key_file = \"two-lines\""),
        whole.replace("\"cert.pem\"", "\"key.pem\""),
    ] {
        assert!(!outputs.check(gateway.folder(), &text, &config), "{text}");
    }

    let log = gateway.folder().join("access.jsonl");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(eventually(PATIENCE, || lines().lines().count() >= 20), "{}", lines());
    gateway.signal("TERM");
    assert!(gateway.wait(PATIENCE * 4).is_some_and(|status| status.success()), "{}", gateway.said());
    outputs.add("access log", lines());
    outputs.add("stdout and stderr", gateway.said());

    let leaks: Vec<_> = outputs
        .0
        .iter()
        .filter(|(_, bytes)| !canaries.seen_in(bytes).is_empty())
        .map(|(place, bytes)| {
            format!("{:?} in {place}:\n{}", canaries.seen_in(bytes), String::from_utf8_lossy(bytes))
        })
        .collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n---\n"));

    // Each backend had its own credential, and nothing else that is secret: the search does find what is there.
    let sent = |origin: &Origin| -> BTreeSet<&str> {
        let seen = origin.seen();
        assert!(!seen.is_empty());
        seen.iter().flat_map(|seen| canaries.seen_in(&seen.raw)).collect()
    };
    assert_eq!(sent(&by_env), BTreeSet::from(["credential by env"]));
    assert_eq!(sent(&by_file), BTreeSet::from(["credential by file"]));
    assert_eq!(canaries.seen_in(certified.key.as_bytes()), BTreeSet::from(["tls key"]));
}
