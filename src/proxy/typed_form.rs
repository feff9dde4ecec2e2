//! The sign-in form of the old application, on its way there and back: what somebody types into it passes unchanged.
//! Where nobody was signed in before, and the application answers with a session, what was typed may move to the new side.
//! Nobody waits for that.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::auth::ClientCertificate;
use crate::auth::OnItsWay;
use crate::auth::Source;
use crate::auth::Stays;
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
    /// Others that come with the same session meanwhile are seen by it.
    on_its_way: Option<OnItsWay>,
    /// What is read of it, or why it stays where it is whatever comes of it; `None`: it is nothing that moves.
    read: Option<Result<Glimpse, Stays>>,
    sent: Progress,
}

impl TypedForm {
    /// Of a request of nobody in particular, where it is one. The application sees it afterwards: whether somebody is signed in
    /// already must be known before it can change that.
    pub(super) async fn of(
        worker: &Rc<Worker>,
        asked: &Asked<'_>,
        record: &Record,
        body: &mut ClientBody,
    ) -> Option<Box<Self>> {
        let policy = &asked.entry.policy;
        let authority = authority(asked.request);
        let (snapshot, login) = (&asked.view.snapshot, asked.login(&authority));
        if !snapshot.logins.is_form(policy, &login) {
            return None;
        }
        // Whatever becomes of it, others see that it comes.
        let on_its_way = snapshot.gate.form_comes(policy, asked.headers);
        // Whoever shows a certificate may be known by it.
        let moves =
            asked.certificate.is_none() && snapshot.logins.fills_in(policy, &login, asked.kill);
        let read = match moves.then(|| body.glimpse(MOST)).flatten() {
            None => None,
            Some(glimpse) => {
                let what = (asked.headers, asked.request.query());
                let (host, now) = (asked.request.host(), worker.now_exactly());
                let nobody = snapshot.gate.nobody_is_signed_in(policy, what, host, now);
                let nobody = nobody.await;
                if nobody.is_err() {
                    // Nothing of it is read.
                    drop(glimpse.take());
                }
                Some(nobody.map(|()| glimpse))
            }
        };
        Some(Box::new(Self {
            on_its_way: Some(on_its_way),
            read,
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
    pub(super) fn answered(mut self: Box<Self>, reply: &Reply) {
        let alone = self.on_its_way.take().is_some_and(|own| own.was_alone());
        let entry = self.view.snapshot.apps.get(self.app);
        let Some(form) = entry.and_then(|entry| entry.policy.typed()) else {
            return;
        };
        let Some(read) = self.read.take() else {
            return;
        };
        let given = form.session((reply.status(), reply.headers()), &self.headers);
        let Some(session) = given else {
            return;
        };
        let typed = read.and_then(|glimpse| {
            // Whoever answers before it has read all has judged nothing.
            let whole = glimpse.take().filter(|_| self.sent.ended());
            let typed = whole.and_then(|whole| form.read(self.request.query(), &whole));
            let typed = typed.ok_or(Stays::UNREAD)?;
            if alone {
                Ok(typed)
            } else {
                Err(Stays::AT_ONCE)
            }
        });
        match typed {
            Ok(typed) => {
                spawn_local(async move {
                    let judged = Box::pin(self.judged(&session, typed));
                    if timeout(PATIENCE, judged).await.is_err() {
                        self.stays(Stays::LATE);
                    }
                });
            }
            Err(why) => self.stays(why),
        }
    }

    /// Tells operators why what was typed stays where it is.
    fn stays(&self, why: Stays) {
        let snapshot = &self.view.snapshot;
        if let Some(entry) = snapshot.apps.get(self.app) {
            let (source, now) = (Some(self.source()), self.worker.now_exactly());
            snapshot.gate.form_stays(&entry.policy, why, source, now);
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            request_id: self.request_id.as_str(),
            trace: &self.trace,
            client: self.client,
            began: self.began,
        }
    }

    async fn judged(&self, session: &HeaderMap, typed: Typed) {
        let snapshot = &self.view.snapshot;
        let Some(entry) = snapshot.apps.get(self.app) else {
            return;
        };
        let asked = Asked {
            source: self.source(),
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
