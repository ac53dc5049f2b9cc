//! Active health checks: one task per backend, so that a slow one delays no other.
//!
//! Up means 2xx to a plain GET of its health path; our credential goes along to hosted providers only, whose every
//! path asks for one. What passive failures say is the breaker's business; a probe
//! neither opens nor closes it, so a health path that lies cannot put a failing backend back into service.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::aggregate::{ProbeReport, Watch, lock};
use crate::clock;
use crate::config::LogLevel;
use crate::error::Unreachable;
use crate::plan::cells::Health;
use crate::plan::{Backend, HealthProbe, Proxy, Target};
use crate::units::Nanos;
use crate::wire::Step;
use crate::wire::connect::{BYTES_MAX as REPLY_BYTES_MAX, Reply, reply};

/// Bytes of a response's head that are read; a longer one is a failure.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The shortest pause between two probes, whatever the plan says.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Consecutive results, and what they make of a backend.
struct Verdict {
    health: Health,
    /// Results in a row that speak against `health`.
    contrary: u32,
}

/// Probes every backend that has a health path, the first time at once.
pub(super) fn spawn(watch: &Arc<Watch>, duties: &mut JoinSet<()>) {
    for backend in &watch.plan.backends {
        let Some(path) = backend.health.path.clone() else {
            continue;
        };
        let (watch, id) = (watch.clone(), backend.id);
        duties.spawn(async move {
            let backend = watch.plan.backends.row(id);
            let mut verdict = Verdict { health: watch.plan.backends.cells(id).probed(), contrary: 0 };
            let mut random = RandomState::new().hash_one(id) | 1;
            loop {
                let unreached = &watch.plan.backends.cells(id).unreached;
                let result = probe(backend, &path).await.map_err(|failure| {
                    if let Some(reason) = failure.reason {
                        unreached.note(reason, clock::now());
                    }
                    failure.words
                });
                let before = verdict.health;
                let health = verdict.after(result.is_ok(), &backend.health);
                watch.plan.backends.cells(id).set_health(health);
                if let Some((level, words)) = told(&backend.name, &result, before, health) {
                    watch.say(level, &words);
                }
                watch.probes[id.index()].tell(result);
                sleep(pause(backend.health.interval, &mut random)).await;
            }
        });
    }
}

impl Verdict {
    /// The first result decides about a backend nothing is known of, unless it is a failure: those are counted.
    fn after(&mut self, success: bool, rule: &HealthProbe) -> Health {
        let (found, needed) =
            if success { (Health::Up, rule.successes) } else { (Health::Down, rule.failures) };
        if found == self.health {
            self.contrary = 0;
            return self.health;
        }
        self.contrary = self.contrary.saturating_add(1);
        let first_success = success && self.health == Health::Unknown;
        if first_success || self.contrary >= needed {
            *self = Self { health: found, contrary: 0 };
        }
        self.health
    }
}

/// What an operator hears of a probe.
fn told(
    name: &str,
    result: &Result<(), String>,
    before: Health,
    after: Health,
) -> Option<(LogLevel, String)> {
    match (result, after) {
        (Err(reason), Health::Down) if before != after => {
            Some((LogLevel::Warn, format!("backend {name} is down: {reason}")))
        }
        (Err(reason), _) => Some((LogLevel::Debug, format!("backend {name} failed a probe: {reason}"))),
        (Ok(()), Health::Up) if before != after => Some((LogLevel::Info, format!("backend {name} is up"))),
        (Ok(()), _) => None,
    }
}

