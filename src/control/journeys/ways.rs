//! Journeys as all instances know them: a browser that was sent out by one may come back to another, and how an application
//! fares in a step is counted for all of them together.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::UnixTime;
use crate::control::journeys::ROUND;
use crate::control::journeys::book::Open;
use crate::entropy::Entropy;
use crate::entropy::SystemEntropy;
use crate::rollout::AppId;
use crate::rollout::First;
use crate::rollout::FirstLogins;
use crate::rollout::RolloutId;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// Browsers on their way.
const WAYS: &str = "journey";
/// How applications fare.
const FIRST: &str = "journey_first";
/// How long a browser's row outlives its time: as long as the store may be away, or nobody looks, without its end being lost.
const LATE: Duration = Duration::from_hours(1);
/// How long it is remembered that a browser has come back.
const ENDED: Duration = Duration::from_mins(2);
/// How often a row is tried that others are faster with.
const TRIES: u32 = 12;
/// The longest that is waited before a row is tried again.
const ASIDE: Duration = Duration::from_millis(64);
/// Applications of one rollout.
const MAX_APPS: usize = 4_096;

/// A step of a rollout: what is of another says nothing about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) rollout: &'a RolloutId,
    /// Later ones are greater.
    pub(super) step: u64,
    pub(super) now: UnixTime,
}

impl Step<'_> {
    /// How an application fares in this step, by its row; `None`: the row is of an earlier one.
    fn first(&self, row: &[u8]) -> Result<Option<First>, StoreError> {
        let fared: Fared = read(row)?;
        if self.step < fared.step {
            // This instance has yet to hear of the step that the others are in.
            let why = String::from("other instances are in a later step");
            return Err(StoreError::Unavailable(why));
        }
        Ok((self.step == fared.step).then(|| fared.first.at(self.now)))
    }
}

#[derive(Deserialize, Serialize)]
struct Way {
    step: u64,
    /// `None`: it has ended.
    open: Option<Open>,
}

/// Where a browser stands, and by what its row is changed.
pub(super) struct Standing {
    /// `None`: it is not on its way.
    pub(super) open: Option<Open>,
    pub(super) expect: Expect,
}

#[derive(Deserialize, Serialize)]
struct Fared {
    step: u64,
    first: First,
}

/// Where instances share their journeys.
pub(super) struct Ways {
    store: Arc<dyn Store>,
}

impl Ways {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Where a browser is on its way to, if it is.
    pub(super) async fn of(&self, step: &Step<'_>, device: u64) -> Result<Standing, StoreError> {
        let key = way_key(step, device);
        let row = self.store.get(at(WAYS, &key), step.now).await?;
        let Some(row) = row else {
            return Ok(Standing {
                open: None,
                expect: Expect::Absent,
            });
        };
        let way: Way = read(&row.value)?;
        Ok(Standing {
            open: way.open.filter(|_| way.step == step.step),
            expect: Expect::Version(row.version),
        })
    }

    /// A browser is on its way, if it still stands where it was seen; `false`: another of its requests was faster.
    pub(super) async fn set_out(
        &self,
        step: &Step<'_>,
        device: u64,
        open: &Open,
        expect: Expect,
    ) -> Result<bool, StoreError> {
        let way = written(&Way {
            step: step.step,
            open: Some(open.clone()),
        })?;
        let (key, ends) = (way_key(step, device), open.due + LATE);
        let swapped = self
            .store
            .compare_and_swap(at(WAYS, &key), expect, &way, ends, step.now);
        swapped.await
    }

    /// A browser is on its way no more, if `is` says so of its journey; to whoever asks first this says which it was.
    pub(super) async fn end(
        &self,
        step: &Step<'_>,
        device: u64,
        is: impl Fn(&Open) -> bool + Send,
    ) -> Result<Option<Open>, StoreError> {
        let ended = written(&Way {
            step: step.step,
            open: None,
        })?;
        let (key, ends) = (way_key(step, device), step.now + ENDED);
        for tries in 0..TRIES {
            let Standing { open, expect } = self.of(step, device).await?;
            let Some(open) = open.filter(|open| is(open)) else {
                return Ok(None);
            };
            let first = self
                .store
                .compare_and_swap(at(WAYS, &key), expect, &ended, ends, step.now);
            // Another of its requests may have stumbled meanwhile: it comes back all the same.
            if first.await? {
                return Ok(Some(open));
            }
            step_aside(tries).await;
        }
        Err(busy())
    }

    /// How an application fares.
    pub(super) async fn first(&self, step: &Step<'_>, app: &AppId) -> Result<First, StoreError> {
        let key = fared_key(step.rollout, app);
        let row = self.store.get(at(FIRST, &key), step.now).await?;
        let first = row.map(|row| step.first(&row.value)).transpose()?;
        Ok(first.flatten().unwrap_or_default())
    }

