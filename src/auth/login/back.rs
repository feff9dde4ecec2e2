//! The way back from a fallback: its session ends once the provider that was away is healthy again, and the person signs in
//! where they belong.

use bytes::Bytes;
use http::Response;
use tracing::info;
use tracing::warn;

use crate::auth::cookies::Keep;
use crate::auth::gate::Admitted;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::place::Place;
use crate::auth::login::start::Begin;
use crate::auth::login::start::Begun;
use crate::rollout;
use crate::rollout::Facts;
use crate::rollout::Person;
use crate::rollout::Plan;

impl Logins {
    /// Ends the session of a fallback and begins a login at the provider that was away; `None`: the session stays, and the
    /// request goes on. The login may show a page: a provider that knows the person still will not.
    pub(super) async fn go_back(
        &self,
        ask: &Ask<'_>,
        plan: &Plan,
        admitted: &Admitted,
    ) -> Option<Response<Bytes>> {
        let id = self.session_id(ask)?;
        let arm = admitted.arm()?.other();
        let owner = self.deps.providers.named(plan.provider(arm))?;
        let health = owner.health();
        // As a whole, and proved by a success: one that is being tried again is not healthy yet.
        if owner.login().is_none() || !health.usable || health.down_since.is_some() {
            return None;
        }
        let device = self.device(ask);
        let pin = self.deps.pins.of(&plan.id, admitted.canonical(), ask.now);
        let pin = match pin.await {
            Ok(pin) => pin,
            Err(error) => {
                warn!(%error, "The session of a fallback stays while the store is away.");
                return None;
            }
        };
        let facts = Facts {
            device: Some(device.id()),
            person: Some(Person {
                canonical: admitted.canonical(),
                identity: admitted.identity(),
            }),
            ..ask.request.facts
        };
        let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
        let assigned = rollout::assign(plan, cohorts, key, ask.kill, pin, &facts, ask.now);
        // Meanwhile people may have been called back: then they are where they belong. And a provider that has yet to prove
        // itself in this step gets no more than it may.
        if assigned.arm != arm || !self.may_set_out(ask, &device, plan, arm).await {
            return None;
        }
        let mut begin = Begin::new(ask.target(), device);
        let place = Place {
            provider: plan.provider(arm).clone(),
            rule: assigned.rule.label().into_owned(),
            fallback: None,
            placed: None,
            bounded: true,
            assigned: None,
        };
        // Tried first: if it is away again, nobody loses a session.
        let reached = self.begin_at(ask, &begin, &place).await.ok()??;
        match self.deps.sessions.end(id, ask.now).await {
            Ok(Some(mut farewell)) => self.revoke_at_provider(ask, &mut farewell),
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "The session of a fallback could not be ended.");
                return None;
            }
        }
        self.deps.reports.assigned(ask.about(), plan, &assigned);
        info!(
            app = ask.policy.app().as_str(),
            provider = place.provider.as_str(),
            subject = %self.deps.reports.pseudonyms.of(admitted.canonical()),
            "The session of a fallback ended: the provider that was away is healthy again."
        );
        let forget = self.names.set(&self.names.session, "", Keep::Forget);
        begin.cookies.extend(forget);
        match self.with_cookies(ask, reached, begin, &place) {
            Begun::Reply(response) => Some(response),
            Begun::NoLogin => None,
        }
    }
}
