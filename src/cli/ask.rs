//! `ringway reload`, `upgrade` and others: asks the gateway that runs, on its admin listener, and prints what it says.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{complain, print};
use crate::config::{self, Problems, Process};

/// The token of the admin listener, if it asks for one: the configuration may know its digest only.
pub(super) const TOKEN: &str = "RINGWAY_ADMIN_TOKEN";
/// More than the gateway takes for anything.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a response that are read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Asks the gateway of this configuration. Exit status 1 if it refuses, or cannot be reached.
pub(super) fn command(named: Option<PathBuf>, path: &str) -> ExitCode {
    let admin = match admin_of(named) {
        Ok(admin) => admin,
        Err(problems) => return complain(&problems),
    };
    match ask(admin, "POST", path, "") {
        Ok((200, body)) => print(body.trim_end()),
        Ok((status, body)) => complain(&format!("{status}: {}", body.trim_end())),
        Err(error) => complain(&format!("no response from the gateway on {admin}: {error}")),
    }
}

/// Where the gateway of a configuration file listens for operators. Only that is read: who asks need not have its secrets.
///
/// Errors: what is wrong with the file.
pub(super) fn admin_of(named: Option<PathBuf>) -> Result<SocketAddr, String> {
    let read = config::locate(named).and_then(|path| config::read_file(&path, &Process));
    let written = read.map_err(|problems| problems.to_string())?;
    if !written.unknown.is_empty() {
        return Err(Problems { file: written.path, list: written.unknown }.to_string());
    }
    let listen = &written.file.admin.listen;
    listen.parse().map_err(|_| format!("admin.listen: {listen:?}; expected an address and a port"))
}

/// What the admin API responds to a GET of `path`.
///
/// Errors: in words, with what may be done.
pub(super) fn json(admin: SocketAddr, path: &str) -> Result<serde_json::Value, String> {
    understood(admin, ask(admin, "GET", path, ""))
}

/// What the admin API responds to a JSON document.
///
/// Errors: in words, with what may be done.
pub(super) fn post(admin: SocketAddr, path: &str, body: &str) -> Result<serde_json::Value, String> {
    understood(admin, ask(admin, "POST", path, body))
}

fn understood(admin: SocketAddr, answer: io::Result<(u16, String)>) -> Result<serde_json::Value, String> {
    match answer {
        Ok((200, body)) => serde_json::from_str(&body)
            .map_err(|error| format!("the gateway on {admin} responds with no JSON: {error}")),
        Ok((401, _)) => Err(format!("the gateway on {admin} asks for its token: set {TOKEN}")),
        Ok((status, body)) => Err(format!("the gateway on {admin} responds {status}: {}", body.trim_end())),
        Err(error) => Err(format!("no response from the gateway on {admin}: {error}")),
    }
}

/// Status and body of the response.
pub(super) fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let token = std::env::var(TOKEN).ok();
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let label = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{token}{label}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    let mut response = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut response)?;
    read(&response).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))
}

fn read(response: &str) -> Option<(u16, String)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_its_status_and_its_body() {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(read(response), Some((200, "{}".to_owned())));
        for other in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 xx\r\n\r\n"] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
