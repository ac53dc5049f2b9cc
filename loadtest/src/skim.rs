//! Looking for one member in JSON bytes without parsing them.
//!
//! Text inside a JSON string cannot match: its quotes are escaped. Nesting is not looked at, so it fits only members
//! whose names are used once in what we read.

use memchr::memmem;

/// What follows the first member called `name`, given with its quotes: its value and all after it.
pub fn after<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    all_after(json, name).next()
}

/// What follows each member called `name`.
pub fn all_after<'a>(json: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    memmem::find_iter(json, name).map(move |at| json[at + name.len()..].trim_ascii_start()).filter_map(
        |rest| {
            let value = rest.strip_prefix(b":")?;
            Some(value.trim_ascii_start())
        },
    )
}

/// Whether some member called `name` is true.
pub fn is_true(json: &[u8], name: &[u8]) -> bool {
    all_after(json, name).any(|value| value.starts_with(b"true"))
}

/// The number that the last member called `name` has.
pub fn last_number(json: &[u8], name: &[u8]) -> Option<u64> {
    let value = all_after(json, name).last()?;
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_is_found_with_and_without_space() {
        for body in [
            &br#"{"stream":true}"#[..],
            br#"{"stream" : true}"#,
            br#"{"x":"\"stream\":false","stream": true}"#,
        ] {
            assert!(is_true(body, b"\"stream\""));
        }
        for body in [&br#"{"stream":false}"#[..], br#"{"x":"\"stream\":true"}"#, b"{}"] {
            assert!(!is_true(body, b"\"stream\""));
        }
        assert_eq!(last_number(br#"{"n":1,"n": 23,"m":4}"#, b"\"n\""), Some(23));
        assert_eq!(last_number(br#"{"n":null}"#, b"\"n\""), None);
    }
}
