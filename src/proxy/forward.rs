//! From an admitted request to the application's answer.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use http::request::Parts;

use crate::proxy::admission::Asked;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Conn;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::keep_cookie::keep_cookie;
use crate::proxy::record::Record;
use crate::proxy::reply::DPOP_NONCE;
use crate::proxy::reply::Reply;
use crate::proxy::reply::fault;
use crate::proxy::respond::Fault;
use crate::proxy::signing_out::after_the_application;
use crate::proxy::signing_out::has_signed_out;
use crate::proxy::snapshot::AppEntry;
use crate::proxy::switching;
use crate::proxy::upgrade::Upgrade;
use crate::proxy::upstream::Answer;
use crate::proxy::upstream::Target;
use crate::proxy::upstream_head::ClientHead;
use crate::proxy::upstream_head::HeadError;
use crate::proxy::upstream_head::UpstreamHead;
use crate::rollout::Arm;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Request id and trace context, as fields.
pub(super) type Given = [(HeaderName, HeaderValue); 2];

/// What the judgement found.
pub(super) struct Passage<'a> {
    /// Where to.
    pub(super) app: &'a AppEntry,
    /// By which route.
    pub(super) route: usize,
    /// Whether the peer is a listed proxy.
    pub(super) trusted: bool,
    /// Who it is.
    pub(super) identity: &'a IdentityHeaders,
    /// What the client asks to switch to, checked, where the route allows it.
    pub(super) upgrade: Option<Upgrade>,
    /// Where whoever signs out of the application by it signs out here, too: the request.
    pub(super) signs_out: Option<&'a Asked<'a>>,
}

impl Passage<'_> {
    /// The upstream of the route, or of the application.
    pub(super) fn target(&self) -> &Arc<Target> {
        self.app.target_of(self.route)
    }

    /// The head that the application gets.
    pub(super) fn head(
        &self,
        conn: &Conn,
        headers: &HeaderMap,
        request: &CanonicalRequest,
        given: &Given,
        upgrade: Option<&Upgrade>,
    ) -> Result<UpstreamHead, HeadError> {
        let client = ClientHead {
            method: request.method(),
            target: request.target(),
            authority: request.authority().as_field(),
            headers,
            peer: conn.peer().ip(),
            hop: conn.hop(),
            trusted: self.trusted,
            given,
            upgrade,
        };
        UpstreamHead::new(&client, self.identity, &self.app.head)
    }
}

/// Request id and trace context of a request; both values share their bytes.
fn given(record: &Record) -> Option<Given> {
    let (id, traceparent) = (record.request_id.as_str(), record.trace.traceparent());
    let mut both = BytesMut::with_capacity(id.len() + traceparent.len());
    both.extend_from_slice(id.as_bytes());
    both.extend_from_slice(&traceparent);
    let id = both.split_to(id.len()).freeze();
    let id = HeaderValue::from_maybe_shared(id).ok()?;
    let traceparent = HeaderValue::from_maybe_shared(both.freeze()).ok()?;
    Some([
        (X_REQUEST_ID.clone(), id),
        (TRACEPARENT.clone(), traceparent),
    ])
}

/// Forwards a request and gives the answer to the client.
pub(super) async fn forward(
    conn: &Rc<Conn>,
    parts: &mut Parts,
    body: ClientBody,
    request: &CanonicalRequest,
    passage: &Passage<'_>,
    mut record: Box<Record>,
) -> Reply {
    let Some(given) = given(&record) else {
        return fault(&Fault::Internal, &parts.headers, conn, record);
    };
    if let Some(upgrade) = &passage.upgrade {
        return switching::open(conn, parts, request, passage, upgrade, &given, record).await;
    }
    let head = || passage.head(conn, &parts.headers, request, &given, None);
    let body = (!body.is_empty()).then_some(body);
    let worker = Rc::clone(&record.worker);
    match worker
        .pool
        .send(passage.target(), &passage.app.head, body, head)
        .await
    {
        Ok(answer) => match passage.signs_out {
            Some(asked) if has_signed_out(asked, &answer) => {
                record.answered_by(passage.route, answer.origin());
                let turned = after_the_application(asked, answer, conn, record);
                Box::pin(turned).await
            }
            Some(_) | None => answered(conn, parts, passage, answer, record),
        },
        Err(error) => {
            tracing::debug!(%error, "An upstream did not answer.");
            record.upstream_failed(&error);
            fault(&Fault::from(&error), &parts.headers, conn, record)
        }
    }
}

/// Gives the application's answer to the client.
pub(super) fn answered(
    conn: &Conn,
    parts: &mut Parts,
    passage: &Passage<'_>,
    answer: Answer<ClientBody>,
    mut record: Box<Record>,
) -> Reply {
    // The application has begun to answer: both sides may talk in turns now.
    record.sent.unpace();
    record.status = answer.status().as_u16();
    let leaving = record
        .verdict
        .as_ref()
        .is_some_and(|verdict| verdict.admitted.arm() == Some(Arm::From));
    let nonce = record.nonce.take();
    let keeps = record.keeps.take();
    record.answered_by(passage.route, answer.origin());
    record.keep_fields(&mut parts.headers);
    let mut response = answer.into_response(record);
    if leaving {
        response.headers_mut().extend(passage.app.policy.farewell());
    }
    if let Some(cookie) = keeps {
        let status = response.status();
        keep_cookie(response.headers_mut(), status, cookie);
    }
    if let Some(nonce) = nonce {
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
    if conn.must_close() {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
