//! Client certificates of a listener: who is asked for one, by the server name that they ask for.
//!
//! Each policy has a configuration of its own, without tickets and without sessions: what was proven to one host is never
//! resumed at another (CVE-2025-23419, CVE-2025-23048).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::proxy::settings::ClientCertificates;
use crate::proxy::tls::TlsError;
use crate::proxy::tls::spoken::provider;
use crate::proxy::tls::spoken::versions;

/// Which policy a name has. 0: no certificate is asked for; else the place of the policy in the settings, from 1.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    exact: HashMap<Box<str>, usize>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, usize>,
    /// For every other name, and for clients that name nobody.
    rest: usize,
}

impl Policies {
    /// The policies of a listener; `None`: it asks nobody for a certificate.
    pub(super) fn of(settings: &[ClientCertificates]) -> Option<Arc<Self>> {
        let mut all = Self::default();
        for (place, policy) in settings.iter().enumerate() {
            let place = place + 1;
            if policy.hosts.is_empty() {
                all.rest = place;
            }
            for host in &policy.hosts {
                match host.strip_prefix("*.") {
                    Some(suffix) => all.wildcard.entry(suffix.into()).or_insert(place),
                    None => all.exact.entry(host.clone()).or_insert(place),
                };
            }
        }
        (!settings.is_empty()).then(|| Arc::new(all))
    }

    /// The policy for a name, in lower case.
    pub(crate) fn find(&self, name: Option<&str>) -> usize {
        let Some(name) = name else {
            return self.rest;
        };
        let by_wildcard = || {
            let (_, suffix) = name.split_once('.')?;
            self.wildcard.get(suffix)
        };
        self.exact
            .get(name)
            .or_else(by_wildcard)
            .copied()
            .unwrap_or(self.rest)
    }
}

/// The configuration of one policy. `pem` has the certificates of the authorities, and their revocation lists.
pub(super) fn config(
    settings: &ClientCertificates,
    pem: &[u8],
    resolver: Arc<dyn ResolvesServerCert>,
    newest_only: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = verifier(&settings.ca, pem, settings.required)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(newest_only))
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn verifier(
    path: &Path,
    pem: &[u8],
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let bad = |source| TlsError::Pem {
        path: path.to_owned(),
        wanted: "certificates of authorities",
        source,
    };
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(lists);
    // A list that has run out says nothing about what was revoked since; whom no list speaks of, we do not know.
    builder = builder
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration();
    if !required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|source| TlsError::Authority {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(hosts: &[&str]) -> ClientCertificates {
        ClientCertificates {
            hosts: hosts.iter().map(|host| (*host).into()).collect(),
            ca: "ca.pem".into(),
            required: true,
        }
    }

    #[test]
    fn a_name_has_one_policy() {
        assert!(Policies::of(&[]).is_none());
        let some = Policies::of(&[policy(&["a.test"]), policy(&["*.b.test"])]).unwrap();
        for (name, place) in [
            (Some("a.test"), 1),
            (Some("x.b.test"), 2),
            (Some("x.y.b.test"), 0),
            (Some("b.test"), 0),
            (Some("c.test"), 0),
            (None, 0),
        ] {
            assert_eq!(some.find(name), place, "{name:?}");
        }
        let rest = Policies::of(&[policy(&["a.test"]), policy(&[])]).unwrap();
        assert_eq!(rest.find(Some("a.test")), 1);
        assert_eq!(rest.find(Some("b.test")), 2);
        assert_eq!(rest.find(None), 2);
    }
}
