//! The state machine: what follows from what was seen, and from orders.

use std::time::Duration;

use super::*;
use crate::rollout::course::StillSeen;
use crate::rollout::guard::GuardReading;
use crate::rollout::guard::LimitReading;
use crate::rollout::guard::NoData;
use crate::rollout::guard::PerArm;
use crate::rollout::obstacle::Obstacle;
use crate::rollout::testing::course;

const HOUR: Duration = Duration::from_hours(1);

fn at(hours: u64) -> UnixTime {
    UnixTime::from_secs(1_000_000 + 3_600 * hours)
}

fn reading(people: u64, bad: u64, verdict: Verdict, on_trip: OnTrip) -> GuardReading {
    GuardReading {
        id: "login".into(),
        units: PerArm {
            to: people,
            from: 1_000,
        },
        bad: PerArm { to: bad, from: 10 },
        ratio: None,
        effect: 0.0,
        log_e: 0.0,
        trip_at: 5.7,
        verdict,
        on_trip,
        no_data: NoData::Hold,
    }
}

/// What a rollout of the tests goes through, with the findings of the moment.
struct Walk {
    course: Course,
    progress: Progress,
    findings: Findings,
    kill: KillPosition,
    drills: Vec<Box<str>>,
    exposed: Option<u64>,
    looked: Option<Looked>,
    came: Result<u64, &'static str>,
    unlinked: Option<(u64, u64)>,
    hook: Option<Result<(), &'static str>>,
    now: UnixTime,
}

impl Walk {
    fn new() -> Self {
        let findings = Findings {
            since: Some(at(0)),
            ..Findings::none(at(0))
        };
        Self {
            course: course(),
            progress: Progress::default(),
            findings,
            kill: KillPosition::Off,
            drills: Vec::new(),
            exposed: None,
            looked: Some(Looked::default()),
            came: Ok(0),
            unlinked: None,
            hook: None,
            now: at(0),
        }
    }

    /// Begun, and at this step.
    fn at(step: &str) -> Self {
        let mut walk = Self::new();
        walk.order(&Command::Start).unwrap();
        walk.order(&Command::SetStage(step.into())).unwrap();
        walk
    }

    fn people(&mut self, people: u64, bad: u64, verdict: Verdict, on_trip: OnTrip) {
        self.findings.guards = vec![reading(people, bad, verdict, on_trip)];
    }

    fn view(&self) -> View<'_> {
        View {
            course: &self.course,
            findings: &self.findings,
            kill: self.kill,
            drills: &self.drills,
            exposed: self.exposed,
            looked: self.looked.as_ref(),
            came: self.came,
            unlinked: self.unlinked,
            hook: self.hook,
            now: self.now,
        }
    }

    fn order(&mut self, command: &Command) -> Result<Transition, String> {
        let transition = command.apply(&self.progress, &self.view(), "because")?;
        self.progress = transition.next.clone();
        Ok(transition)
    }

    fn tick(&mut self) -> Option<Transition> {
        let transition = tick(&self.progress, &self.view())?;
        self.progress = transition.next.clone();
        Some(transition)
    }

    fn wait(&mut self, hours: u64) {
        self.now = self.now + HOUR * u32::try_from(hours).unwrap();
    }

    fn stands(&self) -> (String, State) {
        (self.progress.name(&self.course), self.progress.state)
    }
}

fn stands(name: &str, state: State) -> (String, State) {
    (name.to_owned(), state)
}

#[test]
fn a_ramp_climbs_by_itself_when_it_has_baked_and_seen_enough() {
    let mut walk = Walk::at("ramp/1");
    walk.people(10, 0, Verdict::Ok, OnTrip::Rollback);
    assert!(walk.tick().is_none(), "nothing has baked");
    walk.wait(24);
    assert!(walk.tick().is_none(), "10 of 50 people");
    walk.people(50, 0, Verdict::Ok, OnTrip::Rollback);
    let transition = walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/25", State::Baking));
    assert_eq!(transition.direction, Direction::Forward);
    assert!(transition.promotes && !transition.urgent);
    assert_eq!(walk.progress.baked_at(walk.now), Duration::ZERO);
    assert_eq!(
        walk.progress.epoch, 0,
        "nobody is sent back by going forward"
    );
}

