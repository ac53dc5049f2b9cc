//! The URL of a backend, read strictly: what we connect to, and what we put in front of every path.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::plan::Target;

/// The parts of a backend's URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Url {
    /// Where to connect.
    pub(super) target: Target,
    /// `https`.
    pub(super) tls: bool,
    /// `Host` of every request: the port only if it is not the scheme's own (RFC 9110 section 4.2.3).
    pub(super) authority: String,
    /// Path without a slash at its end, empty for none.
    pub(super) path: String,
}

/// The longest path of a socket in bytes: `sun_path` of unix(7) without its NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads `http://`, `https://` and `unix:/path`.
///
/// # Errors
/// Says what is wrong and never repeats the URL, which may hold a password.
pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a space, a control character or a character outside of ASCII");
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("expected http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH"),
    };
    if rest.contains(['?', '#']) {
        return Err("has a query or a fragment; expected scheme, host, port and path only");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("holds a user or password; write api_key = { env = \"NAME\" } instead");
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, rest)) => (host.parse::<Ipv6Addr>().map_err(|_| BAD_HOST)?.to_string(), rest),
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            if !host_is_valid(host) {
                return Err(BAD_HOST);
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    let default = if tls { 443 } else { 80 };
    let port = match port {
        "" => default,
        _ => {
            let digits =
                port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).filter(|port| *port != 0).ok_or(BAD_PORT)?
        }
    };
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    Ok(Url {
        authority: if port == default { shown } else { format!("{shown}:{port}") },
        target: Target::Tcp { host: host.into(), port },
        tls,
        path: path.trim_end_matches('/').to_owned(),
    })
}

fn unix(path: &str) -> Result<Url, &'static str> {
    if !path.starts_with('/') {
        return Err("expected unix: and an absolute path, like unix:/run/engine.sock");
    }
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err("is longer than a socket's path may be (107 bytes)");
    }
    let target = Target::Unix(PathBuf::from(path));
    Ok(Url { target, tls: false, authority: "localhost".to_owned(), path: String::new() })
}

/// A name of letters, digits, dots, hyphens and underscores, or an IPv4 address. Something that only looks like
/// an address (`10.0.0.256`) is refused rather than asked of a resolver.
fn host_is_valid(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let labels = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

const BAD_HOST: &str = "has no valid host; expected a name, an IPv4 address or an [IPv6] address";
const BAD_PORT: &str = "has no valid port; expected 1 to 65535";

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> (String, u16, bool, String, String) {
        match parse(text).unwrap() {
            Url { target: Target::Tcp { host, port }, tls, authority, path } => {
                (host.into(), port, tls, authority, path)
            }
            url => panic!("not TCP: {url:?}"),
        }
    }

    #[test]
    fn scheme_host_port_and_path_are_told_apart() {
        for (text, host, port, tls, authority, path) in [
            ("http://10.0.0.11:8000", "10.0.0.11", 8000, false, "10.0.0.11:8000", ""),
            ("https://API.openai.com/", "api.openai.com", 443, true, "api.openai.com", ""),
            ("https://h:443/a/b/", "h", 443, true, "h", "/a/b"),
            ("http://h:443", "h", 443, false, "h:443", ""),
            ("http://[::1]:9000/x", "::1", 9000, false, "[::1]:9000", "/x"),
            ("http://[::1]", "::1", 80, false, "[::1]", ""),
            ("http://vllm_0.svc.", "vllm_0.svc.", 80, false, "vllm_0.svc.", ""),
        ] {
            assert_eq!(tcp(text), (host.into(), port, tls, authority.into(), path.into()), "{text}");
        }
    }

    #[test]
    fn a_socket_path_is_absolute_and_fits() {
        assert_eq!(parse("unix:/run/a.sock").unwrap().target, Target::Unix("/run/a.sock".into()));
        assert!(parse("unix:run/a.sock").is_err());
        assert!(parse("unix:").is_err());
        assert!(parse(&format!("unix:/{}", "a".repeat(107))).is_err());
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        for text in [
            "",
            "10.0.0.1:8000",
            "ftp://h",
            "HTTP//h",
            "http://",
            "http:///x",
            "http://:80",
            "http://h:",
            "http://h:0",
            "http://h:+80",
            "http://h:65536",
            "http://h:80:80",
            "http://user:pass@h",
            "http://h?x=1",
            "http://h/#a",
            "http://h/a b",
            "http://h\r\nX: y",
            "http://[::1",
            "http://[::1]x",
            "http://[nope]",
            "http://::1",
            "http://10.0.0.256",
            "http://10.1",
            "http://a..b",
            "http://höst",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
