//! What another configuration would do to people before it runs: who would start elsewhere, and who would be refused.

mod notes;
mod side;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::admin::ExplainRequest;
use crate::admin::PlanRequest;
use crate::admin::PlanRow;
use crate::admin::PlanView;
use crate::app::plan::side::Case;
use crate::app::plan::side::Move;
use crate::app::process::Process;
use crate::app::reshuffle;
use crate::app::stated;
use crate::clock::Clock as _;
use crate::clock::SystemClock;
use crate::clock::UnixTime;
use crate::config;
use crate::config::Source;
use crate::config::System;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::entropy::SystemEntropy;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Course;
use crate::rollout::KillState;
use crate::rollout::Pin;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::session::Pins;
use crate::telemetry::Pseudonyms;

/// People of whom the store is asked at once.
const AT_ONCE: usize = 64;
/// Pseudonyms that are shown of each row.
const SHOWN: usize = 5;

/// What stands beside both configurations.
#[derive(Clone, Copy)]
struct Around<'a> {
    kill: &'a KillState,
    /// Who has moved; `None`: nothing runs, so nobody has.
    pins: Option<&'a Pins>,
    pseudonyms: &'a Pseudonyms,
    now: UnixTime,
}

impl<'a> Around<'a> {
    fn now(process: &'a Process, kill: &'a KillState) -> Self {
        Self {
            kill,
            pins: Some(&process.pins),
            pseudonyms: &process.pseudonyms,
            now: process.clock.now(),
        }
    }
}

/// Compares the configuration of the request with the one that runs.
///
/// # Errors
///
/// When the configuration is not good, or the request makes no sense; in words.
pub(super) async fn plan(
    process: &Process,
    running: &Settings,
    wanted: PlanRequest,
) -> Result<PlanView, String> {
    let source = Source {
        path: PathBuf::from(&wanted.path),
        text: wanted.text,
        environment: Arc::clone(&process.environment),
    };
    let compiled = config::load(&source).map_err(|problems| problems.to_string())?;
    let new = compiled.draft.beside(running);
    let mut new = new.map_err(|error| error.to_string())?;
    new.rollouts = process.conductor.plans(&new.courses)?;
    let refused = reshuffle::check(running, &new).err();
    at_steps(&mut new, &wanted.steps)?;
    let kill = process.kill.current();
    let around = Around::now(process, &kill);
    let (people, more) = process.seen.all(around.now);
    let mut view = PlanView {
        revision: running.revision.to_string(),
        listed: wanted.people.len() as u64,
        problems: refused.into_iter().collect(),
        notes: notes::all(&new, wanted.seen && process.store.is_shared()),
        ..allowed(running, &new)
    };
    if wanted.seen {
        (view.seen, view.more) = (people.len() as u64, more);
        let cases = people.iter().map(Case::of);
        count(around, (running, &new), cases, &mut view).await;
        // A reload supposes nothing.
        if wanted.steps.is_empty() {
            view.recalled = view.back() + view.refused();
        }
    }
    // Of whoever was seen, more is known than the inventory says.
    let seen: HashSet<_> = people
        .iter()
        .map(Case::of)
        .map(|case| (case.app, case.canonical))
        .collect();
    let mut listed = listed(running, &new, &wanted.people)?;
    listed.retain(|one| !seen.contains(&(&one.app, &one.canonical)));
    let cases = listed.iter().map(Case::of);
    count(around, (running, &new), cases, &mut view).await;
    Ok(view)
}

/// As [`plan`], of what a reload is about to let run, and of those who were seen alone.
pub(super) async fn of_reload(process: &Process, running: &Settings, new: &Settings) -> PlanView {
    let kill = process.kill.current();
    let around = Around::now(process, &kill);
    let (people, more) = process.seen.all(around.now);
    let mut view = PlanView {
        revision: running.revision.to_string(),
        seen: people.len() as u64,
        more,
        ..allowed(running, new)
    };
    let cases = people.iter().map(Case::of);
    count(around, (running, new), cases, &mut view).await;
    view.recalled = view.back() + view.refused();
    view
}

