//! Whose password is judged by the new provider: one row by the name that is signed in with, one by the person.
//!
//! A password has one judge. Which one must be known before it is judged, when there is only a name; so a row stands under
//! every name that its old provider would take for this person's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::links::home::Home;
use crate::links::lasting::Lasting;
use crate::links::table::row_of;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// Homes by name.
const BY_NAME: &str = "password";
/// Homes by person.
const BY_PERSON: &str = "password_person";
/// Who is moving, or has tried to lately.
const MOVING: &str = "password_move";
/// What stands there of somebody who was forgotten: a move that is under way comes to nothing.
const FORGOTTEN: &[u8] = b"forgotten";
/// A move that has not ended by then was broken off.
const LONGEST: Duration = Duration::from_mins(1);
/// Moves under way at once, in this process.
const AT_ONCE: usize = 16;
/// Rows that are looked at at once: 100 000, of one in 256.
const PART: usize = 100_000;

/// From which provider to which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move<'a> {
    /// The one that people leave.
    pub(crate) from: &'a ProviderId,
    /// The one that they go to.
    pub(crate) to: &'a ProviderId,
}

/// The homes of passwords. Lives as long as the process.
pub(crate) struct Homes {
    store: Arc<dyn Store>,
    room: Arc<Semaphore>,
    lasting: Lasting,
}

