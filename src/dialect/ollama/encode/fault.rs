//! An error for a client.

use crate::dialect::neutral::{FaultRecord, Text};

/// Appends the body of an error, which is also the line of one inside a stream: the backend's own words.
pub fn fault(record: &FaultRecord<'_>, _status: u16, _request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":");
    match record.message.is_empty() {
        true => Text::escaped(b"the backend reported an error without words").quote(out),
        false => record.message.quote(out),
    }
    out.push(b'}');
}
