//! Records of a backend's stream that are not JSON.

use super::{FaultRecord, Text};
use crate::wire::json;

/// The failure that a record is which its decoder could not read: what it said is lost, and a client cannot see that. `None` for
/// what says nothing: blanks, `[DONE]`, JSON of another kind, words under the name of an event that no API has.
#[cold]
pub fn unreadable(name: Option<&[u8]>, data: &[u8]) -> Option<FaultRecord<'static>> {
    let data = data.trim_ascii();
    let is_words = !matches!(data.first(), Some(b'{' | b'['));
    let message = match name {
        _ if data.is_empty() || data == b"[DONE]" || is_other_json(data) => return None,
        Some(b"error") if is_words => Text::plain(&String::from_utf8_lossy(data)),
        Some(name) if is_words && name != b"message" => return None,
        _ => Text::escaped(b"the backend sent a record that is not JSON"),
    };
    Some(FaultRecord { message, status: Some(502), ..FaultRecord::default() })
}

fn is_other_json(data: &[u8]) -> bool {
    let list = [b"[", data, b"]"].concat();
    let mut elements = json::elements(&list);
    matches!((elements.next(), elements.next()), (Some(Ok(_)), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_told_from_what_is_lost() {
        for data in ["", " ", "[DONE]", "null", "7", "\"ping\"", "[1, 2]", "true"] {
            assert_eq!(unreadable(None, data.as_bytes()), None, "{data:?}");
        }
        for data in ["{", "{\"a\":1", "{\"a\":1}{", "ping", "[1,", "\"a", "1 2", "1,2", "<html>"] {
            assert!(unreadable(None, data.as_bytes()).is_some(), "{data:?}");
            assert!(unreadable(Some(b"message"), data.as_bytes()).is_some(), "{data:?}");
        }
        assert_eq!(unreadable(Some(b"heartbeat"), b"ok"), None);
        assert!(unreadable(Some(b"heartbeat"), b"{\"a\"").is_some());
        let told = unreadable(Some(b"error"), b"\"over\"loaded\n").unwrap();
        assert_eq!((told.message, told.status), (Text::escaped(br#"\"over\"loaded"#), Some(502)));
    }
}
