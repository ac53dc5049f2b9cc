//! TLS on both sides: rustls with ring, HTTP/1.1 by ALPN, sessions resumed.
//!
//! Backends are trusted by the machine's own store (`rustls-native-certs`) rather than by a list compiled in:
//! a company's authority that the machine trusts works here too, and a distrusted one disappears with the
//! system's update instead of with ours. A machine without a store is told so at load, not at the first call.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// The only protocol spoken inside (RFC 7301 names it so).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Which certificates of a backend are taken.
pub(super) enum Trust {
    /// Those that lead to one of these authorities.
    Roots(Arc<RootCertStore>),
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
        _ => Err("holds no certificate; expected PEM with BEGIN CERTIFICATE".to_owned()),
    }
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

/// Our side towards backends. One per trust: all backends that share it share its sessions (kept by name).
pub(super) fn client(trust: Trust) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let builder = match trust {
        Trust::Roots(roots) => builder.with_root_certificates(roots),
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider()))),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
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
