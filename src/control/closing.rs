//! The end of an old side for good: its sessions end and its tokens are revoked, so many a minute; then it is quarantined.
//!
//! How far it has come stands in the store after each session: whoever has the lease goes on, after a restart too. Nothing is
//! begun, and nothing is final, before it is in the ledger.

mod row;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::error;
use tracing::warn;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::ProviderId;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::ledger::Ledger;
use crate::providers::Provider;
use crate::revocation::Login;
use crate::revocation::Revocations;
use crate::session::Sessions;
use crate::store::Store;
use crate::store::StoreError;
use crate::telemetry::Metrics;

pub(crate) use crate::control::closing::row::Account;
pub(crate) use crate::control::closing::row::Phase;
use crate::control::closing::row::Rows;

/// How often it is looked whether there is something to be done: also what another instance has finished.
const LOOK: Duration = Duration::from_secs(5);
/// So often an order is tried while whoever works on the closing writes.
const TRIES: usize = 16;
/// It was tried that often.
const BUSY: &str = "it is busy: try again";

/// What closing asks of the program around it.
pub(crate) trait Side: fmt::Debug + Send + Sync {
    /// A provider as it runs now.
    fn provider(&self, id: &ProviderId) -> Option<Arc<dyn Provider>>;

    /// Whether nobody signs in at it any more. Asked before each session: a configuration may change meanwhile.
    ///
    /// # Errors
    ///
    /// Who still does, in words.
    fn may_close(&self, id: &ProviderId) -> Result<(), String>;

    /// From here on nothing of these counts. Builds a snapshot: not for a worker.
    ///
    /// # Errors
    ///
    /// Why it does not hold yet, in words.
    fn quarantine(&self, ids: &BTreeSet<ProviderId>) -> Result<(), String>;
}

/// Why nothing was ordered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOrdered {
    /// It makes no sense as it stands.
    #[error("{0}")]
    Refused(String),
    /// The store or the ledger did not take it.
    #[error("{0}")]
    Away(String),
}

impl From<StoreError> for NotOrdered {
    fn from(error: StoreError) -> Self {
        Self::Away(error.to_string())
    }
}

/// What is to be closed, and how.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The old side.
    pub(crate) provider: ProviderId,
    /// So many sessions a minute.
    pub(crate) per_minute: u32,
    /// Whether the provider is told. It is not where it is gone already.
    pub(crate) told: bool,
    /// Who asks.
    pub(crate) actor: String,
    /// Why.
    pub(crate) reason: String,
}

/// What it works with.
#[derive(Debug)]
pub(crate) struct ClosingParts {
    /// Where progress is kept.
    pub(crate) store: Arc<dyn Store>,
    /// What ends.
    pub(crate) sessions: Arc<Sessions>,
    /// How it is found.
    pub(crate) revocations: Arc<Revocations>,
    /// Where it is recorded.
    pub(crate) ledger: Arc<Ledger>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Tells instances apart.
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// Closes old sides. Lives as long as the process.
#[derive(Debug)]
pub(crate) struct Closing {
    parts: ClosingParts,
    rows: Rows,
    wake: Notify,
}

impl Closing {
    /// Nothing is closed before [`Self::run`].
    pub(crate) fn new(parts: ClosingParts) -> Arc<Self> {
        let rows = Rows::new(Arc::clone(&parts.store), parts.entropy.token());
        Arc::new(Self {
            parts,
            rows,
            wake: Notify::new(),
        })
    }

    /// How many sessions would end.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn count(&self, provider: &ProviderId) -> Result<usize, StoreError> {
        let mut sessions = HashSet::new();
        for _ in 0..self.parts.revocations.walks() {
            for first in 0..=u8::MAX {
                let some = self.parts.revocations.vouched_by(provider, first).await?;
                sessions.extend(some.iter().filter_map(Login::row));
            }
        }
        Ok(sessions.len())
    }

