//! Carry-over: a person with a session of the old side who belongs to the new one is taken there without a page, if the new
//! provider knows them already. Whatever else comes of it, the session that is there stays as it is.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Response;
use tracing::debug;

use crate::auth::cookies;
use crate::auth::gate::Admitted;
use crate::auth::gate::stands::marks_of;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::callback::NoSession;
use crate::auth::login::callback::Returned;
use crate::auth::login::flow::Errand;
use crate::auth::login::navigation;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::place::Place;
use crate::auth::login::start::Begin;
use crate::auth::login::start::Begun;
use crate::auth::login::start::Directed;
use crate::auth::policy::AppPolicy;
use crate::auth::settings::Silent;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::revocation::Marks;
use crate::revocation::Standing;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::rollout::Person;
use crate::rollout::Plan;
use crate::secret::Secret;
use crate::session::OldSession;
use crate::session::Restored;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::CarryOver;

/// The rule that a session of such a login names.
pub(super) const RULE: &str = "silent";

impl Logins {
    /// Whether somebody who was admitted may be asked after at the new provider: a person with a session of the old side who
    /// opens a page. Looked at with every request: no more than the request itself.
    pub(crate) fn may_carry_over(
        &self,
        policy: &AppPolicy,
        (method, headers): (&Method, &HeaderMap),
        admitted: &Admitted,
    ) -> bool {
        let ways = self.silent.is_some() || policy.session_exchange().is_some();
        let asked_after = ways && admitted.arm() == Some(Arm::From);
        (asked_after || policy.goes_back(admitted))
            && admitted.class() == CredentialClass::Session
            && *method == Method::GET
            && navigation::is_top_level(headers)
    }

    /// The redirect that asks; `None`: the request goes on.
    pub(crate) async fn carry_over(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        admitted: &Admitted,
        kill: KillPosition,
        now: UnixTime,
    ) -> Option<Response<Bytes>> {
        let ask = Ask {
            policy,
            request,
            kill,
            now,
        };
        let plan = policy.plan()?;
        if policy.goes_back(admitted)
            && let Some(response) = self.go_back(&ask, plan, admitted).await
        {
            return Some(response);
        }
        if admitted.arm() != Some(Arm::From) {
            return None;
        }
        let mut device = self.device(&ask);
        let silent = self.silent;
        let silent = silent.filter(|silent| !device.was_asked(silent.retry_after, now));
        let exchange = policy.session_exchange();
        if silent.is_none() && exchange.is_none() {
            return None;
        }
        let facts = Facts {
            device: Some(device.id()),
            person: Some(Person {
                canonical: admitted.canonical(),
                identity: admitted.identity(),
            }),
            ..request.facts
        };
        let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
        let assigned = rollout::assign(plan, cohorts, key, kill, None, &facts, now);
        match assigned.arm {
            Arm::From => return None,
            Arm::To => {}
        }
        let to = self.deps.providers.named(&plan.to)?;
        let health = to.health();
        // Their session is good: one that is away is not even tried.
        if !health.usable || health.down_since.is_some() {
            return None;
        }
        if self.has_been_replaced(&ask).await {
            return None;
        }
        // The new provider has yet to prove itself in this step.
        if !self.may_set_out(&ask, &device, plan, Arm::To).await {
            return None;
        }
        // Without leaving the page, where that is possible.
        if let Some(exchange) = exchange {
            let moved = self.exchange_over(&ask, (plan, exchange), admitted, &facts, &device);
            if let Some(response) = moved.await {
                return Some(response);
            }
        }
        let silent = silent.filter(|_| to.login().is_some())?;
        // Nor are more of them sent round than may be lost there.
        if !self.may_go_round(&ask, &device, plan).await {
            return None;
        }
        if !self
            .one_more_try(plan, admitted.canonical(), silent, now)
            .await
        {
            return None;
        }
        device.is_asked(now);
        let mut begin = Begin::new(ask.target(), device);
        begin.directed = Some(Directed {
            provider: plan.to.clone(),
            rule: RULE,
            wanted: None,
            errand: Errand::Silent {
                person: admitted.canonical().as_str().to_owned(),
                holder: self.holder(&ask),
            },
        });
        let place = Place {
            provider: plan.to.clone(),
            rule: RULE.to_owned(),
            fallback: None,
            placed: None,
            bounded: true,
            assigned: None,
        };
        match self.begin_at(&ask, &begin, &place).await {
            Ok(Some(reached)) => match self.with_cookies(&ask, reached, begin, &place) {
                Begun::Reply(response) => Some(response),
                Begun::NoLogin => None,
            },
            // Others were sent round meanwhile.
            Ok(None) => None,
            Err(_) => {
                self.carried_over(&ask, CarryOver::Unavailable);
                None
            }
        }
    }

    /// Counts a try. A browser that forgets everything is not sent round: the person is counted too.
    pub(super) async fn one_more_try(
        &self,
        plan: &Plan,
        person: &CanonicalSubject,
        silent: Silent,
        now: UnixTime,
    ) -> bool {
        let pins = &self.deps.pins;
        let counted = pins.may_try(&plan.id, person, silent.per_day, now).await;
        counted.unwrap_or_else(|error| {
            debug!(%error, "Nobody is asked after while the store is away.");
            false
        })
    }

