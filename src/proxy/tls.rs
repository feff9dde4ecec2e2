//! Certificates of a listener: chosen by server name, replaced without a restart.

mod clients;
mod leaf;
mod names;
mod spoken;

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

use crate::clock::UnixTime;
use crate::proxy::settings::ClientCertificates;
use crate::proxy::settings::Tls;
pub(crate) use crate::proxy::tls::clients::Policies;
use crate::proxy::tls::leaf::describe;
use crate::proxy::tls::spoken::provider;
use crate::proxy::tls::spoken::versions;

/// The certificates of one listener.
pub(crate) struct Certificates {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: Vec<(PathBuf, PathBuf)>,
    clients: Vec<ClientCertificates>,
    policies: Option<Arc<Policies>>,
    newest_only: bool,
    /// By policy, from 1.
    demanding: ArcSwap<Vec<Arc<ServerConfig>>>,
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
    /// It is over, and the one whose place it would take is not.
    #[error("the certificate in {path} has expired; the one in use has not")]
    Expired {
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
    /// The authorities of client certificates cannot be used.
    #[error("{path} does not contain authorities that can be used")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
        let (read, authorities) = (
            read(&settings.certificates)?,
            authorities(&settings.clients)?,
        );
        let seen = Mutex::new(fingerprint(&read, &authorities));
        let current = Arc::new(Current(ArcSwap::from_pointee(Set::of(&read)?)));
        let newest = settings.newest_only;
        let demanding = demanding(&settings.clients, &authorities, (&current, newest))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(newest))
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.ignore_client_order = true;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Arc::new(Self {
            config: Arc::new(config),
            current,
            files: settings.certificates.clone(),
            policies: Policies::of(&settings.clients),
            newest_only: newest,
            clients: settings.clients.clone(),
            demanding: ArcSwap::from_pointee(demanding),
            seen,
        }))
    }

    /// Who is asked for a client certificate; `None`: nobody.
    pub(crate) const fn policies(&self) -> Option<&Arc<Policies>> {
        self.policies.as_ref()
    }

    /// What handshakes under a policy need.
    pub(crate) fn config_of(&self, policy: usize) -> Option<Arc<ServerConfig>> {
        match policy.checked_sub(1) {
            None => Some(self.server_config()),
            Some(place) => self.demanding.load().get(place).cloned(),
        }
    }

    /// What handshakes need.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Looks at the files again; new certificates are used from the next handshake on. Reads files: not for workers.
    pub(crate) fn reload(&self, now: UnixTime) -> Reload {
        let (read, authorities) = match (read(&self.files), authorities(&self.clients)) {
            (Ok(read), Ok(authorities)) => (read, authorities),
            (Err(error), _) | (_, Err(error)) => return Reload::Refused(error),
        };
        let fingerprint = fingerprint(&read, &authorities);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref() == fingerprint.as_ref() {
                return Reload::Unchanged;
            }
            *seen = fingerprint;
        }
        let terms = (&self.current, self.newest_only);
        let demanding = demanding(&self.clients, &authorities, terms);
        let set = Set::of(&read).and_then(|set| self.unless_expired(set, now));
        match (set, demanding) {
            (Ok(set), Ok(demanding)) => {
                self.current.0.store(Arc::new(set));
                self.demanding.store(Arc::new(demanding));
                Reload::Replaced
            }
            (Err(error), _) | (_, Err(error)) => Reload::Refused(error),
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

fn read_one(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.into(),
        source,
    })
}

/// The authorities of client certificates, by policy.
fn authorities(clients: &[ClientCertificates]) -> Result<Vec<Vec<u8>>, TlsError> {
    clients.iter().map(|policy| read_one(&policy.ca)).collect()
}

fn demanding(
    clients: &[ClientCertificates],
    authorities: &[Vec<u8>],
    (current, newest_only): (&Arc<Current>, bool),
) -> Result<Vec<Arc<ServerConfig>>, TlsError> {
    let of = |(policy, pem): (&ClientCertificates, &Vec<u8>)| {
        clients::config(
            policy,
            pem,
            Arc::clone(current) as Arc<dyn ResolvesServerCert>,
            newest_only,
        )
    };
    clients.iter().zip(authorities).map(of).collect()
}

