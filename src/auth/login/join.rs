//! The last word on two accounts of one person: whoever has signed in with both says on a page of ours that they are theirs.
//! Without it somebody could sign in first, leave the browser to the next person, and be that person from then on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Method as HttpMethod;
use http::Response;
use tracing::warn;

use crate::auth::canonical::NotJoined;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::callback::NoSession;
use crate::auth::login::callback::Returned;
use crate::auth::login::callback::is_of_this_epoch;
use crate::auth::login::flow::Errand;
use crate::auth::login::flow::Flow;
use crate::auth::login::flow::MAX_COOKIE_BYTES;
use crate::auth::login::flow::NewFlow;
use crate::auth::login::flow::Proof;
use crate::auth::login::linked;
use crate::auth::login::logout::From;
use crate::auth::login::page::Page;
use crate::auth::login::query::Query;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::settle::away;
use crate::auth::login::settle::refused;
use crate::auth::login::start::Directed;
use crate::auth::look::escaped;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::links::Method;
use crate::providers::Provider;
use crate::revocation::Marks;
use crate::revocation::Standing;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::KillPosition;

/// How long the page waits for an answer: 2 min. Whoever comes to the browser later finds nothing to say yes to.
const WAITS: Duration = Duration::from_mins(2);

impl Logins {
    /// Asks whether both accounts are the person's. What they proved is sealed in the place of the login that has come back.
    pub(super) async fn asks_to_join(
        &self,
        returned: Returned<'_>,
        owner: &Arc<dyn Provider>,
        errand: &Errand,
    ) -> Response<Bytes> {
        let ask = returned.ask;
        let sealed = self.sealed_question(&returned, owner, errand);
        let (Some((cookie, state)), Errand::Join { new, old, .. }) = (sealed, errand) else {
            return self.ends(returned, Page::Failed, None).await;
        };
        let plan = ask.policy.plan();
        let called = |provider: &ProviderId| self.look.called(provider);
        let sides = plan.map(|plan| (called(&plan.to), called(&plan.from)));
        let (at_new, at_old) = sides.unwrap_or_default();
        let (new, old) = (escaped(&new.shown()), escaped(&old.shown()));
        let body = format!(
            "<p>In this browser somebody has just signed in at {at_new} as <code>{new}</code>, and at {at_old} as \
             <code>{old}</code>.</p>\n\
             <p>If you join the two, whoever signs in with either is the same person here from now on, for good. Join them only \
             if both are yours.</p>\n\
             <form method=\"post\" action=\"{OURS}/join?state={state}\"><button>Both are mine: join them</button></form>\n\
             <form method=\"post\" action=\"{OURS}/join?state={state}&amp;no=1\"><button>No</button></form>\n"
        );
        let target = returned.flow.target();
        self.page_with(ask, Page::Join, &target, vec![cookie], Some(body))
    }

    /// The record that the answer must fit, and what names it.
    fn sealed_question(
        &self,
        returned: &Returned<'_>,
        owner: &Arc<dyn Provider>,
        errand: &Errand,
    ) -> Option<(HeaderValue, String)> {
        let (ask, flow) = (returned.ask, &returned.flow);
        let login = owner.login()?;
        let redirect_uri = self.redirect_uri(ask, login.redirect_path());
        let plan = ask.policy.plan();
        let slot = returned.slot;
        let name = self.names.flow(slot);
        // Where the address does not fit beside it, it is the address that is left out.
        let targets = [flow.target(), ReturnPath::root()];
        targets.iter().find_map(|target| {
            let question = Flow::new(
                &NewFlow {
                    provider: &**owner,
                    login,
                    redirect_uri: &redirect_uri,
                    rollout: plan.map(|plan| (plan.id.as_str().to_owned(), plan.epoch)),
                    stage: plan.map_or(0, |plan| plan.stage.index),
                    revision: &self.revision,
                    rule: &flow.rule,
                    target,
                    restarts: flow.restarts,
                    fallback: None,
                    errand: Some(errand),
                    hint: None,
                },
                &*self.deps.entropy,
                ask.now,
            );
            let entropy = &*self.deps.entropy;
            let sealed = question.seal(&self.ring(), ask.request.authority, slot, entropy)?;
            if MAX_COOKIE_BYTES < sealed.len() + name.len() + 3 {
                return None;
            }
            let cookie = self.names.set(&name, &sealed, Keep::For(WAITS))?;
            Some((cookie, question.artefacts(slot).state))
        })
    }

