//! Our own addresses.

use crate::auth::login::return_to::OURS;
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
            rest if rest.starts_with("/frontchannel/") => named(rest).map(Self::FrontChannel),
            rest if rest.starts_with("/cb/") => Some(Self::Callback(None)),
            _ => None,
        }
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
