//! One GET, on a connection of its own: to a backend for probes and for metrics, to an issuer for its keys.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::resolve::ADDRESSES_MAX;
use crate::config::url::Url;
use crate::error::Unreachable;
use crate::plan::{Backend, Proxy, Target};
use crate::wire::Step;
use crate::wire::connect::{BYTES_MAX as REPLY_BYTES_MAX, Reply, reply};

/// What is asked for.
pub(super) struct Fetch<'a> {
    pub(super) path: &'a str,
    /// Another port of the same host, in plaintext; `None` for the backend's own.
    pub(super) port: Option<u16>,
    /// Bytes of the body that are read, 0 for none of it. A longer one is a failure.
    pub(super) bytes_max: usize,
    /// In the user-agent.
    pub(super) purpose: &'static str,
}

/// Asks once. Our credential goes along to hosted providers only.
///
/// # Errors
/// It was not reached, did not respond within `patience`, or responded with another status than 2xx.
pub(super) async fn get(backend: &Backend, fetch: &Fetch<'_>, patience: Duration) -> Result<Bytes, Failure> {
    match timeout(patience, reach(backend, fetch, patience)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no response within {patience:?}").into()),
    }
}

/// Why it failed: words for operators, with addresses and what the system said, no credential.
#[derive(PartialEq, Debug)]
pub(super) struct Failure {
    /// Absent if the backend was reached.
    pub(super) reason: Option<Unreachable>,
    pub(super) words: String,
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

async fn reach(backend: &Backend, fetch: &Fetch<'_>, patience: Duration) -> Result<Bytes, Failure> {
    match &backend.target {
        Target::Unix(socket) => {
            let stream = UnixStream::connect(socket).await;
            let stream = stream.map_err(|error| Failure::unreached(&error, "connect"))?;
            Ok(ask(stream, backend, fetch).await?)
        }
        Target::Tcp { .. } => {
            let mut addresses = backend.addresses.load_full();
            if let Some(port) = fetch.port {
                Arc::make_mut(&mut addresses).iter_mut().for_each(|address| address.set_port(port));
            }
            let mut stream = connect(&addresses, patience).await?;
            if let Some(proxy) = &backend.proxy {
                tunnel(&mut stream, proxy).await?;
            }
            match backend.tls.as_ref().filter(|_| fetch.port.is_none()) {
                None => Ok(ask(stream, backend, fetch).await?),
                Some(tls) => {
                    let connector = TlsConnector::from(tls.config.clone());
                    let stream = connector.connect(tls.server_name.clone(), stream).await;
                    let stream = stream.map_err(|error| Failure::unreached(&error, "TLS"))?;
                    Ok(ask(stream, backend, fetch).await?)
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

/// How a server that is no backend is reached.
pub(super) struct Way<'a> {
    pub(super) tls: Option<&'a Arc<ClientConfig>>,
    pub(super) proxy: Option<&'a Proxy>,
}

/// Reads a page of a server that is no backend, of at most so many bytes. Redirections are not followed.
///
/// # Errors
/// As of [`get`].
pub(super) async fn page(
    url: &Url,
    way: &Way<'_>,
    bytes_max: usize,
    purpose: &str,
    patience: Duration,
) -> Result<Bytes, Failure> {
    let Target::Tcp { host, port } = &url.target else { return Err("is no http URL".to_owned().into()) };
    let proxy = way.proxy.map(|proxy| proxy.to(host, *port));
    let (name, at) = proxy.as_ref().map_or((host, *port), |proxy| (&proxy.host, proxy.port));
    let found = lookup_host((&**name, at)).await;
    let found = found.map_err(|error| Failure::from(format!("{name}: {error}")))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    let mut stream = connect(&addresses, patience).await?;
    if let Some(proxy) = &proxy {
        tunnel(&mut stream, proxy).await?;
    }
    let mark = if url.query.is_empty() { "" } else { "?" };
    let path = if url.path.is_empty() { "/" } else { &url.path };
    let host_line = HeaderValue::from_str(&url.authority).map_err(|error| error.to_string())?;
    let request = plain(&format!("{path}{mark}{}", url.query), host_line, purpose)?;
    let Some(tls) = way.tls else { return Ok(send(stream, request, bytes_max).await?) };
    let name = ServerName::try_from(host.to_string());
    let name = name.map_err(|_| Failure::from("has a host that no certificate can name".to_owned()))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
    let stream = stream.map_err(|error| Failure::unreached(&error, "TLS"))?;
    Ok(send(stream, request, bytes_max).await?)
}

async fn ask<S>(stream: S, backend: &Backend, fetch: &Fetch<'_>) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, request(backend, fetch)?, fetch.bytes_max).await
}

/// One GET on a connection of its own. With `bytes_max` of 0 the body is not read.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>, bytes_max: usize) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut response = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        if bytes_max == 0 {
            return Ok(Bytes::new());
        }
        match Limited::new(response.into_body(), bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(error.to_string()),
        }
    });
    // The connection may end in the same turn in which it hands the response over.
    tokio::select! {
        biased;
        response = &mut response => response,
        _ = connection => response.await,
    }
}

fn request(backend: &Backend, fetch: &Fetch<'_>) -> Result<Request<Empty<Bytes>>, String> {
    let host = HeaderValue::from_bytes(&backend.authority).map_err(|error| error.to_string())?;
    let mut request = plain(fetch.path, host, fetch.purpose)?;
    // A port of its own is asked without TLS, and is nobody's business to know the credential.
    if backend.provider.hosted && fetch.port.is_none() {
        present(&backend.credential_lines, request.headers_mut());
    }
    Ok(request)
}

fn plain(path: &str, host: HeaderValue, purpose: &str) -> Result<Request<Empty<Bytes>>, String> {
    let agent = format!("ringway/{} ({purpose})", env!("CARGO_PKG_VERSION"));
    Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .header(USER_AGENT, agent)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())
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

/// Bytes of a response's head that are read; a longer one is a failure.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn credential_lines_become_header_lines() {
        let mut headers = HeaderMap::new();
        present(b"x-api-key: a:b \r\nanthropic-version: 2023-06-01\r\n", &mut headers);
        assert_eq!(headers["x-api-key"], "a:b");
        assert_eq!(headers["anthropic-version"], "2023-06-01");
        for odd in [b"".as_slice(), b"\r\n", b"no colon\r\n", b": v\r\n", b"a b: v\r\n", b"a: \x00\r\n"] {
            let mut headers = HeaderMap::new();
            present(odd, &mut headers);
            assert!(headers.is_empty(), "{odd:?}");
        }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let addresses = [refusing, SocketAddr::from(([127, 0, 0, 1], port))];
        let stream = connect(&addresses, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        let error = connect(&[refusing], Duration::from_secs(5)).await.unwrap_err();
        assert!(error.words.contains(&refusing.to_string()), "{error:?}");
        assert_eq!(error.reason, Some(Unreachable::Refused));
    }
}
