//! Browser login: where it starts, how it comes back, how it ends.
//!
//! A login finishes only in the browser that began it, with the provider it began with, at the address it began with. What
//! binds it travels in one sealed cookie; nothing is written on our side before it has succeeded.

mod account;
mod back;
mod backchannel;
mod browser;
mod callback;
mod carry;
mod chooser;
mod device;
mod elsewhere;
mod endpoint;
mod exchange;
mod farewell;
mod flow;
mod fragment;
mod join;
mod journey;
mod kept_form;
mod limited;
mod linked;
mod logout;
mod names;
mod navigation;
mod optin;
mod page;
mod place;
mod planned;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
mod query;
mod reach;
mod reply;
mod return_to;
mod room;
mod said;
mod settle;
mod signs_out;
mod start;
mod taken_place;
#[cfg(test)]
mod tests;
mod told;
mod typed;
mod words;

pub(crate) use endpoint::Endpoint;
pub(crate) use page::PageName;
pub(crate) use query::Query;
pub(crate) use query::decode;
pub(crate) use query::is_form;
pub(crate) use signs_out::SigningOut;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;

use crate::auth::cookies::Keep;
use crate::auth::error::Answer;
use crate::auth::error::AuthError;
use crate::auth::gate::Admitted;
use crate::auth::gate::Deps;
use crate::auth::login::browser::SessionSent;
use crate::auth::login::device::Bounce;
use crate::auth::login::flow::Errand;
use crate::auth::login::names::Names;
use crate::auth::login::navigation::Asks;
use crate::auth::login::page::Page;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::login::start::Begun;
use crate::auth::login::start::Directed;
use crate::auth::look::Look;
use crate::auth::policy::AppPolicy;
use crate::auth::report::About;
use crate::auth::report::Source;
use crate::auth::settings::KeptByLogins;
use crate::auth::settings::Silent;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::providers::BackChannel;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::session::settings::SameSite;

/// What a login needs to know of a request.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Canonical host, path, method and the client's address; `device` and `person` are left empty.
    pub(crate) facts: Facts<'a>,
    /// The canonical authority: host, and port unless it is the scheme's own.
    pub(crate) authority: &'a str,
    /// The canonical query, without `?`.
    pub(crate) query: Option<&'a str>,
    /// The method.
    pub(crate) method: &'a Method,
    /// The header fields of the client.
    pub(crate) headers: &'a HeaderMap,
    /// Which request it is, for the logs.
    pub(crate) source: Option<Source<'a>>,
}

/// What somebody gets who was not admitted.
#[derive(Debug)]
pub(crate) enum TurnedAway {
    /// A redirect to a login, or a page of ours, complete with cookies.
    Page(Response<Bytes>),
    /// One of the plain answers.
    Answer(Answer),
}

/// The settings of a login.
#[derive(Clone, Debug)]
pub(crate) struct LoginSettings {
    /// The name of our session cookie; the other cookies are named after it.
    pub(crate) cookie: Box<str>,
    /// Whether cookies say `Secure` and addresses `https`: everywhere but on plain loopback listeners.
    pub(crate) secure: bool,
    /// Which requests of other sites bring the session along.
    pub(crate) same_site: SameSite,
    /// The revision of the configuration, kept in the flow record.
    pub(crate) revision: Box<str>,
    /// When somebody who belongs to the new provider is taken there without a page.
    pub(crate) silent: Option<Silent>,
    /// How our pages look.
    pub(crate) look: Arc<Look>,
    /// How long browsers and forms are known.
    pub(crate) kept: KeptByLogins,
}

/// Logins of one snapshot.
#[derive(Debug)]
pub(crate) struct Logins {
    deps: Deps,
    names: Names,
    revision: Box<str>,
    silent: Option<Silent>,
    look: Arc<Look>,
    kept: KeptByLogins,
    callbacks: Vec<(String, ProviderId)>,
    /// Those that do not stand under our own prefix.
    outside: Vec<(String, ProviderId)>,
    /// Where providers say that somebody has signed out there.
    back_channels: Vec<(String, ProviderId)>,
    /// The cookies of who wants to be among the first.
    opt_in: Vec<Box<str>>,
}

