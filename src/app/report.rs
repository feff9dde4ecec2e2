//! Reports, made of what the running parts know: `authferry report`.

mod groups;
mod opinions;
mod people;
mod reveal;
mod timeline;
mod usage;

use std::sync::Arc;

use serde_json::Value;

use crate::admin::ReportKind;
use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::rollout::Plan;

/// Makes a report.
///
/// # Errors
///
/// When it asks for what does not exist, or something it rests on cannot be read; in words.
pub(super) async fn report(
    process: &Arc<Process>,
    settings: &Settings,
    wanted: &ReportRequest,
    actor: &str,
) -> Result<ReportView, String> {
    known(settings, wanted)?;
    let now = process.clock.now();
    let mut view = ReportView {
        kind: wanted.kind,
        at: moment(now),
        revision: settings.revision.to_string(),
        tables: Vec::new(),
        notes: Vec::new(),
    };
    match wanted.kind {
        ReportKind::Who => people::who(process, settings, wanted, now, &mut view).await?,
        ReportKind::Rollback => people::rollback(process, settings, wanted, now, &mut view).await?,
        ReportKind::LegacyUsage => usage::legacy(process, settings, wanted, now, &mut view),
        ReportKind::Divergences => {
            opinions::divergences(process, settings, wanted, now, &mut view);
        }
        ReportKind::Surface => opinions::surface(process, settings, wanted, &mut view),
        ReportKind::Groups => groups::groups(process, settings, &mut view),
        ReportKind::Readiness => readiness(process, settings, wanted, &mut view),
        ReportKind::Timeline => {
            timeline::timeline(process, settings, wanted, now, &mut view).await?
        }
    }
    reveal::reveal(process, wanted, actor, now, &mut view).await?;
    Ok(view)
}

fn known(settings: &Settings, wanted: &ReportRequest) -> Result<(), String> {
    let rollout = |id: &str| settings.rollouts.iter().any(|plan| plan.id.as_str() == id);
    if let Some(id) = wanted.rollout.as_deref().filter(|id| !rollout(id)) {
        return Err(format!("there is no rollout called `{id}`"));
    }
    let app = |id: &str| settings.apps.iter().any(|app| app.id.as_str() == id);
    match wanted.app.as_deref().filter(|id| !app(id)) {
        Some(id) => Err(format!("there is no application called `{id}`")),
        None => Ok(()),
    }
}

/// The rollouts that a report is about.
fn plans<'a>(settings: &'a Settings, wanted: &'a ReportRequest) -> impl Iterator<Item = &'a Plan> {
    settings.rollouts.iter().filter(|plan| {
        let asked = |id: &String| plan.id.as_str() == id;
        let covers = |app: &String| plan.apps.iter().any(|own| own.as_str() == app);
        wanted.rollout.as_ref().is_none_or(asked) && wanted.app.as_ref().is_none_or(covers)
    })
}

/// A moment as it stands in the ledger: UTC, to the second.
fn moment(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "-".to_owned(), |at| at.to_string())
}

/// What keeps each rollout from its next step, as a list to tick off.
fn readiness(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    view: &mut ReportView,
) {
    let standings = process.conductor.standings();
    let mut steps = ReportTable::new(
        "Steps",
        ["rollout", "state", "step", "since", "next", "ready", "why"],
    );
    let mut missing = ReportTable::new("What is missing", ["rollout", "missing"]);
    let mut guards = ReportTable::new(
        "Guards",
        [
            "rollout",
            "guard",
            "people new",
            "people old",
            "bad new",
            "bad old",
            "ratio",
            "ln E",
            "trips at",
            "verdict",
        ],
    );
    for plan in plans(settings, wanted) {
        let Some(standing) = standings.iter().find(|s| s.course.id == plan.id) else {
            continue;
        };
        let (course, progress) = (&standing.course, &standing.progress);
        let id = Value::from(plan.id.as_str());
        let place = progress.place(course);
        let next = place.and_then(|place| course.next(place));
        let mut gaps = standing.missing.clone();
        let position = process.kill.current().position(&plan.id);
        if position != crate::rollout::KillPosition::Off {
            gaps.push(format!("the kill switch is at {}", position.as_str()));
        }
        steps.row([
            id.clone(),
            progress.state.as_str().into(),
            progress.name(course).into(),
            moment(progress.entered).into(),
            next.map(|place| course.name(place)).into(),
            (gaps.is_empty() && next.is_some()).into(),
            progress.why.as_str().into(),
        ]);
        for gap in gaps {
            missing.row([id.clone(), gap.into()]);
        }
        for guard in &standing.findings.guards {
            guards.row([
                id.clone(),
                (&*guard.id).into(),
                guard.units.to.into(),
                guard.units.from.into(),
                guard.bad.to.into(),
                guard.bad.from.into(),
                guard.ratio.map(short).into(),
                short(guard.log_e).into(),
                short(guard.trip_at).into(),
                guard.verdict.as_str().into(),
            ]);
        }
    }
    let mut limits = ReportTable::new("Limits", ["rollout", "guard", "value", "may be", "verdict"]);
    let mut split = ReportTable::new(
        "Split",
        [
            "rollout",
            "people new",
            "people old",
            "ln E",
            "trips at",
            "verdict",
        ],
    );
    for plan in plans(settings, wanted) {
        let standing = standings.iter().find(|s| s.course.id == plan.id);
        let Some(findings) = standing.map(|standing| &standing.findings) else {
            continue;
        };
        let id = || Value::from(plan.id.as_str());
        for limit in &findings.limits {
            limits.row([
                id(),
                (&*limit.id).into(),
                limit.value.into(),
                limit.max.into(),
                limit.verdict.as_str().into(),
            ]);
        }
        if let Some(seen) = &findings.split {
            split.row([
                id(),
                seen.seen.to.into(),
                seen.seen.from.into(),
                short(seen.log_e).into(),
                short(seen.trip_at).into(),
                seen.verdict.as_str().into(),
            ]);
        }
    }
    let mut exposed = people::exposed_table();
    for plan in plans(settings, wanted) {
        people::exposed(process, plan, &mut exposed);
    }
    view.tables = vec![steps, missing, guards, limits, split, exposed];
}

/// Three decimals are enough for people.
fn short(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
