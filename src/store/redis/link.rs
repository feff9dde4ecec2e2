//! The connection to Redis: every call is cut after 250 ms; after 5 failures in one second none is made until a probe is
//! answered. A keeper connects, probes each 500 ms while something is wrong, and replaces a connection that hangs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::Client;
use redis::ConnectionAddr;
use redis::ErrorKind;
use redis::IntoConnectionInfo as _;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisResult;
use redis::TlsCertificates;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;
use tracing::info;
use tracing::warn;

use crate::store::StoreError;
use crate::store::circuit::Circuit;
use crate::store::settings::RedisSettings;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreOperation;

/// A call that is not answered after 250 ms is an outage. It may still happen.
const CALL: Duration = Duration::from_millis(250);
/// How often a server that is away is asked whether it is back: each 500 ms.
const PROBE: Duration = Duration::from_millis(500);
/// A connection is made within 1 s, or it is tried again.
const CONNECT: Duration = Duration::from_secs(1);

/// The one connection that all calls share, and what is known of its health.
pub(super) struct Link {
    client: Client,
    connection: watch::Sender<Option<MultiplexedConnection>>,
    circuit: Circuit,
    look: Notify,
    metrics: Arc<Metrics>,
}

impl Link {
    /// Connects in the background. Must be called on the background runtime.
    pub(super) fn start(
        settings: &RedisSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, RedisError> {
        let link = Arc::new(Self {
            client: client(settings)?,
            connection: watch::Sender::new(None),
            circuit: Circuit::default(),
            look: Notify::new(),
            metrics,
        });
        link.metrics.store_circuit(false);
        tokio::spawn(keep(Arc::downgrade(&link)));
        Ok(link)
    }

    /// For a subscription of its own.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Whether calls are answered without being made.
    pub(super) fn is_away(&self) -> bool {
        self.circuit.is_open()
    }

    /// Asks, for at most 250 ms. A moment without a connection is waited for within this time.
    pub(super) async fn call<T, F>(
        &self,
        ask: impl FnOnce(MultiplexedConnection) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        if self.circuit.is_open() {
            return Err(StoreError::Unavailable(String::from(
                "it failed, and is asked again when it answers a probe",
            )));
        }
        let mut connections = self.connection.subscribe();
        let asked = async {
            let connection = match connections.wait_for(Option::is_some).await {
                Ok(connection) => connection.clone(),
                Err(_) => None,
            };
            match connection {
                Some(connection) => ask(connection).await.map_err(|error| told(&error)),
                None => Err(StoreError::Unreachable(String::from("no connection"))),
            }
        };
        let answer = match timeout(CALL, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Timeout),
        };
        if let Err(error) = &answer
            && error.is_of_the_link()
        {
            self.look.notify_one();
            if self.circuit.failed(Instant::now()) {
                self.opened(&error.to_string());
            }
        }
        answer
    }

    fn opened(&self, why: &str) {
        self.metrics.store_circuit(true);
        warn!(
            why,
            "The store is away; requests that need it are answered 503."
        );
    }

    /// Whether the present connection answers, and why not.
    async fn answers(&self) -> Result<(), StoreError> {
        let connection = self.connection.borrow().clone();
        let Some(mut connection) = connection else {
            return Err(StoreError::Unreachable(String::from("no connection")));
        };
        let ping = redis::cmd("PING");
        let asked = ping.query_async::<()>(&mut connection);
        match timeout(CALL, asked).await {
            Ok(answer) => answer.map_err(|error| told(&error)),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    async fn connect(&self) -> Result<(), StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let connection = match timeout(CONNECT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(told(&error)),
            Err(_) => return Err(StoreError::Timeout),
        };
        self.connection.send_replace(Some(connection));
        if let Err(error) = self.answers().await {
            self.connection.send_replace(None);
            return Err(error);
        }
        if self.circuit.closes() {
            self.metrics.store_circuit(false);
            info!("The store is back.");
        }
        Ok(())
    }

    /// One look: a connection that does not answer is replaced; `false`: there is none.
    async fn look(&self) -> bool {
        if self.answers().await.is_ok() {
            if self.circuit.closes() {
                self.metrics.store_circuit(false);
                info!("The store is back.");
            }
            return true;
        }
        self.connection.send_replace(None);
        match self.connect().await {
            Ok(()) => true,
            Err(error) => {
                self.metrics
                    .store_error(StoreOperation::Connect, error.reason());
                if self.circuit.opens() {
                    self.opened(&error.to_string());
                }
                false
            }
        }
    }
}

/// Looks after the connection until the store is dropped.
async fn keep(link: Weak<Link>) {
    let mut well = false;
    loop {
        let Some(held) = link.upgrade() else {
            return;
        };
        if well {
            // A quiet server is looked at as well: its silence must be known before somebody asks.
            drop(timeout(PROBE, held.look.notified()).await);
        }
        let began = Instant::now();
        well = held.look().await;
        drop(held);
        if !well {
            tokio::time::sleep_until(began + PROBE).await;
        }
    }
}

fn client(settings: &RedisSettings) -> Result<Client, RedisError> {
    let (host, port) = (settings.host.clone(), settings.port);
    let address = match settings.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let mut login = RedisConnectionInfo::default()
        .set_db(i64::from(settings.database))
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password.expose());
    }
    let info = address.into_connection_info()?.set_redis_settings(login);
    match &settings.tls {
        None => Client::open(info),
        Some(ca) => Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls: None,
                root_cert: ca.clone(),
            },
        ),
    }
}

/// What an error of the library is to us. Its text may name keys; what we say names none.
fn told(error: &RedisError) -> StoreError {
    let code = error.code().unwrap_or_default();
    match code {
        "OOM" => return StoreError::Full(String::from("its memory is used up (OOM)")),
        "READONLY" => return StoreError::ReadOnly,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => return StoreError::Denied(code.to_owned()),
        _ => {}
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return StoreError::Denied(String::from("WRONGPASS"));
    }
    if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
        return StoreError::Unreachable(error.category().to_owned());
    }
    let what = if code.is_empty() {
        error.category()
    } else {
        code
    };
    StoreError::Unavailable(what.to_owned())
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("circuit", &self.circuit)
            .finish_non_exhaustive()
    }
}
