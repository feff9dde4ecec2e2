//! The end of a session: here at once, at its provider by one redirect, and everywhere else behind the person's back.

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::header::ORIGIN;
use serde::Deserialize;
use serde::Serialize;
use tracing::debug;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::page;
use crate::auth::login::page::Page;
use crate::auth::login::page::Sent;
use crate::auth::login::return_to::OURS;
use crate::auth::login::return_to::ReturnPath;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::secret::Secret;
use crate::session::Farewell;
use crate::session::KEPT_FOR;
use crate::session::LeftBehind;
use crate::session::Restored;
use crate::session::SessionId;

/// Where providers lead back to, under [`OURS`].
const DONE: &str = "/logout/done";

/// The provider to which a browser goes on that signs out.
#[derive(Deserialize, Serialize)]
struct Next {
    host: String,
    next: String,
}

impl Logins {
    /// GET asks; POST from a page of the same origin ends the session. A redirect address is not taken from anybody.
    pub(super) async fn logout(&self, ask: &Ask<'_>) -> Response<Bytes> {
        let root = ReturnPath::root();
        match *ask.request.method {
            Method::GET | Method::HEAD => {
                return self.page(ask, Page::SignOut, &root, Vec::new());
            }
            Method::POST => {}
            _ => return self.page(ask, Page::NotOurForm, &root, Vec::new()),
        }
        match self.from(ask) {
            From::OurPage => {}
            From::Elsewhere => return self.page(ask, Page::NotOurForm, &root, Vec::new()),
        }
        let mut cookies: Vec<HeaderValue> = self.forget_session(ask).into_iter().collect();
        // The one that it followed ends with its first use, and perhaps this is that.
        let held = self.session(ask).await;
        let followed = held.as_ref().and_then(Restored::came_by);
        let followed = followed.map(|came_by| *came_by.follows());
        let mut farewell = match self.session_id(ask) {
            Some(id) => {
                let known = self.deps.sessions.in_use_here(id, ask.now);
                match self.deps.sessions.end(id, ask.now).await {
                    Ok(farewell) => farewell,
                    Err(_) => return self.not_recorded(ask, (known, followed), cookies).await,
                }
            }
            None => None,
        };
        let mut ended = self.end_old_sessions(ask, farewell.is_some()).await;
        if let Some(farewell) = &farewell {
            ended.recorded &= self.ends_what_follows(ask, farewell).await;
            if let Some(row) = &followed {
                ended.recorded &= self.ends_what_was_made(row, ask.now).await;
            }
        }
        // One of the two that stand for one another, while the browser has heard of one alone.
        if let Some(id) = self.session_id(ask) {
            let own = farewell.as_ref().and_then(|own| own.follows);
            let (row, known) = (id.row(), farewell.is_some());
            let ends = self.ends_linked(ask, (row, known), own.or(followed));
            ended.recorded &= ends.await;
        }
        // Over already, perhaps because another has just taken its place; or another has, and whoever was to end this one for it
        // broke off.
        if let Some(id) = self.session_id(ask) {
            let successor = self.deps.sessions.took_place(&id.row(), ask.now).await;
            ended.recorded &= self.ends_successor(ask, successor).await;
            // The one in whose place it is still answers what was on its way with that.
            let before = self.deps.sessions.predecessor(&id.row(), ask.now).await;
            ended.recorded &= self.ends_successor(ask, before).await;
        }
        cookies.extend(ended.forget);
        if let Some(farewell) = &mut farewell {
            self.revoke_at_provider(ask, farewell);
        }
        if !ended.recorded {
            return self.page(ask, Page::NotRecorded, &root, cookies);
        }
        let location = self.leaves(ask, farewell.as_ref(), &mut cookies).await;
        page::redirect(Sent::SeeOther, &location, cookies.clone())
            .unwrap_or_else(|| self.page(ask, Page::SignedOut, &root, cookies))
    }

    /// Where a browser goes that has signed out here: to the provider of the session, and from there to that of the one whose
    /// place it took.
    async fn leaves(
        &self,
        ask: &Ask<'_>,
        farewell: Option<&Farewell>,
        cookies: &mut Vec<HeaderValue>,
    ) -> String {
        let own = farewell.and_then(|own| Some((&own.provider, own.id_token.as_ref()?)));
        let left = farewell.and_then(|own| own.left.as_ref());
        let left = left.map(|left| (&left.provider, &left.id_token));
        let stations = [own, left].into_iter().flatten();
        let mut stations = stations.filter_map(|at| self.provider_logout(ask, at));
        let first = stations.next();
        let noted = match stations.next() {
            Some(second) => self.keeps_next(ask, &second).await,
            None => None,
        };
        // Whoever was here before did not come back: what was noted of them is nobody's.
        cookies.extend(noted.or_else(|| self.forgets_next(ask)));
        first.unwrap_or_else(|| format!("{OURS}{DONE}"))
    }

