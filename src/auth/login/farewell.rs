//! What becomes of a session that ended at the providers: its refresh token is revoked, sessions of old systems are signed out.

use std::sync::Arc;

use http::HeaderValue;
use tracing::debug;
use tracing::error;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::callback::NoSession;
use crate::auth::login::callback::Returned;
use crate::auth::login::flow::Errand;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::LoggedIn;
use crate::providers::Provider;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::secret::Secret;
use crate::session::Created;
use crate::session::Farewell;
use crate::session::KEPT_FOR;
use crate::session::OldSession;
use crate::session::SessionId;
use crate::store::StoreError;

/// What became of the sessions of old systems.
pub(super) struct OldSessions {
    /// `Set-Cookie` fields that make the browser forget them.
    pub(super) forget: Vec<HeaderValue>,
    /// Whether the store knows of every end.
    pub(super) recorded: bool,
}

impl Logins {
    /// Has the provider of a session revoke its refresh token.
    pub(super) fn revoke_at_provider(&self, ask: &Ask<'_>, farewell: &mut Farewell) {
        let provider = self.deps.providers.named(&farewell.provider);
        if let (Some(provider), Some(token)) = (provider, farewell.refresh_token.take()) {
            self.tell(
                ask,
                provider.id(),
                Spent::Token(Arc::clone(provider), token),
            );
        }
    }

    /// Ends the oldest sessions of somebody who has been given one more than they may have.
    pub(super) async fn makes_room(&self, ask: &Ask<'_>, created: &Created) {
        let sessions = &self.deps.sessions;
        for mut ended in sessions.make_room_for(&created.room, ask.now).await {
            self.revoke_at_provider(ask, &mut ended);
        }
    }

    /// What a provider issued for a login that is no session is given back: nobody else could end it.
    ///
    /// Not where the browser comes back to the same provider, and not of a login that nobody asked for: a provider may end its
    /// own session with the token, and the person would sign in once more. Of the first of two accounts that somebody is to
    /// prove it is kept until it shows whether they come back.
    pub(super) async fn gives_back(
        &self,
        returned: &Returned<'_>,
        owner: &Arc<dyn Provider>,
        logged_in: LoggedIn,
        why: &mut NoSession,
    ) {
        let nobody_asked = matches!(returned.flow.errand, Errand::Silent { .. });
        let over = match why {
            NoSession::Ends(..) | NoSession::Again(_) | NoSession::Asks(_) => true,
            NoSession::At(next) => {
                if let (Errand::Prove(proof), Some(token)) =
                    (&mut next.errand, &logged_in.refresh_token)
                {
                    proof.kept = self.keeps_token(returned.ask, token).await;
                }
                next.provider != *owner.id() && !matches!(next.errand, Errand::Prove(_))
            }
            NoSession::Stays(_) => false,
        };
        let over = over && !nobody_asked;
        if let Some(token) = logged_in.refresh_token.filter(|_| over) {
            let spent = Spent::Token(Arc::clone(owner), token);
            self.tell(returned.ask, owner.id(), spent);
        }
    }

    /// Keeps a token for as long as a login may take; what the flow record is given for it. `None`: it ends by itself.
    async fn keeps_token(&self, ask: &Ask<'_>, token: &Secret<String>) -> Option<String> {
        let sessions = &self.deps.sessions;
        let kept = sessions
            .keep_form(token.expose().as_bytes(), KEPT_FOR, ask.now)
            .await;
        let given = kept.unwrap_or_else(|error| {
            debug!(%error, "What was issued to somebody who proves an account ends by itself.");
            None
        })?;
        Some(given.expose().clone())
    }

    /// Gives back what was issued for the first of two accounts, where somebody does not come back after the second: because they
    /// say that they are not both theirs, or because it came to nothing.
    pub(super) async fn gives_back_first(&self, returned: &Returned<'_>) {
        let proof = match &returned.flow.errand {
            Errand::Prove(proof) | Errand::Join { new: proof, .. } => proof,
            Errand::Session | Errand::Silent { .. } => return,
        };
        let Some(kept) = proof.kept.as_deref().and_then(SessionId::parse) else {
            return;
        };
        let taken = self.deps.sessions.take_form(kept, returned.ask.now).await;
        let token = taken.unwrap_or_else(|error| {
            debug!(%error, "What was issued to somebody who proved an account ends by itself.");
            None
        });
        let token = token.and_then(|token| String::from_utf8(token.expose().clone()).ok());
        let provider = self.deps.providers.named(&proof.provider());
        if let (Some(provider), Some(token)) = (provider, token) {
            let spent = Spent::Token(Arc::clone(provider), Secret::new(token));
            self.tell(returned.ask, provider.id(), spent);
        }
    }

