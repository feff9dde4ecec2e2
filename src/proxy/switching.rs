//! A request that becomes a tunnel: judged like any other, and its bytes are passed on then.

use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::request::Parts;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;

use crate::identity::CredentialClass;
use crate::proxy::admission::Asked;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::conn::Conn;
use crate::proxy::conn::InFlight;
use crate::proxy::forward::Given;
use crate::proxy::forward::Passage;
use crate::proxy::forward::answered;
use crate::proxy::record::Record;
use crate::proxy::reply::Reply;
use crate::proxy::reply::empty;
use crate::proxy::reply::fault;
use crate::proxy::respond::Fault;
use crate::proxy::upgrade::Handshake;
use crate::proxy::upgrade::Named;
use crate::proxy::upgrade::Upgrade;
use crate::proxy::upgrade::tunnel;
use crate::proxy::upstream::Switched;
use crate::proxy::worker::Worker;

/// What the client asks to switch to, if its route lets that pass; anything else is plain HTTP.
pub(super) fn asked(
    worker: &Worker,
    asked: &Asked<'_>,
    version: Version,
    route: usize,
    class: Option<CredentialClass>,
) -> Result<Option<Upgrade>, Fault> {
    let (headers, request) = (asked.headers, asked.request);
    let extended = request.extended_connect();
    let Some(route) = asked.entry.settings.routes.get(route) else {
        return Ok(None);
    };
    if !extended && !headers.contains_key(header::UPGRADE) {
        return Ok(None);
    }
    let method = request.method();
    let mut upgrade = None;
    if route.websocket && *method == Method::GET {
        let read = Handshake::read(method, version, headers, extended, &*worker.entropy)?;
        upgrade = read.map(Upgrade::WebSocket);
    }
    if upgrade.is_none() && !extended && !route.upgrades.is_empty() {
        upgrade = Named::read(method, version, headers, &route.upgrades)?.map(Upgrade::Named);
    }
    if upgrade.is_some() && is_foreign(headers, request, asked.secure, class) {
        return Err(Fault::Forbidden);
    }
    Ok(upgrade)
}

/// Whether another site opened the tunnel with this browser's session (RFC 6455 §10.2): browsers send cookies and
/// `Origin` along, and nothing else protects a tunnel from other sites. `secure`: whether the browser speaks TLS, with us or
/// with a listed proxy before us; its pages have that scheme.
pub(super) fn is_foreign(
    headers: &HeaderMap,
    request: &CanonicalRequest,
    secure: bool,
    class: Option<CredentialClass>,
) -> bool {
    match class {
        Some(CredentialClass::Session) | None => {}
        // A page of another site cannot add these.
        Some(
            CredentialClass::Bearer
            | CredentialClass::Opaque
            | CredentialClass::ApiKey
            | CredentialClass::Refresh,
        ) => return false,
        // Browsers add these by themselves.
        Some(CredentialClass::Basic | CredentialClass::ClientCert) => {}
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        // A browser always says it (RFC 6455 §4.1), and the session is a browser's.
        (None, _) => matches!(class, Some(CredentialClass::Session)),
        (Some(only), None) => {
            let authority = request.authority().as_field().as_bytes();
            let scheme: &[u8] = if secure { b"https://" } else { b"http://" };
            let own = only.as_bytes().strip_prefix(scheme).unwrap_or_default();
            !own.eq_ignore_ascii_case(authority)
        }
        (Some(_), Some(_)) => true,
    }
}