    /// Notes where a browser goes on to once it comes back; `None`: it cannot be noted, and that session is left to end by itself.
    async fn keeps_next(&self, ask: &Ask<'_>, location: &str) -> Option<HeaderValue> {
        let next = Next {
            host: ask.request.facts.host.to_owned(),
            next: location.to_owned(),
        };
        let plain = Secret::new(serde_json::to_vec(&next).ok()?);
        // It names a session: as with a form, what the browser gets alone opens it, once.
        let kept = self
            .deps
            .sessions
            .keep_form(plain.expose(), KEPT_FOR, ask.now)
            .await;
        let given = kept.unwrap_or_else(|error| {
            debug!(%error, "A session at another provider is left to end by itself.");
            None
        })?;
        let name = self.names.leave();
        self.names.set(&name, given.expose(), Keep::For(KEPT_FOR))
    }

    /// Forgets where somebody was to go on to who has signed out here before.
    pub(super) fn forgets_next(&self, ask: &Ask<'_>) -> Option<HeaderValue> {
        let name = self.names.leave();
        let sent = cookies::named(ask.request.headers, &name);
        (sent != cookies::Sent::None).then(|| self.names.set(&name, "", Keep::Forget))?
    }

    /// `/.authferry/logout/done`: on to the next provider, or the end.
    pub(super) async fn signed_out(&self, ask: &Ask<'_>) -> Response<Bytes> {
        let (root, name) = (ReturnPath::root(), self.names.leave());
        let sent = cookies::named(ask.request.headers, &name);
        if sent == cookies::Sent::None {
            return self.page(ask, Page::SignedOut, &root, Vec::new());
        }
        let forget: Vec<_> = self
            .names
            .set(&name, "", Keep::Forget)
            .into_iter()
            .collect();
        let given = sent.text().and_then(SessionId::parse);
        let next = match given.filter(|_| *ask.request.method == Method::GET) {
            Some(given) => self.deps.sessions.take_form(given, ask.now).await,
            None => Ok(None),
        };
        let next = next.unwrap_or_else(|error| {
            debug!(%error, "A session at another provider is left to end by itself.");
            None
        });
        let next = next.and_then(|plain| serde_json::from_slice::<Next>(plain.expose()).ok());
        let next = next.filter(|next| next.host == ask.request.facts.host);
        let on = next.and_then(|next| page::redirect(Sent::SeeOther, &next.next, forget.clone()));
        on.unwrap_or_else(|| self.page(ask, Page::SignedOut, &root, forget))
    }

    /// Of a session that may have been exchanged a moment ago: the one that was given for it, of which this browser may not have
    /// heard yet, is over too. `false`: the store does not know of it yet.
    async fn ends_what_follows(&self, ask: &Ask<'_>, farewell: &Farewell) -> bool {
        let plan = ask.policy.plan();
        let from = plan.is_some_and(|plan| plan.arm(&farewell.provider) == Some(Arm::From));
        let carries = from && ask.policy.session_exchange().is_some();
        let (row, now) = (&farewell.row, ask.now);
        let made = self.ends_what_was_made(row, now).await;
        let carried = if carries {
            self.deps.sessions.was_carried(row, now).await
        } else {
            Ok(false)
        };
        match carried {
            Ok(false) => return made,
            Ok(true) => {}
            Err(error) => {
                debug!(%error, "A session may have been exchanged; what was given for it ends.");
            }
        }
        self.ends_all_of(row).await && made
    }

    /// What upstreams got for a session that is over, or for one in whose place it was, is over, too. `false`: the store does not
    /// know of it yet.
    pub(super) async fn ends_what_was_made(&self, row: &[u8; 32], now: UnixTime) -> bool {
        let (rows, mut written) = match self.deps.revocations.made_of(row, now).await {
            Ok(rows) => (rows, true),
            Err(error) => {
                // What was made of the sessions whose place it has taken is not known: nobody is told that it is over.
                debug!(%error, "Something may have been made of a session; it ends.");
                (vec![*row], false)
            }
        };
        for row in rows {
            written &= self.ends_all_of(&row).await;
        }
        written
    }

