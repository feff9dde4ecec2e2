//! Counters for operators: declared once (`catalog`), recorded by a verb, labelled by closed sets and names from the
//! configuration.
//!
//! Workers record through [`WorkerMetrics`], without locks; everything rarer goes through [`Metrics`]. A label value must
//! never come from a client.

#[cfg(test)]
mod assets;
mod attempt;
mod catalog;
mod cells;
mod codes;
mod collect;
mod figures;
mod keys;
mod labels;
mod ledger;
mod providers;
mod rare;
mod rollouts;
mod samples;
mod series;
mod shadow;
mod shards;
mod worker;

pub(crate) use attempt::Attempt;
pub(crate) use figures::Attempts;
pub(crate) use figures::Figures;
pub(crate) use figures::Journeys;
pub(crate) use labels::Cache;
pub(crate) use labels::Call;
pub(crate) use labels::CarryOver;
pub(crate) use labels::Circuit;
pub(crate) use labels::Flow;
pub(crate) use labels::Journey;
pub(crate) use labels::KeyUse;
pub(crate) use labels::Link;
pub(crate) use labels::Lookup;
pub(crate) use labels::Operation;
pub(crate) use labels::Reload;
pub(crate) use labels::RevocationOutcome;
pub(crate) use labels::RevocationSource;
pub(crate) use labels::Shed;
pub(crate) use labels::StoreFailure;
pub(crate) use labels::StoreOperation;
pub(crate) use labels::TunnelEnd;
pub(crate) use labels::UpstreamError;
pub(crate) use rollouts::Shown;
pub(crate) use shadow::Compared;
pub(crate) use shadow::Oracle;
pub(crate) use shadow::Skipped;
pub(crate) use worker::AppIndex;
pub(crate) use worker::Names;
pub(crate) use worker::WorkerMetrics;

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::Registry;
use prometheus::TextEncoder;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::NoFallback;
use crate::rollout::OtherArm;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::rollout::RuleRef;
use crate::telemetry::ExchangeOutcome;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::rare::Rare;
use crate::telemetry::metrics::series::labels as texts;
use crate::telemetry::metrics::shards::AppShard;
use crate::telemetry::metrics::shards::AuthShard;
use crate::telemetry::metrics::shards::Blocks;
use crate::telemetry::metrics::shards::FixedShard;
use crate::telemetry::metrics::shards::Writer;

/// How many series a family may have; what comes later shares one whose labels are all `other`.
pub(crate) const MAX_SERIES_PER_FAMILY: usize = 2_000;

/// Everything that is counted in this process. One for its whole life: a reload keeps it.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    clock: Arc<dyn Clock>,
    shards: Arc<Shards>,
    background: Arc<FixedShard>,
    rare: Arc<Rare>,
}

/// What workers write.
#[derive(Debug)]
struct Shards {
    apps: Blocks<AppShard>,
    pairs: Blocks<AuthShard>,
    fixed: Blocks<FixedShard>,
}

