//! Browser login: where it starts, how it comes back, how it ends.
//!
//! A login finishes only in the browser that began it, with the provider it began with, at the address it began with.

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Response;

use crate::auth::error::Answer;
use crate::auth::error::AuthError;
use crate::auth::gate::Deps;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::Facts;
use crate::rollout::KillPosition;

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
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[request]")
    }
}

/// An address of ours, under every host of every application.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Endpoint {
    /// `/.authferry/login?rd=PATH`: starts a login.
    Login,
    /// `/.authferry/logout`: GET asks, POST ends the session.
    Logout,
    /// `/.authferry/logout/done`: where a provider sends the browser after its own logout.
    SignedOut,
    /// The callback of one provider; `None`: of a provider that is no longer configured.
    Callback(Option<ProviderId>),
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
    /// Whether cookies say `Secure` and addresses `https`.
    pub(crate) secure: bool,
    /// The revision of the configuration, kept in the flow record.
    pub(crate) revision: Box<str>,
}

/// Logins of one snapshot.
#[derive(Debug)]
pub(crate) struct Logins {
    deps: Deps,
    settings: LoginSettings,
}

impl Logins {
    /// Logins of a snapshot.
    pub(crate) const fn new(deps: Deps, settings: LoginSettings) -> Self {
        Self { deps, settings }
    }

    /// Whether a canonical path is ours. Asked before routes: an application cannot shadow it.
    pub(crate) fn endpoint(&self, path: &str) -> Option<Endpoint> {
        todo!()
    }

    /// Answers one of our own addresses.
    pub(crate) async fn serve(
        &self,
        policy: &AppPolicy,
        endpoint: &Endpoint,
        request: &Request<'_>,
        kill: KillPosition,
        now: UnixTime,
    ) -> Response<Bytes> {
        todo!()
    }

    /// What somebody gets who presented nothing (`why: None`) where a credential is needed, or was not admitted: a login
    /// for a navigation, where `redirect` allows it, else the answer of the error.
    pub(crate) async fn turn_away(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        why: Option<&AuthError>,
        kill: KillPosition,
        now: UnixTime,
    ) -> TurnedAway {
        todo!()
    }
}