#[test]
fn a_stage_that_a_person_promotes_says_once_that_it_is_ready() {
    let mut walk = Walk::at("staff");
    assert!(
        walk.order(&Command::Promote)
            .unwrap_err()
            .contains("baked 0s of 24h")
    );
    walk.wait(24);
    walk.people(9, 0, Verdict::Ok, OnTrip::Rollback);
    assert!(
        walk.order(&Command::Promote)
            .unwrap_err()
            .contains("9 of 30 people")
    );
    walk.people(30, 0, Verdict::Ok, OnTrip::Rollback);
    let missing = walk.order(&Command::Promote).unwrap_err();
    assert!(missing.contains("drill modern-outage"), "{missing}");
    walk.drills.push("modern-outage".into());
    assert!(walk.tick().unwrap().next.ready);
    assert!(walk.tick().is_none());
    walk.order(&Command::Promote).unwrap();
    assert_eq!(walk.stands(), stands("ramp/1", State::Baking));
    assert!(!walk.progress.ready);
}

#[test]
fn a_bad_rate_that_is_still_possible_keeps_a_stage() {
    let mut walk = Walk::at("staff");
    walk.drills.push("modern-outage".into());
    walk.course.legs[0].require.bad_rate_upper_bound = Some(0.04);
    walk.wait(24);
    walk.people(30, 0, Verdict::Ok, OnTrip::Rollback);
    assert!(
        walk.order(&Command::Promote)
            .unwrap_err()
            .contains("10.2 % is still possible")
    );
    walk.people(200, 0, Verdict::Ok, OnTrip::Rollback);
    walk.order(&Command::Promote).unwrap();
}

#[test]
fn what_a_second_opinion_found_keeps_a_stage_and_so_does_not_knowing_it() {
    let mut walk = Walk::at("staff");
    walk.drills.push("modern-outage".into());
    walk.wait(24);
    walk.people(200, 0, Verdict::Ok, OnTrip::Rollback);
    let require = &mut walk.course.legs[0].require;
    (require.compared_subjects, require.critical) = (50, Some(0));
    require.divergence_upper_bound = Some(0.08);
    let looked = |people, differ, critical| {
        Some(Looked {
            people,
            differ,
            critical,
            ..Looked::default()
        })
    };
    for (looked, why) in [
        (None, "is not known"),
        (looked(49, 0, 0), "49 of 50 people looked at twice"),
        (looked(50, 1, 1), "1 critical differences, where 0 may be"),
        (looked(50, 1, 0), "1 of 50 did), where 8.0 % may"),
    ] {
        walk.looked = looked;
        let missing = walk.order(&Command::Promote).unwrap_err();
        assert!(missing.contains(why), "{:?}: {missing}", walk.looked);
    }
    // Who could not be asked about is not like those who were.
    let sampled = |asked, lost| {
        looked(50, 0, 0).map(|looked| Looked {
            asked,
            lost,
            ..looked
        })
    };
    walk.looked = sampled(93, 5);
    let missing = walk.order(&Command::Promote).unwrap_err();
    assert!(
        missing.contains("5 of 98 second looks were skipped"),
        "{missing}"
    );
    walk.looked = sampled(95, 5);
    walk.order(&Command::Promote).unwrap();
}

#[test]
fn a_stage_waits_until_it_is_known_who_has_a_partner() {
    let mut walk = Walk::at("staff");
    walk.drills.push("modern-outage".into());
    walk.wait(24);
    walk.people(200, 0, Verdict::Ok, OnTrip::Rollback);
    walk.course.legs[0].require.unlinked_max = Some(0.02);
    for (unlinked, why) in [
        (None, "is not known"),
        (Some((0, 0)), "is not known"),
        (
            Some((3, 100)),
            "3 of 100 people have no partner, where 2.0 % may have none",
        ),
    ] {
        walk.unlinked = unlinked;
        let missing = walk.order(&Command::Promote).unwrap_err();
        assert!(missing.contains(why), "{unlinked:?}: {missing}");
    }
    walk.unlinked = Some((2, 100));
    walk.order(&Command::Promote).unwrap();
}

