//! One request: judged once, by one snapshot, and forwarded as it was judged.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::header;
use tokio::time::Instant;

use crate::auth;
use crate::auth::Answer;
use crate::auth::AuthError;
use crate::auth::Presented;
use crate::auth::Reach;
use crate::auth::TurnedAway;
use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::HeaderScope;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::proxy::body::ResponseBody;
use crate::proxy::canonical::BadRequest;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::canonical::canonicalise;
use crate::proxy::client_address::client_address;
use crate::proxy::client_address::is_trusted;
use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Conn;
use crate::proxy::forward::Passage;
use crate::proxy::forward::forward;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::record::Record;
use crate::proxy::record::RequestId;
use crate::proxy::respond;
use crate::proxy::respond::Fault;
use crate::proxy::route::Routed;
use crate::proxy::serve::Handler;
use crate::proxy::settings::Access;
use crate::proxy::settings::OnUnauthenticated;
use crate::proxy::settings::Require;
use crate::proxy::snapshot::AppEntry;
use crate::proxy::upgrade::Handshake;
use crate::proxy::verdicts::Digest;
use crate::proxy::verdicts::Verdict;
use crate::proxy::websocket;
use crate::proxy::worker::View;
use crate::proxy::worker::Worker;
use crate::proxy::worker::WorkerParts;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::telemetry::Decision;
use crate::telemetry::DecisionRecord;
use crate::telemetry::metrics::AppIndex;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::Cache;
use crate::telemetry::metrics::Flow;
use crate::telemetry::metrics::Lookup;

/// The address of our public keys, under every host.
const JWKS_PATH: &str = "/.authferry/jwks.json";

/// Answers the requests of one worker.
pub(crate) struct Service(Rc<Worker>);

/// The answer that hyper gets.
pub(super) type Reply = Response<ResponseBody<ClientBody, Record>>;

impl Service {
    /// A service on the present thread.
    pub(crate) fn start(parts: WorkerParts) -> Rc<Self> {
        Rc::new(Self(Rc::new(Worker::new(parts))))
    }
}

impl Handler for Service {
    type Body = ResponseBody<ClientBody, Record>;

    fn handle(self: Rc<Self>, conn: Rc<Conn>, request: Request<ClientBody>) -> impl Future<Output = Reply> + 'static {
        serve(Rc::clone(&self.0), conn, request)
    }
}

/// What is known of a request once it has one meaning.
struct Asked<'a> {
    view: &'a Rc<View>,
    app: usize,
    entry: &'a AppEntry,
    request: &'a CanonicalRequest,
    headers: &'a HeaderMap,
    address: IpAddr,
    peer: IpAddr,
    kill: KillPosition,
    now: UnixTime,
}

/// Who goes on to the application.
enum Admission {
    /// Nobody in particular.
    Anonymous,
    /// Somebody, with what the application is told.
    Known(Rc<Verdict>),
}

/// Who does not.
enum Turned {
    Fault(Fault),
    Page(Box<Response<Bytes>>),
}

