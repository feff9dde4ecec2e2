//! The families that are looked up by label: what happens per login, per call, per reload.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus::proto;

use crate::clock::Clock;
use crate::rollout::Plan;
use crate::telemetry::metrics::catalog;
use crate::telemetry::metrics::cells::Counter;
use crate::telemetry::metrics::cells::Deltas;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::samples;
use crate::telemetry::metrics::series::Series;
use crate::telemetry::metrics::series::labels;

/// What is looked up by label.
#[derive(Debug)]
pub(super) struct Rare {
    clock: Arc<dyn Clock>,
    pub(super) journeys: Series<Counter>,
    pub(super) assignments: Series<Counter>,
    pub(super) other_arm: Series<Counter>,
    pub(super) exchanges: Series<Counter>,
    pub(super) bindings_lost: Series<Counter>,
    pub(super) exchanges_unnoted: Series<Counter>,
    pub(super) token_requests: Series<Counter>,
    pub(super) token_anomalies: Series<Counter>,
    pub(super) rate_limited: Series<Counter>,
    pub(super) key_uses: Series<Counter>,
    pub(super) fallbacks: Series<Counter>,
    pub(super) fallbacks_refused: Series<Counter>,
    pub(super) subject_links: Series<Counter>,
    pub(super) carry_overs: Series<Counter>,
    pub(super) unmatched_groups: Series<Counter>,
    pub(super) bounces_refused: Series<Counter>,
    pub(super) provider_duration: Series<Histogram>,
    pub(super) circuit_state: Series<Gauge>,
    /// When keys were fetched, in seconds since 1970; shown as an age.
    pub(super) keys_fetched: Series<Gauge>,
    pub(super) clock_skew: Series<Gauge>,
    pub(super) clock_ahead: Series<Gauge>,
    pub(super) provider_files: Series<Gauge>,
    pub(super) stale_verdicts: Series<Counter>,
    pub(super) revocations: Series<Counter>,
    pub(super) revocation_lag: Series<Histogram>,
    pub(super) logout_fanout: Series<Counter>,
    pub(super) sessions: Series<Gauge>,
    pub(super) store_errors: Series<Counter>,
    pub(super) store_circuit: Series<Gauge>,
    /// The running rollouts; what is shown of them may change with the time alone.
    pub(super) rollouts: Mutex<Vec<Plan>>,
    pub(super) rollout_state: Series<Gauge>,
    pub(super) leads: Series<Gauge>,
    pub(super) observed_ratio: Series<Gauge>,
    pub(super) rollout_ready: Series<Gauge>,
    pub(super) rollout_blocked: Series<Gauge>,
    pub(super) step_entered: Series<Gauge>,
    pub(super) transitions: Series<Counter>,
    pub(super) guard_log_e: Series<Gauge>,
    pub(super) guard_trip: Series<Gauge>,
    pub(super) guard_units: Series<Gauge>,
    pub(super) guard_bad_units: Series<Gauge>,
    pub(super) guard_limit_value: Series<Gauge>,
    pub(super) guard_limit_max: Series<Gauge>,
    pub(super) guard_trips: Series<Counter>,
    pub(super) shadow_comparisons: Series<Counter>,
    pub(super) shadow_divergences: Series<Counter>,
    pub(super) shadow_noise: Series<Counter>,
    pub(super) shadow_delta: Series<Deltas>,
    pub(super) subjects: Series<Gauge>,
    pub(super) shadow_skipped: Series<Counter>,
    pub(super) shadow_queue: Series<Gauge>,
    pub(super) denied: Series<Gauge>,
    pub(super) denials_read: Series<Gauge>,
    pub(super) rollback_exposure: Series<Gauge>,
    pub(super) kill_switch: Series<Gauge>,
    pub(super) certificate_expiry: Series<Gauge>,
    pub(super) expiry: Series<Gauge>,
    pub(super) config_info: Series<Gauge>,
    pub(super) config_successful: Series<Gauge>,
    pub(super) config_success_time: Series<Gauge>,
    pub(super) config_reloads: Series<Counter>,
    pub(super) decision_records: Series<Counter>,
    pub(super) decision_log_intact: Series<Gauge>,
    pub(super) decision_log_owed: Series<Gauge>,
    pub(super) build_info: Series<Gauge>,
}

