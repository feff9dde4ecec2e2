//! The table of links.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::links::accounts::account_text;
use crate::links::conflicts::CONFLICTS_KEPT;
use crate::links::conflicts::NOTED;
use crate::links::kept::Said;
use crate::links::lasting::Lasting;
use crate::links::sights::Partner;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Row;
use crate::store::Store;
use crate::store::StoreError;

/// Which account of a provider a person is: row by person.
pub(super) const ACCOUNTS: &str = "link";
/// Which person an account is: row by account.
pub(super) const PEOPLE: &str = "link_person";
/// Links that are looked at at once: 100 000, of one in 256.
pub(super) const PART: usize = 100_000;
/// Links kept in memory beside the store: 65 536, a minute each, as long as this instance is told what others decide.
const KEPT: usize = 65_536;

/// Why an account was not found to be a person's only one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The person has another account at this provider, or the account is another person's.
    #[error("the link conflicts with an earlier one")]
    Conflict,
    /// Nothing is known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The table. Lives as long as the process.
pub(crate) struct Links {
    pub(super) store: Arc<dyn Store>,
    pub(super) kept: Cache<Account, (CanonicalSubject, Said)>,
    pub(super) subjects: Cache<[u8; 32], (Box<str>, Said)>,
    pub(super) sights: Cache<[u8; 32], (Partner, Said)>,
    /// Accounts in conflict that were noted lately: whom each would have been, and when.
    pub(super) noted: Cache<[u8; 32], ([u8; 32], UnixTime)>,
    /// How long links are kept that nobody uses.
    pub(super) lasting: Lasting,
    /// How long a conflict is kept after it was met last.
    pub(super) doubts: Duration,
    /// Where a person in use may have accounts.
    pub(super) providers: Vec<ProviderId>,
    /// Raised before what is kept is forgotten: what was read earlier is not kept after that.
    pub(super) told: AtomicU64,
    /// How often everything had to be asked anew, without a word of what has changed.
    pub(super) missed: AtomicU64,
}

#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Account {
    provider: ProviderId,
    key: SubjectKey,
}