    /// Ends the sessions of old systems whose cookies the browser sent: what was said of them counts nowhere any more, and their
    /// systems are told. `known`: they came with a session of ours that has just ended; what came alone is asked about, because
    /// anybody can make one up.
    pub(super) async fn end_old_sessions(&self, ask: &Ask<'_>, known: bool) -> OldSessions {
        let mut ended = OldSessions {
            forget: Vec::new(),
            recorded: true,
        };
        for (name, provider) in &ask.policy.owners().cookies {
            let sent = cookies::named(ask.request.headers, name);
            if !provider.ends_sessions() || sent == cookies::Sent::None {
                continue;
            }
            if let Some(value) = sent.text() {
                let credential = Credential::Session {
                    cookie: name.clone(),
                    value: Secret::new(value.to_owned()),
                };
                let cookie = &**name;
                let digest = OldSession { cookie, value }.digest();
                let judged = self.judged(ask, provider, credential.clone());
                let successor = if known || judged.await.is_some() {
                    let written = self.deps.revocations.end_old_session(&digest).await;
                    if let Err(error) = &written {
                        debug!(%error, "The end of a session is written down when the store is there again.");
                    }
                    ended.recorded &= written.is_ok();
                    self.deps.sessions.has_left(&digest, ask.now).await
                } else {
                    self.deps.sessions.took_place(&digest, ask.now).await
                };
                ended.recorded &= self.ends_successor(ask, successor).await;
                self.tell(
                    ask,
                    provider.id(),
                    Spent::Session(Arc::clone(provider), credential),
                );
            }
            ended.forget.extend(self.names.set(name, "", Keep::Forget));
        }
        ended
    }

    /// Ends the session that has just taken the place of another without a sign-in, of which this browser may not have heard yet, or
    /// the one whose place was taken; `false`: the store does not know of it yet.
    pub(super) async fn ends_successor(
        &self,
        ask: &Ask<'_>,
        found: Result<Option<[u8; 32]>, StoreError>,
    ) -> bool {
        let ended = match found {
            Ok(Some(row)) => self.deps.sessions.end_known(&row, ask.now).await,
            Ok(None) => return true,
            Err(error) => Err(error),
        };
        match ended {
            Ok(farewell) => {
                let Some(mut farewell) = farewell else {
                    return true;
                };
                self.revoke_at_provider(ask, &mut farewell);
                self.ends_what_was_made(&farewell.row, ask.now).await
            }
            Err(error) => {
                debug!(%error, "Whether a session has taken the place of one that ends is not known.");
                false
            }
        }
    }

    /// Ends what a session that is over was given for (`before`), and what was given for either: its browser may have heard of one
    /// of them alone, and whoever signs out is out of all. `false`: the store does not know of it yet.
    pub(super) async fn ends_exchanged(
        &self,
        ask: &Ask<'_>,
        row: [u8; 32],
        before: Option<[u8; 32]>,
    ) -> bool {
        // First, so that whatever is given for it from here on sees that it is over.
        let mut recorded = self.ends_successor(ask, Ok(before)).await;
        for one in [Some(row), before].into_iter().flatten() {
            match self.deps.sessions.given_for(&one, ask.now).await {
                Ok(given) => {
                    for other in given.into_iter().filter(|other| *other != row) {
                        recorded &= self.ends_successor(ask, Ok(Some(other))).await;
                    }
                }
                Err(error) => {
                    debug!(%error, "What was given for a session that ends is not known.");
                    recorded = false;
                }
            }
        }
        recorded
    }

    /// What an old system says of one of its sessions, where it says that it is one.
    pub(super) async fn judged(
        &self,
        ask: &Ask<'_>,
        provider: &Arc<dyn Provider>,
        credential: Credential,
    ) -> Option<Authenticated> {
        let (owner, now) = (Arc::clone(provider), ask.now);
        let judged = async move { owner.authenticate(&credential, now).await.ok() };
        let judged = self.deps.background.spawn(judged).await;
        judged.unwrap_or_else(|error| {
            error!(provider = %provider.id(), %error, "A judgement broke off.");
            None
        })
    }

