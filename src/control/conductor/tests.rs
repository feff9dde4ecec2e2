//! Two instances that share a store: one drives, the other stands where it stands.

mod hooked;
mod kept;
mod probed;

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::*;
use crate::clock::ManualClock;
use crate::clock::UnixTime;
use crate::control::KillSettings;
use crate::control::Traveller;
use crate::ledger::LedgerSettings;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::Command;
use crate::rollout::KillPosition;
use crate::rollout::State;
use crate::rollout::testing::course;
use crate::secret::Secret;
use crate::store::FakeStore;
use crate::store::MemoryStore;
use crate::store::Store;
use crate::telemetry::DecisionLog;

struct Instance {
    conductor: Arc<Conductor>,
    directory: tempfile::TempDir,
    key: BucketKey,
}

/// Instances with one clock and one store.
struct Estate {
    clock: ManualClock,
    store: Arc<dyn Store>,
}

impl Estate {
    fn new() -> Self {
        Self {
            clock: ManualClock::at(UnixTime::from_secs(1_000_000)),
            store: Arc::new(MemoryStore::default()),
        }
    }

    fn instance(&self, node: &str) -> Instance {
        let shared = Shared::new(Arc::clone(&self.store), node, "1");
        self.start(node, tempfile::tempdir().unwrap(), Some(shared))
    }

    fn start(&self, node: &str, directory: tempfile::TempDir, shared: Option<Shared>) -> Instance {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let metrics = Metrics::new(Arc::clone(&clock), 100);
        let kill = KillSettings {
            file: directory.path().join("kill"),
            poll: Duration::from_millis(200),
            state: directory.path().join("kill.json"),
            environment: None,
        };
        let decisions = DecisionLog::off();
        let kill = KillSwitch::start(kill, Arc::clone(&clock), Arc::clone(&metrics), decisions);
        let ledger = LedgerSettings {
            file: directory.path().join("decisions.jsonl"),
            configurations: directory.path().join("configurations"),
            mirror: false,
            node: node.to_owned(),
        };
        let ledger = Ledger::open(ledger, Arc::clone(&clock), Arc::clone(&metrics));
        let (kill, ledger) = (kill.unwrap(), Arc::new(ledger.unwrap()));
        kill.record_in(Arc::clone(&ledger));
        let conductor = Conductor::new(Parts {
            directory: directory.path().join("rollouts"),
            clock,
            ledger: Arc::clone(&ledger),
            journeys: Arc::new(Journeys::new(Arc::clone(&metrics))),
            kill: Arc::new(kill),
            metrics,
            shared: shared.map(Arc::new),
        });
        let conductor = Arc::new(conductor);
        conductor.witness();
        Instance {
            conductor,
            directory,
            key: BucketKey::new(Secret::new(vec![7; 32])),
        }
    }

    /// Two that know the rollout; the first leads.
    async fn pair(&self) -> (Instance, Instance) {
        let pair = (self.instance("one"), self.instance("two"));
        for instance in [&pair.0, &pair.1] {
            instance.conductor.learn(&[course()]).await.unwrap();
            instance.conductor.adopt(vec![course()]).unwrap();
            instance.conductor.tick().await;
        }
        pair
    }
}

impl Instance {
    async fn order(&self, command: Command) -> Result<(), String> {
        let rollout = course().id;
        let ordered = self
            .conductor
            .order(&rollout, &command, "ops", ("because", None));
        ordered.await.map(|_| ())
    }

    fn standing(&self) -> Standing {
        self.conductor.standings().remove(0)
    }

    fn stands(&self) -> (String, State) {
        let standing = self.standing();
        (
            standing.progress.name(&standing.course),
            standing.progress.state,
        )
    }

    fn records(&self) -> String {
        fs::read_to_string(self.directory.path().join("decisions.jsonl")).unwrap()
    }

    /// Somebody signs in here at the new provider.
    async fn signs_in(&self, device: &str) {
        let plans = self.conductor.plans(&[course()]).unwrap();
        let traveller = Traveller {
            plan: &plans[0],
            app: &AppId::new("crm"),
            device,
            arm: Arm::To,
            silent: false,
            now: self.conductor.parts.clock.now(),
        };
        let journeys = &self.conductor.parts.journeys;
        let how = (Some(Arm::To), true);
        let background = tokio::runtime::Handle::current();
        let departs = journeys.departs(&background, &traveller, how, &self.key);
        departs.await.unwrap().is_told();
        let person = crate::identity::CanonicalSubject::named(device).unwrap();
        journeys
            .succeeded(&traveller, &person, None, &self.key)
            .await;
    }

