//! A proxy on the way to a backend.

use std::fmt;

/// A proxy that opens a tunnel to a backend. The coordinator resolves its name in place of the backend's, which the proxy
/// resolves.
#[derive(PartialEq, Eq)]
pub struct Proxy {
    /// Name or literal address.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// The whole head that asks for the tunnel. It may hold a credential.
    pub connect: Box<[u8]>,
}

impl Proxy {
    /// The same proxy, for a tunnel to another place.
    pub fn to(&self, host: &str, port: u16) -> Self {
        let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        // What follows the first two lines is not about the place.
        let rest = self.connect.split_inclusive(|byte| *byte == b'\n').skip(2);
        rest.for_each(|line| connect.extend_from_slice(line));
        Self { host: self.host.clone(), port: self.port, connect: connect.into() }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_to_another_place_has_the_same_credential() {
        let connect = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nProxy-Authorization: Basic s3cret\r\n\r\n";
        let proxy = Proxy { host: "p".into(), port: 3128, connect: connect.as_slice().into() };
        let expected = "CONNECT i:8443 HTTP/1.1\r\nHost: i:8443\r\nProxy-Authorization: Basic s3cret\r\n\r\n";
        assert_eq!(&*proxy.to("i", 8443).connect, expected.as_bytes());
    }

    #[test]
    fn a_proxy_shows_its_place_and_no_credential() {
        for (host, shown) in [("proxy.internal", "proxy.internal:3128"), ("::1", "[::1]:3128")] {
            let connect = b"CONNECT h:443 HTTP/1.1\r\nProxy-Authorization: Basic s3cret\r\n\r\n";
            let proxy = Proxy { host: host.into(), port: 3128, connect: connect.as_slice().into() };
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), format!("Proxy({shown})"));
        }
    }
}
