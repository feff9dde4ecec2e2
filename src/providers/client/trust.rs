//! Whose certificates are believed: the system's authorities, and those a provider's settings add.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject as _;
use tracing::warn;

/// The certificate authorities of this system, read once per configuration.
#[derive(Clone, Debug)]
pub(in crate::providers) struct Trust {
    system: Arc<RootCertStore>,
}

/// Why a provider's own authorities cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::providers) enum TrustError {
    /// The file is not there, or not for us.
    #[error("{path}: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// Nothing in it is a certificate that can vouch for others.
    #[error("{path}: no usable certificate in PEM ({cause})", path = path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl Trust {
    /// Reads the system's authorities. None at all is no error: a provider may bring its own, or be this machine.
    pub(in crate::providers) fn of_system() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            warn!(
                errors = found.errors.len(),
                "The system has no certificate authorities."
            );
        }
        Self {
            system: Arc::new(roots),
        }
    }

    /// TLS towards a provider, with the authorities of `ca` beside the system's, and our own certificate where it wants one.
    ///
    /// # Errors
    ///
    /// When `ca` cannot be read or has no certificate: a provider must not silently lose its authority.
    pub(in crate::providers) fn client_config(
        &self,
        ca: Option<&Path>,
        own: Option<&(PathBuf, PathBuf)>,
    ) -> Result<ClientConfig, TrustError> {
        let roots = match ca {
            None => Arc::clone(&self.system),
            Some(path) => {
                let mut roots = RootCertStore::clone(&self.system);
                add(&mut roots, path)?;
                Arc::new(roots)
            }
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| TrustError::Tls(cause.to_string()))?
            .with_root_certificates(roots);
        match own {
            None => Ok(config.with_no_client_auth()),
            Some((chain, key)) => {
                let (chain, key) = pair(chain, key)?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|cause| TrustError::Tls(format!("our certificate: {cause}")))
            }
        }
    }
}

/// Our certificate chain and its key.
fn pair(
    chain: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TrustError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |cause: pem::Error| TrustError::NoCertificate {
            path,
            cause: cause.to_string(),
        }
    };
    let certificates = CertificateDer::pem_slice_iter(&read(chain)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(unusable(chain))?;
    let own = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(unusable(key))?;
    Ok((certificates, own))
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    fs::read(path).map_err(|cause| TrustError::Unreadable {
        path: path.to_owned(),
        cause: cause.to_string(),
    })
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let bytes = read(path)?;
    let unusable = |cause: String| TrustError::NoCertificate {
        path: path.to_owned(),
        cause,
    };
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|cause| unusable(cause.to_string()))?;
        roots
            .add(certificate)
            .map_err(|cause| unusable(cause.to_string()))?;
        any = true;
    }
    if any {
        Ok(())
    } else {
        Err(unusable("it has none".to_owned()))
    }
}
