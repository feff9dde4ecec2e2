//! A second opinion: who is asked for it, when, and what is kept of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::Account;
use crate::providers::Authenticated;
use crate::providers::Directory;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Known;
use crate::providers::Newcomer;
use crate::providers::Owns;
use crate::providers::Passwords;
use crate::providers::Provider;
use crate::providers::Provisioning;
use crate::providers::Shut;
use crate::rollout::Bucket;
use crate::rollout::BucketKey;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::Plan;
use crate::rollout::UnitKind;
use crate::rollout::testing::plan;
use crate::secret::Secret;
use crate::shadow::compare::Name;
use crate::shadow::desk::Offer;
use crate::shadow::kind::Class;
use crate::shadow::kind::Field;
use crate::shadow::settings::Breaker;
use crate::shadow::settings::Ignore;
use crate::shadow::settings::Lookup;
use crate::shadow::settings::Sweep;
use crate::shadow::settings::Trips;
use crate::shadow::sweep::Progress;
use crate::shadow::sweep::Swept;
use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;

const NOW: UnixTime = UnixTime::from_secs(1_000_000);

fn identity(provider: &str, subject: &str, groups: &[&str]) -> Arc<Identity> {
    let mut attributes = ClaimMap::default();
    attributes.insert("groups", groups.to_vec().into());
    Arc::new(Identity {
        provider: ProviderId::new(provider),
        key: SubjectKey {
            issuer: Issuer::new("https://issuer.example"),
            subject: Subject::try_from(subject).unwrap(),
        },
        attributes: Arc::new(attributes),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: crate::identity::Delegation::default(),
    })
}

/// A directory that says what the password tells it to, and when it is let.
#[derive(Debug)]
struct Other {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
    gate: Arc<Semaphore>,
    asked: AtomicU32,
}

#[async_trait::async_trait]
impl Provider for Other {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        _now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Ok(_leave) = self.gate.acquire().await else {
            return Err(Outage::Timeout.into());
        };
        let Credential::Basic { username, password } = credential else {
            panic!("only passwords are sent on");
        };
        match password.expose().as_str() {
            "unknown" => Err(Refusal::BadCredentials.into()),
            "down" => Err(Outage::Connect.into()),
            "bug" => panic!("the other side has a bug"),
            groups => {
                let groups: Vec<&str> = groups.split(',').collect();
                let who = identity("other", username, &groups);
                Ok(Authenticated::for_test(
                    (*who).clone(),
                    NOW + Duration::from_secs(60),
                ))
            }
        }
    }

    fn health(&self) -> Health {
        Health::of_calls(None)
    }
}

/// The subject is the name, and the groups stand as they are.
#[derive(Debug)]
struct Plain;

impl Reader for Plain {
    fn read(&self, _: &AppId, identity: &Arc<Identity>, known: Option<&CanonicalSubject>) -> Side {
        let own = CanonicalSubject::named(identity.key.subject.as_str()).unwrap();
        let groups = identity.attributes.list("groups").unwrap();
        Side {
            name: Name::Person(known.cloned().unwrap_or(own)),
            groups: groups.into_iter().map(Into::into).collect(),
            scopes: BTreeSet::new(),
            headers: Vec::new(),
            assurance: identity.acr.clone(),
            lifetime: None,
        }
    }
}

struct Bench {
    shadow: Shadow,
    desk: Desk,
    other: Arc<Other>,
    plan: Plan,
    metrics: Arc<Metrics>,
    clock: ManualClock,
}

/// Places of people who wait.
const QUEUE: usize = 50;

fn key() -> BucketKey {
    BucketKey::new(Secret::new(vec![7; 32]))
}

fn settings() -> Settings {
    Settings {
        app: AppId::new("crm"),
        decides: ProviderId::new("legacy"),
        sample: Percent::ALL,
        noise: Percent::NONE,
        compare: Field::ALL.into_iter().collect(),
        per_subject: Duration::from_secs(3_600),
        rps: 1_000,
        inflight: 4,
        queue: QUEUE,
        timeout: Duration::from_secs(60),
        breaker: Breaker {
            trips: Trips::InARow(2),
            open_for: Duration::from_secs(60),
        },
        dual_verify: vec![(CredentialClass::Basic, ProviderId::new("other"))],
        exchange: Vec::new(),
        dual_token: None,
        directory: Vec::new(),
        back: Vec::new(),
        sweep: None,
        upstream_status: false,
        ignore: Vec::new(),
    }
}

impl Bench {
    fn new(settings: &Settings, permits: usize) -> Self {
        Self::with(settings, permits, Handle::current())
    }

