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
    fn a_proxy_shows_its_place_and_no_credential() {
        for (host, shown) in [("proxy.internal", "proxy.internal:3128"), ("::1", "[::1]:3128")] {
            let connect = b"CONNECT h:443 HTTP/1.1\r\nProxy-Authorization: Basic s3cret\r\n\r\n";
            let proxy = Proxy { host: host.into(), port: 3128, connect: connect.as_slice().into() };
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), format!("Proxy({shown})"));
        }
    }
}
