//! Tables of hostile inputs: every row in every segmentation, judged by the oracles O1-O8.
//!
//! O1 alive, O2 count of answers, O3 what the origin saw, O4 canaries, O5 fate of the socket, O6 nothing charged,
//! O7 the same verdict however the bytes are cut, O8 answers that give nothing away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::canary::{Canaries, PREFIX};
use crate::client::{Client, End, Outcome};
use crate::gateway::{Config, Gateway, K1, K2, sum};
use crate::origin::{Origin, Seen, TOKENS};
use crate::strict::Message;
use crate::{J, PATIENCE, chat_head, eventually, models_head, nonce};

/// Where the nonce of an execution goes.
pub const NONCE: &str = "@NONCE@@@@@@";

/// One input and what must become of it.
#[derive(Clone)]
pub struct Row {
    id: String,
    bytes: Vec<u8>,
    /// Accepted statuses, one list per final answer. An empty first list: a close without a word is fine too.
    answers: Vec<Vec<u16>>,
    silent: bool,
    heads: Vec<bool>,
    closes: bool,
    fin: bool,
    /// Requests that reach the origin, and the body each must have there.
    served: Option<Vec<u8>>,
    served_count: usize,
    cuts: usize,
}

/// A row that is refused with 400, then closed; the origin sees nothing.
pub fn refused(id: &str, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        id: id.to_owned(),
        bytes: bytes.as_ref().to_vec(),
        answers: vec![vec![400]],
        silent: false,
        heads: Vec::new(),
        closes: true,
        fin: false,
        served: None,
        served_count: 0,
        cuts: usize::MAX,
    }
}

/// A row that is answered 200 by the gateway itself; the connection stays.
pub fn answered(id: &str, bytes: impl AsRef<[u8]>) -> Row {
    Row { answers: vec![vec![200]], closes: false, ..refused(id, bytes) }
}

/// A row that reaches the origin once, with the body [`J`], and is answered 200; the connection stays.
pub fn served(id: &str, bytes: impl AsRef<[u8]>) -> Row {
    Row { served: Some(J.into()), served_count: 1, ..answered(id, bytes) }
}

impl Row {
    /// Another status of the (last) answer that is fine too.
    pub fn or(mut self, status: u16) -> Self {
        self.answers.last_mut().expect("an answer").push(status);
        self
    }

    /// Exactly this status of the (last) answer.
    pub fn status(mut self, status: u16) -> Self {
        *self.answers.last_mut().expect("an answer") = vec![status];
        self
    }

    /// One more answer, any of these.
    pub fn then(mut self, statuses: &[u16]) -> Self {
        self.answers.push(statuses.to_vec());
        self
    }

