//! One progress for all instances that share a store: its rows, who leads, and what the others have seen.
//!
//! The progress changes by compare-and-swap alone, so that nobody overwrites what they have not read. What is seen by those
//! who do not lead is handed over in rows that end by themselves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::UnixTime;
use crate::rollout::Outcome;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::Tally;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// The lease of who leads.
const LEASE: &str = "rollouts";
/// Whoever does not renew it for so long leads no more.
const SPAN: Duration = Duration::from_secs(10);
/// What was seen and not fetched for so long is evidence of nothing any more.
const SEEN_LIVES: Duration = Duration::from_mins(2);
/// Outcomes in one row.
const CHUNK: usize = 1_000;
/// Rows that are fetched at once; the rest is fetched a moment later.
const FETCH: usize = 64;
/// A larger count of people is not handed to whoever leads next: it begins its evidence anew.
const MAX_TALLY: usize = 4 << 20;

/// What an instance is to the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// It drives: it is alone, or leads.
    Drives,
    /// Another one drives.
    Follows,
    /// The store does not say.
    Unknown,
}

/// The progress of a rollout as its row holds it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) progress: Progress,
    /// The version of the row.
    pub(super) version: u64,
}

/// What an instance has seen, and hands over.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Seen {
    /// In which step.
    pub(super) step: u64,
    pub(super) outcomes: Vec<Outcome>,
    /// Whether an application is plainly on fire.
    pub(super) fires: bool,
}

/// The people of a step, for whoever leads next.
#[derive(Debug, Deserialize, Serialize)]
struct Counted {
    step: u64,
    tally: Tally,
}

/// The exercises that have passed in a stage.
#[derive(Debug, Deserialize, Serialize)]
struct Passed {
    stage: String,
    drills: Vec<Box<str>>,
}

/// The rows of one instance.
pub(crate) struct Shared {
    store: Arc<dyn Store>,
    /// Different for every process.
    holder: String,
    /// How operators call it.
    node: String,
    row: AtomicU64,
    left: AtomicBool,
}

impl Shared {
    /// As `node`; `nonce` tells processes of one name apart.
    pub(crate) fn new(store: Arc<dyn Store>, node: &str, nonce: &str) -> Self {
        Self {
            store,
            holder: format!("{node}~{nonce}"),
            node: node.to_owned(),
            row: AtomicU64::new(0),
            left: AtomicBool::new(false),
        }
    }

    /// Takes or renews the lead, if it is free.
    pub(super) async fn role(&self, now: UnixTime) -> Role {
        if self.left.load(Ordering::Acquire) {
            return Role::Follows;
        }
        match self.store.lease(LEASE, &self.holder, SPAN, now).await {
            Ok(true) => {
                // Only a name for operators: that it cannot be written changes nothing.
                let named = self.store.put(LEADER, self.node.as_bytes(), now + SPAN);
                drop(named.await);
                Role::Drives
            }
            Ok(false) => Role::Follows,
            Err(_) => Role::Unknown,
        }
    }

    /// Who leads, as far as it is known.
    pub(super) async fn leader(&self, now: UnixTime) -> Option<String> {
        let row = self.store.get(LEADER, now).await.ok().flatten()?;
        String::from_utf8(row.value).ok()
    }

    /// Lets another instance lead at once.
    pub(super) async fn leave(&self) {
        self.left.store(true, Ordering::Release);
        // Whatever comes of it, the lease ends by itself.
        drop(self.store.release(LEASE, &self.holder).await);
    }

    /// Where a rollout stands. Its epoch is the highest that either row has: a file may have said where it stood meanwhile, and what
    /// was voided then stays void.
    pub(super) async fn load(
        &self,
        rollout: &RolloutId,
        now: UnixTime,
    ) -> Result<Option<Found>, StoreError> {
        let Some(row) = self.store.get(progress(rollout), now).await? else {
            return Ok(None);
        };
        let mut progress: Progress = read(&row.value)?;
        if let Some(raised) = self.store.get(epoch(rollout), now).await? {
            progress.epoch = progress.epoch.max(read(&raised.value)?);
        }
        Ok(Some(Found {
            progress,
            version: row.version,
        }))
    }

    /// Lets a rollout stand there for everybody; `false`: somebody else has moved it meanwhile.
    pub(super) async fn swap(
        &self,
        rollout: &RolloutId,
        expect: Expect,
        next: &Progress,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let value = written(next)?;
        self.store
            .compare_and_swap(progress(rollout), expect, &value, UnixTime::NEVER, now)
            .await
    }

    /// The epoch of a rollout, whoever has raised it, and what the row must be that instances raise whose file says where it stands.
    pub(super) async fn epoch(
        &self,
        rollout: &RolloutId,
        now: UnixTime,
    ) -> Result<(u64, Expect), StoreError> {
        let (raised, expect) = match self.store.get(epoch(rollout), now).await? {
            Some(row) => (read(&row.value)?, Expect::Version(row.version)),
            None => (0, Expect::Absent),
        };
        let driven = match self.store.get(progress(rollout), now).await? {
            Some(row) => read::<Progress>(&row.value)?.epoch,
            None => 0,
        };
        Ok((raised.max(driven), expect))
    }