#[test]
fn whoever_still_comes_with_the_old_credential_keeps_a_stage() {
    let mut walk = Walk::at("staff");
    walk.drills.push("modern-outage".into());
    walk.wait(24);
    walk.people(200, 0, Verdict::Ok, OnTrip::Rollback);
    walk.course.legs[0].require.legacy_credentials_seen = Some(StillSeen {
        within: 24 * HOUR,
        max: 1,
        except: Vec::new(),
    });
    for (came, why) in [
        (Err("counted for 1h of 24h"), "counted for 1h of 24h"),
        (Ok(2), "2 people still came with credentials of `legacy`"),
    ] {
        walk.came = came;
        let missing = walk.order(&Command::Promote).unwrap_err();
        assert!(missing.contains(why), "{missing}");
    }
    walk.came = Ok(1);
    walk.order(&Command::Promote).unwrap();
}

fn limit(verdict: Verdict, of_opinions: bool, on_trip: OnTrip) -> LimitReading {
    LimitReading {
        id: "critical".into(),
        of_opinions,
        value: None,
        max: 0.0,
        verdict,
        on_trip,
    }
}

#[test]
fn a_critical_difference_sends_everybody_to_from_and_ends_their_sessions() {
    let mut walk = Walk::at("ramp/25");
    walk.people(238, 13, Verdict::Tripped, OnTrip::Rollback);
    walk.findings.limits = vec![limit(Verdict::Tripped, true, OnTrip::RollbackRevoke)];
    let transition = walk.tick().unwrap();
    assert!(transition.revokes && transition.urgent);
    assert_eq!(transition.why, "guard critical");
    assert_eq!(walk.stands(), stands("ramp/from", State::RolledBack));
    // The other way back leaves sessions alone, unless the stage says otherwise.
    for revokes in [false, true] {
        let mut walk = Walk::at("ramp/25");
        walk.course.legs[1].rollback_revokes = revokes;
        walk.people(238, 13, Verdict::Tripped, OnTrip::Rollback);
        assert_eq!(walk.tick().unwrap().revokes, revokes);
    }
}

#[test]
fn a_query_without_an_answer_holds_what_has_baked() {
    let mut walk = Walk::at("ramp/1");
    walk.people(60, 0, Verdict::Ok, OnTrip::Rollback);
    walk.findings.limits = vec![limit(Verdict::NoData, false, OnTrip::Hold)];
    assert!(walk.tick().is_none(), "it bakes on");
    walk.wait(24);
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/1", State::Held));
    let missing = missing(&walk.progress, &walk.view());
    let silent = Obstacle::NoData.because("guard critical: no data");
    assert!(missing.contains(&silent), "{missing:?}");
}

#[test]
fn a_guard_sends_people_back_one_step_and_voids_their_pins() {
    let mut walk = Walk::at("ramp/25");
    walk.people(238, 13, Verdict::Tripped, OnTrip::Rollback);
    let transition = walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/1", State::RolledBack));
    assert_eq!(
        (transition.direction, transition.trigger),
        (Direction::Back, Trigger::Guard)
    );
    assert_eq!(transition.why, "guard login");
    assert!(transition.urgent);
    assert_eq!(walk.progress.epoch, 1);
}

#[test]
fn a_fire_sends_everybody_to_from_at_once() {
    let mut walk = Walk::at("ramp/98");
    walk.findings.breaker = Some(OnTrip::Rollback);
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/from", State::RolledBack));
    let plan = walk
        .course
        .plan(walk.progress.place(&walk.course), true, walk.progress.epoch);
    assert_eq!(plan.target(walk.now).to_string(), "0");
    // Back there nothing more can burn.
    assert!(walk.tick().is_none());
    walk.findings.breaker = None;
    assert!(
        walk.order(&Command::Resume)
            .unwrap_err()
            .contains("cools down")
    );
    walk.wait(24);
    walk.order(&Command::Resume).unwrap();
    assert_eq!(walk.stands(), stands("ramp/1", State::Baking));
}

