//! The list over stores that are shared, away, emptied and opened again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::ManualClock;
use crate::clock::UnixTime;
use crate::entropy::SystemEntropy;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::TokenId;
use crate::providers::Authenticated;
use crate::revocation::Asked;
use crate::revocation::Found;
use crate::revocation::HandOut;
use crate::revocation::ListError;
use crate::revocation::Marks;
use crate::revocation::Revocations;
use crate::revocation::Source;
use crate::revocation::Standing;
use crate::revocation::Target;
use crate::secret::Secret;
use crate::session::CameBy;
use crate::session::NewSession;
use crate::session::Origin;
use crate::session::Sessions;
use crate::session::settings::Settings;
use crate::store::EmbeddedStore;
use crate::store::FakeStore;
use crate::store::Key;
use crate::store::MemoryStore;
use crate::store::Store;
use crate::telemetry::Metrics;

const fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_000_000 + seconds)
}

/// One instance.
struct Instance {
    list: Arc<Revocations>,
    clock: ManualClock,
}

impl Instance {
    fn on(store: &Arc<dyn Store>) -> Self {
        let (settings, entropy) = (Settings::for_test(&[9]), Arc::new(SystemEntropy));
        let sessions = Sessions::new(&settings, Arc::clone(store), entropy, &Handle::current());
        let clock = ManualClock::at(at(0));
        let metrics = Metrics::new(Arc::new(clock.clone()), 100);
        let shared = Arc::new(clock.clone());
        let list = Revocations::for_test(store, &sessions.unwrap(), shared, &metrics);
        Self { list, clock }
    }

    fn standing(&self, began: Option<UnixTime>) -> Standing {
        let grounds = Grounds {
            began,
            kid: Some("n1".into()),
            signer: None,
            token: Some(TokenId::Named("t1".into())),
            sid: Some("s1".into()),
        };
        let marks = Marks::of(&Arc::new(alice()), &person(), &grounds).and_session(&[7; 32]);
        Standing::new(self.list.index(), marks)
    }

    fn holds(&self, began: Option<UnixTime>) -> bool {
        self.standing(began).holds(self.list.clock.now())
    }

    async fn revoke(&self, target: Target) -> Result<super::Record, ListError> {
        self.list.revoke(asked(target)).await
    }
}

fn alice() -> Identity {
    Identity {
        provider: ProviderId::new("modern"),
        key: SubjectKey {
            issuer: Issuer::new("https://new.idp.test"),
            subject: Subject::try_from("alice").unwrap(),
        },
        attributes: Arc::new(ClaimMap::default()),
        client_id: Some("spa".into()),
        acr: None,
        scopes: Box::default(),
        delegation: crate::identity::Delegation::default(),
    }
}

fn person() -> CanonicalSubject {
    CanonicalSubject::named("hr:1").unwrap()
}

fn everybody() -> Target {
    Target::Subject {
        subject: "hr:1".into(),
    }
}

