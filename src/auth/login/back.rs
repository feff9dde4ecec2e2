//! The way back from a fallback: once the provider that was away is healthy again, it is asked whether it knows the person still.
//! If it does, they are back without a page; if not, what they have stays until its end, and the next sign-in is there.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tracing::info;
use tracing::warn;

use crate::auth::gate::Admitted;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::carry::RULE;
use crate::auth::login::flow::Errand;
use crate::auth::login::place::Place;
use crate::auth::login::start::Begin;
use crate::auth::login::start::Begun;
use crate::auth::login::start::Directed;
use crate::auth::settings::Silent;
use crate::identity::CanonicalSubject;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::Person;
use crate::rollout::Plan;

/// The session of a fallback lasts for an hour at most: a browser is asked about again after 10 min, a person twice a day.
const BACK: Silent = Silent {
    retry_after: Duration::from_mins(10),
    per_day: 2,
};

impl Logins {
    /// Asks the provider that was away whether it knows somebody who has the session of a fallback, without a page; `None`: the
    /// session stays, and the request goes on.
    pub(super) async fn go_back(
        &self,
        ask: &Ask<'_>,
        plan: &Plan,
        admitted: &Admitted,
    ) -> Option<Response<Bytes>> {
        self.session_id(ask)?;
        // Whom nothing joins is somebody else there.
        if *admitted.canonical() == CanonicalSubject::unjoined(&admitted.identity().key) {
            return None;
        }
        let arm = admitted.arm()?.other();
        let owner = self.deps.providers.named(plan.provider(arm))?;
        let health = owner.health();
        // As a whole, and proved by a success: one that is being tried again is not healthy yet.
        if owner.login().is_none() || !health.usable || health.down_since.is_some() {
            return None;
        }
        let mut device = self.device(ask);
        if device.was_asked(BACK.retry_after, ask.now) {
            return None;
        }
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
        let tries = Silent {
            per_day: self.silent.map_or(BACK.per_day, |silent| silent.per_day),
            ..BACK
        };
        // Nor are more of them sent round than may be lost there; and what has gone back already is answered where it is.
        if self.has_been_replaced(ask).await
            || (arm == Arm::To && !self.may_go_round(ask, &device, plan).await)
            || !self
                .one_more_try(plan, admitted.canonical(), tries, ask.now)
                .await
        {
            return None;
        }
        device.is_asked(ask.now);
        let mut begin = Begin::new(ask.target(), device);
        begin.directed = Some(Directed {
            provider: plan.provider(arm).clone(),
            rule: RULE,
            wanted: None,
            errand: Errand::Silent {
                person: admitted.canonical().as_str().to_owned(),
                holder: self.holder(ask),
            },
        });
        let place = Place {
            provider: plan.provider(arm).clone(),
            rule: RULE.to_owned(),
            fallback: None,
            placed: None,
            bounded: true,
            assigned: None,
        };
        let reached = self.begin_at(ask, &begin, &place).await.ok()??;
        info!(
            app = ask.policy.app().as_str(),
            provider = place.provider.as_str(),
            subject = %self.deps.reports.pseudonyms.of(admitted.canonical()),
            "Somebody with the session of a fallback is asked after: the provider that was away is healthy again."
        );
        match self.with_cookies(ask, reached, begin, &place) {
            Begun::Reply(response) => Some(response),
            Begun::NoLogin => None,
        }
    }
}
