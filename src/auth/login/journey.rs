//! What the journeys of people are told: who set out, who stumbled, who arrived.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::consents;
use crate::auth::cookies;
use crate::auth::gate::Admitted;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::device::Device;
use crate::auth::login::flow::Errand;
use crate::auth::login::flow::Flow;
use crate::auth::login::place::Place;
use crate::auth::login::start::Begin;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;
use crate::control::Departure;
use crate::control::Traveller;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::rollout::Plan;

impl Logins {
    /// Whether one more login may start at a side, as it looks now: nobody has a place by asking.
    pub(super) async fn may_set_out(
        &self,
        ask: &Ask<'_>,
        device: &Device,
        plan: &Plan,
        arm: Arm,
    ) -> bool {
        let traveller = traveller(ask, device, plan, arm);
        let journeys = &self.deps.journeys;
        // Logins are rare, and every request has room for one: these are kept elsewhere.
        Box::pin(journeys.may_start(&traveller, &self.deps.bucket_key)).await
    }

    /// Whether one more browser may be sent round to the new provider whose person is in already: whoever meets an error page
    /// there meant to go somewhere else.
    pub(super) async fn may_go_round(&self, ask: &Ask<'_>, device: &Device, plan: &Plan) -> bool {
        let traveller = Traveller {
            silent: true,
            ..traveller(ask, device, plan, Arm::To)
        };
        let journeys = &self.deps.journeys;
        Box::pin(journeys.may_start(&traveller, &self.deps.bucket_key)).await
    }

    /// A login came back: one of a browser that was sent round has its place again, whatever was said there.
    pub(super) async fn comes_round(&self, ask: &Ask<'_>, flow: &Flow) {
        let Errand::Silent { .. } = flow.errand else {
            return;
        };
        if let Some((plan, arm)) = of(ask, &flow.provider()) {
            let device = self.device(ask);
            let traveller = Traveller {
                silent: true,
                ..traveller(ask, &device, plan, arm)
            };
            let journeys = &self.deps.journeys;
            Box::pin(journeys.came_round(&traveller, &self.deps.bucket_key)).await;
        }
    }

    /// A browser is sent to a provider; `None`: it is not, because others have taken the last places meanwhile. What is dropped
    /// before the browser has its answer takes the journey back.
    pub(super) async fn sets_out(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        provider: &ProviderId,
        place: &Place,
    ) -> Option<Departure> {
        let silent = match begin.directed.as_ref().map(|directed| &directed.errand) {
            None => false,
            Some(Errand::Silent { .. }) => true,
            // Somebody who is in already: it says nothing about who gets in.
            Some(Errand::Session | Errand::Prove(_) | Errand::Join { .. }) => {
                return Some(Departure::kept());
            }
        };
        let Some((plan, arm)) = of(ask, provider) else {
            return Some(Departure::kept());
        };
        let traveller = Traveller {
            silent,
            ..traveller(ask, &begin.device, plan, arm)
        };
        let (journeys, key) = (&self.deps.journeys, &self.deps.bucket_key);
        let (background, how) = (&self.deps.background, (place.placed, place.bounded));
        Box::pin(journeys.departs(background, &traveller, how, key)).await
    }

    /// A browser came back without an identity.
    pub(super) async fn stumbles(&self, ask: &Ask<'_>, provider: &ProviderId) {
        if let Some((plan, arm)) = of(ask, provider) {
            let device = self.device(ask);
            let traveller = traveller(ask, &device, plan, arm);
            let journeys = &self.deps.journeys;
            Box::pin(journeys.stumbled(&traveller, &self.deps.bucket_key)).await;
        }
    }

    /// A login became a session.
    pub(super) async fn arrives(
        &self,
        ask: &Ask<'_>,
        device: &Device,
        (plan, arm): (&Plan, Arm),
        person: &CanonicalSubject,
        took: Duration,
    ) {
        let traveller = traveller(ask, device, plan, arm);
        let key = &self.deps.bucket_key;
        let journeys = &self.deps.journeys;
        Box::pin(journeys.succeeded(&traveller, person, Some(took), key)).await;
    }

    /// Somebody has moved: what they have agreed to at the new provider is asked beside it.
    pub(super) fn asks_for_consents(
        &self,
        plan: &Plan,
        (person, identity): (&CanonicalSubject, &Identity),
        now: UnixTime,
    ) {
        let Some(to) = self.deps.providers.named(&plan.to) else {
            return;
        };
        let says = to.directory().and_then(|directory| directory.consents());
        if says.is_none() {
            return;
        }
        let (to, pins) = (Arc::clone(to), Arc::clone(&self.deps.pins));
        let (rollout, epoch) = (plan.id.clone(), plan.epoch);
        let (person, subject) = (person.clone(), identity.key.subject.clone());
        self.deps.background.spawn(async move {
            let whom = (&person, &subject);
            consents::note(&*to, &pins, (&rollout, epoch), whom, now).await;
        });
    }

    /// Somebody was admitted with a session that is not ours: if their browser was sent to the form of the old side, this is
    /// how that journey ends.
    pub(crate) async fn arrived(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        admitted: &Admitted,
        now: UnixTime,
    ) {
        let sent = cookies::named(request.headers, &self.names.device);
        let device = sent
            .text()
            .and_then(|cookie| Device::open(&self.ring(), request.authority, cookie));
        let (Some(device), Some(plan), Some(arm)) = (device, policy.plan(), admitted.arm()) else {
            return;
        };
        let traveller = Traveller {
            plan,
            app: policy.app(),
            device: device.id(),
            arm,
            silent: false,
            now,
        };
        let key = &self.deps.bucket_key;
        let journeys = &self.deps.journeys;
        Box::pin(journeys.arrived(&traveller, admitted.canonical(), key)).await;
    }
}

fn of<'a>(ask: &Ask<'a>, provider: &ProviderId) -> Option<(&'a Plan, Arm)> {
    let plan = ask.policy.plan()?;
    Some((plan, plan.arm(provider)?))
}

fn traveller<'a>(ask: &Ask<'a>, device: &'a Device, plan: &'a Plan, arm: Arm) -> Traveller<'a> {
    Traveller {
        plan,
        app: ask.policy.app(),
        device: device.id(),
        arm,
        silent: false,
        now: ask.now,
    }
}
