//! What drives rollouts asks of the program: to let a step hold, and whether a provider is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
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
    beside::ask_hooks(process, reloader);
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
        let asked = async move { online::ready(&settings, &provider).await };
        there(&self.process.background, asked).await?
    }
}

/// Does something on another runtime, for as long as somebody waits for it: whoever has given up has a provider asked no more.
async fn there<T: Send + 'static>(
    background: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let mut working = JoinSet::new();
    working.spawn_on(work, background);
    match working.join_next().await {
        Some(done) => done.map_err(|error| error.to_string()),
        None => Err(String::from("nothing was asked")),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn nobody_is_asked_any_more_once_nobody_waits() {
        let here = Handle::current();
        assert_eq!(there(&here, async { 7 }).await, Ok(7));
        let (held, gone) = oneshot::channel::<()>();
        let asks = there(&here, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(asks.now_or_never().is_none());
        // It is dropped, with what it held.
        assert!(gone.await.is_err());
    }
}
