//! Exercises: begun, recorded, judged by what was seen, and kept for the stage that asks for them.
//!
//! Nobody's credential is used for them but those of test accounts that are given. What people meet, a cohort meets, and it ends
//! by itself.

mod board;
mod leak;
mod load;
mod people;
mod tokens;
mod told;

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::admin::DrillRequest;
use crate::admin::DrillView;
use crate::admin::LoadView;
pub(super) use crate::app::drill::board::Board;
use crate::app::drill::told::Told;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::config::settings::Settings;
use crate::identity::ProviderId;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::rollout::Course;
use crate::rollout::Exercise;
use crate::rollout::KillPosition;

/// What was seen: as it should be, or not.
type Found = Result<Vec<String>, Vec<String>>;

/// One exercise, ready to begin.
struct Ready {
    exercise: Exercise,
    course: Course,
    provider: ProviderId,
    told: Told,
    settings: Arc<Settings>,
    actor: String,
    reason: String,
}

/// Begins an exercise; how it ends is seen on the board.
///
/// # Errors
///
/// Why not, in words.
pub(super) async fn begin(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    wanted: DrillRequest,
    actor: &str,
) -> Result<DrillView, String> {
    let exercise = told::exercise(&wanted)?;
    let reason = wanted.reason.trim();
    if reason.is_empty() {
        return Err(String::from("a reason is needed"));
    }
    let settings = reloader.settings();
    let course = course(&settings, wanted.rollout.as_deref())?.clone();
    if process.kill.current().position(&course.id) != KillPosition::Off {
        return Err(String::from("the kill switch is not off"));
    }
    process.conductor.may_drill(&course.id)?;
    let ready = Ready {
        provider: told::provider(&settings, &course, exercise, &wanted)?,
        told: told::told(&settings, exercise, &wanted)?,
        exercise,
        course,
        settings,
        actor: actor.to_owned(),
        reason: reason.to_owned(),
    };
    let entry = entry(&ready, "running")
        .with("reason", ready.reason.as_str())
        .maybe("cohort", wanted.cohort.as_deref());
    record(process, entry).await?;
    let view = process.drills.begin(exercise, ready.course.id.as_str());
    info!(rollout = %ready.course.id, drill = %exercise, actor, "An exercise begins.");
    let (process, reloader) = (Arc::clone(process), Arc::clone(reloader));
    let running = view.clone();
    process.background.clone().spawn(async move {
        let over = run(&process, &reloader, &ready, running).await;
        info!(
            rollout = over.rollout.as_str(),
            drill = over.name.as_str(),
            state = over.state.as_str(),
            "An exercise is over."
        );
        process.drills.end(over);
    });
    Ok(view)
}

/// Does it, judges it, records it, and keeps that it has passed.
async fn run(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    ready: &Ready,
    mut view: DrillView,
) -> DrillView {
    let (found, load) = done(process, reloader, ready).await;
    let (passed, seen) = match found {
        Ok(seen) => (true, seen),
        Err(seen) => (false, seen),
    };
    view.state = String::from(if passed { "passed" } else { "failed" });
    (view.seen, view.load) = (seen, load);
    let mut entry = entry(ready, &view.state).with("seen", view.seen.join("; "));
    if let Some(load) = &view.load {
        entry = entry.with("load", serde_json::to_value(load).unwrap_or_default());
    }
    // What is not in the ledger has not passed.
    let (rollout, exercise) = (&ready.course.id, ready.exercise);
    let kept = match record(process, entry).await {
        Ok(()) if passed => process.conductor.drilled(rollout, exercise).await,
        Ok(()) => Ok(()),
        Err(why) => Err(why),
    };
    if let Err(why) = kept {
        view.state = String::from("failed");
        view.seen.push(why);
    }
    view
}

async fn done(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    ready: &Ready,
) -> (Found, Option<LoadView>) {
    let Ready {
        exercise,
        course,
        provider,
        settings,
        ..
    } = ready;
    let now = process.clock.now();
    let found = match &ready.told {
        Told::Nothing => tokens::shown(settings, reloader, exercise.drill, provider, now).await,
        Told::People(cohort, span) => {
            let whom = (cohort.clone(), *span);
            let here = (process, reloader, &**settings);
            people::met(here, (*exercise, course), provider, whom).await
        }
        Told::Tokens(accounts) => {
            let skew = Duration::from_secs(exercise.size.unwrap_or_default());
            let about = (provider, accounts.as_slice());
            tokens::skewed(settings, reloader, about, (skew, now)).await
        }
        Told::Subject(subject) => leak::leaks(process, settings, subject, ready).await,
        Told::Load(accounts, rate, p99) => {
            let how = (*rate, *p99);
            let whom = (provider, accounts.as_slice(), course.apps.as_slice());
            return load::load(process, settings, whom, how).await;
        }
    };
    (found, None)
}

fn entry(ready: &Ready, state: &str) -> Entry {
    Entry::new(Kind::Drill, &ready.actor)
        .with("rollout", ready.course.id.as_str())
        .with("drill", ready.exercise.to_string())
        .with("provider", ready.provider.as_str())
        .with("state", state)
}

fn course<'a>(settings: &'a Settings, named: Option<&str>) -> Result<&'a Course, String> {
    match (named, settings.courses.as_slice()) {
        (Some(name), all) => all
            .iter()
            .find(|course| course.id.as_str() == name)
            .ok_or_else(|| format!("there is no rollout called `{name}`")),
        (None, [one]) => Ok(one),
        (None, _) => Err(String::from("say which rollout")),
    }
}

async fn record(process: &Process, entry: Entry) -> Result<(), String> {
    let ledger = Arc::clone(&process.ledger);
    let written = tokio::task::spawn_blocking(move || ledger.append(entry)).await;
    let written = written.map_err(|error| error.to_string())?;
    written.map(|_| ()).map_err(|error| error.to_string())
}
