//! Who goes on to the application, by what the route asks and the client presents; who does not, and what they get.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Response;
use tokio::time::Instant;

use crate::auth;
use crate::auth::AuthError;
use crate::auth::Channel;
use crate::auth::ClientCertificate;
use crate::auth::Presented;
use crate::auth::Reach;
use crate::auth::Scheme;
use crate::auth::Source;
use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::proxy::again::at_the_gate;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::identity_headers::HeaderDenial;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::record::Record;
use crate::proxy::requirement::unmet;
use crate::proxy::respond::Fault;
use crate::proxy::settings::Access;
use crate::proxy::settings::OnUnauthenticated;
use crate::proxy::snapshot::AppEntry;
use crate::proxy::turned_away::tell;
use crate::proxy::turned_away::turn_away;
use crate::proxy::turned_away::turned;
use crate::proxy::verdicts::Digest;
use crate::proxy::verdicts::Verdict;
use crate::proxy::worker::View;
use crate::proxy::worker::Worker;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::Fields;
use crate::rollout::Hearsay;
use crate::rollout::KillPosition;
use crate::telemetry::Somebody;
use crate::telemetry::metrics::AppIndex;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::Cache;
use crate::telemetry::metrics::Flow;
use crate::telemetry::metrics::Lookup;

/// What is known of a request once it has one meaning.
pub(super) struct Asked<'a> {
    pub(super) view: &'a Rc<View>,
    pub(super) app: usize,
    pub(super) entry: &'a AppEntry,
    pub(super) request: &'a CanonicalRequest,
    pub(super) headers: &'a HeaderMap,
    pub(super) address: IpAddr,
    pub(super) peer: IpAddr,
    /// The certificate that the client proved to hold.
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether the client speaks TLS: with us, or with a listed peer.
    pub(super) secure: bool,
    /// Whether the client gets our pages and redirects: not if who asks for it understands a status only.
    pub(super) pages: bool,
    /// Whether it is asked again, for what the request has opened: then nothing is counted.
    pub(super) again: bool,
    pub(super) kill: KillPosition,
    pub(super) source: Source<'a>,
    pub(super) now: UnixTime,
}

/// Who goes on to the application.
pub(super) enum Admission {
    /// Nobody in particular.
    Anonymous,
    /// Somebody, with what the application is told.
    Known(Rc<Verdict>),
}

/// Who does not.
pub(super) enum Turned {
    Fault(Fault),
    Page(Box<Response<Bytes>>),
}

impl Asked<'_> {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            app: self.entry.policy.app(),
            host: self.request.host(),
            path: self.request.path(),
            method: self.request.method().as_str(),
            client_ip: Some(self.address),
            peer: Some(self.peer),
            fields: Some(self),
            device: None,
            hearsay: Hearsay::default(),
            person: None,
        }
    }

    pub(super) fn channel<'b>(&'b self, authority: &'b str) -> Channel<'b> {
        Channel {
            secure: self.secure,
            authority,
            certificate: self.certificate.as_ref().map(ClientCertificate::thumbprint),
            source: Some(self.source),
        }
    }

    pub(super) fn login<'b>(&'b self, authority: &'b str) -> auth::Request<'b> {
        auth::Request {
            facts: self.facts(),
            authority,
            query: self.request.query(),
            method: self.request.method(),
            headers: self.headers,
            source: Some(self.source),
        }
    }
}

impl Fields for Asked<'_> {
    fn equal(&self, name: &str, value: &str) -> bool {
        let mut all = self.headers.get_all(name).iter();
        let one = all.next().filter(|_| all.next().is_none());
        one.is_some_and(|one| one.as_bytes() == value.as_bytes())
    }

    fn sealed(&self, cookie: &str) -> bool {
        let logins = &self.view.snapshot.logins;
        logins.is_sealed(self.headers, &authority(self.request), cookie)
    }
}

/// Host, and port unless it is the scheme's own.
pub(super) fn authority(request: &CanonicalRequest) -> String {
    let default = if request.secure() { 443 } else { 80 };
    match request.port() {
        Some(port) if port != default => [request.host(), ":", &port.to_string()].concat(),
        Some(_) | None => request.host().to_owned(),
    }
}