async fn serve(worker: Rc<Worker>, conn: Rc<Conn>, request: Request<ClientBody>) -> Reply {
    let (view, now) = (worker.view(), worker.now());
    let (parts, body) = request.into_parts();
    let trace = worker.tracer.context(parts.headers.get("traceparent").map(HeaderValue::as_bytes));
    let mut record = Record {
        began: Instant::now(),
        request_id: RequestId::of(&trace),
        trace,
        client: None,
        app: None,
        request: None,
        version: parts.version,
        status: 0,
        sent: body.progress(),
        verdict: None,
        refused: None,
        error: None,
        kill: KillPosition::Off,
        worker: Rc::clone(&worker),
        view: Rc::clone(&view),
    };
    let snapshot = &*view.snapshot;
    let request = match canonicalise(&parts, &conn, &snapshot.server.limits) {
        Ok(request) => record.request.insert(request).clone(),
        Err(bad) => return fault(&bad.into(), &parts.headers, &conn, record),
    };
    let address = match client_address(conn.peer(), &parts.headers, &snapshot.server.trusted_proxies) {
        Ok(address) => address,
        Err(bad) => return fault(&bad.into(), &parts.headers, &conn, record),
    };
    record.client = Some(if address == conn.peer().ip() {
        conn.pseudonym(&worker.pseudonyms)
    } else {
        worker.pseudonyms.of_address(address)
    });
    let routed = snapshot.router.route(&request);
    let app = match routed {
        Routed::NoApp => return fault(&Fault::UnknownHost, &parts.headers, &conn, record),
        Routed::NoRoute { app } | Routed::TwoReadings { app } | Routed::To { app, .. } => app,
    };
    record.app = Some(app);
    let Some(entry) = snapshot.apps.get(app) else {
        return fault(&Fault::Internal, &parts.headers, &conn, record);
    };
    let asked = Asked {
        view: &view,
        app,
        entry,
        request: &request,
        headers: &parts.headers,
        address,
        peer: conn.peer().ip(),
        kill: entry.policy.kill(&worker.kill.current()),
        now,
    };
    record.kill = asked.kill;
    // Our own addresses come before routes: an application cannot shadow them.
    if request.path().starts_with("/.authferry/") {
        return match Box::pin(own_address(&worker, &asked)).await {
            Some(response) => page(response, &conn, record),
            None => fault(&Fault::Forbidden, &parts.headers, &conn, record),
        };
    }
    let route = match routed {
        Routed::To { route, .. } => route,
        Routed::TwoReadings { .. } => return fault(&Fault::BadRequest, &parts.headers, &conn, record),
        Routed::NoApp | Routed::NoRoute { .. } => return fault(&Fault::Forbidden, &parts.headers, &conn, record),
    };
    let admission = admission(&worker, &asked, route, &mut record).await;
    let nobody = IdentityHeaders::none();
    let identity = match &admission {
        Ok(Admission::Anonymous) => &nobody,
        Ok(Admission::Known(verdict)) => {
            record.verdict = Some(Rc::clone(verdict));
            &verdict.headers
        }
        Err(Turned::Fault(why)) => return fault(why, &parts.headers, &conn, record),
        Err(Turned::Page(response)) => {
            let response = Response::clone(response);
            return page(response, &conn, record);
        }
    };
    let trusted = is_trusted(conn.peer().ip(), &snapshot.server.trusted_proxies);
    let class = record.verdict.as_ref().map(|verdict| verdict.admitted.class());
    let handshake = match handshake(&worker, &asked, parts.version, route, class) {
        Ok(handshake) => handshake,
        Err(why) => return fault(&why, &parts.headers, &conn, record),
    };
    let passage = Passage { app: entry, route, trusted, identity, handshake };
    forward(&conn, parts, body, &request, &passage, record).await
}

/// A checked handshake, if the client asks for a WebSocket and the route lets it pass.
fn handshake(
    worker: &Worker,
    asked: &Asked<'_>,
    version: http::Version,
    route: usize,
    class: Option<CredentialClass>,
) -> Result<Option<Handshake>, Fault> {
    let allowed = asked.entry.settings.routes.get(route).is_some_and(|route| route.websocket);
    if !allowed || !websocket::may_be_one(asked.request, asked.headers) {
        return Ok(None);
    }
    let extended = asked.request.extended_connect();
    let method = asked.request.method();
    let read = Handshake::read(method, version, asked.headers, extended, &*worker.entropy)?;
    if read.is_some() && websocket::is_foreign(asked.headers, asked.request, class) {
        return Err(Fault::Forbidden);
    }
    Ok(read)
}

/// Answers an address of ours.
async fn own_address(worker: &Worker, asked: &Asked<'_>) -> Option<Response<Bytes>> {
    if asked.request.path() == JWKS_PATH {
        let mut response = Response::new(Bytes::from(worker.assertions.jwks().to_string()));
        respond::secure(response.headers_mut());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
        return Some(response);
    }
    let logins = &asked.view.snapshot.logins;
    let endpoint = logins.endpoint(asked.request.path())?;
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    Some(logins.serve(&asked.entry.policy, &endpoint, &request, asked.kill, asked.now).await)
}

