//! Who is the client behind a proxy?
//!
//! Anybody may write `X-Forwarded-For`, so it is believed from the right, one hop at a time, and only for as long as the hop that
//! wrote an entry is a proxy of the operator's own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The addresses that share their first bits: `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    base: u128,
    mask: u128,
}

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    ///
    /// # Errors
    /// The expected form.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "expected an address, or a network whose address has no bit beyond its length, like 10.0.0.0/8 or fd00::/8";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse::<u32>().ok().filter(|bits| *bits <= bits_max).ok_or(FORM)?
            }
            Some(_) => return Err(FORM),
        };
        // Both families as one: an IPv4 address is the last 32 bits of its IPv6 form.
        let mask = u128::MAX.checked_shl(bits_max - bits).unwrap_or(0);
        let mask = if address.is_ipv4() { mask | MAPPED_MASK } else { mask };
        let base = number(address);
        if base & !mask != 0 { Err(FORM) } else { Ok(Self { base, mask }) }
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.base
    }
}

/// The bits that an IPv4 address shares with all others in its IPv6 form.
const MAPPED_MASK: u128 = u128::MAX << 32;

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether a proxy of the operator's own has this address.
pub fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Who made a request that came from `peer`: the rightmost hop that no trusted one vouches for. `lines` are the values of its
/// `X-Forwarded-For` lines in their order.
///
/// An entry that is no address ends the search: the last hop that is known counts.
pub fn client<'a>(
    peer: IpAddr,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> IpAddr {
    let entries = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = peer.to_canonical();
    for entry in entries.take(HOPS_MAX) {
        if !is_trusted(client, trusted) {
            break;
        }
        let Some(hop) = address(entry.trim_ascii()) else { break };
        client = hop.to_canonical();
    }
    client
}

/// An address as proxies write it, with or without a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Hops that are followed. Chosen: far more than any chain of proxies has.
const HOPS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_network_holds_what_shares_its_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("::/0", "203.0.113.1", ""),
            ("2001:db8::/127", "2001:db8::1", "2001:db8::2"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network:?} {inside}");
            assert!(
                outside.parse().is_ok_and(|outside| !network.contains(outside)) || outside.is_empty(),
                "{network:?} {outside}"
            );
        }
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            "10.0.0.0/+8",
            "fd00::/129",
            "fd01::/8",
            "proxy.example",
            "10.0.0.0/0x8",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
        for (peer, lines, expected) in [
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"), // the client wrote 1.1.1.1 itself
            ("10.0.0.1", &["203.0.113.9, 10.0.0.2,10.0.0.3"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.7, 10.0.0.2"], "10.0.0.7"),
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"), // not listed: not believed
            ("10.0.0.1", &["203.0.113.9:443"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("fd00::1", &["2001:db8::1, ::ffff:10.0.0.9"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, "], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["<script>"], "10.0.0.1"),
        ] {
            let lines = lines.iter().map(|line| line.as_bytes());
            let found = client(peer.parse().unwrap(), lines, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {expected}");
        }
        assert_eq!(
            client("1.2.3.4".parse().unwrap(), [&b"9.9.9.9"[..]].into_iter(), &[]).to_string(),
            "1.2.3.4"
        );
        let long = "10.0.0.1,".repeat(10_000);
        client("10.0.0.1".parse().unwrap(), [long.as_bytes()].into_iter(), &trusted);
    }
}
