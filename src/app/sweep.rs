//! When everybody is looked at in both directories: by one instance, as often as the configuration says, and not while
//! somebody holds the kill switch.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;

use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::app::second::Reading;
use crate::config::settings::Settings;
use crate::rollout::KillPosition;
use crate::rollout::Mode;
use crate::shadow::Swept;
use crate::shadow::settings;
use crate::store::Key;

/// How often it is asked whether one is due.
const LOOK: Duration = Duration::from_secs(30);
/// How long an instance is trusted to be at it; it says so several times in that time.
const LEASE: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(15);
/// One that did not come to its end is tried again so much later.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// From here on, for as long as the process lives.
pub(super) fn start(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (process, reloader) = (Arc::clone(process), Arc::clone(reloader));
    let holder = process.entropy.token();
    process.background.clone().spawn(async move {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let running = reloader.settings();
            for block in &running.shadow {
                one(&process, &reloader, (&running, block), &holder).await;
            }
        }
    });
}

/// Whether people of the application are compared now.
fn is_time(process: &Process, settings: &Settings, block: &settings::Settings) -> bool {
    let mut plans = settings.rollouts.iter();
    let Some(plan) = plans.find(|plan| plan.covers(&block.app)) else {
        return false;
    };
    let looks = match plan.stage.mode {
        Mode::Shadow | Mode::Canary | Mode::ModernPrimary => true,
        Mode::LegacyOnly | Mode::ModernOnly => false,
    };
    looks && process.kill.current().position(&plan.id) == KillPosition::Off
}

async fn one(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    (running, block): (&Arc<Settings>, &settings::Settings),
    holder: &str,
) {
    let Some(sweep) = &block.sweep else {
        return;
    };
    let (store, clock, app) = (&process.store, &process.clock, block.app.as_str());
    let done = Key {
        table: "sweep",
        key: app.as_bytes(),
    };
    // Who cannot say that it is due does not begin.
    if !is_time(process, running, block) || !matches!(store.get(done, clock.now()).await, Ok(None))
    {
        return;
    }
    let lease = format!("sweep/{app}");
    let take = || async { store.lease(&lease, holder, LEASE, clock.now()).await };
    if !matches!(take().await, Ok(true)) {
        return;
    }
    let go_on = || {
        let now = reloader.settings();
        now.sha256 == running.sha256 && is_time(process, &now, block)
    };
    let (providers, reader) = (reloader.providers(), Reading::of(running));
    let sweeping = process.shadow.sweep(block, &providers, &reader, &go_on);
    let mut sweeping = std::pin::pin!(sweeping);
    let mut renew = tokio::time::interval(RENEW);
    let swept = loop {
        tokio::select! {
            swept = &mut sweeping => break swept,
            _ = renew.tick() => if matches!(take().await, Ok(false)) {
                break Swept::CalledOff;
            },
        }
    };
    let next = match swept {
        Swept::All { compared, left_out } => {
            info!(
                app,
                compared, left_out, "Both directories were gone through."
            );
            Some(sweep.every)
        }
        Swept::Unavailable => {
            let (of, provider) = (sweep.of.as_str(), sweep.provider.as_str());
            warn!(
                app,
                of,
                provider,
                "A directory does not answer, or lists more people than are gone through: not everybody was looked at."
            );
            Some(AGAIN.min(sweep.every))
        }
        Swept::CalledOff => None,
    };
    if let Some(next) = next
        && let Err(error) = store.put(done, &[], clock.now() + next).await
    {
        warn!(app, %error, "It cannot be kept that both directories were gone through: it is done again.");
    }
    drop(store.release(&lease, holder).await);
}