/// Who goes on, by what the route asks and the client presents.
async fn admission(worker: &Worker, asked: &Asked<'_>, route: usize, record: &mut Record) -> Result<Admission, Turned> {
    match asked.kill {
        KillPosition::Deny => return Err(turned(&AuthError::Closed, asked)),
        KillPosition::Off | KillPosition::Freeze | KillPosition::Legacy | KillPosition::Modern => {}
    }
    let Some(route) = asked.entry.settings.routes.get(route) else {
        return Err(Turned::Fault(Fault::Internal));
    };
    if route.access == Access::Public {
        return Ok(Admission::Anonymous);
    }
    let presented = match auth::extract(asked.headers, asked.entry.policy.owners(), &route.credentials) {
        Ok(presented) => presented,
        Err(why) => return Err(Box::pin(turn_away(worker, asked, route.on_unauthenticated, Some(&why), record)).await),
    };
    let Some(presented) = presented else {
        return match route.access {
            Access::Public | Access::Optional => Ok(Admission::Anonymous),
            Access::Required => Err(Box::pin(turn_away(worker, asked, route.on_unauthenticated, None, record)).await),
        };
    };
    match verdict(worker, asked, &presented).await {
        Ok(verdict) if fulfils(&route.require, &verdict, asked.address) => Ok(Admission::Known(verdict)),
        Ok(verdict) => {
            let admitted = &verdict.admitted;
            let why = AuthError::Forbidden {
                refusal: Refusal::Policy,
                provider: admitted.provider().clone(),
                class: admitted.class(),
            };
            Err(Box::pin(turn_away(worker, asked, OnUnauthenticated::Unauthorized, Some(&why), record)).await)
        }
        Err(why) => Err(Box::pin(turn_away(worker, asked, route.on_unauthenticated, Some(&why), record)).await),
    }
}

/// The verdict about a credential: kept from an earlier request, or reached now.
///
/// What does not happen in most requests has its own box, here and above, so that it is no part of every request's future.
async fn verdict(worker: &Worker, asked: &Asked<'_>, presented: &Presented<'_>) -> Result<Rc<Verdict>, AuthError> {
    let digest = worker.verdicts.digest(asked.app, presented.key());
    match kept(worker, asked, &digest) {
        Some(kept) => Ok(kept),
        None => Box::pin(reach(worker, asked, presented, digest)).await,
    }
}

/// The verdict of an earlier request, if it still holds.
fn kept(worker: &Worker, asked: &Asked<'_>, digest: &Digest) -> Option<Rc<Verdict>> {
    let kept = worker.verdicts.find(digest, asked.view.snapshot.generation, asked.now)?;
    if !kept.admitted.still_good(asked.kill, asked.now) {
        worker.verdicts.forget(digest);
        return None;
    }
    asked.view.metrics.cache(Cache::Verdict, Lookup::Hit);
    count(asked, &kept, Duration::ZERO);
    Some(kept)
}