    /// Closing without any answer is fine too.
    pub fn or_silence(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The connection ends after the last answer.
    pub fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The connection stays.
    pub fn stays(mut self) -> Self {
        self.closes = false;
        self
    }

    /// We send FIN after the bytes.
    pub fn fin(mut self) -> Self {
        self.fin = true;
        self.closes = true;
        self
    }

    /// Whether each answer is one to HEAD.
    pub fn heads(mut self, heads: &[bool]) -> Self {
        self.heads = heads.to_vec();
        self
    }

    /// How often the origin is reached, each time with this body.
    pub fn origin(mut self, count: usize, body: &[u8]) -> Self {
        self.served_count = count;
        self.served = Some(body.to_vec());
        self
    }

    /// At most this many cut positions (long rows).
    pub fn cuts(mut self, count: usize) -> Self {
        self.cuts = count;
        self
    }

    /// The bytes as they are, for tests that send them by themselves.
    pub fn bytes_for_test(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// The same row with another id and bytes.
    pub fn with(&self, id: &str, bytes: impl AsRef<[u8]>) -> Self {
        Row { id: id.to_owned(), bytes: bytes.as_ref().to_vec(), ..self.clone() }
    }
}

/// The macro `G`: the head of GET /v1/models without its blank line.
pub fn g() -> String {
    models_head(K1)
}

/// The macro `P`: the head of a chat request without framing and without its blank line.
pub fn p() -> String {
    chat_head(K1, NONCE)
}

/// The macro `T`: `P` with a chunked body to come.
pub fn t() -> String {
    format!("{}Transfer-Encoding: chunked\r\n\r\n", p())
}

/// Joins pieces of text and bytes.
pub fn cat(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// How one execution sends its bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cut {
    Whole,
    Bytewise,
    At(usize),
}

/// Executions that are open at once.
const BATCH: usize = 64;
/// Cut positions per row, unless the row says otherwise: heads of a few hundred bytes are cut everywhere.
const CUTS_MAX: usize = 420;

/// Runs the rows against one gateway and one origin, and fails with every row that went wrong.
pub fn run(name: &str, rows: &[Row]) {
    run_on(name, rows, |config| config);
}

/// As [`run`], with a changed configuration.
pub fn run_on(name: &str, rows: &[Row], change: impl Fn(Config) -> Config) {
    let origin = Origin::start();
    let mut gateway = Gateway::start(&change(Config::simple(origin.port)));
    let threads = gateway.threads();
    let canaries = Canaries::start(&gateway);
    let mut complaints = Vec::new();
    let started = Instant::now();
    let mut executions = 0;
    for row in rows {
        let mut verdicts = BTreeMap::<String, Cut>::new();
        let mut bad = Vec::new();
        let cuts = cuts(row);
        let mut ledger = Ledger::open(&gateway);
        for batch in cuts.chunks(BATCH) {
            executions += batch.len();
            bad.extend(execute(row, batch, &gateway, &origin, &mut verdicts, &mut ledger));
        }
        bad.extend(ledger.close(&gateway, cuts.len() * row.served_count));
        if verdicts.len() > 1 {
            bad.push(format!("O7: the verdict depends on the cut: {verdicts:?}"));
        }
        if row.answers.iter().any(|statuses| statuses.len() > 1) || row.silent {
            println!("{name} {}: {}", row.id, verdicts.keys().cloned().collect::<Vec<_>>().join(" or "));
        }
        let count = bad.len();
        complaints.extend(bad.into_iter().take(3).map(|text| format!("{}: {text}", row.id)));
        if count > 3 {
            complaints.push(format!("{}: and {} more", row.id, count - 3));
        }
        if gateway.ended().is_some() {
            complaints.push(format!("O1: the gateway died at {}", row.id));
            break;
        }
    }
    complaints.extend(canaries.finish().into_iter().map(|text| format!("O4: {text}")));
    complaints.extend(origin.faults().into_iter().map(|text| format!("O3: {text}")));
    if gateway.threads() < threads {
        complaints.push(format!("O1: {} threads of {threads} are left", gateway.threads()));
    }
    gateway.check_alive();
    println!("{name}: {} rows, {executions} executions in {:?}", rows.len(), started.elapsed());
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

/// Every way to cut the row; a seeded sample if there are too many.
fn cuts(row: &Row) -> Vec<Cut> {
    let mut cuts = vec![Cut::Whole];
    let length = row.bytes.len();
    if length <= 4096 {
        cuts.push(Cut::Bytewise);
    }
    let places = length.saturating_sub(1).min(row.cuts).min(CUTS_MAX);
    if places + 1 >= length {
        cuts.extend((1..length).map(Cut::At));
    } else {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
        for _ in 0..places {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            cuts.push(Cut::At(1 + (seed >> 33) as usize % (length - 1)));
        }
    }
    cuts
}

/// Runs one batch of executions side by side and says what went wrong.
fn execute(
    row: &Row,
    batch: &[Cut],
    gateway: &Gateway,
    origin: &Origin,
    verdicts: &mut BTreeMap<String, Cut>,
    ledger: &mut Ledger,
) -> Vec<String> {
    let mut bad = Vec::new();
    let mut runs = Vec::new();
    for cut in batch {
        let nonce = nonce();
        let bytes = replace(&row.bytes, NONCE.as_bytes(), nonce.as_bytes());
        let mut client = Client::connect(gateway.port);
        match cut {
            Cut::Whole => client.send(&bytes),
            Cut::Bytewise => client.send_bytewise(&bytes),
            Cut::At(at) => client.send(&bytes[..*at]),
        };
        runs.push((*cut, nonce, bytes, client));
    }
    // The gateway must see the first part alone. If it sometimes does not, the row is judged all the same.
    std::thread::sleep(Duration::from_millis(2));
    for (cut, _, bytes, client) in &mut runs {
        if let Cut::At(at) = cut {
            client.send(&bytes[*at..]);
        }
        if row.fin {
            client.half_close();
        }
    }
    let mut wanted = BTreeMap::new();
    for (cut, nonce, _, client) in runs {
        let (verdict, complaint) = judge(row, client, ledger);
        bad.extend(complaint.map(|text| format!("{cut:?}: {text}")));
        wanted.insert(nonce, cut);
        verdicts.entry(verdict).or_insert(cut);
    }
    bad.extend(judge_origin(row, origin, &wanted));
    bad
}

/// Reads everything on one connection: the verdict in short, and what is wrong with it.
fn judge(row: &Row, mut client: Client, ledger: &mut Ledger) -> (String, Option<String>) {
    let mut heads = row.heads.clone();
    heads.resize(row.answers.len(), false);
    let mut early = Vec::new();
    if !row.closes {
        // The connection must be good for one more exchange, and for nothing that we did not ask for.
        for to_head in &heads {
            match client.answer_to(*to_head, PATIENCE) {
                Ok(answer) => early.push(answer),
                Err(error) => return ("broken".into(), Some(error)),
            }
        }
        client.send(format!("{}Connection: close\r\n\r\n", g()).as_bytes());
        heads = vec![false];
    }
    let Outcome { answers, cut, error, end, .. } = client.finish(&heads, PATIENCE);
    let statuses = |answers: &[Message]| -> Vec<u16> { answers.iter().map(|a| a.status()).collect() };
    let mut seen = statuses(&early);
    let mut complaint = error.map(|error| format!("O2: {error}"));
    if cut.is_some() {
        complaint = Some(format!("O2: an answer is cut: {cut:?}"));
    }
    if row.closes {
        seen = statuses(&answers);
    } else if statuses(&answers) != [200] {
        complaint = Some(format!("O2: after {seen:?}, the probe got {answers:?}"));
    }
    let fits = seen.len() == row.answers.len()
        && seen.iter().zip(&row.answers).all(|(status, accepted)| accepted.contains(status));
    if !(fits || row.silent && seen.is_empty()) {
        complaint = Some(format!("O2: answers {seen:?}, expected {:?}; {answers:?}{early:?}", row.answers));
    }
    if end != End::Fin && complaint.is_none() {
        complaint = Some(format!("O5: expected FIN, got {end:?} after {seen:?}"));
    }
    for answer in early.iter().chain(&answers).filter(|answer| answer.status() >= 400) {
        ledger.refused(answer);
        if let Some(leak) = leak(&answer.text()) {
            complaint = Some(format!("O8: {leak:?} in {answer:?}"));
        }
    }
    if complaint.is_none() && row.closes && row.answers.last().is_some_and(|last| last[0] >= 400) {
        let last = answers.last();
        if last.is_some_and(|last| !last.one("connection").eq_ignore_ascii_case("close")) {
            complaint = Some(format!("O5: closes without saying so: {last:?}"));
        }
    }
    (format!("{seen:?} {end:?}"), complaint)
}

/// O6: what the gateway wrote down about a row. The canaries have another key, and are never refused.
struct Ledger {
    tokens: f64,
    page: String,
    refused: BTreeMap<String, usize>,
}

impl Ledger {
    fn open(gateway: &Gateway) -> Self {
        let (_, page) = gateway.ask_admin("/metrics").expect("metrics");
        let tokens = sum(&page, "ringway_key_tokens_total", "key=\"one\"");
        Self { tokens, page, refused: BTreeMap::new() }
    }

    fn refused(&mut self, answer: &Message) {
        let code = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let code = code.and_then(|body| Some(body["error"]["code"].as_str()?.to_owned()));
        *self.refused.entry(code.unwrap_or_default()).or_default() += 1;
    }

    /// Every refusal under its code, nothing charged for it, and every answer charged with what it used.
    fn close(&self, gateway: &Gateway, served: usize) -> Vec<String> {
        let wanted = self.tokens + (served * TOKENS) as f64;
        let mut bad = Vec::new();
        // An exchange is settled after its last byte has gone out.
        eventually(PATIENCE, || {
            let (_, page) = gateway.ask_admin("/metrics").expect("metrics");
            bad.clear();
            let tokens = sum(&page, "ringway_key_tokens_total", "key=\"one\"");
            if tokens != wanted {
                bad.push(format!("O6: {} tokens before, {tokens} after {served} answers", self.tokens));
            }
            for (code, count) in &self.refused {
                let of = |page| sum(page, "ringway_faults_total", &format!("code=\"{code}\""));
                let grown = of(&page) - of(&self.page);
                if grown != *count as f64 {
                    bad.push(format!("O6: {count} refusals as {code:?}, {grown} of them counted"));
                }
            }
            bad.is_empty()
        });
        bad
    }
}

/// What an error for a client must not hold.
pub fn leak(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    [K1, K2, "127.0.0.1", "b1", "httparse", "serde", "panick", "src/", ".rs:", "sha256", "errno", "os error"]
        .into_iter()
        .find(|part| lower.contains(&part.to_ascii_lowercase()))
}

/// O3 and O6 for a batch: exactly the wanted requests, each strict and whole, with the body the client sent.
fn judge_origin(row: &Row, origin: &Origin, wanted: &BTreeMap<String, Cut>) -> Vec<String> {
    let mine = |seen: &Seen| !seen.nonce().starts_with(PREFIX);
    let mut bad = Vec::new();
    let mut counts = BTreeMap::<String, usize>::new();
    // Answers have been read, so what was to come has come.
    for seen in origin.take(mine) {
        let nonce = seen.nonce();
        *counts.entry(nonce.clone()).or_default() += 1;
        if !wanted.contains_key(&nonce) {
            bad.push(format!("O3: a foreign request at the origin: {:?}", seen.request));
        } else if row.served.as_ref().is_some_and(|body| *body != seen.request.body) {
            bad.push(format!("O3: another body at the origin: {:?}", seen.request));
        }
        bad.extend(forwarded_badly(&seen).map(|text| format!("O3: {text}: {:?}", seen.request)));
    }
    for (nonce, cut) in wanted {
        let count = counts.get(nonce).copied().unwrap_or(0);
        if count != row.served_count {
            bad.push(format!("O3: {cut:?}: {count} requests at the origin, expected {}", row.served_count));
        }
    }
    bad
}

/// What is wrong with a request that we sent to a backend, beyond the strict grammar.
pub fn forwarded_badly(seen: &Seen) -> Option<String> {
    let request = &seen.request;
    let hop =
        ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authorization"];
    let kept = |name: &&str| {
        request.has(name)
            && !matches!(request.one(name).to_ascii_lowercase().as_str(), "keep-alive" | "close")
    };
    if let Some(name) = hop.iter().find(|name| kept(name)) {
        return Some(format!("hop-by-hop {name} went on"));
    }
    if seen.raw.windows(K1.len()).any(|part| part == K1.as_bytes() || part == K2.as_bytes()) {
        return Some("the client's key went on".to_owned());
    }
    let framed = request.all("content-length").len() + request.all("transfer-encoding").len();
    let post = request.start.starts_with("POST ");
    (post && framed != 1).then(|| format!("{framed} framing fields"))
}

/// Waits until the gateway has nothing in flight at the origin.
pub fn settled(origin: &Origin) -> bool {
    eventually(PATIENCE, || origin.open() == 0)
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len().saturating_sub(from.len() - 1)).filter(|at| bytes[*at..].starts_with(from)).collect();
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(to);
    }
    bytes
}
