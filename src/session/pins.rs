//! Who has been on the new side: one row per person and rollout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::rollout::Arm;
use crate::rollout::Pin;
use crate::rollout::RolloutId;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

const TABLE: &str = "pin";
/// The same people by rollout, to be counted.
const BY_ROLLOUT: &str = "moved";
/// So many of one rollout are counted.
pub(crate) const MAX_MOVED: usize = 20_000;
/// A pin is kept this long after the last login that made it: 400 days, as long as the device cookie, unless something else
/// is said.
const KEEP: Duration = Duration::from_hours(400 * 24);

/// Somebody who has moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moved {
    /// Who, as [`Pins::person_row`] names them.
    pub(crate) person: [u8; 32],
    /// In which epoch.
    pub(crate) epoch: u64,
    /// The row of their account at the provider that people leave, whether there is one or not.
    pub(crate) account: [u8; 32],
}

/// Pins of people. Only the new side is remembered: who signed in at the old side is free to move.
pub(crate) struct Pins {
    pub(super) store: Arc<dyn Store>,
    pub(super) keep: Duration,
}

impl Pins {
    /// Keeps pins in `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, keep: KEEP }
    }

    /// Keeps a pin for so long after the login that made it.
    #[must_use]
    pub(crate) const fn kept_for(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// The pin of a person, of whatever epoch.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn of(
        &self,
        rollout: &RolloutId,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<Option<Pin>, StoreError> {
        let key = row(rollout, person);
        let key = Key {
            table: TABLE,
            key: &key,
        };
        let Some(row) = self.store.get(key, now).await? else {
            return Ok(None);
        };
        match row.value.split_first_chunk::<8>() {
            Some((epoch, [b'T'])) => Ok(Some(Pin {
                arm: Arm::To,
                epoch: u64::from_be_bytes(*epoch),
            })),
            _ => Err(StoreError::Damaged(String::from("a pin"))),
        }
    }

    /// Everybody who has moved in a rollout, in whatever epoch; at most [`MAX_MOVED`].
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn all_moved(
        &self,
        rollout: &RolloutId,
        now: UnixTime,
    ) -> Result<Vec<Moved>, StoreError> {
        let prefix = prefix(rollout);
        let rows = self.store.scan(BY_ROLLOUT, &prefix, MAX_MOVED, now).await?;
        let moved = |key: &[u8], value: &[u8]| {
            let (epoch, account) = value.split_first_chunk::<8>()?;
            Some(Moved {
                person: *key.last_chunk()?,
                epoch: u64::from_be_bytes(*epoch),
                account: account.try_into().ok()?,
            })
        };
        let damaged = || StoreError::Damaged(String::from("who has moved"));
        rows.iter()
            .map(|(key, row)| moved(key, &row.value).ok_or_else(damaged))
            .collect()
    }

    /// A person of a rollout, as [`Moved`] names them: a digest.
    pub(crate) fn person_row(&self, rollout: &RolloutId, person: &CanonicalSubject) -> [u8; 32] {
        row(rollout, person)
    }

    /// Remembers that a person signed in at the new side; `account` is the row of their account at the old one.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn moved(
        &self,
        rollout: &RolloutId,
        (person, account): (&CanonicalSubject, &[u8; 32]),
        epoch: u64,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let key = row(rollout, person);
        let mut value = epoch.to_be_bytes().to_vec();
        value.extend_from_slice(account);
        let place = [&prefix(rollout)[..], &key].concat();
        let place = Key {
            table: BY_ROLLOUT,
            key: &place,
        };
        self.store.put(place, &value, now + self.keep).await?;
        value.truncate(8);
        value.push(b'T');
        self.store
            .put(
                Key {
                    table: TABLE,
                    key: &key,
                },
                &value,
                now + self.keep,
            )
            .await
    }
}

/// What the rows of a rollout begin with.
pub(super) fn prefix(rollout: &RolloutId) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"authferry/moved/v1");
    context.update(rollout.as_str().as_bytes());
    let mut prefix = [0; 16];
    let whole = context.finish();
    for (to, from) in prefix.iter_mut().zip(whole.as_ref()) {
        *to = *from;
    }
    prefix
}

/// Tries to take a person to the new side without a page, counted for a day.
const TRIES: &str = "silent";
const DAY: Duration = Duration::from_hours(24);