    /// With what requests ask providers on.
    fn with(settings: &Settings, permits: usize, background: Handle) -> Self {
        let clock = ManualClock::at(NOW);
        let metrics = Metrics::new(Arc::new(clock.clone()), MAX_SERIES_PER_FAMILY);
        let pseudonyms = Pseudonyms::new(&Secret::new(vec![1; 32]));
        let parts = ShadowParts {
            clock: Arc::new(clock.clone()),
            metrics: Arc::clone(&metrics),
            pseudonyms: pseudonyms.clone(),
            found: Arc::new(Found::new(pseudonyms)),
            background,
        };
        let other = Arc::new(Other {
            id: ProviderId::new("other"),
            owns: Owns::default(),
            epoch: Epoch::default(),
            gate: Arc::new(Semaphore::new(permits)),
            asked: AtomicU32::new(0),
        });
        let providers = Providers::new([Arc::clone(&other) as Arc<dyn Provider>]);
        let (shadow, work) = Shadow::new(parts);
        tokio::spawn(work);
        let reader: Arc<dyn Reader> = Arc::new(Plain);
        let desk = shadow.desk(
            (std::slice::from_ref(settings), &key()),
            &providers,
            &reader,
        );
        Self {
            shadow,
            desk,
            other,
            plan: plan(Mode::Shadow, Vec::new()),
            metrics,
            clock,
        }
    }

    /// Somebody of the old provider comes with a password, which is what the other side will say.
    fn comes(&self, who: &str, says: &str) {
        let name = CanonicalSubject::named(who).unwrap();
        let credential = Credential::Basic {
            username: who.into(),
            password: Secret::new(says.to_owned()),
        };
        let offer = Offer {
            plan: &self.plan,
            app: &AppId::new("crm"),
            credential: &credential,
            identity: &identity("legacy", who, &["it"]),
            canonical: &name,
            candidate: None,
            bound: false,
            ends: UnixTime::NEVER,
            took: Duration::ZERO,
            now: self.clock.now(),
        };
        self.desk.offer(&offer);
    }

    fn kept(&self) -> Vec<crate::shadow::Kept> {
        let all = self.shadow.found().all(NOW).into_iter();
        all.map(|(_, kept)| kept).collect()
    }

    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    fn result(&self, result: &str) -> u64 {
        self.count(&format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"dual_verify\",result=\"{result}\"}}"
        ))
    }

    fn skipped(&self, reason: &str) -> u64 {
        self.count(&format!(
            "authferry_shadow_skipped_total{{app=\"crm\",reason=\"{reason}\"}}"
        ))
    }

    fn swept(&self, result: &str) -> u64 {
        self.count(&format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"sweep\",result=\"{result}\"}}"
        ))
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        let all = async {
            while !done(self) {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(20);
        let waited = tokio::time::timeout(patience, all).await;
        assert!(waited.is_ok(), "{}", self.metrics.render().unwrap());
    }
}

#[tokio::test]
async fn differences_are_counted_and_kept_without_a_name() {
    let bench = Bench::new(&settings(), 100);
    bench.comes("uid:ann", "it");
    bench.comes("uid:bob", "it,boss");
    bench.comes("uid:cid", "unknown");
    bench
        .until(|bench| bench.result("same") == 1 && bench.result("different") == 2)
        .await;
    let kept = bench.kept();
    let mut classes: Vec<_> = kept.iter().map(|one| one.class.as_str()).collect();
    classes.sort_unstable();
    assert_eq!(classes, ["accept_reject", "groups_extra"]);
    let extra = kept
        .iter()
        .find(|one| one.class == Class::GroupsExtra)
        .unwrap();
    assert_eq!(extra.values, [Box::<str>::from("boss")]);
    assert_ne!(extra.control, extra.candidate);
    let told = format!("{kept:?}");
    assert!(!told.contains("bob") && !told.contains("cid"), "{told}");
    assert_eq!(bench.shadow.found().people(&AppId::new("crm")), 3);
    let critical = "authferry_shadow_divergences_total{app=\"crm\",class=\"groups_extra\",severity=\"critical\"}";
    assert_eq!(bench.count(critical), 1);
}

