//! What stays open for long: whether its reader may still have it. Where that is not known, the gate is asked again, with
//! what the request brought: as the next request would ask, which a tunnel and an event stream do not have. A session that has
//! moved is asked about by the one in its place, which the browser has by then.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::auth;
use crate::auth::Admitted;
use crate::auth::AuthError;
use crate::auth::ClientCertificate;
use crate::auth::Over;
use crate::auth::Presented;
use crate::auth::Scheme;
use crate::auth::Source;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::proxy::admission::Asked;
use crate::proxy::admission::verdict;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::record::Record;
use crate::proxy::record::RequestId;
use crate::proxy::requirement::unmet;
use crate::proxy::route::Routed;
use crate::proxy::settings::Access;
use crate::proxy::settings::Require;
use crate::proxy::verdicts::Verdict;
use crate::proxy::worker::View;
use crate::proxy::worker::Worker;
use crate::rollout::KillPosition;
use crate::secret::Secret;
use crate::telemetry::Pseudonym;
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::TunnelEnd;

/// A question may take so long: those to providers end before.
const PATIENCE: Duration = Duration::from_secs(15);

/// What nobody can confirm stays open for so long. What may go on without its provider or the store for longer, the gate
/// says itself: those are no such answers.
const UNANSWERED: Duration = Duration::from_secs(5);

/// And that often it is asked then.
const AGAIN: Duration = Duration::from_secs(1);

/// A session that was found to be over is followed to the one in its place so often at once: somebody may have moved, and signed
/// in once more.
const MOVES: usize = 3;

/// What a request brought, kept for as long as its answer is open.
pub(super) struct Brought {
    /// Its fields.
    pub(super) headers: HeaderMap,
    /// Who asked.
    pub(super) address: IpAddr,
    /// Who is connected.
    pub(super) peer: IpAddr,
    /// The certificate that the client proved to hold.
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether the client speaks TLS.
    pub(super) secure: bool,
}

/// The reader of what is open.
pub(super) struct Reader {
    worker: Rc<Worker>,
    view: Rc<View>,
    app: Option<usize>,
    request_id: RequestId,
    trace: TraceContext,
    client: Option<Pseudonym>,
    began: Instant,
    brought: Option<(CanonicalRequest, Brought)>,
    /// The latest one; `None`: nobody in particular.
    verdict: RefCell<Option<Rc<Verdict>>>,
    /// The cookie of the session that has taken the place of what the request brought.
    moved: RefCell<Option<Rc<Secret<String>>>>,
    asking: Cell<bool>,
    ended: Cell<Option<TunnelEnd>>,
    /// Since when nobody could say.
    unanswered: Cell<Option<Instant>>,
    not_before: Cell<Option<Instant>>,
}

/// While one is asked.
struct Asking<'a>(&'a Cell<bool>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// What came of a question.
enum Found {
    /// It goes on, by this verdict.
    Good(Rc<Verdict>),
    /// Somebody must look at it again: an outage.
    Nobody,
    /// It must end.
    End(TunnelEnd),
    /// Its session is over, which may be because another one has taken its place.
    Inactive,
}

impl Found {
    const fn gone() -> Self {
        Self::End(TunnelEnd::Revoked)
    }
}

impl Reader {
    /// Of what the answer to a request is.
    pub(super) fn of(record: &Record) -> Rc<Self> {
        let brought = record.brought.take();
        Rc::new(Self {
            worker: Rc::clone(&record.worker),
            view: Rc::clone(&record.view),
            app: record.app,
            request_id: record.request_id,
            trace: record.trace,
            client: record.client,
            began: record.began,
            brought: record.request.clone().zip(brought),
            verdict: RefCell::new(record.verdict.clone()),
            moved: RefCell::new(None),
            asking: Cell::new(false),
            ended: Cell::new(None),
            unanswered: Cell::new(None),
            not_before: Cell::new(None),
        })
    }

