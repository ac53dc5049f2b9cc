//! The URL of a backend, read strictly: what we connect to, and what we put around every path.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::dialect::Api;
use crate::plan::Target;
use crate::provider::Base;

/// The parts of a backend's URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Url {
    /// Where to connect.
    pub(crate) target: Target,
    /// `https`.
    pub(crate) tls: bool,
    /// `Host` of every request: the port only if it is not the scheme's own (RFC 9110 section 4.2.3).
    pub(crate) authority: String,
    /// Path without a slash at its end, empty for none.
    pub(crate) path: String,
    /// Query without `?`, empty for none. Only an API's base has one.
    pub(crate) query: String,
}

impl Url {
    /// What goes around every endpoint's path.
    pub(super) fn base(&self, is_api: bool) -> Base {
        if is_api { Base::of_api(&self.path, &self.query) } else { Base::of_server(&self.path) }
    }

    /// Whether the way there does not leave this machine.
    pub(crate) fn is_near(&self) -> bool {
        match &self.target {
            Target::Tcp { host, .. } => {
                &**host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            Target::Unix(_) => true,
        }
    }

    /// Whether its path holds a version that `/v1` would follow, as in `/api/paas/v4` or `/v1beta/openai`.
    pub(super) fn has_own_version(&self) -> bool {
        !self.path.ends_with("/v1") && self.path.split('/').any(is_version)
    }
}

/// The longest path of a socket in bytes: `sun_path` of unix(7) without its NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads a server's URL: `http://`, `https://` and `unix:/path`.
///
/// # Errors
/// Says what is wrong and never repeats the URL, which may hold a password.
pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
    let url = read(text)?;
    if url.query.is_empty() { Ok(url) } else { Err(HAS_QUERY) }
}

/// Reads the base URL of an API, whose endpoints lie right under it: as above, but with a query, and no `unix:`.
///
/// # Errors
/// As above.
pub(crate) fn parse_base(text: &str) -> Result<Url, &'static str> {
    match read(text)? {
        Url { target: Target::Unix(_), .. } => {
            Err("names a socket, which has no path for endpoints to lie under; write url instead")
        }
        url => Ok(url),
    }
}

fn read(text: &str) -> Result<Url, &'static str> {
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
    if rest.contains('#') {
        return Err("has a fragment (#), which no server is ever sent; leave it out");
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    check_path(path)?;
    check_bytes(query)?;
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
        query: query.to_owned(),
    })
}

/// A path is sent as it is written, so it must mean the same to every server.
fn check_path(path: &str) -> Result<(), &'static str> {
    check_bytes(path)?;
    let path = path.trim_end_matches('/');
    let decoded = path.to_ascii_lowercase().replace("%2e", ".");
    if decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("has a path with . or .. in it; write the path that is meant");
    }
    if names_endpoint(path) {
        return Err("names an endpoint, which the gateway adds by itself; end it before that part");
    }
    Ok(())
}

/// The characters of RFC 3986 sections 3.3 and 3.4, so no `{placeholder}`, and percent-encodings in full.
fn check_bytes(text: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    if !text.bytes().all(is_plain) {
        return Err("holds a character that a path or a query has to encode, like { or |");
    }
    let is_encoding =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_encoding) {
        return Err("has a % without two hex digits behind it");
    }
    Ok(())
}

/// Whether a path goes on to an endpoint, as what is copied from a provider's page may. One word alone is not taken for
/// one: `/embeddings` may be where an ingress keeps a server.
fn names_endpoint(path: &str) -> bool {
    Api::ALL.iter().filter_map(|api| api.path().strip_prefix("/v1")).any(|end| {
        let before = path.strip_suffix(end).map(|before| before.rsplit('/').next().unwrap_or_default());
        before.is_some_and(|segment| end[1..].contains('/') || is_version(segment))
    })
}

/// `v1`, `v1beta`, `v4`.
pub(super) fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v').unwrap_or_default();
    number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn unix(path: &str) -> Result<Url, &'static str> {
    if !path.starts_with('/') {
        return Err("expected unix: and an absolute path, like unix:/run/engine.sock");
    }
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err("is longer than a socket's path may be (107 bytes)");
    }
    let target = Target::Unix(PathBuf::from(path));
    let (path, query) = (String::new(), String::new());
    Ok(Url { target, tls: false, authority: "localhost".to_owned(), path, query })
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

const HAS_QUERY: &str = "has a query; expected scheme, host, port and path only, or write api_base instead of url, which may have one";
const BAD_HOST: &str = "has no valid host; expected a name, an IPv4 address or an [IPv6] address";
const BAD_PORT: &str = "has no valid port; expected 1 to 65535";

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> (String, u16, bool, String, String) {
        match parse(text).unwrap() {
            Url { target: Target::Tcp { host, port }, tls, authority, path, .. } => {
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
            "http://h/a/../b",
            "http://h/%2E%2e/b",
            "http://h/{account}/openai",
            "http://h/a%2",
            "http://h/a%zz",
            "http://h\\@g",
            "https://api.openai.com/v1/chat/completions",
            "http://h/api/paas/v4/chat/completions/",
            "http://h/v1/messages/count_tokens",
            "http://h/v3/embeddings",
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

    #[test]
    fn an_apis_base_may_have_a_query_and_no_endpoint() {
        for (text, path, query) in [
            ("https://open.bigmodel.cn/api/paas/v4/", "/api/paas/v4", ""),
            (
                "https://h:8443/openai/deployments/a%20b?api-version=2024-10-21",
                "/openai/deployments/a%20b",
                "api-version=2024-10-21",
            ),
            ("http://[::1]:9000/v1?", "/v1", ""),
            ("http://h/?a=1&b=", "", "a=1&b="),
            ("http://h?a=/x?y", "", "a=/x?y"),
            ("http://h/embeddings", "/embeddings", ""),
        ] {
            let url = parse_base(text).unwrap();
            assert_eq!((&*url.path, &*url.query), (path, query), "{text}");
        }
        for text in [
            "http://u:p@h/v4",
            "http://h/v4#x",
            "http://h?a=\"b\"",
            "unix:/run/a.sock",
            "http://h/v4/chat/completions?x=1",
        ] {
            assert!(parse_base(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_that_another_would_follow_is_seen() {
        for (path, expected) in [
            ("/api/paas/v4", true),
            ("/v1beta/openai", true),
            ("/v1", false),
            ("/openai/v1", false),
            ("/engine", false),
            ("/vllm", false),
            ("/v", false),
            ("", false),
        ] {
            assert_eq!(parse(&format!("http://h{path}")).unwrap().has_own_version(), expected, "{path}");
        }
    }
}