#[test]
fn the_third_time_it_is_frozen_until_a_person_looks() {
    let mut walk = Walk::at("ramp/25");
    for n in 1..=3 {
        walk.people(238, 13, Verdict::Tripped, OnTrip::Rollback);
        walk.tick().unwrap();
        assert_eq!(walk.progress.autos, n);
        walk.findings.guards.clear();
        walk.wait(25);
        if n < 3 {
            assert_eq!(walk.progress.state, State::RolledBack);
            walk.order(&Command::Resume).unwrap();
            walk.order(&Command::SetStage("ramp/25".into())).unwrap();
        }
    }
    assert_eq!(walk.progress.state, State::Frozen);
    assert!(walk.tick().is_none());
    walk.order(&Command::Resume).unwrap();
    assert_eq!(walk.progress.state, State::Held);
    walk.order(&Command::Resume).unwrap();
    assert_eq!(walk.stands(), stands("ramp/1", State::Baking));
}

/// Whoever stopped it decides about everything but a fire, and people who are let in as somebody else.
#[test]
fn what_stands_still_still_goes_back_when_it_burns() {
    let frozen = || {
        let mut walk = Walk::at("ramp/25");
        walk.progress.autos = 2;
        walk.people(238, 13, Verdict::Tripped, OnTrip::Rollback);
        walk.tick().unwrap();
        assert_eq!(walk.progress.state, State::Frozen);
        walk
    };
    let switched = || {
        let mut walk = Walk::at("ramp/25");
        walk.kill = KillPosition::Freeze;
        walk.tick().unwrap();
        walk
    };
    for (walk, state) in [
        (&frozen as &dyn Fn() -> Walk, State::Frozen),
        (&switched, State::Overridden),
    ] {
        for on_trip in [OnTrip::Note, OnTrip::Hold, OnTrip::Rollback] {
            let mut walk = walk();
            walk.people(238, 13, Verdict::Tripped, on_trip);
            assert!(walk.tick().is_none(), "{state}: {on_trip:?}");
        }
        for breaker in [true, false] {
            let mut walk = walk();
            if breaker {
                walk.findings.breaker = Some(OnTrip::Rollback);
            } else {
                walk.people(238, 13, Verdict::Tripped, OnTrip::RollbackRevoke);
            }
            let epoch = walk.progress.epoch;
            let back = walk.tick().unwrap();
            assert_eq!(walk.stands(), stands("ramp/from", state));
            assert_eq!((walk.progress.epoch, back.urgent), (epoch + 1, true));
            assert_eq!(back.revokes, !breaker);
            assert!(walk.tick().is_none());
        }
    }
    // Released, it waits for a person like anything that the switch has stopped.
    let mut walk = switched();
    walk.findings.breaker = Some(OnTrip::Rollback);
    walk.tick().unwrap();
    walk.kill = KillPosition::Off;
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/from", State::Held));
}

/// Evidence is told apart by its step, whatever the clocks say.
#[test]
fn steps_come_one_after_another_where_the_clock_of_whoever_leads_is_behind() {
    let mut walk = Walk::at("ramp/1");
    walk.wait(10);
    let orders = [
        Command::SetStage("ramp/25".into()),
        Command::SetStage("ramp/1".into()),
        Command::Rollback,
    ];
    let mut step = walk.progress.order();
    walk.order(&orders[0]).unwrap();
    walk.now = at(0);
    for order in &orders[1..] {
        assert!(step < walk.progress.order());
        step = walk.progress.order();
        walk.order(order).unwrap();
    }
    assert!(step < walk.progress.order());
    assert_eq!(
        walk.progress.entered,
        at(0),
        "what is found since then counts"
    );
}

#[test]
fn a_hold_stops_the_clock_and_keeps_everybody() {
    let mut walk = Walk::at("ramp/1");
    walk.wait(10);
    walk.people(60, 3, Verdict::Tripped, OnTrip::Hold);
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/1", State::Held));
    assert_eq!((walk.progress.epoch, walk.progress.baked), (0, 10 * HOUR));
    walk.wait(10);
    assert!(walk.tick().is_none());
    assert_eq!(walk.progress.baked_at(walk.now), 10 * HOUR);
}

#[test]
fn a_dry_run_is_noted_once_and_moves_nobody() {
    let mut walk = Walk::at("ramp/1");
    walk.people(60, 30, Verdict::Tripped, OnTrip::Note);
    let noted = walk.tick().unwrap();
    assert_eq!(noted.why, "guard login would have acted");
    assert_eq!(walk.stands(), stands("ramp/1", State::Baking));
    assert!(walk.tick().is_none());
}

