//! `who` and `rollback`: who is where, and what a switch back would do to them.

use std::collections::BTreeMap;
use std::collections::HashSet;

use serde_json::Value;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::plan;
use crate::app::process::Process;
use crate::app::report::plans;
use crate::app::report::usage;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::identity::ProviderId;
use crate::revocation::Barred;
use crate::rollout::Plan;
use crate::session::MAX_MOVED;

/// The states of people, in the order of a migration.
const STATES: [&str; 6] = [
    "never_seen",
    "legacy",
    "linked",
    "modern",
    "modern_born",
    "recalled",
];

/// People by state: those who were seen and those of an inventory, by application and cohort; and all who have moved.
pub(super) async fn who(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    now: UnixTime,
    view: &mut ReportView,
) -> Result<(), String> {
    let (seen, more) = process.seen.all(now);
    let listed = plan::listed(settings, settings, &wanted.people)?;
    let known: HashSet<_> = seen.iter().map(|one| (&one.app, &one.canonical)).collect();
    let unseen = listed
        .iter()
        .filter(|one| !known.contains(&(&one.app, &one.canonical)));
    let everybody = seen.iter().map(|one| (one, true));
    let everybody = everybody.chain(unseen.map(|one| (one, false)));
    let asked = |one: &Somebody| {
        let app = wanted.app.as_deref();
        app.is_none_or(|app| one.app.as_str() == app)
    };
    let mut counted: BTreeMap<[String; 3], BTreeMap<&str, u64>> = BTreeMap::new();
    for (one, was_seen) in everybody.filter(|(one, _)| asked(one)) {
        let Some(plan) = plans(settings, wanted).find(|plan| plan.covers(&one.app)) else {
            continue;
        };
        let state = state(process, plan, one, was_seen, now).await?;
        for cohort in cohorts(settings, one) {
            let key = [plan.id.to_string(), one.app.to_string(), cohort];
            *counted.entry(key).or_default().entry(state).or_default() += 1;
        }
    }
    let mut table = ReportTable::new("People by state", ["rollout", "application", "cohort"]);
    table.columns.extend(STATES.map(str::to_owned));
    for (key, states) in counted {
        let mut row: Vec<Value> = key.map(Value::from).to_vec();
        row.extend(STATES.map(|state| Value::from(states.get(state).copied().unwrap_or(0))));
        table.rows.push(row);
    }
    let mut moved = ReportTable::new("Who has moved", ["rollout", "modern", "recalled"]);
    for plan in plans(settings, wanted) {
        let rows = process.pins.all_moved(&plan.id, now).await;
        let rows = rows.map_err(|error| error.to_string())?;
        let here = rows.iter().filter(|row| row.epoch == plan.epoch).count();
        moved.row([
            plan.id.as_str().into(),
            here.into(),
            (rows.len() - here).into(),
        ]);
        if MAX_MOVED <= rows.len() {
            let note = format!("{}: more people have moved than are counted", plan.id);
            view.notes.push(note);
        }
    }
    view.tables = vec![table, moved];
    let note = "whoever is refused because of a conflict was not let in, and is in none of these states: `authferry_subject_links_total{outcome=\"conflict\"}` counts them, and the access log has each (`link_conflict`)";
    view.notes.push(note.to_owned());
    view.notes.extend(usage::about(more));
    if wanted.people.is_empty() {
        let note = "without an inventory nobody is known to be missing (`--inventory`)";
        view.notes.push(note.to_owned());
    }
    Ok(())
}

/// Where somebody stands in a rollout.
async fn state(
    process: &Process,
    plan: &Plan,
    one: &Somebody,
    was_seen: bool,
    now: UnixTime,
) -> Result<&'static str, String> {
    let pin = process.pins.of(&plan.id, &one.canonical, now).await;
    let pin = pin.map_err(|error| error.to_string())?;
    let at = async |provider: &ProviderId| {
        let row = process.links.account_row(&one.canonical, provider);
        let known = process.links.has_account(&row, now).await;
        known.map_err(|error| error.to_string())
    };
    let by = |provider: &ProviderId| {
        let mut uses = one.uses.iter();
        was_seen && uses.any(|used| used.by.provider == *provider)
    };
    let (from, to) = (at(&plan.from).await?, at(&plan.to).await?);
    Ok(match pin {
        Some(pin) if pin.epoch != plan.epoch => "recalled",
        Some(_) if from => "modern",
        Some(_) => "modern_born",
        // With a token of the new provider, and without a sign-in here.
        None if by(&plan.to) && !by(&plan.from) && !from => "modern_born",
        None if to && (from || by(&plan.from)) => "linked",
        None if from || by(&plan.from) => "legacy",
        None if to => "modern_born",
        None => "never_seen",
    })
}

