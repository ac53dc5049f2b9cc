//! Who is driven, and the requests sent there.

use std::net::{SocketAddr, ToSocketAddrs};

/// An endpoint, resolved once: DNS is no part of what is measured.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// Everything of the head but the length: request line, host, key, extra fields.
    head: String,
}

impl Target {
    /// Resolves `url`: `http://HOST[:PORT][/BASE]`. Chat completions are asked for under `/v1` when no path is given.
    ///
    /// # Errors
    /// What is wrong with the URL, the key or a field.
    pub fn new(url: &str, key: Option<&str>, fields: &[String]) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            format!("{url:?}: only http:// can be driven; put TLS before it with another tool, or measure it apart")
        })?;
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let path = path.trim_end_matches('/');
        let path = match path {
            "" => "/v1/chat/completions".to_owned(),
            path if path.ends_with("/completions") => path.to_owned(),
            base => format!("{base}/chat/completions"),
        };
        let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{with_port}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{with_port} has no address"))?;
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
        if let Some(key) = key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        for field in fields {
            if !field.contains(':') {
                return Err(format!("header {field:?} has no colon"));
            }
            head.push_str(&format!("{field}\r\n"));
        }
        let lines = 3 + usize::from(key.is_some()) + fields.len();
        if head.matches('\n').count() != lines || head.matches('\r').count() != lines {
            return Err("a line break inside the URL, the key or a header".to_owned());
        }
        Ok(Self { address, head })
    }

    /// A whole request with `body`.
    pub fn request(&self, body: &str) -> Vec<u8> {
        format!("{}content-length: {}\r\n\r\n{body}", self.head, body.len()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_follows_the_base() {
        let line = |url: &str| {
            let request = Target::new(url, None, &[]).unwrap().request("");
            String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
        };
        assert_eq!(line("http://127.0.0.1:1"), "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(line("http://127.0.0.1:1/v1/"), "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(line("http://127.0.0.1:1/x/v1/chat/completions"), "POST /x/v1/chat/completions HTTP/1.1");
    }

    #[test]
    fn what_would_break_the_head_is_refused() {
        assert!(Target::new("https://127.0.0.1", None, &[]).is_err());
        assert!(Target::new("http://127.0.0.1", Some("a\r\nb: c"), &[]).is_err());
        assert!(Target::new("http://127.0.0.1", None, &["no colon".to_owned()]).is_err());
    }
}
