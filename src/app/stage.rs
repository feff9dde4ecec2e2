//! What drives rollouts asks of the program: to let a step hold, and whether a provider is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::MissedTickBehavior;

use crate::app::aftermath;
use crate::app::beside;
use crate::app::online;
use crate::app::plan;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::control;
use crate::identity::ProviderId;
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

    async fn may_begin(
        &self,
        rollout: &RolloutId,
        step: &str,
        meant: Option<u64>,
    ) -> Result<(), String> {
        let settings = self.reloader.settings();
        plan::of_step(&self.process, &settings, (rollout, step), meant).await
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
