//! The start of a login: where, bound to what, and where instead when that provider is away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use tracing::error;
use tracing::warn;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::cookies::Sent;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::device::Device;
use crate::auth::login::flow;
use crate::auth::login::flow::Flow;
use crate::auth::login::flow::NewFlow;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::query;
use crate::auth::login::return_to::ReturnPath;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::LoginStart;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::Down;
use crate::rollout::Facts;
use crate::rollout::FallbackLeave;
use crate::rollout::NoFallback;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::rollout::RuleRef;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::Journey;

/// A login to begin.
pub(super) struct Begin {
    /// Where it returns to.
    pub(super) target: ReturnPath,
    /// The browser.
    pub(super) device: Device,
    /// A pin that is known beside that of the browser.
    pub(super) pin: Option<Pin>,
    /// How often it was begun before.
    pub(super) restarts: u8,
    /// Cookies that go along.
    pub(super) cookies: Vec<HeaderValue>,
    /// The slot of a login that is over, whose cookie is still in this request.
    pub(super) used: Option<u8>,
}

/// What came of it.
pub(super) enum Begun {
    /// A redirect, or a page that says why not.
    Reply(Response<Bytes>),
    /// The provider has no login for browsers: it takes credentials with the request.
    NoLogin,
}

/// Where a login starts.
struct Place {
    provider: ProviderId,
    rule: String,
    fallback: Option<Duration>,
}

impl Begin {
    pub(super) const fn new(target: ReturnPath, device: Device) -> Self {
        Self {
            target,
            device,
            pin: None,
            restarts: 0,
            cookies: Vec::new(),
            used: None,
        }
    }
}

impl Logins {
    /// Begins a login where the browser is assigned, or says why not.
    pub(super) async fn begin(&self, ask: &Ask<'_>, begin: Begin) -> Begun {
        let Some(place) = self.assign(ask, &begin) else {
            return Begun::Reply(self.unavailable(ask, begin));
        };
        let down = match self.begin_at(ask, &begin, &place).await {
            Ok(begun) => return self.with_cookies(ask, begun, begin),
            Err(down) => down,
        };
        // The assigned provider is away. Only now, only for a new login, and only if the configuration says so.
        match self.fall_back(ask, &begin, &place, down) {
            Some(instead) => match self.begin_at(ask, &begin, &instead).await {
                Ok(begun) => self.with_cookies(ask, begun, begin),
                Err(_) => Begun::Reply(self.unavailable(ask, begin)),
            },
            None => Begun::Reply(self.unavailable(ask, begin)),
        }
    }

    fn assign(&self, ask: &Ask<'_>, begin: &Begin) -> Option<Place> {
        let Some(plan) = ask.policy.plan() else {
            let provider = ask.policy.single.clone()?;
            return Some(Place {
                provider,
                rule: String::from("single"),
                fallback: None,
            });
        };
        let facts = Facts {
            device: Some(begin.device.id()),
            person: None,
            ..ask.request.facts
        };
        let pin = begin.pin.or_else(|| begin.device.pin(plan));
        let assignment = rollout::assign(
            plan,
            &self.deps.cohorts,
            &self.deps.bucket_key,
            ask.kill,
            pin,
            &facts,
            ask.now,
        );
        self.deps.reports.assigned(ask.about(), plan, &assignment);
        Some(Place {
            provider: plan.provider(assignment.arm).clone(),
            rule: assignment.rule.label().into_owned(),
            fallback: None,
        })
    }

    /// One try at one provider; an error is an outage of it.
    async fn begin_at(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
    ) -> Result<Reached, Outage> {
        let owner = ask
            .policy
            .judge(&place.provider, &self.deps.providers)
            .ok_or(Outage::Shed)?;
        let Some(login) = owner.login() else {
            return Ok(self.form(ask, begin, place));
        };
        let redirect_uri = self.redirect_uri(ask, login.redirect_path());
        let plan = ask.policy.plan();
        let flow = Flow::new(
            &NewFlow {
                provider: &**owner,
                login,
                redirect_uri: &redirect_uri,
                rollout: plan.map(|plan| (plan.id.as_str().to_owned(), plan.epoch)),
                stage: plan.map_or(0, |plan| plan.stage.index),
                revision: &self.revision,
                rule: &place.rule,
                target: &begin.target,
                restarts: begin.restarts,
                fallback: place.fallback,
            },
            &*self.deps.entropy,
            ask.now,
        );
        let (slot, mut cookies) = self.make_room(ask, &flow, begin.used);
        let location = self.ask_provider(owner, &flow, slot, redirect_uri).await?;
        let sealed = flow
            .seal(
                &self.ring(),
                ask.request.authority,
                slot,
                &*self.deps.entropy,
            )
            .ok_or(Outage::Shed)?;
        let name = self.names.flow(slot);
        cookies.extend(self.names.set(&name, &sealed, Keep::For(flow::LIFE)));
        self.deps
            .reports
            .journey(plan, owner.id(), Journey::Started);
        Ok(Reached::Location(location, cookies))
    }

