//! Certificates of a listener: chosen by server name, replaced without a restart.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use ::aws_lc_rs::digest;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::clock::UnixTime;
use crate::proxy::settings::Tls;

/// The certificates of one listener.
pub(crate) struct Certificates {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: Vec<(PathBuf, PathBuf)>,
    /// What the files held when they were looked at last, whether it was used or refused.
    seen: Mutex<digest::Digest>,
}

/// What became of a look at the files.
#[derive(Debug)]
pub(crate) enum Reload {
    /// Nothing has changed since the last look.
    Unchanged,
    /// New handshakes see the new certificates.
    Replaced,
    /// The new files are not usable; the old certificates stay. Said once for each content.
    Refused(TlsError),
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// No pair is configured.
    #[error("no certificate is configured")]
    Empty,
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM, or does not contain what it should.
    #[error("{path} does not contain {wanted}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// A certificate or a private key.
        wanted: &'static str,
        /// What the reader says.
        #[source]
        source: pem::Error,
    },
    /// The first certificate of a chain cannot be understood.
    #[error("{path} does not begin with a certificate that can be read")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The key is of an unknown kind, or is not the key of the certificate.
    #[error("the key in {path} does not fit its certificate")]
    Pair {
        /// The file of the key.
        path: PathBuf,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// The cryptography cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub(crate) fn load(settings: &Tls) -> Result<Arc<Self>, TlsError> {
        let read = read(&settings.certificates)?;
        let seen = Mutex::new(fingerprint(&read));
        let current = Arc::new(Current(ArcSwap::from_pointee(Set::of(&read)?)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Arc::new(Self {
            config: Arc::new(config),
            current,
            files: settings.certificates.clone(),
            seen,
        }))
    }

    /// What handshakes need.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Looks at the files again; new certificates are used from the next handshake on. Reads files: not for workers.
    pub(crate) fn reload(&self) -> Reload {
        let read = match read(&self.files) {
            Ok(read) => read,
            Err(error) => return Reload::Refused(error),
        };
        let fingerprint = fingerprint(&read);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref() == fingerprint.as_ref() {
                return Reload::Unchanged;
            }
            *seen = fingerprint;
        }
        match Set::of(&read) {
            Ok(set) => {
                self.current.0.store(Arc::new(set));
                Reload::Replaced
            }
            Err(error) => Reload::Refused(error),
        }
    }

    /// When each certificate ends, by the file it came from.
    pub(crate) fn expiry(&self) -> Vec<(PathBuf, UnixTime)> {
        self.current.0.load().expiry.clone()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// A pair as it was read; the key is PEM and never printed.
struct Pair {
    chain_path: PathBuf,
    chain: Vec<u8>,
    key_path: PathBuf,
    key: Vec<u8>,
}

fn read(files: &[(PathBuf, PathBuf)]) -> Result<Vec<Pair>, TlsError> {
    let read_one = |path: &Path| {
        fs::read(path).map_err(|source| TlsError::Read {
            path: path.into(),
            source,
        })
    };
    files
        .iter()
        .map(|(chain, key)| {
            Ok(Pair {
                chain: read_one(chain)?,
                key: read_one(key)?,
                chain_path: chain.clone(),
                key_path: key.clone(),
            })
        })
        .collect()
}

fn fingerprint(pairs: &[Pair]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for pair in pairs {
        for file in [&pair.chain, &pair.key] {
            context.update(&u64::try_from(file.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(file);
        }
    }
    context.finish()
}

/// Certificates by name. The first one answers when no name fits.
struct Set {
    default: Arc<CertifiedKey>,
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    expiry: Vec<(PathBuf, UnixTime)>,
}

impl Set {
    fn of(pairs: &[Pair]) -> Result<Self, TlsError> {
        let provider = aws_lc_rs::default_provider();
        let mut set: Option<Self> = None;
        for pair in pairs {
            let pem = |path: &Path, wanted| {
                let path = path.to_owned();
                move |source| TlsError::Pem {
                    path,
                    wanted,
                    source,
                }
            };
            let chain = CertificateDer::pem_slice_iter(&pair.chain)
                .collect::<Result<Vec<_>, _>>()
                .and_then(|chain| {
                    if chain.is_empty() {
                        Err(pem::Error::NoItemsFound)
                    } else {
                        Ok(chain)
                    }
                })
                .map_err(pem(&pair.chain_path, "a certificate"))?;
            let key = PrivateKeyDer::from_pem_slice(&pair.key)
                .map_err(pem(&pair.key_path, "a private key"))?;
            let (names, ends) = chain
                .first()
                .and_then(|leaf| describe(leaf))
                .ok_or_else(|| TlsError::Certificate {
                    path: pair.chain_path.clone(),
                })?;
            let certified =
                CertifiedKey::from_der(chain, key, &provider).map_err(|source| TlsError::Pair {
                    path: pair.key_path.clone(),
                    source,
                })?;
            let certified = Arc::new(certified);
            let set = set.get_or_insert_with(|| Self {
                default: certified.clone(),
                exact: HashMap::new(),
                wildcard: HashMap::new(),
                expiry: Vec::new(),
            });
            set.expiry.push((pair.chain_path.clone(), ends));
            for name in names {
                // The first pair that claims a name keeps it.
                match name.strip_prefix("*.") {
                    Some(suffix) => set
                        .wildcard
                        .entry(suffix.into())
                        .or_insert_with(|| certified.clone()),
                    None => set.exact.entry(name).or_insert_with(|| certified.clone()),
                };
            }
        }
        set.ok_or(TlsError::Empty)
    }

    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let Some(name) = name else {
            return self.default.clone();
        };
        let name = name.to_ascii_lowercase();
        let by_wildcard = || {
            name.split_once('.')
                .and_then(|(_, suffix)| self.wildcard.get(suffix))
        };
        self.exact
            .get(name.as_str())
            .or_else(by_wildcard)
            .unwrap_or(&self.default)
            .clone()
    }
}

/// The DNS names of a certificate, lower case, and when it ends.
fn describe(leaf: &CertificateDer<'_>) -> Option<(Vec<Box<str>>, UnixTime)> {
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

/// The certificates in use.
struct Current(ArcSwap<Set>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().choose(hello.server_name()))
    }
}