impl Homes {
    /// Keeps homes in `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            lasting: Lasting::new(None),
        }
    }

    /// Keeps no home for longer than this after its last use; `None`: for good.
    #[must_use]
    pub(crate) fn kept_for(mut self, span: Option<Duration>) -> Self {
        self.lasting = Lasting::new(span);
        self
    }

    /// Gives homes their time that were made under another configuration.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: some have theirs.
    pub(crate) async fn introduce(&self, now: UnixTime) -> Result<(), StoreError> {
        let tables = ("passwords", &[BY_NAME, BY_PERSON][..]);
        self.lasting.introduce(&*self.store, tables, now).await
    }

    /// Room for one move; `None`: there are enough under way.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Comes back once no move is under way.
    #[cfg(test)]
    pub(crate) async fn settled(&self) {
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(self.room.acquire_many(all).await.unwrap());
    }

    /// Where the password is judged that comes with a name; `None`: where it always was.
    ///
    /// # Errors
    ///
    /// When the store gives no answer. Then nobody may judge it.
    pub(crate) async fn of_name(
        &self,
        way: Move<'_>,
        name: &str,
        now: UnixTime,
    ) -> Result<Option<Home>, StoreError> {
        let home = self.read(BY_NAME, &row(way, name), now).await?;
        if let Some(home) = home.as_ref().filter(|_| self.lasting.ends()) {
            // Who is found by a name is in use as a person, too.
            self.read(BY_PERSON, &row(way, &home.person), now).await?;
        }
        Ok(home)
    }

    /// The same, of a person.
    ///
    /// # Errors
    ///
    /// As [`Self::of_name`].
    pub(crate) async fn of_person(
        &self,
        way: Move<'_>,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<Option<Home>, StoreError> {
        self.read(BY_PERSON, &row(way, person.as_str()), now).await
    }

    async fn read(
        &self,
        table: &'static str,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Home>, StoreError> {
        let key = Key { table, key: row };
        let found = self.store.get(key, now).await?;
        if let Some(found) = &found
            && self.lasting.is_due(row, now)
        {
            self.lasting.used(&*self.store, key, found, now).await;
        }
        let read = |row: crate::store::Row| serde_json::from_slice(&row.value).or_else(damaged);
        found.map(read).transpose()
    }

    /// Takes a person's password on its way; `false`: it is on its way already, or has been tried too lately.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: it is not on its way.
    pub(crate) async fn begin(
        &self,
        way: Move<'_>,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let row = row(way, person.as_str());
        let key = Key {
            table: MOVING,
            key: &row,
        };
        let absent = Expect::Absent;
        self.store
            .compare_and_swap(key, absent, &[], now + LONGEST, now)
            .await
    }

    /// The move came to nothing, and is not tried again before `until`.
    ///
    /// # Errors
    ///
    /// When the store does not take it; then it may be tried in a minute.
    pub(crate) async fn not_before(
        &self,
        way: Move<'_>,
        person: &CanonicalSubject,
        until: UnixTime,
    ) -> Result<(), StoreError> {
        let row = row(way, person.as_str());
        let key = Key {
            table: MOVING,
            key: &row,
        };
        self.store.put(key, &[], until).await
    }

    /// Whether somebody was forgotten while their password was on its way. Then what was written of them is taken back:
    /// see [`Self::take_back`].
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn is_forgotten(
        &self,
        way: Move<'_>,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let row = row(way, person.as_str());
        let key = Key {
            table: MOVING,
            key: &row,
        };
        let found = self.store.get(key, now).await?;
        Ok(found.is_some_and(|row| row.value == FORGOTTEN))
    }

    /// Takes back what a move wrote of somebody who has been forgotten meanwhile.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn take_back(
        &self,
        way: Move<'_>,
        (person, name): (&CanonicalSubject, &str),
        now: UnixTime,
    ) -> Result<(), StoreError> {
        for (table, what) in [(BY_NAME, name), (BY_PERSON, person.as_str())] {
            let row = row(way, what);
            let home = self.read(table, &row, now).await?;
            if home.is_some_and(|home| home.is_of(person)) {
                self.store.delete(Key { table, key: &row }).await?;
            }
        }
        Ok(())
    }

    /// From now on the new provider judges: of this person, and of whoever comes with this name.
    ///
    /// # Errors
    ///
    /// When the store does not take it. The person may have been written and the name not; whoever finds them under a name then
    /// sees it, and [`Self::knows_as`] completes it.
    pub(crate) async fn moved(
        &self,
        way: Move<'_>,
        (person, name): (&CanonicalSubject, &str),
        (home, now): (&Home, UnixTime),
    ) -> Result<(), StoreError> {
        let row = row(way, person.as_str());
        self.write(BY_PERSON, &row, home, now).await?;
        self.knows_as(way, name, (home, now)).await
    }

    /// Another name by which the old provider knows somebody whose password has moved.
    ///
    /// # Errors
    ///
    /// When the store does not take it.
    pub(crate) async fn knows_as(
        &self,
        way: Move<'_>,
        name: &str,
        (home, now): (&Home, UnixTime),
    ) -> Result<(), StoreError> {
        self.write(BY_NAME, &row(way, name), home, now).await
    }

    /// The same, unless the person has been forgotten since they were found.
    ///
    /// # Errors
    ///
    /// As [`Self::knows_as`].
    pub(crate) async fn also_knows_as(
        &self,
        way: Move<'_>,
        (person, name): (&CanonicalSubject, &str),
        home: &Home,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.knows_as(way, name, (home, now)).await?;
        if self.of_person(way, person, now).await?.is_none() {
            self.take_back(way, (person, name), now).await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        table: &'static str,
        row: &[u8],
        home: &Home,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_vec(home).or_else(damaged)?;
        let key = Key { table, key: row };
        self.store.put(key, &value, self.lasting.until(now)).await
    }

    /// What is on its way of somebody comes to nothing from now on. Before [`Self::forget`], and before their links go.
    ///
    /// # Errors
    ///
    /// When the store does not take it.
    pub(crate) async fn stop(
        &self,
        way: Move<'_>,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let row = row(way, person.as_str());
        let key = Key {
            table: MOVING,
            key: &row,
        };
        self.store.put(key, FORGOTTEN, now + LONGEST).await
    }

    /// Forgets where a person's password is judged; how many rows there were.
    ///
    /// # Errors
    ///
    /// When the store gives no answer; what is gone by then is gone.
    pub(crate) async fn forget(
        &self,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<usize, StoreError> {
        let mut gone = 0;
        for table in [BY_NAME, BY_PERSON] {
            for part in 0..=u8::MAX {
                let rows = self.store.scan(table, &[part], PART, now).await?;
                for (key, found) in rows {
                    let home = serde_json::from_slice::<Home>(&found.value);
                    if home.is_ok_and(|home| home.is_of(person)) {
                        self.store.delete(Key { table, key: &key }).await?;
                        gone += 1;
                    }
                }
            }
        }
        Ok(gone)
    }
}

/// What the error would say is a person's.
fn damaged<T>(_: serde_json::Error) -> Result<T, StoreError> {
    Err(StoreError::Damaged(String::from("the home of a password")))
}

/// The row of a name or a person whose password moves this way.
fn row(way: Move<'_>, what: &str) -> [u8; 32] {
    let parts = [way.from.as_str(), way.to.as_str(), what];
    row_of(b"authferry/password/v1", &parts)
}

impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Homes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::store::MemoryStore;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn account(name: &str) -> SubjectKey {
        SubjectKey {
            issuer: Issuer::new("https://old"),
            subject: Subject::try_from(name).unwrap(),
        }
    }

    fn person(name: &str) -> CanonicalSubject {
        CanonicalSubject::named(name).unwrap()
    }

    #[tokio::test]
    async fn a_password_has_one_home_for_each_way_and_every_instance_knows_it() {
        let store: Arc<MemoryStore> = Arc::default();
        let [one, other] = [(); 2].map(|()| Homes::new(Arc::clone(&store) as _));
        let [old, new, third] = ["old", "new", "third"].map(ProviderId::new);
        let way = Move {
            from: &old,
            to: &new,
        };
        let alice = person("hr:1");
        let home = Home::new(&alice, ("alice", "a1"), &account("alice"));
        assert_eq!(other.of_name(way, "alice", NOW).await.unwrap(), None);
        one.moved(way, (&alice, "alice"), (&home, NOW))
            .await
            .unwrap();
        other.knows_as(way, "a.smith", (&home, NOW)).await.unwrap();
        for name in ["alice", "a.smith"] {
            let found = other.of_name(way, name, NOW).await.unwrap();
            assert_eq!(found.as_ref(), Some(&home), "{name}");
        }
        assert_eq!(other.of_person(way, &alice, NOW).await.unwrap(), Some(home));
        let elsewhere = Move {
            from: &old,
            to: &third,
        };
        assert_eq!(one.of_name(elsewhere, "alice", NOW).await.unwrap(), None);
        assert_eq!(one.of_name(way, "bob", NOW).await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_many_at_once_one_moves_a_password_and_a_failure_is_not_tried_again_at_once() {
        let store: Arc<MemoryStore> = Arc::default();
        let (old, new) = (ProviderId::new("old"), ProviderId::new("new"));
        let way = Move {
            from: &old,
            to: &new,
        };
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let homes = Homes::new(Arc::clone(&store) as _);
            let (old, new) = (old.clone(), new.clone());
            tasks.spawn(async move {
                let way = Move {
                    from: &old,
                    to: &new,
                };
                homes.begin(way, &person("hr:1"), NOW).await.unwrap()
            });
        }
        let began = tasks.join_all().await;
        assert_eq!(began.iter().filter(|began| **began).count(), 1);
        let homes = Homes::new(Arc::clone(&store) as _);
        let later = |seconds| NOW + Duration::from_secs(seconds);
        let alice = person("hr:1");
        homes.not_before(way, &alice, later(3_600)).await.unwrap();
        assert!(!homes.begin(way, &alice, later(3_599)).await.unwrap());
        assert!(homes.begin(way, &person("hr:2"), NOW).await.unwrap());
        assert!(homes.begin(way, &alice, later(3_600)).await.unwrap());
        // One that broke off is no hindrance for longer than a minute.
        assert!(homes.begin(way, &alice, later(3_660)).await.unwrap());
    }

    #[test]
    fn a_home_says_whose_password_it_was_and_one_of_an_earlier_version_does_not() {
        let home = Home::new(&person("hr:1"), ("alice", "a1"), &account("zoe"));
        let row = serde_json::to_vec(&home).unwrap();
        let read: Home = serde_json::from_slice(&row).unwrap();
        assert_eq!(read.left().unwrap(), Some(account("zoe")));
        assert_eq!(read.person().unwrap(), person("hr:1"));
        let earlier = br#"{"person":"hr:1","username":"alice","subject":"a1"}"#;
        let read: Home = serde_json::from_slice(earlier).unwrap();
        assert_eq!(read.left().unwrap(), None);
    }

    #[tokio::test]
    async fn who_is_forgotten_has_no_home_and_others_keep_theirs() {
        let homes = Homes::new(Arc::new(MemoryStore::default()));
        let (old, new) = (ProviderId::new("old"), ProviderId::new("new"));
        let way = Move {
            from: &old,
            to: &new,
        };
        for (person, name) in [("hr:1", "alice"), ("hr:2", "bob")] {
            let person = self::person(person);
            let home = Home::new(&person, (name, name), &account(name));
            homes
                .moved(way, (&person, name), (&home, NOW))
                .await
                .unwrap();
        }
        assert_eq!(homes.forget(&person("hr:1"), NOW).await.unwrap(), 2);
        assert_eq!(homes.of_name(way, "alice", NOW).await.unwrap(), None);
        assert!(homes.of_name(way, "bob", NOW).await.unwrap().is_some());
        assert!(
            homes
                .of_person(way, &person("hr:2"), NOW)
                .await
                .unwrap()
                .is_some()
        );
    }

    #[tokio::test]
    async fn a_home_is_kept_for_as_long_as_it_is_used_and_the_time_that_was_said_longer() {
        let day = |days: u64| NOW + Duration::from_hours(24 * days);
        let store: Arc<MemoryStore> = Arc::default();
        let (old, new) = (ProviderId::new("old"), ProviderId::new("new"));
        let way = Move {
            from: &old,
            to: &new,
        };
        let homes = |days: Option<u64>| {
            let span = days.map(|days| Duration::from_hours(24 * days));
            Homes::new(Arc::clone(&store) as _).kept_for(span)
        };
        let people = [("hr:1", "alice"), ("hr:2", "bob")];
        let before = homes(None);
        for (person, name) in people {
            let person = self::person(person);
            let home = Home::new(&person, (name, name), &account(name));
            let moved = before.moved(way, (&person, name), (&home, NOW));
            moved.await.unwrap();
        }
        // Those that were there before are kept as long from then on.
        let after = homes(Some(90));
        after.introduce(day(1_000)).await.unwrap();
        after.introduce(day(1_050)).await.unwrap();
        let is_known = async |homes: &Homes, name, days| {
            let found = homes.of_name(way, name, day(days)).await.unwrap();
            found.is_some()
        };
        assert!(is_known(&after, "alice", 1_080).await, "and used");
        assert!(!is_known(&after, "bob", 1_090).await);
        store.sweep(day(1_090)).await.unwrap();
        let left = async |table| store.scan(table, b"", 9, day(1_090)).await.unwrap().len();
        assert_eq!((left(BY_NAME).await, left(BY_PERSON).await), (1, 1));
        assert!(is_known(&homes(Some(90)), "alice", 1_169).await);
        assert!(!is_known(&homes(Some(90)), "alice", 1_259).await);
        assert!(!is_known(&homes(None), "alice", 1_259).await);
    }
}
