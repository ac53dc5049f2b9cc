//! The listener: routes, the check of every request before them, and the accept loop.
//!
//! Every connection gets one response and a few seconds, a live stream a quarter of an hour; a slow or hostile scraper costs one
//! of a few slots and no more.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::gate::{Head, Known, Refused};
use super::long_lived::LongLived;
use super::reload::Asked;
use super::roles::needs;
use super::{Caller, Shared, Source, api, metrics, pages, plain, status};
use crate::clock;
use crate::observe::prometheus;
use crate::policy::auth::role::Need;

/// Connections served at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;

/// From accept to the last byte of the response. Prometheus gives up after 10 s by default.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// The same for a live stream or a try; a page opens a new one by itself.
const LONG_TIME: Duration = Duration::from_secs(900);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after an accept that failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The routes. A new one is closed unless it is put among the open ones on purpose.
pub(super) fn router(shared: Shared) -> Router {
    let open = Router::new()
        .route("/healthz", get(async || response(StatusCode::OK, TEXT, "ok\n".to_owned())))
        .route("/readyz", get(readyz));
    // The dashboard's own files and the sign-in: no data.
    let files = Router::new()
        .route("/", get(pages::index))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/assets/{name}", get(pages::asset))
        .route("/api/v1/session", post(api::sign_in))
        .layer(middleware::from_fn_with_state(shared.clone(), under_our_name));
    let closed = Router::new()
        .route("/plain", needs(Need::ReadAll, get(plain::page)))
        .route("/metrics", needs(Need::ReadAll, get(metrics_page)))
        .route("/status", needs(Need::ReadAll, get(status_page)))
        .route("/reload", needs(Need::Operate, post(reload)))
        .route("/upgrade", needs(Need::Operate, post(upgrade)))
        .merge(api::routes())
        .fallback(async || response(StatusCode::NOT_FOUND, TEXT, "no such path\n".to_owned()))
        .layer(middleware::from_fn_with_state(shared.clone(), authorised));
    open.merge(files)
        .merge(closed)
        .layer(DefaultBodyLimit::max(api::BODY_BYTES_MAX))
        .layer(middleware::map_response(hardened))
        .with_state(shared)
}

/// What every response says to browsers: no other site's content, no frame around it, no guessing, no referrer.
async fn hardened(mut response: Response) -> Response {
    let lines = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ] {
        lines.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets a request through for what holds no data.
async fn under_our_name(
    State(shared): State<Shared>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    match shared.gate.check_static(authority, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refusal(refused),
    }
}

/// Lets a request through that the gate admits.
async fn authorised(
    State(shared): State<Shared>,
    Extension(Source(from)): Extension<Source>,
    mut request: axum::extract::Request,
    next: Next,
) -> Response {
    let head = Head {
        method: request.method(),
        authority: request.uri().authority().map(|authority| authority.as_str()),
        headers: request.headers(),
    };
    match shared.gate.identify(from, &head, clock::now()) {
        Ok(Known { who, operator, role, epoch }) => {
            request.extensions_mut().insert(Caller { who, operator, role, epoch, from });
            next.run(request).await
        }
        Err(refused) => refusal(refused),
    }
}

fn refusal(refused: Refused) -> Response {
    let text = |status, body: &str| response(status, TEXT, body.to_owned());
    match refused {
        Refused::Unauthorized => {
            let body = "send 'Authorization: Bearer TOKEN' with the token of [admin], or one that `ringway token create` made\n";
            ([(WWW_AUTHENTICATE, "Bearer")], text(StatusCode::UNAUTHORIZED, body)).into_response()
        }
        Refused::Limited(wait) => {
            let seconds = wait.0.div_ceil(1_000_000_000).to_string();
            let body = "too many requests without the token from this address\n";
            ([(RETRY_AFTER, seconds)], text(StatusCode::TOO_MANY_REQUESTS, body)).into_response()
        }
        Refused::ForeignHost => {
            let body = "the Host is neither an address nor localhost; list its name in [admin] hosts, or set a token\n";
            text(StatusCode::FORBIDDEN, body).into_response()
        }
        Refused::ForeignPage => {
            let body =
                "a web page of another site may not ask; list its host in [admin] hosts, or set a token\n";
            text(StatusCode::FORBIDDEN, body).into_response()
        }
        Refused::NotOwnPage => {
            let body =
                "a write with a session needs the session's own x-csrf-token, from a page of this address\n";
            text(StatusCode::FORBIDDEN, body).into_response()
        }
    }
}

/// Accepts for as long as the process runs.
pub(super) async fn run(listener: tokio::net::TcpListener, router: Router) {
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
        let long = LongLived::default();
        let extensions = (Extension(Source(client.ip())), Extension(long.clone()));
        let service = TowerToHyperService::new(router.clone().layer(extensions.0).layer(extensions.1));
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            // A scraper that leaves or is too slow is its own affair.
            if timeout(CONNECTION_TIME, &mut connection).await.is_err() && long.is_set() {
                let _ = timeout(LONG_TIME, connection).await;
            }
            drop(slot);
        });
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

type Page = (StatusCode, [(HeaderName, &'static str); 2], String);

fn response(status: StatusCode, content_type: &'static str, body: String) -> Page {
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], body)
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.current.load().ready() {
        Ok(()) => response(StatusCode::OK, TEXT, "ready\n".to_owned()),
        Err(reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

async fn metrics_page(State(shared): State<Shared>) -> impl IntoResponse {
    let watch = shared.current.load();
    watch.merge();
    response(StatusCode::OK, prometheus::CONTENT_TYPE, metrics::page(&watch, &shared.gate))
}

async fn status_page(State(shared): State<Shared>) -> impl IntoResponse {
    let watch = shared.current.load();
    watch.merge();
    match serde_json::to_string(&status::read(&watch)) {
        Ok(body) => response(StatusCode::OK, JSON, body),
        Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

/// Responds once the reload has been done or refused.
async fn reload(State(shared): State<Shared>, caller: Caller) -> Page {
    let asked = shared.reloader.reload().await;
    let outcome = if matches!(asked, Asked::Done(_)) { "done" } else { "refused" };
    shared.audit.note(&caller, "reload", "configuration", outcome);
    told(asked, |told| serde_json::json!({ "generation": told.generation, "notes": told.notes }))
}

/// Responds once the next process serves, or has failed to.
async fn upgrade(State(shared): State<Shared>, caller: Caller) -> Page {
    shared.audit.note(&caller, "upgrade", "process", "asked for");
    told(shared.reloader.upgrade().await, |pid| serde_json::json!({ "pid": pid }))
}

fn told<T>(asked: Asked<T>, done: impl FnOnce(T) -> serde_json::Value) -> Page {
    match asked {
        Asked::Done(told) => response(StatusCode::OK, JSON, done(told).to_string()),
        Asked::Refused(reason) => response(
            StatusCode::UNPROCESSABLE_ENTITY,
            JSON,
            serde_json::json!({ "error": reason }).to_string(),
        ),
        Asked::Ending => {
            response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the gateway is ending\n".to_owned())
        }
    }
}