/// Who goes on, by what the route asks and the client presents.
pub(super) async fn admission(
    worker: &Worker,
    asked: &Asked<'_>,
    route: usize,
    record: &mut Record,
) -> Result<Admission, Turned> {
    match asked.kill {
        KillPosition::Deny => return Err(turned(&AuthError::Closed, asked)),
        KillPosition::Off | KillPosition::Freeze | KillPosition::Legacy | KillPosition::Modern => {}
    }
    let place = route;
    let Some(route) = asked.entry.settings.routes.get(place) else {
        return Err(Turned::Fault(Fault::Internal));
    };
    if route.access == Access::Public {
        return Ok(Admission::Anonymous);
    }
    let presented = match auth::extract(
        asked.headers,
        asked.certificate.as_ref(),
        asked.entry.policy.owners(),
        &route.credentials,
    ) {
        Ok(presented) => presented,
        Err(why) => {
            return Err(Box::pin(turn_away(
                worker,
                asked,
                route.on_unauthenticated,
                Some(&why),
                record,
            ))
            .await);
        }
    };
    let Some(presented) = presented else {
        return match route.access {
            Access::Public | Access::Optional => Ok(Admission::Anonymous),
            Access::Required => Err(Box::pin(turn_away(
                worker,
                asked,
                route.on_unauthenticated,
                None,
                record,
            ))
            .await),
        };
    };
    let judged = verdict(worker, asked, place, &presented).await;
    if presented.scheme() == Scheme::Dpop || matches!(judged, Err(AuthError::Unproven { .. })) {
        record.nonce = asked.view.snapshot.gate.possession().nonce(asked.now);
    }
    match judged {
        Ok(verdict) => match unmet(asked, &route.require, &verdict.admitted) {
            None => Ok(Admission::Known(verdict)),
            Some(why) => {
                record.known = Some(verdict.pseudonym);
                // A login can make up for a weak one, and for nothing else.
                let instead = match why {
                    AuthError::StepUp { .. } => route.on_unauthenticated,
                    AuthError::Refused { .. }
                    | AuthError::Unproven { .. }
                    | AuthError::InsufficientScope { .. }
                    | AuthError::Forbidden { .. }
                    | AuthError::Limited { .. }
                    | AuthError::Unavailable { .. }
                    | AuthError::Closed => OnUnauthenticated::Unauthorized,
                };
                let turned = turn_away(worker, asked, instead, Some(&why), record);
                Err(Box::pin(turned).await)
            }
        },
        // A session that is over is none, and whoever has none is welcome here. Any other bad credential ends the matter.
        Err(why) if route.access == Access::Optional && why.leads_to_login() => {
            tell(worker, asked, &why, record);
            Ok(Admission::Anonymous)
        }
        Err(why) => Err(Box::pin(turn_away(
            worker,
            asked,
            route.on_unauthenticated,
            Some(&why),
            record,
        ))
        .await),
    }
}

/// The verdict about a credential: kept from an earlier request, or reached now.
///
/// What does not happen in most requests has its own box, here and above, so that it is no part of every request's future.
pub(super) async fn verdict(
    worker: &Worker,
    asked: &Asked<'_>,
    route: usize,
    presented: &Presented<'_>,
) -> Result<Rc<Verdict>, AuthError> {
    let exchange = asked.entry.policy.exchange_place(route);
    let (host, key) = (asked.request.host(), presented.key());
    let digest = worker.verdicts.digest(asked.app, exchange, host, key);
    if let Some(kept) = kept(worker, asked, &digest) {
        if presented.scheme() == Scheme::Dpop || kept.admitted.confirmation().is_some() {
            Box::pin(proven(asked, presented, &kept)).await?;
        }
        count(asked, &kept, Duration::ZERO);
        return Ok(kept);
    }
    let presented = presented.hinted(worker.verdicts.was_refused(&digest));
    let reached = Box::pin(reach(worker, asked, route, &presented, digest)).await;
    if reached.as_ref().is_err_and(AuthError::is_forged) {
        worker.verdicts.refused(digest);
    }
    reached
}

/// The verdict of an earlier request, if it still holds.
fn kept(worker: &Worker, asked: &Asked<'_>, digest: &Digest) -> Option<Rc<Verdict>> {
    let kept = worker
        .verdicts
        .find(digest, asked.view.snapshot.generation, asked.now)?;
    let signs = |seen| worker.assertions.rest_on() == seen;
    if !kept.admitted.still_good(asked.kill, asked.now) || !kept.signed.is_none_or(signs) {
        worker.verdicts.forget(digest);
        return None;
    }
    if !asked.again {
        asked.view.metrics.cache(Cache::Verdict, Lookup::Hit);
    }
    Some(kept)
}