    fn people(&self) -> u64 {
        let findings = self.standing().findings;
        findings.guards.first().map_or(0, |guard| guard.units.to)
    }
}

#[tokio::test]
async fn the_others_stand_where_the_leader_stands_and_record_it() {
    let estate = Estate::new();
    let (one, two) = estate.pair().await;
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    assert_eq!(two.stands().1, State::Draft, "it has not looked yet");
    two.conductor.tick().await;
    assert_eq!(two.stands(), ("ramp/25".into(), State::Baking));
    assert!(
        two.records().contains("another instance"),
        "{}",
        two.records()
    );
    assert_eq!(two.standing().missing, ["led by one"]);
    // A third one, and one that begins anew, know it before they decide anything.
    let three = estate.instance("three");
    three.conductor.learn(&[course()]).await.unwrap();
    let plan = three.conductor.plans(&[course()]).unwrap().remove(0);
    assert_eq!(&*plan.stage.id, "ramp");
}

#[tokio::test]
async fn an_order_holds_for_all_wherever_it_is_given_unless_it_rests_on_evidence() {
    let estate = Estate::new();
    let (one, two) = estate.pair().await;
    two.order(Command::Start).await.unwrap();
    two.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    let refused = two.order(Command::Promote).await.unwrap_err();
    assert_eq!(refused, "the evidence is elsewhere: led by one");
    // Not looked at since: what follows begins where the other one has moved it.
    one.order(Command::Rollback).await.unwrap();
    assert_eq!(one.stands(), ("ramp/1".into(), State::RolledBack));
    two.order(Command::Resume).await.unwrap();
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("ramp/1".into(), State::Baking));
    assert_eq!(one.standing().progress, two.standing().progress);
}

#[tokio::test]
async fn while_nobody_leads_nobody_moves_and_then_another_leads() {
    let estate = Estate::new();
    let (one, two) = estate.pair().await;
    one.order(Command::Start).await.unwrap();
    two.conductor.tick().await;
    drop(one);
    estate.clock.advance(Duration::from_secs(9));
    two.conductor.tick().await;
    assert_eq!(two.standing().missing, ["led by one"]);
    estate.clock.advance(Duration::from_secs(2));
    two.conductor.tick().await;
    assert!(!two.standing().missing.iter().any(|why| why.contains("led")));
    let again = estate.instance("one");
    again.conductor.learn(&[course()]).await.unwrap();
    again.conductor.adopt(vec![course()]).unwrap();
    again.conductor.tick().await;
    assert_eq!(again.standing().missing, ["led by two"]);
    two.conductor.leave().await;
    again.conductor.tick().await;
    assert!(
        !again
            .standing()
            .missing
            .iter()
            .any(|why| why.contains("led"))
    );
}

#[tokio::test]
async fn people_count_wherever_they_sign_in_and_whoever_leads() {
    let estate = Estate::new();
    let (one, two) = estate.pair().await;
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    two.conductor.tick().await;
    for n in 0..4 {
        one.signs_in(&format!("a{n}")).await;
        two.signs_in(&format!("b{n}")).await;
    }
    // The same person at both is one.
    two.signs_in("a0").await;
    estate.clock.advance(Duration::from_secs(5));
    two.conductor.tick().await;
    one.conductor.tick().await;
    estate.clock.advance(Duration::from_secs(35));
    one.conductor.tick().await;
    assert_eq!(one.people(), 8);
    // Who takes the lead goes on with them.
    one.conductor.leave().await;
    two.conductor.tick().await;
    estate.clock.advance(Duration::from_secs(1));
    two.conductor.tick().await;
    assert_eq!(two.people(), 8);
}

