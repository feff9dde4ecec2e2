//! One request: judged once, by one snapshot, and forwarded as it was judged.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use tokio::time::Instant;

use crate::auth::Admitted;
use crate::auth::SigningOut;
use crate::auth::Source;
use crate::identity::CredentialClass;
use crate::issuer::METADATA_PATH;
use crate::proxy::admission::Admission;
use crate::proxy::admission::Asked;
use crate::proxy::admission::Turned;
use crate::proxy::admission::admission;
use crate::proxy::admission::authority;
use crate::proxy::again::Brought;
use crate::proxy::body::ResponseBody;
use crate::proxy::canonical::canonicalise;
use crate::proxy::client_address::client_address;
use crate::proxy::client_address::is_trusted;
use crate::proxy::client_body::ClientBody;
use crate::proxy::client_certificate::client_certificate;
use crate::proxy::conn::Conn;
use crate::proxy::forward::Passage;
use crate::proxy::forward::TRACEPARENT;
use crate::proxy::forward::forward;
use crate::proxy::forward_auth;
use crate::proxy::forward_auth::Question;
use crate::proxy::forwarded::speaks_tls;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::keep_form::keep_form;
use crate::proxy::own_address::own_address;
use crate::proxy::record::Record;
use crate::proxy::record::RequestId;
use crate::proxy::reply::Reply;
use crate::proxy::reply::fault;
use crate::proxy::reply::page;
use crate::proxy::respond::Fault;
use crate::proxy::route::Routed;
use crate::proxy::serve::Handler;
use crate::proxy::signing_out::signing_out;
use crate::proxy::signing_out::signs_out;
use crate::proxy::switching;
use crate::proxy::typed_form::TypedForm;
use crate::proxy::worker::Worker;
use crate::proxy::worker::WorkerParts;
use crate::rollout::Arm;

/// Answers the requests of one worker.
pub(crate) struct Service(Rc<Worker>);

impl Service {
    /// A service on the present thread.
    pub(crate) fn start(parts: WorkerParts) -> Rc<Self> {
        Rc::new(Self(Rc::new(Worker::new(parts))))
    }
}

impl Handler for Service {
    type Body = ResponseBody<ClientBody, Box<Record>>;

    fn handle(
        self: Rc<Self>,
        conn: Rc<Conn>,
        request: Request<ClientBody>,
    ) -> impl Future<Output = Reply> + 'static {
        serve(Rc::clone(&self.0), conn, request)
    }
}

/// The caller's place in its trace: several say nothing (W3C Trace Context §3.2).
fn caller(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(&TRACEPARENT).iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only.as_bytes()),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

