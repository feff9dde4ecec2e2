//! An admin listener in front of a program that says what a test tells it to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use crate::admin::backend::AdminBackend;
use crate::admin::backend::ConfigView;
use crate::admin::backend::LiftAnswer;
use crate::admin::backend::LiftRequest;
use crate::admin::backend::LogHead;
use crate::admin::backend::Readiness;
use crate::admin::backend::ReloadAnswer;
use crate::admin::backend::ReloadOutcome;
use crate::admin::backend::RevocationView;
use crate::admin::backend::RevokeAnswer;
use crate::admin::backend::RevokeFailure;
use crate::admin::backend::RevokeRequest;
use crate::admin::closing::LegacyRequest;
use crate::admin::closing::LegacyView;
use crate::admin::drill::DrillRequest;
use crate::admin::drill::DrillView;
use crate::admin::keys::KeyView;
use crate::admin::keys::WithdrawRequest;
use crate::admin::listen::Admin;
use crate::admin::plan::PlanRequest;
use crate::admin::plan::PlanRow;
use crate::admin::plan::PlanView;
use crate::admin::question::ExplainRequest;
use crate::admin::question::Explanation;
use crate::admin::question::ForgetAnswer;
use crate::admin::question::ForgetRequest;
use crate::admin::question::LinkAnswer;
use crate::admin::question::LinkRequest;
use crate::admin::report::ReportRequest;
use crate::admin::report::ReportTable;
use crate::admin::report::ReportView;
use crate::admin::rollouts::OrderRequest;
use crate::admin::rollouts::RolloutView;
use crate::admin::settings::Settings;
use crate::clock::SystemClock;
use crate::control::KillSettings;
use crate::control::KillSwitch;
use crate::rollout::RolloutId;
use crate::secret::Secret;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;

/// A program that says what a test tells it to.
#[derive(Debug, Default)]
pub(crate) struct FakeBackend {
    /// What it says about itself.
    pub(crate) readiness: Readiness,
    /// What is wrong with its configuration file.
    pub(crate) problems: Vec<String>,
    /// Its rollouts.
    pub(crate) rollouts: Vec<RolloutView>,
    /// The last records of its ledger.
    pub(crate) records: Vec<serde_json::Value>,
}

#[async_trait]
impl AdminBackend for FakeBackend {
    async fn reload(&self) -> ReloadAnswer {
        ReloadAnswer {
            outcome: if self.problems.is_empty() {
                ReloadOutcome::Applied
            } else {
                ReloadOutcome::Refused
            },
            revision: "abc".into(),
            problems: self.problems.clone(),
            waiting: vec!["server.workers".into()],
        }
    }

    fn configuration(&self) -> ConfigView {
        ConfigView {
            revision: "abc".into(),
            sha256: "abcdef".into(),
            last_reload_successful: true,
            problems: Vec::new(),
            settings: serde_json::json!({}),
        }
    }

    fn rollouts(&self) -> Vec<RolloutView> {
        self.rollouts.clone()
    }

    fn catalog(&self) -> String {
        "# Catalog\n".to_owned()
    }

    fn expiring(&self) -> Vec<crate::admin::ExpiringView> {
        Vec::new()
    }

    fn keys(&self) -> Vec<KeyView> {
        vec![KeyView {
            kid: "k1".into(),
            algorithm: "ES256".into(),
            state: "signing".into(),
            from: 1_000,
            until: None,
        }]
    }

    async fn rotate_keys(&self, _actor: &str) -> Result<Vec<KeyView>, String> {
        Err("the keys are files of the configuration".into())
    }

    async fn withdraw_key(
        &self,
        _wanted: WithdrawRequest,
        _actor: &str,
    ) -> Result<Vec<KeyView>, RevokeFailure> {
        Err(RevokeFailure::Unknown)
    }