/// An exercise that has passed where one led counts where the next one leads, in this stage alone.
#[tokio::test]
async fn what_has_passed_where_one_led_counts_where_the_next_one_leads() {
    let estate = Estate::new();
    let (one, two) = estate.pair().await;
    let passed = |instance: &Instance| {
        let runs = instance.conductor.runs();
        let run = runs.values().next().unwrap();
        run.drills
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let id = one.standing().course.id.clone();
    let exercise = rollout::Exercise::named("slow:2s").unwrap();
    assert!(
        two.conductor.drilled(&id, exercise).await.is_err(),
        "it does not lead"
    );
    one.order(Command::Start).await.unwrap();
    one.conductor.drilled(&id, exercise).await.unwrap();
    two.conductor.tick().await;
    one.conductor.leave().await;
    two.conductor.tick().await;
    assert_eq!(passed(&two), ["slow:2s"]);
    // In another stage it is to be done anew, whoever leads.
    two.order(Command::SetStage("ramp/1".into())).await.unwrap();
    assert_eq!(passed(&two), Vec::<String>::new());
    let three = estate.instance("c");
    three.conductor.learn(&[course()]).await.unwrap();
    three.conductor.adopt(vec![course()]).unwrap();
    two.conductor.leave().await;
    three.conductor.tick().await;
    assert_eq!(passed(&three), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_closed_stays_so_whatever_becomes_of_the_store() {
    let one = Estate::new().instance("one");
    let from = course().from;
    one.conductor.close(&[from].into());
    one.conductor.close(&BTreeSet::new());
    assert!(one.conductor.plans(&[course()]).unwrap()[0].closed);
}

#[tokio::test]
async fn a_move_of_the_kill_switch_is_recorded_with_what_the_guards_said() {
    let estate = Estate::new();
    let (one, _) = estate.pair().await;
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    one.signs_in("anna").await;
    estate.clock.advance(Duration::from_secs(31));
    one.conductor.tick().await;
    let kill = &one.conductor.parts.kill;
    kill.set(KillPosition::Freeze, None, "ops", "a look")
        .unwrap();
    let records = one.records();
    let told: serde_json::Value = serde_json::from_str(records.lines().last().unwrap()).unwrap();
    let units = &told["evidence"][course().id.as_str()]["login"]["units"];
    assert_eq!(
        (&told["kind"], &units["modern"]),
        (&"kill_switch".into(), &1.into()),
        "{told}"
    );
}

/// Where a file says where it stands each instance has its own switch; whom it recalls is recalled at all of them.
#[tokio::test]
async fn pins_that_are_void_at_one_are_void_at_all() {
    let estate = Estate::new();
    let mut course = course();
    course.control = rollout::Control::Pinned;
    let epoch = |instance: &Instance| {
        let plans = instance.conductor.plans(std::slice::from_ref(&course));
        plans.unwrap().remove(0).epoch
    };
    let starts = async |node: &str| {
        let instance = estate.instance(node);
        let courses = std::slice::from_ref(&course);
        instance.conductor.learn(courses).await.unwrap();
        instance.conductor.adopt(courses.to_vec()).unwrap();
        instance
    };
    let (one, two) = (starts("one").await, starts("two").await);
    for instance in [&one, &two] {
        instance.conductor.tick().await;
        assert_eq!(epoch(instance), 0);
    }
    let kill = &two.conductor.parts.kill;
    let moved = kill.set(KillPosition::Legacy, None, "ops", "wrong people");
    moved.unwrap();
    two.conductor.tick().await;
    assert_eq!(epoch(&two), 1);
    // It tells them when it looks again, and they look as often.
    two.conductor.tick().await;
    one.conductor.tick().await;
    assert_eq!((epoch(&one), one.stands().1), (1, State::Baking));
    assert!(one.records().contains("another instance"));
    kill.set(KillPosition::Off, None, "ops", "mended").unwrap();
    for instance in [&two, &one, &two] {
        instance.conductor.tick().await;
        assert_eq!(epoch(instance), 1);
    }
    assert_eq!(two.stands().1, State::Baking);
    // One that begins anew knows it before it decides anything.
    assert_eq!(epoch(&starts("three").await), 1);
}

/// Who says where it stands may change, and an instance may begin with nothing: what was voided stays void.
#[tokio::test]
async fn pins_stay_void_whoever_says_where_a_rollout_stands() {
    let estate = Estate::new();
    let by_file = || Course {
        control: rollout::Control::Pinned,
        ..course()
    };
    let starts = async |node: &str, course: &Course| {
        let instance = estate.instance(node);
        let courses = std::slice::from_ref(course);
        instance.conductor.learn(courses).await.unwrap();
        instance.conductor.adopt(courses.to_vec()).unwrap();
        instance.conductor.tick().await;
        instance
    };
    let epoch = |instance: &Instance| instance.standing().progress.epoch;
    let recalls = async |instance: &Instance| {
        let kill = &instance.conductor.parts.kill;
        for position in [KillPosition::Legacy, KillPosition::Off] {
            kill.set(position, None, "ops", "wrong people").unwrap();
            instance.conductor.tick().await;
        }
        // It tells the others when it looks again.
        instance.conductor.tick().await;
    };
    let one = starts("one", &by_file()).await;
    recalls(&one).await;
    assert_eq!(epoch(&one), 1);
    // With the controller in charge from here on, of which no row is there; the lease of the first is over.
    estate.clock.advance(Duration::from_secs(11));
    let two = starts("two", &course()).await;
    assert_eq!(epoch(&two), 1);
    two.order(Command::Start).await.unwrap();
    two.order(Command::SetStage("ramp".into())).await.unwrap();
    recalls(&two).await;
    assert_eq!(epoch(&two), 2);
    // And with the file again, of which the row is older.
    let three = starts("three", &by_file()).await;
    assert_eq!(epoch(&three), 2);
    recalls(&three).await;
    assert_eq!(epoch(&three), 3);
    // One that runs hears of it, and one that begins where the row of the controller is older.
    two.conductor.tick().await;
    assert_eq!(epoch(&two), 3);
    assert_eq!(epoch(&starts("four", &course()).await), 3);
}

/// A program around it that refuses what it is told to.
#[derive(Debug, Default)]
struct Around {
    recall: AtomicBool,
    away: AtomicBool,
}

#[async_trait]
impl Stage for Around {
    fn rebuild(&self) -> Result<(), String> {
        Ok(())
    }

    async fn is_ready(&self, _: &ProviderId) -> Result<(), String> {
        let away = self.away.load(Ordering::SeqCst);
        (!away)
            .then_some(())
            .ok_or_else(|| String::from("no answer"))
    }

    async fn may_begin(&self, _: &RolloutId, _: &str, _: Option<u64>) -> Result<(), String> {
        let recall = self.recall.load(Ordering::SeqCst);
        (!recall)
            .then_some(())
            .ok_or_else(|| String::from("7 people"))
    }

    async fn revoke(&self, _: &ProviderId, _: &str) -> Result<(), String> {
        Ok(())
    }
}

impl Instance {
    /// Why it stays where it is, as operators see it in two places.
    fn blocked(&self) -> Vec<&'static str> {
        let gaps = self.standing().blocked;
        let told: Vec<_> = gaps.iter().map(|gap| gap.obstacle.as_str()).collect();
        let page = self.conductor.parts.metrics.render().unwrap();
        let rows = page
            .lines()
            .filter(|line| line.starts_with("authferry_rollout_blocked{"));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), told.len(), "{told:?}: {rows:?}");
        for reason in &told {
            let named = format!("reason=\"{reason}\"");
            let row = rows.iter().find(|row| row.contains(&named));
            assert!(row.is_some_and(|row| row.ends_with("} 1")), "{rows:?}");
        }
        told
    }
}

