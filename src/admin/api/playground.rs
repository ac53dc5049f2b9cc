//! Try: a request of the operator's, sent through the gateway's own client listener with the key that the page gives, and its
//! response as it comes. The page cannot send it itself: its content policy allows it no other address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Problem, Shared};
use crate::admin::Caller;
use crate::admin::long_lived::LongLived;

/// How long the listener may take to accept, and then to say what comes.
const CONNECT_TIME: Duration = Duration::from_secs(2);
const HEAD_TIME: Duration = Duration::from_secs(120);

/// Tries at once.
pub(in crate::admin) const TRIES_MAX: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Try<'a> {
    /// The API key; absent on a gateway without keys.
    key: Option<String>,
    /// `/v1/chat/completions`, `/v1/messages`, ...
    path: String,
    /// What is sent, as it is.
    #[serde(borrow)]
    body: &'a RawValue,
}

/// `POST /api/v1/try`.
pub(super) async fn send(
    State(shared): State<Shared>,
    Extension(long): Extension<LongLived>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let request: Try<'_> =
        serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(format!("the body: {error}")))?;
    let address = listener(&shared)?;
    let Ok(permit) = shared.tries.clone().try_acquire_owned() else {
        let message = format!("{TRIES_MAX} tries are running already");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_tries", message));
    };
    let request = build(&request, address)?;
    let unreachable = |reason: String| {
        Problem::new(
            StatusCode::BAD_GATEWAY,
            "listener_unreachable",
            format!("the listener on {address}: {reason}"),
        )
    };
    let stream = match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("it did not accept in time".to_owned())),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
    long.set();
    tokio::spawn(async move {
        // It ends with the response, or when the page leaves and the body is dropped.
        let _ = connection.await;
        drop(permit);
    });
    let response = match timeout(HEAD_TIME, sender.send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("no response in time".to_owned())),
    };
    let (head, incoming) = response.into_parts();
    let mut told = Response::new(LongLived::body(shared.gate.clone(), caller.pass(), incoming));
    *told.status_mut() = head.status;
    for (name, value) in &head.headers {
        if is_told(name) {
            told.headers_mut().append(name.clone(), value.clone());
        }
    }
    told.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(told)
}

/// Lines of the response that the page may see: what it is, and what the gateway says of it.
fn is_told(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "content-type"
        || name == "retry-after"
        || name == "x-request-id"
        || name == "x-should-retry"
        || name.starts_with("x-ringway-")
        || name.starts_with("x-ratelimit-")
}

fn build(request: &Try<'_>, address: SocketAddr) -> Result<Request<Full<Bytes>>, Problem> {
    let is_path = request.path.starts_with('/') && request.path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_path {
        return Err(Problem::invalid("path: expected one that begins with / and has no spaces"));
    }
    let text = request.body.get();
    let mut builder = Request::builder()
        .method(Method::POST)
        .uri(&request.path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "ringway-pane")
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_LENGTH, text.len());
    if let Some(key) = request.key.as_deref().filter(|key| !key.is_empty()) {
        let Ok(mut line) = HeaderValue::from_str(&format!("Bearer {key}")) else {
            return Err(Problem::invalid("key: expected visible characters only"));
        };
        line.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, line);
    }
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    builder.body(body).map_err(|error| Problem::invalid(format!("path: {error}")))
}

/// Where this gateway takes requests in plain HTTP, reached over loopback where it listens on every address.
fn listener(shared: &Shared) -> Result<SocketAddr, Problem> {
    let watch = shared.current.load();
    let plain = watch.plan.listeners.iter().find(|row| row.tls.is_none() && !row.proxy_protocol);
    let Some(row) = plain else {
        let message = "Try needs a client listener without TLS and without the PROXY protocol; there is none";
        return Err(Problem::new(StatusCode::CONFLICT, "no_plain_listener", message));
    };
    let mut address = row.address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}
