//! Rows that are kept for a time after their last use, where the configuration says so; else for good.

use std::time::Duration;

use futures_util::future::try_join_all;
use quick_cache::sync::Cache;
use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::links::accounts::read_account;
use crate::links::decided::DECIDED;
use crate::links::sights::SIGHTS;
use crate::links::table::ACCOUNTS;
use crate::links::table::Links;
use crate::links::table::PART;
use crate::links::table::PEOPLE;
use crate::links::table::account_key;
use crate::links::table::row;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Row;
use crate::store::Store;
use crate::store::StoreError;

/// Which time a table was given last: row by what is kept.
const TABLE: &str = "retention";
/// A row in use is written again at most once a day.
const AGAIN: Duration = Duration::from_hours(24);
/// Rows whose last writing is known here: 65 536. One more is written once more.
const KNOWN: usize = 65_536;
/// Rows that are given another time at once.
const AT_ONCE: usize = 32;

/// How long rows of some tables are kept.
pub(super) struct Lasting {
    span: Option<Duration>,
    renewed: Cache<[u8; 32], UnixTime>,
}

impl Lasting {
    /// For `span` after their last use; `None`: for good.
    pub(super) fn new(span: Option<Duration>) -> Self {
        let known = if span.is_some() { KNOWN } else { 1 };
        Self {
            span,
            renewed: Cache::new(known),
        }
    }

    /// Whether rows go that nobody uses.
    pub(super) const fn ends(&self) -> bool {
        self.span.is_some()
    }

    /// Until when a row is kept that is written now.
    pub(super) fn until(&self, now: UnixTime) -> UnixTime {
        self.span.map_or(UnixTime::NEVER, |span| now + span)
    }

    /// Whether what is called so is to be written again, and whoever asks writes it.
    pub(super) fn is_due(&self, name: &[u8; 32], now: UnixTime) -> bool {
        let Some(span) = self.span else {
            return false;
        };
        let again = AGAIN.min(span / 8);
        let known = self.renewed.get(name);
        if known.is_some_and(|at| now.since(at) < again) {
            return false;
        }
        self.renewed.insert(*name, now);
        true
    }

    /// It was not written.
    pub(super) fn is_due_still(&self, name: &[u8; 32]) {
        self.renewed.remove(name);
    }

    /// A row was used: it is kept for another while.
    pub(super) async fn used(&self, store: &dyn Store, key: Key<'_>, row: &Row, now: UnixTime) {
        if let Err(error) = self.renew(store, key, row, now).await {
            debug!(%error, table = key.table, "That a row was used is written at its next use.");
        }
    }

    /// The same, for who wants to know.
    pub(super) async fn renew(
        &self,
        store: &dyn Store,
        key: Key<'_>,
        row: &Row,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let expect = Expect::Version(row.version);
        // Whoever has changed it meanwhile has given it its time, or taken it away.
        let swapped = store.compare_and_swap(key, expect, &row.value, self.until(now), now);
        swapped.await.map(drop)
    }

