//! What drives rollouts asks of the program: to let a step hold, and whether a provider is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::MissedTickBehavior;

use crate::app::aftermath;
use crate::app::beside;
use crate::app::online;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::app::unlinked;
use crate::config::settings::Settings;
use crate::control;
use crate::identity::ProviderId;
use crate::rollout::Course;
use crate::rollout::RolloutId;

/// The running program, as the conductor sees it.
#[derive(Debug)]
struct Stage {
    process: Arc<Process>,
    reloader: Arc<Reloader>,
}

/// Looks at rollouts from here on, for as long as the process lives.
pub(super) fn conduct(process: &Arc<Process>, reloader: &Arc<Reloader>, every: Duration) {
    let conductor = Arc::clone(&process.conductor);
    conductor.on(Arc::new(Stage {
        process: Arc::clone(process),
        reloader: Arc::clone(reloader),
    }));
    beside::count(process, reloader);
    beside::ask(process, reloader);
    process.background.spawn(async move {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            conductor.tick().await;
        }
    });
}

/// How often it is counted whom a switch back would hurt, and who was looked at twice.
const COUNT: Duration = Duration::from_secs(30);

/// Counts whom a switch back would hurt, for as long as the process lives.
fn count_exposed(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (counting, reloader) = (Arc::clone(process), Arc::clone(reloader));
    process.background.spawn(async move {
        let mut tick = tokio::time::interval(COUNT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let settings = reloader.settings();
            let plans = &settings.rollouts;
            let looked = counting.exposure.look(plans.iter(), counting.clock.now());
            let known = looked.await;
            if let Err(why) = &known {
                warn!(why, "It is not known whom a switch back would hurt.");
            }
            let found = counting.shadow.found();
            let since = |course: &Course, moment| found.since(&course.apps, moment);
            counting.conductor.compared(since);
            let (seen, _) = counting.seen.all(counting.clock.now());
            for plan in plans {
                // Where nobody asks, nothing is counted.
                if asks_for_partners(&settings, &plan.id) {
                    let counted = (plan, seen.as_slice());
                    let now = counting.clock.now();
                    let counted = unlinked::count(&counting, &settings, counted, now).await;
                    if let Err(error) = &counted {
                        warn!(%error, "It is not known who has no partner at the other provider.");
                    }
                    counting.conductor.unlinked(&plan.id, counted.ok());
                }
                let exposed = counting.exposure.of(&plan.id).filter(|_| known.is_ok());
                let people = exposed.map(|exposed| exposed.modern_born);
                counting.conductor.exposed(&plan.id, people);
            }
        }
    });
}

fn asks_for_partners(settings: &Settings, rollout: &RolloutId) -> bool {
    let mut courses = settings.courses.iter();
    let course = courses.find(|course| course.id == *rollout);
    course.is_some_and(|course| {
        let mut legs = course.legs.iter();
        legs.any(|leg| leg.require.unlinked_max.is_some())
    })
}

#[async_trait]
impl control::Stage for Stage {
    fn rebuild(&self) -> Result<(), String> {
        self.reloader.replan()
    }

    async fn revoke(&self, provider: &ProviderId, why: &str) -> Result<(), String> {
        aftermath::end(&self.process, provider, "controller", why)
            .await
            .map_err(|error| error.to_string())
    }

    async fn is_ready(&self, provider: &ProviderId) -> Result<(), String> {
        // On the background runtime, where connections to providers live.
        let (settings, provider) = (self.reloader.settings(), provider.clone());
        let asked = self
            .process
            .background
            .spawn(async move { online::ready(&settings, &provider).await });
        asked.await.map_err(|error| error.to_string())?
    }
}