fn asked(target: Target) -> Asked {
    Asked {
        target,
        source: Source::Operator,
        actor: "unix:0".into(),
        reason: "left".into(),
        keep: None,
        provider: None,
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

fn shared() -> (Arc<FakeStore>, Arc<dyn Store>) {
    let store = Arc::new(FakeStore::default());
    let same: Arc<dyn Store> = Arc::clone(&store) as _;
    (store, same)
}

#[tokio::test]
async fn every_kind_of_target_denies_what_it_names() {
    let issuer = || String::from("https://new.idp.test");
    let provider = || String::from("modern");
    let targets = [
        everybody(),
        Target::Account {
            issuer: issuer(),
            subject: "alice".into(),
        },
        Target::Session {
            session: "07".repeat(32),
        },
        Target::ProviderSession {
            issuer: issuer(),
            sid: "s1".into(),
        },
        Target::Client {
            provider: provider(),
            client: "spa".into(),
        },
        Target::Provider {
            provider: provider(),
        },
        Target::Key {
            provider: provider(),
            key: "n1".into(),
        },
        // One of ours, whichever provider publishes it.
        Target::Key {
            provider: crate::identity::OWN_KEYS.into(),
            key: "n1".into(),
        },
        Target::Token {
            issuer: issuer(),
            jti: "t1".into(),
        },
    ];
    for target in targets {
        let here = Instance::on(&memory());
        let kept = here.standing(Some(at(0)));
        assert!(kept.holds(at(0)));
        here.revoke(target.clone()).await.unwrap();
        assert!(!kept.holds(at(0)), "{target:?}");
        assert!(!here.holds(None), "{target:?}");
        let again = match target.reach() {
            super::record::Reach::Earlier => true,
            super::record::Reach::Whole => false,
        };
        assert_eq!(here.holds(Some(at(1))), again, "{target:?}");
    }
    let here = Instance::on(&memory());
    let other = Target::Client {
        provider: "legacy".into(),
        client: "spa".into(),
    };
    here.revoke(other).await.unwrap();
    assert!(here.holds(Some(at(0))));
}

/// A provider is revoked as a whole, and asked for the next token in that very moment: it would hold in a second, and what began
/// before never will.
#[tokio::test]
async fn what_is_asked_for_in_the_moment_of_a_revocation_is_only_too_early() {
    let here = Instance::on(&shared().1);
    let target = Target::Provider {
        provider: String::from("modern"),
    };
    here.revoke(target).await.unwrap();
    let standing = here.standing(Some(at(0)));
    assert!(!standing.holds(at(0)) && standing.is_early(at(0)));
    let undated = here.standing(None);
    assert!(!undated.holds(at(0)) && !undated.is_early(at(0)));
}

#[tokio::test]
async fn a_logout_leaves_what_does_not_say_when_it_began_to_its_owner() {
    let here = Instance::on(&memory());
    let logout = Asked {
        source: Source::BackChannel,
        ..asked(everybody())
    };
    here.list.revoke(logout).await.unwrap();
    assert!(!here.holds(Some(at(0))));
    assert!(here.holds(None));
}

#[tokio::test]
async fn a_revocation_holds_as_long_as_anything_it_speaks_about_may_live() {
    let here = Instance::on(&memory());
    here.list.keep_at_least(Duration::from_secs(100_000));
    let brief = Asked {
        keep: Some(Duration::from_secs(1)),
        ..asked(everybody())
    };
    let record = here.list.revoke(brief).await.unwrap();
    assert_eq!(record.expires, at(100_000));
    let standing = here.standing(Some(at(0)));
    assert!(!standing.holds(at(99_999)));
    assert!(standing.holds(at(100_000)));
    // Shorter settings do not make what exists live shorter.
    here.list.keep_at_least(Duration::from_secs(1));
    assert_eq!(here.revoke(everybody()).await.unwrap().expires, at(100_000));
}

fn given_back() -> Asked {
    Asked {
        source: Source::Client,
        ..asked(Target::Token {
            issuer: "https://new.idp.test".into(),
            jti: "t1".into(),
        })
    }
}

#[tokio::test]
async fn a_token_that_is_given_back_again_and_again_is_one_record_until_it_ends() {
    let here = Instance::on(&memory());
    for _ in 0..50 {
        here.list.revoke_once(given_back(), at(300)).await.unwrap();
    }
    let records = here.list.list(100).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((here.list.index().len(), records[0].expires), (1, at(300)));
    let standing = here.standing(Some(at(0)));
    assert!(!standing.holds(at(299)));
    // A record that ends before the token does is not enough.
    here.list.revoke_once(given_back(), at(400)).await.unwrap();
    assert!(!standing.holds(at(399)));
    // Of a token that says no end, too, one is enough.
    let other = Instance::on(&memory());
    for _ in 0..5 {
        let never = UnixTime::NEVER;
        other.list.revoke_once(given_back(), never).await.unwrap();
    }
    let records = other.list.list(100).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].expires, at(12 * 3_600));
}

#[tokio::test]
async fn a_token_that_could_not_be_written_down_is_acknowledged_when_it_is() {
    let (store, same) = shared();
    let here = Instance::on(&same);
    store.away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let done = here.list.revoke_once(given_back(), at(300)).await;
        assert!(matches!(done, Err(ListError::Store(_))), "{done:?}");
    }
    store.away.store(false, Ordering::SeqCst);
    here.list.revoke_once(given_back(), at(300)).await.unwrap();
    assert_eq!(here.list.list(100).await.unwrap().len(), 1);
    assert_eq!(here.list.known().len(), 1);
}

#[tokio::test]
async fn clients_and_logouts_leave_room_for_operators() {
    let here = Instance::on(&memory());
    let most = super::index::MAX_ENTRIES - super::once::FOR_OPERATORS;
    for n in 0..most {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&n.to_be_bytes());
        let known = super::list::Known {
            expires: at(300),
            row: None,
            written: true,
        };
        let name = super::RevocationId::from_bytes(name);
        here.list.known().insert(name, known);
    }
    let done = here.list.revoke_once(given_back(), at(300)).await;
    assert!(matches!(done, Err(ListError::Store(_))), "{done:?}");
    assert!(here.list.list(10).await.unwrap().is_empty());
    here.revoke(everybody()).await.unwrap();
    assert!(!here.holds(Some(at(0))));
}

