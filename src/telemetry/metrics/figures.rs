//! What was counted since the start, as numbers for people: read like a scrape, asked for by what an operator wants to know.

use std::collections::BTreeMap;

use prometheus::proto;

use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::catalog;
use crate::telemetry::metrics::catalog::Family;

/// How attempts to authenticate ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Attempts {
    /// With an identity.
    pub(crate) success: f64,
    /// With a refusal.
    pub(crate) rejected: f64,
    /// Without an answer.
    pub(crate) unavailable: f64,
}

/// How login journeys went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Journeys {
    /// Sent to a provider.
    pub(crate) started: f64,
    /// Came back with an identity.
    pub(crate) succeeded: f64,
    /// Came back without one, or not at all.
    pub(crate) failed: f64,
}

/// Numbers for a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// By application and provider.
    pub(crate) attempts: BTreeMap<(String, String), Attempts>,
    /// By rollout and arm.
    pub(crate) journeys: BTreeMap<(String, String), Journeys>,
    /// New logins by rollout and arm.
    pub(crate) assigned: BTreeMap<(String, String), f64>,
    /// Requests that still brought an old credential, by application.
    pub(crate) old_credentials: BTreeMap<String, f64>,
    /// The breaker of each provider: 0 closed, 1 half open, 2 open.
    pub(crate) circuits: BTreeMap<String, f64>,
    /// How old the keys of each provider are, in seconds.
    pub(crate) key_ages: BTreeMap<String, f64>,
}

impl Metrics {
    /// Everything that a page shows, at one moment.
    pub(crate) fn figures(&self) -> Figures {
        let gathered = self.registry.gather();
        let mut figures = Figures::default();
        each(&gathered, &catalog::AUTH_ATTEMPTS, |labels, value| {
            let [app, provider, _, outcome, _] = labels else {
                return;
            };
            let key = ((*app).to_owned(), (*provider).to_owned());
            let of = figures.attempts.entry(key).or_default();
            match *outcome {
                "success" => of.success += value,
                "rejected" => of.rejected += value,
                _ => of.unavailable += value,
            }
        });
        each(&gathered, &catalog::JOURNEYS, |labels, value| {
            let [rollout, arm, event] = labels else {
                return;
            };
            let key = ((*rollout).to_owned(), (*arm).to_owned());
            let of = figures.journeys.entry(key).or_default();
            match *event {
                "started" => of.started += value,
                "succeeded" => of.succeeded += value,
                _ => of.failed += value,
            }
        });
        each(&gathered, &catalog::ASSIGNMENTS, |labels, value| {
            let [rollout, arm, _] = labels else {
                return;
            };
            let key = ((*rollout).to_owned(), (*arm).to_owned());
            *figures.assigned.entry(key).or_default() += value;
        });
        for (family, into) in [
            (&catalog::LEGACY_CREDENTIALS, &mut figures.old_credentials),
            (&catalog::CIRCUIT_STATE, &mut figures.circuits),
            (&catalog::KEYS_AGE, &mut figures.key_ages),
        ] {
            each(&gathered, family, |labels, value| {
                if let Some(name) = labels.first() {
                    *into.entry((*name).to_owned()).or_default() += value;
                }
            });
        }
        figures
    }
}

/// Every series of a family, with the values of its labels in the order of the catalogue.
fn each(gathered: &[proto::MetricFamily], family: &Family, mut told: impl FnMut(&[&str], f64)) {
    let named = gathered.iter().filter(|one| one.name() == family.name);
    for metric in named.flat_map(|one| one.get_metric()) {
        let label = |name: &&str| {
            let pairs = metric.get_label().iter();
            pairs
                .filter(|pair| pair.name() == *name)
                .map(proto::LabelPair::value)
                .next()
                .unwrap_or_default()
        };
        let labels: Vec<&str> = family.labels.iter().map(label).collect();
        let counter = metric.get_counter().get_value();
        let gauge = metric.get_gauge().get_value();
        told(&labels, counter + gauge);
    }
}
