//! The sign-in form of the old application, on its way there and back: what somebody types into it passes unchanged and at once.
//! Where the application answers with a session, what was typed may move to the new side. Nobody waits for that.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::auth::ClientCertificate;
use crate::auth::Source;
use crate::auth::Typed;
use crate::proxy::admission::Asked;
use crate::proxy::admission::authority;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::client_body::ClientBody;
use crate::proxy::client_body::Glimpse;
use crate::proxy::client_body::Progress;
use crate::proxy::record::Record;
use crate::proxy::record::RequestId;
use crate::proxy::reply::Reply;
use crate::proxy::worker::View;
use crate::proxy::worker::Worker;
use crate::telemetry::Pseudonym;
use crate::telemetry::TraceContext;

/// A longer form passes, and moves nobody.
const MOST: usize = 16 * 1024;

/// What comes of it may take so long: questions to providers end before.
const PATIENCE: Duration = Duration::from_secs(15);

/// A form on its way, with what its request brought.
pub(super) struct TypedForm {
    worker: Rc<Worker>,
    view: Rc<View>,
    app: usize,
    request: CanonicalRequest,
    request_id: RequestId,
    trace: TraceContext,
    client: Option<Pseudonym>,
    began: Instant,
    headers: HeaderMap,
    address: IpAddr,
    peer: IpAddr,
    certificate: Option<ClientCertificate>,
    secure: bool,
    glimpse: Glimpse,
    sent: Progress,
}

impl TypedForm {
    /// Of a request of nobody in particular, where it is one.
    pub(super) fn of(
        worker: &Rc<Worker>,
        asked: &Asked<'_>,
        record: &Record,
        body: &mut ClientBody,
    ) -> Option<Box<Self>> {
        let policy = &asked.entry.policy;
        // Nearly every request is of an application without such a form.
        policy.typed()?;
        let authority = authority(asked.request);
        let logins = &asked.view.snapshot.logins;
        logins.fills_in(policy, &asked.login(&authority), asked.kill)?;
        Some(Box::new(Self {
            glimpse: body.glimpse(MOST)?,
            sent: body.progress(),
            worker: Rc::clone(worker),
            view: Rc::clone(asked.view),
            app: asked.app,
            request: asked.request.clone(),
            request_id: record.request_id,
            trace: record.trace,
            client: record.client,
            began: record.began,
            headers: asked.headers.clone(),
            address: asked.address,
            peer: asked.peer,
            certificate: asked.certificate.clone(),
            secure: asked.secure,
        }))
    }

    /// The application has answered.
    pub(super) fn answered(self: Box<Self>, reply: &Reply) {
        let entry = self.view.snapshot.apps.get(self.app);
        let Some(form) = entry.and_then(|entry| entry.policy.typed()) else {
            return;
        };
        // Whoever answers before it has read all has judged nothing.
        let whole = self.glimpse.take().filter(|_| self.sent.ended());
        let given = form.session((reply.status(), reply.headers()), &self.headers);
        if let (Some(session), Some(whole)) = (given, whole)
            && let Some(typed) = form.read(&whole)
        {
            spawn_local(async move {
                let judged = Box::pin(self.judged(&session, typed));
                let _in_time = timeout(PATIENCE, judged).await;
            });
        }
    }

    async fn judged(&self, session: &HeaderMap, typed: Typed) {
        let snapshot = &self.view.snapshot;
        let Some(entry) = snapshot.apps.get(self.app) else {
            return;
        };
        let asked = Asked {
            source: Source {
                request_id: self.request_id.as_str(),
                trace: &self.trace,
                client: self.client,
                began: self.began,
            },
            view: &self.view,
            app: self.app,
            entry,
            request: &self.request,
            headers: &self.headers,
            address: self.address,
            peer: self.peer,
            certificate: self.certificate.clone(),
            secure: self.secure,
            pages: false,
            again: true,
            kill: entry.policy.kill(&self.worker.kill.current()),
            // Of the session: it began a moment ago.
            now: self.worker.now_exactly(),
        };
        let authority = authority(&self.request);
        let way = (&asked.facts(), &asked.channel(&authority));
        let (policy, what) = (&entry.policy, (session, typed));
        let judged = snapshot
            .gate
            .signed_in_by_form(policy, what, way, asked.kill, asked.now);
        judged.await;
    }
}