    /// One more is under way for an application; `false`: there is no room for it, and nothing is written. Others who were faster
    /// each time have taken what room there was.
    pub(super) async fn takes_place(
        &self,
        step: &Step<'_>,
        app: &AppId,
        (limits, due): (FirstLogins, UnixTime),
    ) -> Result<bool, StoreError> {
        let sets_out = |first: &mut First| {
            let room = first.may_start(limits, step.now);
            if room {
                first.sets_out(due);
            }
            room
        };
        Ok(self.try_to_change(step, app, sets_out).await? == Some(true))
    }

    /// Something has changed for an application.
    pub(super) async fn change(
        &self,
        step: &Step<'_>,
        app: &AppId,
        change: impl Fn(&mut First) + Send,
    ) -> Result<(), StoreError> {
        let always = move |first: &mut First| {
            change(first);
            true
        };
        let changed = self.try_to_change(step, app, always).await?;
        changed.map(|_| ()).ok_or_else(busy)
    }

    /// What `change` made of it, and whether that is to be kept; `None`: others were faster each time.
    async fn try_to_change(
        &self,
        step: &Step<'_>,
        app: &AppId,
        change: impl Fn(&mut First) -> bool + Send,
    ) -> Result<Option<bool>, StoreError> {
        let key = fared_key(step.rollout, app);
        for tries in 0..TRIES {
            let row = self.store.get(at(FIRST, &key), step.now).await?;
            let (first, expect) = match row {
                Some(row) => (step.first(&row.value)?, Expect::Version(row.version)),
                None => (None, Expect::Absent),
            };
            let mut first = first.unwrap_or_default();
            if !change(&mut first) {
                return Ok(Some(false));
            }
            let value = written(&Fared {
                step: step.step,
                first,
            })?;
            let swapped = self.store.compare_and_swap(
                at(FIRST, &key),
                expect,
                &value,
                UnixTime::NEVER,
                step.now,
            );
            if swapped.await? {
                return Ok(Some(true));
            }
            step_aside(tries).await;
        }
        Ok(None)
    }

    /// How every application of a rollout fares with those who sign in.
    pub(super) async fn all(&self, step: &Step<'_>) -> Result<Vec<First>, StoreError> {
        let prefix = named(step.rollout);
        let rows = self.store.scan(FIRST, &prefix, MAX_APPS, step.now).await?;
        let mut all = Vec::new();
        for (key, row) in rows {
            if key.ends_with(ROUND.as_bytes()) {
                continue;
            }
            all.extend(step.first(&row.value)?);
        }
        Ok(all)
    }
}

/// Waits for a moment: not as long as the others, and longer each time.
async fn step_aside(tries: u32) {
    let mut byte = [0];
    SystemEntropy.fill(&mut byte);
    let [byte] = byte;
    let most = ASIDE.min(Duration::from_micros(250) * 2_u32.saturating_pow(tries));
    tokio::time::sleep(most * u32::from(byte) / 255).await;
}

fn busy() -> StoreError {
    StoreError::Unavailable(String::from("other instances were faster each time"))
}

const fn at<'a>(table: &'static str, key: &'a [u8]) -> Key<'a> {
    Key { table, key }
}

/// No name has a zero byte.
fn named(rollout: &RolloutId) -> Vec<u8> {
    [rollout.as_str().as_bytes(), &[0]].concat()
}

fn way_key(step: &Step<'_>, device: u64) -> Vec<u8> {
    [&named(step.rollout)[..], &device.to_be_bytes()].concat()
}

fn fared_key(rollout: &RolloutId, app: &AppId) -> Vec<u8> {
    [&named(rollout)[..], app.as_str().as_bytes()].concat()
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::store::FakeStore;

    /// Everybody who comes back is counted, however many do in the same moment.
    #[tokio::test]
    async fn what_many_change_at_once_is_counted_wholly() {
        let store = Arc::new(FakeStore::default());
        store.slow.store(true, std::sync::atomic::Ordering::SeqCst);
        let ways = Ways::new(store);
        let (rollout, app) = (RolloutId::new("crm"), AppId::new("crm"));
        let step = Step {
            rollout: &rollout,
            step: 1,
            now: UnixTime::from_secs(1),
        };
        let all = (0..60).map(|_| ways.change(&step, &app, First::comes_back));
        for told in join_all(all).await {
            assert!(told.is_ok(), "{told:?}");
        }
        assert_eq!(ways.first(&step, &app).await.unwrap().succeeded, 60);
    }
}
