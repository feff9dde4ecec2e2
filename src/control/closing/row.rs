//! How far the closing of an old side has come, as the store keeps it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::ledger::Entry;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// The table; its keys are the names of providers.
const TABLE: &str = "legacy_close";
/// The lease of who works.
const LEASE: &str = "legacy_close";
/// Whoever does not renew it for so long works no more.
const SPAN: Duration = Duration::from_secs(30);
/// Old sides that can be closed: 256.
const MOST: usize = 256;
/// The layout of a row.
const VERSION: u8 = 1;

/// Where the closing of an old side stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Sessions end, one after the other.
    Closing,
    /// It goes on when it is ordered again.
    Stopped,
    /// Nothing of it counts any more.
    Closed,
}

impl Phase {
    /// The word that operators see.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closing => "closing",
            Self::Stopped => "stopped",
            Self::Closed => "closed",
        }
    }
}

/// What has been done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Account {
    v: u8,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// So many sessions a minute.
    pub(crate) per_minute: u32,
    /// Whether the provider is told.
    pub(crate) told: bool,
    /// When it was begun, in milliseconds since 1970.
    pub(crate) began: u64,
    /// When it was closed.
    pub(crate) closed: Option<u64>,
    /// Sessions that were ended.
    pub(crate) sessions: u64,
    /// Refresh tokens that the provider has revoked.
    pub(crate) revoked: u64,
    /// Refresh tokens that it did not revoke: they end by themselves.
    pub(crate) left: u64,
    /// Sessions that nobody here can read when it is closed, whosever they are: what is of the old side counts nowhere.
    #[serde(default)]
    pub(crate) unread: u64,
    /// What it waits for, in words.
    pub(crate) waits: Option<String>,
}

impl Account {
    pub(super) const fn begun(now: UnixTime) -> Self {
        Self {
            v: VERSION,
            phase: Phase::Closing,
            per_minute: 0,
            told: true,
            began: now.as_millis(),
            closed: None,
            sessions: 0,
            revoked: 0,
            left: 0,
            unread: 0,
            waits: None,
        }
    }

    /// Puts it into a record.
    pub(super) fn tell(&self, entry: Entry, provider: &ProviderId) -> Entry {
        entry
            .with("provider", provider.as_str())
            .with("state", self.phase.as_str())
            .with("sessions", self.sessions)
            .with("tokens_revoked", self.revoked)
            .with("tokens_left", self.left)
            .with("sessions_unread", self.unread)
    }
}

/// The rows of all old sides.
pub(super) struct Rows {
    store: Arc<dyn Store>,
    /// Different for every process.
    holder: String,
}

impl Rows {
    pub(super) const fn new(store: Arc<dyn Store>, holder: String) -> Self {
        Self { store, holder }
    }

    /// Takes or keeps the work; `false`: another instance has it. Whoever is alone waits for nobody.
    pub(super) async fn works(&self, now: UnixTime) -> Result<bool, StoreError> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        self.store.lease(LEASE, &self.holder, SPAN, now).await
    }

    pub(super) async fn read(
        &self,
        provider: &ProviderId,
        now: UnixTime,
    ) -> Result<Option<(Account, u64)>, StoreError> {
        let found = self.store.get(place(provider), now).await?;
        let Some(row) = found else {
            return Ok(None);
        };
        Ok(Some((decode(&row.value)?, row.version)))
    }

    /// Writes what was read in this version; `false`: somebody else wrote meanwhile.
    pub(super) async fn write(
        &self,
        provider: &ProviderId,
        account: &Account,
        version: Option<u64>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let value = serde_json::to_vec(account).map_err(|error| damaged(&error))?;
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let (key, never) = (place(provider), UnixTime::NEVER);
        self.store
            .compare_and_swap(key, expect, &value, never, now)
            .await
    }

    /// The names of those that are closed. A row that nobody can read may be of one, so it is.
    pub(super) async fn closed(&self, now: UnixTime) -> Result<BTreeSet<ProviderId>, StoreError> {
        let rows = self.store.scan(TABLE, b"", MOST, now).await?;
        let closed = rows.iter().filter(|(_, row)| {
            decode(&row.value).map_or(true, |account| account.phase == Phase::Closed)
        });
        Ok(closed.map(|(key, _)| named(key)).collect())
    }

    pub(super) async fn all(
        &self,
        now: UnixTime,
    ) -> Result<Vec<(ProviderId, Account)>, StoreError> {
        let rows = self.store.scan(TABLE, b"", MOST, now).await?;
        let one = |(key, row): (Vec<u8>, crate::store::Row)| Ok((named(&key), decode(&row.value)?));
        rows.into_iter().map(one).collect()
    }
}

/// A row that is none is damage: whoever takes it for nothing opens what is closed.
fn decode(value: &[u8]) -> Result<Account, StoreError> {
    let account: Account = serde_json::from_slice(value).map_err(|error| damaged(&error))?;
    if account.v == VERSION {
        Ok(account)
    } else {
        let what = "a closing written by another version";
        Err(StoreError::Damaged(what.to_owned()))
    }
}

fn damaged(error: &serde_json::Error) -> StoreError {
    StoreError::Damaged(format!("the closing of an old side: {error}"))
}

fn named(key: &[u8]) -> ProviderId {
    ProviderId::new(&String::from_utf8_lossy(key))
}

fn place(provider: &ProviderId) -> Key<'_> {
    Key {
        table: TABLE,
        key: provider.as_str().as_bytes(),
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows")
    }
}