    fn tell(&self, ask: &Ask<'_>, provider: &ProviderId, spent: Spent) {
        let metrics = &self.deps.reports.metrics;
        let notice = Notice::new(provider, spent, metrics, ask.now);
        self.deps.notices.send(notice, &self.deps.background);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::FakeProvider;
    use crate::auth::fake::at;
    use crate::identity::Outage;
    use crate::identity::Refusal;
    use crate::providers::ProviderError;
    use crate::revocation::Notices;
    use crate::revocation::TRIES;
    use crate::telemetry::Metrics;
    use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;
    use std::time::Duration;
    use tokio::time::Instant;

    async fn told(answers: &[Result<(), ProviderError>]) -> (usize, Arc<Metrics>) {
        let clock = Arc::new(crate::clock::ManualClock::at(at(0)));
        let metrics = Metrics::new(clock, MAX_SERIES_PER_FAMILY);
        let provider = Arc::new(FakeProvider::named("new").with_login());
        let login = provider.login.as_ref().unwrap();
        let script = answers.iter().rev().cloned();
        login.revocations.lock().unwrap().extend(script);
        let shared: Arc<dyn Provider> = Arc::clone(&provider) as _;
        let spent = Spent::Token(Arc::clone(&shared), Secret::new(String::from("RT")));
        Notice::new(shared.id(), spent, &metrics, at(0))
            .deliver()
            .await;
        let asked = login.revoked.lock().unwrap().len();
        (asked, metrics)
    }

    fn counted(metrics: &Metrics, outcome: &str) -> bool {
        let wanted =
            format!("authferry_logout_fanout_total{{provider=\"new\",outcome=\"{outcome}\"}} 1");
        metrics.render().unwrap().contains(&wanted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_away_is_told_again_and_one_that_refuses_is_not() {
        let away = || Err(ProviderError::from(Outage::Http5xx));
        let (asked, metrics) = told(&[away(), away(), Ok(())]).await;
        assert_eq!(asked, 3);
        assert!(counted(&metrics, "success"));
        let (asked, metrics) = told(&[Err(Refusal::Policy.into())]).await;
        assert_eq!(asked, 1);
        assert!(counted(&metrics, "rejected"));
        let (asked, metrics) = told(&[Err(Refusal::Unsupported.into())]).await;
        assert_eq!(asked, 1);
        assert!(
            !metrics
                .render()
                .unwrap()
                .contains("authferry_logout_fanout_total{")
        );
        let began = Instant::now();
        let (asked, metrics) = told(&vec![away(); 40]).await;
        assert_eq!(asked, TRIES as usize, "and then no more");
        assert!(counted(&metrics, "unavailable"));
        let took = began.elapsed();
        assert!(
            (Duration::from_mins(50)..Duration::from_mins(90)).contains(&took),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_told_when_it_comes_again() {
        let clock = Arc::new(crate::clock::ManualClock::at(at(0)));
        let metrics = Metrics::new(clock, MAX_SERIES_PER_FAMILY);
        let old = Arc::new(FakeProvider::old());
        let shared: Arc<dyn Provider> = Arc::clone(&old) as _;
        let (notices, background) = (Notices::default(), tokio::runtime::Handle::current());
        let (opens, open) = tokio::sync::watch::channel(false);
        let send = |session: usize| {
            let credential = Credential::Session {
                cookie: "OLDSID".into(),
                value: Secret::new(session.to_string()),
            };
            let spent = Spent::Session(Arc::clone(&shared), credential);
            let notice = Notice::new(shared.id(), spent, &metrics, at(0));
            let mut open = open.clone();
            let goes = async move { open.wait_for(|open| *open).await.is_ok() };
            notices.send_if(notice, goes, &background)
        };
        let all = (0..1_000).take_while(|session| send(*session)).count();
        assert_eq!(all, 256, "and there is room for no more");
        opens.send(true).unwrap();
        let told = || old.ended.lock().unwrap().len();
        while told() < all {
            tokio::task::yield_now().await;
        }
        assert!(send(all));
        assert!(send(0), "it has been told");
        while told() <= all {
            tokio::task::yield_now().await;
        }
        assert_eq!(told(), all + 1);
        assert!(old.ended.lock().unwrap().contains(&all.to_string()));
    }
}