    /// Begins, or goes on after a stop; while it runs, another pace takes effect.
    ///
    /// # Errors
    ///
    /// See [`NotOrdered`]; nothing has begun then, though the record that it was ordered may stand.
    pub(crate) async fn order(&self, order: Order) -> Result<Account, NotOrdered> {
        // Once it is recorded: whether it had been stopped by then.
        let mut recorded = None;
        // Whoever works on it writes after each session: a few tries meet a moment between two.
        for _ in 0..TRIES {
            let now = self.now();
            let found = self.rows.read(&order.provider, now).await?;
            let (mut account, version) = match found {
                Some((account, _)) if account.phase == Phase::Closed => {
                    let what = format!("`{}` is closed already", order.provider);
                    return Err(NotOrdered::Refused(what));
                }
                Some((account, version)) => (account, Some(version)),
                None => (Account::begun(now), None),
            };
            let stopped = account.phase == Phase::Stopped;
            account.phase = Phase::Closing;
            account.per_minute = order.per_minute;
            account.told = order.told;
            account.waits = None;
            match recorded {
                // Whoever was told that it has stopped is not overruled by who did not know of that.
                Some(false) if stopped => {
                    let what = "it was stopped meanwhile: try again";
                    return Err(NotOrdered::Away(String::from(what)));
                }
                // One order is one record, however often the row had just gone on.
                Some(_) => {}
                None => {
                    let entry = Entry::new(Kind::LegacyClose, &order.actor)
                        .with("provider", order.provider.as_str())
                        .with("state", account.phase.as_str())
                        .with("per_minute", order.per_minute)
                        .with("provider_told", order.told)
                        .with("why", order.reason.as_str());
                    self.record(entry).await.map_err(NotOrdered::Away)?;
                    recorded = Some(stopped);
                }
            }
            let written = self.rows.write(&order.provider, &account, version, now);
            if written.await? {
                self.wake.notify_one();
                return Ok(account);
            }
        }
        Err(NotOrdered::Away(String::from(BUSY)))
    }

    /// Stops after the session that is under way. What has ended stays so.
    ///
    /// # Errors
    ///
    /// See [`NotOrdered`].
    pub(crate) async fn stop(
        &self,
        provider: &ProviderId,
        actor: &str,
        reason: &str,
    ) -> Result<Account, NotOrdered> {
        for _ in 0..TRIES {
            let now = self.now();
            let found = self.rows.read(provider, now).await?;
            let running = found.filter(|(account, _)| account.phase == Phase::Closing);
            let (mut account, version) = running.ok_or_else(|| {
                NotOrdered::Refused(format!("nothing closes `{provider}` at the moment"))
            })?;
            account.phase = Phase::Stopped;
            if self
                .rows
                .write(provider, &account, Some(version), now)
                .await?
            {
                let entry = Entry::new(Kind::LegacyClose, actor);
                let entry = account.tell(entry, provider).with("why", reason);
                self.record(entry).await.map_err(NotOrdered::Away)?;
                return Ok(account);
            }
        }
        Err(NotOrdered::Away(String::from(BUSY)))
    }

    /// How far each has come.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn accounts(&self) -> Result<Vec<(ProviderId, Account)>, StoreError> {
        self.rows.all(self.now()).await
    }

    /// What is closed for good.
    ///
    /// # Errors
    ///
    /// As [`Self::accounts`].
    pub(crate) async fn closed(&self) -> Result<BTreeSet<ProviderId>, StoreError> {
        self.rows.closed(self.now()).await
    }

    /// Works, for as long as the process lives.
    pub(crate) async fn run(self: Arc<Self>, side: Arc<dyn Side>) {
        let mut waits = work::Waits::default();
        let mut known = BTreeSet::new();
        loop {
            let closed = match self.closed().await {
                Ok(closed) if closed == known => self.round(&side, &mut waits).await,
                other => other,
            };
            match closed {
                Ok(closed) if closed != known => {
                    let (side, these) = (Arc::clone(&side), closed.clone());
                    let told = tokio::task::spawn_blocking(move || side.quarantine(&these));
                    match told.await.map_err(|error| error.to_string()).flatten() {
                        Ok(()) => {
                            known = closed;
                            // Whether there is more to be done is seen at once.
                            continue;
                        }
                        Err(why) => error!(why, "What is closed is not quarantined yet."),
                    }
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "The closing of an old side waits for the store."),
            }
            // Whichever comes first; that it was the clock is no matter.
            drop(tokio::time::timeout(LOOK, self.wake.notified()).await);
        }
    }

    /// Writes a record; the disk may take its time.
    async fn record(&self, entry: Entry) -> Result<(), String> {
        let ledger = Arc::clone(&self.parts.ledger);
        let written = tokio::task::spawn_blocking(move || ledger.append(entry)).await;
        let written = written.map_err(|error| error.to_string())?;
        written.map(drop).map_err(|error| error.to_string())
    }

    fn now(&self) -> UnixTime {
        self.parts.clock.now()
    }
}
