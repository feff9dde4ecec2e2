//! Whose an account is of which a provider only tells: nobody has signed in, and nothing is written down.

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::links::naming::joined;
use crate::links::settings::Canonical;
use crate::links::table::ACCOUNTS;
use crate::links::table::Links;
use crate::links::table::is_account;
use crate::store::Key;
use crate::store::StoreError;

impl Links {
    /// The person whose account it is: by an earlier link, by the name that both providers say, or by an identifier that both
    /// have. `None`: nobody's that is known, or of several nobody can say whose. An address is no sign of anybody here: a
    /// holder who has left may have been followed by another.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn whose(
        &self,
        canonical: &Canonical,
        account: &Identity,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let (provider, key) = (&account.provider, &account.key);
        if let Some(person) = self.person_of(provider, key, now).await? {
            return Ok(Some(person));
        }
        let named = match joined(canonical, account) {
            Ok(named) => named.map(|(person, _)| person),
            // It says two things of itself.
            Err(_) => return Ok(None),
        };
        let person = match named {
            Some(person) => Some(person),
            None => self.by_identifier(canonical, account, now).await?,
        };
        let Some(person) = person else {
            return Ok(None);
        };
        // Somebody whose account there is another one, such as of an earlier employment.
        let row = self.account_row(&person, provider);
        let place = Key {
            table: ACCOUNTS,
            key: &row,
        };
        let theirs = self.store.get(place, now).await?;
        Ok(theirs
            .is_none_or(|row| is_account(&row, key))
            .then_some(person))
    }

    async fn by_identifier(
        &self,
        canonical: &Canonical,
        account: &Identity,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let (provider, key) = (&account.provider, &account.key);
        for rule in canonical.claims.iter().filter(|rule| !rule.is_address()) {
            let Some((place, value)) = rule.said_of(account) else {
                continue;
            };
            let foreseen = self.foreseen(rule, (place, &value), (provider, key), now);
            if let Some(person) = foreseen.await? {
                return Ok(Some(person));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::ClaimMap;
    use crate::identity::Delegation;
    use crate::identity::Issuer;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::identity::Template;
    use crate::links::claim::ClaimRule;
    use crate::links::claim::Place;
    use crate::links::claim::Speaker;
    use crate::store::MemoryStore;

    const NOW: UnixTime = UnixTime::from_secs(1);

    fn account(provider: &str, subject: &str, attribute: (&str, &str)) -> Identity {
        let mut attributes = ClaimMap::default();
        attributes.insert(attribute.0, attribute.1.into());
        Identity {
            provider: ProviderId::new(provider),
            key: SubjectKey {
                issuer: Issuer::new(&format!("https://{provider}")),
                subject: Subject::try_from(subject).unwrap(),
            },
            attributes: Arc::new(attributes),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: Delegation::default(),
        }
    }

    fn rule(claim: &str, domains: Option<&str>) -> Arc<ClaimRule> {
        let speaker = |provider: &str| Speaker {
            provider: ProviderId::new(provider),
            value: Template::parse(&format!("{{{claim}}}")).unwrap(),
            verified: false,
        };
        Arc::new(ClaimRule {
            old: speaker("old"),
            new: speaker("new"),
            normalise: Vec::new(),
            domains: domains.map(|domain| vec![domain.into()]),
        })
    }

    async fn whose(links: &Links, canonical: &Canonical, account: &Identity) -> Option<String> {
        let person = links.whose(canonical, account, NOW).await.unwrap();
        person.map(|person| person.as_str().to_owned())
    }

    #[tokio::test]
    async fn an_account_that_nobody_has_come_with_is_the_persons_that_both_sides_name() {
        let links = Links::new(Arc::new(MemoryStore::default()));
        let canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["old", "new"]);
        let old = account("old", "al", ("employee", "7"));
        assert_eq!(
            whose(&links, &canonical, &old).await.as_deref(),
            Some("hr:7")
        );
        let silent = account("old", "al", ("name", "Al"));
        assert_eq!(whose(&links, &canonical, &silent).await, None);
        // Who came with another account is not who this one was.
        let person = CanonicalSubject::named("hr:7").unwrap();
        let now_hers = account("old", "al2", ("employee", "7"));
        let claimed = links.claim(&person, &now_hers.provider, &now_hers.key, NOW);
        claimed.await.unwrap();
        assert_eq!(whose(&links, &canonical, &old).await, None);
        assert_eq!(
            whose(&links, &canonical, &now_hers).await.as_deref(),
            Some("hr:7")
        );
        // A link outlives what made it.
        let fallen_silent = account("old", "al2", ("name", "Al"));
        assert_eq!(
            whose(&links, &canonical, &fallen_silent).await.as_deref(),
            Some("hr:7")
        );
    }

    #[tokio::test]
    async fn an_identifier_names_a_person_and_an_address_does_not() {
        let links = Links::new(Arc::new(MemoryStore::default()));
        let mut canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["new"]);
        canonical.claims = vec![rule("guid", None), rule("mail", Some("corp.example"))];
        let person = CanonicalSubject::named("hr:7").unwrap();
        for (rule, value) in canonical.claims.iter().zip(["g-1", "al@corp.example"]) {
            let new = account("new", "n-1", ("employee", "7"));
            let of = (&new.provider, &new.key);
            let seen = links.sight(rule, (Place::New, value), of, Some(&person), NOW);
            seen.await.unwrap();
            let claimed = links.claim(&person, &new.provider, &new.key, NOW);
            claimed.await.unwrap();
        }
        let by_guid = account("old", "al", ("guid", "g-1"));
        assert_eq!(
            whose(&links, &canonical, &by_guid).await.as_deref(),
            Some("hr:7")
        );
        let by_mail = account("old", "al", ("mail", "al@corp.example"));
        assert_eq!(whose(&links, &canonical, &by_mail).await, None);
        // Nothing was taken note of: who does come is still the first.
        let other = account("old", "bo", ("guid", "g-1"));
        assert_eq!(
            whose(&links, &canonical, &other).await.as_deref(),
            Some("hr:7")
        );
    }
}
