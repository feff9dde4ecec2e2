//! The way of a login to the page of its provider.

use std::sync::Arc;

use http::HeaderValue;
use tracing::error;
use tracing::warn;

use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::chooser::Hint;
use crate::auth::login::elsewhere::known_outage;
use crate::auth::login::flow;
use crate::auth::login::flow::Flow;
use crate::auth::login::flow::NewFlow;
use crate::auth::login::place::Place;
use crate::auth::login::query;
use crate::auth::login::start::Begin;
use crate::control::Departure;
use crate::identity::Outage;
use crate::providers::LoginStart;
use crate::providers::Provider;
use crate::providers::ProviderError;

/// Where the browser is sent.
pub(super) enum Reached {
    Location(String, Vec<HeaderValue>, Departure),
    NoLogin,
}

impl Logins {
    /// One try at one provider; an error is an outage of it. One that is known to be away sends nobody to its page, whoever has
    /// its address. `None`: it could be, and others have taken the places that there were while it was asked.
    pub(super) async fn begin_at(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
    ) -> Result<Option<Reached>, Outage> {
        let owner = ask
            .policy
            .judge(&place.provider, &self.deps.providers)
            .ok_or(Outage::Shed)?;
        let Some(login) = owner.login() else {
            let Some((location, cookies)) = self.form(ask, begin, place) else {
                return Ok(Some(Reached::NoLogin));
            };
            let goes = self.sets_out(ask, begin, owner.id(), place).await;
            let reached = |departure| Reached::Location(location, cookies, departure);
            return Ok(goes.map(reached));
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
                errand: begin.directed.as_ref().map(|directed| &directed.errand),
                hint: begin.hint.as_ref(),
            },
            &*self.deps.entropy,
            ask.now,
        );
        let (slot, mut cookies) = self.make_room(ask, &flow, begin.used);
        let location = self
            .ask_provider(owner, &flow, slot, (redirect_uri, begin))
            .await?;
        // Nothing need have been asked for that. Never one failed call: the breaker counts many, and our own questions.
        if let Some(outage) = known_outage(&**owner) {
            return Err(outage);
        }
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
        // Last of all: whoever does not set out has taken nobody's place.
        let goes = self.sets_out(ask, begin, owner.id(), place).await;
        let reached = |departure| Reached::Location(location, cookies, departure);
        Ok(goes.map(reached))
    }

    /// The provider's address for this login. Its metadata may have to be fetched: on the background runtime.
    async fn ask_provider(
        &self,
        owner: &Arc<dyn Provider>,
        flow: &Flow,
        slot: u8,
        (redirect_uri, begin): (String, &Begin),
    ) -> Result<String, Outage> {
        let artefacts = flow.artefacts(slot);
        let (wanted, prompt) = (begin.wanted(), begin.prompt());
        let hint = begin.hint.clone();
        let provider = Arc::clone(owner);
        let task = self.deps.background.spawn(async move {
            let login = provider.login().ok_or(ProviderError::from(Outage::Shed))?;
            login
                .start(LoginStart {
                    redirect_uri: &redirect_uri,
                    state: &artefacts.state,
                    nonce: &artefacts.nonce,
                    verifier: &artefacts.verifier,
                    step_up: wanted.as_deref(),
                    login_hint: hint.as_ref().map(Hint::typed),
                    prompt,
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

    /// The old side's own form, behind this proxy: the old application takes it from there. `None`: it has none.
    fn form(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
    ) -> Option<(String, Vec<HeaderValue>)> {
        let form = ask.policy.forms.get(&place.provider)?;
        let path = form.split_once('?').map_or(form.as_str(), |(path, _)| path);
        // The form itself must be public, or it would lead to itself.
        if path == ask.request.facts.path {
            return None;
        }
        let joint = if form.contains('?') { '&' } else { '?' };
        let next = query::encode(begin.target.as_str());
        let cookies = self.forget_used(begin).into_iter().collect();
        Some((format!("{form}{joint}next={next}"), cookies))
    }
}
