//! TLS to an endpoint whose certificate is not checked: whether it could serve is asked, not who it is. Most
//! endpoints are probed by address, and their certificates name the service.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use lockstep_model::health::{Failure, FailureKind};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{failure, tcp};

/// Each handshake is a whole one: a resumed session would not show that the endpoint still has its key.
static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions");
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
});

/// Connects and shakes hands. `host`: the server name that is asked for, if it is one.
pub(super) async fn connect(to: SocketAddr, host: &str) -> Result<TlsStream<TcpStream>, Failure> {
    let stream = tcp::connect(to).await?;
    CONNECTOR.connect(server_name(to, host), stream).await.map_err(|error| {
        // What TLS itself does not like has no errno.
        match failure(&error) {
            Failure { kind: FailureKind::Closed, .. } if error.kind() == std::io::ErrorKind::InvalidData => {
                Failure::of(FailureKind::Tls)
            }
            other => other,
        }
    })
}

/// A host may have a port behind it, and may be an address, which is not sent (RFC 6066, section 3).
fn server_name(to: SocketAddr, host: &str) -> ServerName<'static> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::from(to.ip()))
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names() {
        let to = "10.0.0.11:443".parse().unwrap();
        for (host, expected) in [
            ("web.example", "web.example"),
            ("web.example:8443", "web.example"),
            ("10.0.0.12:8443", "10.0.0.12"),
            ("", "10.0.0.11"),
            ("[::1]:80", "10.0.0.11"),
        ] {
            assert_eq!(server_name(to, host).to_str(), expected, "{host:?}");
        }
    }
}
