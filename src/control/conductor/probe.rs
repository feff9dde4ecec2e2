//! Whether a provider is there is asked while nobody waits for it: whatever goes back, and every other rollout, goes on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::control::conductor::Conductor;
use crate::control::conductor::Stage;
use crate::identity::ProviderId;
use crate::rollout::RolloutId;

/// How long a provider has for everything that it is asked.
const LIMIT: Duration = Duration::from_secs(30);

/// A question that has no answer yet, and the version of the progress that it was asked for.
pub(super) type Asking = (u64, BoxFuture<'static, Result<(), String>>);

impl Conductor {
    /// Whether a provider is there and knows us. Nobody asks it with the turn in their hands.
    pub(super) async fn is_ready(&self, to: &ProviderId) -> Result<(), String> {
        match self.stage.get() {
            Some(stage) => ask(Arc::clone(stage), to.clone()).await,
            None => Ok(()),
        }
    }

    /// The same for the step that a rollout would take by itself; `None`: there is no answer so far.
    pub(super) fn asked(&self, id: &RolloutId) -> Option<Result<(), String>> {
        let Some(stage) = self.stage.get() else {
            return Some(Ok(()));
        };
        let (version, to, asking) = {
            let mut runs = self.runs();
            let run = runs.get_mut(id)?;
            let (version, to) = (run.progress.version, run.course.to.clone());
            let asking = run.asking.take().filter(|(of, _)| *of == version);
            (version, to, asking)
        };
        let asking = asking.map(|(_, asking)| asking);
        let mut asking = asking.unwrap_or_else(|| ask(Arc::clone(stage), to).boxed());
        let answer = (&mut asking).now_or_never();
        if let (None, Some(run)) = (&answer, self.runs().get_mut(id)) {
            run.asking = Some((version, asking));
        }
        answer
    }
}

async fn ask(stage: Arc<dyn Stage>, to: ProviderId) -> Result<(), String> {
    match tokio::time::timeout(LIMIT, stage.is_ready(&to)).await {
        Ok(answer) => answer.map_err(|why| format!("{to} is not ready: {why}")),
        Err(_) => {
            let limit = LIMIT.as_secs();
            Err(format!(
                "{to} is not ready: it has not answered everything within {limit} s"
            ))
        }
    }
}