/// Reaches a verdict, and keeps it.
async fn reach(worker: &Worker, asked: &Asked<'_>, presented: &Presented<'_>, digest: Digest) -> Result<Rc<Verdict>, AuthError> {
    let snapshot = &asked.view.snapshot;
    let metrics = &asked.view.metrics;
    metrics.cache(Cache::Verdict, Lookup::Miss);
    let began = Instant::now();
    let facts = asked.facts();
    let admitted = snapshot.gate.admit(&asked.entry.policy, presented, &facts, asked.kill, asked.now).await?;
    let limits = &snapshot.server.limits;
    let scope = HeaderScope { identity: admitted.identity(), canonical: Some(admitted.canonical()), link: None };
    let denied = |_| AuthError::Forbidden {
        refusal: Refusal::Policy,
        provider: admitted.provider().clone(),
        class: admitted.class(),
    };
    let settings = &asked.entry.settings;
    let mut headers = IdentityHeaders::render(&settings.identity_headers, &scope, limits.identity_bytes).map_err(denied)?;
    let mut until = admitted.expires().min(asked.now + limits.cache_ttl);
    if let Some(assertion) = &settings.assertion {
        let terms = auth::Terms { issuer: &assertion.issuer, audience: &assertion.audience, ttl: assertion.ttl };
        let minted = worker.assertions.mint(&admitted, terms, asked.now);
        let (token, ends) = minted.map_err(|_| AuthError::Unavailable {
            outage: Outage::Malformed,
            retry_after: None,
            provider: None,
            class: Some(admitted.class()),
        })?;
        headers = headers.with_assertion(assertion.header.clone(), token, limits.identity_bytes).map_err(denied)?;
        // A kept assertion always has at least half of its life before it.
        until = until.min(asked.now + ends.since(asked.now) / 2);
    }
    let verdict = Rc::new(Verdict {
        pseudonym: worker.pseudonyms.of(admitted.canonical()),
        generation: snapshot.generation,
        headers,
        until,
        admitted,
    });
    match verdict.admitted.reach() {
        Reach::SameCredential => worker.verdicts.keep(digest, Rc::clone(&verdict)),
        Reach::ThisRequest => {}
    }
    count(asked, &verdict, began.elapsed());
    Ok(verdict)
}

fn count(asked: &Asked<'_>, verdict: &Verdict, took: Duration) {
    let metrics = &asked.view.metrics;
    let (app, admitted) = (AppIndex(asked.app), &verdict.admitted);
    if let Some(provider) = metrics.names().provider(admitted.provider()) {
        metrics.attempt(app, provider, Flow::from(admitted.class()), Attempt::Success, took);
    }
    if admitted.arm() == Some(Arm::From) {
        metrics.legacy_credential(app, admitted.class());
    }
}

/// Whether an identity has what the route asks for.
fn fulfils(require: &Require, verdict: &Verdict, address: IpAddr) -> bool {
    let identity = verdict.admitted.identity();
    let groups = || identity.attributes.list("groups").unwrap_or_default();
    (require.groups.is_empty() || groups().iter().any(|has| require.groups.iter().any(|group| **group == **has)))
        && require.scopes.iter().all(|scope| identity.scopes.contains(scope))
        && (require.acr.is_empty() || identity.acr.as_ref().is_some_and(|acr| require.acr.contains(acr)))
        && (require.network.is_empty() || require.network.iter().any(|network| network.contains(&address)))
}

/// What somebody gets who does not go on; counted and logged.
async fn turn_away(
    worker: &Worker,
    asked: &Asked<'_>,
    on_unauthenticated: OnUnauthenticated,
    why: Option<&AuthError>,
    record: &mut Record,
) -> Turned {
    if let Some(why) = why {
        tell(worker, asked, why, record);
    }
    match on_unauthenticated {
        OnUnauthenticated::Auto => {}
        OnUnauthenticated::Unauthorized => {
            let policy = &asked.entry.policy;
            let answer = why.map_or_else(|| Answer::unauthenticated(policy), |why| why.answer(policy));
            return Turned::Fault(answer.into());
        }
    }
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    let logins = &asked.view.snapshot.logins;
    match logins.turn_away(&asked.entry.policy, &request, why, asked.kill, asked.now).await {
        TurnedAway::Page(response) => Turned::Page(Box::new(response)),
        TurnedAway::Answer(answer) => Turned::Fault(answer.into()),
    }
}

fn turned(why: &AuthError, asked: &Asked<'_>) -> Turned {
    Turned::Fault(why.answer(&asked.entry.policy).into())
}

