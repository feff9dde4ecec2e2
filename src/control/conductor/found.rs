//! Where a rollout stood, as a start finds it: in its file, in the mark beside it, in the ledger. The most cautious of them counts.
//!
//! A step is recorded, then kept, then it holds. Whoever is killed in between has a record of what is not kept: a step back may
//! have been served already, and its pins are void; a step forward was not, and the ledger says so.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tracing::warn;

use crate::clock::UnixTime;
use crate::control::conductor::Conductor;
use crate::control::keeper::Kept;
use crate::control::keeper::Mark;
use crate::control::record;
use crate::ledger;
use crate::ledger::Entry;
use crate::rollout::Course;
use crate::rollout::Place;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::State;

/// What a start finds of a rollout.
pub(super) struct Found {
    /// Where it stands; `None`: nowhere yet.
    pub(super) kept: Option<Kept>,
    /// Whether the file says something else.
    pub(super) is_behind: bool,
    /// What the ledger is still to say.
    pub(super) told: Option<Entry>,
}

impl Conductor {
    /// What is found of a rollout that does not run here.
    pub(super) fn found(&self, course: &Course) -> io::Result<Found> {
        let now = self.parts.clock.now();
        let mut found = Found {
            kept: self.keeper.load(&course.id)?,
            is_behind: false,
            told: None,
        };
        let said = self.records(&course.id);
        if let Some(mark) = self.keeper.read_mark(&course.id)? {
            found.heed_mark(course, mark, said.last(), now);
        }
        found.heed_records(course, &said, now);
        Ok(found)
    }

    /// What the ledger says of it, as far as it concerns where it stands.
    fn records(&self, rollout: &RolloutId) -> Vec<Said> {
        let file = self.parts.ledger.file();
        let records = ledger::tail(file, usize::MAX).unwrap_or_else(|error| {
            warn!(%rollout, %error, "What the ledger says of a rollout is not known.");
            Vec::new()
        });
        said(&records, rollout)
    }
}

/// What records say of a rollout, the oldest first, without what did not hold after all.
fn said(records: &[Value], rollout: &RolloutId) -> Vec<Said> {
    let mut all: Vec<Said> = Vec::new();
    for record in records {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        if text("rollout") != Some(rollout.as_str())
            || !matches!(text("kind"), Some("decision" | "ready" | "resume"))
        {
            continue;
        }
        let number = |name: &str| record.get(name).and_then(Value::as_u64);
        match (text("void"), number("version"), number("epoch")) {
            // It may have been owed, and be written after what was recorded since.
            (Some(void), Some(version), Some(epoch)) => {
                let is_void = |said: &Said| {
                    said.why == void && said.version == Some(version) && said.epoch == epoch
                };
                if let Some(at) = all.iter().position(is_void) {
                    all.remove(at);
                }
            }
            // As earlier versions wrote it.
            (Some(void), ..) => {
                all.pop_if(|last| last.why == void);
            }
            (None, ..) => all.extend(Said::read(record)),
        }
    }
    all
}

impl Found {
    /// A step that was kept as a name counts where pins are void by it that the file takes for good.
    fn heed_mark(&mut self, course: &Course, mark: Mark, last: Option<&Said>, now: UnixTime) {
        let before = self.progress();
        if mark.epoch <= before.epoch {
            return;
        }
        let why = String::from("it went back while nothing could be written");
        let next = Progress {
            state: mark.state,
            stage: mark.stage,
            step: mark.step,
            at_from: mark.at_from,
            epoch: mark.epoch,
            version: mark.version,
            why,
            ..anew(&before, now)
        };
        if last.is_none_or(|last| last.version < Some(mark.version)) {
            self.told = Some(record::found(course, &before, &next));
        }
        self.stands(next, mark.owes_revocation);
    }

    /// What was not kept was written last of all: one record, or more where nothing could be kept for a while.
    fn heed_records(&mut self, course: &Course, said: &[Said], now: UnixTime) {
        let kept = self.kept.as_ref().map(|kept| kept.progress.version);
        let known = |said: &Said| kept.is_none_or(|kept| said.version <= Some(kept));
        let since = said.iter().rposition(known).map_or(0, |known| known + 1);
        let since = since.min(said.len().saturating_sub(1));
        for said in said.iter().skip(since) {
            self.heed_record(course, said, now);
        }
    }