#[test]
fn a_pinned_rollout_is_watched_and_not_driven() {
    let mut walk = Walk::at("ramp/1");
    walk.course.control = Control::Pinned;
    walk.people(60, 30, Verdict::Tripped, OnTrip::Rollback);
    assert_eq!(walk.tick().unwrap().why, "guard login would have acted");
    assert_eq!(walk.stands(), stands("ramp/1", State::Baking));
    assert!(
        walk.order(&Command::Promote)
            .unwrap_err()
            .contains("pinned_stage")
    );
}

#[test]
fn a_step_that_nobody_came_to_is_held() {
    let mut walk = Walk::at("ramp/1");
    walk.people(0, 0, Verdict::NoData, OnTrip::Rollback);
    walk.wait(23);
    assert!(walk.tick().is_none());
    walk.wait(1);
    assert_eq!(walk.tick().unwrap().why, "no data: guard login");
    assert_eq!(walk.progress.state, State::Held);
    // Nothing was wrong, and whoever comes meanwhile counts: it goes on as soon as somebody has, and bakes no second time.
    let step = walk.progress.order();
    walk.wait(1);
    walk.order(&Command::Resume).unwrap();
    assert_eq!(walk.tick().unwrap().why, "no data: guard login");
    walk.people(50, 0, Verdict::Ok, OnTrip::Rollback);
    walk.order(&Command::Resume).unwrap();
    assert_eq!(walk.progress.baked_at(walk.now), 24 * HOUR);
    assert_eq!(walk.progress.order(), step);
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/25", State::Baking));
}

/// What was seen before the repair says nothing about after it, also where nobody was seen before.
#[test]
fn what_was_stopped_bakes_anew() {
    let held = || {
        let mut walk = Walk::at("ramp/1");
        walk.people(0, 0, Verdict::NoData, OnTrip::Rollback);
        walk.wait(24);
        walk
    };
    let paused = || {
        let mut walk = held();
        walk.order(&Command::Pause).unwrap();
        walk
    };
    let tripped = || {
        let mut walk = held();
        walk.people(60, 30, Verdict::Tripped, OnTrip::Hold);
        walk.tick().unwrap();
        walk
    };
    let switched = || {
        let mut walk = held();
        walk.tick().unwrap();
        assert!(walk.progress.lacks);
        walk.kill = KillPosition::Freeze;
        walk.tick().unwrap();
        walk.kill = KillPosition::Off;
        walk.tick().unwrap();
        walk
    };
    for stopped in [&paused as &dyn Fn() -> Walk, &tripped, &switched] {
        let mut walk = stopped();
        assert_eq!(walk.stands(), stands("ramp/1", State::Held));
        let why = walk.progress.why.clone();
        let step = walk.progress.order();
        walk.order(&Command::Resume).unwrap();
        assert_eq!(walk.progress.baked_at(walk.now), Duration::ZERO, "{why}");
        assert!(step < walk.progress.order(), "{why}");
    }
}

/// A file gave its guards to a step that had baked, or what they had counted is lost.
#[test]
fn guards_hold_a_step_once_they_have_had_its_time() {
    let mut walk = Walk::at("ramp/1");
    walk.people(0, 0, Verdict::NoData, OnTrip::Rollback);
    walk.wait(24);
    walk.findings.since = Some(walk.now);
    assert!(walk.tick().is_none());
    let waits = walk.progress.waits_for(&walk.view());
    assert!(waits.iter().any(|gap| gap.obstacle == Obstacle::NoData));
    walk.wait(23);
    assert!(walk.tick().is_none());
    walk.wait(1);
    assert_eq!(walk.tick().unwrap().why, "no data: guard login");
}

/// Before the first look after a start nothing is known, which is no reason to go on.
#[test]
fn nothing_is_promoted_that_nobody_has_looked_at() {
    let mut walk = Walk::at("ramp/98");
    walk.wait(1_000);
    walk.findings = Findings::none(walk.now);
    let refused = walk.order(&Command::Promote).unwrap_err();
    assert!(refused.contains("have not been looked at"), "{refused}");
    assert!(walk.tick().is_none());
    walk.course.legs[1].guardrails = None;
    walk.order(&Command::Promote).unwrap();
}