    /// `/.authferry/join`: the answer, from that page of ours and from nowhere else.
    pub(super) async fn join(&self, ask: &Ask<'_>) -> Response<Bytes> {
        let root = ReturnPath::root();
        match (self.from(ask), ask.request.method) {
            (From::OurPage, &HttpMethod::POST) => {}
            (From::OurPage | From::Elsewhere, _) => {
                return self.page(ask, Page::Stray, &root, Vec::new());
            }
        }
        let query = Query::parse(ask.request.query).unwrap_or_default();
        let returned = query
            .value("state")
            .and_then(|state| self.returned(ask, state));
        let Some(returned) = returned else {
            return self.page(ask, Page::Stray, &root, Vec::new());
        };
        let Errand::Join { new, old, person } = returned.flow.errand.clone() else {
            return self.page(ask, Page::Stray, &root, Vec::new());
        };
        if returned.flow.began() + WAITS <= ask.now {
            return self.ends(returned, Page::TooLate, None).await;
        }
        if query.given("no").is_some() {
            warn!(
                app = ask.policy.app().as_str(),
                "Somebody signed in with two accounts that are not both theirs; nothing is joined."
            );
            return self.ends(returned, Page::NotJoined, None).await;
        }
        match self.joins(&returned, (&new, &old), &person).await {
            Ok(next) => self.goes_on(returned, next).await,
            Err(NoSession::Ends(page, attempt)) => {
                let provider = returned.flow.provider();
                self.ends(returned, page, Some((&provider, attempt))).await
            }
            Err(
                NoSession::Again(_) | NoSession::At(_) | NoSession::Asks(_) | NoSession::Stays(_),
            ) => self.ends(returned, Page::Failed, None).await,
        }
    }

    /// Whether nothing was revoked of an account that somebody has signed in with, since that login began: neither its provider,
    /// nor itself, nor the person, whether they are joined or by the account alone.
    fn still_proves(
        &self,
        account: &Identity,
        person: &CanonicalSubject,
        began: UnixTime,
        now: UnixTime,
    ) -> bool {
        let revocations = &self.deps.revocations;
        let account = Arc::new(account.clone());
        let alone = CanonicalSubject::unjoined(&account.key);
        let stands = |person: &CanonicalSubject| {
            let marks = Marks::of_account(&account, person).since(Some(began));
            Standing::new(revocations.index(), marks).holds(now)
        };
        !revocations.voids(&account.provider, began) && stands(person) && stands(&alone)
    }

    /// The new account is the person's of the old one from now on, if everything still stands that stood when it was asked.
    async fn joins(
        &self,
        returned: &Returned<'_>,
        (new, old): (&Proof, &Proof),
        person: &str,
    ) -> Result<Directed, NoSession> {
        let (ask, flow, joiner) = (returned.ask, &returned.flow, &self.deps.joiner);
        let proved = [old.began(), new.began()];
        let (Some(new), Some(old)) = (new.identity(), old.identity()) else {
            return Err(refused(Page::NotAllowed, Refusal::NoLink));
        };
        let named = CanonicalSubject::named(person);
        let person = named.map_err(|_reserved| refused(Page::NotAllowed, Refusal::NoLink))?;
        let owner = ask.policy.judge(&old.provider, &self.deps.providers);
        let bound = owner.is_some_and(|owner| {
            owner.login().is_some_and(|login| {
                let redirect_uri = self.redirect_uri(ask, login.redirect_path());
                flow.is_bound_to(&**owner, login, &redirect_uri)
            })
        });
        let plan = ask.policy.plan();
        let sides = plan.filter(|plan| (&plan.from, &plan.to) == (&old.provider, &new.provider));
        let (Some(plan), true) = (sides, bound && is_of_this_epoch(flow, plan)) else {
            return Err(refused(Page::NotAllowed, Refusal::NotAccepted));
        };
        // What is quarantined proves nothing, nor does what no longer lets anybody in.
        if ask.kill != KillPosition::Off || !joiner.proves_both() {
            return Err(refused(Page::NotAllowed, Refusal::Quarantined));
        }
        if self.acceptance(returned, plan, &old, &person) != Acceptance::Accepted {
            return Err(self.not_taken(returned, &old, &person));
        }
        for (side, began) in [&old, &new].into_iter().zip(proved) {
            // Since they signed in, not since they were asked: a whole sign-in lies between the first proof and the question.
            if !self.still_proves(side, &person, began, ask.now) {
                return Err(refused(Page::ForSafety, Refusal::Revoked));
            }
            if self.deps.revocations.bars(side, &person) {
                return Err(refused(Page::NotAllowed, Refusal::Disabled));
            }
        }
        // An operator may have decided meanwhile whose the account is.
        let account = (&old.provider, &old.key);
        let still = joiner.is_still(&person, account, ask.now).await;
        if !still.map_err(|error| away(&error))? {
            return Err(refused(Page::NotAllowed, Refusal::LinkConflict));
        }
        let account = (&new.provider, &new.key);
        let linked = joiner.link(&person, account, Method::ProveBoth, ask.now);
        linked.await.map_err(|error| match error {
            NotJoined::Refused(refusal) => refused(Page::NotAllowed, refusal),
            NotJoined::Contested => refused(Page::NotAllowed, Refusal::LinkConflict),
            NotJoined::Store(error) => away(&error),
        })?;
        Ok(linked::directed(
            plan,
            Arm::To,
            "linked",
            None,
            Errand::Session,
        ))
    }
}
