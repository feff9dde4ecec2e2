//! The start of a login: where, bound to what, and where instead when that provider is away.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use tracing::error;
use tracing::warn;

use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::chooser::Hint;
use crate::auth::login::device::Device;
use crate::auth::login::elsewhere::known_outage;
use crate::auth::login::flow;
use crate::auth::login::flow::Errand;
use crate::auth::login::flow::Flow;
use crate::auth::login::flow::NewFlow;
use crate::auth::login::navigation;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::place::Place;
use crate::auth::login::query;
use crate::auth::login::query::Query;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::report::Told;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::LoginStart;
use crate::providers::Prompt;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::StepUp;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::Hearsay;
use crate::rollout::Pin;
use crate::rollout::Plan;

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
    /// Where it goes, whatever the rollout would choose.
    pub(super) directed: Option<Directed>,
    /// The slot of a login that is over, whose cookie is still in this request.
    pub(super) used: Option<u8>,
    /// What its person calls themselves, if they have said so.
    pub(super) hint: Option<Hint>,
    /// What they typed is no name.
    pub(super) misread: bool,
    /// Where they want to sign in, if they have said so.
    pub(super) chosen: Option<Arm>,
}

/// A login that goes to one provider, because of what was there before.
pub(super) struct Directed {
    pub(super) provider: ProviderId,
    /// Why, as a rule is named.
    pub(super) rule: &'static str,
    /// What it must be.
    pub(super) wanted: Option<Arc<StepUp>>,
    /// What it is about beside a session.
    pub(super) errand: Errand,
}

/// What came of it.
pub(super) enum Begun {
    /// A redirect, or a page that says why not.
    Reply(Response<Bytes>),
    /// The provider has no login for browsers: it takes credentials with the request.
    NoLogin,
}

impl Begin {
    pub(super) const fn new(target: ReturnPath, device: Device) -> Self {
        Self {
            target,
            device,
            pin: None,
            restarts: 0,
            cookies: Vec::new(),
            directed: None,
            used: None,
            hint: None,
            misread: false,
            chosen: None,
        }
    }

    /// The pin that counts: one that is known of the person, or else that of the browser.
    pub(super) fn pin_of(&self, plan: &Plan) -> Option<Pin> {
        let browser = || self.device.pin(plan, self.hint.as_ref());
        self.pin.or_else(browser)
    }

    fn wanted(&self) -> Option<Arc<StepUp>> {
        self.directed.as_ref()?.wanted.clone()
    }

    const fn prompt(&self) -> Prompt {
        match &self.directed {
            Some(Directed {
                errand: Errand::Silent { .. },
                ..
            }) => Prompt::Never,
            Some(_) | None => Prompt::AsNeeded,
        }
    }

    /// What is known of it: what the person wants to see steers, not the address of ours that asks.
    pub(super) fn facts<'a>(&'a self, ask: &Ask<'a>) -> Facts<'a> {
        Facts {
            path: self.target.path(),
            method: "GET",
            device: Some(self.device.id()),
            hearsay: Hearsay {
                identifier: self.hint.as_ref().map(Hint::folded),
                unit: self.hint.as_ref().map(Hint::unit),
                chosen: self.chosen,
            },
            person: None,
            ..ask.request.facts
        }
    }
}

impl Logins {
    /// `/.authferry/login`: the client does not choose the provider, unless a rule lets it; only where to return to, and what
    /// its person calls themselves (`login_hint`). A POST brings the answers to what we have asked.
    pub(super) async fn login(&self, ask: &Ask<'_>, body: &[u8]) -> Response<Bytes> {
        let query = Query::parse(ask.request.query).unwrap_or_default();
        let said = query.value("rd");
        let target = said
            .and_then(ReturnPath::parse)
            .unwrap_or_else(ReturnPath::root);
        let mut begin = Begin::new(target.clone(), self.device(ask));
        if said.is_none() || navigation::is_from_elsewhere(ask.request.headers) {
            begin.cookies.extend(self.forgets_place(ask));
        }
        begin.hint = query.value("login_hint").and_then(Hint::parse);
        if *ask.request.method == Method::POST {
            self.hears(ask, body, &mut begin);
        }
        match self.begin(ask, begin).await {
            Begun::Reply(response) => response,
            Begun::NoLogin => self.page(ask, Page::Failed, &target, Vec::new()),
        }
    }

