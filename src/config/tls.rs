//! TLS on both sides: rustls with ring, HTTP/1.1 by ALPN, sessions resumed.
//!
//! Backends are trusted by the machine's own store (`rustls-native-certs`) rather than by a list compiled in:
//! a company's authority that the machine trusts works here too, and a distrusted one disappears with the
//! system's update instead of with ours. A machine without a store is told so at load, not at the first call.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

/// The only protocol spoken inside (RFC 7301 names it so).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Which certificates of a backend are taken.
#[derive(Clone)]
pub(super) enum Trust {
    /// Those that lead to one of these authorities.
    Roots(Arc<RootCertStore>),
    /// The same, and these certificates themselves.
    Named(Arc<RootCertStore>, Vec<CertificateDer<'static>>),
    /// Any.
    Anyone,
}

/// The certificates in a PEM file.
///
/// # Errors
/// In words for the operator; nothing of the file is repeated.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(instead_of_certificates(pem).to_owned()),
    }
}

/// What a file without certificates has instead.
fn instead_of_certificates(pem: &[u8]) -> &'static str {
    let has = |words: &str| memchr::memmem::find(pem, words.as_bytes()).is_some();
    if pem.is_empty() {
        "holds no certificate: it is empty; expected PEM with BEGIN CERTIFICATE"
    } else if has("BEGIN CERTIFICATE REQUEST") {
        "holds no certificate but a request for one; expected PEM with BEGIN CERTIFICATE"
    } else if has("BEGIN CERTIFICATE") {
        "holds no certificate that can be read; expected whole PEM from BEGIN to END CERTIFICATE"
    } else if has("PRIVATE KEY") {
        "holds no certificate but a private key; expected PEM with BEGIN CERTIFICATE"
    } else if pem.starts_with(&[0x30]) {
        "holds no certificate in PEM but perhaps one in DER; convert it with openssl x509 -inform der"
    } else {
        "holds no certificate; expected PEM with BEGIN CERTIFICATE"
    }
}

/// What keeps certificates from being of use at `unix_seconds`, a sentence each.
pub(super) fn outdated(certificates: &[CertificateDer<'_>], unix_seconds: u64) -> Vec<String> {
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix_seconds));
    let (nothing, algorithms) = (RootCertStore::empty(), provider().signature_verification_algorithms.all);
    let mut found = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        let which = format!("certificate {} of {}", index + 1, certificates.len());
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
            found.push(format!("{which} is of X.509 version 1 or cannot be read; make it anew as version 3"));
            continue;
        };
        let verified = verify_server_cert_signed_by_trust_anchor(&parsed, &nothing, &[], now, algorithms);
        match verified {
            Err(rustls::Error::InvalidCertificate(error)) if is_expired(&error) => {
                found.push(format!("{which} has expired"));
            }
            Err(rustls::Error::InvalidCertificate(error)) if is_early(&error) => {
                found.push(format!("{which} is not valid yet"));
            }
            _ => {}
        }
    }
    found
}

/// What keeps certificates of a `ca_file` from being of use for the backend `name`, a sentence each. `unix_seconds`: now.
pub(super) fn concerns(
    certificates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    unix_seconds: u64,
) -> Vec<String> {
    let mut found = outdated(certificates, unix_seconds);
    for (index, certificate) in certificates.iter().enumerate() {
        let which = format!("certificate {} of {}", index + 1, certificates.len());
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else { continue };
        if verify_server_name(&parsed, name).is_err() && names_in_subject(certificate, name) {
            let kind = if matches!(name, ServerName::IpAddress(_)) { "IP" } else { "DNS" };
            let name = name.to_str();
            found.push(format!(
                "{which} has the name {name} in its subject only, where names are not looked for; make it anew with \
                 openssl req -x509 ... -addext \"subjectAltName={kind}:{name}\""
            ));
        }
    }
    found
}

fn is_expired(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. })
}

fn is_early(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })
}

fn names_in_subject(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let anchor = webpki::anchor_from_trusted_cert(certificate);
    anchor.is_ok_and(|anchor| memchr::memmem::find(&anchor.subject, name.to_str().as_bytes()).is_some())
}

/// The private key in a PEM file.
///
/// # Errors
/// As above.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "holds no private key; expected PEM with BEGIN PRIVATE KEY, not encrypted".to_owned())
}

/// A store of these authorities.
///
/// # Errors
/// If not one of them can serve as an authority.
pub(super) fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    let (taken, _) = store.add_parsable_certificates(certificates);
    if taken == 0 { Err("holds no authority that can be used".to_owned()) } else { Ok(Arc::new(store)) }
}

/// Our side towards clients. Sessions are resumed with tickets, so that shards share a key and no table.
///
/// # Errors
/// If the key does not belong to the certificate, or is of a kind we do not sign with.
pub(super) fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, String> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("cannot be used: {error}"))?;
    config.ticketer = ring::Ticketer::new().map_err(|error| format!("cannot be used: {error}"))?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// What the gateway shows to a backend that asks who it is.
pub(super) struct Identity {
    /// Its own certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Our side towards backends. One per trust and identity: all backends that share them share its sessions (kept by name).
///
/// # Errors
/// If the key does not belong to the certificate, or is of a kind we do not sign with.
pub(super) fn client(trust: Trust, identity: Option<Identity>) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let builder = match trust {
        Trust::Roots(roots) => builder.with_root_certificates(roots),
        Trust::Named(roots, certificates) => {
            let chains = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
            let chains = chains.expect("there are roots, and no revocation lists");
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Named { chains, certificates }))
        }
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider()))),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("cannot be used with its key_file: {error}"))?,
    };
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes what leads to a root, and a certificate that the operator has named itself: one that `openssl req -x509` makes is
/// its own authority, which the chain's rules do not let it be for a server (RFC 5280 section 4.2.1.9). Its name, its time
/// and the handshake are checked as for any other.
#[derive(Debug)]
struct Named {
    chains: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.chains.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // That is found out after its time has been checked, and before its name is.
            Err(rustls::Error::InvalidCertificate(error))
                if is_about_chain(&error) && self.certificates.iter().any(|named| named == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether a certificate was refused for who issued it, or for being an authority itself.
fn is_about_chain(error: &CertificateError) -> bool {
    match error {
        // A bad signature: its issuer has the subject of one that is named.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        CertificateError::Other(other) => {
            matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// Takes any certificate; the handshake itself is still checked against the key in it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_make_a_server_that_resumes_http_1_1() {
        let (cert, key) = pair();
        let chain = certificates(cert.as_bytes()).unwrap();
        let config = server(chain, private_key(key.as_bytes()).unwrap()).unwrap();
        assert_eq!(config.alpn_protocols, [HTTP_1_1]);
        assert!(config.ticketer.enabled());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let chain = certificates(pair().0.as_bytes()).unwrap();
        assert!(server(chain, private_key(pair().1.as_bytes()).unwrap()).is_err());
    }

    #[test]
    fn what_is_not_pem_is_refused() {
        let (cert, key) = pair();
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\n", &key] {
            assert!(certificates(pem.as_bytes()).is_err(), "{pem}");
        }
        for pem in ["", "hello", &cert] {
            assert!(private_key(pem.as_bytes()).is_err(), "{pem}");
        }
        assert!(roots(vec![CertificateDer::from(b"garbage".to_vec())]).is_err());
    }
}