impl Metrics {
    /// Nothing counted yet. `limit` is the number of series a family may have ([`MAX_SERIES_PER_FAMILY`]).
    pub(crate) fn new(clock: Arc<dyn Clock>, limit: usize) -> Arc<Self> {
        let shards = Arc::new(Shards {
            apps: Blocks::new(limit),
            pairs: Blocks::new(limit),
            fixed: Blocks::new(limit),
        });
        let rare = Arc::new(Rare::new(Arc::clone(&clock), limit));
        rare.build_info.with(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let registry = Registry::new();
        let registered = collect::ShardCollector::new(Arc::clone(&shards), limit)
            .and_then(|collector| registry.register(Box::new(collector)))
            .and_then(|()| collect::RareCollector::new(Arc::clone(&rare)))
            .and_then(|collector| registry.register(Box::new(collector)));
        registered.expect("the catalogue names each family once, and well; a test says so");
        Arc::new(Self {
            registry,
            clock,
            background: shards.fixed.shard(texts([]), Writer::Background),
            shards,
            rare,
        })
    }

    /// The counters of worker `index` for a snapshot with these names. Counters of names that were there before go on.
    pub(crate) fn worker(self: &Arc<Self>, index: usize, names: &Arc<Names>) -> WorkerMetrics {
        WorkerMetrics::new(Arc::clone(self), Writer::Worker(index), Arc::clone(names))
    }

    /// Everything, in Prometheus' text format (version 0.0.4).
    ///
    /// # Errors
    ///
    /// When the encoder refuses a family, which a test excludes for the catalogue.
    pub(crate) fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// As [`WorkerMetrics::attempt`], for what does not run on a worker.
    pub(crate) fn attempt(
        &self,
        app: &AppId,
        provider: &ProviderId,
        flow: Flow,
        attempt: Attempt,
        took: Duration,
    ) {
        let shard = self.pair(app, provider, Writer::Background);
        worker::record(&shard, flow, attempt, took);
    }

    /// Something was turned away or dropped, `how_many` times.
    pub(crate) fn shed(&self, what: Shed, how_many: u64) {
        if let Some(counter) = self.background.shed.get(what.index()) {
            counter.add(how_many);
        }
    }

    /// A login journey took a step.
    pub(crate) fn journey(&self, rollout: &RolloutId, arm: Arm, event: Journey) {
        let labels = [rollout.as_str(), arm.as_str(), event.as_str()];
        self.rare.journeys.with(&labels).add(1);
    }

    /// A new login was assigned to an arm.
    pub(crate) fn assigned(&self, rollout: &RolloutId, arm: Arm, by: &RuleRef) {
        let labels = [rollout.as_str(), arm.as_str(), &by.label()];
        self.rare.assignments.with(&labels).add(1);
    }

    /// A good API credential came from the other arm than its person's.
    pub(crate) fn other_arm(&self, rollout: &RolloutId, action: OtherArm, class: CredentialClass) {
        let labels = [rollout.as_str(), action.as_str(), class.as_str()];
        self.rare.other_arm.with(&labels).add(1);
    }

    /// A bound token was exchanged for one that is bound to nothing.
    pub(crate) fn binding_lost(&self, exchange: &str) {
        self.rare.bindings_lost.with(&[exchange]).add(1);
    }

    /// What an upstream got could not be noted.
    pub(crate) fn exchange_unnoted(&self, exchange: &str) {
        self.rare.exchanges_unnoted.with(&[exchange]).add(1);
    }

    /// A client asked our token endpoint.
    pub(crate) fn token_request(&self, grant: &str, outcome: &str) {
        self.rare.token_requests.with(&[grant, outcome]).add(1);
    }

    /// A client did what it never does.
    pub(crate) fn token_anomaly(&self, kind: &str) {
        self.rare.token_anomalies.with(&[kind]).add(1);
    }

    /// A request was one too many.
    pub(crate) fn rate_limited(&self, endpoint: &str, by: &str) {
        self.rare.rate_limited.with(&[endpoint, by]).add(1);
    }

    /// A credential was exchanged, or was not.
    pub(crate) fn exchanged(&self, exchange: &str, grant: &str, outcome: ExchangeOutcome) {
        let labels = [exchange, grant, outcome.as_str()];
        self.rare.exchanges.with(&labels).add(1);
    }

    /// A login went to the other provider because of an outage of the assigned one.
    pub(crate) fn fallback(&self, app: &AppId, from: Arm, reason: Outage) {
        let (from, to) = (from.as_str(), from.other().as_str());
        let labels = [app.as_str(), from, to, reason.as_str()];
        self.rare.fallbacks.with(&labels).add(1);
    }

    /// A login met an outage of its provider and went nowhere else.
    pub(crate) fn fallback_refused(&self, app: &AppId, reason: NoFallback) {
        let labels = [app.as_str(), reason.as_str()];
        self.rare.fallbacks_refused.with(&labels).add(1);
    }

    /// It was said which person an account is: by a claim, by a list, by the person.
    pub(crate) fn link(&self, method: &'static str, outcome: Link) {
        let labels = [method, outcome.as_str()];
        self.rare.subject_links.with(&labels).add(1);
    }

    /// A session of the old side was to move to the new one.
    pub(crate) fn carried_over(&self, app: &AppId, method: &'static str, outcome: CarryOver) {
        let labels = [app.as_str(), method, outcome.as_str()];
        self.rare.carry_overs.with(&labels).add(1);
    }

    /// Somebody was admitted with groups that have no role.
    pub(crate) fn unmatched_groups(&self, provider: &ProviderId, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let labels = [provider.as_str()];
        self.rare.unmatched_groups.with(&labels).add(count);
    }

    /// The loop guard refused one more login redirect.
    pub(crate) fn bounce_refused(&self, app: &AppId) {
        self.rare.bounces_refused.with(&[app.as_str()]).add(1);
    }

    /// A call to a provider ended.
    pub(crate) fn provider_request(
        &self,
        provider: &ProviderId,
        operation: Operation,
        outcome: Call,
        took: Duration,
    ) {
        let labels = [provider.as_str(), operation.as_str(), outcome.as_str()];
        self.rare.provider_duration.with(&labels).observe(took);
    }

    /// A provider's breaker moved.
    pub(crate) fn circuit(&self, provider: &ProviderId, position: Circuit) {
        let cell = self.rare.circuit_state.with(&[provider.as_str()]);
        cell.set(f64::from(position as u8));
    }

    /// Something was revoked, or was to be.
    pub(crate) fn revoked(
        &self,
        source: RevocationSource,
        provider: Option<&ProviderId>,
        outcome: RevocationOutcome,
    ) {
        let provider = provider.map_or("none", ProviderId::as_str);
        let labels = [source.as_str(), provider, outcome.as_str()];
        self.rare.revocations.with(&labels).add(1);
    }

    /// A revocation holds here, so long after the event; `None`: another instance recorded it.
    pub(crate) fn revocation_lag(&self, provider: Option<&ProviderId>, lag: Duration) {
        let provider = provider.map_or("none", ProviderId::as_str);
        self.rare.revocation_lag.with(&[provider]).observe(lag);
    }

    /// Accounts that their provider has barred.
    pub(crate) fn denied<'a>(&self, all: impl IntoIterator<Item = (&'a ProviderId, usize)>) {
        let all = all.into_iter();
        let rows = all.map(|(id, count)| (texts([id.as_str()]), gauge(count as f64)));
        self.rare.denied.replace(rows);
    }

    /// When providers last said in full whom they have barred.
    pub(crate) fn denials_read<'a>(
        &self,
        all: impl IntoIterator<Item = (&'a ProviderId, UnixTime)>,
    ) {
        let all = all.into_iter();
        let rows = all.map(|(id, at)| (texts([id.as_str()]), gauge(at.as_secs() as f64)));
        self.rare.denials_read.replace(rows);
    }

    /// What was to end at a provider after a sign-out.
    pub(crate) fn logout_fanout(&self, provider: &ProviderId, outcome: Call) {
        let labels = [provider.as_str(), outcome.as_str()];
        self.rare.logout_fanout.with(&labels).add(1);
    }

    /// Sessions in use, by application, side and origin.
    pub(crate) fn sessions<'a>(&self, tally: impl IntoIterator<Item = ([&'a str; 3], u64)>) {
        let rows = tally
            .into_iter()
            .map(|(labels, count)| (texts(labels), gauge(count as f64)));
        self.rare.sessions.replace(rows);
    }

    /// A call to the store was not answered as asked.
    pub(crate) fn store_error(&self, operation: StoreOperation, reason: StoreFailure) {
        let labels = [operation.as_str(), reason.as_str()];
        self.rare.store_errors.with(&labels).add(1);
    }

    /// The breaker of the shared store moved.
    pub(crate) fn store_circuit(&self, open: bool) {
        let position = if open { Circuit::Open } else { Circuit::Closed };
        let cell = self.rare.store_circuit.with(&[]);
        cell.set(f64::from(position as u8));
    }

    /// The rollouts of the running configuration.
    pub(crate) fn rollouts(&self, plans: &[Plan]) {
        let running = self.rare.rollouts.lock();
        *running.unwrap_or_else(PoisonError::into_inner) = plans.to_vec();
    }

    /// The kill switch stands like this.
    pub(crate) fn kill_switch(&self, state: &KillState) {
        let scopes = state
            .rollouts
            .iter()
            .map(|(rollout, position)| (rollout.as_str(), *position))
            .chain([("global", state.global)]);
        let rows = scopes.flat_map(|(scope, current)| {
            KillPosition::ALL.map(|position| {
                let value = f64::from(u8::from(position == current));
                (texts([scope, position.as_str()]), gauge(value))
            })
        });
        self.rare.kill_switch.replace(rows);
    }

    /// The certificates in use, by the name of their file, with their `notAfter`.
    pub(crate) fn certificates(&self, expiries: impl IntoIterator<Item = (String, UnixTime)>) {
        let rows = expiries
            .into_iter()
            .map(|(name, expires)| (texts([&name]), gauge(expires.as_secs() as f64)));
        self.rare.certificate_expiry.replace(rows);
    }

    /// An attempt to load a configuration ended.
    pub(crate) fn reload(&self, outcome: Reload) {
        self.rare.config_reloads.with(&[outcome.as_str()]).add(1);
        let good = outcome == Reload::Success;
        let cell = self.rare.config_successful.with(&[]);
        cell.set(f64::from(u8::from(good)));
        if good {
            let now = self.clock.now().as_secs();
            self.rare.config_success_time.with(&[]).set(now as f64);
        }
    }

    /// The configuration that runs from now on.
    pub(crate) fn configuration(&self, revision: &str, sha256: &str) {
        let row = (texts([revision, sha256]), gauge(1.0));
        self.rare.config_info.replace([row]);
    }

    fn pair(&self, app: &AppId, provider: &ProviderId, writer: Writer) -> Arc<AuthShard> {
        let labels = texts([app.as_str(), provider.as_str()]);
        self.shards.pairs.shard(labels, writer)
    }
}

