//! Where people look after their account: a page of the provider that judges their password now, which may not be the one
//! that they signed in at.
//!
//! The address comes from the configuration alone: nothing that a client sends is part of it.

use bytes::Bytes;
use http::Response;
use tracing::warn;

use crate::auth::gate::Admitted;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::login::start::Begin;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::links::Move;
use crate::rollout;
use crate::rollout::KillPosition;
use crate::store::StoreError;

/// Where browsers and password managers look for the page on which a password is changed (W3C, "A Well-Known URL for Changing
/// Passwords").
pub(super) const CHANGE_PASSWORD: &str = "/.well-known/change-password";

/// Which page somebody wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AccountPage {
    /// Where a password is changed.
    Password,
    /// Where the account is looked after.
    Profile,
}

impl Logins {
    /// Whether a provider of the application has a page on which a password is changed.
    pub(super) fn has_account_pages(&self, policy: &AppPolicy) -> bool {
        self.look.accounts.iter().any(|(provider, pages)| {
            pages.password.is_some() && policy.judge(provider, &self.deps.providers).is_some()
        })
    }

    /// `/.well-known/change-password`, `/.authferry/account`: leads to the page. `who`: whoever asks, as the gate knows them; `None`: nobody in particular.
    pub(crate) async fn account_page(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        (which, who): (AccountPage, Option<&Admitted>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Response<Bytes> {
        let ask = &Ask {
            policy,
            request,
            kill,
            now,
        };
        let root = ReturnPath::root();
        let provider = match self.home_of(ask, who).await {
            Ok(provider) => provider,
            Err(error) => {
                warn!(%error, "Where somebody changes their password is not known.");
                return self.page(ask, Page::Unavailable, &root, Vec::new());
            }
        };
        let pages = provider.and_then(|provider| self.look.accounts.get(&provider));
        let address = pages.and_then(|pages| match which {
            AccountPage::Password => pages.password.as_deref(),
            AccountPage::Profile => pages.profile.as_deref().or(pages.password.as_deref()),
        });
        let redirect = address.and_then(|address| page::redirect(Sent::Found, address, Vec::new()));
        redirect.unwrap_or_else(|| self.page(ask, Page::NoAccount, &root, Vec::new()))
    }

    /// The provider that judges somebody's password now; of nobody in particular, the one where they would sign in.
    async fn home_of(
        &self,
        ask: &Ask<'_>,
        who: Option<&Admitted>,
    ) -> Result<Option<ProviderId>, StoreError> {
        let Some(plan) = ask.policy.plan() else {
            let own = who.map(|who| who.provider().clone());
            return Ok(own.or_else(|| ask.policy.single.clone()));
        };
        if let Some(who) = who {
            let way = Move {
                from: &plan.from,
                to: &plan.to,
            };
            let homes = &self.deps.homes;
            let home = homes.of_person(way, who.canonical(), ask.now).await?;
            return Ok(Some(match home {
                Some(_) => plan.to.clone(),
                None => who.provider().clone(),
            }));
        }
        let begin = Begin::new(ReturnPath::root(), self.device(ask));
        let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
        let (pin, facts) = (begin.device.pin(plan, None), begin.facts(ask));
        let assigned = rollout::assign(plan, cohorts, key, ask.kill, pin, &facts, ask.now);
        Ok(Some(plan.provider(assigned.arm).clone()))
    }
}
