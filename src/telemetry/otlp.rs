//! Spans of sampled requests, on their way to a collector (OTLP over HTTP, protobuf).
//!
//! A thread of its own gathers and sends; a collector that is slow or away costs spans, counted, and never a request.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::thread::Thread;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use opentelemetry_http::HttpClient;
use opentelemetry_http::HttpError;
use opentelemetry_otlp::Protocol;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_otlp::WithHttpConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_sdk::trace::SpanLinks;
use tokio::runtime::Handle;
use tracing::warn;

use crate::clock::UnixTime;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::Shed;
use crate::telemetry::trace::TraceContext;

/// Spans that may wait; what comes on top is dropped and counted.
const QUEUE: usize = 2_048;

/// Spans in one request to the collector.
const BATCH: usize = 512;

/// How long spans gather after the first one.
const GATHER: Duration = Duration::from_secs(1);

/// How long the collector may take, retries included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer of a collector that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// One span: a request to us, from its head to the end of the answer, or a part of that, if its trace is sampled.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// The trace, this span and its parent.
    pub(crate) context: TraceContext,
    /// Whether it is a part of what one of our spans tells of, not a request by itself.
    pub(crate) part: bool,
    /// What was done, of few words: the method and the application, such as `GET crm`.
    pub(crate) name: String,
    /// When it began.
    pub(crate) start: UnixTime,
    /// How long it took.
    pub(crate) took: Duration,
    /// What is to be said about it; no subject, address or credential.
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// Why it failed, as a constant word.
    pub(crate) error: Option<&'static str>,
}

/// A value of an attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The address of the collector is none, or an `OTEL_EXPORTER_OTLP_…` variable contradicts.
    #[error("the exporter of traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The thread cannot be started.
    #[error("the thread of the trace exporter: {0}")]
    Thread(#[from] io::Error),
    /// TLS cannot be set up.
    #[error("TLS for the trace exporter: {0}")]
    Tls(#[from] rustls::Error),
}

/// The way to the collector.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    shared: Arc<Shared>,
    /// Ends the thread when the last clone goes.
    _owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().stop = true;
        self.0.wake();
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    thread: std::sync::OnceLock<Thread>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Queue {
    spans: Vec<SpanData>,
    flushes: Vec<SyncSender<()>>,
    stop: bool,
}

impl Traces {
    /// Starts the thread. Calls run on `runtime`, which must not be a worker's.
    ///
    /// # Errors
    ///
    /// When the endpoint is no URL.
    pub(crate) fn start(
        endpoint: &str,
        runtime: Handle,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TraceError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Transport::new()?)
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()?;
        exporter.set_resource(
            &Resource::builder_empty()
                .with_attributes([
                    KeyValue::new("service.name", "authferry"),
                    KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                ])
                .build(),
        );
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            thread: std::sync::OnceLock::new(),
            metrics,
        });
        let theirs = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("traces".into())
            .spawn(move || theirs.run(&exporter, &runtime))?;
        shared.thread.get_or_init(|| handle.thread().clone());
        shared.wake();
        Ok(Self {
            _owner: Arc::new(Owner(Arc::clone(&shared))),
            shared,
        })
    }

    /// Hands a span over, if its trace is sampled. Never waits for the collector.
    pub(crate) fn record(&self, span: Span) {
        if !span.context.is_sampled() {
            return;
        }
        let mut queue = self.shared.lock();
        if QUEUE <= queue.spans.len() {
            drop(queue);
            self.shared.metrics.shed(Shed::Trace, 1);
            return;
        }
        queue.spans.push(export_form(span));
        let news = queue.spans.len() == 1 || queue.spans.len() == BATCH;
        drop(queue);
        if news {
            self.shared.wake();
        }
    }

    /// Waits until the spans from before have left, at most `patience`. Blocks: not for a worker.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = mpsc::sync_channel(1);
        self.shared.lock().flushes.push(done);
        self.shared.wake();
        wait.recv_timeout(patience).is_ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, exporter: &opentelemetry_otlp::SpanExporter, runtime: &Handle) {
        let mut trouble = false;
        loop {
            thread::park();
            let queue = self.lock();
            let hurry = queue.stop || !queue.flushes.is_empty() || BATCH <= queue.spans.len();
            drop(queue);
            if !hurry {
                thread::park_timeout(GATHER);
            }
            let Queue {
                mut spans,
                flushes,
                stop,
            } = std::mem::take(&mut *self.lock());
            while !spans.is_empty() {
                let rest = spans.split_off(spans.len().min(BATCH));
                let batch = std::mem::replace(&mut spans, rest);
                let lost = batch.len() as u64;
                match runtime.block_on(exporter.export(batch)) {
                    Ok(()) => trouble = false,
                    Err(error) => {
                        self.metrics.shed(Shed::Trace, lost);
                        if !trouble {
                            warn!(%error, "Spans cannot be exported and are dropped.");
                        }
                        trouble = true;
                    }
                }
            }
            for done in flushes {
                // An error says that nobody waits any more: then nobody needs to know.
                let _told = done.try_send(());
            }
            if stop {
                return;
            }
        }
    }
}