fn gauge(value: f64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::rollout::AssignRule;
    use crate::rollout::BeforeKnown;
    use crate::rollout::Bucketing;
    use crate::rollout::Mode;
    use crate::rollout::OnDecrease;
    use crate::rollout::OtherArm;
    use crate::rollout::Percent;
    use crate::rollout::PinnedAtFrom;
    use crate::rollout::Rules;
    use crate::rollout::Share;
    use crate::rollout::Stage;
    use crate::rollout::UnitKind;

    fn metrics(limit: usize) -> (Arc<Metrics>, ManualClock) {
        let clock = ManualClock::at(UnixTime::from_secs(1_000));
        (Metrics::new(Arc::new(clock.clone()), limit), clock)
    }

    fn names(apps: &[&str]) -> Arc<Names> {
        Arc::new(Names {
            apps: apps.iter().map(|name| AppId::new(name)).collect(),
            providers: ["old", "new"].map(ProviderId::new).to_vec(),
        })
    }

    #[track_caller]
    fn shows(metrics: &Metrics, line: &str) {
        let text = metrics.render().unwrap();
        assert!(
            text.lines().any(|candidate| candidate == line),
            "no `{line}` in\n{text}"
        );
    }

    #[test]
    fn workers_are_summed_into_one_series() {
        let (metrics, _) = metrics(100);
        let names = names(&["crm"]);
        for worker in 0..3 {
            let worker = metrics.worker(worker, &names);
            worker.request(Some(AppIndex(0)), 200, Duration::from_millis(3));
            worker.attempt(
                AppIndex(0),
                worker::ProviderIndex(1),
                Flow::Bearer,
                Attempt::Rejected(crate::identity::Refusal::Expired),
                Duration::from_millis(3),
            );
        }
        shows(
            &metrics,
            r#"authferry_http_requests_total{app="crm",code="200"} 3"#,
        );
        shows(
            &metrics,
            r#"authferry_http_request_duration_seconds_bucket{app="crm",le="0.0025"} 0"#,
        );
        shows(
            &metrics,
            r#"authferry_http_request_duration_seconds_bucket{app="crm",le="0.005"} 3"#,
        );
        shows(
            &metrics,
            r#"authferry_http_request_duration_seconds_sum{app="crm"} 0.009"#,
        );
        shows(
            &metrics,
            r#"authferry_auth_attempts_total{app="crm",provider="new",flow="bearer",outcome="rejected",reason="expired"} 3"#,
        );
    }

    #[test]
    fn a_reload_keeps_counters_of_names_that_stay_whatever_their_place() {
        let (metrics, _) = metrics(100);
        let before = metrics.worker(0, &names(&["crm", "wiki"]));
        before.request(Some(AppIndex(0)), 200, Duration::ZERO);
        let after = metrics.worker(0, &names(&["shop", "wiki", "crm"]));
        after.request(Some(AppIndex(2)), 200, Duration::ZERO);
        before.request(Some(AppIndex(0)), 200, Duration::ZERO);
        shows(
            &metrics,
            r#"authferry_http_requests_total{app="crm",code="200"} 3"#,
        );
    }

    #[test]
    fn a_place_that_no_name_has_is_counted_for_no_application() {
        let (metrics, _) = metrics(100);
        let worker = metrics.worker(0, &names(&["crm"]));
        worker.request(None, 404, Duration::ZERO);
        worker.request(Some(AppIndex(7)), 404, Duration::ZERO);
        worker.attempt(
            AppIndex(0),
            worker::ProviderIndex(2),
            Flow::Basic,
            Attempt::Success,
            Duration::ZERO,
        );
        shows(
            &metrics,
            r#"authferry_http_requests_total{app="none",code="404"} 2"#,
        );
        assert!(!metrics.render().unwrap().contains("auth_attempts"));
    }

    #[test]
    fn a_family_beyond_its_limit_folds_into_other_and_never_shrinks() {
        let (metrics, _) = metrics(2);
        let worker = metrics.worker(0, &names(&["crm"]));
        let serve = |status| worker.request(Some(AppIndex(0)), status, Duration::ZERO);
        serve(500);
        serve(502);
        shows(
            &metrics,
            r#"authferry_http_requests_total{app="crm",code="502"} 1"#,
        );
        serve(200);
        serve(204);
        shows(
            &metrics,
            r#"authferry_http_requests_total{app="crm",code="502"} 1"#,
        );
        shows(
            &metrics,
            r#"authferry_http_requests_total{app="other",code="other"} 2"#,
        );
    }

    #[test]
    fn the_last_old_credential_is_the_newest_that_any_worker_saw() {
        let (metrics, _) = metrics(100);
        let names = names(&["crm"]);
        for (worker, at) in [(0, 990), (1, 980)] {
            let at = UnixTime::from_secs(at);
            let worker = metrics.worker(worker, &names);
            worker.legacy_credential(AppIndex(0), CredentialClass::Basic, at);
        }
        let labels = r#"{app="crm",credential="basic"}"#;
        shows(
            &metrics,
            &format!("authferry_legacy_credential_last_seen_timestamp_seconds{labels} 990"),
        );
        shows(
            &metrics,
            &format!("authferry_legacy_credentials_total{labels} 2"),
        );
        let text = metrics.render().unwrap();
        assert!(!text.contains(r#"credential="session"} 0"#), "{text}");
    }

    #[test]
    fn the_age_of_keys_grows_between_scrapes() {
        let (metrics, clock) = metrics(100);
        metrics.keys_fetched(&ProviderId::new("new"), UnixTime::from_secs(990));
        shows(
            &metrics,
            r#"authferry_provider_keys_age_seconds{provider="new"} 10"#,
        );
        clock.advance(Duration::from_secs(5));
        shows(
            &metrics,
            r#"authferry_provider_keys_age_seconds{provider="new"} 15"#,
        );
    }

    #[test]
    fn a_rollout_shows_its_stage_and_the_share_that_holds_now() {
        let (metrics, clock) = metrics(100);
        let until = Some(UnixTime::from_secs(1_010));
        let mut plan = a_plan();
        plan.stage.assign = vec![
            AssignRule {
                cohort: None,
                share: Share::Percent(Percent::parse("50").unwrap()),
                to: Arm::To,
                until,
            },
            AssignRule {
                cohort: None,
                share: Share::Percent(Percent::parse("12.5").unwrap()),
                to: Arm::To,
                until: None,
            },
        ]
        .into();
        metrics.rollouts(&[plan]);
        shows(
            &metrics,
            r#"authferry_rollout_stage_info{rollout="crm-2026",stage="ramp",mode="canary"} 1"#,
        );
        let ratio = r#"authferry_rollout_target_ratio{rollout="crm-2026"}"#;
        shows(&metrics, &format!("{ratio} 0.5"));
        clock.advance(Duration::from_secs(10));
        shows(&metrics, &format!("{ratio} 0.125"));
        metrics.rollouts(&[]);
        assert!(!metrics.render().unwrap().contains("authferry_rollout_"));
    }

    fn a_plan() -> Plan {
        Plan {
            id: RolloutId::new("crm-2026"),
            apps: vec![AppId::new("crm")],
            from: ProviderId::new("old"),
            to: ProviderId::new("new"),
            bucketing: Bucketing {
                salt: "salt".into(),
                unit: UnitKind::Subject,
                before_known: BeforeKnown::Device,
                on_decrease: OnDecrease::Hold,
                pinned_at_from: PinnedAtFrom::Redirect,
            },
            stage: Stage {
                id: "ramp".into(),
                index: 0,
                mode: Mode::Canary,
                assign: Rules::default(),
                accept: Vec::new(),
                other_arm: OtherArm::Accept,
                brownouts: Vec::new(),
                warning: None,
                passwords: crate::rollout::Passwords::AtFrom,
                shadow: crate::rollout::Shadowed::All,
            },
            epoch: 0,
            closed: false,
        }
    }

    #[test]
    fn the_kill_switch_shows_one_position_per_scope() {
        let (metrics, _) = metrics(100);
        let mut state = KillState {
            global: KillPosition::Freeze,
            ..KillState::default()
        };
        state
            .rollouts
            .insert(RolloutId::new("crm"), KillPosition::Legacy);
        metrics.kill_switch(&state);
        shows(
            &metrics,
            r#"authferry_kill_switch{scope="global",position="freeze"} 1"#,
        );
        shows(
            &metrics,
            r#"authferry_kill_switch{scope="global",position="off"} 0"#,
        );
        shows(
            &metrics,
            r#"authferry_kill_switch{scope="crm",position="legacy"} 1"#,
        );
        metrics.kill_switch(&KillState::default());
        shows(
            &metrics,
            r#"authferry_kill_switch{scope="global",position="off"} 1"#,
        );
        assert!(!metrics.render().unwrap().contains(r#"scope="crm""#));
    }

    #[test]
    fn a_refused_reload_shows_until_one_is_applied() {
        let (metrics, _) = metrics(100);
        metrics.reload(Reload::Success);
        metrics.reload(Reload::Refused);
        shows(&metrics, "authferry_config_last_reload_successful 0");
        shows(
            &metrics,
            "authferry_config_last_reload_success_timestamp_seconds 1000",
        );
        metrics.configuration("abc", "abcdef");
        metrics.configuration("def", "defabc");
        shows(
            &metrics,
            r#"authferry_config_info{revision="def",sha256="defabc"} 1"#,
        );
        assert!(!metrics.render().unwrap().contains(r#"revision="abc""#));
    }

    #[test]
    fn every_family_is_collected_and_described_once() {
        let (metrics, clock) = metrics(100);
        let mut collected: Vec<String> = Rare::new(Arc::new(clock), 1)
            .collect()
            .iter()
            .map(|family| family.name().to_owned())
            .chain(catalog::SHARDED.iter().map(|family| family.name.to_owned()))
            .collect();
        let mut declared: Vec<String> = catalog::FAMILIES
            .iter()
            .map(|f| f.name.to_owned())
            .collect();
        collected.sort();
        declared.sort();
        assert_eq!(collected, declared);
        drop(metrics);
    }
}
