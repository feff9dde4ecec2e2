//! Every metric family: name, labels, meaning. `deploy/README.md` says the same for operators; a test compares them.

/// How a family behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations by size.
    Histogram,
}

/// One metric family.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Family {
    /// Its name: prefix, what, base unit, and `_total` for counters.
    pub(crate) name: &'static str,
    /// How it behaves.
    pub(crate) kind: Kind,
    /// The names of its labels, in the order in which values are given.
    pub(crate) labels: &'static [&'static str],
    /// One line for `# HELP`.
    pub(crate) help: &'static str,
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub(super) static $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// Every family there is.
        pub(crate) static FAMILIES: &[&Family] = &[$(&$id),+];
    };
}

families! {
    HTTP_REQUESTS: Counter "authferry_http_requests_total" ["app", "code"]
        "Requests by application and status code.";
    HTTP_DURATION: Histogram "authferry_http_request_duration_seconds" ["app"]
        "Time from the request head to the end of the answer.";
    AUTH_ATTEMPTS: Counter "authferry_auth_attempts_total" ["app", "provider", "flow", "outcome", "reason"]
        "Authentication decisions by the provider that made them.";
    AUTH_DURATION: Histogram "authferry_auth_duration_seconds" ["app", "provider", "flow"]
        "Time to an authentication decision, provider calls included.";
    LEGACY_CREDENTIALS: Counter "authferry_legacy_credentials_total" ["app", "credential"]
        "Requests that still presented a credential of the provider that people leave.";
    LEGACY_LAST_SEEN: Gauge "authferry_legacy_credential_last_seen_timestamp_seconds" ["app", "credential"]
        "When a request last presented such a credential.";
    UNMATCHED_GROUPS: Counter "authferry_unmatched_groups_total" ["provider"]
        "Groups of admitted people that `roles` gives no role.";
    UPSTREAM_ERRORS: Counter "authferry_upstream_errors_total" ["app", "reason"]
        "Requests that an upstream did not answer, or not to the end.";
    CACHE_REQUESTS: Counter "authferry_cache_requests_total" ["cache", "outcome"]
        "Look-ups in our caches.";
    SHED: Counter "authferry_shed_total" ["reason"]
        "What was turned away or dropped for want of room.";
    TUNNELS_CLOSED: Counter "authferry_tunnels_closed_total" ["reason"]
        "Upgraded connections that ended, and answers under way that were ended, by cause.";

    JOURNEYS: Counter "authferry_login_journeys_total" ["rollout", "arm", "event"]
        "Login journeys, started or ended.";
    ASSIGNMENTS: Counter "authferry_assignments_total" ["rollout", "arm", "rule"]
        "New-login assignments by the rule that made them.";
    OTHER_ARM: Counter "authferry_other_arm_total" ["rollout", "action", "credential"]
        "Good API credentials from the arm that their person is not on, by what was done with them.";
    EXCHANGES: Counter "authferry_exchanges_total" ["exchange", "grant", "outcome"]
        "Credentials exchanged for what an upstream expects, where no verdict was kept.";
    BINDINGS_LOST: Counter "authferry_bindings_lost_total" ["exchange"]
        "Bound tokens that were exchanged for tokens that are bound to nothing.";
    EXCHANGES_UNNOTED: Counter "authferry_exchanges_unnoted_total" ["exchange"]
        "Tokens that upstreams got and the store did not note: they may outlive what they were made of.";
    TOKEN_REQUESTS: Counter "authferry_token_requests_total" ["grant", "outcome"]
        "Requests of clients to our token endpoint.";
    TOKEN_ANOMALIES: Counter "authferry_token_anomalies_total" ["kind"]
        "What a client of our token endpoint did and never does.";
    RATE_LIMITED: Counter "authferry_rate_limited_total" ["endpoint", "by"]
        "Requests that were one too many in their minute.";
    KEY_USES: Counter "authferry_key_uses_total" ["key", "use", "purpose"]
        "Uses of keys that sign or seal, and of secrets of ours that a provider is shown, by the name of the key.";
    FALLBACKS: Counter "authferry_fallbacks_total" ["app", "from", "to", "reason"]
        "Logins sent to another provider because the assigned one was unavailable.";
    FALLBACKS_REFUSED: Counter "authferry_fallbacks_refused_total" ["app", "reason"]
        "Logins that met an outage and were not sent to another provider.";
    SUBJECT_LINKS: Counter "authferry_subject_links_total" ["method", "outcome"]
        "Accounts that were seen to be a person's, by how that was known; those known before are not counted.";
    CARRY_OVERS: Counter "authferry_session_carryovers_total" ["app", "method", "outcome"]
        "Sessions and passwords of the old side that were to move to the new one without a sign-in.";
    BOUNCES_REFUSED: Counter "authferry_redirect_bounces_refused_total" ["app"]
        "Login redirects refused by the loop guard.";

    PROVIDER_DURATION: Histogram "authferry_provider_request_duration_seconds" ["provider", "operation", "outcome"]
        "Calls to a provider.";
    CIRCUIT_STATE: Gauge "authferry_provider_circuit_state" ["provider"]
        "Breaker position: 0 closed, 1 half open, 2 open.";
    KEYS_AGE: Gauge "authferry_provider_keys_age_seconds" ["provider"]
        "Age of the newest successfully fetched signing keys.";
    CLOCK_SKEW: Gauge "authferry_clock_skew_seconds" ["provider"]
        "By how much the clock of a provider is ahead of ours, by the date of its last answer.";
    CLOCK_AHEAD: Gauge "authferry_provider_clock_ahead_seconds" ["provider"]
        "The most by which the clock of a provider was seen to be ahead of ours: its tokens count as older by as much, up to `leeway`, where something is revoked.";
    PROVIDER_FILE: Gauge "authferry_provider_file_good" ["provider"]
        "Whether a provider judges by its file as it is now; 0: that cannot be read or understood, and what it said last stays.";

    STALE_VERDICTS: Counter "authferry_stale_verdicts_total" ["provider"]
        "Times that an earlier answer of a provider counted because it could not be reached.";

    REVOCATIONS: Counter "authferry_revocations_total" ["source", "provider", "outcome"]
        "Revocations by what asked for them.";
    REVOCATION_LAG: Histogram "authferry_revocation_lag_seconds" ["provider"]
        "Time from the event, or from another instance's record of it, to its enforcement here.";
    DENIED: Gauge "authferry_denied_accounts" ["provider"]
        "Accounts that their provider has barred, at the instance that asks: their people are let in nowhere.";
    DENIALS_READ: Gauge "authferry_denials_read_timestamp_seconds" ["provider"]
        "When a provider last said in full which accounts it has barred; before the first time, when this instance began.";
    LOGOUT_FANOUT: Counter "authferry_logout_fanout_total" ["provider", "outcome"]
        "Tokens and sessions that were to end at their provider after a sign-out.";
    SESSIONS: Gauge "authferry_sessions" ["app", "backing", "origin"]
        "Sessions in use at this instance, by the side behind them and how they came about.";
    STORE_ERRORS: Counter "authferry_store_errors_total" ["operation", "reason"]
        "Calls to the store that were not answered as asked.";
    STORE_CIRCUIT_STATE: Gauge "authferry_store_circuit_state" []
        "Breaker position of the shared store: 0 closed, 2 open.";

    STAGE_INFO: Gauge "authferry_rollout_stage_info" ["rollout", "stage", "mode"]
        "Current stage, 1 for the active one.";
    TARGET_RATIO: Gauge "authferry_rollout_target_ratio" ["rollout"]
        "Share of bucketing units configured for the new provider.";
    ROLLOUT_STATE: Gauge "authferry_rollout_state" ["rollout", "state"]
        "Controller state, 1 for the current one.";
    ROLLOUT_READY: Gauge "authferry_rollout_ready" ["rollout"]
        "Whether all that the step asks for is there, and a person must promote it.";
    ROLLOUT_BLOCKED: Gauge "authferry_rollout_blocked" ["rollout", "reason"]
        "What keeps a rollout where it is although its step has baked: 1 for each thing that is missing, or that refused the next step.";
    LEADS: Gauge "authferry_rollout_leads" []
        "Whether this instance drives the rollouts: 1 for one of those that share a store.";
    OBSERVED_RATIO: Gauge "authferry_rollout_observed_ratio" ["rollout"]
        "Share of percent-eligible people of this step whom the percent sent to the new provider.";
    STEP_ENTERED: Gauge "authferry_rollout_step_entered_timestamp_seconds" ["rollout"]
        "When the current step began.";
    TRANSITIONS: Counter "authferry_rollout_transitions_total" ["rollout", "direction", "trigger"]
        "Stage and step changes.";
    GUARD_LOG_E: Gauge "authferry_guard_log_evalue" ["rollout", "guard"]
        "Natural logarithm of the evidence that the new provider is worse than allowed; `split`: that people do not arrive as configured.";
    GUARD_TRIP: Gauge "authferry_guard_trip_log_evalue" ["rollout", "guard"]
        "Evidence at which the guard trips.";
    GUARD_UNITS: Gauge "authferry_guard_units" ["rollout", "guard", "arm"]
        "People counted in the current step.";
    GUARD_BAD_UNITS: Gauge "authferry_guard_bad_units" ["rollout", "guard", "arm"]
        "People with a bad outcome in the current step.";
    GUARD_LIMIT_VALUE: Gauge "authferry_guard_limit_value" ["rollout", "guard"]
        "What there is of what a guard limits (people who differ, the answer to a query), where that is known.";
    GUARD_LIMIT_MAX: Gauge "authferry_guard_limit_max" ["rollout", "guard"]
        "More than this trips the guard.";
    GUARD_TRIPS: Counter "authferry_guard_trips_total" ["rollout", "guard", "action"]
        "Guards that tripped.";
    SHADOW_COMPARISONS: Counter "authferry_shadow_comparisons_total" ["app", "oracle", "result"]
        "Second opinions about people, by what came of them.";
    SHADOW_DIVERGENCES: Counter "authferry_shadow_divergences_total" ["app", "class", "severity"]
        "Differences between two opinions about one person.";
    SHADOW_NOISE: Counter "authferry_shadow_noise_total" ["app", "class"]
        "What the deciding side said differently when it was asked again; `none`: it said the same.";
    SHADOW_DELTA: Histogram "authferry_shadow_duration_delta_seconds" ["app", "oracle"]
        "By how much longer the second opinion took than the decision; below zero: it was faster.";
    SUBJECTS: Gauge "authferry_subjects" ["rollout", "state"]
        "People who have moved: `modern`, `modern_born` (no account at `from` is known), `recalled` (before a step back); `conflict`: accounts at either side of which it is in doubt whose they are.";
    SHADOW_SKIPPED: Counter "authferry_shadow_skipped_total" ["app", "reason"]
        "Accepted credentials that were not looked at twice.";
    SHADOW_QUEUE: Gauge "authferry_shadow_queue_depth" []
        "Credentials that wait for a second look.";
    ROLLBACK_EXPOSURE: Gauge "authferry_rollback_exposure_subjects" ["rollout", "why"]
        "People who have moved and whom a switch back would hurt now.";
    KILL_SWITCH: Gauge "authferry_kill_switch" ["scope", "position"]
        "Position of the switch, 1 for the current one.";

    CERTIFICATE_EXPIRY: Gauge "authferry_certificate_expiry_timestamp_seconds" ["certificate"]
        "When a served certificate expires.";
    EXPIRY: Gauge "authferry_expiry_timestamp_seconds" ["kind", "used", "name", "renewed"]
        "When something else of the configuration ends.";

    CONFIG_INFO: Gauge "authferry_config_info" ["revision", "sha256"]
        "Active configuration.";
    CONFIG_SUCCESSFUL: Gauge "authferry_config_last_reload_successful" []
        "Whether the last reload attempt was applied.";
    CONFIG_SUCCESS_TIME: Gauge "authferry_config_last_reload_success_timestamp_seconds" []
        "Last applied reload.";
    CONFIG_RELOADS: Counter "authferry_config_reloads_total" ["outcome"]
        "Reload attempts.";
    DECISION_RECORDS: Counter "authferry_decision_records_total" ["kind"]
        "Records appended to the ledger.";
    DECISION_LOG_INTACT: Gauge "authferry_decision_log_intact" []
        "Whether the ledger verified when it was last looked at.";
    DECISION_LOG_OWED: Gauge "authferry_decision_log_owed" []
        "Records that could not be written to the ledger, and are as soon as the disk takes them.";
    BUILD_INFO: Gauge "authferry_build_info" ["version"]
        "The running program.";
}