    /// Raises it for everybody; `false`: somebody else has written it meanwhile.
    pub(super) async fn raise_epoch(
        &self,
        rollout: &RolloutId,
        expect: Expect,
        to: u64,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let value = written(&to)?;
        self.store
            .compare_and_swap(epoch(rollout), expect, &value, UnixTime::NEVER, now)
            .await
    }

    /// Hands over what was seen.
    pub(super) async fn hand_over(
        &self,
        rollout: &RolloutId,
        seen: Seen,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let Seen {
            step,
            outcomes,
            fires,
        } = seen;
        let mut chunks: Vec<&[Outcome]> = outcomes.chunks(CHUNK).collect();
        if fires && chunks.is_empty() {
            chunks.push(&[]);
        }
        for chunk in chunks {
            let n = self.row.fetch_add(1, Ordering::Relaxed);
            let key = [
                &prefix(rollout)[..],
                self.holder.as_bytes(),
                &[0],
                &n.to_be_bytes(),
            ]
            .concat();
            let value = written(&Seen {
                step,
                outcomes: chunk.to_vec(),
                fires,
            })?;
            self.store
                .put(seen_by(&key), &value, now + SEEN_LIVES)
                .await?;
        }
        Ok(())
    }

    /// Takes what the others have handed over, of this step.
    pub(super) async fn fetch(
        &self,
        rollout: &RolloutId,
        step: u64,
        now: UnixTime,
    ) -> Result<Seen, StoreError> {
        let rows = self
            .store
            .scan(SEEN_TABLE, &prefix(rollout), FETCH, now)
            .await?;
        let mut all = Seen {
            step,
            ..Seen::default()
        };
        for (key, row) in rows {
            // First gone, then counted: nobody counts twice.
            self.store.delete(seen_by(&key)).await?;
            let seen: Seen = read(&row.value)?;
            if seen.step == step {
                all.outcomes.extend(seen.outcomes);
                all.fires |= seen.fires;
            }
        }
        Ok(all)
    }

    /// Keeps the people of a step for whoever leads next.
    pub(super) async fn keep_tally(
        &self,
        rollout: &RolloutId,
        step: u64,
        tally: &Tally,
    ) -> Result<(), StoreError> {
        let value = written(&Counted {
            step,
            tally: tally.clone(),
        })?;
        if MAX_TALLY < value.len() {
            return Ok(());
        }
        self.store
            .put(counted(rollout), &value, UnixTime::NEVER)
            .await
    }

    /// Keeps which exercises have passed in a stage.
    pub(super) async fn keep_drills(
        &self,
        rollout: &RolloutId,
        stage: &str,
        drills: &[Box<str>],
    ) -> Result<(), StoreError> {
        let value = written(&Passed {
            stage: stage.to_owned(),
            drills: drills.to_vec(),
        })?;
        self.store
            .put(drilled(rollout), &value, UnixTime::NEVER)
            .await
    }

    /// Which exercises have passed, and in which stage.
    pub(super) async fn drills(
        &self,
        rollout: &RolloutId,
        now: UnixTime,
    ) -> Result<Option<(String, Vec<Box<str>>)>, StoreError> {
        let Some(row) = self.store.get(drilled(rollout), now).await? else {
            return Ok(None);
        };
        let Passed { stage, drills } = read(&row.value)?;
        Ok(Some((stage, drills)))
    }

    /// The people of this step, as whoever led before has counted them.
    pub(super) async fn tally(
        &self,
        rollout: &RolloutId,
        step: u64,
        now: UnixTime,
    ) -> Result<Option<Tally>, StoreError> {
        let Some(row) = self.store.get(counted(rollout), now).await? else {
            return Ok(None);
        };
        let kept: Counted = read(&row.value)?;
        Ok((kept.step == step).then_some(kept.tally))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

const LEADER: Key<'_> = Key {
    table: "rollout_lead",
    key: b"node",
};
const SEEN_TABLE: &str = "rollout_seen";

fn progress(rollout: &RolloutId) -> Key<'_> {
    Key {
        table: "rollout",
        key: rollout.as_str().as_bytes(),
    }
}

fn epoch(rollout: &RolloutId) -> Key<'_> {
    Key {
        table: "rollout_epoch",
        key: rollout.as_str().as_bytes(),
    }
}

fn counted(rollout: &RolloutId) -> Key<'_> {
    Key {
        table: "rollout_people",
        key: rollout.as_str().as_bytes(),
    }
}

fn drilled(rollout: &RolloutId) -> Key<'_> {
    Key {
        table: "rollout_drills",
        key: rollout.as_str().as_bytes(),
    }
}

const fn seen_by(key: &[u8]) -> Key<'_> {
    Key {
        table: SEEN_TABLE,
        key,
    }
}

/// No name has a zero byte.
fn prefix(rollout: &RolloutId) -> Vec<u8> {
    [rollout.as_str().as_bytes(), &[0]].concat()
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}
