//! The work of closing an old side: one session after the other, each at its provider first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::control::closing::Closing;
use crate::control::closing::Side;
use crate::control::closing::row::Account;
use crate::control::closing::row::Phase;
use crate::identity::ProviderId;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::providers::Ability;
use crate::providers::ProviderError;
use crate::revocation;
use crate::revocation::Asked;
use crate::revocation::Login;
use crate::revocation::Source;
use crate::revocation::Target;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::telemetry::metrics::Call;

/// Providers that are not asked again yet, and how often they were away.
#[derive(Debug, Default)]
pub(super) struct Waits(BTreeMap<ProviderId, (Instant, u32)>);

/// How a turn ended.
enum Turn {
    /// Nothing is left, and nothing of it counts any more.
    Closed,
    /// Somebody else goes on, or nobody.
    Left,
    /// The provider is away; it may have said for how long.
    Away(Option<Duration>),
}

/// What became of a refresh token.
enum Token {
    Revoked,
    Left,
    None,
}

impl Closing {
    /// Does what there is to do; what is closed by now.
    pub(super) async fn round(
        &self,
        side: &Arc<dyn Side>,
        waits: &mut Waits,
    ) -> Result<BTreeSet<ProviderId>, StoreError> {
        let mut closed = BTreeSet::new();
        for (provider, account) in self.accounts().await? {
            match account.phase {
                Phase::Closed => drop(closed.insert(provider)),
                Phase::Stopped => drop(waits.0.remove(&provider)),
                Phase::Closing => {
                    let waiting = waits.0.get(&provider);
                    // Ordered anew, it does not wait.
                    let waiting = waiting.filter(|_| account.waits.is_some());
                    if waiting.is_some_and(|(until, _)| Instant::now() < *until) {
                        continue;
                    }
                    match self.turn(&provider, &**side).await? {
                        // In force before anything else is closed, which may take days.
                        Turn::Closed => return self.closed().await,
                        Turn::Left => drop(waits.0.remove(&provider)),
                        Turn::Away(said) => waits.longer(provider, said),
                    }
                }
            }
        }
        Ok(closed)
    }

    /// Ends sessions until none is left.
    async fn turn(&self, provider: &ProviderId, side: &dyn Side) -> Result<Turn, StoreError> {
        let Some((mut account, mut version)) = self.rows.read(provider, self.now()).await? else {
            return Ok(Turn::Left);
        };
        if account.phase != Phase::Closing || !self.rows.works(self.now()).await? {
            return Ok(Turn::Left);
        }
        let pace = Duration::from_mins(1) / account.per_minute.max(1);
        let mut pace = tokio::time::interval(pace);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_vain = 0;
        while in_vain < self.parts.revocations.walks() {
            in_vain += 1;
            for first in 0..=u8::MAX {
                for login in self.parts.revocations.vouched_by(provider, first).await? {
                    in_vain = 0;
                    pace.tick().await;
                    if let Err(why) = side.may_close(provider) {
                        warn!(%provider, why, "The closing of an old side stops.");
                        account.phase = Phase::Stopped;
                        account.waits = Some(why);
                        return self.leave(provider, &account, version).await;
                    }
                    let away = self.end(provider, side, &mut account, &login).await?;
                    let now = self.now();
                    // Whoever has stopped it, or has the work now, has written meanwhile.
                    let mine = self.rows.works(now).await?
                        && self
                            .rows
                            .write(provider, &account, Some(version), now)
                            .await?;
                    if !mine {
                        return self.hand_over(provider, &account).await;
                    }
                    if let Some(said) = away {
                        return Ok(Turn::Away(said));
                    }
                    version = match self.rows.read(provider, now).await? {
                        // Whoever has stopped it, or ordered it anew, has written since.
                        Some((now, version)) if now == account => version,
                        Some(_) | None => return Ok(Turn::Left),
                    };
                }
            }
        }
        self.close(provider, side, account, version).await
    }

    /// Ends one session, and counts; the inner value: the provider is away, and what it said of that.
    async fn end(
        &self,
        provider: &ProviderId,
        side: &dyn Side,
        account: &mut Account,
        login: &Login,
    ) -> Result<Option<Option<Duration>>, StoreError> {
        let now = self.now();
        let Some(row) = login.row() else {
            self.parts.revocations.erase(login).await?;
            return Ok(None);
        };
        let known = self.parts.sessions.known(&row, now).await?;
        let held = known.and_then(|farewell| farewell.refresh_token);
        // The provider first: without its row nobody knows the token any more.
        let token = match held {
            None => Token::None,
            Some(_) if !account.told => Token::Left,
            Some(token) => match self.revoke(provider, side, &token, now).await {
                Ok(token) => token,
                Err((why, said)) => {
                    account.waits = Some(why);
                    return Ok(Some(said));
                }
            },
        };
        account.waits = None;
        match token {
            Token::Revoked => account.revoked += 1,
            Token::Left => account.left += 1,
            Token::None => {}
        }
        let ended = self.parts.sessions.end_known(&row, now).await?;
        account.sessions += u64::from(ended.is_some_and(|ended| !ended.rested));
        self.parts.revocations.erase(login).await?;
        Ok(None)
    }

