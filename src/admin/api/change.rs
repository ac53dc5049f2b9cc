//! A change of the roster, asked of the coordinator.

use axum::http::StatusCode;

use super::{Problem, Shared};
use crate::admin::Caller;
use crate::admin::reload::Asked;
use crate::coordinator::roster::{Change, ChangeError, Changed};

/// Makes a change, and remembers it; its audit entry is in the store already.
pub(super) async fn write(shared: &Shared, caller: &Caller, change: Change) -> Result<Changed, Problem> {
    let (kind, name) = change.row();
    let (object, action) = (format!("{} {name}", kind.word().replace('_', " ")), change.verb());
    match shared.reloader.change(change, caller.author()).await {
        Asked::Done(changed) => {
            shared.audit.remember(caller, action, &object, "done".to_owned());
            Ok(changed)
        }
        Asked::Refused(error) => Err(problem(error)),
        Asked::Ending => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ending", "the gateway is ending"))
        }
    }
}

fn problem(error: ChangeError) -> Problem {
    let (status, code, message) = match error {
        ChangeError::NotFound(text) => (StatusCode::NOT_FOUND, "not_found", text),
        ChangeError::ReadOnly(text) => (StatusCode::CONFLICT, "read_only", text),
        ChangeError::Conflict(text) => (StatusCode::CONFLICT, "conflict", text),
        ChangeError::Invalid(text) => (StatusCode::BAD_REQUEST, "invalid_request", text),
        ChangeError::Forbidden(text) => (StatusCode::FORBIDDEN, "forbidden", text),
        ChangeError::NoStore => (
            StatusCode::CONFLICT,
            "no_store",
            "there is no store to keep it in: [store] is off, or its directory cannot be written to"
                .to_owned(),
        ),
        ChangeError::Failed(text) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", text),
    };
    Problem::new(status, code, message)
}