/// Whether a rollout may take a step forward, by whom of those who were seen it would take back. Whom it refuses is what its
/// stage is there for, and `promote.require` says when that may be.
///
/// # Errors
///
/// How many it would take back, and what to say if that is meant.
pub(super) async fn of_step(
    process: &Process,
    running: &Settings,
    (rollout, step): (&RolloutId, &str),
    meant: Option<u64>,
) -> Result<(), String> {
    let mut new = running.clone();
    let steps = [(rollout.to_string(), step.to_owned())];
    at_steps(&mut new, &steps.into())?;
    let view = of_reload(process, running, &new).await;
    let (back, allowed) = (
        view.back(),
        running.audit.max_recall.max(meant.unwrap_or(0)),
    );
    if back <= allowed {
        return Ok(());
    }
    let worst = view.rows.iter().max_by_key(|row| row.back);
    let worst = worst.map_or_else(String::new, |row| {
        format!(", most of them at `{}` by `{}`", row.app, row.rule)
    });
    Err(format!(
        "of the people let in within `retention.facts` {back} would start at the old provider again in `{step}`{worst}; \
         {allowed} may (`audit.max_recall`): if that is meant, `authferry ctl promote --recall {back}`, or `set-stage` with it"
    ))
}

/// Whether a reload may do that to people.
///
/// # Errors
///
/// How many it would hurt, and what to say in the file if that is meant.
pub(super) fn check(view: &PlanView) -> Result<(), String> {
    let recalled = view.recalled;
    if recalled <= view.allowed {
        return Ok(());
    }
    let worst = view.rows.iter().max_by_key(|row| row.back + row.refused);
    let worst = worst.map_or_else(String::new, |row| {
        format!(", most of them at `{}` by `{}`", row.app, row.rule)
    });
    let (back, refused) = (view.back(), view.refused());
    Err(format!(
        "of the people let in within `retention.facts` {back} would start at the old provider again, and what {refused} use \
         would not be accepted any more{worst}; {} may be (`audit.max_recall`): if that is meant, say `change: {{ recall: \
         {recalled} }}` (a `change` that is as it was counts no more)",
        view.allowed
    ))
}

/// Compares a configuration with the time before it: everybody is where their rollout begins.
///
/// # Errors
///
/// When the configuration is not good, or the request makes no sense; in words.
pub(crate) fn offline(wanted: &PlanRequest) -> Result<PlanView, String> {
    let source = Source {
        path: PathBuf::from(&wanted.path),
        text: wanted.text.clone(),
        environment: Arc::new(System),
    };
    let compiled = config::load(&source).map_err(|problems| problems.to_string())?;
    let (mut new, known) = compiled
        .draft
        .at_a_start(&SystemEntropy)
        .map_err(|error| error.to_string())?;
    let mut before = new.clone();
    before.rollouts = new
        .courses
        .iter()
        .map(|course| course.plan(None, false, 0))
        .collect();
    at_steps(&mut new, &wanted.steps)?;
    let listed = listed(&before, &new, &wanted.people)?;
    let pseudonyms = Pseudonyms::new(&new.telemetry.pseudonym_key);
    let around = Around {
        kill: &KillState::default(),
        pins: None,
        pseudonyms: &pseudonyms,
        now: SystemClock.now(),
    };
    let note = "the bucket key does not exist yet: as many would move, but others";
    let mut notes = notes::all(&new, false);
    notes.extend((!known).then(|| note.to_owned()));
    let mut view = PlanView {
        listed: wanted.people.len() as u64,
        notes,
        ..allowed(&before, &new)
    };
    for case in listed.iter().map(Case::of) {
        let moved = side::moved(
            (&before, &new),
            around.kill,
            (None, None),
            &case,
            around.now,
        );
        enter(around, &mut view.rows, &case, moved);
    }
    view.rows
        .sort_by(|a, b| (&a.app, &a.rule).cmp(&(&b.app, &b.rule)));
    Ok(view)
}

/// Nothing yet, and how many may be hurt. What was said of an earlier revision is not said of this one.
fn allowed(running: &Settings, new: &Settings) -> PlanView {
    let meant = new.change.recall.filter(|_| new.change != running.change);
    PlanView {
        allowed: new.audit.max_recall.max(meant.unwrap_or(0)),
        ..PlanView::default()
    }
}

/// Lets rollouts stand in other steps than they do.
fn at_steps(new: &mut Settings, steps: &BTreeMap<String, String>) -> Result<(), String> {
    for (rollout, step) in steps {
        let known = |course: &&Course| course.id.as_str() == rollout;
        let course = new.courses.iter().find(known);
        let course = course.ok_or_else(|| format!("there is no rollout called `{rollout}`"))?;
        let place = course.find(step);
        let place = place.ok_or_else(|| format!("rollout `{rollout}` has no step `{step}`"))?;
        if let Some(plan) = new.rollouts.iter_mut().find(|plan| plan.id == course.id) {
            *plan = course.plan(Some(place), false, plan.epoch);
        }
    }
    Ok(())
}

