//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a proxy says in front of a connection about who
//! made it.
//!
//! What follows the header belongs to somebody else (TLS, HTTP), so it says how much of what has come it may take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What has come so far says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// All of these bytes belong to the header, and there is more of it.
    More,
    /// It has this many bytes. The address is that of who connected to the proxy; `None` if it speaks for itself (`LOCAL`,
    /// `UNKNOWN`), or of no TCP connection.
    Done(usize, Option<SocketAddr>),
}

/// Reads the header at the start of `bytes`.
///
/// # Errors
/// `None`: that is no header, or one longer than [`BYTES_MAX`].
pub fn read(bytes: &[u8]) -> Option<ProxyHeader> {
    let is_start_of =
        |whole: &[u8]| bytes[..bytes.len().min(whole.len())] == whole[..bytes.len().min(whole.len())];
    match () {
        () if is_start_of(SIGNATURE) => second(bytes),
        () if is_start_of(b"PROXY ") => first(bytes),
        () => None,
    }
}

/// `PROXY TCP4 source destination port port CRLF`, in at most 107 bytes.
fn first(bytes: &[u8]) -> Option<ProxyHeader> {
    let window = &bytes[..bytes.len().min(FIRST_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < FIRST_BYTES_MAX { Some(ProxyHeader::More) } else { None };
    };
    let line = std::str::from_utf8(&window[..end]).ok()?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(ProxyHeader::Done(end + 2, None));
    }
    let (source, destination) =
        (words.next()?.parse::<IpAddr>().ok()?, words.next()?.parse::<IpAddr>().ok()?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    let is_family = |address: IpAddr| match family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    let holds = is_family(source) && is_family(destination) && words.next().is_none();
    holds.then_some(ProxyHeader::Done(end + 2, Some(SocketAddr::new(source, port))))
}

fn port(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Signature, version and command, family, length, addresses, then what else the proxy says (TLVs), which is passed over.
fn second(bytes: &[u8]) -> Option<ProxyHeader> {
    let Some(&[version, family, high, low]) = bytes.get(12..16) else { return Some(ProxyHeader::More) };
    let end = 16 + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(version, 0x20 | 0x21) || end > BYTES_MAX {
        return None;
    }
    let Some(addresses) = bytes.get(16..end) else { return Some(ProxyHeader::More) };
    let source = match (version, family >> 4) {
        (0x20, _) => None,
        (_, 0 | 3) => None, // of no family, or a Unix socket
        (_, 1) => {
            let ip: [u8; 4] = *addresses.get(..12)?.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), u16::from_be_bytes([addresses[8], addresses[9]])))
        }
        (_, 2) => {
            let ip: [u8; 16] = *addresses.get(..36)?.first_chunk()?;
            Some(SocketAddr::new(
                Ipv6Addr::from(ip).into(),
                u16::from_be_bytes([addresses[32], addresses[33]]),
            ))
        }
        _ => return None,
    };
    Some(ProxyHeader::Done(end, source))
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its CRLF included.
const FIRST_BYTES_MAX: usize = 107;
/// The longest header. Chosen: the addresses, and what proxies of clouds and TLS say beside them.
pub const BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn done(bytes: &[u8], source: Option<&str>) {
        let source = source.map(|source| source.parse().unwrap());
        let followed = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(read(&followed), Some(ProxyHeader::Done(bytes.len(), source)), "{}", bytes.escape_ascii());
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Some(ProxyHeader::More), "{}", bytes[..cut].escape_ascii());
        }
    }

    #[test]
    fn both_versions_name_the_client() {
        done(b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n", Some("203.0.113.9:56324"));
        done(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Some("[2001:db8::1]:1"));
        done(b"PROXY UNKNOWN\r\n", None);
        done(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None);
        let four = [203, 0, 113, 9, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
        done(&v2(0x21, 0x11, &four), Some("203.0.113.9:56324"));
        done(
            &v2(0x21, 0x11, &[&four[..], b"\x03\0\x04\x01\x02\x03\x04"].concat()),
            Some("203.0.113.9:56324"),
        );
        done(&v2(0x21, 0x11, &[&four[..], &[0xee; 3000]].concat()), Some("203.0.113.9:56324"));
        let mut six = [0; 36];
        six[..2].copy_from_slice(&[0x20, 0x01]);
        six[33] = 7;
        done(&v2(0x21, 0x21, &six), Some("[2001::]:7"));
        done(&v2(0x20, 0x00, b""), None); // LOCAL
        done(&v2(0x20, 0x11, &four), None); // LOCAL, whatever it says
        done(&v2(0x21, 0x00, b""), None);
        done(&v2(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn anything_else_is_no_header() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY\tTCP4",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 1\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            b"PROXY TCP6 203.0.113.9 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 65536 2\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4  203.0.113.9 10.0.0.1 1 2\r\n",
            b"PROXY UDP4 203.0.113.9 10.0.0.1 1 2\r\n",
            b"PROXY \r\n",
            b"\r\n\r\n\0\r\nQUIT\r",
            long.as_bytes(),
        ] {
            assert_eq!(read(bytes), None, "{}", bytes.escape_ascii());
        }
        for bytes in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x11, &[0; BYTES_MAX]),
        ] {
            assert_eq!(read(&bytes), None, "{}", bytes[..16].escape_ascii());
        }
    }
}