/// Sessions of people who signed in long ago say nothing about logins.
#[test]
fn one_guard_that_saw_nobody_keeps_a_step_whatever_the_others_say() {
    let seen = |step: &str, no_data: NoData| {
        let mut walk = Walk::at(step);
        let login = GuardReading {
            no_data,
            ..reading(0, 0, Verdict::NoData, OnTrip::Rollback)
        };
        let session = GuardReading {
            id: "session".into(),
            ..reading(1_000, 0, Verdict::Ok, OnTrip::Rollback)
        };
        walk.findings.guards = vec![login, session];
        walk
    };
    let missing = |walk: &Walk| -> Vec<String> {
        let gaps = missing(&walk.progress, &walk.view());
        gaps.iter().map(ToString::to_string).collect()
    };
    let nobody = "guard login: no data (0 people at `modern`, 1000 at `legacy`)";
    let mut walk = seen("ramp/1", NoData::Hold);
    assert!(walk.tick().is_none(), "it bakes on");
    walk.wait(24);
    // A thousand sessions are nobody who was seen to sign in.
    assert_eq!(missing(&walk), ["0 of 50 people", nobody]);
    let refused = walk.order(&Command::Promote).unwrap_err();
    assert!(refused.contains("guard login: no data"), "{refused}");
    assert_eq!(walk.tick().unwrap().why, "no data: guard login");
    assert_eq!(walk.stands(), stands("ramp/1", State::Held));
    // Who waits instead goes on as soon as enough were seen.
    let mut walk = seen("ramp/1", NoData::Wait);
    walk.wait(24);
    assert!(walk.tick().is_none());
    assert_eq!(walk.progress.state, State::Baking);
    for (people, kept) in [(49, true), (50, false)] {
        walk.findings.guards[0].units.to = people;
        walk.findings.guards[0].verdict = Verdict::Ok;
        assert_eq!(walk.tick().is_none(), kept, "{people}");
    }
    assert_eq!(walk.stands(), stands("ramp/25", State::Baking));
    // Where nobody signs in, the others are enough; with nobody at all they are not.
    let mut walk = seen("ramp/1", NoData::Proceed);
    walk.wait(24);
    assert_eq!(missing(&walk), Vec::<String>::new());
    walk.findings.guards[1].units.to = 49;
    assert_eq!(missing(&walk), ["49 of 50 people"]);
    // People who were chosen by name are compared with nobody.
    let mut walk = seen("staff", NoData::Hold);
    walk.drills.push("modern-outage".into());
    walk.wait(24);
    assert_eq!(missing(&walk), ["0 of 30 people"]);
}

/// A hook has the last word about a stage, and none about the steps within.
#[test]
fn a_stage_is_left_when_its_hook_says_so() {
    let at = |step: &str| {
        let mut walk = Walk::at(step);
        for leg in &mut walk.course.legs {
            leg.require.webhook = true;
        }
        walk.people(100, 0, Verdict::Ok, OnTrip::Rollback);
        walk.wait(72);
        walk
    };
    let mut walk = at("ramp/1");
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("ramp/25", State::Baking));
    let mut walk = at("ramp/98");
    let missing = |walk: &Walk| -> Vec<String> {
        let gaps = missing(&walk.progress, &walk.view());
        gaps.iter().map(ToString::to_string).collect()
    };
    assert_eq!(missing(&walk), ["the webhook has not been asked yet"]);
    assert!(walk.tick().is_none(), "it is about to be asked");
    walk.hook = Some(Err("it answers 409"));
    assert_eq!(missing(&walk), ["webhook: it answers 409"]);
    assert_eq!(walk.tick().unwrap().why, "webhook: it answers 409");
    assert_eq!(walk.stands(), stands("ramp/98", State::Held));
    walk.hook = None;
    let baked = walk.progress.baked;
    walk.order(&Command::Resume).unwrap();
    assert_eq!(walk.progress.baked_at(walk.now), baked, "one bad answer");
    assert!(walk.tick().is_none());
    walk.hook = Some(Ok(()));
    assert_eq!(missing(&walk), Vec::<String>::new());
    walk.tick().unwrap();
    assert_eq!(walk.stands(), stands("primary", State::Baking));
    // Guards that may wait are waited for, and so is the hook; it is none that a stage is left without.
    for (no_data, state) in [
        (NoData::Wait, State::Baking),
        (NoData::Hold, State::Held),
        (NoData::Proceed, State::Held),
    ] {
        let mut walk = at("ramp/98");
        for leg in &mut walk.course.legs {
            let rails = crate::rollout::guard::Guardrails {
                no_data,
                ..Default::default()
            };
            leg.guardrails = Some(std::sync::Arc::new(rails));
        }
        walk.hook = Some(Err("it answers 503"));
        let _ = walk.tick();
        assert_eq!(walk.stands(), stands("ramp/98", state), "{no_data:?}");
    }
}