#[tokio::test]
async fn it_holds_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let open = || -> Arc<dyn Store> { Arc::new(EmbeddedStore::open(&path, 1_000).unwrap()) };
    let store = open();
    let before = Instance::on(&store);
    assert!(before.list.is_durable());
    let record = before.revoke(everybody()).await.unwrap();
    let lifted = before
        .revoke(Target::Provider {
            provider: "modern".into(),
        })
        .await
        .unwrap();
    before
        .list
        .lift(lifted.id, "unix:0", "a mistake")
        .await
        .unwrap();
    // Nothing waits for an orderly end.
    drop((before, store));
    let after = Instance::on(&open());
    assert!(
        after.holds(Some(at(0))),
        "nothing is known before it is read"
    );
    after.list.load().await.unwrap();
    assert!(!after.holds(Some(at(0))));
    after
        .list
        .lift(record.id, "unix:0", "a mistake")
        .await
        .unwrap();
    assert!(
        after.holds(Some(at(0))),
        "the other one was lifted before the restart"
    );
    assert!(!Instance::on(&memory()).list.is_durable());
}

#[tokio::test]
async fn another_instance_learns_of_it_and_of_its_end() {
    let mut took = Vec::new();
    // A busy machine is late now and then, an instance that does not hear of it each time.
    for _ in 0..5 {
        let (_, store) = shared();
        let (one, other) = (Instance::on(&store), Instance::on(&store));
        other.list.follow(&Handle::current());
        let kept = other.standing(Some(at(0)));
        assert!(kept.holds(at(0)));
        let began = tokio::time::Instant::now();
        let record = one.revoke(everybody()).await.unwrap();
        until(|| !kept.holds(at(0))).await;
        let known = began.elapsed();
        one.clock.set(at(180));
        other.clock.set(at(180));
        one.list
            .lift(record.id, "unix:0", "a mistake")
            .await
            .unwrap();
        until(|| kept.holds(at(180))).await;
        took.push((known, began.elapsed()));
        if known < Duration::from_secs(2) && began.elapsed() < Duration::from_secs(4) {
            return;
        }
    }
    panic!("{took:?}");
}

#[tokio::test]
async fn what_the_store_did_not_take_is_not_acknowledged_and_is_written_later() {
    let (store, same) = shared();
    let (one, other) = (Instance::on(&same), Instance::on(&same));
    store.away.store(true, Ordering::SeqCst);
    let refused = one.revoke(everybody()).await.unwrap_err();
    assert!(matches!(refused, ListError::Store(_)));
    assert!(
        !one.holds(Some(at(0))),
        "it holds here whatever the store says"
    );
    one.list.follow(&Handle::current());
    store.away.store(false, Ordering::SeqCst);
    other.list.follow(&Handle::current());
    until(|| !other.holds(Some(at(0)))).await;
}

