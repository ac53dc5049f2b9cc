//! Addresses on the command line: `HOST:PORT` or `unix:PATH`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a simulator listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 asks the kernel for a free port.
    Tcp(SocketAddr),
    /// A Unix socket; a stale socket file at the path is replaced.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        text.parse().map(Self::Tcp).map_err(|_| format!("{text:?} is neither IP:PORT nor unix:PATH"))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_and_unix_parse_and_others_are_refused() {
        assert_eq!("127.0.0.1:80".parse(), Ok(Address::Tcp(([127, 0, 0, 1], 80).into())));
        assert_eq!("unix:/a b".parse(), Ok(Address::Unix("/a b".into())));
        assert!("localhost".parse::<Address>().is_err());
    }
}
