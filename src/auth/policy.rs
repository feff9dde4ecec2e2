//! What one application's policy is, in one snapshot.

mod deprecation;

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;
use http::HeaderValue;

use crate::auth::error::Challenge;
use crate::auth::gate::Admitted;
use crate::auth::gate::Reach;
use crate::auth::owners::Owners;
use crate::auth::settings::RateLimits;
use crate::auth::typed_form::TypedForm;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::providers::Provider;
use crate::providers::Providers;
use crate::providers::settings::FormFields;
use crate::rollout;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::Cohort;
use crate::rollout::Cohorts;
use crate::rollout::Fallback;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::OtherArm;
use crate::rollout::Plan;
use crate::rollout::RuleRef;

/// One application in one snapshot: who may vouch for its people, and where they sign in.
#[derive(Debug)]
pub(crate) struct AppPolicy {
    pub(super) app: AppId,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) single: Option<ProviderId>,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) forms: HashMap<ProviderId, String>,
    pub(super) others: Vec<Option<Arc<Plan>>>,
    typed: Option<TypedForm>,
    pub(super) owners: Owners,
    pub(super) reach: Reach,
    pub(super) rate_limits: RateLimits,
    exchanges: AppExchanges,
    wraps: bool,
    forwards_credentials: bool,
    logout_paths: Vec<Box<str>>,
    own_clients: Arc<HashSet<Box<str>>>,
}

/// What an [`AppPolicy`] is made of.
#[derive(Debug)]
pub(crate) struct PolicyParts<'a> {
    /// The application.
    pub(crate) app: AppId,
    /// Its rollout, if it moves.
    pub(crate) plan: Option<Arc<Plan>>,
    /// Its provider, if it does not.
    pub(crate) single: Option<ProviderId>,
    /// All providers of the snapshot.
    pub(crate) providers: &'a Providers,
    /// All cohorts of the snapshot.
    pub(crate) cohorts: &'a Cohorts,
    /// The name of our session cookie.
    pub(crate) session_cookie: &'a str,
    /// The fallbacks of this application.
    pub(crate) fallbacks: Vec<Fallback>,
    /// Sign-in forms at the upstream (`session_probe.login_path`), by provider.
    pub(crate) forms: HashMap<ProviderId, String>,
    /// The rollouts of the other applications that know its old side, which may still take what this one takes no more; `None`:
    /// one that does not move.
    pub(crate) others: Vec<Option<Arc<Plan>>>,
    /// What stands in them, where passwords in them move, by provider.
    pub(crate) fields: HashMap<ProviderId, FormFields>,
    /// What its upstreams expect.
    pub(crate) exchanges: AppExchanges,
    /// What one address may do.
    pub(crate) rate_limits: RateLimits,
    /// Whether sessions of the old system get one of ours beside them.
    pub(crate) wraps: bool,
    /// Whether its upstreams get the cookies of old systems.
    pub(crate) forwards_credentials: bool,
    /// Canonical paths by which people sign out of it.
    pub(crate) logout_paths: Vec<Box<str>>,
    /// Who judges what we have minted for clients, where it is a credential,
    pub(crate) own: Vec<Arc<dyn Provider>>,
    /// and the clients that there are.
    pub(crate) own_clients: Arc<HashSet<Box<str>>>,
}

/// Which tokens the upstreams of an application expect.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppExchanges {
    /// By route: the exchange of every credential.
    pub(crate) routes: Vec<Option<Arc<Exchange>>>,
    /// For `other_arm: exchange`: one for each provider whose token may be wanted.
    pub(crate) other_arm: Vec<Arc<Exchange>>,
    /// For `carry_over: [exchange]`: by what sessions of the old side become sessions of the new one.
    pub(crate) sessions: Option<Arc<Exchange>>,
}

