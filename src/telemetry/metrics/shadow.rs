//! Second opinions, counted.

use std::time::Duration;

use crate::rollout::AppId;
use crate::telemetry::metrics::Metrics;

/// Who gives a second opinion.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Oracle {
    /// Another provider, about the same credential.
    DualVerify,
    /// The directory of another provider.
    Directory,
    /// The directories of both sides, about everybody.
    Sweep,
    /// The application, by its own answer.
    UpstreamStatus,
    /// Another provider, by the token that it would issue.
    Exchange,
    /// Another provider, about the token that a client shows beside its own.
    DualToken,
}

impl Oracle {
    /// Every one.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::DualVerify,
        Self::Directory,
        Self::Sweep,
        Self::UpstreamStatus,
        Self::Exchange,
        Self::DualToken,
    ];

    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::DualVerify => "dual_verify",
            Self::Directory => "directory",
            Self::Sweep => "sweep",
            Self::UpstreamStatus => "upstream_status",
            Self::Exchange => "exchange",
            Self::DualToken => "dual_token",
        }
    }
}

/// What came of one comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compared {
    /// Nothing differs.
    Same,
    /// Something differs.
    Different,
    /// What differs is known.
    Ignored,
    /// The other side gave no answer.
    Unavailable,
}

impl Compared {
    /// Every one.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [
        Self::Same,
        Self::Different,
        Self::Ignored,
        Self::Unavailable,
    ];

    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Ignored => "ignored",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why nobody was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Skipped {
    /// The person is not in the sample.
    SampledOut,
    /// The person was asked about a short while ago.
    PerSubject,
    /// Too many wait.
    QueueFull,
    /// As many as may be are asked about.
    Budget,
    /// The other side gives no answers.
    Breaker,
    /// The credential is used with a proof that counts once.
    SingleUse,
    /// It has waited too long.
    Stale,
    /// Nobody can be asked about such a credential.
    NoOracle,
}

impl Skipped {
    /// Every one.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::SampledOut,
        Self::PerSubject,
        Self::QueueFull,
        Self::Budget,
        Self::Breaker,
        Self::SingleUse,
        Self::Stale,
        Self::NoOracle,
    ];

    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SampledOut => "sampled_out",
            Self::PerSubject => "per_subject",
            Self::QueueFull => "queue_full",
            Self::Budget => "budget",
            Self::Breaker => "breaker",
            Self::SingleUse => "single_use",
            Self::Stale => "stale",
            Self::NoOracle => "no_oracle",
        }
    }
}

impl Metrics {
    /// A second opinion was asked for.
    pub(crate) fn shadow_compared(&self, app: &AppId, oracle: Oracle, result: Compared) {
        self.shadow_compared_by(app, oracle, result, 1);
    }

    /// As [`Self::shadow_compared`], `how_many` times.
    pub(crate) fn shadow_compared_by(
        &self,
        app: &AppId,
        oracle: Oracle,
        result: Compared,
        how_many: u64,
    ) {
        let labels = [app.as_str(), oracle.as_str(), result.as_str()];
        self.rare.shadow_comparisons.with(&labels).add(how_many);
    }

    /// Two opinions differ, `how_many` times: the words of the class and of its severity.
    pub(crate) fn shadow_divergence(
        &self,
        app: &AppId,
        (class, severity): (&str, &str),
        how_many: u64,
    ) {
        let labels = [app.as_str(), class, severity];
        self.rare.shadow_divergences.with(&labels).add(how_many);
    }

    /// The deciding side was asked again: the word of a class in which it differs from itself, or `none`.
    pub(crate) fn shadow_noise(&self, app: &AppId, class: &str) {
        self.rare.shadow_noise.with(&[app.as_str(), class]).add(1);
    }

    /// How long the second opinion took, and how long the decision.
    pub(crate) fn shadow_delta(
        &self,
        app: &AppId,
        oracle: Oracle,
        took: Duration,
        decided: Duration,
    ) {
        let labels = [app.as_str(), oracle.as_str()];
        self.rare.shadow_delta.with(&labels).observe(took, decided);
    }

    /// Nobody was asked.
    pub(crate) fn shadow_skipped(&self, app: &AppId, why: Skipped) {
        let labels = [app.as_str(), why.as_str()];
        self.rare.shadow_skipped.with(&labels).add(1);
    }

    /// How often somebody was looked at twice since the start, and how often nobody could be, because too many waited or the
    /// other side gave no answers.
    pub(crate) fn shadow_looks(&self, app: &AppId) -> (u64, u64) {
        let is = |labels: &[Box<str>], place: usize, words: &[&str]| {
            let word = labels.get(place).map(AsRef::as_ref);
            word.is_some_and(|word| words.contains(&word))
        };
        let own = [app.as_str()];
        let asked = self.rare.shadow_comparisons.sum(|labels| {
            // What is asked of everybody once a day, and of the application by its own answer, waits for no place.
            is(labels, 0, &own) && !is(labels, 1, &["sweep", "upstream_status"])
        });
        let lost = [Skipped::QueueFull.as_str(), Skipped::Breaker.as_str()];
        let skipped = &self.rare.shadow_skipped;
        (
            asked,
            skipped.sum(|labels| is(labels, 0, &own) && is(labels, 1, &lost)),
        )
    }

    /// So many wait.
    pub(crate) fn shadow_queue(&self, depth: usize) {
        self.rare.shadow_queue.with(&[]).set(depth as f64);
    }
}