    async fn explain(&self, question: ExplainRequest) -> Result<Explanation, String> {
        if question.app != "crm" {
            return Err(format!("there is no application called `{}`", question.app));
        }
        Ok(Explanation {
            revision: "abc".into(),
            provider: "modern".into(),
            kill: "off".into(),
            ..Explanation::default()
        })
    }

    fn about(&self, reference: &str) -> Vec<serde_json::Value> {
        let known = self.records.iter();
        let known = known.filter(|record| record["request_id"] == reference);
        known.cloned().collect()
    }

    async fn plan(&self, wanted: PlanRequest) -> Result<PlanView, String> {
        if wanted.text.is_empty() {
            return Err("the file is empty".into());
        }
        let row = |app: &str, forward| PlanRow {
            app: app.into(),
            rule: "percent".into(),
            forward,
            ..PlanRow::default()
        };
        let listed = wanted.people.len() as u64;
        let mut rows = vec![row("crm", listed + 2 * u64::from(wanted.seen))];
        if wanted.seen {
            rows.push(PlanRow {
                back: 1,
                who: vec!["p:0011223344556677".into()],
                ..row("wiki", 0)
            });
        }
        Ok(PlanView {
            revision: "abc".into(),
            seen: 5 * u64::from(wanted.seen),
            listed,
            recalled: u64::from(wanted.seen),
            rows,
            ..PlanView::default()
        })
    }

    async fn report(&self, wanted: ReportRequest, _actor: &str) -> Result<ReportView, String> {
        if wanted.app.as_deref().is_some_and(|app| app != "crm") {
            return Err("there is no such application".into());
        }
        let mut table = ReportTable::new("People | by state", ["cohort", "people", "share"]);
        table.row(["all, \"in\" it".into(), 1_200.into(), 0.5.into()]);
        table.row(["=it|x".into(), 3.into(), serde_json::Value::Null]);
        Ok(ReportView {
            kind: wanted.kind,
            at: "2026-03-05T11:20:31Z".into(),
            revision: "abc".into(),
            tables: vec![table, ReportTable::new("Nothing", ["a"])],
            notes: vec!["of the last day".into()],
        })
    }

    async fn order(&self, order: OrderRequest, actor: &str) -> Result<RolloutView, String> {
        if order.reason.is_empty() {
            return Err("a reason is needed".into());
        }
        Ok(RolloutView {
            id: order.rollout,
            why: format!("{actor}: {}", order.reason),
            step: order.stage.unwrap_or(order.command),
            ..RolloutView::default()
        })
    }

    async fn drill(&self, wanted: DrillRequest, _actor: &str) -> Result<DrillView, String> {
        if wanted.reason.is_empty() {
            return Err("a reason is needed".into());
        }
        Ok(DrillView {
            number: 1,
            name: wanted.name,
            state: "running".into(),
            ..DrillView::default()
        })
    }

    fn drills(&self) -> Vec<DrillView> {
        Vec::new()
    }

    fn log_head(&self) -> LogHead {
        LogHead {
            seq: 1,
            hash: "0".repeat(64),
            intact: true,
            owed: 0,
            file: "decisions.jsonl".into(),
        }
    }