#[tokio::test]
async fn a_step_that_is_refused_is_shown_until_it_is_taken() {
    let estate = Estate::new();
    let due = estate.clock.now() + Duration::from_hours(1);
    let mut by_clock = course();
    by_clock.control = rollout::Control::Schedule;
    let steps = &mut by_clock.legs.get_mut(1).unwrap().steps;
    steps.get_mut(0).unwrap().at = Some(estate.clock.now());
    steps.get_mut(1).unwrap().at = Some(due);
    let (one, around) = (estate.instance("one"), Arc::new(Around::default()));
    one.conductor.on(Arc::clone(&around) as Arc<dyn Stage>);
    one.conductor.adopt(vec![by_clock]).unwrap();
    one.conductor.tick().await;
    assert_eq!(one.stands().0, "ramp/1");
    assert_eq!(one.blocked(), Vec::<&str>::new(), "nothing is due");

    around.recall.store(true, Ordering::SeqCst);
    estate.clock.advance(Duration::from_hours(1));
    one.conductor.tick().await;
    assert_eq!(one.stands().0, "ramp/1");
    assert_eq!(one.blocked(), ["recall"]);
    assert!(one.standing().missing.contains(&"7 people".to_owned()));

    // It is tried each minute, and says what is wrong now.
    around.recall.store(false, Ordering::SeqCst);
    around.away.store(true, Ordering::SeqCst);
    one.conductor.tick().await;
    assert_eq!(one.blocked(), ["recall"], "it was tried a moment ago");
    estate.clock.advance(PATIENCE);
    one.conductor.tick().await;
    assert_eq!(one.blocked(), ["provider"]);

    estate.clock.advance(PATIENCE);
    around.away.store(false, Ordering::SeqCst);
    one.conductor.tick().await;
    assert_eq!(one.stands().0, "ramp/25");
    assert_eq!(one.blocked(), Vec::<&str>::new());
}

