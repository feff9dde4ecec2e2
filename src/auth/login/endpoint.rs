//! Our own addresses.

use crate::auth::login::Logins;
use crate::auth::login::account::AccountPage;
use crate::auth::login::account::CHANGE_PASSWORD;
use crate::auth::login::return_to::OURS;
use crate::auth::policy::AppPolicy;
use crate::identity::ProviderId;

/// An address of ours, under every host of every application.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Endpoint {
    /// `/.authferry/login?rd=PATH`: starts a login.
    Login,
    /// `/.authferry/logout`: GET asks, POST ends the session.
    Logout,
    /// `/.authferry/optin`: somebody who is signed in asks to be among the first, or not to be any more.
    OptIn,
    /// `/.authferry/logout/done`: where a provider sends the browser after its own logout.
    SignedOut,
    /// `/.authferry/backchannel/PROVIDER`, or where else it was told: a provider says that somebody has signed out there.
    BackChannel(ProviderId),
    /// `/.authferry/frontchannel/PROVIDER`: it has the browser say so.
    FrontChannel(ProviderId),
    /// `/.authferry/join`: somebody says whether two accounts are theirs.
    Join,
    /// `/.authferry/form`: a form that was kept, to be sent again.
    KeptForm,
    /// The callback of one provider; `None`: of a provider that is no longer configured.
    Callback(Option<ProviderId>),
}

impl Endpoint {
    /// The address behind our prefix; `None`: there is none.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/login" => Some(Self::Login),
            "/logout" => Some(Self::Logout),
            "/optin" => Some(Self::OptIn),
            "/logout/done" => Some(Self::SignedOut),
            "/join" => Some(Self::Join),
            "/form" => Some(Self::KeptForm),
            rest if rest.starts_with("/frontchannel/") => named(rest).map(Self::FrontChannel),
            rest if rest.starts_with("/cb/") => Some(Self::Callback(None)),
            _ => None,
        }
    }
}

impl Logins {
    /// Whether a canonical path outside of our prefix is ours: the callback of a provider that people of the application sign
    /// in at, such as the one that an earlier client had registered, or where browsers look for the page on which a password
    /// is changed, if one of its providers has such a page. Anywhere else it is the application's own.
    pub(crate) fn is_own(&self, policy: &AppPolicy, path: &str) -> bool {
        let takes_part = |provider| policy.judge(provider, &self.deps.providers).is_some();
        self.outside
            .iter()
            .any(|(callback, provider)| callback == path && takes_part(provider))
            || (path == CHANGE_PASSWORD && self.has_account_pages(policy))
    }

    /// The page that a canonical path of ours leads to, if it leads to one of the provider that judges the password.
    pub(crate) fn account_page_at(path: &str) -> Option<AccountPage> {
        match path.strip_prefix(OURS) {
            Some("/account") => Some(AccountPage::Profile),
            _ if path == CHANGE_PASSWORD => Some(AccountPage::Password),
            Some(_) | None => None,
        }
    }

    /// Whether a canonical path is ours, and none of [`Self::account_page_at`]. Asked before routes: an application cannot shadow it.
    pub(crate) fn endpoint(&self, path: &str) -> Option<Endpoint> {
        let callback = self.callbacks.iter().find(|(callback, _)| callback == path);
        if let Some((_, provider)) = callback {
            return Some(Endpoint::Callback(Some(provider.clone())));
        }
        let back_channel = self.back_channels.iter().find(|(own, _)| own == path);
        if let Some((_, provider)) = back_channel {
            return Some(Endpoint::BackChannel(provider.clone()));
        }
        let own = Endpoint::at(path.strip_prefix(OURS)?);
        own.filter(|own| *own != Endpoint::OptIn || !self.opt_in.is_empty())
    }
}

/// Where a provider says that somebody has signed out there, unless it was told another place.
pub(super) fn back_channel(provider: &ProviderId) -> String {
    format!("{OURS}/backchannel/{provider}")
}

/// The provider at the end of a path of ours.
fn named(path: &str) -> Option<ProviderId> {
    let (_, name) = path.rsplit_once('/')?;
    (!name.is_empty()).then(|| ProviderId::new(name))
}
