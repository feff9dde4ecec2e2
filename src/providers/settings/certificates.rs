//! What the configuration says about a provider of client certificates: plain data.

use std::path::PathBuf;

use crate::identity::Issuer;

/// Certificates of TLS clients.
#[derive(Clone, Debug)]
pub(crate) struct ClientCert {
    /// The issuer that stands for this provider in subject keys.
    pub(crate) issuer: Issuer,
    /// The authorities and their revocation lists, PEM; read again when the file changes.
    pub(crate) ca: PathBuf,
    /// Which name of a certificate is its subject.
    pub(crate) subject: CertificateName,
}

/// Which name of a certificate is its subject: exactly one of this type must be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CertificateName {
    /// `dNSName` (RFC 5280 §4.2.1.6).
    Dns,
    /// `uniformResourceIdentifier`, such as a SPIFFE id.
    Uri,
    /// `rfc822Name`.
    Email,
    /// The common name of the subject.
    CommonName,
}

impl CertificateName {
    /// The word of the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "san_dns",
            Self::Uri => "san_uri",
            Self::Email => "san_email",
            Self::CommonName => "common_name",
        }
    }
}