/// Counts and logs a credential that was not honoured.
fn tell(worker: &Worker, asked: &Asked<'_>, why: &AuthError, record: &mut Record) {
    let (provider, class, attempt) = match why {
        AuthError::Refused { refusal, provider, class } => (provider.as_ref(), *class, Attempt::Rejected(*refusal)),
        AuthError::Forbidden { refusal, provider, class } => (Some(provider), Some(*class), Attempt::Rejected(*refusal)),
        AuthError::Unavailable { outage, provider, class, .. } => (provider.as_ref(), *class, Attempt::Unavailable(*outage)),
        AuthError::Closed => return,
    };
    record.refused = Some((provider.cloned(), class, attempt));
    let metrics = &asked.view.metrics;
    let place = provider.and_then(|provider| metrics.names().provider(provider));
    if let (Some(place), Some(class)) = (place, class) {
        metrics.attempt(AppIndex(asked.app), place, Flow::from(class), attempt, Duration::ZERO);
    }
    let decision = match (attempt, provider) {
        (Attempt::Rejected(reason), provider) => Decision::Refused { reason, provider, credential: class },
        (Attempt::Unavailable(reason), Some(provider)) => Decision::Unavailable { reason, provider, credential: class },
        (Attempt::Unavailable(_) | Attempt::Success | Attempt::Abandoned, _) => return,
    };
    worker.decisions.write(&DecisionRecord {
        at: asked.now,
        request_id: Some(record.request_id.as_str()),
        trace: Some(&record.trace),
        app: Some(asked.entry.policy.app()),
        subject: None,
        client: None,
        revision: &asked.view.snapshot.revision,
        decision,
    });
}

impl Asked<'_> {
    fn facts(&self) -> Facts<'_> {
        Facts {
            app: self.entry.policy.app(),
            host: self.request.host(),
            path: self.request.path(),
            method: self.request.method().as_str(),
            client_ip: Some(self.address),
            peer: Some(self.peer),
            header_equals: None,
            device: None,
            person: None,
        }
    }

    fn login<'b>(&'b self, authority: &'b str) -> auth::Request<'b> {
        auth::Request {
            facts: self.facts(),
            authority,
            query: self.request.query(),
            method: self.request.method(),
            headers: self.headers,
        }
    }
}

/// Host, and port unless it is the scheme's own.
fn authority(request: &CanonicalRequest) -> String {
    let default = if request.secure() { 443 } else { 80 };
    match request.port() {
        Some(port) if port != default => format!("{}:{port}", request.host()),
        Some(_) | None => request.host().to_owned(),
    }
}

impl From<BadRequest> for Fault {
    fn from(bad: BadRequest) -> Self {
        match bad {
            BadRequest::Method
            | BadRequest::Target
            | BadRequest::Host
            | BadRequest::TwoHosts
            | BadRequest::Path(_)
            | BadRequest::Query
            | BadRequest::Framing
            | BadRequest::Forwarding => Self::BadRequest,
            BadRequest::TargetTooLong => Self::TargetTooLong,
            BadRequest::TooManyFields | BadRequest::TooManyCookies => Self::HeadTooLarge,
            BadRequest::Version => Self::Version,
        }
    }
}

impl From<Answer> for Fault {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::BadRequest => Self::BadRequest,
            Answer::Unauthorized(challenges) => Self::Unauthorized(challenges),
            Answer::Forbidden => Self::Forbidden,
            Answer::Unavailable(seconds) => Self::Unavailable(seconds),
        }
    }
}

/// An answer of ours about a fault.
pub(super) fn fault(why: &Fault, headers: &HeaderMap, conn: &Conn, mut record: Record) -> Reply {
    if why.closes() {
        conn.close_after_answer();
    }
    record.error.get_or_insert(why.as_str());
    let response = respond::page(why, headers, record.request_id.as_str());
    page(response, conn, record)
}

/// An answer without a body.
pub(super) fn empty(response: Response<Bytes>, record: Record) -> Reply {
    let (parts, _) = response.into_parts();
    Response::from_parts(parts, ResponseBody::empty(record))
}

/// A page of ours.
pub(super) fn page(response: Response<Bytes>, conn: &Conn, mut record: Record) -> Reply {
    let (mut parts, body) = response.into_parts();
    record.status = parts.status.as_u16();
    if conn.must_close() {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(id) = HeaderValue::from_str(record.request_id.as_str()) {
        parts.headers.insert("x-request-id", id);
    }
    Response::from_parts(parts, ResponseBody::full(body, record))
}
