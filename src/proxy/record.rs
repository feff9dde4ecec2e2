//! What is remembered of a request until its answer has ended: for the access log and the counters.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use tokio::time::Instant;

use crate::auth::Admitted;
use crate::auth::Told;
use crate::control::Answered;
use crate::control::Departure;
use crate::control::Ours;
use crate::proxy::again::Brought;
use crate::proxy::again::Reader;
use crate::proxy::body::Ended;
use crate::proxy::body::OnEnd;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::client_body::Progress;
use crate::proxy::patrol::Ticket;
use crate::proxy::settings::App;
use crate::proxy::settings::Route;
use crate::proxy::upstream::AnswerFault;
use crate::proxy::upstream::ConnectError;
use crate::proxy::upstream::SendError;
use crate::proxy::verdicts::Verdict;
use crate::proxy::worker::View;
use crate::proxy::worker::Worker;
use crate::telemetry::AccessLine;
use crate::telemetry::Pseudonym;
use crate::telemetry::Span;
use crate::telemetry::TraceContext;
use crate::telemetry::Value;
use crate::telemetry::metrics::AppIndex;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::TunnelEnd;
use crate::telemetry::metrics::UpstreamError;
use crate::telemetry::put_hex;

/// One request, as it will be logged.
pub(crate) struct Record {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Rc<View>,
    pub(super) began: Instant,
    pub(super) request_id: RequestId,
    pub(super) trace: TraceContext,
    pub(super) client: Option<Pseudonym>,
    pub(super) app: Option<usize>,
    /// Its route, whoever answers in the end.
    pub(super) route: Option<u16>,
    pub(super) request: Option<CanonicalRequest>,
    pub(super) version: http::Version,
    pub(super) status: u16,
    pub(super) sent: Progress,
    pub(super) verdict: Option<Rc<Verdict>>,
    /// Who judged, or will, where there is no verdict.
    pub(super) told: Option<Box<Told>>,
    /// The journey that begins with the answer, once the client has it.
    pub(super) departure: Option<Departure>,
    /// Who it is, where that is known and not enough.
    pub(super) known: Option<Pseudonym>,
    pub(super) error: Option<&'static str>,
    /// The nonce for the client's next proofs of possession.
    pub(super) nonce: Option<HeaderValue>,
    /// What a client of the old side is told beside its 401.
    pub(super) beside: Vec<(HeaderName, HeaderValue)>,
    /// Our session cookie, which the browser is to have from now on.
    pub(super) keeps: Option<HeaderValue>,
    /// The route, and the place of the origin that answered in its target.
    pub(super) answered: Option<(usize, usize)>,
    /// What the request brought, where somebody in particular was let in: for as long as its answer is open.
    pub(super) brought: Cell<Option<Brought>>,
}

/// Our name for a request: 16 random hex digits, also the reference on error pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId([u8; 16]);

impl RequestId {
    /// From the span of the request, so that a log line and a trace find each other.
    pub(crate) fn of(trace: &TraceContext) -> Self {
        let mut text = [0; 16];
        put_hex(&mut text, &trace.span_id());
        Self(text)
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Record {
    /// The application, for the counters.
    pub(super) fn app_index(&self) -> Option<AppIndex> {
        self.app.map(AppIndex)
    }
}

impl Record {
    /// An origin of the route's target answered.
    pub(super) const fn answered_by(&mut self, route: usize, origin: usize) {
        self.answered = Some((route, origin));
    }

    /// The upstream gave no answer; nothing is counted when it was the client's fault.
    pub(super) fn upstream_failed(&self, error: &SendError) {
        let kind = match error {
            SendError::Head(_) | SendError::ClientBody(_) => return,
            SendError::Busy => UpstreamError::NoOrigin,
            SendError::Connect(ConnectError::Tls(_)) => UpstreamError::Tls,
            SendError::Connect(ConnectError::Unresolved(_)) => UpstreamError::NoOrigin,
            SendError::Connect(ConnectError::Io(_) | ConnectError::Protocol(_)) => {
                UpstreamError::Connect
            }
            SendError::Connect(ConnectError::Timeout) | SendError::ConnectTimeout => {
                UpstreamError::Connect
            }
            SendError::Timeout => UpstreamError::Timeout,
            SendError::Broken(_) => UpstreamError::Reset,
            SendError::BadAnswer(AnswerFault::Handshake) => UpstreamError::Upgrade,
            SendError::BadAnswer(_) => UpstreamError::Protocol,
        };
        if let Some(app) = self.app_index() {
            self.view.metrics.upstream_error(app, kind);
        }
    }

    fn span(&self, took: Duration) -> Span {
        let app = self
            .app
            .and_then(|app| self.view.snapshot.apps.get(app))
            .map_or("none", |app| app.settings.id.as_str());
        let method = self
            .request
            .as_ref()
            .map_or("-", |request| request.method().as_str());
        let text = |text: &str| Value::Text(text.to_owned());
        let mut attributes = vec![
            ("http.request.method", text(method)),
            (
                "http.response.status_code",
                Value::Number(self.status.into()),
            ),
            ("authferry.app", text(app)),
            ("authferry.request_id", text(self.request_id.as_str())),
        ];
        if let Some(verdict) = &self.verdict {
            attributes.push((
                "authferry.provider",
                text(verdict.admitted.provider().as_str()),
            ));
            attributes.push((
                "authferry.credential",
                text(verdict.admitted.class().as_str()),
            ));
        }
        Span {
            context: self.trace,
            part: false,
            name: format!("{method} {app}"),
            start: self.worker.now() - took,
            took,
            attributes,
            error: self.error,
        }
    }
}

impl Record {
    /// Counts what was decided here, and what the application answered. What neither of us answered is an outage.
    fn observe(&self, app: &App) {
        let path = self.request.as_ref().map_or("/", CanonicalRequest::path);
        let asked = self.answered.is_some();
        if path.starts_with("/.authferry/") || (!asked && 500 <= self.status) {
            return;
        }
        let admitted = self.verdict.as_ref().map(|verdict| &verdict.admitted);
        let refused = self.told.as_ref().and_then(|told| told.credential);
        let route = self.route.map(usize::from);
        let route = route.and_then(|route| app.routes.get(route));
        self.worker.surface.saw(&Answered {
            app: &app.id,
            path,
            route: route.map(Route::name).as_deref(),
            class: admitted.map(Admitted::class).or(refused),
            client: admitted.and_then(|admitted| admitted.identity().client_id.as_deref()),
            ours: match (admitted, asked) {
                (Some(_), _) => Ours::Admitted,
                (None, true) => Ours::Anonymous,
                (None, false) => Ours::Refused,
            },
            theirs: asked.then_some(self.status),
            now: self.worker.now(),
        });
    }

    /// Says why what is open because of this request must end: asked as long as it is open.
    pub(super) fn over(&self) -> impl Fn() -> Option<TunnelEnd> + 'static {
        let reader = Reader::of(self);
        move || reader.over()
    }

    /// The fields of the request, which nobody else needs any more.
    pub(super) fn keep_fields(&mut self, headers: &mut HeaderMap) {
        if let Some(brought) = self.brought.get_mut() {
            brought.headers = std::mem::take(headers);
        }
    }
}

// In a box: an answer is moved a dozen times on its way to the client.
impl OnEnd for Box<Record> {
    fn watch(&self, waker: &Waker) -> Option<Ticket> {
        // Nobody in particular cannot be put out.
        self.verdict.as_ref()?;
        let over = Box::new(self.over());
        Some(self.worker.patrol.watch(over, waker))
    }

