//! The return of a login: checked against its record before anything is sent anywhere, and turned into a session.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use tokio::time::Instant;
use tracing::error;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::carry::carried;
use crate::auth::login::device::Bounce;
use crate::auth::login::flow;
use crate::auth::login::flow::Errand;
use crate::auth::login::flow::Flow;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::query::Query;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::said::failed;
use crate::auth::login::said::said_no;
use crate::auth::login::start::Begin;
use crate::auth::login::start::Begun;
use crate::auth::login::start::Directed;
use crate::auth::report::Told;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::LoggedIn;
use crate::providers::LoginAnswer;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::telemetry::Pseudonym;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::CarryOver;

/// A login of this browser that has come back.
pub(super) struct Returned<'a> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) slot: u8,
    pub(super) flow: Flow,
    /// When the answer came.
    pub(super) arrived: Instant,
    /// Has the browser forget the record, whatever comes of it: an answer counts once.
    pub(super) cookies: Vec<HeaderValue>,
}

/// Why a login that came back is no session.
pub(super) enum NoSession {
    /// Said on a page, and counted as this.
    Ends(Page, Attempt),
    /// Begun once more, where the person is sent now.
    Again(Option<Pin>),
    /// Goes on at a certain provider.
    At(Box<Directed>),
    /// Waits for what the person says on a page of ours.
    Asks(Box<Errand>),
    /// The browser goes on with the session that it has.
    Stays(CarryOver),
}

impl Logins {
    /// The callback of a provider.
    pub(super) async fn callback(
        &self,
        ask: &Ask<'_>,
        provider: Option<&ProviderId>,
    ) -> Response<Bytes> {
        let query = match Query::parse(ask.request.query) {
            Ok(query) if *ask.request.method == Method::GET => query,
            Ok(_) | Err(_) => return self.stray(ask).await,
        };
        let Some(returned) = query
            .value("state")
            .and_then(|state| self.returned(ask, state))
            // A page of ours is answered elsewhere.
            .filter(|returned| !matches!(returned.flow.errand, Errand::Join { .. }))
        else {
            return self.stray(ask).await;
        };
        self.comes_round(ask, &returned.flow).await;
        if returned.flow.is_over(ask.now) {
            return self.ends(returned, Page::TooLate, None).await;
        }
        let flow = &returned.flow;
        let begun_with = flow.provider();
        if provider.is_some_and(|provider| *provider != begun_with) {
            // Two providers are being mixed up, by whomever (RFC 9700 §4.4).
            return self.refuses(returned, Refusal::WrongIssuer).await;
        }
        // A provider that is gone, or takes no part any more: once more, where people sign in now.
        let owner = ask.policy.judge(&begun_with, &self.deps.providers);
        let Some((owner, login)) = owner.and_then(|owner| Some((owner, owner.login()?))) else {
            return self.again(returned, None).await;
        };
        let redirect_uri = self.redirect_uri(ask, login.redirect_path());
        if !flow.is_bound_to(&**owner, login, &redirect_uri) {
            return self.refuses(returned, Refusal::WrongAudience).await;
        }
        if !is_of_this_epoch(flow, ask.policy.plan()) {
            return self.again(returned, None).await;
        }
        let iss = query.given("iss");
        if let Some(code) = query.given("error") {
            // Nor does anybody else speak of this provider by an error (RFC 9207 §2.4).
            if let Err(refusal) = login.answers_as(iss) {
                return self.refuses(returned, refusal).await;
            }
            let (page, attempt) = said_no(code);
            return self.ends(returned, page, Some((owner.id(), attempt))).await;
        }
        let Some(code) = query.value("code") else {
            return self.refuses(returned, Refusal::BadCredentials).await;
        };
        let finished = self
            .finish(
                owner,
                &returned,
                code.to_owned(),
                iss.map(str::to_owned),
                redirect_uri,
            )
            .await;
        let settled = match finished {
            Ok(logged_in) => {
                let mut settled = self.settle(&returned, owner, &logged_in).await;
                if let Err(why) = &mut settled {
                    self.gives_back(&returned, owner, logged_in, why).await;
                }
                settled
            }
            Err(error) => Err(failed(&error)),
        };
        match settled {
            Ok(settled) => self.lets_in(returned, owner.id(), settled),
            Err(NoSession::Ends(page, attempt)) => {
                self.ends(returned, page, Some((owner.id(), attempt))).await
            }
            Err(NoSession::Again(pin)) => self.again(returned, pin).await,
            Err(NoSession::At(directed)) => self.goes_on(returned, *directed).await,
            Err(NoSession::Asks(errand)) => self.asks_to_join(returned, owner, &errand).await,
            Err(NoSession::Stays(why)) => self.stays(&returned, why),
        }
    }

