//! A backend's errors: whole bodies, and exceptions inside a stream.

use super::status_of;
use crate::dialect::neutral::{FaultRecord, Object};

/// Decodes the body of an error. Its name is in a header line, sometimes in `__type` as well.
pub fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    FaultRecord { status: Some(status), ..record(body) }
}

/// What an exception says.
pub(super) fn record(body: &[u8]) -> FaultRecord<'_> {
    let Ok(object) = Object::read(body) else { return FaultRecord::default() };
    let words = ["message", "Message", "originalMessage"].iter().find_map(|name| object.text(name));
    let kind = object.text("__type");
    let status = kind.as_ref().and_then(|kind| status_of(kind.inside()));
    FaultRecord { message: words.unwrap_or_default(), kind, status, ..FaultRecord::default() }
}
