//! Certificates made on the spot, and tunnels between plain ports, TLS ports and socket files, so that the clients
//! and origins of this harness speak all of them.
//!
//! A tunnel says how the secured side ended: a goodbye (`close_notify`) becomes FIN on the plain side, an end without
//! one becomes RST.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::gateway::Config;

/// Both versions of the protocol that are spoken.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both PEM.
pub struct Certified {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// An authority that nobody trusts yet, with a key of its own.
    #[allow(clippy::new_without_default)] // each one has another key: nothing about it is a default
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name or an address.
    pub fn certify(&self, name: &str) -> Certified {
        self.certify_until(name, 4000)
    }

    /// A certificate that ends with the year before.
    pub fn certify_until(&self, name: &str, year: i32) -> Certified {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Certified { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority, and speaks one version.
    pub fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).expect("a version");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Certified {
    /// What a server needs.
    pub fn server(&self) -> Arc<ServerConfig> {
        let chain = rustls::pki_types::CertificateDer::pem_slice_iter(self.cert.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        Arc::new(builder.with_single_cert(chain, key).expect("a server"))
    }
}

/// A server that takes only clients with a certificate of `authority`.
pub fn demanding(certified: &Certified, authority: &Authority) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("an authority");
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(certified.cert.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_client_cert_verifier(verifier.build().expect("a verifier"));
    Arc::new(builder.with_single_cert(chain, key).expect("a server"))
}

/// A gateway whose clients speak TLS.
pub fn secured(config: Config, certified: &Certified) -> Config {
    let config = config.file("cert.pem", &certified.cert).file("key.pem", &certified.key);
    config.tables("[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"")
}

/// What the two sides of a connection agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The version.
    pub version: Option<ProtocolVersion>,
    /// The protocol inside.
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for; only a server knows it.
    pub name: Option<String>,
    /// An earlier session went on.
    pub resumed: bool,
}

impl Agreed {
    fn of<Side>(session: &rustls::ConnectionCommon<Side>, name: Option<&str>) -> Self {
        Self {
            version: session.protocol_version(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            name: name.map(str::to_owned),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// A port, or a socket file, and what every connection to it is led to.
pub struct Tunnel {
    /// Where it listens; 0 for a socket file.
    pub port: u16,
    agreed: Arc<Mutex<Vec<Agreed>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

enum Entrance {
    Plain(std::net::TcpListener),
    Tls(std::net::TcpListener, Arc<ServerConfig>),
    File(PathBuf),
}

enum Exit {
    Plain(u16),
    Tls(u16, Arc<ClientConfig>),
}

impl Tunnel {
    /// A plain port that leads to the TLS port `to`, whose certificate must be for `localhost`.
    pub fn into_tls(to: u16, config: Arc<ClientConfig>) -> Self {
        Self::between(Entrance::Plain(bind()), Exit::Tls(to, config))
    }

    /// A TLS port that leads to the plain port `to`.
    pub fn from_tls(to: u16, config: Arc<ServerConfig>) -> Self {
        Self::between(Entrance::Tls(bind(), config), Exit::Plain(to))
    }

    /// The same on a listener of one's own.
    pub fn from_tls_on(listener: std::net::TcpListener, to: u16, config: Arc<ServerConfig>) -> Self {
        listener.set_nonblocking(true).expect("non-blocking");
        Self::between(Entrance::Tls(listener, config), Exit::Plain(to))
    }

    /// A socket file that leads to the plain port `to`.
    pub fn from_file(path: &Path, to: u16) -> Self {
        Self::between(Entrance::File(path.to_owned()), Exit::Plain(to))
    }

    /// What was agreed on, connection by connection.
    pub fn agreed(&self) -> Vec<Agreed> {
        self.agreed.lock().expect("not poisoned").clone()
    }

    fn between(entrance: Entrance, exit: Exit) -> Self {
        let port = match &entrance {
            Entrance::Plain(listener) | Entrance::Tls(listener, _) => {
                listener.local_addr().expect("an address").port()
            }
            Entrance::File(_) => 0,
        };
        let agreed = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&agreed);
        let (stop, stopped) = oneshot::channel();
        let (listening, listens) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let serve = accept(entrance, Arc::new(exit), own, listening);
            runtime.expect("a runtime").block_on(async {
                tokio::select! { () = serve => {}, _ = stopped => {} }
            });
        });
        listens.recv_timeout(Duration::from_secs(10)).expect("the tunnel listens");
        Self { port, agreed, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    listener
}

async fn accept(
    entrance: Entrance,
    exit: Arc<Exit>,
    agreed: Arc<Mutex<Vec<Agreed>>>,
    listening: std::sync::mpsc::Sender<()>,
) {
    match entrance {
        Entrance::Plain(listener) => {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let _ = listening.send(());
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(plain_in(stream, Arc::clone(&exit), Arc::clone(&agreed)));
            }
        }
        Entrance::Tls(listener, config) => {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let acceptor = TlsAcceptor::from(config);
            let _ = listening.send(());
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, exit, agreed) = (acceptor.clone(), Arc::clone(&exit), Arc::clone(&agreed));
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let Ok(secured) = acceptor.accept(stream).await else { return };
                    let session = secured.get_ref().1;
                    let words = Agreed::of(session, session.server_name());
                    agreed.lock().expect("not poisoned").push(words);
                    lead(secured, &exit).await;
                });
            }
        }
        Entrance::File(path) => {
            let listener = UnixListener::bind(path).expect("a socket file");
            let _ = listening.send(());
            while let Ok((stream, _)) = listener.accept().await {
                let exit = Arc::clone(&exit);
                tokio::spawn(async move { lead(stream, &exit).await });
            }
        }
    }
}

async fn plain_in(mut near: TcpStream, exit: Arc<Exit>, agreed: Arc<Mutex<Vec<Agreed>>>) {
    let _ = near.set_nodelay(true);
    let Exit::Tls(port, config) = &*exit else { return lead(near, &exit).await };
    let Ok(far) = connect(*port).await else { return reset(&near) };
    let name = ServerName::try_from("localhost").expect("a name");
    let Ok(mut far) = TlsConnector::from(Arc::clone(config)).connect(name, far).await else {
        return reset(&near);
    };
    agreed.lock().expect("not poisoned").push(Agreed::of(far.get_ref().1, None));
    if copy_bidirectional(&mut near, &mut far).await.is_err() {
        reset(&near);
    }
}

/// Leads a connection to a plain port.
async fn lead(mut near: impl AsyncRead + AsyncWrite + Unpin, exit: &Exit) {
    let (Exit::Plain(port) | Exit::Tls(port, _)) = exit;
    let Ok(mut far) = connect(*port).await else { return };
    if copy_bidirectional(&mut near, &mut far).await.is_err() {
        reset(&far);
    }
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
