//! Links that an operator has made: the one way in which a link changes.

use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::links::accounts::account_text;
use crate::links::accounts::read_account;
use crate::links::table::ACCOUNTS;
use crate::links::table::Links;
use crate::links::table::PEOPLE;
use crate::links::table::account_key;
use crate::links::table::read_person;
use crate::store::Event;
use crate::store::Key;
use crate::store::StoreError;

/// Which person an operator says that an account is: row by account.
pub(super) const DECIDED: &str = "link_set";

/// What a decision changed.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// The account that was the person's at this provider until now.
    pub(crate) displaced: Option<SubjectKey>,
    /// Whose the account was until now.
    pub(crate) taken_from: Option<CanonicalSubject>,
}

impl Links {
    /// What would change if an account became a person's.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn would_change(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Decided, StoreError> {
        let (by_account, by_person) = (
            account_key(provider, key),
            self.account_row(person, provider),
        );
        let get = async |table, key: &[u8]| self.store.get(Key { table, key }, now).await;
        let before = get(PEOPLE, &by_account).await?;
        let taken_from = before.map(|row| read_person(&row.value)).transpose()?;
        let other = get(ACCOUNTS, &by_person).await?;
        let displaced = match other {
            None => None,
            Some(row) if row.value == account_text(key).as_bytes() => None,
            // One that an earlier version wrote names nobody; it is written anew.
            Some(row) => read_account(&row.value),
        };
        Ok(Decided {
            displaced,
            taken_from: taken_from.filter(|before| before != person),
        })
    }

    /// An account is this person's from now on, whatever has been linked or seen before. Asked for again, it goes on where it
    /// broke off.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: some of it may hold.
    pub(crate) async fn decide(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        key: &SubjectKey,
        (changes, now): (&Decided, UnixTime),
    ) -> Result<(), StoreError> {
        let (by_account, by_person) = (
            account_key(provider, key),
            self.account_row(person, provider),
        );
        let delete = async |table, key: &[u8]| self.store.delete(Key { table, key }).await;
        let put = async |table, key: &[u8], value: &[u8]| {
            let place = Key { table, key };
            self.store.put(place, value, self.lasting.until(now)).await
        };
        let name = person.as_str().as_bytes();
        // First who is whose from now on: at no moment are two accounts of one provider one person's.
        put(ACCOUNTS, &by_person, account_text(key).as_bytes()).await?;
        if let Some(displaced) = &changes.displaced {
            let displaced = account_key(provider, displaced);
            delete(DECIDED, &displaced).await?;
            delete(PEOPLE, &displaced).await?;
        }
        put(PEOPLE, &by_account, name).await?;
        if let Some(before) = &changes.taken_from {
            // Only the row that names this account: they may have been given another one.
            let theirs = self.account_row(before, provider);
            let place = Key {
                table: ACCOUNTS,
                key: &theirs,
            };
            let row = self.store.get(place, now).await?;
            if row.is_some_and(|row| row.value == account_text(key).as_bytes()) {
                delete(ACCOUNTS, &theirs).await?;
            }
        }
        let settled = (std::slice::from_ref(provider), now);
        self.forget_conflicts(person, &[by_account.to_vec()], settled)
            .await?;
        // Last what every instance watches: it then asks the rows above.
        put(DECIDED, &by_account, name).await?;
        self.forget_what_is_kept();
        Ok(())
    }

    /// Whose an account is by the word of an operator.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn decided(
        &self,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let row = account_key(provider, key);
        let place = Key {
            table: DECIDED,
            key: &row,
        };
        let Some(found) = self.store.get(place, now).await? else {
            return Ok(None);
        };
        let person = read_person(&found.value)?;
        // A decision counts as long as the link that it made is there.
        let linked = self.person_of(provider, key, now).await?;
        Ok(linked.filter(|linked| *linked == person))
    }

    /// Takes back that an account is a person's, if it is; every instance is told.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn unlink(
        &self,
        person: &CanonicalSubject,
        (provider, key): (&ProviderId, &SubjectKey),
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let (by_account, by_person) = (
            account_key(provider, key),
            self.account_row(person, provider),
        );
        let text = account_text(key);
        let name = person.as_str().as_bytes();
        let both: [(_, &[u8; 32], &[u8]); 2] = [
            (PEOPLE, &by_account, name),
            (ACCOUNTS, &by_person, text.as_bytes()),
        ];
        for (table, key, value) in both {
            let place = Key { table, key };
            let row = self.store.get(place, now).await?;
            if row.is_some_and(|row| row.value == value) {
                self.store.delete(place).await?;
            }
        }
        self.forget_decisions(&[by_account.to_vec()]).await?;
        self.forget_what_is_kept();
        Ok(())
    }

    /// Forgets decisions about accounts.
    pub(super) async fn forget_decisions(&self, accounts: &[Vec<u8>]) -> Result<(), StoreError> {
        for key in accounts {
            let table = DECIDED;
            self.store.delete(Key { table, key }).await?;
        }
        Ok(())
    }

    /// Asks the store anew once an operator has decided something, at whichever instance, for as long as somebody else holds it.
    pub(crate) fn follow(self: &Arc<Self>, background: &Handle) {
        let mut news = self.store.watch(DECIDED);
        let links = Arc::downgrade(self);
        background.spawn(async move {
            while let Some(event) = news.next().await {
                let Some(links) = links.upgrade() else {
                    return;
                };
                match event {
                    Event::Changed(_) => links.forget_what_is_kept(),
                    Event::Missed => links.ask_anew(),
                }
            }
            warn!("What operators link at other instances is known a minute later from now on.");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::links::LinkError;
    use crate::store::MemoryStore;

    const NOW: UnixTime = UnixTime::from_secs(1);

    fn account(subject: &str) -> SubjectKey {
        SubjectKey {
            issuer: Issuer::new("https://new"),
            subject: Subject::try_from(subject).unwrap(),
        }
    }

    fn person(name: &str) -> CanonicalSubject {
        CanonicalSubject::named(name).unwrap()
    }

    struct Table(Arc<MemoryStore>, ProviderId);

    impl Table {
        /// What an instance makes of the store that has kept nothing in memory.
        fn instance(&self) -> Links {
            Links::new(Arc::clone(&self.0) as _)
        }

        async fn claims(&self, links: &Links, name: &str, subject: &str) -> bool {
            let (person, account) = (person(name), account(subject));
            match links.claim(&person, &self.1, &account, NOW).await {
                Ok(_) => true,
                Err(LinkError::Conflict) => false,
                Err(LinkError::Store(error)) => panic!("{error}"),
            }
        }

        async fn decides(&self, links: &Links, name: &str, subject: &str) -> Decided {
            let (person, account) = (person(name), account(subject));
            let changes = links.would_change(&person, &self.1, &account, NOW).await;
            let changes = changes.unwrap();
            let done = links
                .decide(&person, &self.1, &account, (&changes, NOW))
                .await;
            done.unwrap();
            changes
        }

        async fn of(&self, links: &Links, subject: &str) -> [Option<CanonicalSubject>; 2] {
            let key = account(subject);
            let linked = links.person_of(&self.1, &key, NOW).await.unwrap();
            let decided = links.decided(&self.1, &key, NOW).await.unwrap();
            [linked, decided]
        }
    }

    fn table() -> Table {
        Table(Arc::new(MemoryStore::default()), ProviderId::new("new"))
    }

    #[tokio::test]
    async fn a_decision_puts_one_account_in_the_place_of_another() {
        let table = table();
        let (here, elsewhere) = (table.instance(), table.instance());
        assert!(table.claims(&here, "hr:1", "a1").await);
        assert!(table.claims(&elsewhere, "hr:1", "a1").await);
        assert!(!table.claims(&here, "hr:1", "a2").await);
        let changes = table.decides(&here, "hr:1", "a2").await;
        assert_eq!(changes.displaced, Some(account("a1")));
        assert_eq!(changes.taken_from, None);
        // What another instance has kept in memory is dropped once it hears of it.
        elsewhere.forget_what_is_kept();
        for links in [&here, &elsewhere, &table.instance()] {
            assert!(table.claims(links, "hr:1", "a2").await);
            assert!(!table.claims(links, "hr:1", "a1").await);
            assert_eq!(table.of(links, "a1").await, [None, None]);
            let hers = Some(person("hr:1"));
            assert_eq!(table.of(links, "a2").await, [hers.clone(), hers]);
        }
    }

    #[tokio::test]
    async fn an_account_that_was_somebody_elses_leaves_them() {
        let table = table();
        let links = table.instance();
        assert!(table.claims(&links, "hr:1", "a1").await);
        let changes = table.decides(&links, "hr:2", "a1").await;
        assert_eq!(changes.taken_from, Some(person("hr:1")));
        assert!(!table.claims(&links, "hr:1", "a1").await);
        assert!(
            table.claims(&links, "hr:1", "a9").await,
            "they may have another"
        );
        // And back again: the same decision twice changes nothing more.
        table.decides(&links, "hr:2", "a1").await;
        let changes = table.decides(&links, "hr:2", "a1").await;
        assert!(changes.displaced.is_none() && changes.taken_from.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn other_instances_ask_the_store_anew() {
        let table = table();
        let (here, elsewhere) = (table.instance(), Arc::new(table.instance()));
        elsewhere.follow(&Handle::current());
        assert!(table.claims(&elsewhere, "hr:1", "a1").await);
        table.decides(&here, "hr:1", "a2").await;
        while table.claims(&elsewhere, "hr:1", "a1").await {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(table.claims(&elsewhere, "hr:1", "a2").await);
    }
}