    /// Of two places the earlier one counts, of two epochs the later one.
    fn heed_record(&mut self, course: &Course, said: &Said, now: UnixTime) {
        let before = self.progress();
        let raised = before.epoch < said.epoch;
        if !raised && said.version <= Some(before.version) {
            return;
        }
        let mut next = Progress {
            epoch: before.epoch.max(said.epoch),
            version: before.version.max(said.version.unwrap_or(0)),
            ..before.clone()
        };
        let theirs = said.place(course, &before);
        let earlier = theirs
            .is_some_and(|(place, at_from)| reach(place, at_from) <= reach_of(&before, course));
        if let (true, Some((place, at_from))) = (earlier && (raised || said.stops()), theirs) {
            let stage = place.and_then(|place| course.leg(place));
            let stage = stage.map_or("", |leg| &leg.stage.id);
            let step = place.map_or(0, |place| place.step);
            if (before.stage.as_str(), before.step, before.at_from) != (stage, step, at_from) {
                next = Progress {
                    stage: stage.to_owned(),
                    step,
                    at_from,
                    ..anew(&next, now)
                };
            }
            next.lacks = false;
            next.state = said.state;
            next.why.clone_from(&said.why);
            if said.by_itself {
                let rails = before.place(course);
                let rails = rails.and_then(|place| course.guardrails(place));
                next.autos += 1;
                next.cooldown_until =
                    now + rails.map_or(Duration::ZERO, |rails| rails.after_rollback.cooldown);
            }
        } else if said.goes_on {
            self.told = Some(record::lost(
                &course.id,
                &said.why,
                (said.version, said.epoch),
            ));
        }
        self.stands(next, raised && said.revokes);
    }

    fn progress(&self) -> Progress {
        let kept = self.kept.as_ref();
        kept.map(|kept| kept.progress.clone()).unwrap_or_default()
    }

    fn stands(&mut self, next: Progress, owes_revocation: bool) {
        let kept = self.kept.get_or_insert_default();
        if kept.progress.order() != next.order() {
            kept.tally = None;
        }
        if kept.progress.stage != next.stage {
            kept.drills.clear();
        }
        kept.progress = next;
        kept.owes_revocation |= owes_revocation;
        self.is_behind = true;
    }
}

/// A step that begins now, as far as anybody knows.
fn anew(before: &Progress, now: UnixTime) -> Progress {
    Progress {
        entered: now,
        order: before.order_after(now),
        baked: Duration::ZERO,
        since: now,
        ready: false,
        lacks: false,
        noted: Vec::new(),
        ..before.clone()
    }
}

/// How far people have moved; `None`: every new login starts at `from`.
fn reach(place: Option<Place>, at_from: bool) -> Option<Place> {
    place.filter(|_| !at_from)
}

fn reach_of(progress: &Progress, course: &Course) -> Option<Place> {
    reach(progress.place(course), progress.at_from)
}

/// What a record says of where a rollout stands.
struct Said {
    to: String,
    state: State,
    epoch: u64,
    /// Records of earlier versions do not have it.
    version: Option<u64>,
    /// Whether it leads on: to a further step, or from a halt.
    goes_on: bool,
    /// Whether nobody had ordered that it goes back.
    by_itself: bool,
    revokes: bool,
    why: String,
}

impl Said {
    fn read(record: &Value) -> Option<Self> {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let number = |name: &str| record.get(name).and_then(Value::as_u64);
        let state = text("state")?;
        let is = |name: &str, word: &str| text(name) == Some(word);
        Some(Self {
            to: text("to")?.to_owned(),
            state: State::ALL.into_iter().find(|one| one.as_str() == state)?,
            epoch: number("epoch")?,
            version: number("version"),
            goes_on: is("direction", "forward") || is("kind", "resume"),
            by_itself: is("direction", "back")
                && (is("trigger", "guard") || is("trigger", "breaker")),
            revokes: is("direction", "back") && is("modern_sessions", "revoke"),
            why: text("why").unwrap_or_default().to_owned(),
        })
    }