/// One request to a login.
#[derive(Clone, Copy)]
struct Ask<'a> {
    policy: &'a AppPolicy,
    request: &'a Request<'a>,
    kill: KillPosition,
    now: UnixTime,
}

impl Logins {
    /// Logins of a snapshot.
    pub(crate) fn new(deps: Deps, settings: &LoginSettings) -> Self {
        let callbacks: Vec<(String, ProviderId)> = deps
            .providers
            .iter()
            .filter_map(|provider| {
                let path = provider.login()?.redirect_path().to_owned();
                Some((path, provider.id().clone()))
            })
            .collect();
        let mut opt_in: Vec<Box<str>> = Vec::new();
        for cohort in deps.cohorts.values() {
            cohort.signed_cookies(&mut |name| opt_in.push(name.into()));
        }
        opt_in.sort_unstable();
        opt_in.dedup();
        let back_channels = deps
            .providers
            .iter()
            .filter_map(|provider| {
                let path = match provider.login()?.back_channel() {
                    BackChannel::Usual => endpoint::back_channel(provider.id()),
                    BackChannel::At(path) => path.to_owned(),
                    BackChannel::Off => return None,
                };
                Some((path, provider.id().clone()))
            })
            .collect();
        let outside = callbacks.iter().filter(|(path, _)| !path.starts_with(OURS));
        Self {
            outside: outside.cloned().collect(),
            deps,
            back_channels,
            opt_in,
            names: Names::new(&settings.cookie, settings.secure, settings.same_site),
            revision: settings.revision.clone(),
            silent: settings.silent,
            look: Arc::clone(&settings.look),
            kept: settings.kept,
            callbacks,
        }
    }

    /// The field that gives a browser the session of ours that stands for its own from now on.
    pub(crate) fn keeps(&self, admitted: &Admitted) -> Option<HeaderValue> {
        let cookie = admitted.wrapped()?;
        self.names
            .set(&self.names.session, cookie.expose(), Keep::Browser)
    }

