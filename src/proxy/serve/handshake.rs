//! The TLS handshake of a connection that has been accepted.

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::proxy::serve::socket::Socket;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::Policies;

/// Which names may be asked for on a connection.
pub(super) type Reach = Option<(Arc<Policies>, usize)>;

/// A stream within TLS. In a box: each future that it is handed to would keep room for it, a kilobyte and more, beside the
/// room where it is.
pub(super) type Secured = Box<TlsStream<Socket>>;

/// Speaks TLS. Where client certificates are asked for, the name decides by whose configuration.
///
/// # Errors
///
/// When the client speaks something else, or its certificate is not good.
pub(super) async fn handshake(
    certificates: &Certificates,
    socket: Socket,
) -> io::Result<(Secured, Reach)> {
    let Some(policies) = certificates.policies() else {
        let acceptor = TlsAcceptor::from(certificates.server_config());
        return Ok((Box::new(acceptor.accept(socket).await?), None));
    };
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let name = start
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    let policy = policies.find(name.as_deref());
    let config = certificates
        .config_of(policy)
        .ok_or_else(|| io::Error::other("no configuration for a policy"))?;
    let stream = Box::new(start.into_stream(config).await?);
    Ok((stream, Some((Arc::clone(policies), policy))))
}
