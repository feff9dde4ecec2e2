//! What a restart knows, whenever the program is ended and whatever the disk takes.

use std::sync::Weak;

use super::*;

impl Estate {
    /// One without a shared store, in a directory of its own.
    fn alone(&self) -> Instance {
        let instance = self.start("alone", tempfile::tempdir().unwrap(), None);
        instance.conductor.adopt(vec![course()]).unwrap();
        instance
    }

    /// The same instance after a restart: of the old one only the directory is left.
    fn again(&self, before: Instance) -> Instance {
        let Instance {
            conductor,
            directory,
            ..
        } = before;
        drop(conductor);
        let instance = self.start("alone", directory, None);
        let plans = instance.conductor.plans(&[course()]).unwrap();
        instance.conductor.adopt(vec![course()]).unwrap();
        assert_eq!(plans[0].epoch, instance.epoch(), "what is built decides so");
        instance
    }
}

impl Instance {
    fn epoch(&self) -> u64 {
        self.standing().progress.epoch
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("rollouts/crm-2026.json")
    }

    fn last(&self) -> serde_json::Value {
        serde_json::from_str(self.records().lines().last().unwrap()).unwrap()
    }

    /// An order whose record is written, and of which nothing was kept: it was killed in between.
    async fn killed_in(&self, command: Command) {
        let kept = fs::read(self.file()).unwrap();
        self.order(command).await.unwrap();
        fs::write(self.file(), kept).unwrap();
    }

    /// From here on nothing new can be written beside the file.
    fn disk_is_full(&self, is_full: bool) {
        let beside = self.file().with_extension("new");
        if is_full {
            fs::create_dir(beside).unwrap();
        } else {
            fs::remove_dir(beside).unwrap();
        }
    }
}

async fn at_ramp(estate: &Estate) -> Instance {
    let one = estate.alone();
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    one
}

#[tokio::test]
async fn a_step_back_that_is_recorded_and_not_kept_holds_after_a_restart() {
    let estate = Estate::new();
    for command in [Command::Rollback, Command::SetStage("staff".into())] {
        let one = at_ramp(&estate).await;
        one.killed_in(command).await;
        let stood = one.standing().progress;
        let one = estate.again(one);
        let stands = one.standing().progress;
        let step = |progress: &Progress| {
            (
                progress.name(&course()),
                progress.state,
                progress.epoch,
                progress.version,
            )
        };
        assert_eq!(step(&stands), step(&stood));
        assert_eq!(stands.epoch, 1, "the pins of before are void");
        assert!(!one.records().contains("void"), "{}", one.records());
        // It is kept from here on.
        one.conductor.tick().await;
        let stands = one.standing().progress;
        assert_eq!(estate.again(one).standing().progress, stands);
    }
}

#[tokio::test]
async fn a_step_forward_that_is_recorded_and_not_kept_does_not_hold_and_the_ledger_says_so() {
    let estate = Estate::new();
    let one = at_ramp(&estate).await;
    one.killed_in(Command::SetStage("ramp/98".into())).await;
    let one = estate.again(one);
    assert_eq!(one.stands(), ("ramp/25".into(), State::Baking));
    assert_eq!(one.last()["void"], "because", "{}", one.records());
    // A halt is one of the two, too.
    one.conductor.tick().await;
    one.killed_in(Command::Pause).await;
    let one = estate.again(one);
    assert_eq!(one.stands(), ("ramp/25".into(), State::Held));
    one.conductor.tick().await;
    one.killed_in(Command::Resume).await;
    let one = estate.again(one);
    assert_eq!(one.stands(), ("ramp/25".into(), State::Held));
    let records = one.records().lines().count();
    let one = estate.again(one);
    assert_eq!(one.stands().1, State::Held);
    assert_eq!(one.records().lines().count(), records, "it is said once");
}

#[tokio::test]
async fn a_fire_that_is_recorded_and_not_kept_cools_down_after_a_restart_and_its_sessions_end() {
    let estate = Estate::new();
    let one = at_ramp(&estate).await;
    let kept = fs::read(one.file()).unwrap();
    one.conductor
        .runs()
        .values_mut()
        .next()
        .unwrap()
        .findings
        .breaker = Some(rollout::OnTrip::RollbackRevoke);
    let transition = {
        let runs = one.conductor.runs();
        let run = runs.values().next().unwrap();
        let now = estate.clock.now();
        rollout::tick(&run.progress, &run.view(KillPosition::Off, now)).unwrap()
    };
    let id = course().id;
    let burnt = one
        .conductor
        .commit(&id, transition, "controller", (None, None))
        .await;
    burnt.unwrap();
    let stood = one.standing().progress;
    fs::write(one.file(), kept).unwrap();
    let one = estate.again(one);
    let stands = one.standing().progress;
    assert_eq!(one.stands(), ("ramp/from".into(), State::RolledBack));
    assert_eq!(
        (stands.autos, stands.cooldown_until, stands.epoch),
        (stood.autos, stood.cooldown_until, stood.epoch)
    );
    assert!(one.conductor.runs().values().all(|run| run.owes_revocation));
}

