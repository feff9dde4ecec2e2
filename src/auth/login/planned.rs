//! Minutes in which the old side does not count, as planned: whoever comes with a session of it, or would sign in there, is told
//! until when, and loses nothing. And what has stopped counting for good: the old system is told, and its cookie goes.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use tracing::warn;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::error::AuthError;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::page::Page;
use crate::auth::login::place::Place;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::look::escaped;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::LoginBegun;
use crate::rollout::Plan;
use crate::secret::Secret;
use crate::session::OldSession;

impl Logins {
    /// The page for somebody whose session does not count for these minutes, and for no other reason.
    pub(super) fn planned_session(
        &self,
        ask: &Ask<'_>,
        why: &AuthError,
    ) -> Option<Response<Bytes>> {
        let provider = gone(ask, why)?;
        let page = self.planned(ask, provider, |plan| self.honours(ask, plan, provider))?;
        Some(self.planned_page(ask, page, &ask.target(), Vec::new()))
    }

    /// The page for somebody who would sign in where nobody can for these minutes, and for no other reason.
    pub(super) fn planned_begin(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
    ) -> Option<Response<Bytes>> {
        let begun = LoginBegun {
            at: ask.now,
            fallback: place.fallback.is_some(),
        };
        let page = self.planned_login(ask, &place.provider, begun, &begin.facts(ask))?;
        let mut cookies: Vec<HeaderValue> = self.forget_used(begin).into_iter().collect();
        cookies.extend(begin.cookies.iter().cloned());
        Some(self.planned_page(ask, page, &begin.target, cookies))
    }

    /// The same, of a login that may have come back.
    pub(super) fn planned_login(
        &self,
        ask: &Ask<'_>,
        provider: &ProviderId,
        begun: LoginBegun,
        facts: &Facts<'_>,
    ) -> Option<Page> {
        let (cohorts, now) = (&self.deps.cohorts, ask.now);
        self.planned(ask, provider, |plan| {
            let kill = ask.kill;
            let known = rollout::accept_login(plan, cohorts, kill, provider, begun, facts, now);
            // Who it is may still make it count.
            if known == Acceptance::OnlyExcept {
                Acceptance::Accepted
            } else {
                known
            }
        })
    }

    /// The page, where nothing but such minutes stands in the way.
    fn planned(
        &self,
        ask: &Ask<'_>,
        provider: &ProviderId,
        accepts: impl Fn(&Plan) -> Acceptance,
    ) -> Option<Page> {
        let plan = ask.policy.plan()?;
        let until = plan.stage.brown_until(ask.now)?;
        if plan.arm(provider) != Some(Arm::From) || accepts(plan) == Acceptance::Accepted {
            return None;
        }
        let mut at_other_times = plan.clone();
        at_other_times.stage.brownouts.clear();
        if accepts(&at_other_times) != Acceptance::Accepted {
            return None;
        }
        let wait = until.since(ask.now).as_millis().div_ceil(1_000);
        Some(Page::Planned {
            until,
            wait: u64::try_from(wait).unwrap_or(u64::MAX),
        })
    }

    /// The page with what is known beside: when it is over, and where the operator says what to do.
    pub(super) fn planned_page(
        &self,
        ask: &Ask<'_>,
        page: Page,
        target: &ReturnPath,
        cookies: Vec<HeaderValue>,
    ) -> Response<Bytes> {
        let Page::Planned { until, .. } = page else {
            return self.page(ask, page, target, cookies);
        };
        // To the minute in which it is over.
        let minute = until.as_secs().div_ceil(60).saturating_mul(60);
        let minute = i64::try_from(minute).unwrap_or(i64::MAX);
        let until = jiff::Timestamp::from_second(minute);
        let until = until.map_or_else(
            |_out_of_range| String::from("further notice"),
            |until| until.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        );
        let again = escaped(target.as_str());
        let mut body = format!(
            "<p>It is planned, until {until}. Nothing is lost: whoever is signed in stays signed in.</p>\n\
             <p><a href=\"{again}\">Try again</a></p>\n"
        );
        let warning = ask
            .policy
            .plan()
            .and_then(|plan| plan.stage.warning.as_ref());
        if let Some(notice) = warning.and_then(|warning| warning.notice.as_deref()) {
            let notice = escaped(notice);
            body.push_str("<p><a href=\"");
            body.push_str(&notice);
            body.push_str("\">What to do instead</a></p>\n");
        }
        let mut response = self.page_with(ask, page, target, cookies, Some(body));
        for (name, value) in ask.policy.refused_farewell(ask.now) {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// Ends our own session of the old side where that has stopped counting for good, at its owner too, and those of old systems
    /// that no application takes any more; the fields that make the browser forget their cookies.
    pub(super) async fn leaves_for_good(
        &self,
        ask: &Ask<'_>,
        why: Option<&AuthError>,
    ) -> Vec<HeaderValue> {
        let plan = ask.policy.plan();
        let gone = why.and_then(|why| gone(ask, why));
        // What comes back in some minutes is left alone, whatever else is said of it.
        let (Some(provider), false) = (gone, plan.is_some_and(|plan| plan.stage.is_brown(ask.now)))
        else {
            return Vec::new();
        };
        let own = self.session(ask).await;
        let own = own.filter(|own| own.identity().provider == *provider);
        if let (Some(_), Some(id)) = (own, self.session_id(ask)) {
            match self.deps.sessions.end(id, ask.now).await {
                Ok(Some(mut farewell)) => self.revoke_at_provider(ask, &mut farewell),
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "A session that counts no more ends by itself.");
                }
            }
        }
        if self.takes_still(ask, provider) {
            return Vec::new();
        }
        self.retires(ask, provider)
    }

