//! From an admitted request to the application's answer.


use http::HeaderName;
use http::HeaderValue;
use http::header;
use http::request::Parts;

use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Conn;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::record::Record;
use crate::proxy::respond::Fault;
use crate::proxy::service::Reply;
use crate::proxy::service::fault;
use crate::proxy::snapshot::AppEntry;
use crate::proxy::upstream_head::ClientHead;
use crate::proxy::upstream_head::UpstreamHead;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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
}

/// Forwards a request and gives the answer to the client.
pub(super) async fn forward(
    conn: &Conn,
    parts: Parts,
    body: ClientBody,
    request: &CanonicalRequest,
    passage: &Passage<'_>,
    mut record: Record,
) -> Reply {
    let app = passage.app;
    let target = app.routes.get(passage.route).and_then(Option::as_ref).unwrap_or(&app.target);
    let id = HeaderValue::from_bytes(record.request_id.as_str().as_bytes());
    let traceparent = HeaderValue::from_bytes(&record.trace.traceparent());
    let (Ok(id), Ok(traceparent)) = (id, traceparent) else {
        return fault(&Fault::Internal, &parts.headers, conn, record);
    };
    let given = [(X_REQUEST_ID, id), (TRACEPARENT, traceparent)];
    let head = || {
        let client = ClientHead {
            method: request.method(),
            target: request.target(),
            authority: request.authority().as_field(),
            headers: &parts.headers,
            hop: conn.hop(),
            trusted: passage.trusted,
            given: &given,
            upgrade: None,
        };
        UpstreamHead::new(&client, passage.identity, &app.head)
    };
    let body = (!body.is_empty()).then_some(body);
    let worker = record.worker.clone();
    match worker.pool.send(target, &app.head, body, head).await {
        Ok(answer) => {
            // The application has begun to answer: both sides may talk in turns now.
            record.sent.unpace();
            record.status = answer.status().as_u16();
            let mut response = answer.into_response(record);
            if conn.must_close() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        Err(error) => {
            tracing::debug!(%error, "An upstream did not answer.");
            fault(&Fault::from(&error), &parts.headers, conn, record)
        }
    }
}