    /// Gives the rows that are there their time, once for each time that the configuration has named: counted from now, for
    /// nobody knows when they were used.
    pub(super) async fn introduce(
        &self,
        store: &dyn Store,
        (name, tables): (&str, &[&'static str]),
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let wanted = match self.span {
            Some(span) => span.as_secs().to_string(),
            None => String::from("never"),
        };
        let marker = Key {
            table: TABLE,
            key: name.as_bytes(),
        };
        let before = store.get(marker, now).await?;
        let same = match &before {
            Some(row) => row.value == wanted.as_bytes(),
            None => self.span.is_none(),
        };
        if same {
            return Ok(());
        }
        for table in tables.iter().copied() {
            for part in 0..=u8::MAX {
                let rows = store.scan(table, &[part], PART, now).await?;
                for some in rows.chunks(AT_ONCE) {
                    let writing = some.iter().map(|(key, row)| {
                        let key = Key { table, key };
                        self.renew(store, key, row, now)
                    });
                    try_join_all(writing).await?;
                }
            }
        }
        let never = UnixTime::NEVER;
        store.put(marker, wanted.as_bytes(), never).await
    }
}

impl Links {
    /// Keeps the links of whoever was not seen at any of these providers for so long no longer; `None`: for good.
    #[must_use]
    pub(crate) fn kept_for(mut self, span: Option<Duration>, providers: Vec<ProviderId>) -> Self {
        self.lasting = Lasting::new(span);
        self.providers = providers;
        self
    }

    /// Gives links their time that were made under another configuration.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: some have theirs.
    pub(crate) async fn introduce(&self, now: UnixTime) -> Result<(), StoreError> {
        let tables = ("links", &[ACCOUNTS, PEOPLE, SIGHTS, DECIDED][..]);
        self.lasting.introduce(&*self.store, tables, now).await
    }

    /// A person is here, by an account of `provider`: none of their links goes, wherever they came from.
    pub(super) async fn in_use(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        now: UnixTime,
    ) {
        if !self.lasting.ends() {
            return;
        }
        let name = row(&["in use", person.as_str(), provider.as_str()]);
        if !self.lasting.is_due(&name, now) {
            return;
        }
        if let Err(error) = self.renew(person, provider, now).await {
            debug!(%error, "That somebody's links were used is written at their next use.");
            self.lasting.is_due_still(&name);
        }
    }

    async fn renew(
        &self,
        person: &CanonicalSubject,
        here: &ProviderId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let renew = async |table, key: &[u8]| {
            let place = Key { table, key };
            let row = self.store.get(place, now).await?;
            if let Some(row) = &row {
                self.lasting.renew(&*self.store, place, row, now).await?;
            }
            Ok::<_, StoreError>(row)
        };
        // One that came with a reload is not among those of the start.
        let new = (!self.providers.contains(here)).then_some(here);
        for provider in self.providers.iter().chain(new) {
            let by_person = self.account_row(person, provider);
            let Some(found) = renew(ACCOUNTS, &by_person).await? else {
                continue;
            };
            if let Some(account) = read_account(&found.value) {
                let by_account = account_key(provider, &account);
                renew(PEOPLE, &by_account).await?;
                renew(DECIDED, &by_account).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::store::MemoryStore;

    fn day(days: u64) -> UnixTime {
        UnixTime::from_secs(1) + Duration::from_hours(24 * days)
    }

    struct World {
        store: Arc<MemoryStore>,
        links: Links,
    }

    impl World {
        fn new(store: &Arc<MemoryStore>, days: Option<u64>) -> Self {
            let span = days.map(|days| Duration::from_hours(24 * days));
            let providers = ["old", "new"].map(ProviderId::new).to_vec();
            let links = Links::new(Arc::clone(store) as _).kept_for(span, providers);
            let store = Arc::clone(store);
            Self { store, links }
        }

        async fn sees(&self, person: &str, provider: &str, now: UnixTime) {
            let provider = ProviderId::new(provider);
            let key = account(&provider, person);
            let person = CanonicalSubject::named(person).unwrap();
            let claimed = self.links.claim(&person, &provider, &key, now).await;
            claimed.unwrap();
        }

        async fn knows(&self, person: &str, provider: &str, now: UnixTime) -> bool {
            let provider = ProviderId::new(provider);
            let person = CanonicalSubject::named(person).unwrap();
            let row = self.links.account_row(&person, &provider);
            self.links.has_account(&row, now).await.unwrap()
        }
    }

    fn account(provider: &ProviderId, person: &str) -> SubjectKey {
        SubjectKey {
            issuer: Issuer::new(&format!("https://{provider}")),
            subject: Subject::try_from(format!("{person} at {provider}").as_str()).unwrap(),
        }
    }

    #[tokio::test]
    async fn links_last_as_long_as_their_person_is_seen_anywhere() {
        let world = World::new(&Arc::default(), Some(30));
        for person in ["hr:1", "hr:2"] {
            world.sees(person, "old", day(0)).await;
            world.sees(person, "new", day(0)).await;
        }
        // One of them comes once a week, to the new side alone, to whichever instance.
        for week in 1..9 {
            let instance = World::new(&world.store, Some(30));
            instance.sees("hr:1", "new", day(7 * week)).await;
        }
        let now = day(60);
        assert!(world.knows("hr:1", "old", now).await && world.knows("hr:1", "new", now).await);
        assert!(!world.knows("hr:2", "old", now).await);
        world.store.sweep(now).await.unwrap();
        for (table, left) in [(ACCOUNTS, 2), (PEOPLE, 2)] {
            let rows = world.store.scan(table, b"", 9, day(0)).await.unwrap();
            assert_eq!(rows.len(), left, "{table}");
        }
        // Who comes back is linked anew.
        world.sees("hr:2", "old", now).await;
        assert!(world.knows("hr:2", "old", now).await);
    }

    #[tokio::test]
    async fn what_was_there_before_gets_its_time_once_and_loses_it_with_the_key() {
        let store = Arc::default();
        let world = World::new(&store, None);
        world.links.introduce(day(0)).await.unwrap();
        world.sees("hr:1", "old", day(0)).await;
        let thirty = World::new(&store, Some(30));
        thirty.links.introduce(day(1_000)).await.unwrap();
        // The next start changes nothing.
        thirty.links.introduce(day(1_020)).await.unwrap();
        assert!(world.knows("hr:1", "old", day(1_029)).await);
        assert!(!world.knows("hr:1", "old", day(1_030)).await);
        world.links.introduce(day(1_029)).await.unwrap();
        assert!(world.knows("hr:1", "old", day(9_000)).await);
    }
}
