//! The listener: routes, the check of every request before them, and the accept loop.
//!
//! Every connection gets one response and a few seconds; a slow or hostile scraper costs one of a few slots and no more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::gate::{Gate, Refused};
use super::{metrics, status};
use crate::clock;
use crate::coordinator::Current;
use crate::coordinator::reload::{Request, Told};
use crate::observe::prometheus;

/// Connections served at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;

/// From accept to the last byte of the response. Prometheus gives up after 10 s by default.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after an accept that failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The routes. A new one is closed unless it is put among the open ones on purpose.
pub(crate) fn router(current: Current, reloads: mpsc::Sender<Request>) -> Router {
    let gate = Arc::new(Gate::new(current.load().access.clone()));
    let (upgrades, counted) = (reloads.clone(), gate.clone());
    let open = Router::new()
        .route("/healthz", get(async || response(StatusCode::OK, TEXT, "ok\n".to_owned())))
        .route("/readyz", get(readyz));
    let closed = Router::new()
        .route("/metrics", get(async move |State(current): State<Current>| metrics_page(&current, &counted)))
        .route("/status", get(status_page))
        .route("/reload", post(move || reload(reloads)))
        .route("/upgrade", post(move || upgrade(upgrades)))
        .fallback(async || response(StatusCode::NOT_FOUND, TEXT, "no such path\n".to_owned()))
        .layer(middleware::from_fn_with_state(gate, authorised));
    open.merge(closed).with_state(current)
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
struct Source(IpAddr);

/// Lets a request through that the gate admits.
async fn authorised(
    State(gate): State<Arc<Gate>>,
    Extension(Source(source)): Extension<Source>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let text = |status, body: &str| response(status, TEXT, body.to_owned());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    match gate.admit(source, authority, request.headers(), clock::now()) {
        Ok(()) => next.run(request).await,
        Err(Refused::Unauthorized) => {
            let body = "send 'Authorization: Bearer TOKEN' with the token of [admin]\n";
            ([(WWW_AUTHENTICATE, "Bearer")], text(StatusCode::UNAUTHORIZED, body)).into_response()
        }
        Err(Refused::Limited(wait)) => {
            let seconds = wait.0.div_ceil(1_000_000_000).to_string();
            let body = "too many requests without the token from this address\n";
            ([(RETRY_AFTER, seconds)], text(StatusCode::TOO_MANY_REQUESTS, body)).into_response()
        }
        Err(Refused::ForeignHost) => {
            let body = "the Host is neither an address nor localhost; list its name in [admin] hosts, or set a token\n";
            text(StatusCode::FORBIDDEN, body).into_response()
        }
        Err(Refused::ForeignPage) => {
            let body =
                "a web page of another site may not ask; list its host in [admin] hosts, or set a token\n";
            text(StatusCode::FORBIDDEN, body).into_response()
        }
    }
}

/// Accepts for as long as the process runs.
pub(crate) async fn run(listener: tokio::net::TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(Source(client.ip()))));
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
            // A scraper that leaves or is too slow is its own affair.
            let _ = timeout(CONNECTION_TIME, builder.serve_connection(TokioIo::new(stream), service)).await;
            drop(slot);
        });
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

type Page = (StatusCode, [(HeaderName, &'static str); 3], String);

fn response(status: StatusCode, content_type: &'static str, body: String) -> Page {
    let lines =
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, lines, body)
}

async fn readyz(State(current): State<Current>) -> impl IntoResponse {
    match current.load().ready() {
        Ok(()) => response(StatusCode::OK, TEXT, "ready\n".to_owned()),
        Err(reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

fn metrics_page(current: &Current, gate: &Gate) -> Page {
    let watch = current.load();
    watch.merge();
    response(StatusCode::OK, prometheus::CONTENT_TYPE, metrics::page(&watch, gate))
}

async fn status_page(State(current): State<Current>) -> impl IntoResponse {
    let watch = current.load();
    watch.merge();
    match serde_json::to_string(&status::read(&watch)) {
        Ok(body) => response(StatusCode::OK, JSON, body),
        Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

/// Responds once the reload has been done or refused.
async fn reload(requests: mpsc::Sender<Request>) -> Page {
    let done = |Told { generation, notes }| serde_json::json!({ "generation": generation, "notes": notes });
    ask(&requests, Request::Reload, done).await
}

/// Responds once the next process serves, or has failed to.
async fn upgrade(requests: mpsc::Sender<Request>) -> Page {
    ask(&requests, Request::Upgrade, |pid: u32| serde_json::json!({ "pid": pid })).await
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Request,
    done: impl FnOnce(T) -> serde_json::Value,
) -> Page {
    let (asked, told) = oneshot::channel();
    let answered = match requests.send(request(asked)).await {
        Ok(()) => told.await.ok(),
        Err(_) => None,
    };
    match answered {
        Some(Ok(told)) => response(StatusCode::OK, JSON, done(told).to_string()),
        Some(Err(reason)) => response(
            StatusCode::UNPROCESSABLE_ENTITY,
            JSON,
            serde_json::json!({ "error": reason }).to_string(),
        ),
        None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the gateway is ending\n".to_owned()),
    }
}
