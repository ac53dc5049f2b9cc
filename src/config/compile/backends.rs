//! The servers we call: where they are, who we are to them, whom we trust.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::aws::{self, Aws};
use super::bounds::within;
use super::egress::Egress;
use super::listen::PEM_BYTES_MAX;
use super::models::WEIGHT_MAX;
use super::{NAME_SIGNS, Source, check_name, file, file_bytes, secrets};
use crate::config::problem::Report;
use crate::config::tls::{self, Identity, Trust};
use crate::config::url::{self, Url};
use crate::dialect::{Api, ApiSet};
use crate::plan::{Backend, BackendTls, HealthProbe, MetricsPage, Target};
use crate::policy::auth::ids::Maker;
use crate::policy::routing::failure_state::LimitScope;
use crate::provider::{Credential, Provider, ProviderKind};
use crate::units::BackendId;

/// One row per backend, by name.
pub(super) fn compile(source: &Source<'_>, report: &mut Report<'_>) -> Vec<Backend> {
    let mut trusts = Trusts::default();
    let egress = Egress::compile(source, report);
    let mut backends = Vec::new();
    for (index, (name, backend)) in source.file.backend.iter().enumerate() {
        let one = One { name, backend };
        if let Some(row) = one.compile(BackendId::new(index), source, &egress, &mut trusts, report) {
            backends.push(row);
        }
    }
    backends
}

/// One backend as written.
struct One<'a> {
    name: &'a str,
    backend: &'a file::Backend,
}

