//! What the admin listener needs from the rest of the program, as a trait: `app` implements it.
//!
//! Everything here can be shown to an operator. A secret must not appear in any of these values.

use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;
use serde::Serialize;

use crate::admin::ExpiringView;
use crate::admin::closing::LegacyRequest;
use crate::admin::closing::LegacyView;
use crate::admin::drill::DrillRequest;
use crate::admin::drill::DrillView;
use crate::admin::keys::KeyView;
use crate::admin::keys::WithdrawRequest;
use crate::admin::plan::PlanRequest;
use crate::admin::plan::PlanView;
use crate::admin::question::ExplainRequest;
use crate::admin::question::Explanation;
use crate::admin::question::ForgetAnswer;
use crate::admin::question::ForgetRequest;
use crate::admin::question::LinkAnswer;
use crate::admin::question::LinkRequest;
use crate::admin::report::ReportRequest;
use crate::admin::report::ReportView;
use crate::admin::rollouts::OrderRequest;
use crate::admin::rollouts::RolloutView;
use crate::revocation::Target;
use crate::rollout::RolloutId;

/// The program, as an operator sees it.
#[async_trait]
pub(crate) trait AdminBackend: fmt::Debug + Send + Sync {
    /// Reads the configuration again, as after SIGHUP, and answers when it runs or is refused.
    async fn reload(&self) -> ReloadAnswer;

    /// The running configuration. Secrets are left out, not masked.
    fn configuration(&self) -> ConfigView;

    /// The rollouts of the running configuration.
    fn rollouts(&self) -> Vec<RolloutView>;

    /// What would happen to this person at this application. Calls nobody but the owner of a pasted token.
    ///
    /// # Errors
    ///
    /// Says what about the question makes no sense, such as an application that does not exist.
    async fn explain(&self, question: ExplainRequest) -> Result<Explanation, String>;

    /// What is remembered of the request that a page named as its reference: lines as the logs have them, oldest first.
    fn about(&self, reference: &str) -> Vec<serde_json::Value>;

    /// Whom another configuration would move. Nothing changes.
    ///
    /// # Errors
    ///
    /// When it is not good, or the request makes no sense; in words.
    async fn plan(&self, wanted: PlanRequest) -> Result<PlanView, String>;

    /// What has happened, or how it stands. Nothing changes.
    ///
    /// # Errors
    ///
    /// When it asks for what does not exist, or something it rests on cannot be read; in words.
    async fn report(&self, wanted: ReportRequest, actor: &str) -> Result<ReportView, String>;

    /// Orders a rollout to do something, in the name of `actor`.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    async fn order(&self, order: OrderRequest, actor: &str) -> Result<RolloutView, String>;

    /// Begins an exercise, in the name of `actor`.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    async fn drill(&self, wanted: DrillRequest, actor: &str) -> Result<DrillView, String>;

    /// The last exercises of this instance.
    fn drills(&self) -> Vec<DrillView>;

    /// The end of the ledger, to be kept elsewhere.
    fn log_head(&self) -> LogHead;

    /// The last records of the ledger, at most `how_many`, newest last; none when it cannot be read.
    async fn log_tail(&self, how_many: usize) -> Vec<serde_json::Value>;

    /// The keys that sign what we mint.
    fn keys(&self) -> Vec<KeyView>;

    /// What the running configuration means, as Markdown.
    fn catalog(&self) -> String;

    /// What of it ends, and when; with the keys that instances have together.
    fn expiring(&self) -> Vec<ExpiringView>;

    /// Makes the next key.
    ///
    /// # Errors
    ///
    /// Says why there is none.
    async fn rotate_keys(&self, actor: &str) -> Result<Vec<KeyView>, String>;

    /// Takes a key out before its time.
    ///
    /// # Errors
    ///
    /// See [`RevokeFailure`].
    async fn withdraw_key(
        &self,
        wanted: WithdrawRequest,
        actor: &str,
    ) -> Result<Vec<KeyView>, RevokeFailure>;