#[tokio::test]
async fn what_the_store_takes_late_ends_rows_all_the_same() {
    let (store, same) = shared();
    let here = Instance::on(&same);
    let (asked, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let named = Box::new(move |provider: &ProviderId| {
        asked.send(provider.clone()).unwrap();
        None
    });
    here.list.fan_out(named, &Handle::current());
    let proof = Authenticated::for_test(alice(), UnixTime::NEVER);
    let token = Secret::new(String::from("RT"));
    let person = person();
    let new = NewSession {
        refresh_token: Some(&token),
        ..session(&proof, &person)
    };
    here.list.sessions.create(new, at(0)).await.unwrap();
    store.away.store(true, Ordering::SeqCst);
    let refused = here.revoke(everybody()).await.unwrap_err();
    assert!(matches!(refused, ListError::Store(_)));
    store.away.store(false, Ordering::SeqCst);
    let told = tokio::time::timeout(PATIENCE, heard.recv()).await;
    assert_eq!(told.unwrap(), Some(ProviderId::new("modern")));
}

#[tokio::test]
async fn what_a_revocation_ended_is_found_under_an_older_key() {
    for target in [
        everybody(),
        Target::Provider {
            provider: "modern".into(),
        },
    ] {
        let here = Instance::on(&memory());
        let (asked, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let named = Box::new(move |provider: &ProviderId| {
            asked.send(provider.clone()).unwrap();
            None
        });
        let proof = Authenticated::for_test(alice(), UnixTime::NEVER);
        let token = Secret::new(String::from("RT"));
        let person = person();
        let new = NewSession {
            refresh_token: Some(&token),
            ..session(&proof, &person)
        };
        here.list.sessions.create(new, at(0)).await.unwrap();
        // Nobody uses it once there is another key.
        here.list
            .sessions
            .reload(&Settings::for_test(&[8, 9]))
            .unwrap();
        here.list.fan_out(named, &Handle::current());
        here.revoke(target).await.unwrap();
        let told = tokio::time::timeout(PATIENCE, heard.recv()).await;
        assert_eq!(told.unwrap(), Some(ProviderId::new("modern")));
    }
}

#[tokio::test]
async fn what_a_session_held_that_nobody_came_back_to_is_gone_and_whose_it_was_is_known() {
    let here = Instance::on(&memory());
    let (proof, person) = (Authenticated::for_test(alice(), UnixTime::NEVER), person());
    let token = Secret::new(String::from("RT"));
    let new = NewSession {
        refresh_token: Some(&token),
        sid: Some("s1"),
        ..session(&proof, &person)
    };
    let created = here.list.sessions.create(new, at(0)).await.unwrap();
    let held = async |now| {
        for first in 0..=u8::MAX {
            here.list.let_go(first).await.unwrap();
        }
        let known = here.list.sessions.known(&created.row, now).await.unwrap();
        known.is_some()
    };
    let rested = 1_800 + 120;
    here.clock.set(at(rested - 1));
    assert!(
        held(at(rested - 1)).await,
        "it may not be written yet that somebody came back"
    );
    here.clock.set(at(rested));
    assert!(!held(at(rested)).await, "it is over");
    let issuer = "https://new.idp.test";
    let owners = here.list.owners_of_sid(issuer, "s1").await.unwrap();
    assert_eq!(owners.len(), 1, "its provider may still speak of it");
}

#[tokio::test]
async fn a_session_is_still_found_by_name_once_the_key_of_its_login_is_gone() {
    let here = Instance::on(&memory());
    let sessions = Arc::clone(&here.list.sessions);
    let (proof, token) = (
        Authenticated::for_test(alice(), at(60)),
        Secret::new(String::from("RT")),
    );
    let person = person();
    let new = NewSession {
        refresh_token: Some(&token),
        ..session(&proof, &person)
    };
    let created = sessions.create(new, at(0)).await.unwrap();
    sessions.reload(&Settings::for_test(&[8, 9])).unwrap();
    let id = crate::session::SessionId::parse(created.cookie.expose()).unwrap();
    assert!(sessions.restore(id, at(1)).await.unwrap().is_some());
    // It is written again behind its use.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    sessions.reload(&Settings::for_test(&[8])).unwrap();
    assert!(sessions.restore(id, at(2)).await.unwrap().is_some());
    let kept = here.list.kept_of(&everybody()).await.unwrap().sessions;
    assert_eq!(kept.len(), 1, "to be revoked and erased");
    let provider = ProviderId::new("modern");
    let mut vouched = 0;
    for first in 0..=u8::MAX {
        let some = here.list.vouched_by(&provider, first).await.unwrap();
        vouched += some.len();
    }
    assert_eq!(vouched, 1, "to be closed with its provider");
    let farewell = sessions.end_known(&created.row, at(3)).await.unwrap();
    let token = farewell.and_then(|farewell| farewell.refresh_token);
    assert_eq!(token.unwrap().expose(), "RT", "to be revoked there");
}

#[tokio::test]
async fn what_a_store_has_lost_is_written_again() {
    let (store, same) = shared();
    let one = Instance::on(&same);
    let record = one.revoke(everybody()).await.unwrap();
    let logout = Asked {
        source: Source::Logout,
        ..asked(Target::Session {
            session: "07".repeat(32),
        })
    };
    one.list.revoke(logout).await.unwrap();
    store.rows.sweep(UnixTime::NEVER).await.unwrap();
    let other = Instance::on(&same);
    other.list.load().await.unwrap();
    assert!(other.holds(Some(at(0))));
    one.list.load().await.unwrap();
    other.list.load().await.unwrap();
    assert!(!other.holds(Some(at(0))));
    assert_eq!(other.list.list(10).await.unwrap().len(), 2);
    // Lifted is not lost.
    one.list
        .lift(record.id, "unix:0", "a mistake")
        .await
        .unwrap();
    other.list.load().await.unwrap();
    one.list.load().await.unwrap();
    assert!(other.list.known().len() == 1 && one.list.known().len() == 1);
}

#[tokio::test]
async fn only_what_an_operator_said_can_be_lifted() {
    let here = Instance::on(&memory());
    let logout = Asked {
        source: Source::BackChannel,
        ..asked(everybody())
    };
    let record = here.list.revoke(logout).await.unwrap();
    let refused = here
        .list
        .lift(record.id, "unix:0", "why not")
        .await
        .unwrap_err();
    assert!(matches!(refused, ListError::Final));
    let unknown = super::RevocationId::from_bytes([1; 16]);
    let refused = here
        .list
        .lift(unknown, "unix:0", "why not")
        .await
        .unwrap_err();
    assert!(matches!(refused, ListError::Unknown));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_keeps_everybody_out_at_the_start() {
    let store = memory();
    let here = Instance::on(&store);
    here.revoke(everybody()).await.unwrap();
    let key = Key {
        table: super::list::TABLE,
        key: &[0; 16],
    };
    store.put(key, b"what is this", at(100)).await.unwrap();
    let mut after = Instance::on(&store);
    after.list = Revocations::unknown_for_test(&after.list);
    assert!(after.list.load().await.is_err());
    assert!(!after.list.index().is_ready());
    assert!(!after.holds(Some(at(0))), "the rest is in force");
    // One that comes later is another instance's: whoever is in stays in.
    here.list.load().await.unwrap();
    assert!(!here.holds(Some(at(0))));
}

/// What becomes a session of somebody.
fn session<'a>(proof: &'a Authenticated, person: &'a CanonicalSubject) -> NewSession<'a> {
    NewSession {
        authenticated: proof,
        canonical: person,
        app: "crm",
        host: "app.test",
        backing: None,
        rule: "percent",
        origin: Origin::Login,
        until: UnixTime::NEVER,
        began: UnixTime::NEVER,
        id_token: None,
        sid: None,
        refresh_token: None,
        lasts: None,
        stands_for: None,
        came_by: None,
        left: None,
    }
}

#[tokio::test]
async fn running_sessions_are_counted_by_every_name() {
    let here = Instance::on(&memory());
    let (identity, person) = (alice(), person());
    let mut rows = Vec::new();
    for sid in ["s1", "s2"] {
        let grounds = Grounds {
            kid: Some("n1".into()),
            sid: Some(sid.into()),
            ..Grounds::default()
        };
        let proof = Authenticated::for_test(identity.clone(), at(60)).for_test_on(grounds);
        let new = NewSession {
            sid: Some(sid),
            ..session(&proof, &person)
        };
        let created = here.list.sessions.create(new, at(0)).await.unwrap();
        rows.push((created.row, created.cookie));
    }
    let issuer = || String::from("https://new.idp.test");
    let count = async |target| here.list.affected(&target).await.unwrap().sessions.len();
    assert_eq!(count(everybody()).await, 2);
    let account = |subject: &str| Target::Account {
        issuer: issuer(),
        subject: subject.into(),
    };
    assert_eq!(count(account("alice")).await, 2);
    assert_eq!(count(account("bob")).await, 0);
    assert_eq!(
        count(Target::ProviderSession {
            issuer: issuer(),
            sid: "s2".into()
        })
        .await,
        1
    );
    assert_eq!(
        count(Target::Session {
            session: super::record::hex(&rows[0].0)
        })
        .await,
        1
    );
    assert_eq!(
        count(Target::Client {
            provider: "modern".into(),
            client: "spa".into()
        })
        .await,
        2
    );
    assert_eq!(
        count(Target::Key {
            provider: "modern".into(),
            key: "n1".into()
        })
        .await,
        2
    );
    assert_eq!(
        count(Target::Provider {
            provider: "legacy".into()
        })
        .await,
        0
    );
    let kept = async || here.list.kept_of(&everybody()).await.unwrap().sessions;
    let id = crate::session::SessionId::parse(rows[0].1.expose()).unwrap();
    here.list.sessions.end(id, at(1)).await.unwrap();
    assert_eq!(count(everybody()).await, 1, "whoever has signed out is out");
    // Whose it was is known until it would have ended by itself: its provider may still speak of it.
    assert_eq!(kept().await.len(), 2);
    assert_eq!(kept().await.iter().filter(|login| login.over).count(), 1);
    let owners = here.list.owners_of_sid(&issuer(), "s1").await.unwrap();
    assert_eq!(owners.len(), 1);
    here.revoke(everybody()).await.unwrap();
    assert_eq!(
        count(everybody()).await,
        0,
        "what has ended does not end again"
    );
}

#[tokio::test]
async fn what_is_noted_of_a_persons_refresh_tokens_is_erased_with_them_and_nobody_elses() {
    let store = memory();
    let here = Instance::on(&store);
    let bob = CanonicalSubject::named("hr:2").unwrap();
    let grounds = Grounds {
        began: Some(at(0)),
        kid: None,
        signer: None,
        token: None,
        sid: None,
    };
    for (row, whose) in [([1; 32], person()), ([2; 32], bob), ([3; 32], person())] {
        let marks = Marks::of(&Arc::new(alice()), &whose, &grounds);
        let noted = here.list.is_out(&row, &marks, (at(0), at(100)));
        noted.await.unwrap();
    }
    let left = async || {
        let rows = store.scan("refresh_held", b"", 9, at(1)).await.unwrap();
        let rows = rows.into_iter().map(|(row, _)| row[0]);
        rows.collect::<Vec<_>>()
    };
    assert_eq!(left().await, [1, 2, 3]);
    here.list.forget_tokens(&person()).await.unwrap();
    assert_eq!(left().await, [2]);
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(mut done: impl FnMut() -> bool) {
    let patience = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, patience)
        .await
        .expect("in time");
}

#[tokio::test]
async fn a_session_is_found_by_the_session_of_the_old_side_that_it_was_given_for() {
    let here = Instance::on(&memory());
    let (proof, person) = (Authenticated::for_test(alice(), at(60)), person());
    let old = SubjectKey {
        issuer: Issuer::new("https://old.idp.test"),
        subject: Subject::try_from("old-alice").unwrap(),
    };
    let new = NewSession {
        came_by: Some(CameBy::for_test("old", &old, "S1")),
        left: None,
        ..session(&proof, &person)
    };
    here.list.sessions.create(new, at(0)).await.unwrap();
    let issuer = || String::from("https://old.idp.test");
    let sid = Target::ProviderSession {
        issuer: issuer(),
        sid: "S1".into(),
    };
    let found = here.list.affected(&sid).await.unwrap().sessions;
    assert_eq!(found.len(), 1);
    let old = || String::from("old");
    for target in [
        Target::Account {
            issuer: issuer(),
            subject: String::from("old-alice"),
        },
        Target::Provider { provider: old() },
        Target::Key {
            provider: old(),
            key: String::from("k-old"),
        },
        Target::Client {
            provider: old(),
            client: String::from("c-old"),
        },
    ] {
        let found = here.list.affected(&target).await.unwrap().sessions;
        assert_eq!(found.len(), 1, "{target:?}");
    }
    let by_sid = async || {
        let owners = here.list.owners_of_sid(&issuer(), "S1").await.unwrap();
        owners.len()
    };
    assert_eq!(by_sid().await, 1);
    here.list.erase(&found[0]).await.unwrap();
    assert_eq!(by_sid().await, 0);
    assert!(here.list.affected(&sid).await.unwrap().sessions.is_empty());
}

#[tokio::test]
async fn who_is_forgotten_at_one_instance_is_forgotten_once_at_each_other_one() {
    let store = memory();
    let (here, there) = (Instance::on(&store), Instance::on(&store));
    let told: Arc<std::sync::Mutex<Vec<CanonicalSubject>>> = Arc::default();
    let all = Arc::clone(&told);
    there.list.when_forgotten(Box::new(move |person| {
        all.lock().unwrap().push(person.clone());
    }));
    // Somebody who is revoked is not forgotten.
    here.list.revoke(asked(everybody())).await.unwrap();
    there.list.load().await.unwrap();
    assert!(told.lock().unwrap().is_empty());
    here.list.forgets(asked(everybody())).await.unwrap();
    // Whoever comes again after that is known again, however often everything is read.
    for _ in 0..3 {
        there.list.load().await.unwrap();
    }
    assert_eq!(*told.lock().unwrap(), [person()]);
}

/// Another version has written them, or their key is gone.
#[tokio::test]
async fn what_nobody_here_can_read_is_counted_and_ends_by_what_it_is_found_by() {
    let (hers, his) = (person(), CanonicalSubject::named("hr:2").unwrap());
    for which in ["subject", "account", "sid", "session", "provider", "forget"] {
        let here = Instance::on(&memory());
        here.list
            .fan_out(Box::new(|_: &ProviderId| None), &Handle::current());
        let sessions = &here.list.sessions;
        let mut rows = Vec::new();
        for (whose, name) in [(&hers, "alice"), (&his, "bob")] {
            let mut identity = alice();
            identity.key.subject = Subject::try_from(name).unwrap();
            let proof = Authenticated::for_test(identity, UnixTime::NEVER);
            let new = NewSession {
                sid: Some(name),
                ..session(&proof, whose)
            };
            let row = sessions.create(new, at(0)).await.unwrap().row;
            sessions.as_another_version(&row, true, at(0)).await;
            rows.push(row);
        }
        let issuer = String::from("https://new.idp.test");
        let target = match which {
            "account" => Target::Account {
                issuer,
                subject: "alice".into(),
            },
            "sid" => Target::ProviderSession {
                issuer,
                sid: "alice".into(),
            },
            "session" => Target::Session {
                session: super::record::hex(&rows[0]),
            },
            "provider" => Target::Provider {
                provider: "modern".into(),
            },
            _ => everybody(),
        };
        let counted = here.list.unread_of(&target).await.unwrap();
        assert_eq!(counted, if which == "provider" { 2 } else { 1 }, "{which}");
        if which == "forget" {
            let erased = here.list.erase_unread(Mark::person(&hers)).await;
            assert_eq!(erased.unwrap(), 1);
        } else {
            here.revoke(target.clone()).await.unwrap();
        }
        let there = async || {
            let mut all = Vec::new();
            for row in &rows {
                all.push(sessions.is_unread(row, at(0)).await.unwrap());
            }
            all
        };
        if which == "provider" {
            // It counts for them where they can be read; whose they are, nobody here knows.
            assert_eq!(there().await, [true, true]);
            continue;
        }
        let gone = async {
            while there().await[0] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect(which);
        assert_eq!(there().await, [false, true], "{which}");
        assert_eq!(here.list.unread_of(&target).await.unwrap(), 0, "{which}");
    }
}

/// Somebody may have signed in again since, elsewhere: when a session began that nobody here can read is not known.
#[tokio::test]
async fn what_nobody_here_can_read_is_left_alone_where_a_revocation_is_followed_late() {
    for (seconds, not_before, stays) in [
        (4, at(0), false),
        (6, at(0), true),
        (6, UnixTime::NEVER, false),
    ] {
        let here = Instance::on(&memory());
        let sessions = &here.list.sessions;
        let proof = Authenticated::for_test(alice(), UnixTime::NEVER);
        let made = sessions.create(session(&proof, &person()), at(0)).await;
        let row = made.unwrap().row;
        sessions.as_another_version(&row, true, at(0)).await;
        here.clock.set(at(seconds));
        let marks = [Mark::person(&person())];
        let ended = here.list.end_unread(&marks, None, not_before);
        ended.await.unwrap();
        let left = sessions.is_unread(&row, at(seconds)).await.unwrap();
        assert_eq!(left, stays, "{seconds}, {not_before:?}");
    }
}

#[tokio::test]
async fn a_session_is_over_here_before_the_store_has_said_what_it_was_given_for() {
    let (store, same) = shared();
    let here = Instance::on(&same);
    store.slow.store(true, Ordering::SeqCst);
    let target = Target::Session {
        session: super::record::hex(&[7; 32]),
    };
    let meanwhile = async { here.holds(Some(at(0))) };
    let (revoked, held) = tokio::join!(here.revoke(target), meanwhile);
    assert!(!held, "the store has not answered yet");
    assert!(!here.holds(Some(at(0))));
    // Nothing but that one record keeps it over.
    let record = revoked.unwrap();
    assert_eq!(here.list.list(9).await.unwrap().len(), 1);
    here.list.lift(record.id, "a test", "wrong").await.unwrap();
    assert!(here.holds(Some(at(0))));
}

fn barred(person: Option<CanonicalSubject>) -> super::Barred {
    super::Barred {
        provider: ProviderId::new("legacy"),
        account: SubjectKey {
            issuer: Issuer::new("https://old.idp.test"),
            subject: Subject::try_from("al").unwrap(),
        },
        person,
        key: Some("al".into()),
    }
}

#[tokio::test]
async fn whoever_a_provider_has_barred_is_denied_at_every_instance_until_it_is_taken_back() {
    let (_, store) = shared();
    let (one, other) = (Instance::on(&store), Instance::on(&store));
    other.list.follow(&Handle::current());
    let kept = other.standing(Some(at(9_999)));
    assert!(kept.holds(at(0)) && !kept.is_barred(at(0)));
    let hers = barred(Some(person()));
    assert!(one.list.deny(&hers).await.unwrap());
    assert!(!one.list.deny(&hers).await.unwrap(), "it is known");
    assert!(one.list.bars(&alice(), &person()));
    until(|| !kept.holds(at(0))).await;
    // Years later, too, and whenever it began.
    assert!(!kept.holds(at(3 * 365 * 86_400)));
    assert!(kept.is_barred(at(0)));
    let all = other.list.denials().await.unwrap();
    let [denial] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!(denial.barred.as_ref(), Some(&hers));
    let by = other.list.barred_by(&alice(), &person()).await.unwrap();
    assert_eq!(by, [ProviderId::new("legacy")]);
    // What an operator revokes is no such word, and is not taken back with it.
    one.revoke(everybody()).await.unwrap();
    one.list.allow_again(denial, "a test").await.unwrap();
    until(|| !kept.is_barred(at(0))).await;
    let began_later = other.standing(Some(at(9_999)));
    assert!(began_later.holds(at(0)));
    assert!(!other.holds(Some(at(0))));
    assert!(one.list.denials().await.unwrap().is_empty());
    // And once more.
    assert!(one.list.deny(&hers).await.unwrap());
    until(|| !began_later.holds(at(0))).await;
}

#[tokio::test]
async fn an_account_of_nobody_is_denied_alone() {
    let here = Instance::on(&memory());
    here.list.deny(&barred(None)).await.unwrap();
    assert!(here.holds(Some(at(0))));
    let mut al = alice();
    al.key = barred(None).account;
    assert!(here.list.bars(&al, &person()));
    // The same account, now that it is known whose it is, is another entry.
    assert!(here.list.deny(&barred(Some(person()))).await.unwrap());
    assert!(!here.holds(Some(at(0))));
}

/// Sessions take the place of one another, more than are remembered: nothing that was made for one of them is forgotten while it
/// may live.
#[tokio::test]
async fn what_was_made_for_the_first_of_many_sessions_ends_before_it_is_forgotten() {
    let (_, store) = shared();
    let here = Instance::on(&store);
    let rows: Vec<[u8; 32]> = (0..=66).map(|number| [number; 32]).collect();
    let row = |number: u8| rows.get(usize::from(number)).unwrap();
    let owner = ProviderId::new("modern");
    let made = async |number: u8, until: u64| {
        let marks = Marks::of(&Arc::new(alice()), &person(), &Grounds::default());
        let parent = Standing::new(here.list.index(), marks.and_session(row(number)));
        let token = format!("made for {number}");
        let token = HandOut {
            token: &token,
            client: None,
            minted: true,
            key: None,
            parent: &parent,
            owner: &owner,
            origin: None,
            ends: at(until),
        };
        let noted = here.list.hands_out(token, here.list.clock.now());
        assert!(noted.await.unwrap());
        let mark = super::made::Made {
            until: at(until),
            before: &[],
        };
        let marked = here
            .list
            .marks_session(row(number), mark, here.list.clock.now());
        marked.await.unwrap();
    };
    let counts = async |number: u8| {
        let token = format!("made for {number}");
        let now = here.list.clock.now();
        let Found::Handed(handed) = here.list.handed_out(&token, now).await.unwrap() else {
            panic!("it is noted")
        };
        here.list.still_counts(&handed, &[], now).unwrap()
    };
    let takes_over = async |number: u8| {
        let now = here.list.clock.now();
        let taken = here.list.takes_over(row(number - 1), row(number), now);
        taken.await.unwrap();
    };
    let remembered = async |number: u8| {
        here.list
            .made_of(row(number), here.list.clock.now())
            .await
            .unwrap()
    };
    made(0, 100).await;
    for number in 1..=64 {
        made(number, 1_000).await;
        takes_over(number).await;
    }
    // The first one, and 64 in whose place this one is.
    assert_eq!(remembered(64).await.len(), 65);
    assert!(counts(0).await);
    here.clock.set(at(800));
    // Of the first one nothing lives any more: it makes room.
    made(65, 1_000).await;
    takes_over(65).await;
    assert_eq!(remembered(65).await.len(), 65);
    assert!(!remembered(65).await.contains(row(0)));
    assert!(counts(1).await);
    // There is room for no more, and all of them live.
    made(66, 1_000).await;
    takes_over(66).await;
    let last = remembered(66).await;
    assert_eq!(last.len(), 65);
    assert!(!last.contains(row(1)) && last.contains(row(2)));
    assert!(!counts(1).await, "it has ended with its place");
    assert!(counts(2).await && counts(66).await);
}
