//! What the store says of links now, whatever this instance remembers of them.

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
use crate::links::table::digest_of;
use crate::links::table::read_person;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Row;
use crate::store::StoreError;

impl Links {
    /// Which person an account of a provider is; `None`: it was never seen.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn person_there(
        &self,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let by_account = account_key(provider, key);
        let place = Key {
            table: PEOPLE,
            key: &by_account,
        };
        let Some(found) = self.store.get(place, now).await? else {
            return Ok(None);
        };
        let person = read_person(&found.value)?;
        // An operator may have given the person another account there since.
        let by_person = self.account_row(&person, provider);
        let place = Key {
            table: ACCOUNTS,
            key: &by_person,
        };
        let theirs = self.store.get(place, now).await?;
        let same =
            |row: &Row| row.value == account_text(key).as_bytes() || row.value == digest_of(key);
        Ok(theirs.is_none_or(|row| same(&row)).then_some(person))
    }

    /// Whether the row of an account, of which nobody can tell the account, says that it is this person's, and they have no
    /// other one.
    pub(super) async fn row_is_of(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        by_account: &[u8],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let place = Key {
            table: PEOPLE,
            key: by_account,
        };
        let row = self.store.get(place, now).await?;
        if row.is_none_or(|row| row.value != person.as_str().as_bytes()) {
            return Ok(false);
        }
        let by_person = self.account_row(person, provider);
        let place = Key {
            table: ACCOUNTS,
            key: &by_person,
        };
        let theirs = self.store.get(place, now).await?;
        // One that an earlier version wrote does not say which account it is.
        let theirs = theirs.and_then(|row| read_account(&row.value));
        Ok(theirs.is_none_or(|key| account_key(provider, &key)[..] == *by_account))
    }

    /// Takes back that an account is a person's who turned out to have another one, unless somebody else has written the row
    /// since: what an operator decides meanwhile stands.
    pub(super) async fn take_back(
        &self,
        (by_account, name): (Key<'_>, &[u8]),
        (by_person, account): (Key<'_>, &str),
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let Some(row) = self.store.get(by_account, now).await? else {
            return Ok(());
        };
        // Whoever decides writes the person's row first: as long as that names another account, this one is ours.
        let theirs = self.store.get(by_person, now).await?;
        if row.value == name && theirs.is_none_or(|row| row.value != account.as_bytes()) {
            let expect = Expect::Version(row.version);
            let swap = self
                .store
                .compare_and_swap(by_account, expect, name, now, now);
            swap.await?;
        }
        Ok(())
    }
}
