//! Which web page does a request come from, and may it?
//!
//! A browser sends what a page asks for to any address its user can reach, loopback included, and a page that lets its own
//! name point there (DNS rebinding) may read the response, too. What a browser adds and a page cannot forge tells such requests
//! apart: `Host` and `Origin`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The web pages that may call the gateway: `[cors]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pages {
    /// Their origins, `scheme://host[:port]` in lower case, as browsers write them.
    pub origins: Box<[Box<str>]>,
    /// All others may, too, but without credentials that their browser adds by itself.
    pub any: bool,
}

/// What the page of one request may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PageGrant {
    /// No page, or one that may not read the response.
    #[default]
    None,
    /// As every page.
    Any,
    /// Named in the configuration: the row of [`Pages::origins`].
    Listed(u16),
}

impl Pages {
    /// What a page of this origin may do.
    pub fn grant(&self, origin: &[u8]) -> PageGrant {
        match self.origins.iter().position(|listed| listed.as_bytes() == origin) {
            Some(row) => u16::try_from(row).map_or(PageGrant::None, PageGrant::Listed),
            None if self.any => PageGrant::Any,
            None => PageGrant::None,
        }
    }
}

/// An origin of `[cors]` as browsers write it: lower case, without the port that its scheme implies.
///
/// # Errors
/// What is wrong with it, for the operator.
pub fn normal(text: &str) -> Result<Box<str>, &'static str> {
    const FORM: &str = "expected \"*\" or an origin as browsers send it, like \"https://app.example\" or \"http://localhost:3000\"";
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) || scheme.eq_ignore_ascii_case("file") {
        return Err(FORM);
    }
    let (host, port) = split(rest.as_bytes()).ok_or(FORM)?;
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    if host.is_empty() || !host.iter().all(|byte| is_host(*byte)) || port == Some(b"") {
        return Err(FORM);
    }
    let mut origin = text.to_ascii_lowercase();
    if let ("http", Some(b"80")) | ("https", Some(b"443")) = (&*scheme.to_ascii_lowercase(), port) {
        origin.truncate(origin.rfind(':').unwrap_or(origin.len()));
    }
    Ok(origin.into())
}

/// Host and port of `host[:port]`; the brackets of an IPv6 address stay. `None` if the port is no number.
fn split(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let from = if authority.starts_with(b"[") { memchr::memchr(b']', authority)? } else { 0 };
    let Some(colon) = memchr::memchr(b':', &authority[from..]).map(|at| from + at) else {
        return Some((authority, None));
    };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    port.iter().all(u8::is_ascii_digit).then_some((host, Some(port)))
}

/// The name of `host[:port]`, without the dot that ends a complete one.
fn name(authority: &[u8]) -> Option<&[u8]> {
    let (host, _) = split(authority)?;
    Some(host.strip_suffix(b".").unwrap_or(host))
}

/// Whether `host[:port]` names an address itself, or this machine. No page can make its own name one of these.
pub fn is_literal(authority: &[u8]) -> bool {
    let Some(name) = name(authority).and_then(|name| std::str::from_utf8(name).ok()) else { return false };
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Whether the name of `host[:port]` is one of `hosts`, which are in lower case.
pub fn is_listed(authority: &[u8], hosts: &[Box<str>]) -> bool {
    name(authority).is_some_and(|name| hosts.iter().any(|host| name.eq_ignore_ascii_case(host.as_bytes())))
}

/// Whether a page of this origin is the server's own: both name the same place.
pub fn is_own(origin: &[u8], host: &[u8]) -> bool {
    authority(origin).is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
}

/// `host[:port]` of an origin with one of the schemes that browsers load pages by.
pub fn authority(origin: &[u8]) -> Option<&[u8]> {
    origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_literal() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:9090",
            "[fe80::1]:1",
            "localhost",
            "LOCALHOST:9090",
            "localhost.",
            "localhost.:9090",
            "127.0.0.1.:9090",
            "0.0.0.0:1",
        ] {
            assert!(is_literal(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":9090",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "127.0.0.1.evil.example:9090",
            "evil.example:127",
            "localhost:9090:1",
            "localhost:evil",
            "localhost..",
            "a.localhost",
            "::1",
            "[::1",
            "[::1]evil.example",
            "[evil.example]",
            "[127.0.0.1]",
            "localhost@evil.example",
            "127.0.0.1 evil.example",
            "2130706433",
            "0x7f.1",
            "127.1",
            "[fe80::1%25eth0]",
            "localh\u{f6}st",
            "[::1]x:9090",
        ] {
            assert!(!is_literal(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_listed_host_is_known_with_any_port_and_in_any_case() {
        let hosts = ["ops.example".into()];
        for host in ["ops.example", "OPS.example:9090", "ops.example.", "ops.example.:1"] {
            assert!(is_listed(host.as_bytes(), &hosts), "{host}");
        }
        for host in ["", "example", "x.ops.example", "ops.example.evil", "ops.example:x", "ops.example@evil"]
        {
            assert!(!is_listed(host.as_bytes(), &hosts), "{host}");
        }
    }

    #[test]
    fn an_own_page_names_the_same_place() {
        assert!(is_own(b"http://127.0.0.1:9090", b"127.0.0.1:9090"));
        assert!(is_own(b"https://Ops.example", b"ops.example"));
        for (origin, host) in [
            ("null", "127.0.0.1"),
            ("", ""),
            ("http://", ""),
            ("http://localhost:3000", "localhost:9090"),
            ("http://127.0.0.1:9090.evil.example", "127.0.0.1:9090"),
            ("file://127.0.0.1", "127.0.0.1"),
            ("http://evil.example", "127.0.0.1:9090"),
            ("http://a@127.0.0.1:9090", "127.0.0.1:9090"),
        ] {
            assert!(!is_own(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (text, origin) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://app.example:80", "https://app.example:80"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(normal(text).as_deref(), Ok(origin), "{text}");
        }
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/x",
            "https://*.example",
            "https://a b",
            "https://a:x",
            "https://a:",
            "://a",
            "file://",
            "https://a@b",
            "https://\u{fc}.example",
        ] {
            assert!(normal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_is_granted_what_its_whole_origin_is() {
        let pages = |any| Pages { origins: ["https://app.example".into()].into(), any };
        assert_eq!(pages(false).grant(b"https://app.example"), PageGrant::Listed(0));
        assert_eq!(pages(true).grant(b"https://app.example"), PageGrant::Listed(0));
        for origin in [
            "",
            "null",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil",
            "https://x.app.example",
        ] {
            assert_eq!(pages(false).grant(origin.as_bytes()), PageGrant::None, "{origin}");
            assert_eq!(pages(true).grant(origin.as_bytes()), PageGrant::Any, "{origin}");
        }
    }
}
