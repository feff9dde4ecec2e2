//! What a certificate says of itself: its names, and when it ends.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::clock::UnixTime;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::Set;
use crate::proxy::tls::TlsError;

impl Certificates {
    /// The new certificates, if none of them is over that would take the place of one that is not. Where both are, as after
    /// a late renewal, the newer one is as good.
    pub(super) fn unless_expired(&self, set: Set, now: UnixTime) -> Result<Set, TlsError> {
        let current = self.current.0.load();
        let mut pairs = set.expiry.iter().zip(&current.expiry);
        let expired = pairs.find(|((_, new), (_, old))| *new <= now && now < *old);
        match expired.map(|((path, _), _)| path.clone()) {
            Some(path) => Err(TlsError::Expired { path }),
            None => Ok(set),
        }
    }
}

/// The DNS names of a certificate, lower case, and when it ends.
pub(super) fn describe(leaf: &CertificateDer<'_>) -> Option<(Vec<Box<str>>, UnixTime)> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let ends = UnixTime::from_secs(
        u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0),
    );
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
                _ => None,
            })
            .collect(),
        Ok(None) | Err(_) => Vec::new(),
    };
    Some((names, ends))
}