    /// Why it must end; `None`: it may go on. Asked as long as it is open.
    pub(super) fn over(self: &Rc<Self>) -> Option<TunnelEnd> {
        let app = self
            .app
            .and_then(|place| self.view.snapshot.apps.get(place));
        let kill = app.map_or(KillPosition::Off, |app| {
            app.policy.kill(&self.worker.kill.current())
        });
        if kill == KillPosition::Deny {
            return Some(TunnelEnd::Revoked);
        }
        let over = match &*self.verdict.borrow() {
            Some(verdict) => verdict.admitted.over(kill, self.worker.now()),
            None => None,
        };
        match over? {
            Over::Expired => Some(TunnelEnd::Expired),
            Over::Revoked => Some(TunnelEnd::Revoked),
            Over::AskAgain => self.ask(),
        }
    }

    /// One question at a time; meanwhile it stays open.
    fn ask(self: &Rc<Self>) -> Option<TunnelEnd> {
        if self.ended.get().is_some() {
            return self.ended.get();
        }
        let waits = self
            .not_before
            .get()
            .is_some_and(|time| Instant::now() < time);
        if !waits && !self.asking.replace(true) {
            let reader = Rc::clone(self);
            spawn_local(async move { reader.asked().await });
        }
        None
    }

    async fn asked(&self) {
        let began = Instant::now();
        // Also where a question breaks off: the next look asks again.
        let _asking = Asking(&self.asking);
        let found = timeout(PATIENCE, Box::pin(self.found())).await;
        match found.unwrap_or(Found::Nobody) {
            Found::Good(verdict) => {
                *self.verdict.borrow_mut() = Some(verdict);
                self.unanswered.set(None);
            }
            Found::End(why) => self.ended.set(Some(why)),
            Found::Inactive => self.ended.set(Some(TunnelEnd::Revoked)),
            Found::Nobody => {
                let now = Instant::now();
                let since = self.unanswered.get().unwrap_or(began);
                self.unanswered.set(Some(since));
                self.not_before.set(Some(now + AGAIN));
                // What nobody can confirm any more has run out.
                if UNANSWERED <= now.duration_since(since) {
                    self.ended.set(Some(TunnelEnd::Expired));
                }
            }
        }
    }

    async fn found(&self) -> Found {
        let before = self.verdict.borrow().clone();
        let (Some(before), Some((request, brought))) = (before, &self.brought) else {
            return Found::gone();
        };
        // By what holds now, as it would be for a request.
        let (view, now) = (self.worker.view(), self.worker.now());
        let snapshot = &view.snapshot;
        let Routed::To { app, route: place } = snapshot.router.route(request) else {
            return Found::gone();
        };
        let entry = snapshot.apps.get(app);
        let route = entry.and_then(|entry| entry.settings.routes.get(place));
        let (Some(entry), Some(route)) = (entry, route) else {
            return Found::gone();
        };
        if route.access == Access::Public {
            return Found::Good(before);
        }
        let asked = Asked {
            source: Source {
                request_id: self.request_id.as_str(),
                trace: &self.trace,
                client: self.client,
                began: self.began,
            },
            view: &view,
            app,
            entry,
            request,
            headers: &brought.headers,
            address: brought.address,
            peer: brought.peer,
            certificate: brought.certificate.clone(),
            secure: brought.secure,
            pages: false,
            again: true,
            kill: entry.policy.kill(&self.worker.kill.current()),
            now,
        };
        let presented = auth::extract(
            asked.headers,
            asked.certificate.as_ref(),
            asked.entry.policy.owners(),
            &route.credentials,
        );
        let Ok(Some(presented)) = presented else {
            return Found::gone();
        };
        // Each proof counts once (RFC 9449 §11.1): there is none to ask with.
        if presented.scheme() == Scheme::Dpop {
            let over = before.admitted.expires() <= now;
            return Found::End(if over {
                TunnelEnd::Expired
            } else {
                TunnelEnd::Revoked
            });
        }
        let mut moved = self.moved.borrow().clone();
        for _ in 0..=MOVES {
            let own = match &moved {
                Some(cookie) => presented.with_session(cookie.expose()),
                None => Some(presented),
            };
            let Some(own) = own else {
                return Found::gone();
            };
            let found = self
                .judged(&asked, (place, &route.require), &own, &before)
                .await;
            if !matches!(found, Found::Inactive) {
                return self.followed(&asked, moved, &before, found);
            }
            match snapshot.gate.moved_to(&own, now).await {
                Ok(Some(cookie)) => moved = Some(Rc::new(cookie)),
                Ok(None) => return Found::gone(),
                Err(_) => return Found::Nobody,
            }
        }
        Found::gone()
    }

