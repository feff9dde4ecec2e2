//! What the configuration says about a shared store: plain data.

use crate::secret::Secret;

/// A Redis or Valkey server.
#[derive(Clone, Debug)]
pub(crate) struct RedisSettings {
    /// Its host.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether it is asked over TLS; with the CA certificates that count for it, in PEM, instead of the system's.
    pub(crate) tls: Option<Option<Vec<u8>>>,
    /// Its database.
    pub(crate) database: u16,
    /// The ACL user.
    pub(crate) username: Option<String>,
    /// The password.
    pub(crate) password: Option<Secret<String>>,
    /// What our keys and channels begin with.
    pub(crate) prefix: String,
}