fn read(files: &[(PathBuf, PathBuf)]) -> Result<Vec<Pair>, TlsError> {
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

fn fingerprint(pairs: &[Pair], authorities: &[Vec<u8>]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    let files = pairs.iter().flat_map(|pair| [&pair.chain, &pair.key]);
    for file in files.chain(authorities) {
        context.update(&u64::try_from(file.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(file);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::ClientConfig;
    use rustls::RootCertStore;
    use rustls::pki_types::ServerName;
    use tempfile::TempDir;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;
    use crate::proxy::serve::Workers;
    use crate::proxy::serve::testing::Raw;
    use crate::proxy::serve::testing::certificate;
    use crate::proxy::serve::testing::h2;
    use crate::proxy::serve::testing::server;
    use crate::proxy::serve::testing::start;
    use crate::proxy::serve::vitals::Cut;
    use crate::proxy::settings::Server;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn settings(tls: &Tls) -> Server {
        let mut settings = server();
        settings.listeners[0].tls = Some(tls.clone());
        settings
    }

    /// Handshakes, trusting the chains of `tls` as they are now.
    async fn connect(
        workers: &Workers,
        tls: &Tls,
        name: &'static str,
        alpn: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for (chain, _) in &tls.certificates {
            roots
                .add(CertificateDer::from_pem_file(chain).unwrap())
                .unwrap();
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(workers.local_addresses()[0])
            .await
            .unwrap();
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    #[tokio::test]
    async fn the_protocol_is_the_one_agreed_on() {
        let dir = TempDir::new().unwrap();
        let tls = certificate(&dir.path().join("a"), &["a.test"]);
        let (workers, _) = start(&settings(&tls));
        for alpn in [&[][..], &[&b"http/1.1"[..]]] {
            let mut stream = connect(&workers, &tls, "a.test", alpn).await.unwrap();
            stream
                .write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.contains("GET a.test /x"), "{text}");
        }
        let mut stream = connect(&workers, &tls, "a.test", &[b"h2", b"http/1.1"])
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", "/x"),
        ];
        stream
            .write_all(&[h2::hello(), h2::request(1, &fields)].concat())
            .await
            .unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("GET a.test /x") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        // Who agreed on HTTP/2 and speaks something else is not served.
        let mut stream = connect(&workers, &tls, "a.test", &[b"h2"]).await.unwrap();
        stream
            .write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut nothing = Vec::new();
        drop(stream.read_to_end(&mut nothing).await);
        assert_eq!(nothing, b"");
    }

    #[tokio::test]
    async fn the_name_chooses_the_certificate() {
        let dir = TempDir::new().unwrap();
        let first = certificate(&dir.path().join("a"), &["a.test"]);
        let second = certificate(&dir.path().join("b"), &["b.test", "*.c.test"]);
        let both = Tls {
            certificates: [first.certificates.clone(), second.certificates.clone()].concat(),
            clients: Vec::new(),
            newest_only: false,
        };
        let (workers, _) = start(&settings(&both));
        assert!(connect(&workers, &first, "a.test", &[]).await.is_ok());
        assert!(connect(&workers, &second, "b.test", &[]).await.is_ok());
        assert!(connect(&workers, &second, "x.c.test", &[]).await.is_ok());
        // The first answers for the rest, and the client refuses it.
        assert!(connect(&workers, &second, "x.y.c.test", &[]).await.is_err());
        let set = Certificates::load(&both).unwrap();
        let current = set.current.0.load();
        let chosen = |name: &str| Arc::as_ptr(&current.choose(Some(name)));
        assert_eq!(chosen("B.TEST"), chosen("b.test"));
        assert_ne!(chosen("a.test"), chosen("b.test"));
        assert_eq!(chosen("unknown.test"), Arc::as_ptr(&current.choose(None)));
        assert_eq!(chosen("unknown.test"), chosen("a.test"));
    }

    #[test]
    fn a_certificate_that_is_over_takes_nobodys_place_that_is_not() {
        let dir = TempDir::new().unwrap();
        let stem = dir.path().join("a");
        let tls = certificate(&stem, &["a.test"]);
        let put = |year| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let chain = params.self_signed(&key).unwrap().pem();
            fs::write(stem.with_extension("crt"), chain).unwrap();
            fs::write(stem.with_extension("key"), key.serialize_pem()).unwrap();
        };
        let certificates = Certificates::load(&tls).unwrap();
        let before = certificates.expiry();
        put(2021);
        assert!(matches!(
            certificates.reload(NOW),
            Reload::Refused(TlsError::Expired { .. })
        ));
        assert_eq!(certificates.expiry(), before);
        put(2040);
        assert!(matches!(certificates.reload(NOW), Reload::Replaced));
        // A program that starts with an old one takes another old one: both are as bad.
        put(2021);
        let certificates = Certificates::load(&tls).unwrap();
        put(2022);
        assert!(matches!(certificates.reload(NOW), Reload::Replaced));
    }

    #[tokio::test]
    async fn a_new_certificate_is_used_and_a_bad_one_is_not() {
        let dir = TempDir::new().unwrap();
        let stem = dir.path().join("a");
        let tls = certificate(&stem, &["a.test"]);
        let settings = settings(&tls);
        let bound = crate::proxy::serve::listen::Bound::open(&settings).unwrap();
        let certificates = bound.certificates().remove(0);
        let (workers, _) = crate::proxy::serve::testing::start_on(&settings, bound);
        assert!(matches!(certificates.reload(NOW), Reload::Unchanged));
        let before = certificates.expiry();

        let other = certificate(&dir.path().join("other"), &["a.test"]);
        fs::copy(&other.certificates[0].0, stem.with_extension("crt")).unwrap();
        // Half of the new pair: the old one stays, and it is said once.
        assert!(matches!(
            certificates.reload(NOW),
            Reload::Refused(TlsError::Pair { .. })
        ));
        assert!(matches!(certificates.reload(NOW), Reload::Unchanged));
        assert!(connect(&workers, &tls, "a.test", &[]).await.is_err());
        assert_eq!(certificates.expiry(), before);

        fs::copy(&other.certificates[0].1, stem.with_extension("key")).unwrap();
        assert!(matches!(certificates.reload(NOW), Reload::Replaced));
        assert!(connect(&workers, &tls, "a.test", &[]).await.is_ok());

        fs::remove_file(stem.with_extension("crt")).unwrap();
        assert!(matches!(
            certificates.reload(NOW),
            Reload::Refused(TlsError::Read { .. })
        ));
        assert!(connect(&workers, &other, "a.test", &[]).await.is_ok());
    }

    #[test]
    fn unusable_files_are_refused_at_the_start() {
        let dir = TempDir::new().unwrap();
        let good = certificate(&dir.path().join("a"), &["a.test"]);
        let other = certificate(&dir.path().join("b"), &["b.test"]);
        let (chain, key) = good.certificates[0].clone();
        let load = |chain: &Path, key: &Path| {
            Certificates::load(&Tls {
                certificates: vec![(chain.into(), key.into())],
                clients: Vec::new(),
                newest_only: false,
            })
            .unwrap_err()
        };
        assert!(matches!(
            load(&chain, &other.certificates[0].1),
            TlsError::Pair { .. }
        ));
        assert!(matches!(
            load(&key, &key),
            TlsError::Pem {
                wanted: "a certificate",
                ..
            }
        ));
        assert!(matches!(
            load(&chain, &chain),
            TlsError::Pem {
                wanted: "a private key",
                ..
            }
        ));
        assert!(matches!(
            load(&dir.path().join("none"), &key),
            TlsError::Read { .. }
        ));
        assert!(matches!(
            Certificates::load(&Tls {
                certificates: vec![],
                clients: Vec::new(),
                newest_only: false,
            }),
            Err(TlsError::Empty)
        ));
    }

    #[tokio::test]
    async fn the_old_version_is_spoken_unless_it_is_switched_off() {
        let dir = TempDir::new().unwrap();
        let mut tls = certificate(&dir.path().join("a"), &["a.test"]);
        for (newest_only, spoken) in [(false, true), (true, false)] {
            tls.newest_only = newest_only;
            let (workers, _) = start(&settings(&tls));
            let mut roots = RootCertStore::empty();
            let chain = fs::read(&tls.certificates[0].0).unwrap();
            for certificate in CertificateDer::pem_slice_iter(&chain) {
                roots.add(certificate.unwrap()).unwrap();
            }
            let provider = Arc::new(aws_lc_rs::default_provider());
            let old = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS12])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let stream = Raw::to(&workers).await.0;
            let name = ServerName::try_from("a.test").unwrap();
            let shaken = TlsConnector::from(Arc::new(old))
                .connect(name, stream)
                .await;
            assert_eq!(shaken.is_ok(), spoken);
            assert!(connect(&workers, &tls, "a.test", &[]).await.is_ok());
        }
    }

    #[tokio::test]
    async fn the_order_of_suites_is_ours() {
        let dir = TempDir::new().unwrap();
        let tls = certificate(&dir.path().join("a"), &["a.test"]);
        let (workers, _) = start(&settings(&tls));
        let mut roots = RootCertStore::empty();
        let chain = fs::read(&tls.certificates[0].0).unwrap();
        for certificate in CertificateDer::pem_slice_iter(&chain) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut offered = aws_lc_rs::default_provider();
        let mut chosen = Vec::new();
        for _ in 0..2 {
            // The other way round.
            offered.cipher_suites.reverse();
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let client = ClientConfig::builder_with_provider(Arc::new(offered.clone()))
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_root_certificates(roots.clone())
                    .with_no_client_auth();
                let stream = TlsConnector::from(Arc::new(client))
                    .connect(
                        ServerName::try_from("a.test").unwrap(),
                        Raw::to(&workers).await.0,
                    )
                    .await
                    .unwrap();
                let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap();
                chosen.push(format!("{:?}", suite.suite()));
            }
        }
        assert_eq!(chosen[..2], chosen[2..]);
        assert!(
            chosen.iter().all(|suite| suite.contains("AES_128_GCM")),
            "{chosen:?}"
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_half_a_handshake() {
        let dir = TempDir::new().unwrap();
        let tls = certificate(&dir.path().join("a"), &["a.test"]);
        let mut settings = settings(&tls);
        settings.limits.handshake = Duration::from_secs(1);
        settings.limits.head = Duration::from_secs(1);
        let (workers, _) = start(&settings);
        let mut raw = Raw::to(&workers).await;
        raw.send([0x16, 3, 1]).await;
        assert_eq!(raw.rest().await.unwrap_or_default(), "");
        assert_eq!(workers.counts().cut(Cut::Handshake), 1);
        for alpn in [&b"h2"[..], b"http/1.1"] {
            let mut stream = connect(&workers, &tls, "a.test", &[alpn]).await.unwrap();
            if alpn == b"h2" {
                stream.write_all(b"PRI * HT").await.unwrap();
            }
            let mut nothing = Vec::new();
            drop(stream.read_to_end(&mut nothing).await);
            assert_eq!(nothing, b"");
        }
        assert_eq!(
            workers.counts().cut(Cut::FirstByte) + workers.counts().cut(Cut::Head),
            2
        );
        let mut raw = Raw::to(&workers).await;
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        raw.rest().await.unwrap_or_default();
        // It is counted after the socket is closed.
        while workers.counts().handshake_failures() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// An authority, and a client of it.
    fn client(dir: &Path, name: &str) -> (PathBuf, (CertificateDer<'static>, Vec<u8>)) {
        use rcgen::CertificateParams;
        use rcgen::CertifiedIssuer;
        use rcgen::IsCa;
        use rcgen::KeyPair;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let path = dir.join(format!("{name}.ca"));
        fs::write(&path, authority.pem()).unwrap();
        let mut own = CertificateParams::new(vec![format!("{name}.client")]).unwrap();
        own.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let signed = own.signed_by(&key, &authority).unwrap();
        (path, (signed.der().clone(), key.serialize_der()))
    }

    /// A client that keeps its tickets; what it gets for `GET /` at `host`, or that it gets nothing.
    async fn ask(
        workers: &Workers,
        config: &Arc<ClientConfig>,
        name: &'static str,
        host: &str,
    ) -> Result<(String, Option<rustls::HandshakeKind>), io::Error> {
        let stream = TcpStream::connect(workers.local_addresses()[0]).await?;
        let name = ServerName::try_from(name).unwrap();
        let mut stream = TlsConnector::from(config.clone())
            .connect(name, stream)
            .await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok((text, stream.get_ref().1.handshake_kind()))
    }

    fn trusting(tls: &Tls, own: Option<&(CertificateDer<'static>, Vec<u8>)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for (chain, _) in &tls.certificates {
            roots
                .add(CertificateDer::from_pem_file(chain).unwrap())
                .unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(
                    vec![certificate.clone()],
                    PrivateKeyDer::try_from(key.clone()).unwrap(),
                )
                .unwrap(),
        })
    }

    #[tokio::test]
    async fn each_name_asks_for_its_own_certificates_and_nothing_is_resumed() {
        let dir = TempDir::new().unwrap();
        let mut tls = certificate(
            &dir.path().join("a"),
            &["open.test", "one.test", "two.test"],
        );
        let (ca_one, one) = client(dir.path(), "one");
        let (ca_two, two) = client(dir.path(), "two");
        let policy = |host: &str, ca: &Path| ClientCertificates {
            hosts: vec![host.into()],
            ca: ca.to_owned(),
            required: true,
        };
        tls.clients = vec![policy("one.test", &ca_one), policy("two.test", &ca_two)];
        let (workers, _) = start(&settings(&tls));
        let (nobody, of_one, of_two) = (
            trusting(&tls, None),
            trusting(&tls, Some(&one)),
            trusting(&tls, Some(&two)),
        );
        // Twice each: a client resumes what it may.
        for _ in 0..2 {
            for (config, name, good) in [
                (&nobody, "open.test", true),
                (&nobody, "one.test", false),
                (&of_one, "one.test", true),
                (&of_one, "two.test", false),
                (&of_two, "two.test", true),
                (&of_two, "one.test", false),
                (&of_one, "open.test", true),
            ] {
                let answer = ask(&workers, config, name, name).await;
                assert_eq!(answer.is_ok(), good, "{name}");
                if let Ok((text, kind)) = answer {
                    assert!(text.contains(&format!("GET {name} /")), "{text}");
                    let full = kind != Some(rustls::HandshakeKind::Resumed);
                    assert!(full || name == "open.test", "{name}");
                }
            }
        }
    }

    #[tokio::test]
    async fn new_authorities_count_from_the_next_handshake_on() {
        let dir = TempDir::new().unwrap();
        let mut tls = certificate(&dir.path().join("a"), &["one.test"]);
        let (ca, first) = client(dir.path(), "first");
        let (other, second) = client(dir.path(), "second");
        tls.clients = vec![ClientCertificates {
            hosts: Vec::new(),
            ca: ca.clone(),
            required: true,
        }];
        let bound = crate::proxy::serve::listen::Bound::open(&settings(&tls)).unwrap();
        let certificates = bound.certificates();
        let (workers, _) = crate::proxy::serve::testing::start_on(&settings(&tls), bound);
        let (of_first, of_second) = (trusting(&tls, Some(&first)), trusting(&tls, Some(&second)));
        let good = async |config| ask(&workers, config, "one.test", "one.test").await.is_ok();
        assert!(good(&of_first).await && !good(&of_second).await);
        fs::write(&ca, "nonsense").unwrap();
        assert!(matches!(certificates[0].reload(NOW), Reload::Refused(_)));
        assert!(good(&of_first).await && !good(&of_second).await);
        fs::copy(&other, &ca).unwrap();
        assert!(matches!(certificates[0].reload(NOW), Reload::Replaced));
        assert!(!good(&of_first).await && good(&of_second).await);
        assert!(matches!(certificates[0].reload(NOW), Reload::Unchanged));
    }
}
