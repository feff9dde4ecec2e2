//! What a client can present: one variant per way to present oneself.

use std::sync::Arc;

use crate::secret::Secret;

/// The closed list of credential classes: the words of `accept`, and of the label `credential`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CredentialClass {
    /// A session cookie, the old system's or ours.
    Session,
    /// A signed token in `Authorization: Bearer` (RFC 6750 §2.1).
    Bearer,
    /// A token that only its issuer can read (RFC 7662).
    Opaque,
    /// User name and password (RFC 7617).
    Basic,
    /// A long-lived key of a client.
    ApiKey,
    /// A client certificate (RFC 8705 §2).
    ClientCert,
    /// A refresh token (RFC 6749 §1.5).
    Refresh,
}

impl CredentialClass {
    /// Every class, in the order of the metrics.
    pub const ALL: [Self; 7] = [
        Self::Session,
        Self::Bearer,
        Self::Opaque,
        Self::Basic,
        Self::ApiKey,
        Self::ClientCert,
        Self::Refresh,
    ];

    /// The word used in configuration and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bearer => "bearer",
            Self::Opaque => "opaque",
            Self::Basic => "basic",
            Self::ApiKey => "api_key",
            Self::ClientCert => "client_cert",
            Self::Refresh => "refresh",
        }
    }
}

/// One presented credential, owned, for the provider that judges it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A provider's own session cookie.
    Session {
        /// The name of the cookie.
        cookie: Box<str>,
        /// Its value.
        value: Secret<String>,
    },
    /// A signed token, in compact serialisation (RFC 7515 §7.1).
    Bearer(Secret<String>),
    /// A token without structure for us.
    Opaque(Secret<String>),
    /// User name and password.
    Basic {
        /// Who the client says it is.
        username: Box<str>,
        /// What should prove it.
        password: Secret<String>,
    },
    /// A client's key.
    ApiKey(Secret<String>),
    /// The certificate of the TLS client and what it was shown with, DER; the client's own first.
    ClientCert(Arc<[Vec<u8>]>),
}

impl Credential {
    /// The class of this credential.
    pub const fn class(&self) -> CredentialClass {
        match self {
            Self::Session { .. } => CredentialClass::Session,
            Self::Bearer(_) => CredentialClass::Bearer,
            Self::Opaque(_) => CredentialClass::Opaque,
            Self::Basic { .. } => CredentialClass::Basic,
            Self::ApiKey(_) => CredentialClass::ApiKey,
            Self::ClientCert(_) => CredentialClass::ClientCert,
        }
    }
}
