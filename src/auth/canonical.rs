//! Who somebody is across providers.

mod by_claims;

use std::sync::Arc;

use crate::auth::canonical::by_claims::ByClaims;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Identity;
use crate::identity::Issuer;
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
    /// The providers whose accounts templates write (`link.PROVIDER_subject`).
    named: Arc<[ProviderId]>,
    links: Arc<Links>,
    metrics: Arc<Metrics>,
}

/// Why there is no canonical subject.
#[derive(Debug)]
pub(super) enum NotJoined {
    /// The name belongs to somebody else.
    Refused(Refusal),
    /// Others say the same of themselves: nobody can tell whose it is.
    Contested,
    /// Nothing is known.
    Store(StoreError),
}

/// Why an account is nobody's, and whom it would have been, where that is known.
type Denied = (NotJoined, Option<CanonicalSubject>);

impl Joiner {
    /// `canonical: None`: nobody is joined. `named`: the providers whose accounts templates write.
    pub(crate) fn new(
        canonical: Option<Canonical>,
        named: Vec<ProviderId>,
        links: Arc<Links>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            canonical: canonical.map(Arc::new),
            named: named.into(),
            links,
            metrics,
        }
    }

    /// The row of a person's account at a provider, for those who count.
    pub(super) fn account_row(&self, person: &CanonicalSubject, provider: &ProviderId) -> [u8; 32] {
        self.links.account_row(person, provider)
    }

    /// What the providers that templates name call somebody.
    pub(super) async fn accounts_of(
        &self,
        identity: &Identity,
        person: &CanonicalSubject,
        now: UnixTime,
    ) -> Result<Option<Arc<ClaimMap>>, StoreError> {
        let accounts = self.links.accounts_of(&self.named, identity, person, now);
        accounts.await
    }

    /// The canonical subject. An account of which nothing is said elsewhere is somebody whom nobody else knows.
    pub(super) async fn join(
        &self,
        identity: &Identity,
        now: UnixTime,
    ) -> Result<CanonicalSubject, NotJoined> {
        let account = (&identity.provider, &identity.key);
        let (why, whom) = match self.found(identity, now).await {
            Ok(person) => return Ok(person),
            Err((why @ NotJoined::Store(_), _)) => return Err(why),
            Err(denied) => denied,
        };
        // What an operator has decided stands above what is said.
        let decided = self.links.decided(account.0, account.1, now).await;
        if let Some(person) = decided.map_err(NotJoined::Store)? {
            return Ok(person);
        }
        let whom = whom.unwrap_or_else(|| CanonicalSubject::unjoined(account.1));
        self.links.in_conflict(&whom, account, now).await;
        Err(why)
    }

    /// The same, for what outlives the request: what this instance remembers of links may have been decided otherwise at
    /// another one, and whoever decides ends only what is there by then.
    pub(super) async fn join_anew(
        &self,
        identity: &Identity,
        now: UnixTime,
    ) -> Result<CanonicalSubject, NotJoined> {
        let account = (&identity.provider, &identity.key);
        for _ in 0..2 {
            let person = self.join(identity, now).await?;
            let still = self.is_still(&person, account, now).await;
            if still.map_err(NotJoined::Store)? {
                return Ok(person);
            }
            self.links.forget_what_is_kept();
        }
        self.metrics.link(Method::Claim.as_str(), Link::Conflict);
        Err(NotJoined::Refused(Refusal::LinkConflict))
    }

    /// Whether an account is this person's, as the store says it now.
    pub(super) async fn is_still(
        &self,
        person: &CanonicalSubject,
        (provider, key): (&ProviderId, &SubjectKey),
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        if self.canonical.is_none() {
            return Ok(*person == CanonicalSubject::unjoined(key));
        }
        let linked = self.links.person_there(provider, key, now).await?;
        let whose = linked.unwrap_or_else(|| CanonicalSubject::unjoined(key));
        Ok(whose == *person)
    }

    /// As [`Self::join`], without an operator; with an error whom the account would have been, where that is known.
    async fn found(&self, identity: &Identity, now: UnixTime) -> Result<CanonicalSubject, Denied> {
        let Some(canonical) = self.canonical.as_deref() else {
            return Ok(CanonicalSubject::unjoined(&identity.key));
        };
        let (provider, key) = (&identity.provider, &identity.key);
        let away = |error| -> Denied { (NotJoined::Store(error), None) };
        let named = links::joined(canonical, identity).map_err(|refusal| -> Denied {
            self.metrics.link(Method::Claim.as_str(), Link::Conflict);
            (NotJoined::Refused(refusal), None)
        })?;
        let own = match &named {
            Some((person, method)) => {
                let linked = self.claims(person, (provider, key), *method, now).await;
                linked.map(|()| Some(person.clone()))
            }
            // A link outlives what made it: nobody becomes a stranger because a list or a claim falls silent.
            None => {
                let known = self.links.person_of(provider, key, now).await;
                known.map_err(NotJoined::Store)
            }
        };
        let person = match &own {
            Ok(person) => person.as_ref(),
            // What was seen of it counts against whoever else says so.
            Err(NotJoined::Refused(_) | NotJoined::Contested) => None,
            Err(NotJoined::Store(_)) => {
                let unknown = own.map(|_| CanonicalSubject::unjoined(key));
                return unknown.map_err(|why| (why, None));
            }
        };
        let claims = self.by_claims(canonical, identity, person, now).await;
        let claims = claims.map_err(away)?;
        let (whom, method) = named.unzip();
        let conflict = |whom: Option<CanonicalSubject>| {
            self.metrics.link(Method::Claim.as_str(), Link::Conflict);
            Err((NotJoined::Contested, whom))
        };
        let own = own.map_err(|why| -> Denied { (why, whom.clone()) })?;
        match (own, method) {
            // What makes a name says it of this account alone; that nobody else has it must be seen.
            (Some(_), Some(Method::Claim)) if claims.at_new.id => conflict(whom),
            // What a list says, and what has been linked before, stands.
            (Some(person), _) => Ok(person),
            (None, _) if claims.at_new.id => conflict(None),
            (None, _) => {
                let contested = claims.at_new.address;
                match claims.partner() {
                    Some(person) => {
                        let account = (provider, key);
                        let linked = self.claims(&person, account, Method::Claim, now).await;
                        match linked {
                            Ok(()) => Ok(person),
                            Err(why) => Err((why, Some(person))),
                        }
                    }
                    None if contested => conflict(None),
                    None => Ok(CanonicalSubject::unjoined(key)),
                }
            }
        }
    }

    /// Whom the rules of `identity.links[].claim` say it is, one after the other. `person`: whose it is already.
    async fn by_claims(
        &self,
        canonical: &Canonical,
        identity: &Identity,
        person: Option<&CanonicalSubject>,
        now: UnixTime,
    ) -> Result<ByClaims, StoreError> {
        let mut found = ByClaims::default();
        for rule in &canonical.claims {
            let Some((place, value)) = rule.said_of(identity) else {
                continue;
            };
            let account = (&identity.provider, &identity.key);
            let sight = self
                .links
                .sight(rule, (place, &value), account, person, now);
            found.hears(place, sight.await?, rule.is_address());
        }
        Ok(found)
    }

    /// Makes sure that an account is this person's, and nobody else's.
    pub(super) async fn link(
        &self,
        person: &CanonicalSubject,
        account: (&ProviderId, &SubjectKey),
        method: Method,
        now: UnixTime,
    ) -> Result<(), NotJoined> {
        let linked = self.claims(person, account, method, now).await;
        if let Err(NotJoined::Refused(_) | NotJoined::Contested) = &linked {
            self.links.in_conflict(person, account, now).await;
        }
        linked
    }

    async fn claims(
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

    /// Forgets a person.
    #[cfg(test)]
    pub(super) async fn forget_for_test(
        &self,
        person: &CanonicalSubject,
        providers: &[ProviderId],
        now: UnixTime,
    ) -> usize {
        let gone = self.links.forget(person, providers, now);
        gone.await.unwrap()
    }

    /// Takes back that an account is somebody's.
    pub(super) async fn unlink(
        &self,
        person: &CanonicalSubject,
        account: (&ProviderId, &SubjectKey),
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.links.unlink(person, account, now).await
    }

    /// Whose an account is, as far as its description or an earlier link says; `Err`: nobody's alone.
    pub(super) async fn described(
        &self,
        account: &Identity,
        now: UnixTime,
    ) -> Result<Option<CanonicalSubject>, NotJoined> {
        let canonical = self.canonical.as_deref();
        let named = canonical.map(|canonical| links::joined(canonical, account));
        match named.transpose().map_err(NotJoined::Refused)?.flatten() {
            Some((person, _)) => Ok(Some(person)),
            None => {
                let known = self.links.person_of(&account.provider, &account.key, now);
                known.await.map_err(NotJoined::Store)
            }
        }
    }

    /// Whether an account may become a person's: it is nobody else's, and they have no other one.
    pub(super) async fn may_be(
        &self,
        person: &CanonicalSubject,
        (provider, key): (&ProviderId, &SubjectKey),
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let changes = self.links.would_change(person, provider, key, now).await?;
        Ok(changes.displaced.is_none() && changes.taken_from.is_none())
    }

    /// Whether a person is known to have an account at a provider.
    pub(super) async fn has_account(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let row = self.links.account_row(person, provider);
        self.links.has_account(&row, now).await
    }

    /// Whether people are joined, and nothing is known of an account of this person at a provider.
    pub(super) async fn is_unknown_at(
        &self,
        person: &CanonicalSubject,
        provider: &ProviderId,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        Ok(self.canonical.is_some() && !self.has_account(person, provider, now).await?)
    }

    /// Whom a bucket speaks about where somebody says who they are and nobody has vouched for it.
    pub(super) async fn steered(
        &self,
        typed: &str,
        providers: &[(ProviderId, Option<Issuer>)],
        now: UnixTime,
    ) -> Option<CanonicalSubject> {
        let canonical = self.canonical.as_deref()?;
        self.links.steered(canonical, typed, providers, now).await
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
    use crate::identity::Normalise;
    use crate::store::FakeStore;
    use crate::store::MemoryStore;
    use crate::store::Store as _;
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
        Joiner::new(Some(canonical), Vec::new(), Arc::new(links), metrics)
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
            Err(NotJoined::Contested) => Refusal::LinkConflict.to_string(),
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

    /// An instance over a store that others share. Only `old` says who its people are; `mail` and `guid` link.
    fn instance(store: &Arc<FakeStore>) -> Joiner {
        let canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["old"]);
        let domains = vec!["corp.example".into()];
        let canonical = canonical
            .and_by("guid", None)
            .and_by("email", Some(domains));
        let store: Arc<FakeStore> = Arc::clone(store);
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        Joiner::new(
            Some(canonical),
            Vec::new(),
            Arc::new(Links::new(store)),
            metrics,
        )
    }

    fn says(provider: &str, subject: &str, attributes: Value) -> Identity {
        let mut identity = identity(provider, subject);
        let Value::Object(attributes) = attributes else {
            panic!("attributes are an object")
        };
        identity.attributes = Arc::new(ClaimMap::new(attributes));
        identity
    }

    fn with_mail(provider: &str, subject: &str, employee: &Value) -> Identity {
        let mail = "zoe@corp.example";
        let said = json!({ "employee": employee, "email": mail, "email_verified": true });
        says(provider, subject, said)
    }

    #[tokio::test]
    async fn a_claim_links_one_account_of_each_side_and_a_later_one_is_a_conflict() {
        let store = Arc::new(FakeStore::default());
        let old = with_mail("old", "zoe", &json!("7"));
        let new = with_mail("new", "n-1", &json!(null));
        assert_eq!(name(&instance(&store), &old).await, "hr:7");
        assert_eq!(name(&instance(&store), &new).await, "hr:7");
        // Every instance and every later start knows it; the link outlives the address.
        for silent in [new.clone(), says("new", "n-1", json!({}))] {
            assert_eq!(name(&instance(&store), &silent).await, "hr:7");
        }
        let second = with_mail("new", "n-2", &json!(null));
        assert_eq!(name(&instance(&store), &second).await, "link_conflict");
        let another = with_mail("old", "jane", &json!("8"));
        assert_eq!(
            name(&instance(&store), &another).await,
            "hr:8",
            "by her own name"
        );
        assert_eq!(name(&instance(&store), &old).await, "hr:7");
        assert_eq!(name(&instance(&store), &new).await, "hr:7");
    }

    #[tokio::test]
    async fn who_comes_first_at_the_new_side_is_linked_once_the_partner_is_seen() {
        let store = Arc::new(FakeStore::default());
        let new = with_mail("new", "n-1", &json!(null));
        let alone = name(&instance(&store), &new).await;
        assert_eq!(alone, "20:https://new.idp.test:n-1");
        name(&instance(&store), &with_mail("old", "zoe", &json!("7"))).await;
        assert_eq!(name(&instance(&store), &new).await, "hr:7");
    }

    #[tokio::test]
    async fn a_contested_claim_stops_the_new_side_and_nobody_at_the_old_one() {
        let store = Arc::new(FakeStore::default());
        let new = |subject| says("new", subject, json!({ "guid": "G-1" }));
        let old = |subject, employee: &str| {
            says(
                "old",
                subject,
                json!({ "employee": employee, "guid": "g-1" }),
            )
        };
        name(&instance(&store), &new("a")).await;
        assert_eq!(name(&instance(&store), &new("b")).await, "link_conflict");
        assert_eq!(name(&instance(&store), &old("zoe", "7")).await, "hr:7");
        for subject in ["a", "b"] {
            assert_eq!(
                name(&instance(&store), &new(subject)).await,
                "link_conflict"
            );
        }
        // Two at the old side: both go on as who they are, and nobody at the new one is either.
        let store = Arc::new(FakeStore::default());
        assert_eq!(name(&instance(&store), &old("zoe", "7")).await, "hr:7");
        assert_eq!(name(&instance(&store), &old("jane", "8")).await, "hr:8");
        assert_eq!(name(&instance(&store), &old("zoe", "7")).await, "hr:7");
        assert_eq!(name(&instance(&store), &new("a")).await, "link_conflict");
    }

    #[tokio::test]
    async fn a_name_that_two_accounts_claim_is_certain_for_neither_until_one_was_linked() {
        let by_both = |store: &Arc<FakeStore>| {
            let canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["old", "new"]);
            let links = Links::new(Arc::clone(store) as _);
            let metrics = Metrics::new(Arc::new(SystemClock), 100);
            Joiner::new(
                Some(canonical.and_by("employee", None)),
                Vec::new(),
                Arc::new(links),
                metrics,
            )
        };
        let ask = async |store: &Arc<FakeStore>, provider, subject| {
            name(&by_both(store), &person(provider, subject, json!("7"))).await
        };
        let store = Arc::new(FakeStore::default());
        assert_eq!(ask(&store, "new", "a").await, "hr:7");
        assert_eq!(ask(&store, "new", "b").await, "link_conflict");
        assert_eq!(ask(&store, "old", "zoe").await, "hr:7");
        assert_eq!(ask(&store, "new", "a").await, "link_conflict");
        let store = Arc::new(FakeStore::default());
        assert_eq!(ask(&store, "old", "zoe").await, "hr:7");
        assert_eq!(ask(&store, "new", "a").await, "hr:7");
        assert_eq!(ask(&store, "new", "b").await, "link_conflict");
        assert_eq!(
            ask(&store, "new", "a").await,
            "hr:7",
            "the first link stands"
        );
    }

    #[tokio::test]
    async fn of_many_first_logins_at_several_instances_at_most_one_is_somebody() {
        for round in 0..20 {
            let store = Arc::new(FakeStore::default());
            let mut people = vec![with_mail("old", "zoe", &json!("7"))];
            people.extend((0..6).map(|n| with_mail("new", &format!("n-{n}"), &json!(null))));
            people.rotate_left(round % 7);
            let tasks = people.iter().cloned().map(|one| {
                let joiner = instance(&store);
                tokio::spawn(async move { (one.clone(), name(&joiner, &one).await) })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
            let mut hers = Vec::new();
            for one in &people {
                match name(&instance(&store), one).await.as_str() {
                    "hr:7" => hers.push(one.provider.as_str()),
                    "link_conflict" => {}
                    other => panic!("{other}"),
                }
            }
            hers.sort_unstable();
            assert!(matches!(hers[..], ["old"] | ["new", "old"]), "{hers:?}");
        }
    }

    #[tokio::test]
    async fn without_a_store_nobody_is_linked_and_nobody_is_a_stranger() {
        let store = Arc::new(FakeStore::default());
        let new = with_mail("new", "n-1", &json!(null));
        name(&instance(&store), &with_mail("old", "zoe", &json!("7"))).await;
        store.away.store(true, std::sync::atomic::Ordering::SeqCst);
        let found = instance(&store).join(&new, at(0)).await;
        assert!(matches!(found, Err(NotJoined::Store(_))), "{found:?}");
    }

    #[tokio::test]
    async fn who_is_forgotten_leaves_nothing_that_was_seen_of_them() {
        let store = Arc::new(FakeStore::default());
        let joiner = instance(&store);
        name(&joiner, &with_mail("old", "zoe", &json!("7"))).await;
        name(&joiner, &with_mail("new", "n-1", &json!(null))).await;
        let zoe = CanonicalSubject::named("hr:7").unwrap();
        let providers = ["old", "new"].map(ProviderId::new);
        joiner.links.forget(&zoe, &providers, at(0)).await.unwrap();
        for table in ["link", "link_person", "link_claim"] {
            let rows = store.scan(table, b"", 9, at(0)).await.unwrap();
            assert!(rows.is_empty(), "{table}");
        }
        let found = name(&joiner, &with_mail("new", "n-2", &json!(null))).await;
        assert_eq!(found, "20:https://new.idp.test:n-2");
    }

    /// As [`instance`], but `new` says who its people are, and `old` says a number and a badge that people have there.
    fn numbered(store: &Arc<FakeStore>) -> Joiner {
        let canonical = Canonical::by_claims("hr:{employee}", Vec::new(), &["new"]);
        let domains = || Some(vec!["corp.example".into()]);
        let canonical = canonical.and_by("guid", None).and_by("badge", None);
        let canonical = canonical
            .and_by("email", domains())
            .and_by("mail", domains());
        let store: Arc<FakeStore> = Arc::clone(store);
        let links = Arc::new(Links::new(store));
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        Joiner::new(Some(canonical), Vec::new(), links, metrics)
    }

    #[tokio::test]
    async fn an_old_account_that_names_two_people_or_somebody_uncertain_goes_on_as_itself() {
        let new = |subject, employee: &str, said: Value| {
            let mut claims = json!({ "employee": employee, "email_verified": true });
            for (name, value) in said.as_object().unwrap() {
                claims[name] = value.clone();
            }
            says("new", subject, claims)
        };
        for (first, second, said, expected) in [
            // Two identifiers, of two people.
            (
                json!({ "guid": "g-1" }),
                json!({ "badge": "b-1" }),
                json!({ "guid": "g-1", "badge": "b-1" }),
                None,
            ),
            // One that is nobody's alone.
            (
                json!({ "guid": "g-1", "badge": "b-1" }),
                json!({ "badge": "b-1" }),
                json!({ "guid": "g-1", "badge": "b-1" }),
                None,
            ),
            // Two addresses, of two people.
            (
                json!({ "email": "a@corp.example" }),
                json!({ "mail": "b@corp.example" }),
                json!({ "email": "a@corp.example", "mail": "b@corp.example" }),
                None,
            ),
            // An address is weaker than an identifier.
            (
                json!({ "guid": "g-1" }),
                json!({ "email": "b@corp.example" }),
                json!({ "guid": "g-1", "email": "b@corp.example" }),
                Some("hr:7"),
            ),
        ] {
            let store = Arc::new(FakeStore::default());
            assert_eq!(
                name(&numbered(&store), &new("n-1", "7", first)).await,
                "hr:7"
            );
            // In conflict with her where they say the same.
            let theirs = name(&numbered(&store), &new("n-2", "8", second)).await;
            assert!(["hr:8", "link_conflict"].contains(&theirs.as_str()));
            let mut verified = said.clone();
            verified["email_verified"] = json!(true);
            let old = says("old", "zoe", verified);
            let alone = CanonicalSubject::unjoined(&old.key);
            let expected = expected.unwrap_or(alone.as_str());
            for _ in 0..2 {
                assert_eq!(name(&numbered(&store), &old).await, expected, "{said}");
            }
            // Nobody else becomes whom it is not.
            for (subject, number, person) in [("n-1", "7", "hr:7"), ("n-2", "8", "hr:8")] {
                let again = new(subject, number, json!({}));
                assert_eq!(name(&numbered(&store), &again).await, person);
            }
        }
    }

    async fn decides(joiner: &Joiner, person: &str, account: &Identity) {
        let person = CanonicalSubject::named(person).unwrap();
        let (links, now) = (&joiner.links, at(0));
        let (provider, key) = (&account.provider, &account.key);
        let changes = links.would_change(&person, provider, key, now).await;
        let changes = (&changes.unwrap(), now);
        let decided = links.decide(&person, provider, key, changes);
        decided.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_seen_of_an_account_names_nobody_once_it_is_somebody_elses() {
        let old = |subject, employee: &str, guid: &str| {
            says(
                "old",
                subject,
                json!({ "employee": employee, "guid": guid }),
            )
        };
        let new = |subject, guid: &str| says("new", subject, json!({ "guid": guid }));
        // The account that was hers is given to him, and has not been seen since.
        let store = Arc::new(FakeStore::default());
        let (zoe, max) = (old("zoe", "7", "g-7"), old("max", "8", "g-8"));
        assert_eq!(name(&instance(&store), &zoe).await, "hr:7");
        assert_eq!(name(&instance(&store), &max).await, "hr:8");
        decides(&instance(&store), "hr:8", &zoe).await;
        for _ in 0..2 {
            let found = name(&instance(&store), &new("n-1", "g-7")).await;
            assert_eq!(found, "link_conflict");
        }
        assert_eq!(name(&instance(&store), &zoe).await, "hr:8");
        let found = name(&instance(&store), &new("n-1", "g-7")).await;
        assert_eq!(
            found, "link_conflict",
            "its own claim still says that it is hers"
        );
        // The other way round: the one at the new side.
        let store = Arc::new(FakeStore::default());
        assert_eq!(name(&instance(&store), &zoe).await, "hr:7");
        assert_eq!(name(&instance(&store), &new("n-1", "g-7")).await, "hr:7");
        assert_eq!(name(&instance(&store), &max).await, "hr:8");
        decides(&instance(&store), "hr:8", &new("n-1", "g-7")).await;
        assert_eq!(name(&instance(&store), &new("n-1", "g-7")).await, "hr:8");
        assert_eq!(
            name(&instance(&store), &new("n-2", "g-7")).await,
            "link_conflict"
        );
    }

    #[tokio::test]
    async fn what_outlives_a_request_is_nobodys_by_what_an_instance_remembers() {
        let store = Arc::new(FakeStore::default());
        let (here, elsewhere) = (instance(&store), instance(&store));
        let claims =
            |subject, employee: &str| says("old", subject, json!({ "employee": employee }));
        let (zoe, max) = (claims("zoe", "7"), claims("max", "8"));
        assert_eq!(name(&here, &zoe).await, "hr:7");
        assert_eq!(name(&here, &max).await, "hr:8");
        // Nobody has told this instance yet.
        decides(&elsewhere, "hr:8", &zoe).await;
        assert_eq!(name(&here, &zoe).await, "hr:7", "for this request");
        let anew = here.join_anew(&zoe, at(0)).await.unwrap();
        assert_eq!(anew.as_str(), "hr:8");
        let displaced = here.join_anew(&max, at(0)).await;
        assert!(
            matches!(displaced, Err(NotJoined::Refused(_))),
            "{displaced:?}"
        );
    }
}
