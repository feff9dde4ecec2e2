//! Calls to one provider over HTTP: bounded in time, size and number, and given up where the provider is down.
//!
//! The only place that speaks HTTP to a provider. It must never follow a redirect, and never turn an answer into a
//! judgement: that is the caller's.

mod ahead;
mod breaker;
mod call;
mod date;
mod endpoint;
mod failure;
#[cfg(feature = "ldap")]
mod guard;
mod pace;
mod trust;
mod uses;

pub(in crate::providers) use ahead::Ahead;
pub(in crate::providers) use breaker::Breaker;
pub(in crate::providers) use call::Answer;
pub(in crate::providers) use call::Call;
pub(in crate::providers) use date::Offset;
pub(in crate::providers) use endpoint::Endpoint;
pub(in crate::providers) use endpoint::InvalidEndpoint;
#[cfg(feature = "ldap")]
pub(in crate::providers) use guard::Guard;
pub(in crate::providers) use pace::Pace;
pub(in crate::providers) use trust::Trust;
pub(in crate::providers) use trust::TrustError;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tracing::debug;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Deps;
use crate::providers::ProviderError;
use crate::providers::client::breaker::Outcome;
use crate::providers::client::failure::Failure;
use crate::providers::settings;
use crate::telemetry::metrics;
use crate::telemetry::metrics::Circuit;
use crate::telemetry::metrics::Operation;

/// Connecting, TLS aside.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An idle connection is closed before the usual server closes it (5 s), so that a call does not meet a closing one.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// How long a call waits for room. Longer, and the client in front has gone.
pub(in crate::providers) const ROOM_WAIT: Duration = Duration::from_secs(1);

/// How many calls may wait, per call that may be under way.
const WAITING_PER_ROOM: usize = 4;