impl Rare {
    /// No series yet.
    pub(super) fn new(clock: Arc<dyn Clock>, limit: usize) -> Self {
        Self {
            clock,
            journeys: Series::new(&catalog::JOURNEYS, limit),
            assignments: Series::new(&catalog::ASSIGNMENTS, limit),
            other_arm: Series::new(&catalog::OTHER_ARM, limit),
            exchanges: Series::new(&catalog::EXCHANGES, limit),
            bindings_lost: Series::new(&catalog::BINDINGS_LOST, limit),
            exchanges_unnoted: Series::new(&catalog::EXCHANGES_UNNOTED, limit),
            token_requests: Series::new(&catalog::TOKEN_REQUESTS, limit),
            token_anomalies: Series::new(&catalog::TOKEN_ANOMALIES, limit),
            rate_limited: Series::new(&catalog::RATE_LIMITED, limit),
            key_uses: Series::new(&catalog::KEY_USES, limit),
            fallbacks: Series::new(&catalog::FALLBACKS, limit),
            fallbacks_refused: Series::new(&catalog::FALLBACKS_REFUSED, limit),
            subject_links: Series::new(&catalog::SUBJECT_LINKS, limit),
            carry_overs: Series::new(&catalog::CARRY_OVERS, limit),
            unmatched_groups: Series::new(&catalog::UNMATCHED_GROUPS, limit),
            bounces_refused: Series::new(&catalog::BOUNCES_REFUSED, limit),
            provider_duration: Series::new(&catalog::PROVIDER_DURATION, limit),
            circuit_state: Series::new(&catalog::CIRCUIT_STATE, limit),
            keys_fetched: Series::new(&catalog::KEYS_AGE, limit),
            clock_skew: Series::new(&catalog::CLOCK_SKEW, limit),
            clock_ahead: Series::new(&catalog::CLOCK_AHEAD, limit),
            provider_files: Series::new(&catalog::PROVIDER_FILE, limit),
            stale_verdicts: Series::new(&catalog::STALE_VERDICTS, limit),
            revocations: Series::new(&catalog::REVOCATIONS, limit),
            revocation_lag: Series::new(&catalog::REVOCATION_LAG, limit),
            logout_fanout: Series::new(&catalog::LOGOUT_FANOUT, limit),
            sessions: Series::new(&catalog::SESSIONS, limit),
            store_errors: Series::new(&catalog::STORE_ERRORS, limit),
            store_circuit: Series::new(&catalog::STORE_CIRCUIT_STATE, limit),
            rollouts: Mutex::default(),
            rollout_state: Series::new(&catalog::ROLLOUT_STATE, limit),
            leads: Series::new(&catalog::LEADS, limit),
            observed_ratio: Series::new(&catalog::OBSERVED_RATIO, limit),
            rollout_ready: Series::new(&catalog::ROLLOUT_READY, limit),
            rollout_blocked: Series::new(&catalog::ROLLOUT_BLOCKED, limit),
            step_entered: Series::new(&catalog::STEP_ENTERED, limit),
            transitions: Series::new(&catalog::TRANSITIONS, limit),
            guard_log_e: Series::new(&catalog::GUARD_LOG_E, limit),
            guard_trip: Series::new(&catalog::GUARD_TRIP, limit),
            guard_units: Series::new(&catalog::GUARD_UNITS, limit),
            guard_bad_units: Series::new(&catalog::GUARD_BAD_UNITS, limit),
            guard_limit_value: Series::new(&catalog::GUARD_LIMIT_VALUE, limit),
            guard_limit_max: Series::new(&catalog::GUARD_LIMIT_MAX, limit),
            guard_trips: Series::new(&catalog::GUARD_TRIPS, limit),
            shadow_comparisons: Series::new(&catalog::SHADOW_COMPARISONS, limit),
            shadow_divergences: Series::new(&catalog::SHADOW_DIVERGENCES, limit),
            shadow_noise: Series::new(&catalog::SHADOW_NOISE, limit),
            shadow_delta: Series::new(&catalog::SHADOW_DELTA, limit),
            subjects: Series::new(&catalog::SUBJECTS, limit),
            shadow_skipped: Series::new(&catalog::SHADOW_SKIPPED, limit),
            shadow_queue: Series::new(&catalog::SHADOW_QUEUE, limit),
            denied: Series::new(&catalog::DENIED, limit),
            denials_read: Series::new(&catalog::DENIALS_READ, limit),
            rollback_exposure: Series::new(&catalog::ROLLBACK_EXPOSURE, limit),
            kill_switch: Series::new(&catalog::KILL_SWITCH, limit),
            certificate_expiry: Series::new(&catalog::CERTIFICATE_EXPIRY, limit),
            expiry: Series::new(&catalog::EXPIRY, limit),
            config_info: Series::new(&catalog::CONFIG_INFO, limit),
            config_successful: Series::new(&catalog::CONFIG_SUCCESSFUL, limit),
            config_success_time: Series::new(&catalog::CONFIG_SUCCESS_TIME, limit),
            config_reloads: Series::new(&catalog::CONFIG_RELOADS, limit),
            decision_records: Series::new(&catalog::DECISION_RECORDS, limit),
            decision_log_intact: Series::new(&catalog::DECISION_LOG_INTACT, limit),
            decision_log_owed: Series::new(&catalog::DECISION_LOG_OWED, limit),
            build_info: Series::new(&catalog::BUILD_INFO, limit),
        }
    }

