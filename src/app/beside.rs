//! What is counted beside logins, every few seconds, and told to whatever drives rollouts: whom a switch back would hurt, what
//! second opinions found, and who still comes with old credentials.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::app::exposed;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::app::unlinked;
use crate::config::settings::Settings;
use crate::rollout::CohortId;
use crate::rollout::Course;
use crate::rollout::RolloutId;
use crate::rollout::StillSeen;
use crate::telemetry::Prometheus;
use crate::telemetry::Webhook;

/// How often second opinions and old credentials are counted.
const COUNT: Duration = Duration::from_secs(5);
/// How often other systems are asked.
const ASK: Duration = Duration::from_secs(15);
/// How often everybody is asked whom a switch back would hurt, in those.
const EXPOSED: u32 = 6;

/// Counts, for as long as the process lives.
pub(super) fn count(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (counting, reloader) = (Arc::clone(process), Arc::clone(reloader));
    process.background.spawn(async move {
        let mut tick = tokio::time::interval(COUNT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut turn, mut seen) = (0, exposed::Seen::default());
        loop {
            tick.tick().await;
            let settings = reloader.settings();
            stragglers(&counting, &settings);
            tell(&counting);
            if turn == 0 {
                hurt(&counting, &settings, &mut seen).await;
            }
            turn = (turn + 1) % EXPOSED;
        }
    });
}

/// Asks what other systems count, for as long as the process lives.
pub(super) fn ask(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (asking, reloader) = (Arc::clone(process), Arc::clone(reloader));
    process.background.spawn(async move {
        let prometheus = match Prometheus::new() {
            Ok(prometheus) => prometheus,
            Err(error) => {
                warn!(%error, "No Prometheus can be asked: guards with `promql` have no data.");
                return;
            }
        };
        let mut tick = tokio::time::interval(ASK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = BTreeSet::new();
        loop {
            tick.tick().await;
            let settings = reloader.settings();
            for (rollout, [rails, guard, query]) in asking.conductor.queries() {
                let Some(source) = settings.prometheus.get(&rails) else {
                    continue;
                };
                let answer = prometheus.ask(source, &query).await;
                let about = (rollout.to_string(), guard.clone());
                match &answer {
                    Ok(_) => drop(silent.remove(&about)),
                    // It is said once, and again when it has answered meanwhile.
                    Err(why) if silent.insert(about) => {
                        warn!(%rollout, %guard, why, "A guard has no data: its query has no answer.");
                    }
                    Err(_) => {}
                }
                asking.conductor.answered(&rollout, &guard, answer.ok());
            }
        }
    });
}

/// Asks the hooks of stages that have baked, for as long as the process lives.
pub(super) fn ask_hooks(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (asking, reloader) = (Arc::clone(process), Arc::clone(reloader));
    process.background.spawn(async move {
        let webhook = match Webhook::new() {
            Ok(webhook) => webhook,
            Err(error) => {
                warn!(%error, "No hook can be asked: stages with `webhook` are not left.");
                return;
            }
        };
        let mut tick = tokio::time::interval(ASK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let settings = reloader.settings();
            for hook in asking.conductor.hooks() {
                let of = (hook.rollout.clone(), hook.stage.clone());
                let Some(source) = settings.hooks.get(&of) else {
                    continue;
                };
                let about = json!({ "rollout": hook.rollout.as_str(), "step": hook.step, "next": hook.next });
                let said = webhook.ask(source, &about).await;
                asking.conductor.hook_said(&hook, said);
            }
        }
    });
}

/// Counts who came with credentials of a provider that people leave.
fn stragglers(process: &Process, settings: &Settings) {
    let now = process.clock.now();
    // Also where no stage asks: the report does.
    let asked: Vec<&Course> = settings.courses.iter().collect();
    let (came, lost) = process.seen.take_came();
    let watched = asked.iter().map(|course| course.from.clone());
    process.seen.watch(watched.collect::<HashSet<_>>());
    let stragglers = &process.stragglers;
    // Whoever is not counted for a while leaves a gap that nobody may look across.
    let sides = asked.iter().flat_map(|course| {
        let apps = course.apps.iter();
        apps.map(|app| (app.clone(), course.from.clone()))
    });
    stragglers.only(&sides.collect());
    for course in asked {
        let except: BTreeSet<&CohortId> = asked_of(course)
            .into_iter()
            .flat_map(|asked| &asked.except)
            .collect();
        for app in &course.apps {
            stragglers.count(app, &course.from, now);
            if lost {
                stragglers.lost(app, &course.from, now);
            }
        }
        for one in came.iter().filter(|one| course.apps.contains(&one.app)) {
            let Some(used) = one.uses.first() else {
                continue;
            };
            if used.by.provider != course.from {
                continue;
            }
            let facts = one.facts(&used.by);
            let is_in = |id: &&&CohortId| {
                let cohort = settings.cohorts.get(id);
                cohort.is_some_and(|cohort| cohort.contains(&facts) == Some(true))
            };
            let of = except.iter().filter(is_in).map(|id| (*id).clone());
            let person = process.pseudonyms.of(&one.canonical);
            stragglers.came((&one.app, &course.from), person, of, one.at);
        }
    }
}

/// What the stages of a rollout ask about old credentials.
fn asked_of(course: &Course) -> Vec<&StillSeen> {
    let legs = course.legs.iter();
    legs.filter_map(|leg| leg.require.legacy_credentials_seen.as_ref())
        .collect()
}

fn tell(process: &Process) {
    process.conductor.seen_beside(
        |course, moment| process.shadow.since(&course.apps, moment),
        |course, asked| {
            let side = (&course.apps[..], &course.from);
            process.stragglers.since(side, asked, process.clock.now())
        },
    );
}

async fn hurt(process: &Process, settings: &Settings, seen: &mut exposed::Seen) {
    let known = exposed::look(process, settings, seen, process.clock.now()).await;
    if let Err(why) = &known {
        warn!(why, "It is not known whom a switch back would hurt.");
    }
    for plan in &settings.rollouts {
        // Where nobody asks, nothing is counted.
        if asks_for_partners(settings, &plan.id) {
            let now = process.clock.now();
            let (seen, more) = process.seen.all(now);
            let looked = unlinked::look(process, settings, (plan, &seen, more), now).await;
            if let Err(error) = &looked {
                warn!(%error, "It is not known who has no partner at the other provider.");
            }
            let about = (&plan.apps[..], &plan.from, &plan.to);
            let counted = process.partners.count(about, now);
            process
                .conductor
                .unlinked(&plan.id, counted.filter(|_| looked.is_ok()));
        }
    }
}

fn asks_for_partners(settings: &Settings, rollout: &RolloutId) -> bool {
    let mut courses = settings.courses.iter();
    let course = courses.find(|course| course.id == *rollout);
    course.is_some_and(|course| {
        let mut legs = course.legs.iter();
        legs.any(|leg| leg.require.unlinked_max.is_some())
    })
}