    /// RFC 7009, where the provider can be told; an error: it is away, and for how long.
    async fn revoke(
        &self,
        provider: &ProviderId,
        side: &dyn Side,
        token: &Secret<String>,
        now: UnixTime,
    ) -> Result<Token, (String, Option<Duration>)> {
        let Some(running) = side.provider(provider) else {
            return Ok(Token::Left);
        };
        if !running.abilities().contains(&Ability::Revoke) {
            return Ok(Token::Left);
        }
        let Some(login) = running.login() else {
            return Ok(Token::Left);
        };
        let (outcome, done) = match login.revoke(token, now).await {
            Ok(()) => (Call::Success, Ok(Token::Revoked)),
            Err(ProviderError::Rejected(_)) => (Call::Rejected, Ok(Token::Left)),
            Err(ProviderError::Unavailable {
                outage,
                retry_after,
            }) => {
                let why = format!("the provider is unavailable: {outage}");
                (Call::Unavailable, Err((why, retry_after)))
            }
        };
        self.parts.metrics.logout_fanout(provider, outcome);
        done
    }

    /// Nothing is left: from here on nothing of it counts.
    async fn close(
        &self,
        provider: &ProviderId,
        side: &dyn Side,
        mut account: Account,
        version: u64,
    ) -> Result<Turn, StoreError> {
        if let Err(why) = side.may_close(provider) {
            account.phase = Phase::Stopped;
            account.waits = Some(why);
            return self.leave(provider, &account, version).await;
        }
        let now = self.now();
        let target = Target::Provider {
            provider: provider.to_string(),
        };
        let unread = self.parts.revocations.unread_of(&target).await?;
        account.unread = u64::try_from(unread).unwrap_or(u64::MAX);
        account.phase = Phase::Closed;
        account.closed = Some(now.as_millis());
        account.waits = None;
        let entry = account.tell(Entry::new(Kind::LegacyClose, "legacy close"), provider);
        if let Err(why) = self.record(entry).await {
            warn!(%provider, why, "An old side is not closed before the ledger says so.");
            return Ok(Turn::Away(None));
        }
        // What clients hold of it, and nobody here can find.
        let asked = Asked {
            target,
            source: Source::Operator,
            actor: String::from("legacy close"),
            reason: String::from("the old side is closed"),
            keep: None,
            provider: Some(provider.clone()),
        };
        if let Err(error) = self.parts.revocations.revoke_only(asked).await {
            warn!(%provider, %error, "What an old side has issued is not revoked yet.");
            return Ok(Turn::Away(None));
        }
        let written = self.rows.write(provider, &account, Some(version), now);
        if !written.await? {
            return Ok(Turn::Left);
        }
        let (sessions, tokens, unread) = (account.sessions, account.revoked, account.unread);
        info!(%provider, sessions, tokens, unread, "An old side is closed.");
        Ok(Turn::Closed)
    }

    /// Somebody has stopped it, or goes on with it: what was done last counts all the same.
    async fn hand_over(&self, provider: &ProviderId, done: &Account) -> Result<Turn, StoreError> {
        let now = self.now();
        if let Some((mut account, version)) = self.rows.read(provider, now).await? {
            account.sessions = account.sessions.max(done.sessions);
            account.revoked = account.revoked.max(done.revoked);
            account.left = account.left.max(done.left);
            let written = self.rows.write(provider, &account, Some(version), now);
            if !written.await? {
                warn!(%provider, "The last session of the closing of an old side is not counted.");
            }
        }
        Ok(Turn::Left)
    }

    async fn leave(
        &self,
        provider: &ProviderId,
        account: &Account,
        version: u64,
    ) -> Result<Turn, StoreError> {
        let written = self
            .rows
            .write(provider, account, Some(version), self.now());
        if written.await? {
            let entry = account.tell(Entry::new(Kind::LegacyClose, "legacy close"), provider);
            let entry = entry.maybe("why", account.waits.as_deref());
            if let Err(why) = self.record(entry).await {
                warn!(%provider, why, "That the closing of an old side has stopped is not recorded.");
            }
        }
        Ok(Turn::Left)
    }
}

impl Waits {
    /// After 1 s, 2 s, 4 s, … at most 10 min, or when the provider said.
    fn longer(&mut self, provider: ProviderId, said: Option<Duration>) {
        let times = self.0.get(&provider).map_or(0, |(_, times)| *times);
        let own = revocation::AGAIN * 2_u32.saturating_pow(times.min(10));
        let pause = said.unwrap_or(own);
        let pause = pause.clamp(revocation::AGAIN, revocation::LONGEST);
        let next = (Instant::now() + pause, times.saturating_add(1));
        self.0.insert(provider, next);
    }
}