impl AppPolicy {
    /// Puts an application's policy together.
    pub(crate) fn new(parts: PolicyParts<'_>) -> Self {
        let PolicyParts {
            app,
            plan,
            single,
            providers,
            cohorts,
            session_cookie,
            fallbacks,
            forms,
            others,
            mut fields,
            exchanges,
            rate_limits,
            wraps,
            forwards_credentials,
            logout_paths,
            own,
            own_clients,
        } = parts;
        let names: Vec<&ProviderId> = match &plan {
            Some(plan) => vec![&plan.from, &plan.to],
            None => single.iter().collect(),
        };
        let judges = names.iter().filter_map(|name| providers.named(name));
        let owners = Owners::new(session_cookie, judges, own);
        let typed = plan.as_deref().and_then(|plan| {
            let (form, fields) = (forms.get(&plan.from)?, fields.remove(&plan.from)?);
            // The first is the one that a login sets.
            let mut cookies = owners.cookies.iter();
            let (cookie, _) = cookies.find(|(_, owner)| *owner.id() == plan.from)?;
            let all = owners.cookies.iter().map(|(cookie, _)| &**cookie);
            let all = all.chain([&*owners.session_cookie]);
            Some(TypedForm::new(form, fields, cookie, all))
        });
        let reach = plan
            .as_deref()
            .map_or(Reach::SameCredential, |plan| reach(plan, cohorts));
        Self {
            app,
            plan,
            single,
            fallbacks,
            forms,
            others,
            typed,
            owners,
            reach,
            rate_limits,
            exchanges,
            wraps,
            forwards_credentials,
            logout_paths,
            own_clients,
        }
    }

    /// Whether there is still such a client of our token endpoint.
    pub(super) fn knows_client(&self, id: &str) -> bool {
        self.own_clients.contains(id)
    }

    /// Whether its upstreams get the cookies of old systems.
    pub(super) const fn forwards_credentials(&self) -> bool {
        self.forwards_credentials
    }

    /// Whether people sign out of the application itself at a canonical path.
    pub(crate) fn signs_out_at(&self, path: &str) -> bool {
        self.logout_paths.iter().any(|own| **own == *path)
    }

    /// The rollouts of the other applications that know its old side; `None`: one that does not move.
    pub(super) fn others(&self) -> impl Iterator<Item = Option<&Plan>> {
        self.others.iter().map(Option::as_deref)
    }

    /// The form of the old application, where passwords in it move.
    pub(crate) const fn typed(&self) -> Option<&TypedForm> {
        self.typed.as_ref()
    }

    /// By what sessions of the old side become sessions of the new one.
    pub(super) const fn session_exchange(&self) -> Option<&Arc<Exchange>> {
        self.exchanges.sessions.as_ref()
    }

    /// Whether sessions of the old system get one of ours beside them.
    pub(super) const fn wraps(&self) -> bool {
        self.wraps
    }

    /// Whether somebody has the session of a fallback that is to go back once the provider that was away is healthy again.
    pub(crate) fn goes_back(&self, admitted: &Admitted) -> bool {
        let mut fallbacks = self.fallbacks.iter().filter(|fallback| fallback.recheck);
        fallbacks.any(|fallback| admitted.arm() == Some(fallback.from.other()))
            && admitted.class() == CredentialClass::Session
            && *admitted.rule() == *RuleRef::Fallback.label()
    }

    /// What the session of a fallback is called; `None`: it is no such session, or has no mark.
    pub(crate) fn mark(&self, admitted: &Admitted) -> Option<&str> {
        let fallen = admitted.class() == CredentialClass::Session
            && *admitted.rule() == *RuleRef::Fallback.label();
        let mut fallbacks = self.fallbacks.iter().filter(|_| fallen);
        let own = fallbacks.find(|fallback| admitted.arm() == Some(fallback.from.other()));
        own?.mark.as_deref()
    }

    /// The fallback whose logins start at this side.
    pub(super) fn fallback_to(&self, arm: Arm) -> Option<&Fallback> {
        self.fallbacks
            .iter()
            .find(|fallback| fallback.from.other() == arm)
    }

    /// What every credential of a route is exchanged by.
    pub(super) fn exchange(&self, route: usize) -> Option<&Arc<Exchange>> {
        self.exchanges.routes.get(route)?.as_ref()
    }