    /// The login of this browser that `state` belongs to.
    pub(super) fn returned<'a>(&self, ask: &'a Ask<'a>, state: &str) -> Option<Returned<'a>> {
        let slot = flow::slot_of(state)?;
        let name = self.names.flow(slot);
        let cookie = cookies::named(ask.request.headers, &name).text()?;
        let flow = Flow::open(&self.ring(), ask.request.authority, slot, cookie)?;
        if !flow.answers_to(slot, state) {
            return None;
        }
        let cookies = self
            .names
            .set(&name, "", Keep::Forget)
            .into_iter()
            .collect();
        Some(Returned {
            ask,
            slot,
            flow,
            arrived: Instant::now(),
            cookies,
        })
    }

    /// Redeems the code: on the background runtime, and to the end even if the browser goes away.
    async fn finish(
        &self,
        owner: &Arc<dyn Provider>,
        returned: &Returned<'_>,
        code: String,
        iss: Option<String>,
        redirect_uri: String,
    ) -> Result<LoggedIn, ProviderError> {
        let artefacts = returned.flow.artefacts(returned.slot);
        let (provider, now) = (Arc::clone(owner), returned.ask.now);
        let task = self.deps.background.spawn(async move {
            let login = provider.login().ok_or(ProviderError::from(Outage::Shed))?;
            let answer = LoginAnswer {
                code: &code,
                iss: iss.as_deref(),
                redirect_uri: &redirect_uri,
                nonce: &artefacts.nonce,
                verifier: &artefacts.verifier,
            };
            login.finish(answer, now).await
        });
        task.await.unwrap_or_else(|error| {
            error!(provider = %owner.id(), error = %error, "The end of a login broke off.");
            Err(Outage::Shed.into())
        })
    }

    fn lets_in(
        &self,
        returned: Returned<'_>,
        provider: &ProviderId,
        (session, subject): (Vec<HeaderValue>, Pseudonym),
    ) -> Response<Bytes> {
        let target = returned.flow.target();
        self.told(returned.ask, &returned.flow, provider, Attempt::Success);
        let told = Told {
            subject: Some(subject),
            ..returned.tells(provider, Some(Attempt::Success))
        };
        let mut cookies = returned.cookies;
        cookies.extend(session);
        cookies.extend(self.forgets_next(returned.ask));
        if let Errand::Silent { .. } = returned.flow.errand {
            self.carried_over(returned.ask, CarryOver::Moved);
        }
        let address = self.lands_at(returned.ask, &target, &mut cookies);
        let mut response = if self.names.is_strict() {
            // A redirect would still be a request that the provider's site began, and come without the session.
            self.goes_on_to(returned.ask, &target, &address, cookies)
        } else {
            page::redirect(Sent::SeeOther, &address, cookies).unwrap_or_else(|| {
                self.page(returned.ask, Page::Failed, &ReturnPath::root(), Vec::new())
            })
        };
        response.extensions_mut().insert(told);
        response
    }

    /// The login is over.
    pub(super) async fn ends(
        &self,
        returned: Returned<'_>,
        page: Page,
        attempt: Option<(&ProviderId, Attempt)>,
    ) -> Response<Bytes> {
        if let Errand::Silent { .. } = returned.flow.errand {
            return self.stays(&returned, carried(attempt.map(|(_, attempt)| attempt)));
        }
        self.gives_back_first(&returned).await;
        if let Some((provider, attempt)) = attempt {
            self.told(returned.ask, &returned.flow, provider, attempt);
        }
        let provider = returned.flow.provider();
        self.stumbles(returned.ask, &provider).await;
        let told = returned.tells(&provider, attempt.map(|(_, attempt)| attempt));
        let target = returned.flow.target();
        let mut response = self.planned_page(returned.ask, page, &target, returned.cookies);
        response.extensions_mut().insert(told);
        response
    }

