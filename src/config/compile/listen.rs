//! Where clients and operators connect.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::bounds::within;
use super::{Source, file_bytes};
use crate::config::problem::Report;
use crate::config::{file, tls};
use crate::plan::Listener;
use crate::policy::auth::forwarded::Network;

/// The largest certificate chain or key that is read, in bytes.
pub(super) const PEM_BYTES_MAX: usize = 1 << 20;

/// Names of the admin listener, origins of `[cors]`, trusted proxies: they are looked through one by one.
pub(super) const HOSTS_MAX: usize = 64;

/// The data listeners, and whether they may be open.
pub(super) fn listeners(source: &Source<'_>, shards: usize, report: &mut Report<'_>) -> Vec<Listener> {
    let file = source.file;
    let config = file.tls.as_ref().and_then(|tls| server(source, tls, report));
    let mut listeners: Vec<Listener> = Vec::new();
    if file.listen.0.is_empty() {
        report.problem(&["listen"], "is empty; expected at least one address");
    }
    for (index, entry) in file.listen.0.iter().enumerate() {
        let at = format!("[{index}]");
        let path: &[&str] = if file.listen.0.len() == 1 { &["listen"] } else { &["listen", &at] };
        let wants_tls = entry.0.tls.unwrap_or(file.tls.is_some());
        if wants_tls && file.tls.is_none() {
            report.problem(path, "has tls = true, but there is no [tls] with cert_file and key_file");
        }
        let Some(address) = report.take(path, address(&entry.0.address)) else {
            continue;
        };
        if listeners.iter().any(|other| same_place(other.address, address)) {
            report.problem(path, format!("{address} is listened on already"));
        }
        if address.port() == 0 && shards > 1 {
            report
                .problem(path, "has port 0, which would be another port on every shard; expected 1 to 65535");
        }
        may_be_open(source, path, address, report);
        let proxy_protocol = entry.0.proxy_protocol;
        if proxy_protocol && file.trusted_proxies.is_empty() {
            report
                .problem(path, "has proxy_protocol = true, but nobody may connect: trusted_proxies is empty");
        }
        listeners.push(Listener { address, tls: config.clone().filter(|_| wants_tls), proxy_protocol });
    }
    if file.open && source.requires_keys() {
        let text = "says that there are no keys, but there are (a [key.NAME], require_keys, or one created with the admin API); \
                    expected open = false";
        report.problem(&["open"], text);
    }
    listeners
}

/// An open gateway is for loopback, or on purpose.
fn may_be_open(source: &Source<'_>, path: &[&str], address: SocketAddr, report: &mut Report<'_>) {
    if source.requires_keys() || is_loopback(address) {
        return;
    }
    if source.file.open {
        report.note(format!("open gateway: whoever reaches {address} may use every model, without a key"));
    } else {
        report.problem(
            path,
            format!(
                "there are no keys and other machines can reach {address}; add a [key.NAME] or require_keys = true, \
                 listen on 127.0.0.1, or write open = true for an open gateway on a trusted network"
            ),
        );
    }
}

/// The operator's listener. One that other machines can reach has a token.
pub(super) fn admin(source: &Source<'_>, data: &[Listener], report: &mut Report<'_>) -> Option<SocketAddr> {
    let path = ["admin", "listen"];
    let admin = &source.file.admin;
    let address = report.take(&path, address(&admin.listen))?;
    if data.iter().any(|listener| same_place(listener.address, address)) {
        report.problem(&path, format!("{address} is where clients connect; expected another port"));
    }
    match (is_loopback(address), &admin.token) {
        (true, _) => {}
        (false, Some(_)) => report.note(format!(
            "the admin listener on {address} speaks plain HTTP: the network between has to keep its token secret"
        )),
        (false, None) => report.problem(
            &path,
            format!(
                "other machines can reach {address} and there is no admin.token; listen on 127.0.0.1, or add \
                 token = {{ env = \"NAME\" }}, {{ file = \"/path\" }} or {{ sha256 = \"64 hex digits\" }}"
            ),
        ),
    }
    Some(address)
}

/// The proxies that are believed.
pub(super) fn trusted_proxies(list: &[String], report: &mut Report<'_>) -> Box<[Network]> {
    within(&["trusted_proxies"], list.len(), 0, HOSTS_MAX, report);
    let network = |(index, text): (usize, &String)| {
        let at = format!("[{index}]");
        report.take(&["trusted_proxies", &at], Network::parse(text))
    };
    list.iter().enumerate().filter_map(network).collect()
}

/// The names of the admin listener, in lower case.
pub(super) fn admin_hosts(hosts: &[String], report: &mut Report<'_>) -> Box<[Box<str>]> {
    within(&["admin", "hosts"], hosts.len(), 0, HOSTS_MAX, report);
    for (index, host) in hosts.iter().enumerate() {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || host.ends_with('.') || !host.bytes().all(is_name) {
            let text = "expected the name of a host without a port, like \"ops.example\"";
            report.problem(&["admin", "hosts", &format!("[{index}]")], text);
        }
    }
    hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an address and a port, like 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080".to_owned()
    })
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether two listeners would take each other's connections. Both families on one port are two places.
fn same_place(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && overlap
}

fn server(
    source: &Source<'_>,
    tls: &file::Tls,
    report: &mut Report<'_>,
) -> Option<Arc<rustls::ServerConfig>> {
    let pem = |path: &Path| file_bytes(source, path, PEM_BYTES_MAX);
    let chain = pem(&tls.cert_file).and_then(|pem| tls::certificates(&pem));
    let key = pem(&tls.key_file).and_then(|pem| tls::private_key(&pem));
    let chain = report.take(&["tls", "cert_file"], chain);
    let key = report.take(&["tls", "key_file"], key);
    report.take(&["tls", "key_file"], tls::server(chain?, key?))
}
