//! What operators ask for, answered from the running parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tracing::warn;

use crate::admin::AdminBackend;
use crate::admin::ConfigView;
use crate::admin::DrillRequest;
use crate::admin::DrillView;
use crate::admin::ExpiringView;
use crate::admin::ExplainRequest;
use crate::admin::Explanation;
use crate::admin::ForgetAnswer;
use crate::admin::ForgetRequest;
use crate::admin::KeyView;
use crate::admin::LegacyRequest;
use crate::admin::LegacyView;
use crate::admin::LiftAnswer;
use crate::admin::LiftRequest;
use crate::admin::LinkAnswer;
use crate::admin::LinkRequest;
use crate::admin::LogHead;
use crate::admin::OrderRequest;
use crate::admin::PeopleView;
use crate::admin::PlanRequest;
use crate::admin::PlanView;
use crate::admin::ProviderView;
use crate::admin::Readiness;
use crate::admin::ReloadAnswer;
use crate::admin::ReloadOutcome;
use crate::admin::ReportRequest;
use crate::admin::ReportView;
use crate::admin::RevocationView;
use crate::admin::RevokeAnswer;
use crate::admin::RevokeFailure;
use crate::admin::RevokeRequest;
use crate::admin::RolloutView;
use crate::admin::WithdrawRequest;
use crate::app::catalog;
use crate::app::closing;
use crate::app::drill;
use crate::app::explain;
use crate::app::forget;
use crate::app::links;
use crate::app::plan;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::app::report;
use crate::app::revoke;
use crate::app::signing;
use crate::app::standing;
use crate::config::settings::Settings;
use crate::exchange::RingKeyView;
use crate::ledger;
use crate::providers::Providers;
use crate::rollout::Command;
use crate::rollout::RolloutId;
use crate::store::Sight;

/// The program, as an operator sees it.
#[derive(Debug)]
pub(super) struct Backend {
    process: Arc<Process>,
    reloader: Arc<Reloader>,
}

impl Backend {
    pub(super) const fn new(process: Arc<Process>, reloader: Arc<Reloader>) -> Self {
        Self { process, reloader }
    }
}

#[async_trait]
impl AdminBackend for Backend {
    async fn reload(&self) -> ReloadAnswer {
        let reloader = Arc::clone(&self.reloader);
        tokio::task::spawn_blocking(move || reloader.reload())
            .await
            .unwrap_or_else(|error| ReloadAnswer {
                outcome: ReloadOutcome::Refused,
                revision: self.reloader.settings().revision.to_string(),
                problems: vec![format!("the reload broke off: {error}")],
                waiting: Vec::new(),
            })
    }

    fn configuration(&self) -> ConfigView {
        let settings = self.reloader.settings();
        let refused = self.reloader.refused();
        ConfigView {
            revision: settings.revision.to_string(),
            sha256: settings.sha256.to_string(),
            last_reload_successful: refused.is_none(),
            problems: refused.into_iter().collect(),
            settings: view(&settings, &self.reloader.providers()),
        }
    }

    fn rollouts(&self) -> Vec<RolloutView> {
        let settings = self.reloader.settings();
        let kill = self.process.kill.current();
        let now = self.process.clock.now();
        let standings = self.process.conductor.standings();
        let one = |plan: &crate::rollout::Plan| {
            let standing = standings.iter().find(|s| s.course.id == plan.id);
            let view = RolloutView {
                id: plan.id.to_string(),
                apps: plan.apps.iter().map(ToString::to_string).collect(),
                from: plan.from.to_string(),
                to: plan.to.to_string(),
                stage: plan.stage.id.to_string(),
                mode: plan.stage.mode.as_str().to_owned(),
                percent: Some(plan.target(now).ratio() * 100.0),
                epoch: plan.epoch,
                kill: kill.position(&plan.id).as_str().to_owned(),
                people: self.process.exposure.of(&plan.id).map(|seen| PeopleView {
                    modern: seen.modern_born + seen.signs_in_again,
                    modern_born: seen.modern_born,
                    recalled: seen.recalled,
                    locked_out: seen.locked_out,
                    conflict: seen.conflict,
                }),
                ..RolloutView::default()
            };
            match standing {
                Some(standing) => standing::told(view, standing, now),
                None => view,
            }
        };
        settings.rollouts.iter().map(one).collect()
    }