#[tokio::test]
async fn a_step_back_on_a_full_disk_is_known_after_a_restart() {
    let estate = Estate::new();
    let one = at_ramp(&estate).await;
    one.disk_is_full(true);
    one.order(Command::Rollback).await.unwrap();
    assert!(one.standing().kept, "{:?}", one.standing());
    // Of a ledger that took nothing there is no record either.
    let ledger = one.directory.path().join("decisions.jsonl");
    let text = one.records();
    let before = text.trim_end().rfind('\n').unwrap();
    fs::write(ledger, text.get(..=before).unwrap()).unwrap();
    let one = estate.again(one);
    assert_eq!(one.stands(), ("ramp/1".into(), State::RolledBack));
    assert_eq!(one.epoch(), 1);
    let told = one.last();
    assert_eq!(
        (told["to"].as_str(), told["direction"].as_str()),
        (Some("ramp/1"), Some("back")),
        "{told}"
    );
    // And once more, while it is full; then it is kept whole, and goes on from there.
    one.conductor.tick().await;
    let one = estate.again(one);
    assert_eq!((one.stands().0, one.epoch()), ("ramp/1".into(), 1));
    one.disk_is_full(false);
    one.conductor.tick().await;
    one.order(Command::Resume).await.unwrap();
    let one = estate.again(one);
    assert_eq!(one.stands(), ("ramp/1".into(), State::Baking));
}

#[tokio::test]
async fn what_a_restart_would_forget_is_said_and_kept_as_soon_as_it_can_be() {
    let estate = Estate::new();
    let one = at_ramp(&estate).await;
    let (rollouts, away) = (one.directory.path().join("rollouts"), "away");
    let away = one.directory.path().join(away);
    fs::rename(&rollouts, &away).unwrap();
    fs::write(&rollouts, "no directory").unwrap();
    one.order(Command::Rollback).await.unwrap();
    assert!(!one.standing().kept);
    assert_eq!(one.stands().0, "ramp/1", "it holds in any case");
    one.conductor.tick().await;
    assert!(!one.standing().kept);
    fs::remove_file(&rollouts).unwrap();
    fs::rename(&away, &rollouts).unwrap();
    one.conductor.tick().await;
    assert!(one.standing().kept);
    let kept = fs::read_to_string(one.file()).unwrap();
    assert!(kept.contains("rolled_back"), "{kept}");
}

/// Notes what is kept at the moment when a step takes effect: the version there, and that of the progress.
#[derive(Debug)]
struct Watching {
    file: PathBuf,
    conductor: Weak<Conductor>,
    seen: Mutex<Vec<(Option<u64>, u64)>>,
}

#[async_trait]
impl Stage for Watching {
    fn rebuild(&self) -> Result<(), String> {
        let conductor = self.conductor.upgrade().ok_or("it is gone")?;
        let version = conductor.standings().remove(0).progress.version;
        let kept = fs::read_to_string(&self.file).unwrap_or_default();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap_or_default();
        let kept = kept["progress"]["version"].as_u64();
        self.seen.lock().unwrap().push((kept, version));
        Ok(())
    }

    async fn is_ready(&self, _: &ProviderId) -> Result<(), String> {
        Ok(())
    }

    async fn may_begin(&self, _: &RolloutId, _: &str, _: Option<u64>) -> Result<(), String> {
        Ok(())
    }

    async fn revoke(&self, _: &ProviderId, _: &str) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test]
async fn a_step_is_kept_before_it_takes_effect() {
    let estate = Estate::new();
    let one = estate.alone();
    let watching = Arc::new(Watching {
        file: one.file(),
        conductor: Arc::downgrade(&one.conductor),
        seen: Mutex::default(),
    });
    one.conductor.on(watching.clone());
    for command in [
        Command::Start,
        Command::SetStage("ramp/25".into()),
        Command::Rollback,
    ] {
        one.order(command).await.unwrap();
    }
    let seen = watching.seen.lock().unwrap().clone();
    assert_eq!(seen, [1, 2, 3].map(|version| (Some(version), version)));
}

/// Guards that a file gives to a step that has baked hold it once they have had the time of the step, over restarts.
#[tokio::test]
async fn guards_that_are_newer_than_their_step_do_not_hold_it_at_once() {
    let estate = Estate::new();
    let one = estate.start("alone", tempfile::tempdir().unwrap(), None);
    let mut unwatched = course();
    for leg in &mut unwatched.legs {
        leg.guardrails = None;
    }
    one.conductor.adopt(vec![unwatched]).unwrap();
    one.order(Command::Start).await.unwrap();
    one.order(Command::SetStage("ramp/25".into()))
        .await
        .unwrap();
    estate.clock.advance(Duration::from_hours(48));
    one.conductor.tick().await;
    let one = estate.again(one);
    // Not even before the first look is anything promoted.
    let refused = one.order(Command::Promote).await.unwrap_err();
    assert!(refused.contains("guard login: no data"), "{refused}");
    one.conductor.tick().await;
    let waits = |one: &Instance| {
        let standing = one.standing();
        let mut blocked = standing.blocked.iter();
        blocked.any(|gap| gap.obstacle == Obstacle::NoData)
    };
    assert_eq!(one.stands(), ("ramp/25".into(), State::Baking));
    assert!(waits(&one));
    estate.clock.advance(Duration::from_hours(47));
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("ramp/25".into(), State::Baking));
    let one = estate.again(one);
    estate.clock.advance(Duration::from_hours(1));
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("ramp/25".into(), State::Held));
    assert_eq!(one.last()["why"], "no data: guard login, session");
    // What was held for want of people bakes no second time, whoever was restarted meanwhile.
    let one = estate.again(one);
    let step = one.standing().progress.order();
    one.order(Command::Resume).await.unwrap();
    assert_eq!(one.standing().progress.order(), step);
    one.conductor.tick().await;
    assert_eq!(one.stands(), ("ramp/25".into(), State::Held));
}
