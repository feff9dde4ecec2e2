//! TLS towards operators: whose certificate leads in, and what its holder is called in the record.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::admin::guard::Peer;
use crate::clock::Clock as _;
use crate::clock::SystemClock;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::Reload;
use crate::proxy::tls::TlsError;

/// The longest name of an operator in the record, in characters.
const LONGEST_NAME: usize = 256;

/// Shakes hands: the connection, and who is at its other end.
pub(super) async fn accept(
    certificates: &Arc<Certificates>,
    stream: TcpStream,
    (from, to): (SocketAddr, SocketAddr),
    patience: Duration,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    let config = config(certificates).await?;
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = timeout(patience, handshake).await??;
    let chain = stream.get_ref().1.peer_certificates();
    let own = chain.and_then(|chain| chain.first());
    let peer = match own {
        Some(own) => Peer::Certificate {
            subject: name(own).ok_or(io::ErrorKind::InvalidData)?,
            to,
            names: certificates.names(),
        },
        None => Peer::Tcp { from, to },
    };
    Ok((stream, peer))
}

/// What handshakes need now: files that have changed are read, and HTTP/1.1 is all that is spoken here.
async fn config(certificates: &Arc<Certificates>) -> io::Result<Arc<ServerConfig>> {
    let look = Arc::clone(certificates);
    let looked = tokio::task::spawn_blocking(move || look.reload(SystemClock.now())).await;
    if let Reload::Refused(error) = looked.map_err(io::Error::other)? {
        warn!(%error, "The certificates of the admin interface are not usable; the old ones stay.");
    }
    let policy = certificates.policies().map_or(0, |all| all.find(None));
    let config = certificates
        .config_of(policy)
        .ok_or(io::ErrorKind::NotFound)?;
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The subject of a certificate, as one line; `None`: it has none, and nobody could be named in the record.
fn name(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject().to_string();
    let plain = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    let text: String = subject.chars().map(plain).take(LONGEST_NAME).collect();
    (!text.trim().is_empty()).then(|| text.into())
}

/// An error with its causes: which file, and what is wrong with it.
pub(super) fn because(error: &TlsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateParams;
    use rcgen::DistinguishedName;
    use rcgen::DnType;
    use rcgen::KeyPair;

    fn named(names: &[(DnType, &str)]) -> Option<Arc<str>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        name(own.der())
    }

    #[test]
    fn an_operator_has_one_line_for_a_name_or_none() {
        let both = [
            (DnType::CommonName, "ops"),
            (DnType::OrganizationName, "corp"),
        ];
        assert_eq!(named(&both).as_deref(), Some("CN=ops, O=corp"));
        let forged = named(&[(DnType::CommonName, "a\nb")]).unwrap();
        assert!(!forged.contains('\n'), "{forged}");
        assert_eq!(named(&[]), None);
        let long = named(&[(DnType::CommonName, &"x".repeat(600))]).unwrap();
        assert_eq!(long.chars().count(), LONGEST_NAME);
    }
}
