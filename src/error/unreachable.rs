//! Why a backend could not be reached: one closed list, for the log, the status and a metric's label.

use std::io;

use nix::libc;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

macro_rules! reasons {
    ($($name:ident $label:literal $words:literal,)*) => {
        /// Why a backend could not be reached. The numbers index counters.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Unreachable { $(#[doc = $words] $name,)* }

        impl Unreachable {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Unreachable] = &[$(Unreachable::$name,)*];

            /// Its name as a label.
            pub const fn label(self) -> &'static str { match self { $(Unreachable::$name => $label,)* } }

            /// What happened, in words for an operator; a client may read them too.
            pub const fn words(self) -> &'static str { match self { $(Unreachable::$name => $words,)* } }
        }
    };
}

reasons! {
    Refused "refused" "connection refused",
    TimedOut "timed_out" "it did not accept in time",
    NoRoute "no_route" "no route to its address",
    Reset "reset" "connection reset",
    Closed "closed" "it closed the connection",
    NoAddress "name_not_resolved" "its name has no address",
    NoSocketFile "no_socket_file" "its socket file is not there",
    NotPermitted "not_permitted" "the system does not permit it",
    OutOfSockets "out_of_sockets" "the gateway is out of sockets, ports or memory",
    CertificateExpired "certificate_expired" "its certificate has expired",
    CertificateNotYetValid "certificate_not_yet_valid" "its certificate is not valid yet",
    CertificateUnknownIssuer "certificate_unknown_issuer" "its certificate is from an issuer that is not trusted",
    CertificateWrongName "certificate_wrong_name" "its certificate is for another name",
    CertificateRevoked "certificate_revoked" "its certificate is revoked",
    CertificateInvalid "certificate_invalid" "its certificate cannot be used",
    TlsAlert "tls_alert" "it refused TLS with an alert",
    ClientCertificate "client_certificate_refused" "it refused the gateway's client certificate, or the lack of one",
    NotTls "not_tls" "it does not speak TLS",
    TlsIncompatible "tls_incompatible" "it has no TLS version or cipher in common with the gateway",
    TlsFailed "tls_failed" "TLS failed",
    ProxyRefused "proxy_refused" "the proxy refused the tunnel to it",
    ProxyCredentials "proxy_credentials" "the proxy wants other credentials",
    ProxyFailed "proxy_failed" "the proxy cannot reach it",
    ProxyClosed "proxy_closed" "the proxy closed the connection without a response",
    NotProxy "not_a_proxy" "what responded is no HTTP proxy",
    Other "other" "the system reports another error",
}

impl Unreachable {
    /// What an error of a connect or a handshake means.
    pub fn of(error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            return Self::of_tls(error);
        }
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ETIMEDOUT) => Self::TimedOut,
            Some(
                libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EINVAL | libc::EAFNOSUPPORT,
            ) => Self::NoRoute,
            Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE) => Self::Reset,
            Some(libc::ENOENT) => Self::NoSocketFile,
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted,
            Some(libc::EADDRNOTAVAIL | libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                Self::OutOfSockets
            }
            Some(_) => Self::Other,
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof => Self::Closed,
                io::ErrorKind::TimedOut => Self::TimedOut,
                io::ErrorKind::HostUnreachable => Self::NoAddress, // ours: the system's has a number
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
                _ => Self::Other,
            },
        }
    }

    /// What a proxy's status other than 2xx means.
    pub fn of_proxy(status: u16) -> Self {
        match status {
            407 => Self::ProxyCredentials,
            500.. => Self::ProxyFailed,
            _ => Self::ProxyRefused,
        }
    }

    fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::CertificateExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::CertificateNotYetValid
                }
                CertificateError::UnknownIssuer => Self::CertificateUnknownIssuer,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::CertificateWrongName
                }
                CertificateError::Revoked => Self::CertificateRevoked,
                _ => Self::CertificateInvalid,
            },
            // Those of a server that looked at what a client showed (RFC 8446 section 6.2).
            TlsError::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError, // a signature that does not verify
            ) => Self::ClientCertificate,
            TlsError::AlertReceived(_) => Self::TlsAlert,
            TlsError::InvalidMessage(_) => Self::NotTls,
            TlsError::PeerIncompatible(_) | TlsError::NoApplicationProtocol => Self::TlsIncompatible,
            _ => Self::TlsFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_unique_and_numbers_index_the_list() {
        let labels: HashSet<_> = Unreachable::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Unreachable::ALL.len());
        for (index, reason) in Unreachable::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn errors_of_the_system_and_of_tls_have_their_reasons() {
        for (number, expected) in [
            (libc::ECONNREFUSED, Unreachable::Refused),
            (libc::EHOSTUNREACH, Unreachable::NoRoute),
            (libc::EMFILE, Unreachable::OutOfSockets),
            (libc::ENOENT, Unreachable::NoSocketFile),
            (libc::EDOM, Unreachable::Other),
        ] {
            assert_eq!(Unreachable::of(&io::Error::from_raw_os_error(number)), expected);
        }
        for (status, expected) in [
            (407, Unreachable::ProxyCredentials),
            (403, Unreachable::ProxyRefused),
            (302, Unreachable::ProxyRefused),
            (502, Unreachable::ProxyFailed),
        ] {
            assert_eq!(Unreachable::of_proxy(status), expected, "{status}");
        }
        assert_eq!(Unreachable::of(&io::ErrorKind::UnexpectedEof.into()), Unreachable::Closed);
        assert_eq!(Unreachable::of(&io::ErrorKind::HostUnreachable.into()), Unreachable::NoAddress);
        let tls = |error: TlsError| Unreachable::of(&io::Error::other(error));
        assert_eq!(tls(CertificateError::Expired.into()), Unreachable::CertificateExpired);
        assert_eq!(tls(CertificateError::BadEncoding.into()), Unreachable::CertificateInvalid);
        assert_eq!(
            tls(TlsError::AlertReceived(rustls::AlertDescription::HandshakeFailure)),
            Unreachable::TlsAlert
        );
        assert_eq!(tls(TlsError::DecryptError), Unreachable::TlsFailed);
    }
}
