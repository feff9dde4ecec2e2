//! Passwords on their way, with a provider of accounts that says what a test wants.

mod before;
mod typed;

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::auth::extract::extract;
use crate::auth::fake::FakeAccounts;
use crate::auth::fake::FakeProvider;
use crate::auth::fake::World;
use crate::auth::fake::at;
use crate::auth::fake::headers;
use crate::auth::fake::identity;
use crate::auth::fake::plan;
use crate::auth::gate::Deps;
use crate::clock::UnixTime;
use crate::links::Links;
use crate::links::Method;
use crate::links::settings::Canonical;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::rollout::AssignRule;
use crate::rollout::KillPosition;
use crate::rollout::Mode;
use crate::rollout::OtherArm;
use crate::rollout::Share;
use crate::store::FakeStore;
use crate::store::MemoryStore;
use crate::store::Store;

/// Everybody is assigned to the new side, and their passwords move.
fn world(accounts: FakeAccounts) -> World {
    on(Arc::new(MemoryStore::default()), accounts)
}

fn on(store: Arc<dyn Store>, accounts: FakeAccounts) -> World {
    let mut old = FakeProvider::old();
    old.folds = true;
    old.verdict = std::sync::Mutex::new(Arc::new(|name| match name {
        "bad" => Err(Refusal::BadCredentials.into()),
        "disabled" => Err(Refusal::Disabled.into()),
        "down" => Err(Outage::Timeout.into()),
        // Two names of one person, as a directory may have them.
        "ａlice" => Ok(proof("alice")),
        name => Ok(proof(&name.to_lowercase())),
    }));
    let mut new = FakeProvider::new();
    new.accounts = Some(accounts);
    let mut world = World::on(store, old, new);
    let to = AssignRule {
        cohort: None,
        share: Share::All,
        to: Arm::To,
        until: None,
    };
    let mut plan = plan(Mode::Canary, vec![to]);
    plan.stage.passwords = rollout::Passwords::Moving;
    world.plan = Some(plan);
    world.canonical = Some(Canonical::by_claims(
        "hr:{subject}",
        Vec::new(),
        &["old", "new"],
    ));
    world
}

fn proof(name: &str) -> Authenticated {
    Authenticated::for_test(identity("old", name), at(100_000))
}

/// One instance.
struct Instance<'a> {
    world: &'a World,
    deps: Deps,
}

impl<'a> Instance<'a> {
    fn of(world: &'a World) -> Self {
        let deps = world.deps();
        Self { world, deps }
    }

    /// A request with a password; what follows from it has come to its end.
    async fn ask(&self, name: &str, password: &str, now: UnixTime) -> String {
        self.under(KillPosition::Off, name, password, now).await
    }

    async fn under(&self, kill: KillPosition, name: &str, password: &str, now: UnixTime) -> String {
        let said = self.at_once(kill, name, password, now).await;
        self.deps.homes.settled().await;
        said
    }

    async fn at_once(
        &self,
        kill: KillPosition,
        name: &str,
        password: &str,
        now: UnixTime,
    ) -> String {
        let policy = self.world.policy();
        let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        let headers = headers(&[("authorization", &basic)]);
        let presented = extract(&headers, None, policy.owners(), &[]);
        let presented = presented.unwrap().expect("a credential");
        let gate = Gate::new(self.deps.clone());
        let way = (&self.world.facts(), &self.world.channel());
        match gate.admit(&policy, 0, &presented, way, kill, now).await {
            Ok(admitted) => format!("{} {}", admitted.provider(), admitted.canonical().as_str()),
            Err(error) => error.to_string(),
        }
    }

    fn accounts(&self) -> &FakeAccounts {
        self.world.new.accounts.as_ref().unwrap()
    }