/// Asks the application for the protocol and lets the two talk.
pub(super) async fn open(
    conn: &Rc<Conn>,
    parts: &mut Parts,
    request: &CanonicalRequest,
    passage: &Passage<'_>,
    upgrade: &Upgrade,
    given: &Given,
    mut record: Box<Record>,
) -> Reply {
    let target = passage.target();
    let head = match passage.head(conn, &parts.headers, request, given, Some(upgrade)) {
        Ok(head) => head,
        Err(error) => return fault(&Fault::from(error), &parts.headers, conn, record),
    };
    let worker = Rc::clone(&record.worker);
    let (mut answer, upstream) = match worker
        .pool
        .switch(target, &passage.app.head, upgrade, head)
        .await
    {
        Ok((Switched::Yes(answer, upstream), origin)) => {
            record.answered_by(passage.route, origin);
            (answer, upstream)
        }
        Ok((Switched::No(answer), _)) => {
            // The client may have begun to speak the other protocol: that must not become its next request.
            conn.close_after_answer();
            return answered(conn, parts, passage, answer, record);
        }
        Err(error) => {
            record.upstream_failed(&error);
            conn.close_after_answer();
            return fault(&Fault::from(&error), &parts.headers, conn, record);
        }
    };
    let client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let Some(client) = client else {
        return fault(&Fault::Internal, &parts.headers, conn, record);
    };
    upgrade.answer_fields(&mut answer.headers);
    record.status = if upgrade.multiplexed() { 200 } else { 101 };
    record.keep_fields(&mut parts.headers);
    let (in_flight, leaving) = (InFlight::begin(Rc::clone(conn)), conn.closing());
    let (over, view) = (record.over(), Rc::clone(&record.view));
    let speech = upgrade.speech();
    spawn_local(async move {
        let _in_flight = in_flight;
        let (client, upstream) = tokio::join!(client, upstream);
        let (client, upstream) = match (client, upstream) {
            (Ok(client), Ok(upstream)) => (TokioIo::new(client), TokioIo::new(upstream)),
            // One of them went away while the other was being told.
            (Err(_), _) | (_, Err(_)) => return,
        };
        let end = tunnel::run((client, upstream), speech, leaving, over).await;
        view.metrics.tunnel_closed(end);
    });
    let status = if upgrade.multiplexed() {
        StatusCode::OK
    } else {
        StatusCode::SWITCHING_PROTOCOLS
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    *response.headers_mut() = answer.headers;
    empty(response, record)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::proxy::canonical::canonicalise;
    use crate::proxy::serve::testing::limits;

    #[track_caller]
    fn foreign(origins: &[&str], class: Option<CredentialClass>, expected: bool) {
        let mut request = Request::builder().uri("/ws").header("host", "app.test");
        for origin in origins {
            request = request.header("origin", *origin);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let canonical = canonicalise(&parts, &Conn::for_test(true), &limits()).unwrap();
        assert_eq!(
            is_foreign(&parts.headers, &canonical, true, class),
            expected,
            "{origins:?} {class:?}"
        );
    }

    #[test]
    fn another_site_does_not_get_a_socket_with_this_browsers_session() {
        let session = Some(CredentialClass::Session);
        foreign(&["https://app.test"], session, false);
        for origin in [
            "https://evil.test",
            "null",
            "https://app.test.evil.test",
            "http://app.test",
            "https://app.test:8443",
            "",
        ] {
            foreign(&[origin], session, true);
            foreign(&[origin], None, true);
        }
        foreign(&["https://app.test", "https://evil.test"], session, true);
    }

    #[test]
    fn behind_a_proxy_that_ends_tls_a_page_says_https() {
        for (origin, secure, expected) in [
            ("https://app.test", true, false),
            ("https://app.test", false, true),
            ("http://app.test", true, true),
            ("http://app.test", false, false),
        ] {
            let request = Request::get("/").header("host", "app.test");
            let (parts, ()) = request
                .header("origin", origin)
                .body(())
                .unwrap()
                .into_parts();
            let canonical = canonicalise(&parts, &Conn::for_test(false), &limits()).unwrap();
            let class = Some(CredentialClass::Session);
            assert_eq!(
                is_foreign(&parts.headers, &canonical, secure, class),
                expected,
                "{origin} {secure}"
            );
        }
    }

    #[test]
    fn a_session_without_an_origin_is_no_browser() {
        foreign(&[], Some(CredentialClass::Session), true);
        foreign(&[], None, false);
        foreign(&[], Some(CredentialClass::Basic), false);
    }

    #[test]
    fn a_token_cannot_come_from_a_page_that_does_not_have_it() {
        foreign(&["https://evil.test"], Some(CredentialClass::Bearer), false);
        foreign(&[], Some(CredentialClass::ApiKey), false);
    }
}
