//! What people order.

use crate::control::conductor::Conductor;
use crate::control::conductor::Standing;
use crate::control::shared::Role;
use crate::identity::ProviderId;
use crate::rollout::Command;
use crate::rollout::RolloutId;
use crate::rollout::State;
use crate::rollout::Transition;

/// What an order comes to.
struct Wanted {
    transition: Transition,
    /// Where people would go.
    to: ProviderId,
    /// Where it stood when it was ordered: its step, its epoch, what it did there.
    stood: (u64, u64, State),
}

impl Conductor {
    /// What a person orders.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub(crate) async fn order(
        &self,
        rollout: &RolloutId,
        command: &Command,
        actor: &str,
        (reason, recall): (&str, Option<u64>),
    ) -> Result<Standing, String> {
        let mut turn = self.turn.lock().await;
        let mut wanted = self.wanted(rollout, command, reason).await?;
        if wanted.transition.promotes {
            // Whoever goes back meanwhile waits for no provider.
            drop(turn);
            self.is_ready(&wanted.to).await?;
            turn = self.turn.lock().await;
            let stood = wanted.stood;
            wanted = self.wanted(rollout, command, reason).await?;
            if wanted.stood != stood {
                return Err(String::from(
                    "it has moved meanwhile: look where it stands, and order it again",
                ));
            }
        }
        self.commit(rollout, wanted.transition, actor, (Some(command), recall))
            .await
            .map_err(|gap| gap.why)?;
        drop(turn);
        self.show();
        let standing = self
            .standings()
            .into_iter()
            .find(|s| s.course.id == *rollout);
        standing.ok_or_else(|| format!("there is no rollout called `{rollout}`"))
    }

    /// What an order comes to where the rollout stands now.
    async fn wanted(
        &self,
        rollout: &RolloutId,
        command: &Command,
        reason: &str,
    ) -> Result<Wanted, String> {
        // Whoever follows may order everything but what rests on evidence, which whoever leads has.
        self.catch_up(rollout, Role::Follows)
            .await
            .map_err(|gap| format!("it is not known where it stands: {gap}"))?;
        if let (Command::Promote, Some(led)) = (command, self.led()) {
            return Err(format!("the evidence is elsewhere: {led}"));
        }
        let now = self.parts.clock.now();
        let mut runs = self.runs();
        let run = runs
            .get_mut(rollout)
            .ok_or_else(|| format!("there is no rollout called `{rollout}`"))?;
        if *command == Command::Promote && run.findings.since.is_none() {
            // After a start, and after a file was read, nobody has looked yet.
            run.look(&[], false, now);
        }
        match command {
            Command::Rollback | Command::SetStage(_) if self.is_closed(&run.course.from) => {
                let from = &run.course.from;
                return Err(format!("`{from}` is closed for good: there is no way back"));
            }
            Command::Start
            | Command::Promote
            | Command::Pause
            | Command::Resume
            | Command::Rollback
            | Command::SetStage(_) => {}
        }
        let kill = self.parts.kill.current().position(rollout);
        let view = run.view(kill, now);
        let progress = &run.progress;
        Ok(Wanted {
            transition: command.apply(progress, &view, reason)?,
            to: run.course.to.clone(),
            stood: (progress.order(), progress.epoch, progress.state),
        })
    }
}
