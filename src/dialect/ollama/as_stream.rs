//! A whole response as the stream that says the same: a stream of one line.

use crate::dialect::Unfit;
use crate::dialect::whole::{Events, Object};
use crate::wire::json::ValueKind;

/// Writes the stream of a whole response.
///
/// # Errors
/// It is not done, or an error.
pub(in crate::dialect) fn as_stream(body: &[u8], _: bool, events: &mut Events<'_>) -> Result<(), Unfit> {
    let object = Object::read(body)?;
    if object.of_kind("done", ValueKind::True)?.is_none() {
        return Err(Unfit("the response is not done"));
    }
    events.value(body.trim_ascii());
    events.text("\n");
    Ok(())
}