    /// Answers one of our own addresses.
    pub(crate) async fn serve(
        &self,
        policy: &AppPolicy,
        endpoint: &Endpoint,
        (request, body): (&Request<'_>, &[u8]),
        kill: KillPosition,
        now: UnixTime,
    ) -> Response<Bytes> {
        let ask = Ask {
            policy,
            request,
            kill,
            now,
        };
        // Whoever wants to leave may.
        let lets_in = match endpoint {
            Endpoint::Login | Endpoint::Callback(_) | Endpoint::KeptForm | Endpoint::Join => true,
            Endpoint::Logout
            | Endpoint::SignedOut
            | Endpoint::OptIn
            | Endpoint::BackChannel(_)
            | Endpoint::FrontChannel(_) => false,
        };
        if lets_in && kill == KillPosition::Deny {
            return self.page(&ask, Page::Unavailable, &ReturnPath::root(), Vec::new());
        }
        match endpoint {
            Endpoint::Login => self.login(&ask, body).await,
            Endpoint::OptIn => self.opt_in(policy, request, false, now).await,
            Endpoint::KeptForm => self.kept_form(&ask).await,
            Endpoint::Join => self.join(&ask).await,
            Endpoint::Logout => self.logout(&ask).await,
            Endpoint::SignedOut => self.signed_out(&ask).await,
            // Without a body there is no token.
            Endpoint::BackChannel(provider) => self.back_channel(provider, request, &[], now).await,
            Endpoint::FrontChannel(provider) => self.front_channel(&ask, provider).await,
            Endpoint::Callback(provider) => self.callback(&ask, provider.as_ref()).await,
        }
    }

    /// What somebody gets who presented nothing (`why: None`) where a credential is needed, or was not admitted: a login for
    /// a navigation, else the answer of the error.
    pub(crate) async fn turn_away(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        why: Option<&AuthError>,
        kill: KillPosition,
        now: UnixTime,
    ) -> TurnedAway {
        let ask = Ask {
            policy,
            request,
            kill,
            now,
        };
        match kill {
            KillPosition::Deny => return TurnedAway::Answer(AuthError::Closed.answer(policy)),
            KillPosition::Off
            | KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern => {}
        }
        let answer = TurnedAway::Answer(why.map_or_else(
            || Answer::unauthenticated(policy),
            |error| error.answer(policy),
        ));
        let may_sign_in = why.is_none_or(AuthError::leads_to_login);
        match navigation::asks(request.method, request.headers) {
            Asks::Page if may_sign_in => {}
            Asks::Page | Asks::Answer => return answer,
        }
        if let Some(page) = why.and_then(|why| self.planned_session(&ask, why)) {
            return TurnedAway::Page(page);
        }
        let sent = self.sent(&ask);
        // The route does not look at sessions: one more would not let anybody in.
        if why.is_none() && sent == SessionSent::Readable {
            return answer;
        }
        let mut begin = Begin::new(ask.target(), self.device(&ask));
        if why.is_some() || sent == SessionSent::Unreadable {
            // A session that is over is forgotten; one that is refused again and again is a circle. One that is not enough
            // stays for what it is enough for.
            match why {
                Some(AuthError::StepUp {
                    provider, wanted, ..
                }) => {
                    begin.directed = Some(Directed {
                        provider: provider.clone(),
                        rule: "step_up",
                        wanted: Some(Arc::clone(wanted)),
                        errand: Errand::Session,
                    });
                }
                // The browser may have the one in its place by now, under the same name.
                _ if self.has_moved_on(&ask).await => {}
                _ => begin.cookies.extend(self.forget_session(&ask)),
            }
            match begin.device.bounce(now) {
                Bounce::Fine => {}
                Bounce::Circles => return TurnedAway::Page(self.circles(&ask, begin)),
            }
        }
        if self.ended_for_safety(&ask, &begin.device, why) {
            let mut cookies = begin.cookies;
            cookies.extend(self.keep_device(&ask, &begin.device));
            let page = self.page(&ask, Page::ForSafety, &begin.target, cookies);
            return TurnedAway::Page(self.keeps_fragment(&ask, page));
        }
        if let Some(page) = self.remembers_fragment(&ask, &begin).await {
            return TurnedAway::Page(page);
        }
        if let Err(standing) = self.may_begin(policy, request, now).await {
            return TurnedAway::Answer(Answer::Limited(standing));
        }
        begin.cookies.extend(self.leaves_for_good(&ask, why).await);
        match self.begin(&ask, begin).await {
            Begun::Reply(response) => TurnedAway::Page(response),
            Begun::NoLogin => answer,
        }
    }

    /// A browser that goes round in circles is stopped, and told.
    fn circles(&self, ask: &Ask<'_>, mut begin: Begin) -> Response<Bytes> {
        self.deps.reports.metrics.bounce_refused(ask.policy.app());
        begin.cookies.extend(self.keep_device(ask, &begin.device));
        self.page(ask, Page::Circles, &begin.target, begin.cookies)
    }

    /// A page with a reference: the id of the request, under which the logs say why.
    fn page(
        &self,
        ask: &Ask<'_>,
        page: Page,
        target: &ReturnPath,
        cookies: Vec<HeaderValue>,
    ) -> Response<Bytes> {
        self.page_with(ask, page, target, cookies, None)
    }

    /// The same, with a form of its own.
    fn page_with(
        &self,
        ask: &Ask<'_>,
        page: Page,
        target: &ReturnPath,
        cookies: Vec<HeaderValue>,
        own_form: Option<String>,
    ) -> Response<Bytes> {
        let reference = ask.request.source.map(|source| source.request_id);
        page::page(page, reference, (target, own_form), cookies, &self.look)
    }
}

impl Ask<'_> {
    /// Where the request was going, for the time after the login.
    fn target(&self) -> ReturnPath {
        let path = self.request.facts.path;
        let whole = match self.request.query {
            Some(query) => ReturnPath::parse(&format!("{path}?{query}")),
            None => ReturnPath::parse(path),
        };
        whole.unwrap_or_else(ReturnPath::root)
    }

    fn about<'b>(&'b self) -> About<'b> {
        About {
            app: self.policy.app(),
            plan: self.policy.plan(),
            person: None,
            now: self.now,
            source: self.request.source,
        }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[request]")
    }
}