    /// Ends the session that this one was given for, which may still be there, and what was given for either. `before`: as far as
    /// it is known without its row, which says so also when it is over: whoever ended it may have broken off, or the store was
    /// away. `false`: the store does not know of it yet.
    async fn ends_linked(
        &self,
        ask: &Ask<'_>,
        (row, known): ([u8; 32], bool),
        before: Option<[u8; 32]>,
    ) -> bool {
        let before = match before {
            Some(before) => Ok(Some(before)),
            None if known => Ok(None),
            None => self.deps.sessions.follows(&row, ask.now).await,
        };
        let before = match before {
            Ok(before) => before,
            Err(error) => {
                debug!(%error, "What a session was given for that is over is not known.");
                return false;
            }
        };
        let ended = self.ends_exchanged(ask, row, before).await;
        // Nobody may come back for the rest of them; what is no session at all leaves nothing behind.
        if !ended && (known || before.is_some()) {
            self.is_over_here(row, before).await;
        }
        ended
    }

    /// Has a session, and the one that it was given for, in force as revoked: here at once, and everywhere when the store takes
    /// it.
    pub(super) async fn is_over_here(&self, row: [u8; 32], before: Option<[u8; 32]>) {
        let written = self.deps.revocations.end_both(&row, before.as_ref()).await;
        if let Err(error) = written {
            debug!(%error, "The end of a session is written down when the store is there again.");
        }
    }

    async fn ends_all_of(&self, row: &[u8; 32]) -> bool {
        let written = self.deps.revocations.end_what_follows(row).await;
        if let Err(error) = &written {
            debug!(%error, "The end of a session is written down when the store is there again.");
        }
        written.is_ok()
    }

    /// Not acknowledged before the store has confirmed it. A session that was in use here is over here now and will be
    /// everywhere, and the browser forgets it; of any other nobody can say whether it is one: its cookie stays for another try.
    async fn not_recorded(
        &self,
        ask: &Ask<'_>,
        (known, followed): (Option<[u8; 32]>, Option<[u8; 32]>),
        mut cookies: Vec<HeaderValue>,
    ) -> Response<Bytes> {
        let root = ReturnPath::root();
        let Some(row) = known else {
            return self.page(ask, Page::Unavailable, &root, Vec::new());
        };
        self.is_over_here(row, followed).await;
        // No session takes its place without a sign-in, and one that has already goes with it, if the store can be told.
        let successor = self.deps.sessions.has_left(&row, ask.now).await;
        self.ends_successor(ask, successor).await;
        // Signed out in this browser: also of what else would let it in.
        cookies.extend(self.end_old_sessions(ask, true).await.forget);
        self.page(ask, Page::NotRecorded, &root, cookies)
    }

    /// OpenID Connect RP-Initiated Logout 1.0 §2.
    fn provider_logout(
        &self,
        ask: &Ask<'_>,
        (provider, id_token): (&ProviderId, &Secret<String>),
    ) -> Option<String> {
        let provider = ask.policy.judge(provider, &self.deps.providers)?;
        let origin = self.names.origin(ask.request.authority);
        let done = format!("{origin}{OURS}{DONE}");
        provider.login()?.logout_url(id_token, &done)
    }

    /// What is left behind at its provider by the session whose place one of `provider` is about to take.
    pub(super) async fn leaves_behind(
        &self,
        ask: &Ask<'_>,
        whose: (&CanonicalSubject, &ProviderId),
    ) -> Option<LeftBehind> {
        let earlier = self.session_id(ask)?;
        let sessions = &self.deps.sessions;
        sessions.leaves_behind(earlier, whose, ask.now).await
    }

    /// Browsers send `Origin` with every POST, and `Sec-Fetch-Site`: what is there must say that the page is ours, and one
    /// must be there. `Referer` proves nothing.
    pub(super) fn from(&self, ask: &Ask<'_>) -> From {
        let headers = ask.request.headers;
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let mut origins = headers.get_all(ORIGIN).iter().map(HeaderValue::as_bytes);
        let ours = self.names.origin(ask.request.authority);
        let by_origin = match (origins.next(), origins.next()) {
            (None, _) => None,
            // A page that sends no referrer says nothing, wherever it is from: then the browser must say it (Fetch Metadata).
            (Some(b"null"), None) => None,
            (Some(origin), None) => Some(origin == ours.as_bytes()),
            (Some(_), Some(_)) => Some(false),
        };
        let by_site = site.map(|site| site == b"same-origin");
        match (by_origin, by_site) {
            (Some(true), None | Some(true)) | (None, Some(true)) => From::OurPage,
            (None, None) | (Some(false), _) | (_, Some(false)) => From::Elsewhere,
        }
    }
}

/// Where a form was sent from.
pub(super) enum From {
    OurPage,
    Elsewhere,
}