    /// The provider's address for this login. Its metadata may have to be fetched: on the background runtime.
    async fn ask_provider(
        &self,
        owner: &Arc<dyn Provider>,
        flow: &Flow,
        slot: u8,
        redirect_uri: String,
    ) -> Result<String, Outage> {
        let artefacts = flow.artefacts(slot);
        let provider = Arc::clone(owner);
        let task = self.deps.background.spawn(async move {
            let login = provider.login().ok_or(ProviderError::from(Outage::Shed))?;
            login
                .start(LoginStart {
                    redirect_uri: &redirect_uri,
                    state: &artefacts.state,
                    nonce: &artefacts.nonce,
                    verifier: &artefacts.verifier,
                })
                .await
        });
        match task.await {
            Ok(Ok(location)) => Ok(location),
            Ok(Err(ProviderError::Unavailable { outage, .. })) => Err(outage),
            // There is nothing to refuse yet; a provider that cannot begin is away.
            Ok(Err(ProviderError::Rejected(refusal))) => {
                warn!(provider = %owner.id(), refusal = %refusal, "A login could not begin.");
                Err(Outage::Malformed)
            }
            Err(error) => {
                error!(provider = %owner.id(), error = %error, "The start of a login broke off.");
                Err(Outage::Shed)
            }
        }
    }

    /// The old side's own form, behind this proxy: the old application takes it from there.
    fn form(&self, ask: &Ask<'_>, begin: &Begin, place: &Place) -> Reached {
        let Some(form) = ask.policy.forms.get(&place.provider) else {
            return Reached::NoLogin;
        };
        let path = form.split_once('?').map_or(form.as_str(), |(path, _)| path);
        // The form itself must be public, or it would lead to itself.
        if path == ask.request.facts.path {
            return Reached::NoLogin;
        }
        let joint = if form.contains('?') { '&' } else { '?' };
        let next = query::encode(begin.target.as_str());
        let cookies = self.forget_used(begin).into_iter().collect();
        Reached::Location(format!("{form}{joint}next={next}"), cookies)
    }

    /// A slot for one more login under way, and the cookies that make room for it.
    fn make_room(&self, ask: &Ask<'_>, flow: &Flow, used: Option<u8>) -> (u8, Vec<HeaderValue>) {
        let ring = self.ring();
        let authority = ask.request.authority;
        let mut kept: Vec<(u8, Flow, usize)> = Vec::new();
        let mut gone: Vec<u8> = Vec::new();
        for slot in 0..flow::SLOTS {
            let name = self.names.flow(slot);
            let sent = cookies::named(ask.request.headers, &name);
            let open = sent
                .text()
                .and_then(|text| Some((Flow::open(&ring, authority, slot, text)?, text.len())))
                .filter(|(flow, _)| !flow.is_over(ask.now) && used != Some(slot));
            match (sent, open) {
                (Sent::None, _) => {}
                (_, Some((flow, length))) => kept.push((slot, flow, length + name.len() + 3)),
                (Sent::Once(_) | Sent::Several, None) => gone.push(slot),
            }
        }
        // The newest first, as many as fit beside the new one.
        kept.sort_by_key(|(_, flow, _)| std::cmp::Reverse(flow.began()));
        let sealed = flow.seal(&ring, authority, 0, &*self.deps.entropy);
        let mut bytes = sealed.map_or(0, |sealed| sealed.len() + self.names.flow(0).len() + 3);
        let mut stay = Vec::new();
        for (slot, _, length) in kept {
            bytes += length;
            let room = bytes <= flow::MAX_COOKIE_BYTES && stay.len() + 1 < usize::from(flow::SLOTS);
            if room {
                stay.push(slot);
            } else {
                gone.push(slot);
            }
        }
        // Any free slot will do; a random one, so that pages opened at the same moment rarely meet.
        let free: Vec<u8> = (0..flow::SLOTS)
            .filter(|slot| !stay.contains(slot))
            .collect();
        let mut dice = [0; 1];
        self.deps.entropy.fill(&mut dice);
        let [dice] = dice;
        let place = usize::from(dice).checked_rem(free.len()).unwrap_or(0);
        let slot = free.get(place).copied().unwrap_or(0);
        let forget = gone
            .into_iter()
            .filter(|other| *other != slot)
            .filter_map(|slot| self.names.set(&self.names.flow(slot), "", Keep::Forget))
            .collect();
        (slot, forget)
    }

