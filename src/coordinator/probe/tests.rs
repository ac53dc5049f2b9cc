use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::coordinator::{fixture, resolve};
use crate::error::Unreachable;
use crate::plan::Target;
use crate::units::BackendId;

/// Answers every connection with the current script, and keeps the requests.
struct Scripted {
    response: Mutex<&'static [u8]>,
    asked: AtomicUsize,
    last: Mutex<Vec<u8>>,
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAILING: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

impl Scripted {
    fn new(response: &'static [u8]) -> Arc<Self> {
        Arc::new(Self { response: Mutex::new(response), asked: AtomicUsize::new(0), last: Mutex::default() })
    }

    fn set(&self, response: &'static [u8]) {
        *self.response.lock().unwrap() = response;
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = vec![0; 4096];
        let mut filled = 0;
        while !head[..filled].ends_with(b"\r\n\r\n") {
            match stream.read(&mut head[filled..]).await {
                Ok(count @ 1..) => filled += count,
                _ => return,
            }
        }
        head.truncate(filled);
        *self.last.lock().unwrap() = head;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let response = *self.response.lock().unwrap();
        let _ = stream.write_all(response).await;
    }

    async fn listen(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.serve(stream).await;
            }
        });
        port
    }
}

fn health(watch: &Watch) -> Health {
    watch.plan.backends.cells(BackendId::new(0)).health()
}

fn rule() -> HealthProbe {
    HealthProbe { path: None, interval: Nanos(0), timeout: Nanos(0), failures: 3, successes: 2 }
}

#[test]
fn health_flips_only_after_consecutive_results() {
    use Health::{Down, Unknown, Up};
    let mut verdict = Verdict { health: Unknown, contrary: 0 };
    for (step, (success, expected)) in [
        (false, Unknown),
        (false, Unknown),
        (true, Up),
        (false, Up),
        (false, Up),
        (true, Up),
        (false, Up),
        (false, Up),
        (false, Down),
        (true, Down),
        (false, Down),
        (true, Down),
        (true, Up),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(verdict.after(success, &rule()), expected, "step {step}");
    }
}

#[test]
fn a_threshold_of_zero_is_one() {
    let mut verdict = Verdict { health: Health::Up, contrary: 0 };
    assert_eq!(verdict.after(false, &HealthProbe { failures: 0, ..rule() }), Health::Down);
}

#[test]
fn pauses_stay_within_a_fifth_of_the_interval_and_differ() {
    let mut random = 1;
    let pauses: Vec<_> = (0..1_000).map(|_| pause(fixture::millis(1_000), &mut random)).collect();
    assert!(pauses.iter().all(|pause| (800..=1_200).contains(&pause.as_millis())));
    assert!(pauses.iter().any(|pause| pause.as_millis() < 850));
    assert!(pauses.iter().any(|pause| pause.as_millis() > 1_150));
    assert_eq!(pause(Nanos(0), &mut random), PAUSE_MIN);
}

#[tokio::test]
async fn a_backend_goes_down_and_comes_back() {
    let server = Scripted::new(OK);
    let plan = fixture::plan(&[fixture::tcp("127.0.0.1", server.listen().await)]);
    resolve::initial(&plan, Duration::ZERO);
    let watch = fixture::watch(plan, Vec::new());
    let mut duties = JoinSet::new();
    spawn(&watch, &mut duties);
    fixture::until("up", || health(&watch) == Health::Up).await;
    server.set(FAILING);
    fixture::until("down", || health(&watch) == Health::Down).await;
    assert!(watch.probes[0].failures.load(Ordering::Relaxed) >= 3);
    assert_eq!(lock(&watch.probes[0].last_failure).as_deref(), Some("status 503"));
    server.set(OK);
    fixture::until("up again", || health(&watch) == Health::Up).await;
}

#[tokio::test]
async fn a_hosted_provider_gets_our_credential() {
    let server = Scripted::new(OK);
    let mut plan = fixture::plan(&[fixture::tcp("127.0.0.1", server.listen().await)]);
    plan.backends[0].provider.hosted = true;
    resolve::initial(&plan, Duration::ZERO);
    probe(&plan.backends[0], "/v1/models").await.unwrap();
    let head = String::from_utf8(server.last.lock().unwrap().clone()).unwrap();
    assert!(head.contains("\r\nauthorization: Bearer s3cret\r\n"), "{head}");
}

#[tokio::test]
async fn a_probe_asks_for_the_path_and_sends_no_credential() {
    let server = Scripted::new(OK);
    let plan = fixture::plan(&[fixture::tcp("127.0.0.1", server.listen().await)]);
    resolve::initial(&plan, Duration::ZERO);
    probe(&plan.backends[0], "/health?full=1").await.unwrap();
    let head = String::from_utf8(server.last.lock().unwrap().clone()).unwrap();
    assert!(head.starts_with("GET /health?full=1 HTTP/1.1\r\nhost: gpu.example:8000\r\n"), "{head}");
    assert!(!head.contains("s3cret") && !head.contains("authorization"));
}

#[tokio::test]
async fn a_unix_socket_is_probed() {
    let path = fixture::scratch("probe.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = Scripted::new(OK);
    let plan = fixture::plan(&[Target::Unix(path.clone())]);
    let (result, ()) = tokio::join!(probe(&plan.backends[0], "/health"), async {
        let (stream, _) = listener.accept().await.unwrap();
        server.serve(stream).await;
    });
    std::fs::remove_file(&path).unwrap();
    result.unwrap();
}

#[tokio::test]
async fn answers_that_are_not_2xx_or_not_http_are_failures() {
    let server = Scripted::new(OK);
    let plan = fixture::plan(&[fixture::tcp("127.0.0.1", server.listen().await)]);
    resolve::initial(&plan, Duration::ZERO);
    for response in [
        b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n".as_slice(),
        b"HTTP/1.1 401 Unauthorized\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\n\r\n",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 20",
        b"",
    ] {
        server.set(response);
        assert!(probe(&plan.backends[0], "/health").await.is_err(), "{response:?}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_a_failure() {
    let server = Scripted::new(Box::leak(
        [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; 64 * 1024]].concat().into_boxed_slice(),
    ));
    let plan = fixture::plan(&[fixture::tcp("127.0.0.1", server.listen().await)]);
    resolve::initial(&plan, Duration::ZERO);
    assert!(probe(&plan.backends[0], "/health").await.is_err());
}

#[tokio::test]
async fn a_backend_without_address_fails_its_probe() {
    let plan = fixture::plan(&[fixture::tcp("gpu.example", 8000)]);
    let failure = probe(&plan.backends[0], "/health").await.unwrap_err();
    assert_eq!(failure.words, "connect: its name has no address");
    assert_eq!(failure.reason, Some(Unreachable::NoAddress));
}

#[tokio::test]
async fn a_silent_backend_does_not_delay_the_others() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Scripted::new(OK);
    let plan = fixture::plan(&[
        fixture::tcp("127.0.0.1", silent.local_addr().unwrap().port()),
        fixture::tcp("127.0.0.1", server.listen().await),
    ]);
    resolve::initial(&plan, Duration::ZERO);
    let watch = fixture::watch(plan, Vec::new());
    let mut duties = JoinSet::new();
    spawn(&watch, &mut duties);
    fixture::until("probed five times", || server.asked.load(Ordering::Relaxed) >= 5).await;
    assert_eq!(watch.plan.backends.cells(BackendId::new(1)).health(), Health::Up);
    assert_eq!(health(&watch), Health::Unknown);
}
