//! Signing in with the admin token, which a browser then forgets: it keeps a cookie that scripts cannot read.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{HOST, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, body, json};
use crate::admin::gate::{Known, Refused};
use crate::admin::sessions::{COOKIE, LIFE_SECONDS};
use crate::admin::{Caller, Source, Who};
use crate::clock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

/// Who the page is talking for.
#[derive(JsonSchema, Serialize)]
pub(super) struct Session<'a> {
    /// `token`, `session`, or `loopback` where no token is configured.
    who: &'static str,
    /// The name of the token, if it is one of the store's.
    name: Option<String>,
    /// `owner`, `admin`, `viewer` or `auditor`.
    role: &'static str,
    /// The team that the role is confined to.
    team: Option<String>,
    version: &'a str,
    node: &'a str,
    /// To be sent as `x-csrf-token` with every write; absent without a session.
    csrf: Option<String>,
    /// Where clients send their requests, for examples.
    client_url: Option<String>,
    keys_required: bool,
}

pub(super) async fn read(State(shared): State<Shared>, caller: Caller, headers: HeaderMap) -> Response {
    let watch = shared.current.load();
    let client_url = watch.plan.listeners.first().map(|row| {
        let scheme = if row.tls.is_some() { "https" } else { "http" };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        match row.address.ip().is_unspecified() && !host.is_empty() {
            true => format!("{scheme}://{host}:{}", row.address.port()),
            false => format!("{scheme}://{}", row.address),
        }
    });
    json(&Session {
        who: caller.who.name(),
        name: caller.operator.clone(),
        role: caller.role.word(),
        team: caller.team().map(str::to_owned),
        version: watch.settings.version,
        node: &shared.node,
        csrf: match &caller.who {
            Who::Session { csrf } => Some(csrf.clone()),
            Who::Token | Who::Loopback => None,
        },
        client_url,
        keys_required: watch.plan.keys_required,
    })
}

/// `POST /api/v1/session`, the one write without a session: the token is the credential.
pub(in crate::admin) async fn open(
    State(shared): State<Shared>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let SignIn { token } = body(&bytes)?;
    let page = shared.gate.check_own_page(&headers);
    if page.is_err() {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_page",
            "a page of another site cannot sign in",
        ));
    }
    let known = match shared.gate.check_token(source.0, token.as_bytes(), clock::now()) {
        Ok(known) => known,
        Err(Refused::Limited(wait)) => {
            let seconds = wait.0.div_ceil(1_000_000_000);
            let message = format!("too many wrong tokens from this address; try again in {seconds} s");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message));
        }
        Err(_) => {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "wrong_token",
                "that is not the token of [admin], nor one of the store",
            ));
        }
    };
    let Some(id) = shared.gate.sessions.open(known.operator.clone(), clock::now()) else {
        let message = "the system gave no random bytes";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_session", message));
    };
    let Known { who, operator, role, epoch } = known;
    let caller = Caller { who, operator, role, epoch, from: source.0 };
    shared.audit.note(&caller, "sign_in", "session", "signed in");
    Ok(with_cookie(&format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={LIFE_SECONDS}")))
}

/// `DELETE /api/v1/session`.
pub(in crate::admin) async fn close(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    shared.gate.sessions.close(&headers);
    shared.audit.note(&caller, "sign_out", "session", "signed out");
    with_cookie(&format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"))
}

fn with_cookie(cookie: &str) -> Response {
    let mut response = (StatusCode::NO_CONTENT, ()).into_response();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