/// The cohorts that somebody is in, as far as it is known, and `all`.
fn cohorts(settings: &Settings, one: &Somebody) -> Vec<String> {
    let mut all = vec![String::from("all")];
    let Some(used) = one.uses.last() else {
        return all;
    };
    let facts = one.facts(&used.by);
    let within = settings.cohorts.iter().filter(|(_, cohort)| {
        !cohort.rests_on_unverified() && cohort.contains(&facts) == Some(true)
    });
    all.extend(within.map(|(id, _)| id.to_string()));
    all
}

/// What a switch back would do now.
pub(super) async fn rollback(
    process: &Process,
    settings: &Settings,
    wanted: &ReportRequest,
    now: UnixTime,
    view: &mut ReportView,
) -> Result<(), String> {
    process.exposure.look(settings.rollouts.iter(), now).await?;
    for plan in &settings.rollouts {
        let exposed = process.exposure.of(&plan.id);
        let people = exposed.map(|exposed| exposed.modern_born);
        process.conductor.exposed(&plan.id, people);
    }
    let mut table = exposed_table();
    let barred = process.revocations.denials().await;
    let barred = barred.map_err(|error| error.to_string())?;
    let barred: Vec<_> = barred.into_iter().filter_map(|one| one.barred).collect();
    for plan in plans(settings, wanted) {
        exposed(process, plan, &mut table);
        let people = disabled(process, plan, &barred, now).await?;
        table.row([
            plan.id.as_str().into(),
            "legacy_disabled".into(),
            people.into(),
            format!(
                "barred at {}: nobody lets them in, here and there",
                plan.from
            )
            .into(),
        ]);
    }
    let mut sides: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let tally = process.sessions.in_use(now);
    for ((app, side, _), count) in &tally {
        let asked = wanted.app.as_deref();
        if asked.is_none_or(|asked| **app == *asked) {
            *sides.entry((app.to_string(), side)).or_default() += *count;
        }
    }
    let title = "Sessions in use at this instance";
    let mut sessions = ReportTable::new(title, ["application", "side", "sessions"]);
    for ((app, side), count) in sides {
        sessions.row([app.into(), side.into(), count.into()]);
    }
    view.tables = vec![table, sessions];
    let notes = [
        "sessions of the new provider live on after a rollback; with `kill_switch.modern_sessions: revoke` the kill switch ends them",
        "who has a newer password, or another factor at the new provider alone, is not counted; whoever is barred is known of providers with `denials`",
    ];
    view.notes.extend(notes.map(str::to_owned));
    if settings.canonical.is_none() {
        let note = "nobody is joined (`identity.canonical`): no old account of anybody at the new provider is known";
        view.notes.push(note.to_owned());
    }
    Ok(())
}

/// How many who have moved are barred at the provider that they came from.
async fn disabled(
    process: &Process,
    plan: &Plan,
    barred: &[Barred],
    now: UnixTime,
) -> Result<u64, String> {
    let theirs = barred.iter().filter(|one| one.provider == plan.from);
    let people: HashSet<_> = theirs.filter_map(|one| one.person.as_ref()).collect();
    let mut count = 0;
    for person in people {
        let pin = process.pins.of(&plan.id, person, now).await;
        let pin = pin.map_err(|error| error.to_string())?;
        count += u64::from(pin.is_some_and(|pin| pin.epoch == plan.epoch));
    }
    Ok(count)
}

/// The table of [`exposed`].
pub(super) fn exposed_table() -> ReportTable {
    ReportTable::new(
        "A switch back now",
        ["rollout", "why", "people", "what it means for them"],
    )
}

/// How many people a switch back would hurt, by why.
pub(super) fn exposed(process: &Process, plan: &Plan, table: &mut ReportTable) {
    let id = || Value::from(plan.id.as_str());
    let Some(exposed) = process.exposure.of(&plan.id) else {
        let why = if process.exposure.is_too_much(&plan.id) {
            format!("{MAX_MOVED} people have moved or more: they are not counted any more")
        } else {
            String::from("not known yet")
        };
        table.row([id(), "-".into(), Value::Null, why.into()]);
        return;
    };
    let born = format!(
        "no account at {} is known: they cannot sign in there",
        plan.from
    );
    let again = format!("they sign in at {} once their session ends", plan.from);
    table.row([
        id(),
        "modern_born".into(),
        exposed.modern_born.into(),
        born.into(),
    ]);
    table.row([
        id(),
        "signs_in_again".into(),
        exposed.signs_in_again.into(),
        again.into(),
    ]);
}
