//! The same decisions for another proxy, which forwards by itself: nginx (`auth_request`), Traefik and Caddy
//! (forward auth), Envoy (`ext_authz` over HTTP).
//!
//! What it says about a request is believed of a listed peer only, and judged as if the request had come here. The answer
//! names every header by which the application is told something, empty where the person has none: the other proxy replaces what the
//! client said by it; Envoy takes the empty ones off. What it could not replace is refused. Whoever is to be taken to the new
//! side is sent there from here too, where the client gets our answer.

use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::header;
use http::request::Parts;

use crate::proxy::admission::Admission;
use crate::proxy::admission::Asked;
use crate::proxy::admission::Turned;
use crate::proxy::admission::admission;
use crate::proxy::admission::authority;
use crate::proxy::canonical::BadRequest;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::canonical::Restated;
use crate::proxy::canonical::restated;
use crate::proxy::conn::Conn;
use crate::proxy::forwarded::said_once;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::protected::fold;
use crate::proxy::record::Record;
use crate::proxy::reply::Reply;
use crate::proxy::reply::fault;
use crate::proxy::reply::page;
use crate::proxy::respond;
use crate::proxy::respond::Fault;
use crate::proxy::service::carry_over;
use crate::proxy::settings::Limits;
use crate::proxy::snapshot::AppEntry;
use crate::proxy::switching;
use crate::proxy::upgrade::Named;
use crate::proxy::upstream_head::client_cookies;
use crate::proxy::worker::Worker;

static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What Envoy takes off a request that it forwards.
static REMOVED: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Asked by who understands a status only: nginx.
const DECIDE: &str = "/.authferry/decide";
/// Asked by who gives the client our answer: Traefik, Caddy, and nginx once it has been told 401.
const FORWARD_AUTH: &str = "/.authferry/forward_auth";
/// Asked by Envoy: the path of the request follows.
const EXT_AUTHZ: &str = "/.authferry/ext_authz";

const NOTHING: HeaderValue = HeaderValue::from_static("");

/// What a proxy asks about.
pub(super) struct Question {
    /// The request that it has.
    pub(super) request: CanonicalRequest,
    /// Whether the client gets our answer, with redirects and cookies.
    pub(super) pages: bool,
}

/// The question of a listed peer; `None`: it is an ordinary request.
///
/// # Errors
///
/// When the peer does not say everything exactly once: a decision about half a request would be about another one.
pub(super) fn question(
    parts: &Parts,
    request: &CanonicalRequest,
    trusted: bool,
    limits: &Limits,
) -> Result<Option<Question>, BadRequest> {
    if !trusted || !request.path().starts_with("/.authferry/") {
        return Ok(None);
    }
    let headers = &parts.headers;
    let said = |name| said_once(headers, name).ok_or(BadRequest::Forwarding);
    let secure = || match said(&X_FORWARDED_PROTO)?.as_bytes() {
        b"https" | b"wss" => Ok(true),
        b"http" | b"ws" => Ok(false),
        _ => Err(BadRequest::Forwarding),
    };
    let raw = parts.uri.path_and_query().map_or("", |raw| raw.as_str());
    let (request, pages) = match raw.strip_prefix(EXT_AUTHZ) {
        Some(target) if target.starts_with('/') => {
            let said = Restated {
                method: request.method().as_str().as_bytes(),
                host: request.authority().as_field().as_bytes(),
                target: target.as_bytes(),
                secure: secure()?,
            };
            (restated(&said, limits)?, true)
        }
        Some(_) | None => {
            let pages = match request.path() {
                DECIDE => false,
                FORWARD_AUTH => true,
                _ => return Ok(None),
            };
            let said = Restated {
                method: said(&X_FORWARDED_METHOD)?.as_bytes(),
                host: said(&X_FORWARDED_HOST)?.as_bytes(),
                target: said(&X_FORWARDED_URI)?.as_bytes(),
                secure: secure()?,
            };
            (restated(&said, limits)?, pages)
        }
    };
    Ok(Some(Question { request, pages }))
}