    /// All of them, as the registry wants them.
    pub(super) fn collect(&self) -> Vec<proto::MetricFamily> {
        let as_is = |value| value;
        let time = self.clock.now();
        let now = time.as_secs() as f64;
        let plans = self.rollouts.lock();
        let plans = plans.unwrap_or_else(PoisonError::into_inner).clone();
        let stage = |plan: &Plan| {
            let mode = plan.stage.mode.as_str();
            (labels([plan.id.as_str(), &plan.stage.id, mode]), 1.0)
        };
        let target = |plan: &Plan| (labels([plan.id.as_str()]), plan.target(time).ratio());
        vec![
            samples::counters(&self.journeys),
            samples::counters(&self.assignments),
            samples::counters(&self.other_arm),
            samples::counters(&self.exchanges),
            samples::counters(&self.bindings_lost),
            samples::counters(&self.exchanges_unnoted),
            samples::counters(&self.token_requests),
            samples::counters(&self.token_anomalies),
            samples::counters(&self.rate_limited),
            samples::counters(&self.key_uses),
            samples::counters(&self.fallbacks),
            samples::counters(&self.fallbacks_refused),
            samples::counters(&self.subject_links),
            samples::counters(&self.carry_overs),
            samples::counters(&self.unmatched_groups),
            samples::counters(&self.bounces_refused),
            samples::histograms(&self.provider_duration),
            samples::gauges(&self.circuit_state, as_is),
            samples::gauges(&self.keys_fetched, |fetched| (now - fetched).max(0.0)),
            samples::gauges(&self.clock_skew, as_is),
            samples::gauges(&self.clock_ahead, as_is),
            samples::gauges(&self.provider_files, as_is),
            samples::counters(&self.stale_verdicts),
            samples::counters(&self.revocations),
            samples::histograms(&self.revocation_lag),
            samples::counters(&self.logout_fanout),
            samples::gauges(&self.sessions, as_is),
            samples::counters(&self.store_errors),
            samples::gauges(&self.store_circuit, as_is),
            samples::values(&catalog::STAGE_INFO, plans.iter().map(stage)),
            samples::values(&catalog::TARGET_RATIO, plans.iter().map(target)),
            samples::gauges(&self.rollout_state, as_is),
            samples::gauges(&self.leads, as_is),
            samples::gauges(&self.observed_ratio, as_is),
            samples::gauges(&self.rollout_ready, as_is),
            samples::gauges(&self.rollout_blocked, as_is),
            samples::gauges(&self.step_entered, as_is),
            samples::counters(&self.transitions),
            samples::gauges(&self.guard_log_e, as_is),
            samples::gauges(&self.guard_trip, as_is),
            samples::gauges(&self.guard_units, as_is),
            samples::gauges(&self.guard_bad_units, as_is),
            samples::gauges(&self.guard_limit_value, as_is),
            samples::gauges(&self.guard_limit_max, as_is),
            samples::counters(&self.guard_trips),
            samples::counters(&self.shadow_comparisons),
            samples::counters(&self.shadow_divergences),
            samples::counters(&self.shadow_noise),
            samples::deltas(&self.shadow_delta),
            samples::gauges(&self.subjects, as_is),
            samples::counters(&self.shadow_skipped),
            samples::gauges(&self.shadow_queue, as_is),
            samples::gauges(&self.denied, as_is),
            samples::gauges(&self.denials_read, as_is),
            samples::gauges(&self.rollback_exposure, as_is),
            samples::gauges(&self.kill_switch, as_is),
            samples::gauges(&self.certificate_expiry, as_is),
            samples::gauges(&self.expiry, as_is),
            samples::gauges(&self.config_info, as_is),
            samples::gauges(&self.config_successful, as_is),
            samples::gauges(&self.config_success_time, as_is),
            samples::counters(&self.config_reloads),
            samples::counters(&self.decision_records),
            samples::gauges(&self.decision_log_intact, as_is),
            samples::gauges(&self.decision_log_owed, as_is),
            samples::gauges(&self.build_info, as_is),
        ]
    }
}