async fn count<'a>(
    around: Around<'_>,
    (running, new): (&Settings, &Settings),
    cases: impl Iterator<Item = Case<'a>>,
    view: &mut PlanView,
) {
    let cases: Vec<Case<'a>> = cases.collect();
    let asked: Vec<_> = cases
        .iter()
        .map(|case| pins(around, (running, new), case))
        .collect();
    let pins: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    for (case, pins) in cases.iter().zip(pins) {
        let moved = side::moved((running, new), around.kill, pins, case, around.now);
        enter(around, &mut view.rows, case, moved);
    }
    view.rows
        .sort_by(|a, b| (&a.app, &a.rule).cmp(&(&b.app, &b.rule)));
}

/// Who has moved, by either configuration: the same rollout is asked about once.
async fn pins(
    around: Around<'_>,
    (running, new): (&Settings, &Settings),
    case: &Case<'_>,
) -> (Option<Pin>, Option<Pin>) {
    let plan = |settings: &Settings| {
        let plan = settings.rollouts.iter().find(|plan| plan.covers(case.app));
        plan.map(|plan| (plan.id.clone(), plan.to.clone(), plan.epoch))
    };
    let (before, after) = (plan(running), plan(new));
    let was = side::pin(around.pins, before.as_ref(), case, around.now).await;
    let id = |of: &Option<side::Of>| of.as_ref().map(|(id, ..)| id.clone());
    if id(&before) == id(&after) {
        return (was, was);
    }
    let is = side::pin(around.pins, after.as_ref(), case, around.now).await;
    (was, is)
}

/// One more in the row of the rule that decides.
fn enter(around: Around<'_>, rows: &mut Vec<PlanRow>, case: &Case<'_>, moved: Option<Move>) {
    let Some(moved) = moved else {
        return;
    };
    let (Move::Forward(rule) | Move::Back(rule) | Move::Refused(rule)) = &moved;
    let same = |row: &PlanRow| row.app == case.app.as_str() && row.rule == *rule;
    let place = rows.iter().position(same).unwrap_or(rows.len());
    if place == rows.len() {
        rows.push(PlanRow {
            app: case.app.to_string(),
            rule: rule.clone(),
            ..PlanRow::default()
        });
    }
    let Some(row) = rows.get_mut(place) else {
        return;
    };
    let (counter, shown) = match moved {
        Move::Forward(_) => (&mut row.forward, None),
        Move::Back(_) => (&mut row.back, Some(&mut row.who)),
        Move::Refused(_) => (&mut row.refused, Some(&mut row.who)),
    };
    *counter += 1;
    if let Some(shown) = shown.filter(|shown| shown.len() < SHOWN) {
        shown.push(around.pseudonyms.of(case.canonical).to_string());
    }
}

/// People of an inventory, each at every application that a rollout moves or moved.
pub(super) fn listed(
    running: &Settings,
    new: &Settings,
    people: &[ExplainRequest],
) -> Result<Vec<Somebody>, String> {
    let plans = || running.rollouts.iter().chain(&new.rollouts);
    let apps: BTreeSet<&AppId> = plans().flat_map(|plan| &plan.apps).collect();
    let mut listed = Vec::new();
    for said in people {
        for app in &apps {
            if !said.app.is_empty() && said.app != app.as_str() {
                continue;
            }
            let Some(plan) = plans().find(|plan| plan.covers(app)) else {
                continue;
            };
            listed.push(one_listed(running, app, plan, said)?);
        }
    }
    Ok(listed)
}

fn one_listed(
    running: &Settings,
    app: &AppId,
    plan: &Plan,
    said: &ExplainRequest,
) -> Result<Somebody, String> {
    let whom = said.subject.as_deref().unwrap_or("?");
    let voucher = said.provider.as_deref();
    let voucher = voucher.map_or_else(|| plan.from.clone(), ProviderId::new);
    let stated = stated::stated(running, said, voucher)
        .map_err(|error| format!("inventory, {whom}: {error}"))?;
    let host = running.apps.iter().find(|entry| entry.id == *app);
    let host = host.and_then(|entry| entry.hosts.first());
    Ok(Somebody::said(
        (app.clone(), stated.name),
        (CredentialClass::Session, stated.identity),
        (
            host.map_or("", |host| host),
            said.path.as_deref().unwrap_or("/"),
            said.method.as_deref().unwrap_or("GET"),
        ),
        said.address,
    ))
}