/// The families that workers write, see `shards`.
pub(super) static SHARDED: &[&Family] = &[
    &HTTP_REQUESTS,
    &HTTP_DURATION,
    &LEGACY_CREDENTIALS,
    &LEGACY_LAST_SEEN,
    &UPSTREAM_ERRORS,
    &AUTH_ATTEMPTS,
    &AUTH_DURATION,
    &CACHE_REQUESTS,
    &SHED,
    &TUNNELS_CLOSED,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Attempt;
    use crate::telemetry::metrics::Cache;
    use crate::telemetry::metrics::Compared;
    use crate::telemetry::metrics::Flow;
    use crate::telemetry::metrics::Lookup;
    use crate::telemetry::metrics::Oracle;
    use crate::telemetry::metrics::RevocationOutcome;
    use crate::telemetry::metrics::RevocationSource;
    use crate::telemetry::metrics::Shed;
    use crate::telemetry::metrics::Skipped;
    use crate::telemetry::metrics::TunnelEnd;
    use crate::telemetry::metrics::UpstreamError;

    const README: &str = include_str!("../../../deploy/README.md");

    #[test]
    fn the_readme_lists_every_family_as_it_is_and_no_other() {
        let listed: Vec<_> = README
            .lines()
            .filter(|line| line.starts_with("| `authferry_"))
            .collect();
        let declared: Vec<_> = FAMILIES
            .iter()
            .map(|family| {
                let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
                let kind = format!("{:?}", family.kind).to_lowercase();
                let (name, labels, help) = (family.name, labels.join(", "), family.help);
                format!("| `{name}` | {labels} | {kind} | {help} |")
            })
            .collect();
        assert_eq!(listed, declared);
    }

    #[test]
    fn the_readme_lists_every_word_that_a_label_can_have() {
        let words = Flow::ALL
            .iter()
            .map(|word| word.as_str())
            .chain(Cache::ALL.iter().map(|word| word.as_str()))
            .chain(Lookup::ALL.iter().map(|word| word.as_str()))
            .chain(Oracle::ALL.iter().map(|word| word.as_str()))
            .chain(Compared::ALL.iter().map(|word| word.as_str()))
            .chain(Skipped::ALL.iter().map(|word| word.as_str()))
            .chain(Shed::ALL.iter().map(|word| word.as_str()))
            .chain(TunnelEnd::ALL.iter().map(|word| word.as_str()))
            .chain(RevocationSource::ALL.iter().map(|word| word.as_str()))
            .chain(RevocationOutcome::ALL.iter().map(|word| word.as_str()))
            .chain(UpstreamError::ALL.iter().map(|word| word.as_str()))
            .chain(Attempt::all().map(Attempt::reason))
            .chain(Attempt::all().map(Attempt::outcome));
        for word in words {
            assert!(README.contains(&format!("`{word}`")), "{word}");
        }
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for family in FAMILIES {
            let Family { name, kind, .. } = family;
            assert!(name.starts_with("authferry_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            if *kind == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(family.help.ends_with('.'), "{name}");
        }
    }
}