    /// How many moves ended in a way.
    fn told(&self, outcome: &str) -> u64 {
        let text = self.world.metrics.render().unwrap();
        let line = format!(
            "authferry_session_carryovers_total{{app=\"crm\",method=\"credential\",outcome=\"{outcome}\"}} "
        );
        let value = text.lines().find_map(|text| text.strip_prefix(&line));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

#[tokio::test]
async fn a_password_moves_once_and_is_judged_there_from_then_on() {
    let world = world(FakeAccounts::default());
    let one = Instance::of(&world);
    assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
    let moved = ["find alice", "create alice", "set alice", "check alice"];
    assert_eq!(one.accounts().calls(), moved);
    assert_eq!(one.told("moved"), 1);
    // Also at another instance, and after a restart: only the store is the same.
    for instance in [&one, &Instance::of(&world)] {
        let asked = world.old.asked();
        assert_eq!(instance.ask("alice", "secret", at(1)).await, "new hr:alice");
        // The old password is none any more once it was changed there.
        one.accounts()
            .change("alice", |account| account.password = Some("changed".into()));
        let refused = instance.ask("alice", "secret", at(2)).await;
        assert!(refused.contains("bad_credentials"), "{refused}");
        assert_eq!(
            instance.ask("alice", "changed", at(3)).await,
            "new hr:alice"
        );
        assert_eq!(world.old.asked(), asked, "nobody asked the old side");
        one.accounts()
            .change("alice", |account| account.password = Some("secret".into()));
    }
    assert_eq!(one.accounts().calls(), ["check alice"; 6]);
    let alice = CanonicalSubject::named("hr:alice").unwrap();
    let id = &world.plan.as_ref().unwrap().id;
    let pins = &one.deps.pins;
    let pin = pins.of(id, &alice, at(4));
    assert_eq!(pin.await.unwrap().unwrap().arm, Arm::To);
    // From here on it is seen whether it is changed there; that it was set there is the move itself.
    let stays = pins.all_stays(id, at(4)).await.unwrap();
    let hers = stays.get(&pins.person_row(id, &alice)).unwrap();
    assert!(!hers.password_changed);
}

#[tokio::test]
async fn whoever_is_forgotten_while_their_password_moves_leaves_nothing() {
    let halt = Arc::new(tokio::sync::Barrier::new(2));
    let accounts = FakeAccounts {
        halt: Some(Arc::clone(&halt)),
        ..FakeAccounts::default()
    };
    let store = Arc::new(MemoryStore::default());
    let world = on(Arc::clone(&store) as _, accounts);
    let one = Instance::of(&world);
    let said = one.at_once(KillPosition::Off, "alice", "secret", at(0));
    assert_eq!(said.await, "old hr:alice");
    halt.wait().await;
    let alice = CanonicalSubject::named("hr:alice").unwrap();
    let plan = world.plan.as_ref().unwrap();
    one.deps.homes.stop(way(plan), &alice, at(1)).await.unwrap();
    let providers = ["old", "new"].map(ProviderId::new);
    let forgotten = one.deps.joiner.forget_for_test(&alice, &providers, at(1));
    assert_eq!(
        forgotten.await,
        1,
        "it is linked once the new side has found the password good"
    );
    one.deps.homes.forget(&alice, at(1)).await.unwrap();
    halt.wait().await;
    one.deps.homes.settled().await;
    for table in [
        "password",
        "password_person",
        "link",
        "link_person",
        "pin",
        "moved",
    ] {
        let rows = store.scan(table, b"", 9, at(2)).await.unwrap();
        assert!(rows.is_empty(), "{table}");
    }
    assert_eq!((one.told("moved"), one.told("refused")), (0, 1));
}

#[tokio::test]
async fn what_the_old_side_does_not_find_good_never_reaches_the_new_one() {
    let world = world(FakeAccounts::default().with("alice", None));
    let one = Instance::of(&world);
    for (name, password) in [
        ("alice", "wrong"),
        ("bad", "secret"),
        ("disabled", "secret"),
        ("down", "secret"),
        ("nobody", "wrong"),
    ] {
        let said = one.ask(name, password, at(0)).await;
        assert!(!said.contains("hr:"), "{name}: {said}");
    }
    assert_eq!(one.accounts().calls(), [""; 0]);
}

#[tokio::test]
async fn nobody_moves_who_is_not_assigned_or_while_the_switch_stands_elsewhere() {
    let mut world = world(FakeAccounts::default());
    for kill in [KillPosition::Freeze, KillPosition::Legacy] {
        let one = Instance::of(&world);
        let said = one.under(kill, "alice", "secret", at(0)).await;
        assert_eq!(said, "old hr:alice", "{kill:?}");
    }
    world.plan.as_mut().unwrap().stage.passwords = rollout::Passwords::Kept;
    let one = Instance::of(&world);
    assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
    world.plan.as_mut().unwrap().stage.passwords = rollout::Passwords::Moving;
    world.plan.as_mut().unwrap().stage.assign.clear();
    let one = Instance::of(&world);
    assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
    assert_eq!(one.accounts().calls(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_of_the_new_side_leaves_everything_as_it_is_for_an_hour_and_an_outage_for_a_minute()
 {
    for (error, outcome, rest) in [
        (ProviderError::from(Refusal::Policy), "refused", 3_600),
        (Outage::Http5xx.into(), "unavailable", 60),
    ] {
        let world = world(FakeAccounts::default().with("alice", None));
        let one = Instance::of(&world);
        *one.accounts().policy.lock().unwrap() = Some(error);
        assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
        assert_eq!(one.accounts().calls(), ["find alice", "set alice"]);
        *one.accounts().policy.lock().unwrap() = None;
        for later in [1, rest - 1] {
            let said = one.ask("alice", "secret", at(later)).await;
            assert_eq!(said, "old hr:alice", "{outcome} {later}");
        }
        assert_eq!((one.accounts().calls(), one.told(outcome)), (vec![], 1));
        assert_eq!(one.ask("alice", "secret", at(rest)).await, "old hr:alice");
        assert_eq!(one.told("moved"), 1, "{outcome}");
        let said = one.ask("alice", "secret", at(rest + 1)).await;
        assert_eq!(said, "new hr:alice");
    }
}

#[tokio::test]
async fn of_many_requests_at_two_instances_one_takes_the_password_along() {
    let world = world(FakeAccounts::default());
    let (one, other) = (Instance::of(&world), Instance::of(&world));
    let many = async |instance: &Instance<'_>| {
        for _ in 0..8 {
            let said = instance
                .at_once(KillPosition::Off, "alice", "secret", at(0))
                .await;
            assert!(said.ends_with(" hr:alice"), "{said}");
        }
        instance.deps.homes.settled().await;
    };
    tokio::join!(many(&one), many(&other));
    let calls = world.new.accounts.as_ref().unwrap().calls();
    let count = |what: &str| calls.iter().filter(|call| call.starts_with(what)).count();
    assert_eq!((count("create"), count("set")), (1, 1), "{calls:?}");
}

#[tokio::test]
async fn an_account_that_is_not_this_persons_gets_no_password() {
    // Somebody else has been linked with the account.
    let one_world = world(FakeAccounts::default().with("alice", None));
    let one = Instance::of(&one_world);
    let (mallory, new) = (
        CanonicalSubject::named("hr:mallory").unwrap(),
        ProviderId::new("new"),
    );
    let key = identity("new", "alice").key;
    let link = one
        .deps
        .joiner
        .link(&mallory, (&new, &key), Method::Claim, at(0));
    link.await.unwrap();
    assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
    assert_eq!(one.accounts().calls(), ["find alice"]);
    assert_eq!(one.told("subject_mismatch"), 1);
    // The person has another account there, which is not found.
    let other_world = world(FakeAccounts::default());
    let other = Instance::of(&other_world);
    let (bob, key) = (
        CanonicalSubject::named("hr:bob").unwrap(),
        identity("new", "robert").key,
    );
    let link = other
        .deps
        .joiner
        .link(&bob, (&new, &key), Method::Claim, at(0));
    link.await.unwrap();
    assert_eq!(other.ask("bob", "secret", at(0)).await, "old hr:bob");
    assert_eq!(other.accounts().calls(), ["find bob"]);
    assert_eq!(other.told("subject_mismatch"), 1);
}

#[tokio::test]
async fn an_account_that_names_nobody_is_somebodys_only_by_an_earlier_link() {
    for linked in [false, true] {
        let mut world = world(FakeAccounts::default().with("alice", None));
        world.canonical = Some(Canonical::by_claims("hr:{subject}", Vec::new(), &["old"]));
        let one = Instance::of(&world);
        if linked {
            let (alice, new) = (
                CanonicalSubject::named("hr:alice").unwrap(),
                ProviderId::new("new"),
            );
            let key = identity("new", "alice").key;
            let joiner = &one.deps.joiner;
            let link = joiner.link(&alice, (&new, &key), Method::File, at(0));
            link.await.unwrap();
        }
        assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
        let moved = u64::from(linked);
        assert_eq!(one.told("moved"), moved);
        assert_eq!(one.told("subject_mismatch"), 1 - moved);
        if !linked {
            assert_eq!(one.accounts().calls(), ["find alice"], "nothing is written");
        }
    }
}

#[tokio::test]
async fn a_password_that_somebody_chose_there_is_not_overwritten() {
    for (password, outcome) in [("other", "refused"), ("secret", "moved")] {
        let world = world(FakeAccounts::default().with("alice", Some(password)));
        let one = Instance::of(&world);
        assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
        assert_eq!(one.accounts().calls(), ["find alice", "check alice"]);
        assert_eq!(one.told(outcome), 1, "{password}");
    }
    // Where the provider does not say, they may have; the same password moves all the same.
    for (password, moved) in [("other", 0), ("secret", 1)] {
        let accounts = FakeAccounts {
            silent: true,
            ..FakeAccounts::default().with("alice", Some(password))
        };
        let world = world(accounts);
        let one = Instance::of(&world);
        assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
        assert_eq!(one.accounts().calls(), ["find alice", "check alice"]);
        assert_eq!(one.told("moved"), moved, "{password}");
    }
}

#[tokio::test]
async fn a_disabled_account_gets_no_password() {
    let world = world(FakeAccounts::default().with("alice", None));
    let one = Instance::of(&world);
    one.accounts()
        .change("alice", |account| account.enabled = false);
    assert_eq!(one.ask("alice", "secret", at(0)).await, "old hr:alice");
    assert_eq!(one.accounts().calls(), ["find alice"]);
    assert_eq!(one.told("refused"), 1);
}

#[tokio::test]
async fn another_spelling_of_the_name_leads_to_the_same_judge() {
    let world = world(FakeAccounts::default());
    let one = Instance::of(&world);
    one.ask("alice", "secret", at(0)).await;
    one.accounts()
        .change("alice", |account| account.password = Some("changed".into()));
    let asked = world.old.asked();
    for name in ["ALICE", "Alice"] {
        assert_eq!(one.ask(name, "changed", at(1)).await, "new hr:alice");
        assert!(
            one.ask(name, "secret", at(1))
                .await
                .contains("bad_credentials")
        );
    }
    assert_eq!(world.old.asked(), asked);
    // One that only the old side knows: what it says is not what counts, and it is not asked a second time.
    for expected in [1, 0] {
        let asked = world.old.asked();
        let refused = one.ask("ａlice", "secret", at(2)).await;
        assert!(refused.contains("bad_credentials"), "{refused}");
        assert_eq!(world.old.asked() - asked, expected);
    }
    assert_eq!(one.ask("ａlice", "changed", at(3)).await, "new hr:alice");
}

#[tokio::test]
async fn the_switch_says_who_judges_what_has_moved() {
    let mut world = world(FakeAccounts::default());
    Instance::of(&world).ask("alice", "secret", at(0)).await;
    for (kill, expected) in [
        (KillPosition::Off, "new hr:alice"),
        (KillPosition::Freeze, "new hr:alice"),
        (KillPosition::Modern, "new hr:alice"),
        (KillPosition::Legacy, "old hr:alice"),
    ] {
        let one = Instance::of(&world);
        let said = one.under(kill, "alice", "secret", at(1)).await;
        assert_eq!(said, expected, "{kill:?}");
    }
    // Whatever becomes of the rollout, as long as anybody is at the new side.
    for (mode, expected) in [
        (Mode::Shadow, "old hr:alice"),
        (Mode::LegacyOnly, "old hr:alice"),
        (Mode::ModernPrimary, "new hr:alice"),
        (Mode::ModernOnly, "new hr:alice"),
    ] {
        let stage = &mut world.plan.as_mut().unwrap().stage;
        stage.mode = mode;
        stage.assign.clear();
        stage.other_arm = OtherArm::Reject;
        stage.passwords = rollout::Passwords::Kept;
        let said = Instance::of(&world).ask("alice", "secret", at(2)).await;
        assert_eq!(said, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn a_name_that_was_given_to_somebody_else_there_lets_nobody_in() {
    let world = world(FakeAccounts::default());
    let one = Instance::of(&world);
    one.ask("alice", "secret", at(0)).await;
    one.accounts()
        .change("alice", |account| account.subject = "mallory".to_owned());
    let said = one.ask("alice", "secret", at(1)).await;
    assert!(said.contains("link_conflict"), "{said}");
}

#[tokio::test]
async fn a_password_that_moved_lets_nobody_in_as_whose_account_it_was() {
    let store: Arc<MemoryStore> = Arc::default();
    let world = on(Arc::clone(&store) as _, FakeAccounts::default());
    Instance::of(&world).ask("alice", "secret", at(0)).await;
    Instance::of(&world).ask("bob", "secret", at(0)).await;
    let said = Instance::of(&world).ask("alice", "secret", at(1)).await;
    assert_eq!(said, "new hr:alice");
    // Her account of the old side was taken for hers by mistake: it is his, and what says where it moved is still there.
    let (bob, old) = (
        CanonicalSubject::named("hr:bob").unwrap(),
        ProviderId::new("old"),
    );
    let (links, key) = (Links::new(store), identity("old", "alice").key);
    let changes = links.would_change(&bob, &old, &key, at(2)).await.unwrap();
    assert!(changes.taken_from.is_some());
    let decided = links.decide(&bob, &old, &key, (&changes, at(2)));
    decided.await.unwrap();
    for name in ["alice", "ALICE", "ａlice"] {
        let said = Instance::of(&world).ask(name, "secret", at(3)).await;
        assert!(!said.contains("hr:alice"), "{name}: {said}");
    }
}

#[tokio::test]
async fn without_an_answer_of_the_store_nobody_judges() {
    let store: Arc<FakeStore> = Arc::default();
    let world = on(Arc::clone(&store) as _, FakeAccounts::default());
    let one = Instance::of(&world);
    one.ask("alice", "secret", at(0)).await;
    let asked = world.old.asked();
    one.accounts().calls();
    store.away.store(true, Ordering::SeqCst);
    let said = one.ask("alice", "secret", at(1)).await;
    assert!(!said.contains("hr:"), "{said}");
    assert_eq!(world.old.asked(), asked);
    assert_eq!(one.accounts().calls(), [""; 0]);
}