    /// The headers in which upstreams of the application may get a token instead of the credential.
    pub(crate) fn exchange_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let routes = self.exchanges.routes.iter().flatten();
        let all = routes.chain(&self.exchanges.other_arm);
        all.map(|exchange| exchange.header())
    }

    /// What gives a token of `provider` for a credential of another.
    pub(super) fn exchange_to(&self, provider: &ProviderId) -> Option<&Arc<Exchange>> {
        self.exchanges
            .other_arm
            .iter()
            .find(|exchange| exchange.yields() == Some(provider))
    }

    /// What of a route decides which token an upstream gets: a part of the key of kept verdicts.
    pub(crate) fn exchange_place(&self, route: usize) -> u64 {
        let Some(exchange) = self.exchange(route) else {
            return 0;
        };
        let same = |other: &Option<Arc<Exchange>>| {
            other
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, exchange))
        };
        let first = self.exchanges.routes.iter().position(same);
        first.map_or(0, |first| first as u64 + 1)
    }

    /// The application.
    pub(crate) const fn app(&self) -> &AppId {
        &self.app
    }

    /// Its rollout, if it moves.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// Who owns which credential here.
    pub(crate) const fn owners(&self) -> &Owners {
        &self.owners
    }

    /// A provider that may vouch for people here.
    pub(super) fn judge<'a>(
        &self,
        provider: &ProviderId,
        providers: &'a Providers,
    ) -> Option<&'a Arc<dyn Provider>> {
        let takes_part = match &self.plan {
            Some(plan) => plan.arm(provider).is_some(),
            None => self.single.as_ref() == Some(provider),
        };
        takes_part.then(|| providers.named(provider))?
    }

    /// The moment when a verdict ends, cut to the deadline after which the stage honours nothing of the provider.
    pub(super) fn cut(&self, provider: &ProviderId, end: UnixTime, now: UnixTime) -> UnixTime {
        let rules = self.plan.iter().flat_map(|plan| &plan.stage.accept);
        let deadlines = rules
            .filter(|rules| rules.provider == *provider)
            .filter_map(|rules| rules.deadline);
        let plans = self.plan.iter().filter(|plan| plan.from == *provider);
        let brownouts = plans.flat_map(|plan| &plan.stage.brownouts);
        deadlines
            .chain(brownouts.map(|brownout| brownout.at))
            .filter(|deadline| now < *deadline && *deadline < end)
            .min()
            .unwrap_or(end)
    }

    /// The moment when the verdict about a credential of this class ends: cut as by [`Self::cut`], and to the end of each rule
    /// that assigns people, where their arm decides what becomes of the credential.
    pub(super) fn cut_of_class(
        &self,
        provider: &ProviderId,
        class: CredentialClass,
        end: UnixTime,
        now: UnixTime,
    ) -> UnixTime {
        let decides = |plan: &&Arc<Plan>| {
            plan.arm(provider).is_some_and(|owner| {
                match rollout::other_arm(plan, owner, owner.other(), class) {
                    OtherArm::Accept => false,
                    OtherArm::Exchange | OtherArm::Reject => true,
                }
            })
        };
        let plans = self.plan.iter().filter(decides);
        plans
            .flat_map(|plan| plan.stage.assign.iter())
            .filter_map(|rule| rule.until)
            .filter(|until| now < *until)
            .fold(self.cut(provider, end, now), UnixTime::min)
    }

    /// How far an admission to this application reaches.
    pub(super) const fn reach(&self) -> Reach {
        self.reach
    }

    /// Where the kill switch stands for this application.
    pub(crate) fn kill(&self, state: &KillState) -> KillPosition {
        match &self.plan {
            Some(plan) => state.position(&plan.id),
            None => state.global,
        }
    }

    /// The challenges of a 401, or of a 400 (RFC 6750 §3, RFC 7617 §2): one per scheme that this application takes.
    pub(crate) fn challenges(&self, challenge: Challenge) -> Vec<HeaderValue> {
        let realm = self.app.as_str();
        let mut all = Vec::new();
        let bearer = match challenge {
            Challenge::Plain => "\"",
            Challenge::InvalidToken => "\", error=\"invalid_token\"",
            Challenge::InvalidRequest => "\", error=\"invalid_request\"",
        };
        let bearer = ["Bearer realm=\"", realm, bearer].concat();
        // RFC 9110 §15.5.2: a 401 always says how; so Bearer also where only browsers sign in.
        if self.owners.take_bearer() || !self.owners.take_basic() {
            all.extend(HeaderValue::try_from(bearer));
        }
        if self.owners.take_basic() {
            let basic = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            all.extend(HeaderValue::try_from(basic));
        }
        all
    }
}

/// Whether the answer for one credential may differ between requests: then no verdict is kept.
fn reach(plan: &Plan, cohorts: &Cohorts) -> Reach {
    let by_request = |id| cohorts.get(id).is_none_or(Cohort::depends_on_request);
    let accept = plan.stage.accept.iter().flat_map(|accept| &accept.except);
    let assign = plan
        .stage
        .assign
        .iter()
        .filter_map(|rule| rule.cohort.as_ref());
    let assign_decides = match plan.stage.other_arm {
        OtherArm::Accept => false,
        OtherArm::Exchange | OtherArm::Reject => true,
    };
    let varies = accept.into_iter().any(by_request)
        || (assign_decides && assign.into_iter().any(by_request));
    if varies {
        Reach::ThisRequest
    } else {
        Reach::SameCredential
    }
}
