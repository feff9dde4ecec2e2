//! What a TLS client believes, shows and remembers, and how it greets.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::task::Context;
use std::task::Poll;

use rustls::ClientConfig;
use rustls::NamedGroup;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::client::ClientSessionStore;
use rustls::client::Resumption;
use rustls::client::Tls12ClientSessionValue;
use rustls::client::Tls13ClientSessionValue;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client of TLS.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    roots: RootCertStore,
    name: ServerName<'static>,
    own: Option<(CertificateDer<'static>, Vec<u8>)>,
    /// With what it remembers: only the same client may use it again.
    kept: Option<Arc<ClientConfig>>,
    manner: Manner,
    named: bool,
}

/// How a client sends its greeting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// At once.
    Whole,
    /// Byte by byte.
    Bytes,
    /// In records of a few bytes.
    Records,
}

impl Trust {
    /// Believes one authority; asks for `app.test`.
    pub(crate) fn new(authority: &CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.clone())
            .expect("the authority of the run is a certificate");
        Self {
            roots,
            name: ServerName::try_from("app.test").expect("a good name"),
            own: None,
            kept: None,
            manner: Manner::Whole,
            named: true,
        }
    }

    /// The same belief of a client that asks for `name`, and may show a certificate.
    pub(crate) fn as_client(
        &self,
        name: &str,
        own: Option<&(CertificateDer<'static>, Vec<u8>)>,
    ) -> Self {
        Self {
            own: own.cloned(),
            ..self.named(name)
        }
    }

    /// The same client asks for another name.
    pub(crate) fn named(&self, name: &str) -> Self {
        Self {
            name: ServerName::try_from(name.to_owned()).expect("a good name"),
            ..self.clone()
        }
    }

    /// Asks for nobody.
    pub(crate) const fn says_no_name(&mut self) {
        self.named = false;
    }

    /// Greets so.
    pub(crate) const fn greets(&mut self, manner: Manner) {
        self.manner = manner;
    }

    /// Speaks this version alone, and remembers its sessions there.
    pub(crate) fn keeps(
        &mut self,
        tickets: &Arc<Tickets>,
        version: &'static SupportedProtocolVersion,
    ) {
        let store: Arc<dyn ClientSessionStore> = Arc::<Tickets>::clone(tickets);
        let mut config = self.config(&[version], b"http/1.1");
        config.resumption = Resumption::store(store);
        self.kept = Some(Arc::new(config));
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[u8]) -> ClientConfig {
        let builder = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                let own = builder.with_client_auth_cert(vec![certificate.clone()], key);
                own.expect("the key belongs to the certificate")
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = self.named;
        if self.manner == Manner::Records {
            config.max_fragment_size = Some(64);
        }
        config
    }

    /// TLS over a fresh connection.
    pub(super) async fn shake_hands(
        &self,
        plain: TcpStream,
        alpn: &[u8],
    ) -> Result<TlsStream<Dribble>, String> {
        let config = self.kept.clone().unwrap_or_else(|| {
            let all = [&rustls::version::TLS13, &rustls::version::TLS12];
            Arc::new(self.config(&all, alpn))
        });
        let slow = if self.manner == Manner::Bytes { 600 } else { 0 };
        let plain = Dribble { plain, slow };
        let connected = TlsConnector::from(config)
            .connect(self.name.clone(), plain)
            .await;
        connected.map_err(|e| format!("no TLS: {e}"))
    }
}

/// A connection whose first bytes go out one by one.
#[derive(Debug)]
pub(crate) struct Dribble {
    plain: TcpStream,
    slow: usize,
}

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.plain).poll_read(context, into)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = if self.slow == 0 { bytes.len() } else { 1 };
        let bytes = bytes.get(..most).unwrap_or(bytes);
        self.slow = self.slow.saturating_sub(1);
        Pin::new(&mut self.plain).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.plain).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.plain).poll_shutdown(context)
    }
}

/// What servers gave a client to be known by again, whoever gave it: shown to each alike.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    sessions: Mutex<Option<Tls12ClientSessionValue>>,
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *lock(&self.sessions) = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        lock(&self.sessions).clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *lock(&self.sessions) = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        lock(&self.tickets).push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        lock(&self.tickets).pop_front()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
