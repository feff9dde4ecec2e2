//! What the configuration says about the admin listener: plain data.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::proxy::settings::Tls;
use crate::secret::Secret;

/// The admin listener.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// TCP address. Default `127.0.0.1:9901`.
    pub(crate) listen: Option<SocketAddr>,
    /// A unix socket; whoever can open it may write. Default `state_dir/admin.sock`.
    pub(crate) socket: Option<PathBuf>,
    /// The bearer token for writes over TCP; without it, writes go over the socket only.
    pub(crate) token: Option<Secret<String>>,
    /// A listener for `GET /metrics` alone.
    pub(crate) metrics: Option<SocketAddr>,
    /// TLS of the TCP address, and who is let in by certificate there; `None`: cleartext.
    pub(crate) tls: Option<Tls>,
}