    fn cut(&mut self, why: TunnelEnd) {
        self.error.get_or_insert(why.as_str());
        self.view.metrics.tunnel_closed(why);
    }

    fn end(self, bytes: u64, ended: Ended) {
        let took = self.began.elapsed();
        if let (Some(departure), Ended::Complete) = (&self.departure, ended) {
            departure.is_told();
        }
        self.view
            .metrics
            .request(self.app_index(), self.status, took);
        if let Some(traces) = self
            .worker
            .traces
            .as_ref()
            .filter(|_| self.trace.is_sampled())
        {
            traces.record(self.span(took));
        }
        let snapshot = &self.view.snapshot;
        let app = self.app.and_then(|app| snapshot.apps.get(app));
        if let Some(app) = app.filter(|app| app.observed) {
            self.observe(&app.settings);
        }
        // Whoever got an answer of ours may ask about it.
        let ours = self.answered.is_none() && 400 <= self.status;
        if !ours && !self.worker.access.is_on() {
            return;
        }
        let admitted = self.verdict.as_ref().map(|verdict| &verdict.admitted);
        let told = self.told.as_ref().filter(|_| admitted.is_none());
        let error = self.error.or(match ended {
            Ended::Complete => None,
            Ended::Aborted => Some("aborted"),
        });
        let line = AccessLine {
            at: self.worker.now(),
            request_id: self.request_id.as_str(),
            trace: Some(&self.trace),
            client: self.client,
            app: app.map(|app| &app.settings.id),
            method: self
                .request
                .as_ref()
                .map_or("-", |request| request.method().as_str()),
            path: self.request.as_ref().map_or("-", CanonicalRequest::path),
            version: self.version,
            status: self.status,
            bytes_in: self.sent.received(),
            bytes_out: bytes,
            took,
            provider: match admitted {
                Some(admitted) => Some(admitted.provider()),
                None => told.and_then(|told| told.provider.as_ref()),
            },
            arm: match admitted {
                Some(admitted) => admitted.arm(),
                None => told.and_then(|told| told.arm),
            },
            rule: match admitted {
                Some(admitted) => Some(admitted.rule()),
                None => told.and_then(|told| told.rule.as_deref()),
            },
            mark: app
                .zip(admitted)
                .and_then(|(app, admitted)| app.policy.mark(admitted)),
            credential: match admitted {
                Some(admitted) => Some(admitted.class()),
                None => told.and_then(|told| told.credential),
            },
            attempt: match admitted {
                Some(_) => Some(Attempt::Success),
                None => told.and_then(|told| told.attempt),
            },
            error,
            subject: match &self.verdict {
                Some(verdict) => Some(verdict.pseudonym),
                None => told.and_then(|told| told.subject),
            },
            kept: self.verdict.as_deref().map(|verdict| &verdict.line),
            upstream: app
                .zip(self.answered)
                .and_then(|(app, (route, origin))| app.target_of(route).label(origin)),
            revision: &snapshot.revision,
        };
        if ours {
            self.worker.access.write_and_remember(&line);
        } else {
            self.worker.access.write(&line);
        }
    }
}