async fn serve(worker: Rc<Worker>, conn: Rc<Conn>, request: Request<ClientBody>) -> Reply {
    let (view, now) = (worker.view(), worker.now());
    let (mut parts, mut body) = request.into_parts();
    let trace = worker.tracer.context(caller(&parts.headers));
    if trace.parent_id().is_none() {
        // It belongs to a trace that does not go on (W3C Trace Context §2.3).
        parts.headers.remove("tracestate");
    }
    let mut record = Box::new(Record {
        began: Instant::now(),
        request_id: RequestId::of(&trace),
        trace,
        client: None,
        app: None,
        route: None,
        request: None,
        version: parts.version,
        status: 0,
        sent: body.progress(),
        verdict: None,
        told: None,
        departure: None,
        known: None,
        error: None,
        nonce: None,
        beside: Vec::new(),
        keeps: None,
        answered: None,
        brought: Cell::new(None),
        worker: Rc::clone(&worker),
        view: Rc::clone(&view),
    });
    if conn.sheds() {
        return fault(&Fault::Shed(1), &parts.headers, &conn, record);
    }
    let snapshot = &*view.snapshot;
    let limits = &snapshot.server.limits;
    let request = match canonicalise(&parts, &conn, limits) {
        Ok(request) => record.request.insert(request).clone(),
        Err(bad) => return fault(&bad.into(), &parts.headers, &conn, record),
    };
    let trusted = is_trusted(conn.peer().ip(), &snapshot.server.trusted_proxies);
    let question = match forward_auth::question(&parts, &request, trusted, limits) {
        Ok(question) => question,
        Err(bad) => return fault(&bad.into(), &parts.headers, &conn, record),
    };
    let (request, asks, pages) = match question {
        None => (request, false, true),
        Some(Question { request, pages }) => (record.request.insert(request).clone(), true, pages),
    };
    let address = match client_address(
        conn.peer(),
        &parts.headers,
        &snapshot.server.trusted_proxies,
    ) {
        Ok(address) => address,
        Err(bad) => return fault(&bad.into(), &parts.headers, &conn, record),
    };
    let believed = snapshot.server.certificate_headers.as_ref();
    let tells = believed.is_some_and(|believed| is_trusted(conn.peer().ip(), &believed.from));
    let certificate = match client_certificate(&conn, &parts.headers, believed) {
        // The connection is the other proxy's, and so is its certificate.
        Ok(_) if asks && !tells => None,
        Ok(certificate) => certificate,
        Err(bad) => return fault(&bad.into(), &parts.headers, &conn, record),
    };
    record.client = Some(if address == conn.peer().ip() {
        conn.pseudonym(&worker.pseudonyms)
    } else {
        worker.pseudonyms.of_address(address)
    });
    if !asks && !conn.is_for(request.host()) {
        return fault(&Fault::Misdirected, &parts.headers, &conn, record);
    }
    let routed = snapshot.router.route(&request);
    let app = match routed {
        Routed::NoApp => return fault(&Fault::UnknownHost, &parts.headers, &conn, record),
        Routed::NoRoute { app } | Routed::TwoReadings { app } | Routed::To { app, .. } => app,
    };
    record.app = Some(app);
    record.route = match routed {
        Routed::To { route, .. } => u16::try_from(route).ok(),
        Routed::NoApp | Routed::NoRoute { .. } | Routed::TwoReadings { .. } => None,
    };
    let Some(entry) = snapshot.apps.get(app) else {
        return fault(&Fault::Internal, &parts.headers, &conn, record);
    };
    let (request_id, trace) = (record.request_id, record.trace);
    let source = Source {
        request_id: request_id.as_str(),
        trace: &trace,
        client: record.client,
        began: record.began,
    };
    let asked = Asked {
        source,
        view: &view,
        app,
        entry,
        request: &request,
        headers: &parts.headers,
        address,
        peer: conn.peer().ip(),
        certificate,
        secure: if asks {
            request.secure()
        } else {
            speaks_tls(conn.secure(), trusted, &parts.headers)
        },
        pages,
        again: false,
        kill: entry.policy.kill(&worker.kill.current()),
        now,
    };
    // Our own addresses come before routes: an application cannot shadow them, and nobody else forwards them.
    if request.path().starts_with("/.authferry/")
        || snapshot.logins.is_own(&entry.policy, request.path())
        || request.path() == METADATA_PATH && snapshot.issuer_at(entry).is_some()
    {
        if asks {
            return fault(&Fault::Forbidden, &parts.headers, &conn, record);
        }
        // Revocations are dated to the millisecond, and so is what begins here: whoever signs in after one is in.
        let now = worker.now_exactly();
        let asked = Asked { now, ..asked };
        return match Box::pin(own_address(&worker, &asked, body)).await {
            Ok(response) => page(response, &conn, record),
            Err(why) => fault(&why, &parts.headers, &conn, record),
        };
    }
    // Whoever signs out of the application itself signs out here: nobody else is asked where it has no session of its own.
    let signing_out = if asks {
        SigningOut::Theirs
    } else {
        signing_out(&asked)
    };
    let to_nobody = !matches!(routed, Routed::To { .. });
    if signing_out == SigningOut::Ours || (signing_out == SigningOut::Both && to_nobody) {
        return signed_out(&asked, &conn, record).await;
    }
    let route = match routed {
        Routed::To { route, .. } => route,
        Routed::TwoReadings { .. } => {
            return fault(&Fault::BadRequest, &parts.headers, &conn, record);
        }
        Routed::NoApp | Routed::NoRoute { .. } => {
            return fault(&Fault::Forbidden, &parts.headers, &conn, record);
        }
    };
    if asks {
        let answer = forward_auth::answer(&worker, &asked, route, &conn, record);
        return Box::pin(answer).await;
    }
    let admission = admission(&worker, &asked, route, &mut record).await;
    let nobody = IdentityHeaders::none();
    let identity = match &admission {
        Ok(Admission::Anonymous) => &nobody,
        Ok(Admission::Known(verdict)) => {
            record.verdict = Some(Rc::clone(verdict));
            if signing_out == SigningOut::Both {
                // Nobody is given a session, or taken anywhere, who leaves.
            } else if verdict.admitted.wrapped().is_some() {
                record.keeps = snapshot.logins.keeps(&verdict.admitted);
            } else if let Some(response) = carry_over(&asked, &verdict.admitted).await {
                return page(response, &conn, record);
            }
            &verdict.headers
        }
        Err(_) if signing_out == SigningOut::Both => {
            return signed_out(&asked, &conn, record).await;
        }
        Err(Turned::Fault(why)) => {
            // Whoever is known has a session, which stays: what it is not enough for would come back as it went.
            let kept = match record.known {
                None => Box::pin(keep_form(&asked, route, why, body)).await,
                Some(_) => None,
            };
            return match kept {
                Some(kept) => page(kept, &conn, record),
                None => fault(why, &parts.headers, &conn, record),
            };
        }
        Err(Turned::Page(response)) => {
            let response = Response::clone(response);
            return page(response, &conn, record);
        }
    };
    let class = record
        .verdict
        .as_ref()
        .map(|verdict| verdict.admitted.class());
    let upgrade = match switching::asked(&worker, &asked, parts.version, route, class) {
        Ok(upgrade) => upgrade,
        Err(why) => return fault(&why, &parts.headers, &conn, record),
    };
    // Few leave: what of the request is needed once the application has answered has a box of its own.
    let leaves = signing_out == SigningOut::Both;
    let leaving = leaves.then(|| Box::new((parts.headers.clone(), asked.certificate.clone())));
    let (peer, secure, kill) = (asked.peer, asked.secure, asked.kill);
    // Who is known has a session already: no password is needed for it.
    let form = if record.verdict.is_some() {
        record.brought.set(Some(Brought {
            headers: HeaderMap::new(),
            address,
            peer: asked.peer,
            certificate: asked.certificate,
            secure: asked.secure,
        }));
        None
    } else if parts.method == Method::POST && entry.policy.typed().is_some() {
        // In a box: nearly every request is of an application without such a form.
        Box::pin(TypedForm::of(&worker, &asked, &record, &mut body)).await
    } else {
        None
    };
    let leaving = leaving.as_deref().map(|(headers, certificate)| {
        Box::new(Asked {
            source,
            view: &view,
            app,
            entry,
            request: &request,
            headers,
            address,
            peer,
            certificate: certificate.clone(),
            secure,
            pages: true,
            again: false,
            kill,
            now,
        })
    });
    let passage = Passage {
        app: entry,
        route,
        trusted,
        identity,
        upgrade,
        signs_out: leaving.as_deref(),
    };
    let reply = forward(&conn, &mut parts, body, &request, &passage, record).await;
    if let Some(form) = form {
        form.answered(&reply);
    }
    reply
}

/// The end of a session, at a path of the application.
async fn signed_out(asked: &Asked<'_>, conn: &Conn, record: Box<Record>) -> Reply {
    let now = record.worker.now_exactly();
    let response = Box::pin(signs_out(asked, now)).await;
    page(response, conn, record)
}

/// The redirect that takes somebody to the new side, if there is one to be tried. Most requests are none of these: what is
/// rare has its own box.
pub(super) async fn carry_over(asked: &Asked<'_>, admitted: &Admitted) -> Option<Response<Bytes>> {
    let policy = &asked.entry.policy;
    // Only sessions are carried over: whoever comes with a token is not looked at any further.
    let from = admitted.arm() == Some(Arm::From) || policy.goes_back(admitted);
    if admitted.class() != CredentialClass::Session || !from {
        return None;
    }
    let logins = &asked.view.snapshot.logins;
    let wants = (asked.request.method(), asked.headers);
    if !logins.may_carry_over(policy, wants, admitted) {
        return None;
    }
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    Box::pin(logins.carry_over(policy, &request, admitted, asked.kill, asked.now)).await
}