impl ProbeReport {
    fn tell(&self, result: Result<(), String>) {
        match result {
            Ok(()) => self.successes.fetch_add(1, Ordering::Relaxed),
            Err(reason) => {
                *lock(&self.last_failure) = Some(reason);
                self.failures.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// The interval, a fifth more or less, so that probes of many gateways do not fall together. `random` moves on
/// (xorshift; never zero).
fn pause(interval: Nanos, random: &mut u64) -> Duration {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let share = 0.8 + 0.4 * (*random >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_nanos(interval.0).mul_f64(share).max(PAUSE_MIN)
}

/// Why a probe failed: words for operators, with addresses and what the system said, no credential.
#[derive(PartialEq, Debug)]
struct Failure {
    /// Absent if the backend was reached.
    reason: Option<Unreachable>,
    words: String,
}

impl Failure {
    fn unreached(error: &io::Error, at: impl std::fmt::Display) -> Self {
        let reason = Unreachable::of(error);
        Self { reason: Some(reason), words: format!("{at}: {} ({error})", reason.words()) }
    }
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self { reason: None, words }
    }
}

/// Asks once.
async fn probe(backend: &Backend, path: &str) -> Result<(), Failure> {
    let patience = Duration::from_nanos(backend.health.timeout.0);
    match timeout(patience, reach(backend, path, patience)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no response within {patience:?}").into()),
    }
}

async fn reach(backend: &Backend, path: &str, patience: Duration) -> Result<(), Failure> {
    match &backend.target {
        Target::Unix(socket) => {
            let stream = UnixStream::connect(socket).await;
            let stream = stream.map_err(|error| Failure::unreached(&error, "connect"))?;
            Ok(ask(stream, backend, path).await?)
        }
        Target::Tcp { .. } => {
            let addresses = backend.addresses.load_full();
            let mut stream = connect(&addresses, patience).await?;
            if let Some(proxy) = &backend.proxy {
                tunnel(&mut stream, proxy).await?;
            }
            match &backend.tls {
                None => Ok(ask(stream, backend, path).await?),
                Some(tls) => {
                    let connector = TlsConnector::from(tls.config.clone());
                    let stream = connector.connect(tls.server_name.clone(), stream).await;
                    let stream = stream.map_err(|error| Failure::unreached(&error, "TLS"))?;
                    Ok(ask(stream, backend, path).await?)
                }
            }
        }
    }
}

/// The first address that accepts; each gets its share of the time, so that a dead one does not use it up.
async fn connect(addresses: &[SocketAddr], patience: Duration) -> Result<TcpStream, Failure> {
    let none = Unreachable::NoAddress;
    let mut last = Failure { reason: Some(none), words: format!("connect: {}", none.words()) };
    let share = patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Failure::unreached(&error, format_args!("connect: {address}")),
            Err(_) => {
                last =
                    Failure::unreached(&io::ErrorKind::TimedOut.into(), format_args!("connect: {address}"));
            }
        }
    }
    Err(last)
}

/// Opens a tunnel through the proxy at the other end, and takes no byte of what follows.
async fn tunnel(stream: &mut TcpStream, proxy: &Proxy) -> Result<(), Failure> {
    let failure = |reason: Unreachable, more: &str| Failure {
        reason: Some(reason),
        words: format!("proxy {proxy}: {}{more}", reason.words()),
    };
    let closed = |error: io::Error| failure(Unreachable::ProxyClosed, &format!(" ({error})"));
    stream.write_all(&proxy.connect).await.map_err(closed)?;
    let mut seen = vec![0; REPLY_BYTES_MAX];
    let mut taken = 0;
    loop {
        let count = stream.peek(&mut seen[taken..]).await.map_err(closed)?;
        if count == 0 {
            return Err(closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let found = reply(&seen[..taken + count]);
        let end = match found {
            Step::More | Step::Done(Reply::NotHttp) => taken + count,
            Step::Done(Reply::Status { end, .. }) => end,
        };
        stream.read_exact(&mut seen[taken..end]).await.map_err(closed)?;
        taken = end;
        match found {
            Step::More => {}
            Step::Done(Reply::Status { status: 200..300, .. }) => return Ok(()),
            Step::Done(Reply::Status { status, .. }) => {
                return Err(failure(Unreachable::of_proxy(status), &format!(" (status {status})")));
            }
            Step::Done(Reply::NotHttp) => return Err(failure(Unreachable::NotProxy, "")),
        }
    }
}

/// One GET on a connection of its own; the body is not read.
async fn ask<S>(stream: S, backend: &Backend, path: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = HeaderValue::from_bytes(&backend.authority).map_err(|error| error.to_string())?;
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("ringway/", env!("CARGO_PKG_VERSION"), " (health)"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    if backend.provider.hosted {
        present(&backend.credential_lines, request.headers_mut());
    }
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut response = pin!(sender.send_request(request));
    // The connection may end in the same turn in which it hands the response over.
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        _ = connection => response.await,
    };
    let status = response.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

/// Adds the plan's whole header lines, each `name: value` and CRLF. A line that hyper refuses is left out: the
/// backend then says what it thinks of that.
fn present(lines: &[u8], headers: &mut HeaderMap) {
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