/// What was in the way of a step is nothing to tell of when that is not due any more, for another reason.
#[tokio::test]
async fn a_step_that_is_not_due_any_more_is_not_refused() {
    let estate = Estate::new();
    let mut gated = course();
    let staff = gated.legs.get_mut(0).unwrap();
    staff.when = rollout::PromoteWhen::Auto;
    staff.require = rollout::Require {
        rollback_exposure_max: Some(0),
        ..rollout::Require::default()
    };
    let (one, around) = (estate.instance("one"), Arc::new(Around::default()));
    one.conductor.on(Arc::clone(&around) as Arc<dyn Stage>);
    one.conductor.adopt(vec![gated]).unwrap();
    one.conductor.tick().await;
    one.order(Command::Start).await.unwrap();
    let id = one.standing().course.id.clone();
    estate.clock.advance(Duration::from_hours(25));
    one.conductor.tick().await;
    assert_eq!(one.blocked(), ["rollback_exposure"], "it is not known");
    around.recall.store(true, Ordering::SeqCst);
    one.conductor.exposed(&id, Some(0));
    one.conductor.tick().await;
    assert_eq!(
        (one.stands().0, one.blocked()),
        ("staff".into(), vec!["recall"])
    );
    one.conductor.exposed(&id, Some(5));
    estate.clock.advance(PATIENCE);
    one.conductor.tick().await;
    assert_eq!(one.blocked(), ["rollback_exposure"]);
}

#[tokio::test]
async fn what_a_step_that_has_baked_waits_for_is_shown_and_a_bake_is_not() {
    let estate = Estate::new();
    let (one, two) = estate.pair().await;
    one.order(Command::Start).await.unwrap();
    one.conductor.tick().await;
    assert!(
        one.standing().missing.len() > 2,
        "the bake, people, a drill"
    );
    assert_eq!(one.blocked(), Vec::<&str>::new());
    estate.clock.advance(Duration::from_hours(25));
    // The lease is anybody's by now.
    one.conductor.tick().await;
    two.conductor.tick().await;
    assert_eq!(one.blocked(), ["people", "drill"]);
    assert_eq!(two.blocked(), Vec::<&str>::new(), "whoever leads says so");
    let exercise = rollout::Exercise::named("modern-outage").unwrap();
    let id = one.standing().course.id.clone();
    one.conductor.drilled(&id, exercise).await.unwrap();
    one.conductor.tick().await;
    assert_eq!(one.blocked(), ["people"]);
    // Whoever has stopped it knows why it stands.
    one.order(Command::Pause).await.unwrap();
    assert_eq!(one.blocked(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_store_that_is_away_holds_a_rollout_and_is_said_to() {
    let store = Arc::new(FakeStore::default());
    let estate = Estate {
        store: Arc::clone(&store) as Arc<dyn Store>,
        ..Estate::new()
    };
    let one = estate.pair().await.0;
    one.order(Command::Start).await.unwrap();
    store.away.store(true, Ordering::SeqCst);
    for _ in 0..30 {
        one.conductor.tick().await;
        estate.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(one.blocked(), ["store"]);
    store.away.store(false, Ordering::SeqCst);
    one.conductor.tick().await;
    assert_eq!(one.blocked(), Vec::<&str>::new());
}
