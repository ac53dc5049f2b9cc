//! What a handler needs of the caller's role: checked before it runs.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use super::{Caller, Shared};
use crate::policy::auth::role::Need;

/// Lets a request through to a handler if the caller's role may do what it needs.
pub(super) fn needs(need: Need, handler: MethodRouter<Shared>) -> MethodRouter<Shared> {
    handler.route_layer(middleware::from_fn_with_state(need, has_role))
}

async fn has_role(
    State(need): State<Need>,
    caller: Caller,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    if caller.role.may(need) {
        return next.run(request).await;
    }
    let body = serde_json::json!({ "error": { "code": "forbidden", "message": refusal(&caller) } });
    let lines = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (StatusCode::FORBIDDEN, lines, body.to_string()).into_response()
}

/// Why a role may not.
pub(super) fn refusal(caller: &Caller) -> String {
    match caller.team() {
        Some(team) => format!("the role {} of team {team} may not do this", caller.role.word()),
        None => format!("the role {} may not do this", caller.role.word()),
    }
}
