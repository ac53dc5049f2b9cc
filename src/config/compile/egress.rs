//! The proxies on the way to backends: which backend has which, and what opens a tunnel.

use super::{Source, file, secrets};
use crate::config::entry::ProxyChoice;
use crate::config::no_proxy::NoProxy;
use crate::config::problem::Report;
use crate::config::secret::SecretSource;
use crate::config::url::{self, Url};
use crate::plan::{Proxy, Target};
use crate::units::hex_digit;
use crate::wire::base64;

/// What `[egress]` says.
pub(super) struct Egress {
    choice: Choice,
    /// In Base64.
    credential: Option<String>,
    no_proxy: NoProxy,
}

/// Which proxy it is.
#[derive(Clone)]
enum Choice {
    None,
    /// Something is wrong with it, which has been reported.
    Wrong,
    Environment,
    Place(Place),
}

/// Where a proxy listens, and the credential that stood there in Base64.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    host: Box<str>,
    port: u16,
    credential: Option<String>,
}

impl Egress {
    pub(super) fn compile(source: &Source<'_>, report: &mut Report<'_>) -> Self {
        let egress = &source.file.egress;
        let choice = match &egress.proxy {
            None => Choice::None,
            Some(text) => Choice::parse(&["egress", "proxy"], text, report),
        };
        let path = ["egress", "credential"];
        let credential = egress.credential.as_ref().and_then(|from| credential(&path, from, source, report));
        if egress.credential.is_some() && egress.proxy.is_none() {
            report.problem(&path, "has no proxy to be presented to; expected [egress] proxy beside it");
        }
        let mut no_proxy = match choice {
            Choice::Environment => no_proxy_of_environment(source),
            _ => NoProxy::default(),
        };
        for (at, entry) in egress.no_proxy.iter().enumerate() {
            report.take(&["egress", "no_proxy", &format!("[{at}]")], no_proxy.add(entry));
        }
        Self { choice, credential, no_proxy }
    }

    /// The proxy of one backend.
    pub(super) fn proxy(
        &self,
        name: &str,
        backend: &file::Backend,
        url: &Url,
        hosted: bool,
        source: &Source<'_>,
        report: &mut Report<'_>,
    ) -> Option<Proxy> {
        let (at, at_credential) = (["backend", name, "proxy"], ["backend", name, "proxy_credential"]);
        let has_own = matches!(backend.proxy, Some(ProxyChoice::Own(_)));
        if backend.proxy_credential.is_some() && !has_own {
            report.problem(&at_credential, "has no proxy of the backend's own to be presented to");
        }
        let Target::Tcp { host, port } = &url.target else {
            if !matches!(backend.proxy, None | Some(ProxyChoice::Switch(false))) {
                report.problem(&at, "is for http and https only; this backend has another url");
            }
            return None;
        };
        match &backend.proxy {
            Some(ProxyChoice::Switch(false)) => None,
            Some(ProxyChoice::Switch(true)) => {
                let before = report.problems.len();
                let proxy = self.choice.proxy(&at, url, self.credential.as_ref(), source, report);
                let is_told = matches!(self.choice, Choice::Wrong) || report.problems.len() > before;
                if proxy.is_none() && !is_told {
                    report.problem(&at, format!("is true, but {}", self.choice.lack(url)));
                }
                proxy
            }
            Some(ProxyChoice::Own(text)) => {
                let from = backend.proxy_credential.as_ref();
                let credential = from.and_then(|from| credential(&at_credential, from, source, report));
                let choice = Choice::parse(&at, text, report);
                let is_direct = matches!(choice, Choice::Environment)
                    && no_proxy_of_environment(source).contains(host, *port);
                if is_direct { None } else { choice.proxy(&at, url, credential.as_ref(), source, report) }
            }
            None if !hosted || self.no_proxy.contains(host, *port) => None,
            None => self.choice.proxy(&["egress", "proxy"], url, self.credential.as_ref(), source, report),
        }
    }
}

impl Egress {
    /// The proxy to a hosted service that is no backend.
    pub(super) fn proxy_to(&self, url: &Url, source: &Source<'_>, report: &mut Report<'_>) -> Option<Proxy> {
        let Target::Tcp { host, port } = &url.target else { return None };
        match self.no_proxy.contains(host, *port) {
            true => None,
            false => self.choice.proxy(&["egress", "proxy"], url, self.credential.as_ref(), source, report),
        }
    }
}

impl Choice {
    fn parse(path: &[&str], text: &str, report: &mut Report<'_>) -> Self {
        if text == "environment" {
            return Self::Environment;
        }
        let parsed = if text.contains('@') { Err(HAS_CREDENTIAL) } else { Place::parse(text) };
        report.take(path, parsed).map_or(Self::Wrong, Self::Place)
    }

    /// The proxy to a backend. A credential that was named stands before one that is part of a variable.
    fn proxy(
        &self,
        path: &[&str],
        url: &Url,
        credential: Option<&String>,
        source: &Source<'_>,
        report: &mut Report<'_>,
    ) -> Option<Proxy> {
        let place = match self {
            Self::None | Self::Wrong => return None,
            Self::Place(place) => place.clone(),
            Self::Environment => {
                let (variable, text) = variable(source, scheme_variables(url.tls))?;
                let parsed = Place::of_variable(&text);
                let wrong = |wrong| format!("the environment variable {variable} {wrong}");
                report.take(path, parsed.map_err(wrong))?
            }
        };
        Some(place.proxy(url, credential))
    }

