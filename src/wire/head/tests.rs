use super::*;
use crate::error::Fault;
use crate::wire::noise::Noise;
use crate::wire::{Step, fields, framing};

mod meanings;
mod requests;
mod responses;

const LIMITS: HeadLimits = HeadLimits { bytes: 64 << 10, lines: 100, target_bytes: 16 << 10 };

/// `G` of the tables without its lines' end, so that cases add lines.
const G: &str = "GET /v1/models HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer K1\r\n";
/// `P` of the tables.
const P: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer K1\r\n\
                 Content-Type: application/json\r\n";

/// The verdict over the whole input, asserted to be the same when the input is cut at every place, and when it
/// comes byte by byte. Long inputs are cut at every 97th place.
#[track_caller]
fn verdict<T: Copy + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8], &mut usize) -> Result<Step<T>, Fault>,
) -> Result<Step<T>, FaultKind> {
    let outcome = |cuts: &mut dyn Iterator<Item = usize>| {
        let mut scanned = 0;
        for cut in cuts {
            match read(&bytes[..cut], &mut scanned) {
                Ok(Step::More) => {}
                Ok(done) => return Ok(done),
                Err(fault) => return Err(fault.kind),
            }
        }
        Ok(Step::More)
    };
    let whole = outcome(&mut [bytes.len()].into_iter());
    for cut in (0..bytes.len()).step_by(if bytes.len() > 4_000 { 97 } else { 1 }) {
        let split = outcome(&mut [cut, bytes.len()].into_iter());
        assert_eq!(split, whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
    assert_eq!(outcome(&mut (0..=bytes.len())), whole, "byte by byte: {}", bytes.escape_ascii());
    whole
}

#[track_caller]
fn request_verdict(bytes: &[u8]) -> Result<Step<RequestHead>, FaultKind> {
    verdict(bytes, |bytes, scanned| request(bytes, scanned, &LIMITS))
}

#[track_caller]
fn response_verdict(bytes: &[u8], to: Method) -> Result<Step<ResponseHead>, FaultKind> {
    verdict(bytes, |bytes, scanned| response(bytes, scanned, &LIMITS, to))
}

/// The head at the start of `bytes`, which must be accepted.
#[track_caller]
fn accepts(bytes: impl AsRef<[u8]>) -> RequestHead {
    let bytes = bytes.as_ref();
    match request_verdict(bytes) {
        Ok(Step::Done(head)) => head,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn refuses(kind: FaultKind, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    assert_eq!(request_verdict(bytes), Err(kind), "{}", bytes.escape_ascii());
}

/// A request line and a sound rest.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: gw.test\r\n\r\n")
}

/// A path in a sound request.
fn path(path: &str) -> String {
    line(&format!("GET {path} HTTP/1.1"))
}

/// `G` with raw bytes and the blank line behind it.
fn g(lines: &[u8]) -> Vec<u8> {
    [G.as_bytes(), lines, b"\r\n"].concat()
}

/// `P` with lines and the blank line behind it.
fn p(lines: &str) -> String {
    format!("{P}{lines}\r\n\r\n")
}

#[test]
fn an_unfinished_head_asks_for_more() {
    let whole = format!("{G}X: y\r\n\r\n");
    for cut in 0..whole.len() {
        assert_eq!(request(&whole.as_bytes()[..cut], &mut 0, &LIMITS), Ok(Step::More), "{cut}");
    }
}

#[test]
fn the_scan_starts_over_with_the_next_head() {
    let two = format!("{G}\r\n{G}X: y\r\n\r\n");
    let mut scanned = 0;
    let Ok(Step::Done(first)) = request(two.as_bytes(), &mut scanned, &LIMITS) else { panic!() };
    assert_eq!((first.len, scanned), (G.len() + 2, 0));
    let Ok(Step::Done(second)) = request(&two.as_bytes()[first.len..], &mut scanned, &LIMITS) else {
        panic!()
    };
    assert_eq!(second.len, G.len() + 8);
}

#[test]
fn mutated_heads_have_one_verdict_at_every_cut() {
    let seed = 0x5eed_0001_u64;
    let mut noise = Noise::new(seed);
    let sound = [
        format!("{P}Content-Length: 27\r\nConnection: x-a, close\r\nX-A: 1\r\nExpect: 100-continue\r\n\r\n"),
        "GET http://gw.test/v1/a%20b?q=%0a HTTP/1.1\r\nHost: gw.test\r\n\r\n".to_owned(),
    ];
    for round in 0..600 {
        let bytes = noise.mutate(sound[round % sound.len()].as_bytes());
        let text = bytes.escape_ascii();
        let outcome = std::panic::catch_unwind(|| request_verdict(&bytes));
        let outcome = outcome.unwrap_or_else(|_| panic!("seed {seed:#x} round {round}: {text}"));
        if let Ok(Step::Done(head)) = outcome {
            let lines = fields::lines(head.fields.of(&bytes));
            assert!(
                lines.clone().all(|line| line.raw.ends_with(b"\r\n")),
                "seed {seed:#x} round {round}: {text}"
            );
            assert!(!bytes[..head.len].contains(&0), "seed {seed:#x} round {round}: {text}");
        }
    }
    let sound = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
                  Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n";
    for round in 0..400 {
        let bytes = noise.mutate(sound);
        let outcome = std::panic::catch_unwind(|| response_verdict(&bytes, Method::Post));
        assert!(outcome.is_ok(), "seed {seed:#x} response round {round}: {}", bytes.escape_ascii());
    }
}

#[test]
fn noise_is_refused() {
    let seed = 0x5eed_0003_u64;
    let mut noise = Noise::new(seed);
    for round in 0..200 {
        let bytes: Vec<u8> = (0..4 << 10).map(|_| noise.below(256) as u8).collect(); // A25
        assert!(request(&bytes, &mut 0, &LIMITS).is_err(), "seed {seed:#x} round {round}");
        assert!(response(&bytes, &mut 0, &LIMITS, Method::Get).is_err(), "seed {seed:#x} round {round}");
    }
}