    /// Whether sessions of an old system still count for somebody, somewhere: for whoever is excepted here, or in another
    /// application.
    fn takes_still(&self, ask: &Ask<'_>, provider: &ProviderId) -> bool {
        let takes = |plan: &Plan| {
            let brown = plan.stage.is_brown(ask.now);
            brown || self.honours(ask, plan, provider) < Acceptance::NotAccepted
        };
        // An application that lives by their cookies keeps them itself.
        ask.policy.forwards_credentials()
            || ask.policy.plan().is_none_or(takes)
            || ask.policy.others().any(|plan| plan.is_none_or(takes))
    }

    /// Has old systems end the sessions that the browser holds, behind its back, and each of them once: whoever has made one up
    /// is known to nobody there.
    fn retires(&self, ask: &Ask<'_>, provider: &ProviderId) -> Vec<HeaderValue> {
        let mut forget = Vec::new();
        let owners = ask.policy.owners().cookies.iter();
        for (name, owner) in owners.filter(|(_, owner)| owner.id() == provider) {
            let sent = cookies::named(ask.request.headers, name);
            if !owner.ends_sessions() || sent == cookies::Sent::None {
                continue;
            }
            if let Some(value) = sent.text() {
                let credential = Credential::Session {
                    cookie: name.clone(),
                    value: Secret::new(value.to_owned()),
                };
                let cookie = &**name;
                let digest = OldSession { cookie, value }.digest();
                if !self.retire(ask, owner, (credential, digest)) {
                    continue;
                }
            }
            forget.extend(self.names.set(name, "", Keep::Forget));
        }
        forget
    }

    /// `false`: too many are told of already; the browser keeps the cookie, and comes with it again.
    fn retire(
        &self,
        ask: &Ask<'_>,
        owner: &Arc<dyn Provider>,
        (credential, digest): (Credential, [u8; 32]),
    ) -> bool {
        let (list, at, now) = (&self.deps.revocations, Arc::clone(owner), ask.now);
        let (list, asked) = (Arc::clone(list), credential.clone());
        let goes = async move {
            match at.authenticate(&asked, now).await {
                Ok(_) => list.is_first_to_tell(&digest, now).await,
                Err(ProviderError::Rejected(_)) => false,
                // Nobody knows, and it is told again.
                Err(ProviderError::Unavailable { .. }) => true,
            }
        };
        let spent = Spent::Session(Arc::clone(owner), credential);
        let metrics = &self.deps.reports.metrics;
        let notice = Notice::new(owner.id(), spent, metrics, now);
        let (notices, background) = (&self.deps.notices, &self.deps.background);
        notices.send_if(notice, goes, background)
    }

    /// Whether sessions of a provider count, of whomever they are.
    fn honours(&self, ask: &Ask<'_>, plan: &Plan, provider: &ProviderId) -> Acceptance {
        let (cohorts, facts) = (&self.deps.cohorts, &ask.request.facts);
        let class = CredentialClass::Session;
        rollout::accept(plan, cohorts, ask.kill, provider, class, facts, ask.now)
    }
}

/// The provider of the old side whose session was refused because that side does not count.
fn gone<'a>(ask: &Ask<'_>, why: &'a AuthError) -> Option<&'a ProviderId> {
    let AuthError::Refused {
        refusal: Refusal::NotAccepted,
        provider: Some(provider),
        class: Some(CredentialClass::Session),
    } = why
    else {
        return None;
    };
    (ask.policy.plan()?.arm(provider) == Some(Arm::From)).then_some(provider)
}