impl One<'_> {
    fn at<'a>(&'a self, key: &'a str) -> [&'a str; 3] {
        ["backend", self.name, key]
    }

    fn compile(
        &self,
        id: BackendId,
        source: &Source<'_>,
        egress: &Egress,
        trusts: &mut Trusts,
        report: &mut Report<'_>,
    ) -> Option<Backend> {
        check_name(&["backend", self.name], self.name, NAME_SIGNS, report);
        self.check_bounds(report);
        let provider = self.provider(report);
        let secret =
            self.backend.api_key.as_ref().map(|key| secrets::read(&self.at("api_key"), key, source, report));
        let aws = aws::compile(self.name, self.backend, provider.kind, source, report);
        let url = self.url(provider.kind, aws.as_ref(), report);
        let health = self.health(provider, url.as_ref(), &source.file.health, report);
        let metrics = self.metrics(provider, url.as_ref(), report);
        let url = url?;
        let base = provider.kind.base_of(&url.path, &url.query, self.is_api());
        let tls = self.tls(&url, source, trusts, report);
        let proxy = egress.proxy(self.name, self.backend, &url, provider.hosted, source, report);
        let aws = aws?;
        let secret = match secret {
            Some(secret) => Some(secret?),
            None => aws.bearer,
        };
        let credential_lines = match secret {
            Some(secret) => {
                report.take(&self.at("api_key"), provider.credential_line(secret.expose().as_bytes()))?
            }
            None => Vec::new(),
        };
        if !credential_lines.is_empty() && !url.tls && (proxy.is_some() || !url.is_near()) {
            report.note(format!("backend {} gets its api_key over plain http", self.name));
        }
        Some(Backend {
            id,
            name: self.name.into(),
            provider,
            target: url.target,
            proxy: proxy.map(Box::new),
            addresses: Arc::default(),
            tls,
            base,
            authority: url.authority.into_bytes().into(),
            credential_lines: credential_lines.into(),
            signer: aws.signer,
            in_flight_max: self.backend.in_flight_max.unwrap_or(u32::MAX),
            pending_tokens_max: self.backend.pending_tokens_max.unwrap_or(u64::MAX),
            limit_scope: match self.backend.limit_scope {
                file::LimitScope::Model => LimitScope::Model,
                file::LimitScope::Backend => LimitScope::Backend,
            },
            health,
            metrics,
            kv_tokens: self.backend.kv_tokens.unwrap_or(0),
            maker: Maker::default(),
        })
    }

    /// Its URL, which stands under one of two keys, or is known of its kind.
    fn url(&self, kind: &ProviderKind, aws: Option<&Aws>, report: &mut Report<'_>) -> Option<Url> {
        match (&self.backend.url, &self.backend.api_base) {
            (Some(url), None) => {
                let url = report.take(&self.at("url"), url::parse(url))?;
                if url.has_own_version() && kind.base_of(&url.path, "", false) == url.base(false) {
                    let path = format!("{}/v1/...", url.path);
                    report.note(format!(
                        "backend {} is called at {path}; if its API lies right under its url, write api_base instead",
                        self.name
                    ));
                }
                Some(url)
            }
            (None, Some(base)) => report.take(&self.at("api_base"), url::parse_base(base)),
            (Some(_), Some(_)) => {
                report.problem(&self.at("api_base"), "is there beside url; take away one of them");
                None
            }
            (None, None) if kind.has_regions() => {
                let base = kind.base_in(aws?.region.as_deref()?)?;
                report.take(&self.at("kind"), url::parse_base(&base))
            }
            (None, None) => match (kind.base, kind.hosted) {
                (Some(base), _) => report.take(&self.at("kind"), url::parse_base(base)),
                (None, true) => {
                    let expected = format!("is missing; expected one like \"{}\"", kind.example);
                    report.problem(&self.at("api_base"), expected);
                    None
                }
                (None, false) => {
                    let expected = "is missing; expected url = \"http://HOST:PORT\", or api_base";
                    report.problem(&self.at("url"), expected);
                    None
                }
            },
        }
    }

    /// The key under which its URL stands.
    fn url_key(&self) -> &'static str {
        match (&self.backend.url, &self.backend.api_base) {
            (_, Some(_)) => "api_base",
            (Some(_), None) => "url",
            (None, None) => "kind",
        }
    }

    /// Whether its URL is the base of an API: those that kinds know are.
    fn is_api(&self) -> bool {
        self.backend.url.is_none()
    }

    fn check_bounds(&self, report: &mut Report<'_>) {
        if let Some(weight) = self.backend.weight {
            within(&self.at("weight"), weight, 1, WEIGHT_MAX, report);
        }
        if let Some(in_flight_max) = self.backend.in_flight_max {
            within(&self.at("in_flight_max"), in_flight_max, 1, u32::MAX - 1, report);
        }
        if let Some(tokens) = self.backend.pending_tokens_max {
            within(&self.at("pending_tokens_max"), tokens, 1, 1 << 40, report);
        }
        if let Some(tokens) = self.backend.kv_tokens {
            within(&self.at("kv_tokens"), tokens, 1, 1 << 40, report);
        }
    }

    /// The defaults of its kind, and what the operator knows better.
    fn provider(&self, report: &mut Report<'_>) -> Provider {
        let mut provider = Provider::new(self.backend.kind.0);
        if let Some(names) = &self.backend.serves {
            provider.serves = self.serves(names, report);
        }
        provider.takes_stream_options = self.backend.stream_options.unwrap_or(provider.takes_stream_options);
        provider.hosted = self.backend.hosted.unwrap_or(provider.hosted);
        if let Some(header) = &self.backend.api_key_header {
            let known = Credential::parse(&header.to_ascii_lowercase())
                .ok_or("expected \"authorization\", \"x-api-key\" or \"api-key\"");
            provider.credential =
                report.take(&self.at("api_key_header"), known).unwrap_or(provider.credential);
            if self.backend.api_key.is_none() {
                report.problem(&self.at("api_key_header"), "has no api_key to carry");
            }
        }
        provider
    }

    fn serves(&self, names: &[String], report: &mut Report<'_>) -> ApiSet {
        let apis = Api::ALL.iter().copied().filter(|api| !api.is_local() && !api.has_id());
        if names.is_empty() {
            report.problem(&self.at("serves"), "is empty; leave it out for the endpoints of its kind");
        }
        let mut set = ApiSet::default();
        for (at, name) in names.iter().enumerate() {
            match apis.clone().find(|api| api.name() == name) {
                Some(api) => set = set.with(api),
                None => {
                    let known: Vec<&str> = apis.clone().map(Api::name).collect();
                    let path = ["backend", self.name, "serves", &format!("[{at}]")];
                    report.problem(&path, format!("no such endpoint; expected some of {}", known.join(", ")));
                }
            }
        }
        set
    }

    fn health(
        &self,
        provider: Provider,
        url: Option<&Url>,
        all: &file::Health,
        report: &mut Report<'_>,
    ) -> HealthProbe {
        let own = &self.backend.health;
        let merged = file::Health {
            interval: own.interval.unwrap_or(all.interval),
            timeout: own.timeout.unwrap_or(all.timeout),
            failures: own.failures.unwrap_or(all.failures),
            successes: own.successes.unwrap_or(all.successes),
        };
        if merged != *all {
            super::bounds::health(&self.at("health"), &merged, report);
        }
        let at = |key| ["backend", self.name, "health", key];
        if own.path.as_deref().is_some_and(|path| !is_path(path)) {
            report.problem(&at("path"), "expected a path like \"/health\", visible ASCII only");
        }
        let path =
            own.path.clone().or_else(|| provider.kind.health_path.map(|path| self.beside_api(url, path)));
        if own.enabled == Some(true) && path.is_none() {
            report.problem(&at("path"), "is missing; this kind of backend has no path of its own to ask");
        }
        if own.enabled == Some(false) && own.path.is_some() {
            report.problem(&at("path"), "is there although enabled = false; take away one of them");
        }
        HealthProbe {
            path: path.filter(|_| own.enabled != Some(false)).map(Into::into),
            interval: merged.interval.0,
            timeout: merged.timeout.0,
            failures: merged.failures,
            successes: merged.successes,
        }
    }

    /// Where its metrics are; those of a hosted service are its operator's.
    fn metrics(&self, provider: Provider, url: Option<&Url>, report: &mut Report<'_>) -> Option<MetricsPage> {
        let own = &self.backend.metrics;
        let at = |key| ["backend", self.name, "metrics", key];
        if own.path.as_deref().is_some_and(|path| !is_path(path)) {
            report.problem(&at("path"), "expected a path like \"/metrics\", visible ASCII only");
        }
        if own.port == Some(0) {
            report.problem(&at("port"), "is 0; expected 1 to 65535");
        }
        let is_unix = url.is_some_and(|url| matches!(url.target, Target::Unix(_)));
        if own.port.is_some() && is_unix {
            report.problem(&at("port"), "has no host to belong to; this backend is a unix socket");
        }
        let Some(names) = provider.kind.metrics else {
            let asks = own.enabled == Some(true) || own.path.is_some() || own.port.is_some();
            if asks {
                let kind = provider.kind.name();
                report.problem(
                    &at("enabled"),
                    format!("the kind {kind} has no metrics that say how busy it is"),
                );
            }
            return None;
        };
        if own.enabled == Some(false) || provider.hosted && own.enabled.is_none() {
            return None;
        }
        let path = own.path.clone().unwrap_or_else(|| match own.port {
            Some(_) => names.path.to_owned(),
            None => self.beside_api(url, names.path),
        });
        Some(MetricsPage { path: path.into(), port: own.port, names })
    }

    /// Health and metrics lie beside the version of an API, not under it. The query of an API's base goes along.
    fn beside_api(&self, url: Option<&Url>, path: &str) -> String {
        let Some(url) = url else { return path.to_owned() };
        let (before, last) = url.path.rsplit_once('/').unwrap_or_default();
        let is_version = if self.is_api() { url::is_version(last) } else { last == "v1" };
        let prefix = if is_version { before } else { &url.path };
        let mark = if url.query.is_empty() { "" } else { "?" };
        format!("{prefix}{path}{mark}{}", url.query)
    }

    fn tls(
        &self,
        url: &Url,
        source: &Source<'_>,
        trusts: &mut Trusts,
        report: &mut Report<'_>,
    ) -> Option<BackendTls> {
        let Target::Tcp { host, .. } = &url.target else {
            self.refuse_tls_keys(report);
            return None;
        };
        if !url.tls {
            self.refuse_tls_keys(report);
            return None;
        }
        let verified = self.backend.tls_verify.unwrap_or(true);
        let trust = match (&self.backend.ca_file, verified) {
            (Some(_), false) => {
                report.problem(
                    &self.at("ca_file"),
                    "is there although tls_verify = false; take away one of them",
                );
                return None;
            }
            (None, false) => {
                report.note(format!("backend {} takes any certificate: tls_verify = false", self.name));
                Trust::Anyone
            }
            (Some(path), true) => {
                let trust = report.take(&self.at("ca_file"), trusts.authority(path, source))?;
                if let (Trust::Named(_, certificates), Ok(name)) = (&trust, ServerName::try_from(&**host)) {
                    let now = source.environment.unix_seconds();
                    for concern in tls::concerns(certificates, &name, now) {
                        report.note(format!("backend {}: ca_file {}: {concern}", self.name, path.display()));
                    }
                }
                trust
            }
            (None, true) => report.take(&self.at(self.url_key()), trusts.machine(source))?,
        };
        let identity = self.identity(source, report)?;
        let config = report.take(&self.at("cert_file"), trusts.client(self.backend, trust, identity))?;
        let server_name =
            ServerName::try_from(host.to_string()).map_err(|_| "has a host that no certificate can name");
        Some(BackendTls {
            config,
            server_name: report.take(&self.at(self.url_key()), server_name)?,
            verified,
        })
    }

    /// The certificate it shows, if any; `None` after a problem.
    fn identity(&self, source: &Source<'_>, report: &mut Report<'_>) -> Option<Option<Identity>> {
        let (cert_file, key_file) = match (&self.backend.cert_file, &self.backend.key_file) {
            (None, None) => return Some(None),
            (Some(cert_file), Some(key_file)) => (cert_file, key_file),
            (Some(_), None) => {
                report.problem(&self.at("cert_file"), "has no key_file");
                return None;
            }
            (None, Some(_)) => {
                report.problem(&self.at("key_file"), "has no cert_file");
                return None;
            }
        };
        let named = |path: &Path, error: String| format!("{} {error}", path.display());
        let chain = file_bytes(source, cert_file, PEM_BYTES_MAX)
            .and_then(|pem| tls::certificates(&pem).map_err(|error| named(cert_file, error)));
        let key = file_bytes(source, key_file, PEM_BYTES_MAX)
            .and_then(|pem| tls::private_key(&pem).map_err(|error| named(key_file, error)));
        let chain = report.take(&self.at("cert_file"), chain);
        let key = report.take(&self.at("key_file"), key);
        let (chain, key) = (chain?, key?);
        for concern in tls::outdated(&chain, source.environment.unix_seconds()) {
            report.note(format!("backend {}: cert_file {}: {concern}", self.name, cert_file.display()));
        }
        Some(Some(Identity { chain, key }))
    }

    fn refuse_tls_keys(&self, report: &mut Report<'_>) {
        let keys = [
            ("ca_file", self.backend.ca_file.is_some()),
            ("tls_verify", self.backend.tls_verify.is_some()),
            ("cert_file", self.backend.cert_file.is_some()),
            ("key_file", self.backend.key_file.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, there)| *there) {
            report.problem(&self.at(key), "is for https only; this backend has another url");
        }
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// One client side of TLS per trust and identity, shared by all backends that have both: they resume each other's sessions
/// with the same name, and none across.
#[derive(Default)]
pub(super) struct Trusts {
    machine: Option<Result<Trust, String>>,
    /// By `ca_file`.
    authorities: HashMap<PathBuf, Result<Trust, String>>,
    clients: HashMap<ClientKey, Arc<ClientConfig>>,
}

/// Whether certificates are verified, `ca_file` and `cert_file` with `key_file`: what tells one client side from another.
type ClientKey = (bool, Option<PathBuf>, Option<PathBuf>, Option<PathBuf>);

impl Trusts {
    fn client(
        &mut self,
        backend: &file::Backend,
        trust: Trust,
        identity: Option<Identity>,
    ) -> Result<Arc<ClientConfig>, String> {
        let key = (
            backend.tls_verify.unwrap_or(true),
            backend.ca_file.clone(),
            backend.cert_file.clone(),
            backend.key_file.clone(),
        );
        if let Some(known) = self.clients.get(&key) {
            return Ok(known.clone());
        }
        let config = tls::client(trust, identity)?;
        self.clients.insert(key, config.clone());
        Ok(config)
    }

    pub(super) fn machine(&mut self, source: &Source<'_>) -> Result<Trust, String> {
        let load = || {
            let roots = tls::roots(source.environment.roots()).map_err(|_| {
                "needs authorities, and this machine trusts none; install ca-certificates, set SSL_CERT_FILE, or \
                 name a ca_file"
            });
            Ok(Trust::Roots(roots?))
        };
        self.machine.get_or_insert_with(load).clone()
    }

    pub(super) fn authority(&mut self, path: &Path, source: &Source<'_>) -> Result<Trust, String> {
        let load = || {
            let pem = file_bytes(source, path, PEM_BYTES_MAX)?;
            let named = |error: String| format!("{} {error}", path.display());
            let certificates = tls::certificates(&pem).map_err(named)?;
            let roots = tls::roots(certificates.clone()).map_err(named)?;
            Ok(Trust::Named(roots, certificates))
        };
        self.authorities.entry(path.to_owned()).or_insert_with(load).clone()
    }
}
