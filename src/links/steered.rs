//! Whom links know by what a stranger calls themselves: for a bucket alone, before anybody has signed in.

use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::links::file;
use crate::links::file::Columns;
use crate::links::settings::Canonical;
use crate::links::table::Links;
use crate::store::StoreError;

impl Links {
    /// The person whose account at one of `providers` is called `typed`, by lists or by an earlier link; or else the person whom
    /// the canonical name would make of it, where one attribute makes it.
    ///
    /// All spellings are one: else two of them, asked for one after the other, would tell whether somebody is known by one. So
    /// an account that was linked under a name with capital letters is not found; the word itself is as good for a bucket.
    ///
    /// Every place is looked at whatever the one before has said, nothing is written, and nothing is read from memory alone: how
    /// long it takes tells nobody whether somebody is known. Without an answer of the store nobody is: the word itself is as
    /// good for a bucket.
    pub(crate) async fn steered(
        &self,
        canonical: &Canonical,
        typed: &str,
        providers: &[(ProviderId, Option<Issuer>)],
        now: UnixTime,
    ) -> Option<CanonicalSubject> {
        let small = typed.to_lowercase();
        let subject = Subject::try_from(&*small).ok()?;
        let mut found = None;
        for (provider, issuer) in providers {
            for list in &canonical.files {
                let listed = list.person_meant(provider, &small).cloned();
                found = found.or(listed);
            }
            let Some(issuer) = issuer else { continue };
            let key = SubjectKey {
                issuer: issuer.clone(),
                subject: subject.clone(),
            };
            let linked = match self.linked(provider, &key, now).await {
                Ok(linked) => linked,
                Err(error) => {
                    debug!(%error, "Whom links know by an identifier is not known; its own bucket counts.");
                    None
                }
            };
            found = found.or(linked);
        }
        let named = by_template(canonical, &small);
        found.or(named)
    }