#[test]
fn the_kill_switch_stands_above_and_ends_in_held() {
    for (kill, epochs) in [
        (KillPosition::Legacy, 1),
        (KillPosition::Modern, 1),
        (KillPosition::Freeze, 0),
        (KillPosition::Deny, 0),
    ] {
        let mut walk = Walk::at("ramp/1");
        walk.kill = kill;
        walk.tick().unwrap();
        assert_eq!(walk.stands(), stands("ramp/1", State::Overridden));
        assert_eq!(walk.progress.epoch, epochs, "{kill}");
        assert!(walk.tick().is_none());
        assert!(
            walk.order(&Command::Resume)
                .unwrap_err()
                .contains("kill switch")
        );
        walk.kill = KillPosition::Off;
        walk.tick().unwrap();
        assert_eq!(walk.progress.state, State::Held, "never straight to baking");
    }
}

/// The file says where it stands, and goes on saying it; who was moved before is not held there by a pin afterwards.
#[test]
fn the_kill_switch_voids_pins_where_a_file_is_in_charge() {
    for (kill, epoch, state) in [
        (KillPosition::Legacy, 1, State::Overridden),
        (KillPosition::Modern, 1, State::Overridden),
        (KillPosition::Freeze, 0, State::Baking),
        (KillPosition::Deny, 0, State::Baking),
    ] {
        let mut walk = Walk::at("ramp/1");
        walk.course.control = Control::Pinned;
        walk.kill = kill;
        walk.tick();
        assert_eq!(walk.stands(), stands("ramp/1", state), "{kill}");
        assert!(walk.tick().is_none(), "once each time: {kill}");
        walk.kill = KillPosition::Off;
        walk.tick();
        assert_eq!(walk.stands(), stands("ramp/1", State::Baking), "{kill}");
        assert_eq!(walk.progress.epoch, epoch, "{kill}");
    }
}

#[test]
fn every_position_that_moves_people_calls_back_whoever_came_before_it() {
    for control in [Control::Controller, Control::Pinned] {
        let mut walk = Walk::at("ramp/1");
        walk.course.control = control;
        for (kill, epoch) in [
            (KillPosition::Freeze, 0),
            (KillPosition::Legacy, 1),
            (KillPosition::Modern, 2),
            (KillPosition::Legacy, 3),
            (KillPosition::Off, 3),
        ] {
            walk.kill = kill;
            walk.tick();
            assert!(walk.tick().is_none(), "{kill}");
            assert_eq!(walk.progress.epoch, epoch, "{control:?} {kill}");
        }
    }
}

#[test]
fn a_window_keeps_the_ramp_from_climbing_at_night() {
    let mut walk = Walk::at("ramp/1");
    walk.people(50, 0, Verdict::Ok, OnTrip::Rollback);
    let never = crate::rollout::windows::Windows {
        days: (jiff::civil::Weekday::Monday, jiff::civil::Weekday::Sunday),
        hours: (jiff::civil::Time::midnight(), jiff::civil::Time::midnight()),
        zone: jiff::tz::TimeZone::UTC,
        deny: Vec::new(),
    };
    walk.course.legs[1].windows = Some(std::sync::Arc::new(never));
    walk.wait(24);
    assert!(walk.tick().is_none());
    walk.course.legs[1].windows = None;
    assert!(walk.tick().is_some());
}

