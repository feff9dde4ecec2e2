//! What providers call a person: the accounts that are linked, as templates write them.

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::links::table::ACCOUNTS;
use crate::links::table::Links;
use crate::links::table::PEOPLE;
use crate::links::table::account_key;
use crate::store::Key;
use crate::store::StoreError;

/// What the account in a row begins with.
const LAYOUT: &str = "1\n";

impl Links {
    /// The accounts of somebody at the providers that templates name (`link.PROVIDER_subject`), as far as they are known: the
    /// one that was vouched for, and those that are linked to the person.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn accounts_of(
        &self,
        named: &[ProviderId],
        identity: &Identity,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<Option<Arc<ClaimMap>>, StoreError> {
        if named.is_empty() {
            return Ok(None);
        }
        let mut accounts = ClaimMap::default();
        for provider in named {
            let known = if *provider == identity.provider {
                Some(identity.key.subject.as_str().into())
            } else if *person == CanonicalSubject::unjoined(&identity.key) {
                None
            } else {
                self.subject_of(person, provider, now).await?
            };
            if let Some(subject) = known {
                accounts.insert(&format!("{provider}_subject"), (*subject).into());
            }
        }
        Ok(Some(Arc::new(accounts)))
    }

    /// What a provider calls a person; `None`: no account there is known.
    async fn subject_of(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        now: UnixTime,
    ) -> Result<Option<Box<str>>, StoreError> {
        let row = self.account_row(person, provider);
        let kept = self.subjects.get(&row);
        if let Some((subject, said)) = &kept
            && self.is_fresh(*said, now)
        {
            return Ok(Some(subject.clone()));
        }
        let place = Key {
            table: ACCOUNTS,
            key: &row,
        };
        let (reading, said) = (self.reading(), self.asking(now));
        let found = match self.store.get(place, now).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.subjects.remove(&row);
                return Ok(None);
            }
            // As of links: what was true a minute ago counts while nobody can say more.
            Err(error) => {
                let held = kept.filter(|(_, said)| said.holds(now));
                return held.map(|(subject, _)| Some(subject)).ok_or(error);
            }
        };
        let Some(account) = read_account(&found.value) else {
            self.subjects.remove(&row);
            return Ok(None);
        };
        // A row that was left behind names an account that is another person's by now.
        let by_account = account_key(provider, &account);
        let place = Key {
            table: PEOPLE,
            key: &by_account,
        };
        let owner = self.store.get(place, now).await?;
        if owner.is_none_or(|owner| owner.value != person.as_str().as_bytes()) {
            self.subjects.remove(&row);
            return Ok(None);
        }
        let subject: Box<str> = account.subject.as_str().into();
        self.keep(&self.subjects, &row, (subject.clone(), said), reading);
        Ok(Some(subject))
    }
}

/// An account as a row says it. Neither part has control characters.
pub(super) fn account_text(key: &SubjectKey) -> String {
    format!("{LAYOUT}{}\n{}", key.issuer, key.subject.as_str())
}

/// The other way round; `None`: an earlier version wrote the row, and it does not say.
pub(super) fn read_account(row: &[u8]) -> Option<SubjectKey> {
    let text = std::str::from_utf8(row).ok()?;
    let (issuer, subject) = text.strip_prefix(LAYOUT)?.split_once('\n')?;
    Some(SubjectKey {
        issuer: Issuer::new(issuer),
        subject: Subject::try_from(subject).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Delegation;
    use crate::links::table::row;
    use crate::store::MemoryStore;
    use crate::store::Store as _;

    const NOW: UnixTime = UnixTime::from_secs(1);

    fn identity(provider: &str, subject: &str) -> Identity {
        Identity {
            provider: ProviderId::new(provider),
            key: SubjectKey {
                issuer: Issuer::new(&format!("https://{provider}")),
                subject: Subject::try_from(subject).unwrap(),
            },
            attributes: Arc::default(),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: Delegation::default(),
        }
    }

    async fn old_name(links: &Links, identity: &Identity, person: &CanonicalSubject) -> String {
        let named = [ProviderId::new("old")];
        let accounts = links.accounts_of(&named, identity, person, NOW).await;
        let accounts = accounts.unwrap().unwrap();
        accounts.text("old_subject").unwrap_or("-").to_owned()
    }

    #[tokio::test]
    async fn the_account_of_one_provider_is_known_to_whoever_comes_from_the_other() {
        let store = Arc::new(MemoryStore::default());
        let links = Links::new(Arc::clone(&store) as _);
        let (old, new) = (identity("old", "Zoë"), identity("new", "n-1"));
        let zoe = CanonicalSubject::named("hr:7").unwrap();
        assert_eq!(old_name(&links, &old, &zoe).await, "Zoë", "her own account");
        assert_eq!(old_name(&links, &new, &zoe).await, "-", "not seen yet");
        for one in [&old, &new] {
            let claimed = links.claim(&zoe, &one.provider, &one.key, NOW).await;
            claimed.unwrap();
        }
        let later = Links::new(Arc::clone(&store) as _);
        for links in [&links, &later] {
            assert_eq!(old_name(links, &old, &zoe).await, "Zoë");
            assert_eq!(old_name(links, &new, &zoe).await, "Zoë");
        }
        let stranger = identity("new", "n-2");
        let alone = CanonicalSubject::unjoined(&stranger.key);
        assert_eq!(old_name(&links, &stranger, &alone).await, "-");
        assert!(
            links
                .accounts_of(&[], &old, &zoe, NOW)
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_link_of_an_earlier_version_stands_and_is_completed() {
        let store = Arc::new(MemoryStore::default());
        let (old, new) = (identity("old", "zoe"), identity("new", "n-1"));
        let zoe = CanonicalSubject::named("hr:7").unwrap();
        let links = Links::new(Arc::clone(&store) as _);
        let claim = async |one: &Identity| {
            let links = Links::new(Arc::clone(&store) as _);
            links.claim(&zoe, &one.provider, &one.key, NOW).await
        };
        claim(&old).await.unwrap();
        let by_person = links.account_row(&zoe, &old.provider);
        let before = row(&["https://old", "zoe"]);
        let place = Key {
            table: ACCOUNTS,
            key: &by_person,
        };
        store.put(place, &before, UnixTime::NEVER).await.unwrap();
        assert_eq!(old_name(&links, &new, &zoe).await, "-", "it does not say");
        assert!(claim(&identity("old", "mallory")).await.is_err());
        claim(&old).await.unwrap();
        assert_eq!(old_name(&links, &new, &zoe).await, "zoe");
    }
}