    /// The place, and whether new logins start at `from` there. One that is gone leaves the earlier one: `from` of where it stood.
    fn place(&self, course: &Course, before: &Progress) -> Option<(Option<Place>, bool)> {
        if self.state == State::Draft {
            return Some((None, false));
        }
        let (name, at_from) = match self.to.strip_suffix("/from") {
            Some(stage) => (stage, true),
            None => (self.to.as_str(), false),
        };
        match course.find(name) {
            Some(place) => Some((Some(place), at_from)),
            None if self.goes_on => None,
            None => Some((before.place(course), true)),
        }
    }

    /// Whether nobody moves any further.
    const fn stops(&self) -> bool {
        match self.state {
            State::Held | State::RolledBack | State::Frozen | State::Overridden => true,
            State::Draft | State::Baking | State::Completed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rollout::testing::course;

    /// A record of the rollout at a step.
    fn record(version: u64, epoch: u64, direction: &str, to: &str, why: &str) -> Value {
        let state = if direction == "back" {
            "rolled_back"
        } else {
            "baking"
        };
        json!({
            "kind": "decision", "rollout": "crm-2026", "to": to, "state": state, "epoch": epoch, "version": version,
            "direction": direction, "why": why,
        })
    }

    fn void(why: &str) -> Value {
        json!({ "kind": "decision", "rollout": "crm-2026", "void": why, "why": "the store is away" })
    }

    /// Kept at `ramp/25`, in version 7 and epoch 1; then this was recorded, and the program ended.
    fn found(records: &[Value]) -> Found {
        let course = course();
        let place = course.find("ramp/25").unwrap();
        let leg = course.leg(place).unwrap();
        let mut found = Found {
            kept: Some(Kept {
                progress: Progress {
                    state: State::Baking,
                    stage: leg.stage.id.to_string(),
                    step: place.step,
                    epoch: 1,
                    version: 7,
                    ..Progress::default()
                },
                ..Kept::default()
            }),
            is_behind: false,
            told: None,
        };
        let now = UnixTime::from_secs(1_000_000);
        found.heed_records(&course, &said(records, &course.id), now);
        found
    }

    fn stands(found: &Found) -> (String, u64, bool) {
        let progress = found.progress();
        (
            progress.name(&course()),
            progress.epoch,
            found.told.is_some(),
        )
    }

    #[test]
    fn a_step_that_does_not_hold_hides_none_before_it() {
        let kept = record(7, 1, "forward", "ramp/25", "baked");
        let back = record(8, 2, "back", "ramp/1", "guard login");
        let on = record(9, 2, "forward", "ramp/98", "by hand");
        let at = |name: &str, epoch, told| (name.to_owned(), epoch, told);
        let all = |records: &[&Value]| {
            let records: Vec<Value> = records.iter().map(|record| (*record).clone()).collect();
            stands(&found(&records))
        };
        assert_eq!(all(&[&kept]), at("ramp/25", 1, false));
        assert_eq!(all(&[&kept, &back]), at("ramp/1", 2, false));
        let gone = void("by hand");
        assert_eq!(all(&[&kept, &back, &on, &gone]), at("ramp/1", 2, false));
        // Neither kept nor void: nobody was served by it, and the ledger says so.
        assert_eq!(all(&[&kept, &back, &on]), at("ramp/1", 2, true));
        // A step back that was void is none.
        let undone = void("guard login");
        assert_eq!(all(&[&kept, &back, &undone]), at("ramp/25", 1, false));
        // Of two with one reason it is the one it names, also where it was owed, and written late.
        let on = record(8, 1, "forward", "ramp/98", "IAM-1");
        let back = record(8, 2, "back", "ramp/1", "IAM-1");
        let mut gone = void("IAM-1");
        (gone["version"], gone["epoch"]) = (8.into(), 1.into());
        assert_eq!(all(&[&kept, &on, &back, &gone]), at("ramp/1", 2, false));
        assert_eq!(all(&[&kept, &on, &gone, &back]), at("ramp/1", 2, false));
        gone["epoch"] = 2.into();
        assert_eq!(all(&[&kept, &back, &gone]), at("ramp/25", 1, false));
    }
}
