//! TLS towards upstreams: roots, our certificate, and which protocols are offered.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// Certificates and keys of an upstream, as their files say now.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Material {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why TLS towards an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or key, or not in PEM.
    #[error("{}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no roots and none are configured.
    #[error("the system has no CA certificates; say `ca`")]
    NoRoots,
    /// Certificate and key do not fit, or the library refuses them.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

impl Material {
    /// Reads the files.
    pub(super) fn read(
        ca: Option<&Path>,
        identity: Option<&(PathBuf, PathBuf)>,
    ) -> Result<Self, TlsError> {
        let file = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            ca: ca.map(file).transpose()?,
            identity: match identity {
                Some((certificate, key)) => Some((file(certificate)?, file(key)?)),
                None => None,
            },
        })
    }

    /// Makes the client's side of TLS; HTTP/1.1 is offered.
    pub(super) fn config(
        &self,
        ca: Option<&Path>,
        identity: Option<&(PathBuf, PathBuf)>,
    ) -> Result<ClientConfig, TlsError> {
        let roots = match (&self.ca, ca) {
            (Some(pem), Some(path)) => Arc::new(roots_of(pem, path)?),
            (Some(_) | None, _) => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match (&self.identity, identity) {
            (Some((certificate, key)), Some((certificate_path, key_path))) => {
                let chain = certificates(certificate, certificate_path)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem {
                    path: key_path.clone(),
                    reason: error.to_string(),
                })?;
                builder.with_client_auth_cert(chain, key)?
            }
            (Some(_) | None, _) => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::Pem {
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("no certificate in PEM".to_owned()));
    }
    Ok(chain)
}

fn roots_of(pem: &[u8], path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The system's roots, read once: a reload of a thousand upstreams must not parse them a thousand times.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        Err(TlsError::NoRoots)
    } else {
        Ok(roots.clone())
    }
}