impl Pins {
    /// Forgets that a person was on the new side of a rollout; whether they were.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn forget(
        &self,
        rollout: &RolloutId,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let key = row(rollout, person);
        let at = |table| Key { table, key: &key };
        let pinned = self.store.get(at(TABLE), now).await?.is_some();
        let place = [&prefix(rollout)[..], &key].concat();
        let place = Key {
            table: BY_ROLLOUT,
            key: &place,
        };
        self.store.delete(place).await?;
        self.forget_stay(rollout, person).await?;
        self.store.delete(at(TABLE)).await?;
        self.store.delete(at(TRIES)).await?;
        Ok(pinned)
    }

    /// Counts one more try for a person; `false`: there have been as many as there may be within a day.
    ///
    /// # Errors
    ///
    /// An outage of the store: nothing was counted.
    pub(crate) async fn may_try(
        &self,
        rollout: &RolloutId,
        person: &CanonicalSubject,
        most: u8,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let key = row(rollout, person);
        let key = Key {
            table: TRIES,
            key: &key,
        };
        let found = self.store.get(key, now).await?;
        // How many there were, and when they are forgotten.
        let (count, end, expect) = match &found {
            None => (0, now + DAY, Expect::Absent),
            Some(row) => {
                let Some((count, end)) = row.value.split_first() else {
                    return Err(StoreError::Damaged(String::from("a count of tries")));
                };
                let end = end.first_chunk::<8>().copied().map(u64::from_be_bytes);
                let end = end.map_or(now + DAY, UnixTime::from_millis);
                (*count, end, Expect::Version(row.version))
            }
        };
        if most <= count {
            return Ok(false);
        }
        let mut value = vec![count.saturating_add(1)];
        value.extend_from_slice(&end.as_millis().to_be_bytes());
        self.store
            .compare_and_swap(key, expect, &value, end, now)
            .await
    }
}

/// Length-prefixed and hashed: two pairs never share a row, and the store learns no name.
pub(super) fn row(rollout: &RolloutId, person: &CanonicalSubject) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"authferry/pin/v1");
    for part in [rollout.as_str(), person.as_str()] {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut row = [0; 32];
    row.copy_from_slice(context.finish().as_ref());
    row
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pins")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_pin_is_of_one_person_and_one_rollout() {
        let pins = Pins::new(Arc::new(MemoryStore::default()));
        let now = UnixTime::from_secs(1);
        let (a, b) = (RolloutId::new("a"), RolloutId::new("ab"));
        let person = |name| CanonicalSubject::named(name).unwrap();
        let bc = person("bc");
        pins.moved(&a, (&bc, &[9; 32]), 7, now).await.unwrap();
        let pin = pins.of(&a, &person("bc"), now).await.unwrap().unwrap();
        assert_eq!((pin.arm, pin.epoch), (Arm::To, 7));
        assert_eq!(pins.of(&b, &person("c"), now).await.unwrap(), None);
        assert_eq!(pins.of(&a, &person("b"), now).await.unwrap(), None);
        // Once more, and in another epoch: the same person.
        pins.moved(&a, (&bc, &[9; 32]), 8, now).await.unwrap();
        let moved = pins.all_moved(&a, now).await.unwrap();
        let again = Moved {
            person: pins.person_row(&a, &bc),
            epoch: 8,
            account: [9; 32],
        };
        assert_eq!(moved, [again]);
        assert!(pins.all_moved(&b, now).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_pin_is_kept_for_as_long_as_is_said_after_the_last_login() {
        let day = |days: u64| UnixTime::from_secs(1) + Duration::from_hours(24 * days);
        let store = Arc::new(MemoryStore::default());
        let pins = Pins::new(Arc::clone(&store) as _).kept_for(Duration::from_hours(24 * 10));
        let (rollout, alice) = (
            RolloutId::new("a"),
            CanonicalSubject::named("hr:1").unwrap(),
        );
        for login in [0, 5] {
            let moved = pins.moved(&rollout, (&alice, &[9; 32]), 1, day(login));
            moved.await.unwrap();
        }
        let pinned = async |days| {
            let pin = pins.of(&rollout, &alice, day(days)).await.unwrap();
            pin.is_some()
        };
        assert!(pinned(14).await);
        assert!(!pinned(15).await);
        assert_eq!(store.sweep(day(15)).await.unwrap(), 2);
    }
}