    /// Begins a login where the browser is assigned, or says why not.
    pub(super) async fn begin(&self, ask: &Ask<'_>, begin: Begin) -> Begun {
        let begin = match self.ask_first(ask, begin).await {
            Ok(begin) => begin,
            Err(page) => return Begun::Reply(*page),
        };
        let place = match &begin.directed {
            // At this one: another provider knows another person.
            Some(directed) => Some(Place {
                provider: directed.provider.clone(),
                rule: directed.rule.to_owned(),
                fallback: None,
                placed: None,
            }),
            None => self.assign(ask, &begin).await,
        };
        let Some(place) = place else {
            return Begun::Reply(self.unavailable(ask, begin));
        };
        if let Some(page) = self.planned_begin(ask, &begin, &place) {
            return Begun::Reply(page);
        }
        // The other side does not know them: there is no other door.
        let only = begin.directed.is_none() && self.is_only_there(ask, &begin.device);
        if only && self.deps.revokes {
            return Begun::Reply(self.only_there(ask, begin));
        }
        let begin = match self.tell_of_change(ask, begin, &place) {
            Ok(begin) => begin,
            Err(page) => return Begun::Reply(*page),
        };
        // A known address is no sign of life: the provider as a whole is asked about first, then tried.
        let exercised = self.exercised(ask, &begin, &place).await;
        let owner = self.deps.providers.named(&place.provider);
        let known = || known_outage(&**owner?);
        let instead = match exercised.or_else(known) {
            Some(outage) if begin.directed.is_none() && !only => {
                self.pass_over(ask, &begin, &place, outage)
            }
            Some(_) | None => None,
        };
        let tried = match (&instead, exercised) {
            (Some(instead), _) => self.begin_at(ask, &begin, instead).await,
            (None, Some(outage)) => Err(outage),
            (None, None) => self.begin_at(ask, &begin, &place).await,
        };
        let outage = match (tried, &instead) {
            (Ok(reached), instead) => {
                let place = instead.as_ref().unwrap_or(&place);
                return self.with_cookies(ask, reached, begin, place);
            }
            // There is no third door.
            (Err(_), Some(_)) => return Begun::Reply(self.unavailable(ask, begin)),
            (Err(_), None) if only => return Begun::Reply(self.only_there(ask, begin)),
            (Err(outage), None) => outage,
        };
        // The assigned provider is away. Only now, only for a new login, and only if the configuration says so.
        let instead = match begin.directed {
            None => self.fall_back(ask, &begin, &place, outage),
            Some(_) => None,
        };
        match instead {
            Some(instead) => match self.begin_at(ask, &begin, &instead).await {
                Ok(reached) => self.with_cookies(ask, reached, begin, &instead),
                Err(_) => Begun::Reply(self.unavailable(ask, begin)),
            },
            None => Begun::Reply(self.unavailable(ask, begin)),
        }
    }

    /// One try at one provider; an error is an outage of it. One that is known to be away sends nobody to its page, whoever has
    /// its address.
    pub(super) async fn begin_at(
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
            let reached = self.form(ask, begin, place);
            if matches!(reached, Reached::Location(..)) {
                self.sets_out(ask, begin, owner.id(), place.placed).await;
            }
            return Ok(reached);
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
        self.sets_out(ask, begin, owner.id(), place.placed).await;
        Ok(Reached::Location(location, cookies))
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

    pub(super) fn with_cookies(
        &self,
        ask: &Ask<'_>,
        reached: Reached,
        begin: Begin,
        place: &Place,
    ) -> Begun {
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
                let mut response = response.unwrap_or_else(|| {
                    error!("A login address cannot stand in a header.");
                    self.page(ask, Page::Unavailable, &begin.target, Vec::new())
                });
                let plan = ask.policy.plan();
                response.extensions_mut().insert(Told {
                    provider: Some(place.provider.clone()),
                    arm: plan.and_then(|plan| plan.arm(&place.provider)),
                    rule: Some(place.rule.as_str().into()),
                    ..Told::default()
                });
                Begun::Reply(response)
            }
        }
    }

    fn unavailable(&self, ask: &Ask<'_>, mut begin: Begin) -> Response<Bytes> {
        begin.cookies.extend(self.forget_used(&begin));
        self.page(ask, Page::Unavailable, &begin.target, begin.cookies)
    }

    /// Our callback as the provider knows it.
    pub(super) fn redirect_uri(&self, ask: &Ask<'_>, path: &str) -> String {
        format!("{}{path}", self.names.origin(ask.request.authority))
    }
}

/// Where the browser is sent.
pub(super) enum Reached {
    Location(String, Vec<HeaderValue>),
    NoLogin,
}