#[test]
fn a_schedule_is_a_function_of_time_that_a_rollback_stops() {
    let mut walk = Walk::at("staff");
    walk.course.control = Control::Schedule;
    for (step, hours) in [(0, 10), (1, 20), (2, 30)] {
        walk.course.legs[1].steps[step].at = Some(at(hours));
    }
    assert!(walk.tick().is_none());
    walk.wait(20);
    assert_eq!(walk.tick().unwrap().trigger, Trigger::Schedule);
    assert_eq!(walk.stands(), stands("ramp/25", State::Baking));
    walk.people(60, 30, Verdict::Tripped, OnTrip::Rollback);
    walk.tick().unwrap();
    walk.findings.guards.clear();
    walk.wait(20);
    assert!(walk.tick().is_none());
    assert_eq!(walk.stands(), stands("ramp/1", State::RolledBack));
}

#[test]
fn the_last_step_completes() {
    let mut walk = Walk::at("primary");
    walk.wait(1_000);
    walk.tick().unwrap();
    assert_eq!(walk.progress.state, State::Completed);
    assert!(walk.tick().is_none());
}

#[test]
fn orders_need_a_reason_and_a_state_in_which_they_make_sense() {
    let mut walk = Walk::new();
    let nothing = Command::Start.apply(&walk.progress, &walk.view(), " ");
    assert!(nothing.unwrap_err().contains("reason"));
    for command in [
        Command::Promote,
        Command::Pause,
        Command::Resume,
        Command::Rollback,
    ] {
        assert!(walk.order(&command).is_err(), "{command:?}");
    }
    walk.order(&Command::Start).unwrap();
    assert!(walk.order(&Command::Start).is_err());
    assert!(
        walk.order(&Command::SetStage("ramp/7".into()))
            .unwrap_err()
            .contains("ramp/7")
    );
    walk.order(&Command::Pause).unwrap();
    assert!(walk.order(&Command::Promote).unwrap_err().contains("held"));
    walk.order(&Command::Resume).unwrap();
}

/// Going back by hand is possible from everywhere, also under the kill switch.
#[test]
fn going_back_by_hand_never_waits() {
    let mut walk = Walk::at("primary");
    walk.kill = KillPosition::Freeze;
    let transition = walk.order(&Command::Rollback).unwrap();
    assert!(transition.urgent);
    assert_eq!(walk.progress.name(&walk.course), "ramp/98");
    walk.kill = KillPosition::Off;
    let back = walk.order(&Command::SetStage("ramp/1".into())).unwrap();
    assert_eq!((back.direction, walk.progress.epoch), (Direction::Back, 2));
    assert!(back.urgent && !back.promotes);
}

/// Where every new login starts at `from`, an earlier step is a step forward if it moves anybody: the new provider is asked first.
#[test]
fn an_earlier_step_that_moves_more_people_is_a_step_forward() {
    let burnt = || {
        let mut walk = Walk::at("ramp/25");
        walk.findings.breaker = Some(OnTrip::Rollback);
        walk.tick().unwrap();
        walk.findings.breaker = None;
        assert_eq!(walk.stands(), stands("ramp/from", State::RolledBack));
        walk
    };
    for name in ["ramp/1", "staff", "ramp/25"] {
        let mut walk = burnt();
        let forward = walk.order(&Command::SetStage(name.into())).unwrap();
        let said = (forward.direction, forward.promotes, forward.urgent);
        assert_eq!(said, (Direction::Forward, true, false), "{name}");
        assert_eq!(walk.stands(), stands(name, State::Baking));
        assert_eq!(walk.progress.epoch, 1, "nobody more is sent back");
    }
    // A stage that moves nobody is none, and neither is one that moves fewer.
    let mut walk = burnt();
    walk.course.legs[0].stage.assign.clear();
    let back = walk.order(&Command::SetStage("staff".into())).unwrap();
    assert_eq!((back.direction, back.urgent), (Direction::Back, true));
    // A percent that is above the present one is more, wherever it stands.
    let mut walk = Walk::at("primary");
    walk.course.legs[2].stage.mode = crate::rollout::stage::Mode::Shadow;
    let forward = walk.order(&Command::SetStage("ramp/1".into())).unwrap();
    assert!(forward.promotes && forward.direction == Direction::Forward);
}

#[test]
fn a_stage_that_was_put_before_it_does_not_move_it() {
    let mut walk = Walk::at("ramp/25");
    let mut first = walk.course.legs[0].clone();
    first.stage.id = "earlier".into();
    walk.course.legs.insert(0, first);
    assert_eq!(walk.progress.name(&walk.course), "ramp/25");
}