    /// What was found by a session that has taken the place of another one: who reads goes on only as who the application was told
    /// they are, to the byte.
    fn followed(
        &self,
        asked: &Asked<'_>,
        moved: Option<Rc<Secret<String>>>,
        before: &Verdict,
        found: Found,
    ) -> Found {
        let known = self.moved.borrow().clone();
        let another = match (&moved, &known) {
            (Some(moved), Some(known)) => !Rc::ptr_eq(moved, known),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let (Found::Good(after), true) = (&found, another) {
            let told = |admitted: &Admitted| {
                let (entry, limits) = (asked.entry, &asked.view.snapshot.server.limits);
                let (rules, mark) = (
                    &entry.settings.identity_headers,
                    entry.policy.mark(admitted),
                );
                IdentityHeaders::render(rules, admitted, mark, limits.identity_bytes)
            };
            match (told(&before.admitted), told(&after.admitted)) {
                (Ok(before), Ok(after)) if before == after => {}
                (Ok(_) | Err(_), Ok(_) | Err(_)) => return Found::End(TunnelEnd::Moved),
            }
            *self.moved.borrow_mut() = moved;
        }
        found
    }

    /// What the gate says of one session or token.
    async fn judged(
        &self,
        asked: &Asked<'_>,
        (place, require): (usize, &Require),
        presented: &Presented<'_>,
        before: &Verdict,
    ) -> Found {
        let now = asked.now;
        match verdict(&self.worker, asked, place, presented).await {
            Ok(after) if !is_same(&before.admitted, &after.admitted) => Found::gone(),
            // Within the tolerance for clocks a token is taken; nothing lasts because of it.
            Ok(after) if after.admitted.expires() <= now => Found::End(TunnelEnd::Expired),
            Ok(after) => match unmet(asked, require, &after.admitted) {
                // How fresh a login must be was asked when it was opened.
                None | Some(AuthError::StepUp { .. }) => Found::Good(after),
                Some(_) => Found::gone(),
            },
            Err(AuthError::Unavailable { .. } | AuthError::Limited { .. }) => Found::Nobody,
            Err(AuthError::Refused {
                refusal: Refusal::Expired,
                ..
            }) => Found::End(TunnelEnd::Expired),
            Err(AuthError::Refused {
                refusal: Refusal::Inactive,
                class: Some(CredentialClass::Session),
                ..
            }) => Found::Inactive,
            Err(
                AuthError::Refused { .. }
                | AuthError::Unproven { .. }
                | AuthError::InsufficientScope { .. }
                | AuthError::StepUp { .. }
                | AuthError::Forbidden { .. }
                | AuthError::Closed,
            ) => Found::gone(),
        }
    }
}

/// Whether the application was told of the same person.
fn is_same(before: &Admitted, after: &Admitted) -> bool {
    before.canonical() == after.canonical()
}

/// What the gate says of a request, or of what it has opened.
pub(super) async fn at_the_gate(
    asked: &Asked<'_>,
    route: usize,
    presented: &Presented<'_>,
    authority: &str,
) -> Result<Admitted, AuthError> {
    let (gate, policy) = (&asked.view.snapshot.gate, &asked.entry.policy);
    let way = (&asked.facts(), &asked.channel(authority));
    let (kill, now) = (asked.kill, asked.now);
    if asked.again {
        gate.admit_again(policy, route, presented, way, kill, now)
            .await
    } else {
        gate.admit(policy, route, presented, way, kill, now).await
    }
}
