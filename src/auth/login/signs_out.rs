//! The paths by which people sign out of an application itself: whoever does is out here, too.

use bytes::Bytes;
use http::Method;
use http::Response;

use crate::auth::cookies;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::Request;
use crate::auth::login::logout::From;
use crate::auth::login::navigation;
use crate::auth::login::navigation::Asks;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::auth::policy::AppPolicy;
use crate::clock::UnixTime;
use crate::rollout::KillPosition;

/// Whose a request is to a path by which people sign out of the application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SigningOut {
    /// The application's alone: it signs nobody out here.
    Theirs,
    /// Ours alone: the application has no session by a cookie that we know.
    Ours,
    /// The application's first, which may end a session of its own by it, and then ours.
    Both,
}

impl Logins {
    /// Whose a request is. Neither another site nor a script that reads something signs anybody out.
    pub(crate) fn signing_out(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        kill: KillPosition,
        now: UnixTime,
    ) -> SigningOut {
        if !policy.signs_out_at(request.facts.path) {
            return SigningOut::Theirs;
        }
        let ask = Ask {
            policy,
            request,
            kill,
            now,
        };
        let signs_out = match *request.method {
            Method::GET => matches!(
                navigation::asks(request.method, request.headers),
                Asks::Page
            ),
            Method::POST => matches!(self.from(&ask), From::OurPage),
            _ => false,
        };
        let mut cookies = policy.owners().cookies.iter();
        let is_sent = |name: &str| cookies::named(request.headers, name) != cookies::Sent::None;
        match (signs_out, cookies.any(|(name, _)| is_sent(name))) {
            (false, _) => SigningOut::Theirs,
            (true, false) => SigningOut::Ours,
            (true, true) => SigningOut::Both,
        }
    }

    /// Our answer to one that is ours, too: GET asks, POST ends the session.
    pub(crate) async fn signs_out(
        &self,
        policy: &AppPolicy,
        request: &Request<'_>,
        kill: KillPosition,
        now: UnixTime,
    ) -> Response<Bytes> {
        let ask = Ask {
            policy,
            request,
            kill,
            now,
        };
        if *request.method == Method::POST {
            return self.logout(&ask).await;
        }
        let asks = format!("{OURS}/logout");
        page::redirect(Sent::Found, &asks, Vec::new())
            .unwrap_or_else(|| self.page(&ask, Page::Failed, &ReturnPath::root(), Vec::new()))
    }
}