fn export_form(span: Span) -> SpanData {
    let context = span.context;
    let trace_id = TraceId::from_bytes(context.trace_id());
    let span_id = SpanId::from_bytes(context.span_id());
    let parent = context.parent_id();
    let start = moment(span.start);
    SpanData {
        span_context: SpanContext::new(
            trace_id,
            span_id,
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: parent.is_some() && !span.part,
        span_kind: if span.part {
            SpanKind::Internal
        } else {
            SpanKind::Server
        },
        name: span.name.into(),
        start_time: start,
        end_time: start.checked_add(span.took).unwrap_or(start),
        attributes: span
            .attributes
            .into_iter()
            .map(|(name, value)| match value {
                Value::Number(number) => KeyValue::new(name, number),
                Value::Text(text) => KeyValue::new(name, text),
            })
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match span.error {
            None => Status::Unset,
            Some(error) => Status::error(error),
        },
        instrumentation_scope: InstrumentationScope::builder("authferry").build(),
    }
}

fn moment(time: UnixTime) -> SystemTime {
    let since = Duration::from_millis(time.as_millis());
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// The exporter's way to speak HTTP: hyper, on the runtime that the thread blocks on. The client that the exporter would
/// bring has no reactor on such a thread, and would fail silently.
struct Transport(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Transport {
    fn new() -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let call = async {
            let answer = self.0.request(request.map(Full::new)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, call).await?
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::UnboundedReceiver;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::clock::SystemClock;
    use crate::entropy::SystemEntropy;
    use crate::telemetry::trace::Tracer;

    const LONG: Duration = Duration::from_secs(20);

    /// A collector that passes on what it gets and answers with `status`.
    async fn collector(status: u16) -> (SocketAddr, UnboundedReceiver<(String, Bytes)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (send, receive) = unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let send = send.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let send = send.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap();
                        drop(send.send((path, body.to_bytes())));
                        let answer = Response::builder().status(status);
                        Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap())
                    }
                });
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(served);
            }
        });
        (address, receive)
    }

    fn metrics() -> Arc<Metrics> {
        Metrics::new(Arc::new(SystemClock), 100)
    }

    fn span(permille: u32) -> Span {
        Span {
            context: Tracer::new(SystemEntropy, permille).context(None),
            part: false,
            name: "GET crm".into(),
            start: UnixTime::from_secs(1_700_000_000),
            took: Duration::from_millis(3),
            attributes: vec![
                ("http.response.status_code", Value::Number(200)),
                ("authferry.provider", Value::Text("modern".into())),
            ],
            error: None,
        }
    }

    async fn flush(traces: &Traces) -> bool {
        let traces = traces.clone();
        tokio::task::spawn_blocking(move || traces.flush(LONG))
            .await
            .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sampled_span_reaches_the_collector_and_others_do_not() {
        let (address, mut received) = collector(200).await;
        let endpoint = format!("http://{address}/v1/traces");
        let traces = Traces::start(&endpoint, Handle::current(), metrics()).unwrap();
        traces.record(span(0));
        assert!(flush(&traces).await);
        assert!(received.try_recv().is_err());

        let sampled = span(1_000);
        let id = sampled.context.trace_id();
        traces.record(sampled);
        assert!(flush(&traces).await);
        let (path, body) = received.try_recv().unwrap();
        assert_eq!(path, "/v1/traces");
        for part in [&id[..], b"GET crm", b"authferry", b"modern"] {
            assert!(
                body.windows(part.len()).any(|window| window == part),
                "{part:?}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_that_no_collector_takes_are_counted() {
        let (address, _received) = collector(400).await;
        let metrics = metrics();
        let endpoint = format!("http://{address}/v1/traces");
        let traces = Traces::start(&endpoint, Handle::current(), Arc::clone(&metrics)).unwrap();
        traces.record(span(1_000));
        assert!(flush(&traces).await);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"authferry_shed_total{reason="trace"} 1"#),
            "{text}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_queue_drops_and_never_waits() {
        // Takes the connection, and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", silent.local_addr().unwrap());
        let metrics = metrics();
        let traces = Traces::start(&endpoint, Handle::current(), Arc::clone(&metrics)).unwrap();
        for _ in 0..4 * QUEUE {
            traces.record(span(1_000));
        }
        assert!(traces.shared.lock().spans.len() <= QUEUE);
        assert!(metrics.render().unwrap().contains(r#"reason="trace""#));
    }
}