    async fn explain(&self, question: ExplainRequest) -> Result<Explanation, String> {
        let snapshot = self.reloader.snapshots().load_full();
        let settings = self.reloader.settings();
        explain::explain(&self.process, (&settings, &snapshot), &question).await
    }

    fn about(&self, reference: &str) -> Vec<serde_json::Value> {
        let lines = self.process.logs.about(reference);
        let lines = lines.iter();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    async fn plan(&self, wanted: PlanRequest) -> Result<PlanView, String> {
        let settings = self.reloader.settings();
        plan::plan(&self.process, &settings, wanted).await
    }

    async fn report(&self, wanted: ReportRequest, actor: &str) -> Result<ReportView, String> {
        let settings = self.reloader.settings();
        report::report(&self.process, &settings, &wanted, actor).await
    }

    async fn order(&self, order: OrderRequest, actor: &str) -> Result<RolloutView, String> {
        let command = match (order.command.as_str(), order.stage) {
            ("start", None) => Command::Start,
            ("promote", None) => Command::Promote,
            ("pause", None) => Command::Pause,
            ("resume", None) => Command::Resume,
            ("rollback", None) => Command::Rollback,
            ("set-stage", Some(stage)) => Command::SetStage(stage),
            (other, _) => return Err(format!("`{other}` is no order, or lacks its stage")),
        };
        let rollout = RolloutId::new(&order.rollout);
        let conductor = &self.process.conductor;
        conductor
            .order(&rollout, &command, actor, (&order.reason, order.recall))
            .await?;
        let all = self.rollouts();
        let found = all.into_iter().find(|view| view.id == order.rollout);
        found.ok_or_else(|| format!("there is no rollout called `{rollout}`"))
    }

    async fn drill(&self, wanted: DrillRequest, actor: &str) -> Result<DrillView, String> {
        drill::begin(&self.process, &self.reloader, wanted, actor).await
    }

    fn drills(&self) -> Vec<DrillView> {
        self.process.drills.shown()
    }

    fn log_head(&self) -> LogHead {
        let ledger = &self.process.ledger;
        let (head, intact) = ledger.head();
        LogHead {
            seq: head.seq,
            hash: head.hash,
            intact,
            owed: ledger.owed(),
            file: ledger.file().display().to_string(),
        }
    }

    async fn log_tail(&self, how_many: usize) -> Vec<serde_json::Value> {
        let file = self.process.ledger.file().clone();
        let read = tokio::task::spawn_blocking(move || ledger::tail(&file, how_many));
        let read = read.await.map_err(std::io::Error::other).flatten();
        read.unwrap_or_else(|error| {
            warn!(%error, "The ledger cannot be read.");
            Vec::new()
        })
    }

    fn catalog(&self) -> String {
        catalog::markdown(&self.reloader.settings())
    }

    fn expiring(&self) -> Vec<ExpiringView> {
        let all = self.reloader.expiring().into_iter();
        all.map(ExpiringView::from).collect()
    }

    fn keys(&self) -> Vec<KeyView> {
        let keys = self.process.ring.list(self.process.clock.now());
        keys.into_iter().map(key).collect()
    }

    async fn rotate_keys(&self, actor: &str) -> Result<Vec<KeyView>, String> {
        let made = self
            .process
            .ring
            .rotate_now(actor, self.process.clock.now());
        let keys = made.await.map_err(|error| error.to_string())?;
        Ok(keys.into_iter().map(key).collect())
    }

    async fn withdraw_key(
        &self,
        wanted: WithdrawRequest,
        actor: &str,
    ) -> Result<Vec<KeyView>, RevokeFailure> {
        let keys = signing::withdraw(&self.process, wanted, actor).await?;
        Ok(keys.into_iter().map(key).collect())
    }

    fn readiness(&self) -> Readiness {
        let (started, draining) = self.process.phase();
        let one = |provider: &Arc<dyn crate::providers::Provider>| {
            let health = provider.health();
            ProviderView {
                id: provider.id().to_string(),
                usable: health.usable,
                reason: health.problem,
                file_is_good: provider.file_is_good(),
            }
        };
        let mut providers: Vec<_> = self.reloader.providers().iter().map(one).collect();
        providers.sort_by(|a, b| a.id.cmp(&b.id));
        Readiness {
            started,
            draining,
            providers,
            store: match self.process.store.sight() {
                Sight::Alone => None,
                Sight::Told | Sight::Deaf => Some(true),
                Sight::Away => Some(false),
            },
        }
    }

    async fn revoke(
        &self,
        wanted: RevokeRequest,
        actor: &str,
    ) -> Result<RevokeAnswer, RevokeFailure> {
        let settings = self.reloader.settings();
        revoke::revoke(&self.process.revocations, &settings, wanted, actor).await
    }

    async fn forget(
        &self,
        wanted: ForgetRequest,
        actor: &str,
    ) -> Result<ForgetAnswer, RevokeFailure> {
        let settings = self.reloader.settings();
        let running = (&*settings, &self.reloader.providers());
        forget::forget(&self.process, running, wanted, actor).await
    }

    async fn link(&self, wanted: LinkRequest, actor: &str) -> Result<LinkAnswer, RevokeFailure> {
        let settings = self.reloader.settings();
        links::set(&self.process, &settings, wanted, actor).await
    }

    async fn close(&self, wanted: LegacyRequest, actor: &str) -> Result<LegacyView, RevokeFailure> {
        let settings = self.reloader.settings();
        closing::close(&self.process, &settings, wanted, actor).await
    }

    async fn closings(&self) -> Result<Vec<LegacyView>, RevokeFailure> {
        closing::accounts(&self.process).await
    }

    fn no_way_back(&self, rollout: Option<&RolloutId>) -> Option<String> {
        closing::no_way_back(&self.reloader.settings(), rollout)
    }

    async fn revocations(&self) -> Result<Vec<RevocationView>, RevokeFailure> {
        revoke::list(&self.process.revocations).await
    }

    async fn lift(&self, wanted: LiftRequest, actor: &str) -> Result<LiftAnswer, RevokeFailure> {
        let settings = self.reloader.settings();
        let owners = revoke::Owners::of(&self.reloader.providers(), &settings);
        revoke::lift(&self.process.revocations, &wanted, actor, &owners).await
    }
}

fn key(key: RingKeyView) -> KeyView {
    KeyView {
        kid: key.kid,
        algorithm: key.algorithm,
        state: key.state.to_owned(),
        from: key.from,
        until: key.until,
    }
}

/// What runs, and its file as it was read: secrets stand in it by reference only.
fn view(settings: &Settings, running: &Providers) -> serde_json::Value {
    let apps = settings.apps.iter().map(|app| {
        let headers: Vec<_> = app.identity_headers.iter().map(|rule| rule.name.as_str()).collect();
        json!({ "id": app.id.as_str(), "hosts": app.hosts, "routes": app.routes.len(), "identity_headers": headers })
    });
    let providers: Vec<_> = settings
        .providers
        .iter()
        .map(|provider| provider.id.as_str())
        .collect();
    let abilities: BTreeMap<_, Vec<_>> = running
        .iter()
        .map(|provider| {
            let words = provider.abilities().iter().map(|ability| ability.as_str());
            (provider.id().as_str(), words.collect())
        })
        .collect();
    let cohorts: Vec<_> = settings
        .cohorts
        .keys()
        .map(crate::rollout::CohortId::as_str)
        .collect();
    json!({ "apps": apps.collect::<Vec<_>>(), "providers": providers, "abilities": abilities, "cohorts": cohorts, "workers": settings.server.workers, "text": &*settings.text })
}