    /// Asks the store as often about nobody as about somebody.
    async fn linked(
        &self,
        provider: &ProviderId,
        key: &SubjectKey,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, StoreError> {
        let linked = self.person_there(provider, key, now).await?;
        if linked.is_none() {
            let nobody = self.account_row(&CanonicalSubject::unjoined(key), provider);
            self.has_account(&nobody, now).await?;
        }
        Ok(linked)
    }
}

/// The name of whoever has `typed` for the one attribute that names people.
fn by_template(canonical: &Canonical, typed: &str) -> Option<CanonicalSubject> {
    if canonical.template.roots().count() != 1 {
        return None;
    }
    let columns = Columns {
        accounts: &[],
        template: &canonical.template,
        normalise: &canonical.normalise,
    };
    file::named(&|_attribute| Some(typed), &columns).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::identity::Normalise;
    use crate::identity::Template;
    use crate::links::LinkFile;
    use crate::links::settings::OnMissing;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn canonical(template: &str, list: &str) -> Canonical {
        let template = Template::parse(template).unwrap();
        let accounts = [(ProviderId::new("old"), Box::from("login"))];
        let columns = Columns {
            accounts: &accounts,
            template: &template,
            normalise: &[],
        };
        let list = LinkFile::parse(list.as_bytes(), &columns).unwrap();
        Canonical {
            template,
            normalise: vec![Normalise::Lowercase],
            authoritative: Vec::new(),
            files: vec![Arc::new(list)],
            claims: Vec::new(),
            prove_both: false,
            on_missing: OnMissing::Alone,
        }
    }

    #[tokio::test]
    async fn whoever_is_listed_or_linked_is_known_by_their_account() {
        let links = Links::new(Arc::new(crate::store::MemoryStore::default()));
        let issuer = Issuer::new("https://new.test");
        let providers = [
            (ProviderId::new("old"), None),
            (ProviderId::new("new"), Some(issuer.clone())),
        ];
        let by = canonical(
            "hr:{employee_id}-{site}",
            "employee_id,site,login\n17,b,alice\n19,b,Dora\n",
        );
        let found = |typed| links.steered(&by, typed, &providers, NOW);
        let name = |text| Some(CanonicalSubject::named(text).unwrap());
        assert_eq!(found("alice").await, name("hr:17-b"));
        assert_eq!(found("bob").await, None);
        let key = SubjectKey {
            issuer,
            subject: Subject::try_from("bob").unwrap(),
        };
        let bob = CanonicalSubject::named("hr:18-b").unwrap();
        links.claim(&bob, &providers[1].0, &key, NOW).await.unwrap();
        assert_eq!(found("bob").await, name("hr:18-b"));
        // However they are written, here or there.
        for (typed, person) in [
            ("ALICE", "hr:17-b"),
            ("Bob", "hr:18-b"),
            ("Dora", "hr:19-b"),
            ("dora", "hr:19-b"),
            ("DORA", "hr:19-b"),
        ] {
            assert_eq!(found(typed).await, name(person), "{typed}");
        }
        assert_eq!(found("CAROL").await, None);
        // An account is known byte for byte: all spellings of its name lead to nobody, or one of them would tell.
        let key = SubjectKey {
            issuer: Issuer::new("https://new.test"),
            subject: Subject::try_from("Eve").unwrap(),
        };
        let eve = CanonicalSubject::named("hr:20-b").unwrap();
        links.claim(&eve, &providers[1].0, &key, NOW).await.unwrap();
        for typed in ["Eve", "eve", "EVE"] {
            assert_eq!(found(typed).await, None, "{typed}");
        }
    }

    #[tokio::test]
    async fn a_name_of_one_attribute_is_made_of_what_is_typed() {
        let links = Links::new(Arc::new(crate::store::MemoryStore::default()));
        let by = canonical("mail:{email}", "email,login\na@corp.example,alice\n");
        let bob = CanonicalSubject::named("mail:bob@corp.example").unwrap();
        let bytes = Canonical {
            normalise: Vec::new(),
            ..canonical("mail:{email}", "email,login\na@corp.example,alice\n")
        };
        for typed in ["Bob@Corp.example", "bob@corp.example"] {
            for by in [&by, &bytes] {
                let found = links.steered(by, typed, &[], NOW).await;
                assert_eq!(found.as_ref(), Some(&bob), "{typed}");
            }
        }
        // What no name can be made of stays a word.
        assert_eq!(links.steered(&by, "0000", &[], NOW).await, None);
    }

    #[tokio::test]
    async fn whoever_is_unknown_costs_as_many_questions() {
        let store = Arc::new(crate::store::FakeStore::default());
        let links = Links::new(Arc::clone(&store) as _);
        let issuers = ["https://old.test", "https://new.test"].map(Issuer::new);
        let [old, new] = issuers.clone();
        let providers = [
            (ProviderId::new("old"), Some(old)),
            (ProviderId::new("new"), Some(new)),
        ];
        let by = canonical(
            "hr:{employee_id}-{site}",
            "employee_id,site,login\n17,b,alice\n",
        );
        for (name, at) in [("bob", 0), ("carol", 1)] {
            let key = SubjectKey {
                issuer: issuers[at].clone(),
                subject: Subject::try_from(name).unwrap(),
            };
            let person = CanonicalSubject::named(&format!("hr:{name}")).unwrap();
            let claimed = links.claim(&person, &providers[at].0, &key, NOW).await;
            claimed.unwrap();
        }
        let mut costs = Vec::new();
        // In a list, linked at either side, and nobody.
        for name in ["alice", "bob", "carol", "nobody"] {
            let before = store.reads.load(Ordering::SeqCst);
            let found = links.steered(&by, name, &providers, NOW).await;
            assert_eq!(found.is_some(), name != "nobody", "{name}");
            costs.push(store.reads.load(Ordering::SeqCst) - before);
        }
        assert_eq!(costs, [4; 4]);
        // Without a store there is a bucket all the same.
        store.away.store(true, Ordering::SeqCst);
        assert_eq!(links.steered(&by, "bob", &providers, NOW).await, None);
    }
}