/// The wait before the first further try; it doubles with every try.
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two tries that we choose ourselves.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The client of one provider.
pub(in crate::providers) struct Client {
    provider: ProviderId,
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: settings::Client,
    room: Semaphore,
    waiting: Semaphore,
    pace: Option<Pace>,
    breaker: Breaker,
    ahead: Arc<Ahead>,
    /// Whether its breaker is the one that operators see of the provider.
    shown: bool,
    deps: Deps,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("provider", &self.provider)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `provider`.
    ///
    /// # Errors
    ///
    /// When its certificate authorities cannot be read.
    pub(in crate::providers) fn new(
        provider: ProviderId,
        settings: settings::Client,
        trust: &Trust,
        deps: &Deps,
    ) -> Result<Self, TrustError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(
                trust.client_config(settings.ca.as_deref(), settings.certificate.as_ref())?,
            )
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(settings.max_inflight)
            .build(connector);
        let waiting = settings.max_inflight.saturating_mul(WAITING_PER_ROOM);
        Ok(Self {
            ahead: Arc::new(Ahead::of(&provider, deps)),
            provider,
            pool,
            room: Semaphore::new(settings.max_inflight.min(Semaphore::MAX_PERMITS)),
            waiting: Semaphore::new(waiting.min(Semaphore::MAX_PERMITS)),
            pace: Pace::new(settings.rps, ROOM_WAIT),
            breaker: Breaker::new(settings.breaker.clone(), Arc::clone(&deps.clock)),
            settings,
            shown: true,
            deps: deps.clone(),
        })
    }

    /// A client on the side: nobody's login or request hangs on its breaker, which is not shown as the provider's.
    pub(in crate::providers) fn aside(mut self) -> Self {
        self.shown = false;
        // No token is judged by what it hears.
        self.ahead = Arc::new(Ahead::unknown(&self.deps.clock));
        self
    }

    /// How far the clock of whoever answers may be ahead of ours.
    pub(in crate::providers) const fn ahead(&self) -> &Arc<Ahead> {
        &self.ahead
    }

    /// Makes a call and reads its answer. What `read` makes of it counts for the breaker: a refusal is a healthy answer,
    /// an outage (such as [`Outage::Malformed`]) is not.
    ///
    /// # Errors
    ///
    /// An outage, or what `read` says.
    pub(in crate::providers) async fn call<T>(
        &self,
        call: &Call,
        read: impl FnOnce(Answer) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let began = Instant::now();
        let permit = match self.breaker.admit() {
            Ok(permit) => permit,
            Err(left) => return Err(Failure::Open(left).into()),
        };
        self.show_circuit();
        let (status, result) = match self.exchange(call, began).await {
            Ok(answer) => (Some(answer.status), read(answer)),
            Err(failure) => {
                self.note(call, &failure);
                (None, Err(failure.into()))
            }
        };
        permit.report(match call.operation {
            // Nobody's login or token hangs on it.
            Operation::Revoke => Outcome::Nothing,
            Operation::Discovery
            | Operation::Keys
            | Operation::Token
            | Operation::Introspect
            | Operation::Probe
            | Operation::Bind
            | Operation::Directory
            | Operation::Provision
            | Operation::Health => outcome(status, &result),
        });
        self.show_circuit();
        let (ended, took) = (ended(&result), began.elapsed());
        let metrics = &self.deps.metrics;
        metrics.provider_request(&self.provider, call.operation, ended, took);
        result
    }

    fn show_circuit(&self) {
        if self.shown {
            self.deps.metrics.circuit(&self.provider, self.circuit());
        }
    }

    /// The breaker's position.
    pub(in crate::providers) fn circuit(&self) -> Circuit {
        self.breaker.circuit()
    }

    /// Whether a background question would be of use.
    pub(in crate::providers) fn is_in_doubt(&self) -> bool {
        self.breaker.is_in_doubt()
    }

    /// Somebody relies on the provider without asking it.
    pub(in crate::providers) fn wonder(&self) {
        self.breaker.wonder();
    }

    /// Since when the breaker has been other than closed without one success.
    pub(in crate::providers) fn down_since(&self) -> Option<UnixTime> {
        self.breaker.down_since()
    }

    /// Whether its connections show a certificate of ours.
    pub(in crate::providers) const fn shows_certificate(&self) -> bool {
        self.settings.certificate.is_some()
    }

    /// The time of a whole call.
    pub(in crate::providers) const fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// A wait before the next try; see [`backoff`].
    pub(in crate::providers) fn backoff(
        &self,
        first: Duration,
        most: Duration,
        tries: u32,
    ) -> Duration {
        backoff(&*self.deps.entropy, first, most, tries)
    }

    /// One call: tries until there is an answer, the tries are used up or the time is over.
    async fn exchange(&self, call: &Call, began: Instant) -> Result<Answer, Failure> {
        let asked = self.settings.timeout;
        let most = call::longest(call.operation).map_or(asked, |most| most.min(asked));
        let deadline = began + most;
        let _room = self.enter(deadline).await?;
        let mut tries = 0;
        loop {
            // A further try is a call as well.
            if let Some(pace) = &self.pace {
                pace.turn(deadline).await.or(Err(Failure::Crowded))?;
            }
            let failure = match timeout_at(deadline, self.attempt(call)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Deadline,
            };
            if !call.repeatable || self.settings.retries <= tries || !failure.is_passing() {
                return Err(failure);
            }
            let own = self.backoff(BACKOFF, MAX_BACKOFF, tries);
            let wait = failure.retry_after().unwrap_or_default().max(own);
            if deadline.saturating_duration_since(Instant::now()) <= wait {
                return Err(failure);
            }
            self.note(call, &failure);
            sleep(wait).await;
            tries += 1;
        }
    }

    /// Room for one call: at once, or after a short wait in a line of bounded length.
    async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(room) = self.room.try_acquire() {
            return Ok(room);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Failure::Crowded);
        };
        let wait = ROOM_WAIT.min(deadline.saturating_duration_since(Instant::now()));
        match timeout(wait, self.room.acquire()).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(Failure::Crowded),
        }
    }

    /// One try.
    async fn attempt(&self, call: &Call) -> Result<Answer, Failure> {
        let request = call.request()?;
        let asked = self.deps.clock.now();
        let response = self.pool.request(request).await;
        let (head, body) = response.map_err(Failure::Transport)?.into_parts();
        if let Some(offset) = Offset::read(asked, self.deps.clock.now(), &head.headers) {
            let metrics = &self.deps.metrics;
            metrics.clock_skew(&self.provider, offset.seconds());
            self.ahead.heard(offset);
        }
        if let Some(failure) = Failure::of(head.status, &head.headers) {
            return Err(failure);
        }
        let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !head
            .headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .all(plain)
        {
            return Err(Failure::Encoded);
        }
        let body = match Limited::new(body, call::limit(call.operation))
            .collect()
            .await
        {
            Ok(body) => body.to_bytes(),
            Err(cause) if cause.is::<LengthLimitError>() => return Err(Failure::TooLong),
            Err(cause) => return Err(Failure::Body(cause)),
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    fn note(&self, call: &Call, failure: &Failure) {
        debug!(
            provider = self.provider.as_str(),
            operation = call.operation.as_str(),
            outage = failure.outage().as_str(),
            cause = ?failure,
            "A call to the provider failed."
        );
    }
}

/// A wait that doubles with `tries`, between half of it and all of it, so that many callers do not return at once.
fn backoff(entropy: &dyn Entropy, first: Duration, most: Duration, tries: u32) -> Duration {
    let whole = first.saturating_mul(2_u32.saturating_pow(tries)).min(most);
    let mut byte = [0];
    entropy.fill(&mut byte);
    let [byte] = byte;
    whole / 2 + whole.saturating_mul(u32::from(byte)) / 512
}

/// The label of a finished call.
const fn ended<T>(result: &Result<T, ProviderError>) -> metrics::Call {
    match result {
        Ok(_) => metrics::Call::Success,
        Err(ProviderError::Rejected(_)) => metrics::Call::Rejected,
        Err(ProviderError::Unavailable { .. }) => metrics::Call::Unavailable,
    }
}

/// What a call says about the provider's health.
fn outcome<T>(status: Option<StatusCode>, result: &Result<T, ProviderError>) -> Outcome {
    match result {
        Ok(_) | Err(ProviderError::Rejected(_)) => Outcome::Success,
        Err(ProviderError::Unavailable { outage, .. }) => match outage {
            // It is there, and has enough of us: a flood must not look like an outage.
            Outage::RateLimited => Outcome::Nothing,
            // We did not ask.
            Outage::Shed | Outage::CircuitOpen => Outcome::Nothing,
            // It answered well.
            Outage::TooSoon => Outcome::Nothing,
            // Some servers answer a strange question with 400 and a page of text.
            Outage::Malformed if status.is_some_and(|s| s.is_client_error()) => Outcome::Nothing,
            Outage::Malformed
            | Outage::Connect
            | Outage::Tls
            | Outage::Timeout
            | Outage::Http5xx
            | Outage::KeysUnavailable => Outcome::Failure,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Refusal;
    use crate::providers::fake::Fake;
    use crate::providers::fake::Reply;
    use crate::telemetry::metrics::Operation;

    fn settings() -> settings::Client {
        settings::Client::for_test()
    }

    fn client(settings: settings::Client) -> Client {
        let id = ProviderId::new("test");
        Client::new(id, settings, &Trust::of_system(), &Deps::for_test()).unwrap()
    }

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    async fn get(client: &Client, url: &str) -> Result<Answer, ProviderError> {
        client
            .call(&Call::get(Operation::Introspect, &endpoint(url)), Ok)
            .await
    }

    fn unavailable(outage: Outage) -> ProviderError {
        ProviderError::from(outage)
    }

    #[tokio::test]
    async fn an_answer_comes_whole_and_the_question_says_who_asks() {
        let fake = Fake::start().await;
        fake.always("/a", Reply::text(200, "hello"));
        let answer = get(&client(settings()), &fake.url("/a")).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &*answer.body),
            (200, &b"hello"[..])
        );
        let seen = fake.seen("/a").pop().unwrap();
        assert_eq!(seen.headers["user-agent"], "authferry");
        assert_eq!(seen.headers["accept-encoding"], "identity");
    }

    #[tokio::test]
    async fn a_provider_that_wants_a_certificate_gets_ours() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let (chain, key) = (
                dir.path().join(name),
                dir.path().join(format!("{name}.key")),
            );
            std::fs::write(&chain, own.cert.pem()).unwrap();
            std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
            (own, (chain, key))
        };
        let (server, (ca, _)) = make("localhost");
        let (ours, pair) = make("ferry");
        let (_, stranger) = make("stranger");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ours.cert.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![server.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(server.signing_key.serialize_der())
                    .unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer =
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                    let mut head = [0; 4_096];
                    drop(tokio::io::AsyncReadExt::read(&mut stream, &mut head).await);
                    drop(tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await);
                    drop(tokio::io::AsyncWriteExt::shutdown(&mut stream).await);
                });
            }
        });
        let url = format!("https://localhost:{port}/");
        for (certificate, let_in) in [(Some(pair), true), (Some(stranger), false), (None, false)] {
            let client = client(settings::Client {
                ca: Some(ca.clone()),
                certificate,
                retries: 0,
                ..settings()
            });
            assert_eq!(get(&client, &url).await.is_ok(), let_in);
        }
        serving.abort();
    }

    #[tokio::test]
    async fn every_answer_says_how_far_its_clock_is_from_ours() {
        let fake = Fake::start().await;
        let client = client(settings());
        // Our clock stands at 1 000 000, which is 13:46:40.
        for (date, shown) in [
            ("Mon, 12 Jan 1970 13:47:25 GMT", "45"),
            ("Mon, 12 Jan 1970 13:46:40 GMT", "0"),
            ("Mon, 12 Jan 1970 13:46:09 GMT", "-30"),
            ("yesterday", "-30"),
        ] {
            fake.next("/a", Reply::text(200, "hello").with("date", date));
            get(&client, &fake.url("/a")).await.unwrap();
            let text = client.deps.metrics.render().unwrap();
            let line = format!("authferry_clock_skew_seconds{{provider=\"test\"}} {shown}\n");
            assert!(text.contains(&line), "{date}: {text}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_only_where_that_does_no_harm() {
        let fake = Fake::start().await;
        for path in ["/get", "/post", "/busy"] {
            fake.always(path, Reply::text(200, "at last"));
        }
        fake.next("/get", Reply::text(503, ""));
        fake.next("/get", Reply::Cut);
        fake.next("/post", Reply::text(503, "").with("retry-after", "7"));
        let client = client(settings());
        assert!(get(&client, &fake.url("/get")).await.is_ok());
        let post = Call::post_form(
            Operation::Token,
            &endpoint(&fake.url("/post")),
            String::new(),
        );
        let refused = client.call(&post, Ok).await.unwrap_err();
        let retry_after = Some(Duration::from_secs(7));
        let outage = Outage::Http5xx;
        assert_eq!(
            refused,
            ProviderError::Unavailable {
                outage,
                retry_after
            }
        );
        assert_eq!((fake.seen("/get").len(), fake.seen("/post").len()), (3, 1));
    }

    #[tokio::test]
    async fn the_wait_doubles_up_to_its_end_and_no_two_callers_wait_alike() {
        let client = client(settings());
        for tries in 0..40 {
            let doubled = BACKOFF.as_millis() << tries.min(10);
            let whole = Duration::from_millis(u64::try_from(doubled).unwrap()).min(MAX_BACKOFF);
            let waits: std::collections::BTreeSet<_> = (0..500)
                .map(|_| client.backoff(BACKOFF, MAX_BACKOFF, tries))
                .collect();
            let (least, most) = (*waits.first().unwrap(), *waits.last().unwrap());
            assert!(whole / 2 <= least && most < whole, "{tries}: {waits:?}");
            // Over all of the upper half: of 500, somebody is in its first and in its last eighth.
            assert!(least < whole / 2 + whole / 16, "{tries}: {least:?}");
            assert!(whole - whole / 16 < most, "{tries}: {most:?}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_the_call_has_no_time_for_ends_it() {
        let fake = Fake::start().await;
        fake.always("/a", Reply::text(429, "").with("retry-after", "60"));
        let refused = get(&client(settings()), &fake.url("/a")).await.unwrap_err();
        let retry_after = Some(Duration::from_secs(60));
        let outage = Outage::RateLimited;
        assert_eq!(
            refused,
            ProviderError::Unavailable {
                outage,
                retry_after
            }
        );
        assert_eq!(fake.seen("/a").len(), 1);
    }

    #[tokio::test]
    async fn every_failure_is_one_kind_of_outage() {
        let mut gone = Fake::start().await;
        gone.stop().await;
        let fake = Fake::start().await;
        let large = "x".repeat(64 * 1024 + 1);
        fake.always("/large", Reply::text(200, &large));
        fake.always(
            "/zipped",
            Reply::text(200, "x").with("content-encoding", "gzip"),
        );
        fake.always("/cut", Reply::Cut);
        fake.always("/down", Reply::text(500, ""));
        let client = client(settings::Client {
            retries: 0,
            ..settings()
        });
        for (url, outage) in [
            (gone.url("/"), Outage::Connect),
            (fake.url("/large"), Outage::Malformed),
            (fake.url("/zipped"), Outage::Malformed),
            (fake.url("/cut"), Outage::Connect),
            (fake.url("/down"), Outage::Http5xx),
            (fake.url("/").replace("http://", "https://"), Outage::Tls),
        ] {
            assert_eq!(
                get(&client, &url).await.unwrap_err(),
                unavailable(outage),
                "{url}"
            );
        }
    }

    #[tokio::test]
    async fn a_certificate_of_a_stranger_is_a_tls_outage() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.is_ok()
        });
        let client = client(settings());
        let refused = get(&client, &format!("https://{address}/"))
            .await
            .unwrap_err();
        assert_eq!(refused, unavailable(Outage::Tls));
        assert!(!server.await.unwrap(), "and nothing was sent");
    }

    #[tokio::test]
    async fn a_silent_provider_is_given_up_after_the_time_of_the_whole_call() {
        // Requests wait for the answer of an introspection; a login may take what the configuration allows.
        for (operation, seconds) in [(Operation::Introspect, 5), (Operation::Token, 10)] {
            let fake = Fake::start().await;
            fake.always("/a", Reply::Hang);
            let client = client(settings());
            let call = Call::get(operation, &endpoint(&fake.url("/a")));
            // The clock is stopped once the question has arrived: from here only its time can end the call.
            let began = Instant::now();
            let stop = async {
                while fake.seen("/a").is_empty() {
                    tokio::task::yield_now().await;
                }
                tokio::time::pause();
            };
            let (refused, ()) = tokio::join!(client.call(&call, Ok), stop);
            assert_eq!(refused.unwrap_err(), unavailable(Outage::Timeout));
            let took = began.elapsed();
            tokio::time::resume();
            let limit = Duration::from_secs(seconds);
            assert!(
                limit <= took && took < limit + Duration::from_secs(1),
                "{operation:?}: {took:?}"
            );
        }
    }

    #[tokio::test]
    async fn redirects_are_answers() {
        let fake = Fake::start().await;
        fake.always("/a", Reply::text(302, "").with("location", &fake.url("/b")));
        let answer = get(&client(settings()), &fake.url("/a")).await.unwrap();
        assert_eq!(answer.status.as_u16(), 302);
        assert!(fake.seen("/b").is_empty());
    }

    #[tokio::test]
    async fn more_calls_than_there_is_room_for_are_shed() {
        let fake = Fake::start().await;
        fake.always("/a", Reply::Hang);
        let client = Arc::new(client(settings::Client {
            max_inflight: 1,
            ..settings()
        }));
        let url = fake.url("/a");
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..=WAITING_PER_ROOM {
            let (client, url) = (Arc::clone(&client), url.clone());
            calls.spawn(async move { get(&client, &url).await });
            tokio::task::yield_now().await;
        }
        assert_eq!(
            get(&client, &url).await.unwrap_err(),
            unavailable(Outage::Shed)
        );
        assert_eq!(client.circuit(), Circuit::Closed);
    }

    #[tokio::test]
    async fn an_open_breaker_asks_nothing_and_a_refusal_does_not_open_it() {
        let fake = Fake::start().await;
        fake.always("/no", Reply::text(200, ""));
        fake.always("/odd", Reply::text(400, ""));
        fake.always("/busy", Reply::text(429, ""));
        fake.always("/down", Reply::text(500, ""));
        let breaker = settings::Breaker {
            min_requests: 2,
            ..settings().breaker
        };
        let client = client(settings::Client {
            retries: 0,
            breaker,
            ..settings()
        });
        for _ in 0..10 {
            let no = Call::get(Operation::Introspect, &endpoint(&fake.url("/no")));
            let odd = Call::get(Operation::Introspect, &endpoint(&fake.url("/odd")));
            let refused = client
                .call(&no, |_| Err::<(), _>(Refusal::Inactive.into()))
                .await;
            assert_eq!(refused, Err(Refusal::Inactive.into()));
            let malformed = client
                .call(&odd, |_| Err::<(), _>(Outage::Malformed.into()))
                .await;
            assert_eq!(malformed, Err(Outage::Malformed.into()));
            get(&client, &fake.url("/busy")).await.unwrap_err();
        }
        assert_eq!(client.circuit(), Circuit::Closed);
        for _ in 0..10 {
            get(&client, &fake.url("/down")).await.unwrap_err();
        }
        assert_eq!(client.circuit(), Circuit::Open);
        let asked = fake.seen("/down").len();
        let refused = get(&client, &fake.url("/down")).await.unwrap_err();
        assert!(matches!(
            refused,
            ProviderError::Unavailable {
                outage: Outage::CircuitOpen,
                retry_after: Some(_)
            }
        ));
        assert_eq!(fake.seen("/down").len(), asked);
    }
}