    /// Whether requests should be sent here.
    fn readiness(&self) -> Readiness;

    /// Revokes, or says whom that would put out.
    ///
    /// # Errors
    ///
    /// See [`RevokeFailure`].
    async fn revoke(
        &self,
        wanted: RevokeRequest,
        actor: &str,
    ) -> Result<RevokeAnswer, RevokeFailure>;

    /// Erases what is kept of a person.
    ///
    /// # Errors
    ///
    /// See [`RevokeFailure`].
    async fn forget(
        &self,
        wanted: ForgetRequest,
        actor: &str,
    ) -> Result<ForgetAnswer, RevokeFailure>;

    /// Decides whose an account is.
    ///
    /// # Errors
    ///
    /// See [`RevokeFailure`].
    async fn link(&self, wanted: LinkRequest, actor: &str) -> Result<LinkAnswer, RevokeFailure>;

    /// Closes an old side, stops that, or says what it would end.
    ///
    /// # Errors
    ///
    /// See [`RevokeFailure`].
    async fn close(&self, wanted: LegacyRequest, actor: &str) -> Result<LegacyView, RevokeFailure>;

    /// How far the closing of each old side has come.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    async fn closings(&self) -> Result<Vec<LegacyView>, RevokeFailure>;

    /// Why the kill switch has no position `legacy` for this rollout, or any; `None`: it has.
    fn no_way_back(&self, rollout: Option<&RolloutId>) -> Option<String>;

    /// Revocations that have not expired, newest first.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    async fn revocations(&self) -> Result<Vec<RevocationView>, RevokeFailure>;

    /// Takes a revocation back.
    ///
    /// # Errors
    ///
    /// See [`RevokeFailure`].
    async fn lift(&self, wanted: LiftRequest, actor: &str) -> Result<LiftAnswer, RevokeFailure>;
}

/// A wish to revoke.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeRequest {
    /// What.
    pub(crate) target: Target,
    /// Why; recorded.
    #[serde(default)]
    pub(crate) reason: String,
    /// For how many seconds it is kept, at least; it is always kept until everything it speaks about has ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_seconds: Option<u64>,
    /// Only say whom it would put out.
    #[serde(default)]
    pub(crate) plan: bool,
    /// Up to how many sessions may end; needed for more than [`CONFIRM_ABOVE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirm: Option<usize>,
}

/// More sessions than these end only with a confirmation: 10.
pub(crate) const CONFIRM_ABOVE: usize = 10;

/// What became of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RevokeAnswer {
    /// The revocation; `None`: this was a plan.
    pub(crate) revocation: Option<RevocationView>,
    /// How many running sessions it ends. Tokens that clients have from providers by themselves are ended too, and nobody can count them.
    pub(crate) sessions: usize,
    /// How many sessions beside them that nobody here can read; of a client, a provider or a key, whose they are nobody knows.
    #[serde(default)]
    pub(crate) unread: usize,
    /// How many refresh tokens of our token endpoint.
    #[serde(default)]
    pub(crate) refresh_tokens: usize,
    /// How many access tokens that it gave its clients for others.
    #[serde(default)]
    pub(crate) access_tokens: usize,
    /// Whether there may be more than that.
    pub(crate) at_least: bool,
    /// Some of them.
    pub(crate) shown: Vec<SessionView>,
    /// Whether a restart would not forget it.
    pub(crate) durable: bool,
}

/// A running session.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SessionView {
    /// The digest that names it.
    pub(crate) session: String,
    /// Who vouched.
    pub(crate) provider: String,
    /// When it began, in seconds since 1970.
    pub(crate) began: u64,
}

/// One revocation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RevocationView {
    /// Its name.
    pub(crate) id: String,
    /// What it denies; `None`: nobody was named, or what was said is sealed under a key that is gone.
    pub(crate) target: Option<Target>,
    /// Why: a word.
    pub(crate) source: String,
    /// Who.
    pub(crate) actor: String,
    /// What they said.
    pub(crate) reason: String,
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    /// Until when it is in force.
    pub(crate) expires: u64,
    /// When it was lifted.
    pub(crate) lifted: Option<u64>,
}