impl Links {
    /// Keeps links in `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            kept: Cache::new(KEPT),
            subjects: Cache::new(KEPT),
            sights: Cache::new(KEPT),
            noted: Cache::new(NOTED),
            lasting: Lasting::new(None),
            doubts: CONFLICTS_KEPT,
            providers: Vec::new(),
            told: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Makes sure that `person` is this account of `provider` and no other, and this account nobody else. The first
    /// sighting writes both rows; an earlier one is never overwritten. A store that is away changes nothing for those whom
    /// this instance has seen.
    ///
    /// # Errors
    ///
    /// [`LinkError::Conflict`] is final.
    pub(crate) async fn claim(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Sighting, LinkError> {
        let account = Account {
            provider: provider.clone(),
            key: key.clone(),
        };
        if let Some(known) = self.remembered(&account, now) {
            return if known == *person {
                Ok(Sighting::Known)
            } else {
                Err(LinkError::Conflict)
            };
        }
        let (reading, said) = (self.reading(), self.asking(now));
        match self.claim_there(person, provider, key, now).await {
            Ok(made) => {
                self.in_use(person, provider, now).await;
                if made == Sighting::First
                    && let Err(error) = self
                        .is_settled(provider, &account_key(provider, key), now)
                        .await
                {
                    debug!(%error, "An account that is linked now counts as one in conflict for a while.");
                }
                self.keep(&self.kept, &account, (person.clone(), said), reading);
                Ok(made)
            }
            Err(LinkError::Store(_)) if self.held(&account, person, now) => Ok(Sighting::Known),
            Err(LinkError::Conflict) => {
                // What the store denies today does not count when it is away tomorrow.
                let said = self.kept.get(&account);
                if said.is_some_and(|(known, _)| known == *person) {
                    self.kept.remove(&account);
                }
                Err(LinkError::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether this account was this person when the store was asked last, not too long ago.
    fn held(&self, account: &Account, person: &CanonicalSubject, now: UnixTime) -> bool {
        let kept = self.kept.get(account);
        kept.is_some_and(|(known, said)| known == *person && said.holds(now))
    }

    async fn claim_there(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Sighting, LinkError> {
        let by_account = account_key(provider, key);
        let by_person = row(&[person.as_str(), provider.as_str()]);
        let by_account = Key {
            table: PEOPLE,
            key: &by_account,
        };
        let by_person = Key {
            table: ACCOUNTS,
            key: &by_person,
        };
        // Somebody new takes one step where the store can do it. Else the account comes first: it is what was proved. A crash
        // between the two leaves a row that the next sighting completes.
        let name = person.as_str().as_bytes();
        let other = account_text(key);
        let known = self.store.get(by_account, now).await?;
        if known.is_none() {
            let rows = [(by_account, name), (by_person, other.as_bytes())];
            let until = self.lasting.until(now);
            if self.store.put_both(rows, until, now).await? == Some(true) {
                return Ok(Sighting::First);
            }
        }
        let made = self.write(by_account, known, (name, None), now).await?;
        let found = self.store.get(by_person, now).await?;
        let before = digest_of(key);
        let written = self.write(by_person, found, (other.as_bytes(), Some(&before)), now);
        match written.await {
            Ok(_) => {}
            Err(LinkError::Conflict) => {
                match made {
                    Sighting::First => {
                        self.take_back((by_account, name), (by_person, &other), now)
                            .await?;
                    }
                    Sighting::Known => {}
                }
                return Err(LinkError::Conflict);
            }
            Err(error) => return Err(error),
        }
        Ok(made)
    }

    fn remembered(&self, account: &Account, now: UnixTime) -> Option<CanonicalSubject> {
        let (person, said) = self.kept.get(account)?;
        self.is_fresh(said, now).then_some(person)
    }

    /// Which person an account of a provider is; `None`: it was never seen.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn person_of(
        &self,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let account = Account {
            provider: provider.clone(),
            key: key.clone(),
        };
        match self.remembered(&account, now) {
            Some(known) => Ok(Some(known)),
            None => {
                let found = self.person_there(provider, key, now).await?;
                if let Some(person) = &found {
                    self.in_use(person, provider, now).await;
                }
                Ok(found)
            }
        }
    }

    /// The row of a person's account at a provider, of which nobody can tell the person.
    pub(crate) fn account_row(&self, person: &CanonicalSubject, provider: &ProviderId) -> [u8; 32] {
        row(&[person.as_str(), provider.as_str()])
    }

    /// Whether an account of [`Self::account_row`] is known.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn has_account(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let place = Key {
            table: ACCOUNTS,
            key: row,
        };
        Ok(self.store.get(place, now).await?.is_some())
    }

    /// Forgets whose accounts a person's are, at these providers; how many links there were. Other instances are told at once.
    ///
    /// # Errors
    ///
    /// When the store gives no answer; what is gone by then is gone.
    pub(crate) async fn forget(
        &self,
        person: &CanonicalSubject,
        providers: &[ProviderId],
        now: UnixTime,
    ) -> Result<usize, StoreError> {
        let mut gone = Vec::new();
        // Rows are found by account, and nobody knows this person's any more: all are looked at, a part at a time.
        for part in 0..=u8::MAX {
            let rows = self.store.scan(PEOPLE, &[part], PART, now).await?;
            for (key, row) in rows {
                if row.value == person.as_str().as_bytes() {
                    let place = Key {
                        table: PEOPLE,
                        key: &key,
                    };
                    self.store.delete(place).await?;
                    gone.push(key);
                }
            }
        }
        for provider in providers {
            let by_person = row(&[person.as_str(), provider.as_str()]);
            let key = Key {
                table: ACCOUNTS,
                key: &by_person,
            };
            self.store.delete(key).await?;
        }
        self.forget_sights(person, &gone, now).await?;
        self.forget_decisions(&gone).await?;
        self.forget_conflicts(person, &gone, (providers, now))
            .await?;
        self.forget_what_is_kept();
        Ok(gone.len())
    }

    async fn write(
        &self,
        key: Key<'_>,
        found: Option<Row>,
        (value, before): (&[u8], Option<&[u8; 32]>),
        now: UnixTime,
    ) -> Result<Sighting, LinkError> {
        let until = self.lasting.until(now);
        if let Some(row) = found {
            // As an earlier version wrote it.
            if before.is_some_and(|before| row.value == before) {
                let expect = Expect::Version(row.version);
                self.store
                    .compare_and_swap(key, expect, value, until, now)
                    .await?;
                return Ok(Sighting::Known);
            }
            return known(&row.value, value);
        }
        if self
            .store
            .compare_and_swap(key, Expect::Absent, value, until, now)
            .await?
        {
            return Ok(Sighting::First);
        }
        match self.store.get(key, now).await? {
            Some(row) => known(&row.value, value),
            None => Err(LinkError::Store(StoreError::Unavailable(String::from(
                "a link changed twice while it was written",
            )))),
        }
    }
}

/// Whether an account had been seen before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sighting {
    /// It has just been linked.
    First,
    /// The link was there.
    Known,
}

fn known(found: &[u8], expected: &[u8]) -> Result<Sighting, LinkError> {
    if found == expected {
        Ok(Sighting::Known)
    } else {
        Err(LinkError::Conflict)
    }
}

/// Whether a row by person is about this account.
pub(super) fn is_account(row: &Row, key: &SubjectKey) -> bool {
    row.value == account_text(key).as_bytes() || row.value == digest_of(key)
}

/// Whom a row names.
pub(super) fn read_person(row: &[u8]) -> Result<CanonicalSubject, StoreError> {
    let name = std::str::from_utf8(row).ok();
    let person = name.and_then(|name| CanonicalSubject::named(name).ok());
    person.ok_or_else(|| StoreError::Damaged(String::from("a link names nobody")))
}

/// The key of the row that says whose an account is.
pub(super) fn account_key(provider: &ProviderId, key: &SubjectKey) -> [u8; 32] {
    row(&[provider.as_str(), key.issuer.as_str(), key.subject.as_str()])
}

/// An account as earlier versions wrote it.
pub(super) fn digest_of(key: &SubjectKey) -> [u8; 32] {
    row(&[key.issuer.as_str(), key.subject.as_str()])
}

/// The row of a list of names in this table.
pub(super) fn row(parts: &[&str]) -> [u8; 32] {
    row_of(b"authferry/link/v1", parts)
}

/// Length-prefixed and hashed, apart for each table: no two lists share a row.
pub(super) fn row_of(table: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(table);
    for part in parts {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut row = [0; 32];
    row.copy_from_slice(context.finish().as_ref());
    row
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::store::EmbeddedStore;
    use crate::store::FakeStore;
    use crate::store::MemoryStore;
    use std::sync::atomic::Ordering;

    const NOW: UnixTime = UnixTime::from_secs(1);

    fn links(store: &Arc<MemoryStore>) -> Links {
        Links::new(Arc::clone(store) as _)
    }

    async fn claim(
        links: &Links,
        person: &str,
        provider: &str,
        subject: &str,
    ) -> Result<Sighting, LinkError> {
        let person = CanonicalSubject::named(person).unwrap();
        let key = SubjectKey {
            issuer: Issuer::new(&format!("https://{provider}")),
            subject: Subject::try_from(subject).unwrap(),
        };
        links
            .claim(&person, &ProviderId::new(provider), &key, NOW)
            .await
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "reads like the question it is"
    )]
    fn conflicts(result: Result<Sighting, LinkError>) -> bool {
        matches!(result, Err(LinkError::Conflict))
    }

    #[tokio::test]
    async fn a_person_has_one_account_at_each_provider() {
        let directory = tempfile::tempdir().unwrap();
        for store in stores(&directory) {
            for expected in [Sighting::First, Sighting::Known] {
                let links = Links::new(Arc::clone(&store));
                for (person, provider, subject) in [
                    ("hr:1", "old", "alice"),
                    ("hr:1", "new", "a1"),
                    ("hr:2", "new", "b1"),
                ] {
                    let made = claim(&links, person, provider, subject).await.unwrap();
                    assert_eq!(made, expected);
                }
                assert!(conflicts(claim(&links, "hr:1", "new", "a2").await));
                // Nothing is left of it: the account is free for whoever it is.
                let key = SubjectKey {
                    issuer: Issuer::new("https://new"),
                    subject: Subject::try_from("a2").unwrap(),
                };
                let new = ProviderId::new("new");
                let whose = links.person_there(&new, &key, NOW).await;
                assert_eq!(whose.unwrap(), None);
            }
        }
    }

    /// One that writes a row at a time, and one that can write two.
    fn stores(directory: &tempfile::TempDir) -> [Arc<dyn Store>; 2] {
        let file = directory.path().join("store.redb");
        [
            Arc::new(MemoryStore::default()),
            Arc::new(EmbeddedStore::open(&file, 1_000).unwrap()),
        ]
    }

    #[tokio::test]
    async fn an_account_is_one_person() {
        let directory = tempfile::tempdir().unwrap();
        for store in stores(&directory) {
            for _ in 0..2 {
                let links = Links::new(Arc::clone(&store));
                claim(&links, "hr:1", "new", "a1").await.unwrap();
                assert!(conflicts(claim(&links, "hr:2", "new", "a1").await));
            }
        }
    }

    #[tokio::test]
    async fn who_was_seen_comes_in_while_the_store_is_away_and_nobody_else() {
        let store = Arc::new(FakeStore::default());
        let links = Links::new(Arc::clone(&store) as _);
        let key = SubjectKey {
            issuer: Issuer::new("https://new"),
            subject: Subject::try_from("a1").unwrap(),
        };
        let new = ProviderId::new("new");
        let at = async |person: &str, now| {
            let person = CanonicalSubject::named(person).unwrap();
            links.claim(&person, &new, &key, now).await
        };
        at("hr:1", NOW).await.unwrap();
        store.away.store(true, Ordering::SeqCst);
        let [soon, late, too_late] = [1, 23, 25].map(|hours| NOW + Duration::from_hours(hours));
        for now in [soon, late] {
            assert_eq!(at("hr:1", now).await.unwrap(), Sighting::Known);
        }
        for (person, now) in [("hr:2", soon), ("hr:2", late), ("hr:1", too_late)] {
            let refused = at(person, now).await;
            assert!(matches!(refused, Err(LinkError::Store(_))), "{person}");
        }
        // What is decided meanwhile counts as soon as the store answers.
        store.away.store(false, Ordering::SeqCst);
        assert!(conflicts(at("hr:2", soon).await));
        store.away.store(true, Ordering::SeqCst);
        let refused = at("hr:2", late).await;
        assert!(matches!(refused, Err(LinkError::Store(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_goes_away_twice_finds_the_same_people_known() {
        let store = Arc::new(FakeStore::default());
        let links = Arc::new(Links::new(Arc::clone(&store) as _));
        let new = ProviderId::new("new");
        let key = SubjectKey {
            issuer: Issuer::new("https://new"),
            subject: Subject::try_from("a1").unwrap(),
        };
        let person = CanonicalSubject::named("hr:1").unwrap();
        links.claim(&person, &new, &key, NOW).await.unwrap();
        let before = links.asking(NOW);
        links.follow(&tokio::runtime::Handle::current());
        // It was away and is back: what others wrote meanwhile is not known.
        store.rows.miss();
        while links.is_fresh(before, NOW) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        store.away.store(true, Ordering::SeqCst);
        let known = links.claim(&person, &new, &key, NOW).await;
        assert_eq!(known.unwrap(), Sighting::Known);
        // While it is there it is asked: nothing that was decided meanwhile is passed over.
        store.away.store(false, Ordering::SeqCst);
        let account = account_key(&new, &key);
        let place = Key {
            table: PEOPLE,
            key: &account,
        };
        store.put(place, b"hr:2", UnixTime::NEVER).await.unwrap();
        assert!(conflicts(links.claim(&person, &new, &key, NOW).await));
    }

    #[tokio::test]
    async fn what_was_read_before_a_link_was_taken_away_is_not_kept_after_it() {
        let links = links(&Arc::default());
        let until = links.asking(NOW);
        let reading = links.reading();
        links.forget_what_is_kept();
        links.keep(&links.subjects, &[1; 32], ("a1".into(), until), reading);
        assert!(links.subjects.get(&[1; 32]).is_none());
        let reading = links.reading();
        links.keep(&links.subjects, &[1; 32], ("a1".into(), until), reading);
        assert!(links.subjects.get(&[1; 32]).is_some());
    }

    #[tokio::test]
    async fn who_may_not_be_told_what_others_decide_asks_each_time() {
        let store = Arc::new(FakeStore::default());
        let [here, there] = [(); 2].map(|()| Links::new(Arc::clone(&store) as _));
        claim(&here, "hr:1", "new", "a1").await.unwrap();
        store.deaf.store(true, Ordering::SeqCst);
        let person = CanonicalSubject::named("hr:1").unwrap();
        let key = SubjectKey {
            issuer: Issuer::new("https://new"),
            subject: Subject::try_from("a1").unwrap(),
        };
        let account = (&ProviderId::new("new"), &key);
        there.unlink(&person, account, NOW).await.unwrap();
        let (provider, key) = account;
        let known = here.person_of(provider, key, NOW).await.unwrap();
        assert_eq!(known, None);
        let row = here.account_row(&person, provider);
        assert!(!here.has_account(&row, NOW).await.unwrap());
    }

    #[tokio::test]
    async fn a_refused_claim_leaves_nothing_behind() {
        let store = Arc::new(MemoryStore::default());
        let links = links(&store);
        claim(&links, "hr:1", "new", "a1").await.unwrap();
        assert!(conflicts(claim(&links, "hr:1", "new", "mallory").await));
        claim(&links, "hr:3", "new", "mallory").await.unwrap();
        claim(&links, "hr:1", "new", "a1").await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_claim_takes_back_its_own_row_and_none_that_an_operator_has_written() {
        let store = Arc::new(MemoryStore::default());
        let links = links(&store);
        let key = SubjectKey {
            issuer: Issuer::new("https://new"),
            subject: Subject::try_from("a1").unwrap(),
        };
        let new = ProviderId::new("new");
        let [one, other] = ["hr:1", "hr:2"].map(|name| CanonicalSubject::named(name).unwrap());
        let by_account = account_key(&new, &key);
        let by_account = Key {
            table: PEOPLE,
            key: &by_account,
        };
        let by_person = row(&["hr:1", "new"]);
        let by_person = Key {
            table: ACCOUNTS,
            key: &by_person,
        };
        // What the row says when it is taken back, whether the person has that account by then, and whether it stays.
        for (person, hers, stays) in [
            (&one, false, false),
            (&one, true, true),
            (&other, false, true),
        ] {
            let name = person.as_str().as_bytes();
            store.put(by_account, name, UnixTime::NEVER).await.unwrap();
            let account = account_text(&key);
            let theirs = if hers {
                account.as_str()
            } else {
                "1\nhttps://new\na2"
            };
            let theirs = theirs.as_bytes();
            store.put(by_person, theirs, UnixTime::NEVER).await.unwrap();
            let taken = links.take_back((by_account, b"hr:1"), (by_person, &account), NOW);
            taken.await.unwrap();
            let left = store.get(by_account, NOW).await.unwrap();
            assert_eq!(left.is_some(), stays, "{} {hers}", person.as_str());
        }
    }

    #[tokio::test]
    async fn a_person_who_is_forgotten_leaves_no_link_and_others_keep_theirs() {
        let store = Arc::new(MemoryStore::default());
        let links = links(&store);
        claim(&links, "hr:1", "old", "alice").await.unwrap();
        claim(&links, "hr:1", "new", "a1").await.unwrap();
        claim(&links, "hr:2", "new", "b1").await.unwrap();
        let person = CanonicalSubject::named("hr:1").unwrap();
        let providers = [ProviderId::new("old"), ProviderId::new("new")];
        let gone = links.forget(&person, &providers, NOW).await.unwrap();
        assert_eq!(gone, 2);
        for table in [PEOPLE, ACCOUNTS] {
            assert_eq!(
                store.scan(table, b"", 9, NOW).await.unwrap().len(),
                1,
                "{table}"
            );
        }
        // Nothing stands against anybody any more, except what is another's.
        claim(&links, "hr:3", "new", "a1").await.unwrap();
        assert!(conflicts(claim(&links, "hr:1", "new", "b1").await));
    }

    #[tokio::test]
    async fn of_two_people_who_are_first_at_once_one_is_refused() {
        let store = Arc::new(MemoryStore::default());
        let tasks: Vec<_> = ["a", "b", "c", "d"]
            .map(|subject| {
                let links = links(&store);
                tokio::spawn(async move { claim(&links, "hr:1", "new", subject).await.is_ok() })
            })
            .into();
        let mut won = 0;
        for task in tasks {
            won += usize::from(task.await.unwrap());
        }
        assert_eq!(won, 1);
    }
}
