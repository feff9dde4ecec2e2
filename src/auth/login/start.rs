//! The start of a login: where, bound to what, and where instead when that provider is away.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use tracing::error;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::chooser::Hint;
use crate::auth::login::device::Device;
use crate::auth::login::elsewhere::known_outage;
use crate::auth::login::flow::Errand;
use crate::auth::login::navigation;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::place::Place;
use crate::auth::login::query::Query;
use crate::auth::login::reach::Reached;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::report::Told;
use crate::identity::ProviderId;
use crate::providers::Prompt;
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
    /// The places of the first logins were taken while their provider was asked.
    pub(super) late: bool,
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
            late: false,
        }
    }

    /// The pin that counts: one that is known of the person, or else that of the browser.
    pub(super) fn pin_of(&self, plan: &Plan) -> Option<Pin> {
        let browser = || self.device.pin(plan, self.hint.as_ref());
        self.pin.or_else(browser)
    }

    pub(super) fn wanted(&self) -> Option<Arc<StepUp>> {
        self.directed.as_ref()?.wanted.clone()
    }

    pub(super) const fn prompt(&self) -> Prompt {
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
        let mut begin = match self.ask_first(ask, begin).await {
            Ok(begin) => begin,
            Err(page) => return Begun::Reply(*page),
        };
        loop {
            match self.begin_once(ask, begin).await {
                Ok(begun) => return begun,
                // Whoever is late is assigned where there is no bound.
                Err(late) => {
                    begin = Begin {
                        late: true,
                        ..*late
                    }
                }
            }
        }
    }

    /// The same of one try; an error: others have taken the last of the places that there were while its provider was asked.
    async fn begin_once(&self, ask: &Ask<'_>, begin: Begin) -> Result<Begun, Box<Begin>> {
        let place = match &begin.directed {
            // At this one: another provider knows another person.
            Some(directed) => Some(Place {
                provider: directed.provider.clone(),
                rule: directed.rule.to_owned(),
                fallback: None,
                placed: None,
                bounded: false,
                assigned: None,
            }),
            None => self.assign(ask, &begin).await,
        };
        let Some(place) = place else {
            return Ok(Begun::Reply(self.unavailable(ask, begin)));
        };
        let begun = self.begin_there(ask, begin, &place).await?;
        if let (Some(assigned), Some(plan)) = (&place.assigned, ask.policy.plan()) {
            self.deps.reports.assigned(ask.about(), plan, assigned);
        }
        Ok(begun)
    }

    async fn begin_there(
        &self,
        ask: &Ask<'_>,
        begin: Begin,
        place: &Place,
    ) -> Result<Begun, Box<Begin>> {
        if let Some(page) = self.planned_begin(ask, &begin, place) {
            return Ok(Begun::Reply(page));
        }
        // The other side does not know them: there is no other door.
        let only = begin.directed.is_none() && self.is_only_there(ask, &begin.device);
        if only && self.deps.revokes {
            return Ok(Begun::Reply(self.only_there(ask, begin)));
        }
        let begin = match self.tell_of_change(ask, begin, place) {
            Ok(begin) => begin,
            Err(page) => return Ok(Begun::Reply(*page)),
        };
        // A known address is no sign of life: the provider as a whole is asked about first, then tried.
        let exercised = self.exercised(ask, &begin, place).await;
        let owner = self.deps.providers.named(&place.provider);
        let known = || known_outage(&**owner?);
        let instead = match exercised.or_else(known) {
            Some(outage) if begin.directed.is_none() && !only => {
                self.pass_over(ask, &begin, place, outage)
            }
            Some(_) | None => None,
        };
        let tried = match (&instead, exercised) {
            (Some(instead), _) => self.begin_at(ask, &begin, instead).await,
            (None, Some(outage)) => Err(outage),
            (None, None) => self.begin_at(ask, &begin, place).await,
        };
        let outage = match (tried, &instead) {
            (Ok(Some(reached)), instead) => {
                let place = instead.as_ref().unwrap_or(place);
                return Ok(self.with_cookies(ask, reached, begin, place));
            }
            (Ok(None), _) => return Err(Box::new(begin)),
            // There is no third door.
            (Err(_), Some(_)) => return Ok(Begun::Reply(self.unavailable(ask, begin))),
            (Err(_), None) if only => return Ok(Begun::Reply(self.only_there(ask, begin))),
            (Err(outage), None) => outage,
        };
        // The assigned provider is away. Only now, only for a new login, and only if the configuration says so.
        let instead = match begin.directed {
            None => self.fall_back(ask, &begin, place, outage),
            Some(_) => None,
        };
        Ok(match instead {
            Some(instead) => match self.begin_at(ask, &begin, &instead).await {
                Ok(Some(reached)) => self.with_cookies(ask, reached, begin, &instead),
                Ok(None) | Err(_) => Begun::Reply(self.unavailable(ask, begin)),
            },
            None => Begun::Reply(self.unavailable(ask, begin)),
        })
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
            Reached::Location(location, mut cookies, departure) => {
                cookies.extend(begin.cookies);
                cookies.extend(self.keep_device(ask, &begin.device));
                let sent = if matches!(*ask.request.method, Method::GET | Method::HEAD) {
                    page::Sent::Found
                } else {
                    page::Sent::SeeOther
                };
                let mut response = match page::redirect(sent, &location, cookies) {
                    Some(mut response) => {
                        response.extensions_mut().insert(departure);
                        response
                    }
                    None => {
                        error!("A login address cannot stand in a header.");
                        self.page(ask, Page::Unavailable, &begin.target, Vec::new())
                    }
                };
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