/// A wish to lift.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiftRequest {
    /// Which.
    pub(crate) id: String,
    /// Why; recorded.
    pub(crate) reason: String,
}

/// What was lifted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LiftAnswer {
    /// As it is now.
    pub(crate) revocation: RevocationView,
    /// Whether it had been lifted before.
    pub(crate) before: bool,
    /// What stays gone, in words.
    pub(crate) destroyed: Vec<String>,
}

/// Why nothing was revoked, or lifted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeFailure {
    /// It makes no sense.
    #[error("{0}")]
    Request(String),
    /// There is none of this name.
    #[error("there is no revocation of this name")]
    Unknown,
    /// It would end more than is confirmed.
    #[error("{at_least}{sessions} sessions{tokens} would end: say `confirm`, up to how many may", at_least = if *.more { "at least " } else { "" }, tokens = beside(*.tokens, *.access))]
    Confirm {
        /// How many.
        sessions: usize,
        /// How many refresh tokens of our token endpoint.
        tokens: usize,
        /// How many access tokens.
        access: usize,
        /// Whether there may be more.
        more: bool,
    },
    /// The store gave no answer: what was asked for must not be taken for done.
    #[error("{0}")]
    Store(String),
}

/// Refresh tokens and access tokens, where there are some.
pub(crate) fn beside(refresh: usize, access: usize) -> String {
    let some = |count: usize, what: &str| match count {
        0 => String::new(),
        1 => format!(" and 1 {what} token"),
        many => format!(" and {many} {what} tokens"),
    };
    some(refresh, "refresh") + &some(access, "access")
}

/// The end of the ledger.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct LogHead {
    /// How many records there are.
    pub(crate) seq: u64,
    /// The hash of the last one.
    pub(crate) hash: String,
    /// Whether the chain verified when it was opened.
    pub(crate) intact: bool,
    /// Records that could not be written yet.
    pub(crate) owed: usize,
    /// Where the records are.
    pub(crate) file: String,
}

/// What became of a reload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ReloadAnswer {
    /// Whether the configuration on disk now runs.
    pub(crate) outcome: ReloadOutcome,
    /// The revision that runs.
    pub(crate) revision: String,
    /// What is wrong with the file; empty unless it was refused.
    pub(crate) problems: Vec<String>,
    /// Keys that differ from what the process was started with, and take effect at the next start only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) waiting: Vec<String>,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReloadOutcome {
    /// It runs.
    Applied,
    /// It already ran.
    Unchanged,
    /// It has problems; the one before still runs.
    Refused,
}

/// The running configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConfigView {
    /// First 12 hex digits of `sha256`.
    pub(crate) revision: String,
    /// SHA-256 of the file, hex.
    pub(crate) sha256: String,
    /// Whether the last attempt to load a file was applied.
    pub(crate) last_reload_successful: bool,
    /// What was wrong with the last file, if it was refused.
    pub(crate) problems: Vec<String>,
    /// The compiled settings, without secrets.
    pub(crate) settings: serde_json::Value,
}

/// Whether requests should be sent here.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Readiness {
    /// Listeners are open and a configuration runs.
    pub(crate) started: bool,
    /// We are going away.
    pub(crate) draining: bool,
    /// The state of every provider.
    pub(crate) providers: Vec<ProviderView>,
    /// Whether the store answers; `None`: nothing needs one.
    pub(crate) store: Option<bool>,
}

/// The state of one provider.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProviderView {
    /// Its name.
    pub(crate) id: String,
    /// Whether it can judge the credentials it owns.
    pub(crate) usable: bool,
    /// Why not; or what does not count though it can.
    pub(crate) reason: Option<String>,
    /// Whether it judges by its file as it is now, if it has one.
    #[serde(skip)]
    pub(crate) file_is_good: Option<bool>,
}
