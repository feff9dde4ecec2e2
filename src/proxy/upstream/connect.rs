//! Opening one connection to an origin.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::proxy::upstream::resolve::Resolver;
use crate::proxy::upstream::resolve::Unresolved;
use crate::proxy::upstream::target::Site;
use crate::proxy::upstream::target::Target;
use crate::proxy::upstream::wire::Stream;

/// Why there is no connection. No request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The name has no address.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// Refused, unreachable, or out of descriptors.
    #[error("no connection: {0}")]
    Io(#[source] io::Error),
    /// No TLS session, or a certificate that does not hold.
    #[error("no TLS session: {0}")]
    Tls(#[source] io::Error),
    /// HTTP/2 was not understood.
    #[error("no HTTP session")]
    Protocol(#[source] hyper::Error),
    /// Not within `connect_timeout`.
    #[error("no connection in time")]
    Timeout,
}

/// What is offered to an origin that speaks TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Speak {
    /// HTTP/2 too, where the configuration says so.
    AsConfigured,
    /// HTTP/1.1 alone: there is nothing to upgrade to on HTTP/2.
    Http1,
}

/// Opens a connection to one origin of `target`: look-up, TCP and TLS within `connect_timeout` together.
pub(super) async fn open(
    target: &Target,
    site: &Site,
    resolver: &Arc<Resolver>,
    speak: Speak,
) -> Result<Stream, ConnectError> {
    let limit = target.settings().connect_timeout;
    match timeout(limit, establish(target, site, resolver, speak, limit)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError::Timeout),
    }
}

async fn establish(
    target: &Target,
    site: &Site,
    resolver: &Arc<Resolver>,
    speak: Speak,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    let deadline = Instant::now() + limit;
    let tcp = match site.address {
        Some(address) => dial(&[address], site.origin.port, deadline).await?,
        None => {
            let addresses = resolver.resolve(&site.origin.host).await?;
            dial(&addresses, site.origin.port, deadline).await?
        }
    };
    // Latency is worth more than packets; an error here is not worth a request.
    drop(tcp.set_nodelay(true));
    let Some(name) = &site.server_name else {
        return Ok(Stream::Plain(tcp));
    };
    // An origin that asks for TLS never gets cleartext.
    let config = target
        .tls(speak)
        .ok_or_else(|| ConnectError::Tls(io::ErrorKind::Unsupported.into()))?;
    let stream = TlsConnector::from(config.clone())
        .connect(name.clone(), tcp)
        .await
        .map_err(ConnectError::Tls)?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Tries the addresses in turn. Each but the last gets its share of what time is left, so that one black hole among
/// several addresses does not use it all.
async fn dial(
    addresses: &[IpAddr],
    port: u16,
    deadline: Instant,
) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Unresolved(Unresolved);
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        match timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = ConnectError::Io(error),
            Err(_) => last = ConnectError::Timeout,
        }
    }
    Err(last)
}

impl ConnectError {}