    /// Leave to begin elsewhere, counted.
    fn fall_back(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
        outage: Outage,
    ) -> Option<Place> {
        let reports = &self.deps.reports;
        reports.login(
            ask.about(),
            &place.provider,
            Attempt::Unavailable(outage),
            Duration::ZERO,
        );
        let plan = ask.policy.plan()?;
        let assigned = plan.arm(&place.provider)?;
        let leave = self.leave(ask, begin, plan, assigned, outage);
        match leave {
            Ok(leave) => {
                self.deps.taken.one_more(ask.policy.app(), ask.now);
                reports.fallback(ask.about(), plan, assigned, outage);
                Some(Place {
                    provider: plan.provider(leave.arm).clone(),
                    rule: RuleRef::Fallback.label().into_owned(),
                    fallback: Some(leave.max_age),
                })
            }
            Err(reason) => {
                warn!(
                    app = ask.policy.app().as_str(),
                    provider = place.provider.as_str(),
                    outage = outage.as_str(),
                    fallback = reason.as_str(),
                    "A login could not begin."
                );
                None
            }
        }
    }

    fn leave(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        plan: &Plan,
        assigned: Arm,
        outage: Outage,
    ) -> Result<FallbackLeave, NoFallback> {
        let app = ask.policy.app();
        let fallback = ask
            .policy
            .fallbacks
            .iter()
            .find(|fallback| fallback.app == *app && fallback.from == assigned);
        let health = self
            .deps
            .providers
            .named(plan.provider(assigned))
            .map(|provider| provider.health());
        let instead = self.deps.providers.named(plan.provider(assigned.other()));
        // The session of an upstream's own form cannot be marked or cut short: no fallback leads there.
        if instead.is_none_or(|provider| provider.login().is_none()) {
            return Err(NoFallback::NotConfigured);
        }
        let facts = Facts {
            device: Some(begin.device.id()),
            person: None,
            // What is asked for decides whether there is a fallback, not the address of ours that asks.
            path: begin.target.path(),
            ..ask.request.facts
        };
        rollout::fall_back(
            fallback,
            plan,
            &self.deps.cohorts,
            ask.kill,
            Down {
                assigned,
                outage,
                since: health.and_then(|health| health.down_since),
            },
            self.deps.taken.count(app, ask.now),
            &facts,
            ask.now,
        )
    }

    fn with_cookies(&self, ask: &Ask<'_>, reached: Reached, begin: Begin) -> Begun {
        match reached {
            Reached::NoLogin => Begun::NoLogin,
            Reached::Location(location, mut cookies) => {
                cookies.extend(begin.cookies);
                cookies.extend(self.keep_device(ask, &begin.device));
                let sent = if matches!(*ask.request.method, Method::GET | Method::HEAD) {
                    page::Sent::Found
                } else {
                    page::Sent::SeeOther
                };
                let response = page::redirect(sent, &location, cookies);
                Begun::Reply(response.unwrap_or_else(|| {
                    error!("A login address cannot stand in a header.");
                    self.page(ask, Page::Unavailable, &begin.target, Vec::new())
                }))
            }
        }
    }

    fn unavailable(&self, ask: &Ask<'_>, mut begin: Begin) -> Response<Bytes> {
        begin.cookies.extend(self.forget_used(&begin));
        self.page(ask, Page::Unavailable, &begin.target, begin.cookies)
    }

    /// Has the browser forget the record of a login that is over, where no other takes its slot.
    fn forget_used(&self, begin: &Begin) -> Option<HeaderValue> {
        let name = self.names.flow(begin.used?);
        self.names.set(&name, "", Keep::Forget)
    }

    /// Our callback as the provider knows it.
    pub(super) fn redirect_uri(&self, ask: &Ask<'_>, path: &str) -> String {
        format!("{}{path}", self.names.origin(ask.request.authority))
    }
}

/// Where the browser is sent.
enum Reached {
    Location(String, Vec<HeaderValue>),
    NoLogin,
}