    /// Whether the login that came back is of the person who was asked after, and the session that it is to replace is still
    /// there: whoever has signed out meanwhile stays signed out.
    pub(super) async fn same_person(
        &self,
        ask: &Ask<'_>,
        (asked, holder): (&str, &str),
        found: &CanonicalSubject,
    ) -> Result<(), NoSession> {
        if found.as_str() != asked {
            return Err(NoSession::Stays(CarryOver::SubjectMismatch));
        }
        let still = match self.session_id(ask) {
            Some(_) => match self.session(ask).await {
                Some(session) if session.canonical() != found || !self.holds(ask, &session) => {
                    false
                }
                // What stands for a session of the old system is there as long as that is.
                Some(session) if session.stands_for().is_some() => {
                    self.theirs_at_from(ask, found).await.is_some()
                }
                Some(_) => true,
                None => false,
            },
            None => self.theirs_at_from(ask, found).await.is_some(),
        };
        if still && self.holder(ask) == holder {
            Ok(())
        } else {
            Err(NoSession::Stays(CarryOver::Refused))
        }
    }

    /// What names the sessions of the old side's systems that the browser may hold, whether they are any.
    pub(super) fn old_digests(&self, ask: &Ask<'_>) -> Vec<[u8; 32]> {
        let from = ask.policy.plan().map(|plan| &plan.from);
        let owners = ask.policy.owners().cookies.iter();
        let own = owners.filter(|(_, provider)| Some(provider.id()) == from);
        own.filter_map(|(cookie, _)| {
            let sent = cookies::named(ask.request.headers, cookie);
            let value = sent.text()?;
            Some(OldSession { cookie, value }.digest())
        })
        .collect()
    }

    /// Whether nothing of a session is revoked.
    pub(super) fn holds(&self, ask: &Ask<'_>, session: &Restored) -> bool {
        Standing::new(self.deps.revocations.index(), marks_of(session)).holds(ask.now)
    }

    /// The session of the old system itself that the browser holds, by its digest, if it is still this person's: by the word of
    /// that system, asked now, and by ours. Applications leave the cookie where it is when somebody signs out.
    pub(super) async fn theirs_at_from(
        &self,
        ask: &Ask<'_>,
        person: &CanonicalSubject,
    ) -> Option<[u8; 32]> {
        let plan = ask.policy.plan()?;
        for (cookie, provider) in &ask.policy.owners().cookies {
            let sent = cookies::named(ask.request.headers, cookie);
            let Some(value) = sent.text().filter(|_| *provider.id() == plan.from) else {
                continue;
            };
            let credential = Credential::Session {
                cookie: cookie.clone(),
                value: Secret::new(value.to_owned()),
            };
            let Some(proof) = self.judged(ask, provider, credential).await else {
                continue;
            };
            // An earlier yes says nothing of a sign-out.
            if proof.is_over(ask.now) || proof.is_remembered() {
                continue;
            }
            let (identity, cookie) = (proof.identity(), &**cookie);
            let old = OldSession { cookie, value }.digest();
            let marks = Marks::of(identity, person, proof.grounds()).and_session(&old);
            let standing = Standing::new(self.deps.revocations.index(), marks);
            let whose = self.deps.joiner.join(identity, ask.now).await;
            if whose.is_ok_and(|whose| whose == *person) && standing.holds(ask.now) {
                return Some(old);
            }
        }
        None
    }

    /// Which sessions the browser holds, ours or the old side's, such that nobody learns them from it. A name alone says
    /// little: applications leave the cookie where it is when somebody signs out, and when somebody else signs in.
    pub(super) fn holder(&self, ask: &Ask<'_>) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |name: &str| {
            let sent = match cookies::named(ask.request.headers, name) {
                cookies::Sent::Once(value) => value,
                cookies::Sent::None | cookies::Sent::Several => b"",
            };
            for part in [name.as_bytes(), sent] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        };
        add(&self.names.session);
        for (name, _) in ask.policy.owners().cookies.iter() {
            add(name);
        }
        let digest = context.finish();
        URL_SAFE_NO_PAD.encode(digest.as_ref().get(..16).unwrap_or_default())
    }

    /// Goes on with the session that is there.
    pub(super) fn stays(&self, returned: &Returned<'_>, why: CarryOver) -> Response<Bytes> {
        self.carried_over(returned.ask, why);
        let target = returned.flow.target();
        let cookies = returned.cookies.clone();
        page::redirect(Sent::SeeOther, target.as_str(), cookies)
            .unwrap_or_else(|| self.page(returned.ask, Page::Failed, &target, Vec::new()))
    }

    pub(super) fn carried_over(&self, ask: &Ask<'_>, outcome: CarryOver) {
        let metrics = &self.deps.reports.metrics;
        metrics.carried_over(ask.policy.app(), RULE, outcome);
    }
}

/// What became of a carry-over that a login did not end in.
pub(super) const fn carried(attempt: Option<Attempt>) -> CarryOver {
    match attempt {
        Some(Attempt::Rejected(Refusal::MfaRequired)) => CarryOver::LoginRequired,
        Some(Attempt::Unavailable(_)) => CarryOver::Unavailable,
        Some(Attempt::Rejected(_) | Attempt::Success | Attempt::Abandoned) | None => {
            CarryOver::Refused
        }
    }
}
