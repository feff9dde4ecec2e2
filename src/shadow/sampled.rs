//! Whether those who were looked at twice are the sample that they are taken for: how many were to be, and could not.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::AppId;
use crate::telemetry::Metrics;

/// How many were asked about, and how many could not be.
pub(super) type Counts = (u64, u64);

/// Instances that are kept apart: those of the oldest step go first.
const MAX_INSTANCES: usize = 256;

/// Where the counts of each application stood when the present step was first seen, and when that step began.
#[derive(Debug, Default)]
pub(super) struct Sampled(Mutex<HashMap<AppId, (UnixTime, Counts)>>);

impl Sampled {
    /// How many of an application were asked about at this instance since a step began, as far as it has run, and how many could
    /// not be.
    pub(super) fn count(&self, app: &AppId, moment: UnixTime, metrics: &Metrics) -> Counts {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = metrics.shadow_looks(app);
        let at_first = begun.entry(app.clone()).or_insert((moment, now));
        if at_first.0 != moment {
            *at_first = (moment, now);
        }
        let (asked, lost) = at_first.1;
        (now.0 - asked, now.1 - lost)
    }
}

/// What every instance has counted of an application, each in the step that it has seen last. One that has begun anew is
/// another one, so that nothing is forgotten by a restart.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Samples(BTreeMap<u64, Sample>);

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Sample {
    step: UnixTime,
    asked: u64,
    lost: u64,
}

impl Samples {
    /// What one instance has counted by now; whether that is new.
    pub(super) fn note(&mut self, instance: u64, step: UnixTime, (asked, lost): Counts) -> bool {
        let known = self.0.get(&instance);
        let is_known = known
            .is_some_and(|known| known.step == step && (known.asked, known.lost) == (asked, lost));
        if is_known || (known.is_none() && (asked, lost) == (0, 0)) {
            return false;
        }
        self.0.insert(instance, Sample { step, asked, lost });
        self.make_room();
        true
    }

    /// With what others know. Of what is said of one instance the later counts.
    pub(super) fn merge(&mut self, others: Self) {
        let age = |sample: &Sample| (sample.step, sample.asked + sample.lost);
        for (instance, sample) in others.0 {
            let own = self.0.entry(instance).or_insert(sample);
            if age(own) < age(&sample) {
                *own = sample;
            }
        }
        self.make_room();
    }

    /// How many were asked about since a step began, and how many could not be: by all together.
    pub(super) fn since(&self, step: UnixTime) -> Counts {
        let all = self.0.values().filter(|sample| sample.step == step);
        all.fold((0, 0), |(asked, lost), sample| {
            (asked + sample.asked, lost + sample.lost)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn make_room(&mut self) {
        while MAX_INSTANCES < self.0.len() {
            let oldest = self.0.iter().min_by_key(|(_, sample)| sample.step);
            let Some(oldest) = oldest.map(|(instance, _)| *instance) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::telemetry::metrics::Compared;
    use crate::telemetry::metrics::Oracle;
    use crate::telemetry::metrics::Skipped;

    #[test]
    fn what_could_not_be_asked_is_counted_since_the_step_began() {
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let (sampled, app) = (Sampled::default(), AppId::new("crm"));
        let asks = || metrics.shadow_compared(&app, Oracle::Directory, Compared::Same);
        let counted = |step| sampled.count(&app, UnixTime::from_secs(step), &metrics);
        asks();
        assert_eq!(counted(1), (0, 0), "before the step");
        asks();
        metrics.shadow_compared(&app, Oracle::Sweep, Compared::Same);
        for why in [Skipped::QueueFull, Skipped::Breaker, Skipped::SampledOut] {
            metrics.shadow_skipped(&app, why);
        }
        assert_eq!(counted(1), (1, 2));
        assert_eq!(counted(2), (0, 0), "another step");
    }

    #[test]
    fn what_instances_have_counted_is_one_sum_for_each_step() {
        let step = UnixTime::from_secs;
        let (mut one, mut two) = (Samples::default(), Samples::default());
        assert!(!one.note(1, step(5), (0, 0)), "nothing is worth a row");
        assert!(one.note(1, step(5), (10, 1)));
        assert!(!one.note(1, step(5), (10, 1)));
        two.note(2, step(5), (100, 20));
        two.merge(one.clone());
        assert_eq!(two.since(step(5)), (110, 21));
        // What is told again counts once, and what has grown meanwhile is the later.
        one.note(1, step(5), (12, 1));
        two.merge(one.clone());
        two.merge(one.clone());
        one.merge(two.clone());
        assert_eq!(
            (one.since(step(5)), two.since(step(5))),
            ((112, 21), (112, 21))
        );
        // One has gone on, and has not seen how far the other was.
        one.note(1, step(9), (1, 0));
        one.merge(two);
        assert_eq!(
            (one.since(step(9)), one.since(step(5))),
            ((1, 0), (100, 20))
        );
        for instance in 10..500 {
            one.note(instance, step(9), (1, 0));
        }
        assert_eq!(one.since(step(9)), (256, 0));
    }
}
