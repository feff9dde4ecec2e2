//! Who somebody is across providers.

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::links;
use crate::links::LinkError;
use crate::links::Links;
use crate::links::Method;
use crate::links::Sighting;
use crate::links::settings::Canonical;
use crate::links::settings::OnMissing;
use crate::store::StoreError;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Link;

/// Finds the canonical subject of an identity, and makes sure that it is one person's.
#[derive(Clone, Debug)]
pub(crate) struct Joiner {
    canonical: Option<Arc<Canonical>>,
    links: Arc<Links>,
    metrics: Arc<Metrics>,
}

/// Why there is no canonical subject.
#[derive(Debug)]
pub(super) enum NotJoined {
    /// The name belongs to somebody else.
    Refused(Refusal),
    /// Nothing is known.
    Store(StoreError),
}

impl Joiner {
    /// `canonical: None`: nobody is joined.
    pub(crate) fn new(
        canonical: Option<Canonical>,
        links: Arc<Links>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            canonical: canonical.map(Arc::new),
            links,
            metrics,
        }
    }

    /// The row of a person's account at a provider, for those who count.
    pub(super) fn account_row(&self, person: &CanonicalSubject, provider: &ProviderId) -> [u8; 32] {
        self.links.account_row(person, provider)
    }

    /// The canonical subject. An account of which nothing is said elsewhere is somebody whom nobody else knows.
    pub(super) async fn join(
        &self,
        identity: &Identity,
        now: UnixTime,
    ) -> Result<CanonicalSubject, NotJoined> {
        let named = self
            .canonical
            .as_deref()
            .map(|canonical| links::joined(canonical, identity));
        let named = named.transpose().map_err(|refusal| {
            self.metrics.link(Method::Claim.as_str(), Link::Conflict);
            NotJoined::Refused(refusal)
        })?;
        let (provider, key) = (&identity.provider, &identity.key);
        match named.flatten() {
            Some((person, method)) => {
                self.link(&person, (provider, key), method, now).await?;
                Ok(person)
            }
            // A link outlives what made it: nobody becomes a stranger because a list or a claim falls silent.
            None if self.canonical.is_some() => {
                let known = self.links.person_of(provider, key, now).await;
                let known = known.map_err(NotJoined::Store)?;
                Ok(known.unwrap_or_else(|| CanonicalSubject::unjoined(key)))
            }
            None => Ok(CanonicalSubject::unjoined(key)),
        }
    }

    /// Makes sure that an account is this person's, and nobody else's.
    pub(super) async fn link(
        &self,
        person: &CanonicalSubject,
        (provider, key): (&ProviderId, &SubjectKey),
        method: Method,
        now: UnixTime,
    ) -> Result<(), NotJoined> {
        match self.links.claim(person, provider, key, now).await {
            Ok(Sighting::Known) => Ok(()),
            Ok(Sighting::First) => {
                self.metrics.link(method.as_str(), Link::Linked);
                Ok(())
            }
            Err(LinkError::Conflict) => {
                self.metrics.link(method.as_str(), Link::Conflict);
                Err(NotJoined::Refused(Refusal::LinkConflict))
            }
            Err(LinkError::Store(error)) => Err(NotJoined::Store(error)),
        }
    }

    /// Whether a person may link two accounts by signing in at both.
    pub(super) fn proves_both(&self) -> bool {
        let canonical = self.canonical.as_deref();
        canonical.is_some_and(|canonical| canonical.prove_both)
    }

    /// What becomes of an account of the new provider, once it is known whose it is: nothing special, unless it is joined with
    /// nobody.
    pub(super) fn on_missing(&self, identity: &Identity, person: &CanonicalSubject) -> OnMissing {
        match self.canonical.as_deref() {
            Some(canonical) if *person == CanonicalSubject::unjoined(&identity.key) => {
                canonical.on_missing
            }
            Some(_) | None => OnMissing::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::at;
    use crate::auth::fake::identity;
    use crate::clock::SystemClock;
    use crate::identity::ClaimMap;
    use crate::identity::Normalise;
    use crate::store::MemoryStore;
    use serde_json::Value;
    use serde_json::json;

    fn joiner(template: &str) -> Joiner {
        let ways = vec![
            Normalise::Trim,
            Normalise::Lowercase,
            Normalise::StripLeadingZeros,
        ];
        let canonical = Canonical::by_claims(template, ways, &["old", "new"]);
        let links = Links::new(Arc::new(MemoryStore::default()));
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        Joiner::new(Some(canonical), Arc::new(links), metrics)
    }

    fn person(provider: &str, subject: &str, employee: Value) -> Identity {
        let mut identity = identity(provider, subject);
        let mut attributes = ClaimMap::default();
        attributes.insert("employee", employee);
        identity.attributes = Arc::new(attributes);
        identity
    }

    async fn name(joiner: &Joiner, identity: &Identity) -> String {
        match joiner.join(identity, at(0)).await {
            Ok(canonical) => canonical.as_str().to_owned(),
            Err(NotJoined::Refused(refusal)) => refusal.to_string(),
            Err(NotJoined::Store(error)) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn two_accounts_with_one_number_are_one_person() {
        let joiner = joiner("hr:{employee}");
        let old = name(&joiner, &person("old", "alice", json!(" 00A42 "))).await;
        let new = name(&joiner, &person("new", "f81d", json!("a42"))).await;
        assert_eq!((old.as_str(), new.as_str()), ("hr:a42", "hr:a42"));
        assert_eq!(
            name(&joiner, &person("new", "n", json!(10_442))).await,
            "hr:10442"
        );
    }

    #[tokio::test]
    async fn who_says_nothing_usable_is_joined_with_nobody() {
        let joiner = joiner("hr:{employee}");
        for value in [
            json!(""),
            json!("  "),
            json!("0000"),
            json!(null),
            json!(true),
            json!(1.5),
            json!("n/a"),
            json!("a\nb"),
            json!(["1"]),
            json!({}),
        ] {
            let found = name(&joiner, &person("new", "x", value.clone())).await;
            assert_eq!(found, "20:https://new.idp.test:x", "{value}");
        }
        let other = person("partner", "x", json!("a42"));
        assert_eq!(name(&joiner, &other).await, "24:https://partner.idp.test:x");
    }

    #[tokio::test]
    async fn a_second_account_of_a_person_is_refused() {
        let joiner = joiner("hr:{employee}");
        assert_eq!(
            name(&joiner, &person("new", "a1", json!("1"))).await,
            "hr:1"
        );
        assert_eq!(
            name(&joiner, &person("new", "a2", json!("1"))).await,
            "link_conflict"
        );
        assert_eq!(
            name(&joiner, &person("new", "a1", json!("2"))).await,
            "link_conflict"
        );
        assert_eq!(
            name(&joiner, &person("old", "o1", json!("1"))).await,
            "hr:1"
        );
        name(&joiner, &person("old", "o1", json!("1"))).await;
        let counted = joiner.metrics.render().unwrap();
        let links = r#"authferry_subject_links_total{method="claim",outcome="#;
        assert!(
            counted.contains(&format!("{links}\"linked\"}} 2\n")),
            "{counted}"
        );
        assert!(
            counted.contains(&format!("{links}\"conflict\"}} 2\n")),
            "{counted}"
        );
    }

    #[tokio::test]
    async fn nobody_can_take_the_name_of_somebody_who_is_joined_with_nobody() {
        let joiner = joiner("{employee}");
        let alice = person("partner", "alice", json!(null));
        let hers = name(&joiner, &alice).await;
        assert_eq!(
            name(&joiner, &person("new", "mallory", json!(hers))).await,
            "link_conflict"
        );
        assert_eq!(
            name(&joiner, &person("new", "x", json!("1:2"))).await,
            "1:2"
        );
    }

    #[tokio::test]
    async fn a_name_that_reads_like_another_persons_is_refused() {
        for (template, employee) in [
            ("{employee}:{subject}", "x:y"),
            ("{employee}", &*"x".repeat(256)),
        ] {
            let found = name(&joiner(template), &person("new", "z", json!(employee))).await;
            assert_eq!(found, "link_conflict", "{template}");
        }
    }
}