/// A token may be remembered, its proof is asked for with every request.
async fn proven(
    asked: &Asked<'_>,
    presented: &Presented<'_>,
    kept: &Verdict,
) -> Result<(), AuthError> {
    let authority = authority(asked.request);
    let way = (&asked.facts(), &asked.channel(&authority));
    let gate = &asked.view.snapshot.gate;
    gate.proven(&kept.admitted, presented, way, asked.now).await
}

/// Reaches a verdict, and keeps it.
async fn reach(
    worker: &Worker,
    asked: &Asked<'_>,
    route: usize,
    presented: &Presented<'_>,
    digest: Digest,
) -> Result<Rc<Verdict>, AuthError> {
    let snapshot = &asked.view.snapshot;
    if !asked.again {
        asked.view.metrics.cache(Cache::Verdict, Lookup::Miss);
    }
    let began = Instant::now();
    let authority = authority(asked.request);
    let admitted = at_the_gate(asked, route, presented, &authority).await?;
    let theirs = presented.session().is_none() && admitted.class() == CredentialClass::Session;
    // What is open already has arrived.
    if theirs && !asked.again && admitted.arm() == Some(Arm::From) {
        let request = asked.login(&authority);
        let policy = &asked.entry.policy;
        let arrived = snapshot
            .logins
            .arrived(policy, &request, &admitted, asked.now);
        Box::pin(arrived).await;
    }
    let limits = &snapshot.server.limits;
    let denied = |denial: HeaderDenial| AuthError::Forbidden {
        refusal: denial.refusal(),
        provider: admitted.provider().clone(),
        class: admitted.class(),
    };
    let settings = &asked.entry.settings;
    let (rules, mark) = (
        &settings.identity_headers,
        asked.entry.policy.mark(&admitted),
    );
    let mut headers =
        IdentityHeaders::render(rules, &admitted, mark, limits.identity_bytes).map_err(denied)?;
    let mut until = admitted.expires().min(asked.now + limits.cache_ttl);
    let mut signed = None;
    if let Some(assertion) = &settings.assertion {
        // Before it is signed: a key that leaves meanwhile takes it along.
        signed = Some(worker.assertions.rest_on());
        let terms = auth::Terms {
            issuer: &assertion.issuer,
            audience: &assertion.audience,
            ttl: assertion.ttl,
        };
        let minted = worker.assertions.mint(&admitted, terms, asked.now);
        let (token, ends) = minted.or(Err(AuthError::Unavailable {
            outage: Outage::Malformed,
            retry_after: None,
            provider: None,
            class: Some(admitted.class()),
        }))?;
        headers = headers
            .with_assertion(assertion.header.clone(), token, limits.identity_bytes)
            .map_err(denied)?;
        // A kept assertion always has at least half of its life before it.
        until = until.min(asked.now + ends.since(asked.now) / 2);
    }
    if let Some(token) = admitted.token() {
        let (header, value) = (token.header().clone(), token.value().clone());
        headers = headers
            .with_assertion(header, value, limits.identity_bytes)
            .map_err(denied)?;
        until = until.min(token.kept_until());
    }
    let verdict = Rc::new(Verdict {
        pseudonym: worker.pseudonyms.of(admitted.canonical()),
        line: Somebody::default(),
        generation: snapshot.generation,
        signed,
        headers,
        since: asked.now,
        until,
        admitted,
    });
    match verdict.admitted.reach() {
        // What is open is judged less strictly than a request, which must not find that.
        Reach::SameCredential if !asked.again => {
            worker.verdicts.keep(digest, Rc::clone(&verdict));
        }
        Reach::SameCredential | Reach::ThisRequest => {}
    }
    count(asked, &verdict, began.elapsed());
    Ok(verdict)
}

fn count(asked: &Asked<'_>, verdict: &Verdict, took: Duration) {
    if asked.again {
        return;
    }
    let metrics = &asked.view.metrics;
    let (app, admitted) = (AppIndex(asked.app), &verdict.admitted);
    if let Some(provider) = metrics.names().provider(admitted.provider()) {
        metrics.attempt(
            app,
            provider,
            Flow::from(admitted.class()),
            Attempt::Success,
            took,
        );
    }
    if admitted.arm() == Some(Arm::From) {
        metrics.legacy_credential(app, admitted.class(), asked.now);
    }
}