/// Answers a question about a request that belongs to `route`.
pub(super) async fn answer(
    worker: &Worker,
    asked: &Asked<'_>,
    route: usize,
    conn: &Conn,
    mut record: Box<Record>,
) -> Reply {
    let headers = asked.headers;
    if !asked.entry.settings.forward_auth {
        return fault(&Fault::Forbidden, headers, conn, record);
    }
    // The other proxy replaces fields of exactly our names; it would forward these.
    if says_otherwise(headers, asked.entry) {
        return fault(&Fault::BadRequest, headers, conn, record);
    }
    let verdict = match admission(worker, asked, route, &mut record).await {
        Ok(Admission::Anonymous) => None,
        Ok(Admission::Known(verdict)) => Some(verdict),
        Err(Turned::Fault(why)) => return fault(&why, headers, conn, record),
        Err(Turned::Page(response)) => return for_the_client(*response, asked, conn, record),
    };
    let mut keeps = None;
    if let Some(verdict) = &verdict {
        if verdict.admitted.wrapped().is_some() {
            keeps = asked.view.snapshot.logins.keeps(&verdict.admitted);
        } else if asked.pages
            && let Some(response) = carry_over(asked, &verdict.admitted).await
        {
            record.verdict = Some(Rc::clone(verdict));
            return for_the_client(response, asked, conn, record);
        }
    }
    let class = verdict.as_ref().map(|verdict| verdict.admitted.class());
    let tunnels = asked.entry.settings.routes.get(route);
    let tunnels = tunnels.is_some_and(|route| {
        (route.websocket && may_be_websocket(headers))
            || Named::asked(headers, &route.upgrades).is_some()
    });
    if is_handshake(headers)
        && (!tunnels || switching::is_foreign(headers, asked.request, asked.secure, class))
    {
        return fault(&Fault::Forbidden, headers, conn, record);
    }
    let nobody = IdentityHeaders::none();
    let identity = verdict.as_ref().map_or(&nobody, |verdict| &verdict.headers);
    let mut response = Response::new(Bytes::new());
    let fields = response.headers_mut();
    respond::secure(fields);
    for name in emitted(asked.entry) {
        fields.insert(name.clone(), NOTHING);
    }
    // For a proxy that takes these over too: what of the client's credentials the application gets, as if we forwarded.
    let cookies = client_cookies(headers, &asked.entry.head);
    fields.insert(header::COOKIE, cookies.unwrap_or(NOTHING));
    let credential = headers.get(header::AUTHORIZATION).cloned();
    let credential = credential.filter(|_| asked.entry.head.forward_credentials);
    fields.insert(header::AUTHORIZATION, credential.unwrap_or(NOTHING));
    for (name, value) in asked
        .entry
        .head
        .static_headers
        .iter()
        .map(|(n, v)| (n, v))
        .chain(identity.iter())
    {
        fields.insert(name.clone(), value.clone());
    }
    if let Some(names) = empty_ones(fields) {
        fields.insert(REMOVED.clone(), names);
    }
    // For the client, by a proxy that is told to pass it on: from then on it has a session of ours beside its own.
    if let Some(cookie) = keeps {
        fields.insert(header::SET_COOKIE, cookie);
    }
    record.verdict = verdict.as_ref().map(Rc::clone);
    page(response, conn, record)
}

/// A page of ours that the other proxy gives to the client, as an answer to what the client had asked. Traefik reads a `Location`
/// without a host as an address at us, where it has asked: here it has the client's.
fn for_the_client(
    mut response: Response<Bytes>,
    asked: &Asked<'_>,
    conn: &Conn,
    record: Box<Record>,
) -> Reply {
    respond::turn_away(&mut response);
    let fields = response.headers_mut();
    let path = fields.get(header::LOCATION).map(HeaderValue::as_bytes);
    let path = path.filter(|path| path.starts_with(b"/") && !path.starts_with(b"//"));
    if let Some(path) = path {
        let scheme = if asked.secure { "https://" } else { "http://" };
        let authority = authority(asked.request);
        let whole = [scheme.as_bytes(), authority.as_bytes(), path].concat();
        if let Ok(whole) = HeaderValue::from_bytes(&whole) {
            fields.insert(header::LOCATION, whole);
        }
    }
    page(response, conn, record)
}

/// The names of what the application is not to see at all.
fn empty_ones(fields: &HeaderMap) -> Option<HeaderValue> {
    let empty = fields.iter().filter(|(_, value)| value.is_empty());
    let names: Vec<_> = empty.map(|(name, _)| name.as_str()).collect();
    HeaderValue::try_from(names.join(",")).ok()
}

/// The names that the application may be told something by.
fn emitted(app: &AppEntry) -> impl Iterator<Item = &HeaderName> {
    let rules = app.settings.identity_headers.iter().map(|rule| &rule.name);
    let assertion = app.settings.assertion.iter();
    let fixed = app.head.static_headers.iter().map(|(name, _)| name);
    rules
        .chain(assertion.map(|assertion| &assertion.header))
        .chain(app.policy.exchange_headers())
        .chain(fixed)
}

/// Whether the client says a name of ours in another spelling.
fn says_otherwise(headers: &HeaderMap, app: &AppEntry) -> bool {
    let protected = |name: &&HeaderName| app.head.protected.contains(name);
    headers.keys().filter(protected).any(|name| {
        let folded = fold(name.as_str());
        emitted(app).any(|ours| ours != name && fold(ours.as_str()) == folded)
    })
}

/// Whether the tunnel is a WebSocket's as far as can be seen: a proxy that lets `Upgrade` through lets through whatever it names.
fn may_be_websocket(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::UPGRADE).iter();
    let one = named.next().is_none_or(|name| {
        let name = name.as_bytes().trim_ascii();
        name.eq_ignore_ascii_case(b"websocket")
    });
    one && named.next().is_none()
}

/// Whether the client asks for a tunnel. Proxies take `Upgrade` off, never the fields that only the handshake of a WebSocket has.
fn is_handshake(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        || headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || headers.contains_key(header::SEC_WEBSOCKET_VERSION)
}