    /// The answer does not fit the login: nothing is sent to anybody.
    async fn refuses(&self, returned: Returned<'_>, refusal: Refusal) -> Response<Bytes> {
        let provider = returned.flow.provider();
        let about = returned.ask.about();
        self.deps.reports.refused(about, Some(&provider), refusal);
        let mut response = self.ends(returned, Page::Mismatch, None).await;
        if let Some(told) = response.extensions_mut().get_mut::<Told>() {
            told.attempt = Some(Attempt::Rejected(refusal));
        }
        response
    }

    /// One more login, at a certain provider. Each step is taken once: the second is no longer one of a fresh login.
    pub(super) async fn goes_on(
        &self,
        returned: Returned<'_>,
        directed: Directed,
    ) -> Response<Bytes> {
        let begin = Begin {
            restarts: returned.flow.restarts.saturating_add(1),
            used: Some(returned.slot),
            directed: Some(directed),
            ..Begin::new(returned.flow.target(), self.device(returned.ask))
        };
        self.begins_anew(returned, begin).await
    }

    /// Once more, where people sign in now; a second time is a page.
    async fn again(&self, returned: Returned<'_>, pin: Option<Pin>) -> Response<Bytes> {
        let ask = returned.ask;
        let provider = returned.flow.provider();
        if 0 < returned.flow.restarts && !matches!(returned.flow.errand, Errand::Silent { .. }) {
            let attempt = Attempt::Rejected(Refusal::NotAccepted);
            return self
                .ends(returned, Page::NotAllowed, Some((&provider, attempt)))
                .await;
        }
        self.gives_back_first(&returned).await;
        let (begin, target) = (
            returned.once_more(pin, self.device(ask)),
            returned.flow.target(),
        );
        let silent = matches!(returned.flow.errand, Errand::Silent { .. });
        let response = self.begins_anew(returned, begin).await;
        if silent {
            return response;
        }
        self.says_once_more(ask, (&provider, &target), response)
    }

    async fn begins_anew(&self, returned: Returned<'_>, mut begin: Begin) -> Response<Bytes> {
        if let Errand::Silent { .. } = returned.flow.errand {
            return self.stays(&returned, CarryOver::Refused);
        }
        let ask = returned.ask;
        match begin.device.bounce(ask.now) {
            Bounce::Fine => {}
            Bounce::Circles => {
                begin.cookies = returned.cookies;
                return self.circles(ask, begin);
            }
        }
        match self.begin(ask, begin).await {
            Begun::Reply(response) => response,
            Begun::NoLogin => self.page(
                ask,
                Page::NotAllowed,
                &returned.flow.target(),
                returned.cookies,
            ),
        }
    }

    /// A callback of no login of this browser: whoever is signed in goes on, nothing else happens.
    async fn stray(&self, ask: &Ask<'_>) -> Response<Bytes> {
        let root = ReturnPath::root();
        let home = match self.session(ask).await {
            Some(_) => page::redirect(Sent::SeeOther, root.as_str(), Vec::new()),
            None => None,
        };
        home.unwrap_or_else(|| self.page(ask, Page::Stray, &root, Vec::new()))
    }

    fn told(&self, ask: &Ask<'_>, flow: &Flow, provider: &ProviderId, attempt: Attempt) {
        let about = ask.about();
        let took = ask.now.since(flow.began());
        self.deps.reports.login(about, provider, attempt, took);
    }
}

impl Returned<'_> {
    /// What the access log says of its end.
    fn tells(&self, provider: &ProviderId, attempt: Option<Attempt>) -> Told {
        let plan = self.ask.policy.plan();
        Told {
            provider: Some(provider.clone()),
            arm: plan.and_then(|plan| plan.arm(provider)),
            rule: Some(self.flow.rule.as_str().into()),
            attempt,
            ..Told::default()
        }
    }
}

/// Where the rollout has moved its epoch on, a login begun before is void; so is one of another rollout.
pub(super) fn is_of_this_epoch(flow: &Flow, plan: Option<&Plan>) -> bool {
    match (flow.rollout(), plan) {
        (Some((rollout, epoch)), Some(plan)) => {
            *rollout == *plan.id.as_str() && *epoch == plan.epoch
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
