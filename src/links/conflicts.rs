//! Accounts of which it is in doubt whose they are, until somebody decides: noted where they are refused, so that they can be
//! counted. What is noted decides nothing.

use std::collections::HashSet;
use std::time::Duration;

use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::links::table::Links;
use crate::links::table::PART;
use crate::links::table::account_key;
use crate::links::table::row_of;
use crate::store::Key;
use crate::store::StoreError;

/// Whom an account would have been: row by provider and account.
const CONFLICTS: &str = "link_conflict";
/// A conflict is kept so long after it was met last, if nothing else is said: 30 days.
pub(crate) const CONFLICTS_KEPT: Duration = Duration::from_hours(30 * 24);
/// It is written again at most once an hour, however often it is met.
const AGAIN: Duration = Duration::from_hours(1);
/// So many of one provider are counted: 20 000.
pub(crate) const MAX_CONFLICTS: usize = 20_000;
/// Conflicts whose last writing is known here: 4096. One more is written once more.
pub(super) const NOTED: usize = 4_096;

impl Links {
    /// Keeps what is in doubt for so long.
    #[must_use]
    pub(crate) const fn doubts_for(mut self, span: Duration) -> Self {
        self.doubts = span;
        self
    }

    /// Takes note that an account was refused, because it would have been this person and somebody says otherwise. A store that
    /// is away refuses it all the same.
    pub(crate) async fn in_conflict(
        &self,
        person: &CanonicalSubject,
        (provider, key): (&ProviderId, &SubjectKey),
        now: UnixTime,
    ) {
        let (account, whom) = (
            account_key(provider, key),
            self.account_row(person, provider),
        );
        let noted = self.noted.get(&account);
        if noted.is_some_and(|(before, at)| before == whom && now.since(at) < AGAIN) {
            return;
        }
        let place = place(provider, &account);
        let place = Key {
            table: CONFLICTS,
            key: &place,
        };
        let until = self.lasting.until(now).min(now + self.doubts);
        match self.store.put(place, &whom, until).await {
            Ok(()) => self.noted.insert(account, (whom, now)),
            Err(error) => debug!(%error, "That an account is in conflict is noted the next time."),
        }
    }

    /// The people of a provider's accounts that are in conflict, one of each account, as [`Links::account_row`] names them; at
    /// most [`MAX_CONFLICTS`].
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn conflicts(
        &self,
        provider: &ProviderId,
        now: UnixTime,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let prefix = prefix(provider);
        let rows = self.store.scan(CONFLICTS, &prefix, MAX_CONFLICTS, now);
        let rows = rows.await?;
        rows.iter().map(|(_, row)| whom(&row.value)).collect()
    }

    /// An account is somebody's: it is in conflict no more.
    pub(super) async fn is_settled(
        &self,
        provider: &ProviderId,
        account: &[u8; 32],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let place = place(provider, account);
        let place = Key {
            table: CONFLICTS,
            key: &place,
        };
        // Most were never in conflict, and reading is cheap.
        if self.store.get(place, now).await?.is_some() {
            self.store.delete(place).await?;
        }
        self.noted.remove(account);
        Ok(())
    }

    /// Nobody of these is in conflict any more: neither the accounts, nor whoever would have been one of these people at one of
    /// these providers.
    pub(super) async fn forget_conflicts(
        &self,
        person: &CanonicalSubject,
        accounts: &[Vec<u8>],
        (providers, now): (&[ProviderId], UnixTime),
    ) -> Result<(), StoreError> {
        for provider in providers {
            let whom = self.account_row(person, provider);
            let places: HashSet<_> = accounts
                .iter()
                .map(|account| place(provider, account))
                .collect();
            let prefix = prefix(provider);
            let rows = self.store.scan(CONFLICTS, &prefix, PART, now);
            for (key, row) in rows.await? {
                if row.value == whom || places.contains(&key) {
                    let place = Key {
                        table: CONFLICTS,
                        key: &key,
                    };
                    self.store.delete(place).await?;
                }
            }
        }
        self.noted.clear();
        Ok(())
    }
}

fn whom(row: &[u8]) -> Result<[u8; 32], StoreError> {
    let whole = row.first_chunk().filter(|found| found.len() == row.len());
    let damaged = || StoreError::Damaged(String::from("an account in conflict"));
    whole.copied().ok_or_else(damaged)
}

/// What the rows of a provider begin with.
fn prefix(provider: &ProviderId) -> [u8; 32] {
    row_of(b"authferry/conflict/v1", &[provider.as_str()])
}

fn place(provider: &ProviderId, account: &[u8]) -> Vec<u8> {
    [&prefix(provider)[..], account].concat()
}