    /// Why there is no proxy.
    fn lack(&self, url: &Url) -> String {
        match self {
            Self::Environment => {
                let [upper, lower] = scheme_variables(url.tls);
                format!("the environment has neither {upper} nor {lower}")
            }
            _ => "[egress] has no proxy".to_owned(),
        }
    }
}

impl Place {
    /// Reads `http://HOST[:PORT]`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with("http://") {
            return Err(FORM);
        }
        match url::parse(text)? {
            Url { target: Target::Tcp { host, port }, path, .. } if path.is_empty() => {
                Ok(Self { host, port, credential: None })
            }
            _ => Err("has a path, which a proxy does not have; leave it out"),
        }
    }

    /// Reads what stands in a variable: the scheme may be missing, a credential may be there.
    fn of_variable(text: &str) -> Result<Self, &'static str> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(FORM),
        };
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let credential = user.map(|user| {
            let mut plain = percent_decoded(user.split_once(':').map_or(user, |(user, _)| user));
            plain.push(b':');
            plain.extend(percent_decoded(user.split_once(':').map_or("", |(_, password)| password)));
            base64(&plain)
        });
        Ok(Self { credential, ..Self::parse(&format!("http://{rest}"))? })
    }

    fn proxy(self, url: &Url, credential: Option<&String>) -> Proxy {
        let Target::Tcp { host, port } = &url.target else { unreachable!("only TCP has a proxy") };
        let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(credential) = credential.or(self.credential.as_ref()) {
            connect.push_str(&format!("Proxy-Authorization: Basic {credential}\r\n"));
        }
        connect.push_str("\r\n");
        Proxy { host: self.host, port: self.port, connect: connect.into_bytes().into() }
    }
}

fn credential(
    path: &[&str],
    from: &SecretSource,
    source: &Source<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let secret = secrets::read(path, from, source, report)?;
    if !secret.expose().contains(':') {
        report.problem(path, "leads to something without a colon; expected USER:PASSWORD");
        return None;
    }
    Some(base64(secret.expose().as_bytes()))
}

/// The variables for a scheme; the first that is there and not empty counts.
fn scheme_variables(tls: bool) -> [&'static str; 2] {
    if tls { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] }
}

fn variable(source: &Source<'_>, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let found = names.into_iter().filter_map(|name| Some((name, source.environment.variable(name)?)));
    found.map(|(name, text)| (name, text.trim().to_owned())).find(|(_, text)| !text.is_empty())
}

fn no_proxy_of_environment(source: &Source<'_>) -> NoProxy {
    let text = variable(source, ["NO_PROXY", "no_proxy"]);
    text.map_or_else(NoProxy::default, |(_, text)| NoProxy::of_variable(&text))
}

/// What a part of a URL means; a `%` without two hex digits is one.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match rest {
            [high, low, rest @ ..]
                if *first == b'%' && hex_digit(*high).is_some() && hex_digit(*low).is_some() =>
            {
                plain.push(hex_digit(*high).unwrap_or(0) << 4 | hex_digit(*low).unwrap_or(0));
                bytes = rest;
            }
            _ => plain.push(*first),
        }
    }
    plain
}

fn base64(plain: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(plain, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

const FORM: &str = "expected http://HOST:PORT; TLS to the proxy itself and SOCKS are not spoken";
const HAS_CREDENTIAL: &str = "holds a user or password; write credential = { env = \"NAME\" } in [egress], or proxy_credential in the backend";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("user:pa ss?>", "dXNlcjpwYSBzcz8+")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn a_variable_may_lack_the_scheme_and_hold_a_credential() {
        let place = |host: &str, port, plain: Option<&[u8]>| {
            Ok(Place { host: host.into(), port, credential: plain.map(base64) })
        };
        for (text, expected) in [
            ("http://proxy:3128", place("proxy", 3128, None)),
            ("HTTP://Proxy:3128/", place("proxy", 3128, None)),
            ("proxy:3128", place("proxy", 3128, None)),
            ("http://proxy", place("proxy", 80, None)),
            ("http://[::1]:8080", place("::1", 8080, None)),
            ("http://u:p@proxy:3128", place("proxy", 3128, Some(b"u:p"))),
            ("u:p%40ss%3a%zz@proxy:1", place("proxy", 1, Some(b"u:p@ss:%zz"))),
            ("http://u:a@b@proxy:1", place("proxy", 1, Some(b"u:a@b"))),
            ("http://user@proxy:1", place("proxy", 1, Some(b"user:"))),
        ] {
            assert_eq!(Place::of_variable(text), expected, "{text}");
        }
        for text in
            ["https://proxy:1", "socks5://proxy:1", "http://proxy:1/x", "http://", "http://proxy:x", "a b"]
        {
            assert!(Place::of_variable(text).is_err(), "{text}");
        }
    }
}