    async fn log_tail(&self, _: usize) -> Vec<serde_json::Value> {
        self.records.clone()
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn revoke(
        &self,
        wanted: RevokeRequest,
        actor: &str,
    ) -> Result<RevokeAnswer, RevokeFailure> {
        if !wanted.plan && wanted.confirm.is_none_or(|confirmed| confirmed < 12) {
            return Err(RevokeFailure::Confirm {
                sessions: 12,
                tokens: 0,
                access: 0,
                more: false,
            });
        }
        Ok(RevokeAnswer {
            revocation: (!wanted.plan).then(|| view(&wanted, actor)),
            sessions: 12,
            unread: 0,
            refresh_tokens: 0,
            access_tokens: 0,
            at_least: false,
            shown: Vec::new(),
            durable: false,
        })
    }

    async fn forget(
        &self,
        wanted: ForgetRequest,
        _actor: &str,
    ) -> Result<ForgetAnswer, RevokeFailure> {
        if wanted.reason.is_empty() {
            return Err(RevokeFailure::Request("a reason is needed".into()));
        }
        Ok(ForgetAnswer {
            sessions: 2,
            accounts: 1,
            ..ForgetAnswer::default()
        })
    }

    async fn link(&self, wanted: LinkRequest, _actor: &str) -> Result<LinkAnswer, RevokeFailure> {
        if wanted.reason.is_empty() {
            return Err(RevokeFailure::Request("a reason is needed".into()));
        }
        Ok(LinkAnswer {
            displaced: wanted.account == "a2",
            taken: false,
        })
    }

    async fn close(
        &self,
        wanted: LegacyRequest,
        _actor: &str,
    ) -> Result<LegacyView, RevokeFailure> {
        if !wanted.plan && wanted.confirm.is_none() {
            return Err(RevokeFailure::Confirm {
                sessions: 12,
                tokens: 0,
                access: 0,
                more: false,
            });
        }
        let state = if wanted.plan { "plan" } else { "closing" };
        Ok(LegacyView {
            provider: wanted.provider.unwrap_or_else(|| "old".into()),
            state: state.into(),
            remaining: 12,
            client_tokens: 3,
            per_minute: wanted.per_minute.unwrap_or(200),
            provider_told: !wanted.untold,
            ..LegacyView::default()
        })
    }

    async fn closings(&self) -> Result<Vec<LegacyView>, RevokeFailure> {
        Ok(vec![LegacyView {
            provider: "old".into(),
            state: "closed".into(),
            sessions: 12,
            tokens_revoked: 11,
            tokens_left: 1,
            sessions_unread: 2,
            closed: Some(1_000),
            durable: true,
            ..LegacyView::default()
        }])
    }

    fn no_way_back(&self, rollout: Option<&RolloutId>) -> Option<String> {
        let closed = rollout.is_some_and(|rollout| rollout.as_str() == "gone");
        closed.then(|| "`old` is closed for good: there is no way back".into())
    }

    async fn revocations(&self) -> Result<Vec<RevocationView>, RevokeFailure> {
        Err(RevokeFailure::Store("away".into()))
    }

    async fn lift(&self, _wanted: LiftRequest, _actor: &str) -> Result<LiftAnswer, RevokeFailure> {
        Err(RevokeFailure::Unknown)
    }
}

fn view(wanted: &RevokeRequest, actor: &str) -> RevocationView {
    RevocationView {
        id: "00ff".into(),
        target: Some(wanted.target.clone()),
        source: "operator".into(),
        actor: actor.into(),
        reason: wanted.reason.clone(),
        at: 10,
        expires: 20,
        lifted: None,
    }
}

/// A listener with all three doors; its token is `token`.
#[derive(Debug)]
pub(crate) struct FakeAdmin {
    pub(super) directory: TempDir,
    pub(super) admin: Admin,
}

impl FakeAdmin {
    pub(crate) async fn start(backend: FakeBackend) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let kill = KillSwitch::start(
            KillSettings {
                file: directory.path().join("kill"),
                poll: Duration::from_millis(200),
                state: directory.path().join("kill.json"),
                environment: None,
            },
            Arc::new(SystemClock),
            Arc::clone(&metrics),
            DecisionLog::off(),
        );
        let loopback = Some("127.0.0.1:0".parse().unwrap());
        let settings = Settings {
            listen: loopback,
            socket: Some(directory.path().join("admin.sock")),
            token: Some(Secret::new("token".into())),
            metrics: loopback,
            tls: None,
        };
        let kill = Arc::new(kill.unwrap());
        let admin = Admin::start(&settings, Arc::new(backend), kill, metrics);
        Self {
            admin: admin.await.unwrap(),
            directory,
        }
    }

    /// Where its socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.admin.address().unwrap()
    }

    pub(super) fn metrics_address(&self) -> SocketAddr {
        self.admin.metrics_address().unwrap()
    }
}
