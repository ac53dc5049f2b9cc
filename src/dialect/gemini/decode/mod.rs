//! From Google's API into the neutral form.

mod contents;
mod events;
mod fault;
mod request;
mod schema;
mod whole;

pub(in crate::dialect) use contents::texts;
pub use events::Events;
pub use fault::fault;
pub use request::request;
pub use schema::prepared;
pub use whole::body;

use super::spelling::Members;
use crate::dialect::neutral::{FinishReason, Json, Object, Text, malformed};
use crate::error::Fault;
use crate::wire::json::{self, BadJson};

/// The responses in a body: one, or a list of them.
fn pieces(body: &[u8]) -> Result<Vec<Json<'_>>, BadJson> {
    match body.trim_ascii_start().first() {
        Some(b'[') => json::elements(body).map(|element| element.map(|(span, _)| span.of(body))).collect(),
        _ => Ok(vec![body]),
    }
}

/// Why the model stopped. A reason that is not known is an ordinary end.
fn finish_reason(reason: &Text<'_>, has_calls: bool) -> FinishReason {
    match reason.inside() {
        b"MAX_TOKENS" => FinishReason::Length,
        b"SAFETY"
        | b"RECITATION"
        | b"LANGUAGE"
        | b"BLOCKLIST"
        | b"PROHIBITED_CONTENT"
        | b"SPII"
        | b"MODEL_ARMOR"
        | b"IMAGE_SAFETY"
        | b"IMAGE_PROHIBITED_CONTENT"
        | b"IMAGE_RECITATION" => FinishReason::ContentFilter,
        _ if has_calls => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

fn read<'a>(value: Json<'a>, at: &str) -> Result<Members<'a>, Fault> {
    if value.first() != Some(&b'{') {
        return Err(malformed(format!("'{at}' has to be an object")));
    }
    Object::read(value).map(Members).map_err(|bad| broken(at, bad))
}

fn broken(at: &str, bad: BadJson) -> Fault {
    malformed(format!("'{at}': {}", bad.reason))
}

fn missing(at: &str, member: &str, expected: &str) -> Fault {
    malformed(format!("'{at}.{member}' has to be {expected}"))
}
