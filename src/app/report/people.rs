//! `who` and `rollback`: who is where, and what a switch back would do to them.

use std::collections::BTreeMap;
use std::collections::HashSet;

use serde_json::Value;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::exposed;
use crate::app::plan;
use crate::app::process::Process;
use crate::app::report::plans;
use crate::app::report::usage;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::identity::ProviderId;
use crate::links::MAX_CONFLICTS;
use crate::rollout::Plan;
use crate::session::MAX_MOVED;

/// The states of people, in the order of a migration.
const STATES: [&str; 7] = [
    "never_seen",
    "legacy",
    "linked",
    "modern",
    "modern_born",
    "conflict",
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
    let mut doubted = BTreeMap::new();
    for plan in plans(settings, wanted) {
        let rows = conflicts(process, plan, now).await?;
        let people: HashSet<_> = rows.iter().copied().collect();
        doubted.insert(plan.id.clone(), (rows.len(), people));
    }
    let mut counted: BTreeMap<[String; 3], BTreeMap<&str, u64>> = BTreeMap::new();
    for (one, was_seen) in everybody.filter(|(one, _)| asked(one)) {
        let Some(plan) = plans(settings, wanted).find(|plan| plan.covers(&one.app)) else {
            continue;
        };
        let doubted = doubted.get(&plan.id);
        let doubted = doubted.is_some_and(|(_, people)| is_in(process, people, plan, one));
        let state = if doubted {
            "conflict"
        } else {
            state(process, plan, one, was_seen, now).await?
        };
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
    let columns = ["rollout", "modern", "recalled", "accounts in conflict"];
    let mut moved = ReportTable::new("Who has moved", columns);
    for plan in plans(settings, wanted) {
        let rows = process.pins.all_moved(&plan.id, now).await;
        let rows = rows.map_err(|error| error.to_string())?;
        let here = rows.iter().filter(|row| row.epoch == plan.epoch).count();
        let doubted = doubted.get(&plan.id).map_or(0, |(accounts, _)| *accounts);
        moved.row([
            plan.id.as_str().into(),
            here.into(),
            (rows.len() - here).into(),
            doubted.into(),
        ]);
        if MAX_CONFLICTS <= doubted {
            let note = format!(
                "{}: more accounts are in conflict than are counted",
                plan.id
            );
            view.notes.push(note);
        }
        if MAX_MOVED <= rows.len() {
            let note = format!("{}: more people have moved than are counted", plan.id);
            view.notes.push(note);
        }
    }
    view.tables = vec![table, moved];
    let days = settings.retention.conflicts.as_secs() / 86_400;
    view.notes.push(format!(
        "a conflict counts until the account is linked or `authferry link set` decides, and for {days} days after it was met last; whoever was not let in and stands in no inventory is among the accounts alone, and the access log has each (`link_conflict`)"
    ));
    view.notes.extend(usage::about(more));
    if wanted.people.is_empty() {
        let note = "without an inventory nobody is known to be missing (`--inventory`)";
        view.notes.push(note.to_owned());
    }
    Ok(())
}

/// Whom the accounts of either side that are in conflict would have been.
async fn conflicts(process: &Process, plan: &Plan, now: UnixTime) -> Result<Vec<[u8; 32]>, String> {
    let mut all = Vec::new();
    for provider in [&plan.from, &plan.to] {
        let found = process.links.conflicts(provider, now).await;
        all.extend(found.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

/// Whether somebody is among them.
fn is_in(process: &Process, doubted: &HashSet<[u8; 32]>, plan: &Plan, one: &Somebody) -> bool {
    !doubted.is_empty()
        && [&plan.from, &plan.to].into_iter().any(|provider| {
            let row = process.links.account_row(&one.canonical, provider);
            doubted.contains(&row)
        })
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
    exposed::look(process, settings, &mut exposed::Seen::default(), now).await?;
    let mut table = exposed_table();
    for plan in plans(settings, wanted) {
        exposed(process, plan, &mut table);
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
        "newer passwords are known where the new provider says `password_changed`, more than the old one vouches for where `assurance` says how it is read, and whoever is barred of providers with `denials`",
        "what people have agreed to is asked when they sign in or move; whom it is not known of counts for `rollback_exposure_max` where the new provider could say",
        "`factor_only_at_modern` locks nobody out unless some route asks for what the old provider never vouches for (`require.acr`, `assurance_floor`)",
    ];
    view.notes.extend(notes.map(str::to_owned));
    if settings.canonical.is_none() {
        let note = "nobody is joined (`identity.canonical`): no old account of anybody at the new provider is known";
        view.notes.push(note.to_owned());
    }
    Ok(())
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
    let from = &plan.from;
    let told = exposed.by_why().map(|(why, people)| {
        let what = match why {
            "modern_born" => {
                format!("no account at {from} is known: they cannot sign in there")
            }
            "signs_in_again" => format!("they sign in at {from} once their session ends"),
            "legacy_disabled" => {
                format!("barred at {from}: nobody lets them in, here and there")
            }
            "password_changed_since" => {
                format!("{from} knows an older password than the one they use")
            }
            "consent_only_at_modern" => match (people, exposed.consent_not_known) {
                (None, _) => format!(
                    "not known: only a `directory` of the kind `keycloak` says at {} what people have agreed to",
                    plan.to
                ),
                (Some(_), 0) => format!("others act for them by what they agreed to at {}", plan.to),
                (Some(_), more) => format!(
                    "others act for them by what they agreed to at {}; of {more} more it was not known when they came last",
                    plan.to
                ),
            },
            _ => format!("{from} vouches for less than they sign in with"),
        };
        (why, people, what)
    });
    for (why, people, what) in told {
        table.row([id(), why.into(), people.into(), what.into()]);
    }
    table.row([
        id(),
        "locked_out".into(),
        exposed.locked_out.into(),
        "each of them once; what `rollback_exposure_max` bounds".into(),
    ]);
}