#[tokio::test]
async fn nobody_is_asked_about_twice_and_nobody_waits() {
    let bench = Bench::new(&settings(), 0);
    bench.comes("uid:ann", "it");
    bench
        .until(|bench| bench.other.asked.load(Ordering::SeqCst) == 1)
        .await;
    bench.comes("uid:ann", "it");
    bench.until(|bench| bench.skipped("per_subject") == 1).await;
    // Four may be under way; the others are let go at once, however long the other side takes.
    for n in 0..6 {
        bench.comes(&format!("uid:{n}"), "it");
    }
    bench
        .until(|bench| {
            bench.skipped("budget") == 3 && bench.other.asked.load(Ordering::SeqCst) == 4
        })
        .await;
    bench.other.gate.add_permits(100);
    bench.until(|bench| bench.result("same") == 4).await;
    bench.clock.advance(Duration::from_secs(3_601));
    bench.comes("uid:ann", "it");
    bench.until(|bench| bench.result("same") == 5).await;
}

#[tokio::test]
async fn what_nobody_asks_about_is_counted_as_such() {
    let mut bench = Bench::new(&settings(), 100);
    let name = CanonicalSubject::named("uid:ann").unwrap();
    let (who, moved) = (
        identity("legacy", "uid:ann", &[]),
        identity("modern", "uid:ann", &[]),
    );
    let token = Credential::Bearer(Secret::new("x".to_owned()));
    let basic = Credential::Basic {
        username: "uid:ann".into(),
        password: Secret::new("it".to_owned()),
    };
    let offer = |bench: &Bench, credential, identity, bound| {
        let offer = Offer {
            plan: &bench.plan,
            app: &AppId::new("crm"),
            credential,
            identity,
            canonical: &name,
            candidate: None,
            bound,
            ends: UnixTime::NEVER,
            took: Duration::ZERO,
            now: NOW,
        };
        bench.desk.offer(&offer);
    };
    offer(&bench, &token, &who, false);
    assert_eq!(bench.skipped("no_oracle"), 1);
    offer(&bench, &basic, &who, true);
    assert_eq!(bench.skipped("single_use"), 1);
    // Neither what the new side has vouched for, nor anybody in a mode that does not compare.
    offer(&bench, &basic, &moved, false);
    bench.plan = plan(Mode::LegacyOnly, Vec::new());
    offer(&bench, &basic, &who, false);
    tokio::task::yield_now().await;
    assert_eq!(bench.shadow.depth(), 0);
    // As many as there is room for wait; nothing has run since.
    bench.plan = plan(Mode::Shadow, Vec::new());
    for n in 0..QUEUE + 3 {
        bench.comes(&format!("uid:{n}"), "it");
    }
    assert_eq!(
        (bench.skipped("queue_full"), bench.shadow.depth()),
        (3, QUEUE)
    );
    bench.clock.advance(Duration::from_secs(6));
    bench
        .until(|bench| bench.skipped("stale") == QUEUE as u64)
        .await;
    assert_eq!(bench.other.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_side_in_trouble_is_left_alone() {
    let bench = Bench::new(&settings(), 100);
    bench.comes("uid:1", "down");
    bench.comes("uid:2", "down");
    bench.until(|bench| bench.result("unavailable") == 2).await;
    bench.comes("uid:3", "it");
    bench.until(|bench| bench.skipped("breaker") == 1).await;
    bench.clock.advance(Duration::from_secs(61));
    bench.comes("uid:3", "it");
    bench.until(|bench| bench.result("same") == 1).await;
    assert!(bench.kept().is_empty(), "an outage is no opinion");
}

#[tokio::test]
async fn a_second_opinion_that_panics_is_nobodys_trouble() {
    let mut settings = settings();
    settings.inflight = 1;
    let bench = Bench::new(&settings, 100);
    for n in 1..=3 {
        bench.comes(&format!("uid:{n}"), "bug");
        bench
            .until(|bench| bench.other.asked.load(Ordering::SeqCst) == n)
            .await;
    }
    // The one place is free again, and whoever comes next is looked at.
    bench.comes("uid:ann", "it");
    bench.until(|bench| bench.result("same") == 1).await;
}

#[tokio::test]
async fn known_differences_do_not_count_until_their_day() {
    let mut block = settings();
    block.per_subject = Duration::ZERO;
    block.ignore = vec![Ignore {
        class: Class::GroupsExtra,
        values: vec!["boss".into()],
        until: NOW + Duration::from_secs(60),
    }];
    let bench = Bench::new(&block, 100);
    bench.comes("uid:1", "it,boss");
    bench.until(|bench| bench.result("ignored") == 1).await;
    bench.comes("uid:2", "it,boss,chief");
    bench.until(|bench| bench.result("different") == 1).await;
    assert_eq!(bench.kept()[0].values, [Box::<str>::from("chief")]);
    bench.clock.advance(Duration::from_secs(60));
    bench.comes("uid:1", "it,boss");
    bench.until(|bench| bench.result("different") == 2).await;
}

/// A directory: who is in it, by subject; `None`: it does not answer.
#[derive(Debug)]
struct Listed {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
    people: Option<Vec<(&'static str, &'static str, bool)>>,
    /// Whether it can be listed, whatever becomes of its people.
    listed: Vec<&'static str>,
}

impl Listed {
    fn new(id: &str, people: &[(&'static str, &'static str, bool)]) -> Self {
        Self {
            id: ProviderId::new(id),
            owns: Owns::default(),
            epoch: Epoch::default(),
            listed: people.iter().map(|(name, ..)| *name).collect(),
            people: Some(people.to_vec()),
        }
    }
}

#[async_trait::async_trait]
impl Directory for Listed {
    async fn find(&self, value: &str, _now: UnixTime) -> Result<Known, ProviderError> {
        let people = self.people.as_ref().ok_or(Outage::Connect)?;
        let found: Vec<_> = people.iter().filter(|(name, ..)| *name == value).collect();
        Ok(match found.as_slice() {
            [] => Known::Nobody,
            [(name, groups, enabled)] => {
                let groups: Vec<&str> = groups.split(',').collect();
                Known::Person {
                    identity: identity(self.id.as_str(), name, &groups),
                    enabled: *enabled,
                }
            }
            _ => Known::Several,
        })
    }

    async fn everybody(&self, most: usize, _now: UnixTime) -> Result<Vec<Box<str>>, ProviderError> {
        Ok(self
            .listed
            .iter()
            .take(most)
            .map(|name| (*name).into())
            .collect())
    }

    async fn shut(&self, _most: usize, _now: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Provider for Listed {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        _credential: &Credential,
        _now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        panic!("nothing is presented to a directory")
    }

    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn health(&self) -> Health {
        Health::of_calls(None)
    }
}

fn sweeping() -> Settings {
    Settings {
        sweep: Some(Sweep {
            of: ProviderId::new("old"),
            inventory: None,
            provider: ProviderId::new("new"),
            every: Duration::from_secs(86_400),
        }),
        ..settings()
    }
}

async fn sweep(bench: &Bench, old: Listed, new: Listed, go_on: bool) -> Swept {
    let both: [Arc<dyn Provider>; 2] = [Arc::new(old), Arc::new(new)];
    let reader: Arc<dyn Reader> = Arc::new(Plain);
    let providers = Providers::new(both);
    bench
        .shadow
        .sweep(
            &sweeping(),
            &providers,
            (&reader, None),
            &mut Progress::default(),
            &move || go_on,
        )
        .await
}

const OLD: [(&str, &str, bool); 7] = [
    ("uid:ann", "it", true),
    ("uid:bob", "it", false),
    ("uid:cid", "it", true),
    ("uid:dan", "it", true),
    ("uid:eve", "it", false),
    ("uid:fay", "it", false),
    ("uid:gus", "it", true),
];

#[tokio::test(start_paused = true)]
async fn a_sweep_finds_who_is_locked_out_on_one_side_only() {
    let bench = Bench::new(&settings(), 100);
    let new = [
        ("uid:ann", "it", true),
        ("uid:bob", "it", true),
        ("uid:dan", "it", false),
        ("uid:eve", "it", false),
        ("uid:gus", "it", true),
        ("uid:gus", "it", true),
        ("uid:ida", "it", true),
    ];
    // Somebody who was listed, and is gone when their turn comes.
    let mut old = Listed::new("old", &OLD);
    old.listed.push("uid:zed");
    let swept = sweep(&bench, old, Listed::new("new", &new), true).await;
    let all = Swept::All {
        compared: 7,
        left_out: 1,
    };
    assert_eq!(swept, all);
    assert_eq!((bench.swept("same"), bench.swept("different")), (2, 5));
    let kept = bench.kept();
    let classes: Vec<_> = kept
        .iter()
        .map(|one| (one.class.as_str(), one.class.severity()))
        .collect();
    assert_eq!(
        classes,
        [
            ("reject_accept", "critical"),
            ("no_link", "warn"),
            ("accept_reject", "warn"),
            ("error_class", "info"),
            ("link_conflict", "warn"),
        ]
    );
    assert_eq!(bench.shadow.found().people(&AppId::new("crm")), 7);
}

/// A list stands in for the old side, and a sweep that was called off goes on with whoever comes next.
#[tokio::test(start_paused = true)]
async fn a_sweep_of_a_list_goes_on_where_it_was_called_off() {
    let bench = Bench::new(&settings(), 100);
    let both: [Arc<dyn Provider>; 2] = [
        Arc::new(Other {
            id: ProviderId::new("old"),
            owns: Owns::default(),
            epoch: Epoch::default(),
            gate: Arc::new(Semaphore::new(0)),
            asked: AtomicU32::new(0),
        }),
        Arc::new(Listed::new("new", &OLD)),
    ];
    let providers = Providers::new(both);
    let reader: Arc<dyn Reader> = Arc::new(Plain);
    let one = |(name, groups, enabled): &(&'static str, &'static str, bool)| {
        let who = identity("old", name, &[groups]);
        (Box::from(*name), (who, *enabled))
    };
    let listed = OLD.iter().map(one).collect();
    let mut progress = Progress::default();
    let turns = AtomicU32::new(0);
    let mut sweep = async |most: u32| {
        let go_on = || turns.fetch_add(1, Ordering::SeqCst) < most;
        let reading = (&reader, Some(&listed));
        let shadow = &bench.shadow;
        shadow
            .sweep(&sweeping(), &providers, reading, &mut progress, &go_on)
            .await
    };
    assert_eq!(sweep(3).await, Swept::CalledOff);
    assert_eq!(bench.swept("same"), 3);
    let all = Swept::All {
        compared: 7,
        left_out: 0,
    };
    assert_eq!(sweep(100).await, all);
    assert_eq!((bench.swept("same"), bench.swept("different")), (7, 0));
}

/// The deciding side is asked again about some, and what it says differently is no news.
#[tokio::test]
async fn how_a_side_differs_from_itself_is_learned() {
    let mut block = settings();
    block.decides = ProviderId::new("other");
    block.noise = Percent::ALL;
    block.dual_verify = Vec::new();
    let mut bench = Bench::new(&block, 100);
    bench.plan.from = ProviderId::new("other");
    let comes = |who: &str, says: &str| {
        let name = CanonicalSubject::named(who).unwrap();
        let credential = Credential::Basic {
            username: who.into(),
            password: Secret::new(says.to_owned()),
        };
        let offer = Offer {
            plan: &bench.plan,
            app: &AppId::new("crm"),
            credential: &credential,
            identity: &identity("other", who, &["it"]),
            canonical: &name,
            candidate: None,
            bound: false,
            ends: UnixTime::NEVER,
            took: Duration::ZERO,
            now: bench.clock.now(),
        };
        bench.desk.offer(&offer);
    };
    let noise = |bench: &Bench, class: &str| {
        bench.count(&format!(
            "authferry_shadow_noise_total{{app=\"crm\",class=\"{class}\"}}"
        ))
    };
    comes("uid:ann", "it");
    bench.until(|bench| noise(bench, "none") == 1).await;
    comes("uid:bob", "ops");
    bench
        .until(|bench| noise(bench, "groups_extra") == 1 && noise(bench, "groups_missing") == 1)
        .await;
    assert!(bench.kept().is_empty());
}

#[tokio::test]
async fn only_what_is_to_be_compared_is() {
    let mut block = settings();
    block.compare = [Field::Decision].into();
    let bench = Bench::new(&block, 100);
    bench.comes("uid:ann", "boss");
    bench.comes("uid:bob", "unknown");
    bench
        .until(|bench| bench.result("same") == 1 && bench.result("different") == 1)
        .await;
    let delta = "authferry_shadow_duration_delta_seconds_count";
    assert!(!bench.metrics.render().unwrap().contains(delta));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_ends_when_it_is_called_off_or_nobody_answers() {
    let bench = Bench::new(&settings(), 100);
    let new = || Listed::new("new", &OLD);
    let swept = sweep(&bench, Listed::new("old", &OLD), new(), false).await;
    assert_eq!(swept, Swept::CalledOff);
    let silent = Listed {
        people: None,
        ..new()
    };
    let swept = sweep(&bench, Listed::new("old", &OLD), silent, true).await;
    assert_eq!(swept, Swept::Unavailable);
    // Three times what opens the breaker, and no more.
    assert_eq!(bench.swept("unavailable"), 6);
    assert!(bench.kept().is_empty());
}

#[tokio::test]
async fn whoever_comes_is_looked_up_with_nothing_that_was_presented() {
    let mut bench = Bench::new(&settings(), 100);
    let new = Arc::new(Listed::new(
        "new",
        &[("uid:ann", "it", true), ("uid:bob", "it", false)],
    ));
    let block = Settings {
        dual_verify: Vec::new(),
        directory: vec![(
            CredentialClass::Bearer,
            Lookup {
                provider: ProviderId::new("new"),
                by: "subject".into(),
            },
        )],
        ..settings()
    };
    let reader: Arc<dyn Reader> = Arc::new(Plain);
    let providers = Providers::new([new as Arc<dyn Provider>]);
    bench.desk = bench.shadow.desk((&[block], &key()), &providers, &reader);
    let token = Credential::Bearer(Secret::new("x".to_owned()));
    for (who, bound) in [("uid:ann", true), ("uid:bob", false), ("uid:cid", false)] {
        let offer = Offer {
            plan: &bench.plan,
            app: &AppId::new("crm"),
            credential: &token,
            identity: &identity("legacy", who, &["it"]),
            canonical: &CanonicalSubject::named(who).unwrap(),
            candidate: None,
            bound,
            ends: UnixTime::NEVER,
            took: Duration::ZERO,
            now: NOW,
        };
        bench.desk.offer(&offer);
    }
    let result = |result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"directory\",result=\"{result}\"}}"
        )
    };
    bench
        .until(|bench| bench.count(&result("same")) == 1 && bench.count(&result("different")) == 2)
        .await;
    let mut classes: Vec<_> = bench
        .shadow
        .found()
        .all(NOW)
        .iter()
        .map(|(_, one)| one.class.as_str())
        .collect();
    classes.sort_unstable();
    assert_eq!(classes, ["accept_reject", "no_link"]);
}

#[tokio::test]
async fn trouble_does_not_end_with_a_reload() {
    let mut bench = Bench::new(&settings(), 100);
    bench.comes("uid:1", "down");
    bench.comes("uid:2", "down");
    bench.until(|bench| bench.result("unavailable") == 2).await;
    let reader: Arc<dyn Reader> = Arc::new(Plain);
    let providers = Providers::new([Arc::clone(&bench.other) as Arc<dyn Provider>]);
    bench.desk = bench
        .shadow
        .desk((&[settings()], &key()), &providers, &reader);
    bench.comes("uid:3", "it");
    bench.until(|bench| bench.skipped("breaker") == 1).await;
}

/// What it takes to tell who is in a share is not paid by a request: it only hands them in.
#[tokio::test]
async fn who_is_in_a_share_is_told_where_they_are_asked_about() {
    let share = |millionths| Percent::from_millionths(millionths).unwrap();
    let (sample, noise) = (share(400_000), share(200_000));
    let bench = Bench::new(
        &Settings {
            decides: ProviderId::new("other"),
            sample,
            noise,
            inflight: 100,
            per_subject: Duration::ZERO,
            queue: 80,
            ..settings()
        },
        100,
    );
    for n in 0..20 {
        bench.comes(&format!("uid:{n}"), "it");
    }
    assert_eq!(bench.skipped("sampled_out"), 0, "nobody has looked yet");
    assert_eq!(bench.shadow.depth(), 40);
    let of = |salt, share| {
        let bucket = |who: &str| Bucket::of(&key(), salt, UnitKind::Subject, who);
        let people = (0..20).filter(|n| bucket(&format!("uid:{n}")).is_within(share));
        people.count() as u64
    };
    let (looked_at, twice) = (
        of("authferry/shadow/v1", sample),
        of("authferry/shadow-noise/v1", noise),
    );
    let same =
        |bench: &Bench| bench.count("authferry_shadow_noise_total{app=\"crm\",class=\"none\"}");
    bench
        .until(|bench| bench.result("same") == looked_at && same(bench) == twice)
        .await;
    assert_eq!(bench.skipped("sampled_out"), 20 - looked_at);
    assert_eq!(
        u64::from(bench.other.asked.load(Ordering::SeqCst)),
        looked_at + twice
    );
    assert!(0 < twice && looked_at < 20, "{looked_at} and {twice}");
}

/// Those who are not in the sample neither take the places of those who are, nor count as lost.
#[tokio::test]
async fn whoever_is_not_in_the_sample_takes_nobody_s_place() {
    let sample = Percent::from_millionths(10_000).unwrap();
    let bench = Bench::new(
        &Settings {
            decides: ProviderId::new("other"),
            sample,
            noise: sample,
            inflight: 100,
            queue: 80,
            ..settings()
        },
        100,
    );
    // All at once: nobody's turn comes before the last one is there.
    for n in 0..1_000 {
        bench.comes(&format!("uid:{n}"), "it");
    }
    let chosen = (0..1_000).filter(|n| {
        let bucket = Bucket::of(
            &key(),
            "authferry/shadow/v1",
            UnitKind::Subject,
            &format!("uid:{n}"),
        );
        bucket.is_within(sample)
    });
    let chosen = chosen.count() as u64;
    assert!((5..=20).contains(&chosen), "{chosen}");
    bench
        .until(|bench| bench.skipped("sampled_out") == 1_000 - chosen)
        .await;
    bench.until(|bench| bench.result("same") == chosen).await;
    assert_eq!(bench.skipped("queue_full"), 0);
}

/// Where there is one place, it is for whoever is looked at, and not for what the noise is learnt from.
#[tokio::test]
async fn the_noise_takes_nobody_s_place() {
    let block = Settings {
        decides: ProviderId::new("other"),
        noise: Percent::ALL,
        queue: 1,
        ..settings()
    };
    let bench = Bench::new(&block, 100);
    bench.comes("uid:ann", "it");
    bench.until(|bench| bench.result("same") == 1).await;
    assert_eq!(bench.skipped("queue_full"), 0);
}

/// An account of each person, whose password is right; it says on which thread it was asked.
#[derive(Debug)]
struct Own {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
    asked_on: Mutex<Vec<String>>,
}

impl Own {
    fn is_asked(&self) {
        let here = std::thread::current().name().unwrap_or_default().to_owned();
        self.asked_on.lock().unwrap().push(here);
    }
}

#[async_trait::async_trait]
impl Provisioning for Own {
    async fn find(
        &self,
        newcomer: Newcomer<'_>,
        _now: UnixTime,
    ) -> Result<Option<Account>, ProviderError> {
        self.is_asked();
        let who = identity("new", newcomer.username, &["it"]);
        let state = (true, Some(true), false);
        Ok(Some(Account::for_test(who, newcomer.username, state)))
    }

    async fn create(&self, _: Newcomer<'_>, _: UnixTime) -> Result<Account, ProviderError> {
        panic!("nobody is made an account by a look")
    }

    async fn set_password(
        &self,
        _: &Account,
        _: &Secret<String>,
        _: UnixTime,
    ) -> Result<(), ProviderError> {
        panic!("no password is set by a look")
    }
}

#[async_trait::async_trait]
impl Passwords for Own {
    async fn check(
        &self,
        username: &str,
        _password: &Secret<String>,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.is_asked();
        let who = identity("new", username, &["it"]);
        Ok(Authenticated::for_test((*who).clone(), now))
    }
}

#[async_trait::async_trait]
impl Directory for Own {
    async fn find(&self, value: &str, _now: UnixTime) -> Result<Known, ProviderError> {
        self.is_asked();
        Ok(Known::Person {
            identity: identity("new", value, &["it"]),
            enabled: true,
        })
    }

    async fn everybody(&self, _: usize, _: UnixTime) -> Result<Vec<Box<str>>, ProviderError> {
        Ok(Vec::new())
    }

    async fn shut(&self, _: usize, _: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Provider for Own {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        _credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.is_asked();
        let who = identity("new", "uid:ann", &["it"]);
        Ok(Authenticated::for_test((*who).clone(), now))
    }

    fn directory(&self) -> Option<&dyn Directory> {
        Some(self)
    }

    fn provisioning(&self) -> Option<&dyn Provisioning> {
        Some(self)
    }

    fn second_passwords(&self) -> Option<&dyn Passwords> {
        Some(self)
    }

    fn health(&self) -> Health {
        Health::of_calls(None)
    }
}

/// Whatever goes over connections that requests use is asked where requests have it asked: whoever opens a connection drives it.
#[tokio::test]
async fn what_requests_ask_as_well_is_asked_where_they_have_it_asked() {
    let requests = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("requests")
        .build()
        .unwrap();
    let mut bench = Bench::with(&settings(), 100, requests.handle().clone());
    let new = Arc::new(Own {
        id: ProviderId::new("new"),
        owns: Owns::default(),
        epoch: Epoch::default(),
        asked_on: Mutex::default(),
    });
    let block = Settings {
        dual_verify: vec![
            (CredentialClass::Basic, ProviderId::new("new")),
            (CredentialClass::Opaque, ProviderId::new("new")),
        ],
        directory: vec![(
            CredentialClass::Bearer,
            Lookup {
                provider: ProviderId::new("new"),
                by: "subject".into(),
            },
        )],
        ..settings()
    };
    let reader: Arc<dyn Reader> = Arc::new(Plain);
    let providers = Providers::new([Arc::clone(&new) as Arc<dyn Provider>]);
    bench.desk = bench.shadow.desk((&[block], &key()), &providers, &reader);
    let secret = || Secret::new("x".to_owned());
    for credential in [
        Credential::Basic {
            username: "uid:ann".into(),
            password: secret(),
        },
        Credential::Bearer(secret()),
        Credential::Opaque(secret()),
    ] {
        let offer = Offer {
            plan: &bench.plan,
            app: &AppId::new("crm"),
            credential: &credential,
            identity: &identity("legacy", "uid:ann", &["it"]),
            canonical: &CanonicalSubject::named("uid:ann").unwrap(),
            candidate: None,
            bound: false,
            ends: UnixTime::NEVER,
            took: Duration::ZERO,
            now: NOW,
        };
        bench.desk.offer(&offer);
    }
    let looked_up =
        "authferry_shadow_comparisons_total{app=\"crm\",oracle=\"directory\",result=\"same\"}";
    bench
        .until(|bench| bench.result("same") == 2 && bench.count(looked_up) == 1)
        .await;
    assert_eq!(*new.asked_on.lock().unwrap(), ["requests"; 4]);
    requests.shutdown_background();
}

/// A token that lost what it was bound to needs no second opinion: it is found where it happens.
#[tokio::test]
async fn a_lost_binding_is_found_as_something_critical_whoever_is_in_the_sample() {
    let (none, known) = (
        Settings {
            sample: Percent::NONE,
            compare: BTreeSet::new(),
            ..settings()
        },
        Settings {
            ignore: vec![Ignore {
                class: Class::BindingLost,
                values: Vec::new(),
                until: NOW + Duration::from_secs(1),
            }],
            ..settings()
        },
    );
    for (settings, found) in [(none, 2), (known, 1)] {
        let bench = Bench::new(&settings, 1);
        let ann = CanonicalSubject::named("ann").unwrap();
        for app in ["crm", "without"] {
            for _ in 0..2 {
                let app = AppId::new(app);
                bench.desk.binding_lost(&app, "to-new", &ann, NOW);
            }
        }
        let kept = bench.kept();
        let classes: Vec<_> = kept.iter().map(|kept| (kept.class, &*kept.field)).collect();
        assert_eq!(classes, vec![(Class::BindingLost, "to-new"); found]);
        assert!(kept.iter().all(|kept| kept.class.is_critical()));
        let count = |app| {
            bench.count(&format!(
                "authferry_shadow_divergences_total{{app=\"{app}\",class=\"binding_lost\",severity=\"critical\"}}"
            ))
        };
        assert_eq!((count("crm") + count("without")) as usize, found);
        assert_eq!(bench.other.asked.load(Ordering::SeqCst), 0);
    }
}

/// When the new side decides, the old one is asked about its people, and what differs is called as if it were the other way
/// round.
#[tokio::test]
async fn people_of_the_new_side_are_looked_up_in_the_old_directory_once_it_decides() {
    let mut bench = Bench::new(&settings(), 100);
    let old = Listed::new(
        "legacy",
        &[
            ("uid:bob", "it,boss", true),
            ("uid:cid", "", true),
            ("uid:dan", "it", false),
        ],
    );
    let block = Settings {
        dual_verify: Vec::new(),
        back: vec![(
            CredentialClass::Bearer,
            Lookup {
                provider: ProviderId::new("legacy"),
                by: "subject".into(),
            },
        )],
        compare: [Field::Decision, Field::Subject, Field::Groups].into(),
        ..settings()
    };
    let reader: Arc<dyn Reader> = Arc::new(Plain);
    let providers = Providers::new([Arc::new(old) as Arc<dyn Provider>]);
    bench.desk = bench.shadow.desk((&[block], &key()), &providers, &reader);
    let token = Credential::Bearer(Secret::new("x".to_owned()));
    for mode in [Mode::Shadow, Mode::Canary, Mode::ModernPrimary] {
        bench.plan = plan(mode, Vec::new());
        // As many as may be asked about at once.
        for who in ["uid:bob", "uid:cid", "uid:dan", "uid:eve"] {
            let offer = Offer {
                plan: &bench.plan,
                app: &AppId::new("crm"),
                credential: &token,
                identity: &identity("modern", who, &["it"]),
                canonical: &CanonicalSubject::named(who).unwrap(),
                candidate: None,
                bound: false,
                ends: UnixTime::NEVER,
                took: Duration::ZERO,
                now: NOW,
            };
            bench.desk.offer(&offer);
        }
        let waiting = if mode == Mode::ModernPrimary { 4 } else { 0 };
        assert_eq!(bench.shadow.depth(), waiting, "{mode:?}");
    }
    let result = |result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"directory\",result=\"{result}\"}}"
        )
    };
    bench
        .until(|bench| bench.count(&result("different")) == 4)
        .await;
    let mut classes: Vec<_> = bench
        .kept()
        .iter()
        .map(|one| format!("{} {:?}", one.class.as_str(), one.values))
        .collect();
    classes.sort_unstable();
    assert_eq!(
        classes,
        [
            "groups_extra [\"it\"]",
            "groups_missing [\"boss\"]",
            "no_link []",
            "reject_accept []",
        ]
    );
}
