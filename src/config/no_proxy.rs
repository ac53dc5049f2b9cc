//! Which hosts are reached without a proxy: a list in the form of NO_PROXY.
//!
//! There is no standard. Here an entry means what it means to Go's `net/http`: a bare name is that host and all below it, a
//! leading dot (or `*.`) leaves out the host itself, `:PORT` narrows an entry to one port, networks are for literal
//! addresses, since names are not resolved for this, and `*` is everything.

use std::net::IpAddr;

use crate::policy::auth::forwarded::Network;

/// The hosts that are reached without a proxy.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(PartialEq, Eq, Debug)]
struct Entry {
    hosts: Hosts,
    /// Any if absent.
    port: Option<u16>,
}

#[derive(PartialEq, Eq, Debug)]
enum Hosts {
    All,
    Network(Network),
    /// A name in lower case without a dot at either end; and whether it is one of the hosts itself.
    Below(String, bool),
}

impl NoProxy {
    /// Reads a value of NO_PROXY: entries between commas or blanks. What has no meaning is passed over, as everybody does.
    pub(super) fn of_variable(text: &str) -> Self {
        let entries = text.split(|char: char| char == ',' || char.is_ascii_whitespace());
        Self(entries.filter_map(|entry| Entry::parse(entry).ok()).collect())
    }

    /// Adds one entry.
    ///
    /// # Errors
    /// The expected form.
    pub(super) fn add(&mut self, text: &str) -> Result<(), &'static str> {
        self.0.push(Entry::parse(text.trim())?);
        Ok(())
    }

    /// Whether a host, a name or an address without brackets, is reached without a proxy.
    pub(super) fn contains(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        self.0.iter().any(|entry| {
            let is_host = match &entry.hosts {
                Hosts::All => true,
                Hosts::Network(network) => address.is_some_and(|address| network.contains(address)),
                Hosts::Below(name, itself) => match host.strip_suffix(&**name) {
                    Some("") => *itself,
                    Some(before) => address.is_none() && before.ends_with('.'),
                    None => false,
                },
            };
            is_host && entry.port.is_none_or(|own| own == port)
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self { hosts: Hosts::All, port: None });
        }
        if let Some(network) = network(text) {
            return Ok(Self { hosts: Hosts::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let is_number = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            None => None,
            Some(port) => {
                let port = Some(port).filter(is_number).and_then(|port| port.parse().ok());
                Some(port.filter(|port| *port != 0).ok_or(FORM)?)
            }
        };
        if let Some(network) = network(host) {
            return Ok(Self { hosts: Hosts::Network(network), port });
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&name);
        let (name, itself) = name.strip_prefix('.').map_or((name, true), |name| (name, false));
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !name.split('.').all(is_label) {
            return Err(FORM);
        }
        Ok(Self { hosts: Hosts::Below(name.to_owned(), itself), port })
    }
}

/// An address, with or without brackets, or a network. Bits of its address beyond its length are passed over.
fn network(text: &str) -> Option<Network> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let inner = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let address: IpAddr = inner.unwrap_or(address).parse().ok()?;
    let Some(length) = length else { return Network::parse(&address.to_string()).ok() };
    let bits: u32 = length.parse().ok().filter(|bits| *bits <= if address.is_ipv4() { 32 } else { 128 })?;
    let base = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    };
    Network::parse(&format!("{base}/{length}")).ok()
}

const FORM: &str = "expected a host like \"corp.example\", \".corp.example\" for the names below it, an address, a network like \
                    \"10.0.0.0/8\", one of these with \":PORT\", or \"*\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_means_what_it_means_to_others() {
        #[rustfmt::skip] // one claim per line
        type Hosts = &'static [(&'static str, u16)];
        let table: &[(&str, Hosts, Hosts)] = &[
            ("", &[], &[("h", 80), ("10.0.0.1", 80)]),
            (" , ,,\t", &[], &[("h", 80)]),
            ("*", &[("h", 80), ("10.0.0.1", 443), ("::1", 1)], &[]),
            (
                "api.example",
                &[("api.example", 443), ("a.api.example", 80), ("API.Example.", 80)],
                &[("xapi.example", 443), ("example", 443), ("api.example.org", 443)],
            ),
            (
                ".example",
                &[("api.example", 443), ("a.b.example.", 1)],
                &[("example", 443), ("badexample", 443)],
            ),
            ("*.example", &[("api.example", 443)], &[("example", 443)]),
            ("Api.EXAMPLE", &[("api.example", 443)], &[]),
            ("api.example.", &[("api.example", 443), ("api.example.", 443)], &[]),
            ("api.example:8080", &[("api.example", 8080), ("x.api.example", 8080)], &[("api.example", 443)]),
            (".example:8080", &[("api.example", 8080)], &[("api.example", 443), ("example", 8080)]),
            ("localhost", &[("localhost", 80)], &[("127.0.0.1", 80)]),
            ("192.0.2.7", &[("192.0.2.7", 80)], &[("192.0.2.8", 80), ("1.192.0.2.7", 80)]),
            ("192.0.2.7:81", &[("192.0.2.7", 81)], &[("192.0.2.7", 80)]),
            ("10.0.0.0/8", &[("10.255.1.2", 80)], &[("11.0.0.1", 80), ("ten.example", 80)]),
            ("10.1.2.3/8", &[("10.255.1.2", 80)], &[("11.0.0.1", 80)]),
            ("0.0.0.0/0", &[("203.0.113.1", 80)], &[("h", 80)]),
            ("::1", &[("::1", 80), ("0:0:0:0:0:0:0:1", 80)], &[("::2", 80)]),
            ("[::1]", &[("::1", 80)], &[]),
            ("[2001:DB8::1]:443", &[("2001:db8::1", 443)], &[("2001:db8::1", 80)]),
            ("[::1]/128", &[("::1", 80)], &[("::2", 80)]),
            ("::1/64", &[("::2", 80)], &[("0:0:0:1::", 80)]),
            ("fd00::/8", &[("fdff::1", 80)], &[("fe00::1", 80)]),
            (
                "a.example,  .b.example 10.0.0.0/8",
                &[("a.example", 1), ("x.b.example", 1), ("10.0.0.1", 1)],
                &[("c.example", 1)],
            ),
            ("http://x,a.example", &[("a.example", 1)], &[("x", 80)]),
        ];
        for (list, inside, outside) in table {
            let list = NoProxy::of_variable(list);
            for (host, port) in *inside {
                assert!(list.contains(host, *port), "{list:?} {host}:{port}");
            }
            for (host, port) in *outside {
                assert!(!list.contains(host, *port), "{list:?} {host}:{port}");
            }
        }
    }

    #[test]
    fn what_can_fit_no_host_is_refused_where_it_can_be_told() {
        for text in [
            "",
            ".",
            "..",
            "*x",
            "http://h",
            "h:",
            "h:0",
            "h:+1",
            "h:65536",
            "a b",
            "10.0.0.0/33",
            "h/8",
            "a..b",
            "[h]",
        ] {
            assert_eq!(NoProxy::default().add(text), Err(FORM), "{text:?}");
        }
        assert_eq!(NoProxy::default().add(" .corp.example "), Ok(()));
    }
}
