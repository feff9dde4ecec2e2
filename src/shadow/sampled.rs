//! Whether those who were looked at twice are the sample that they are taken for: how many were to be, and could not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::clock::UnixTime;
use crate::rollout::AppId;
use crate::rollout::Looked;
use crate::telemetry::Metrics;

/// How many were asked about, and how many could not be.
type Counts = (u64, u64);

/// Where the counts of each application stood when the present step was first seen, and when that step began.
#[derive(Debug, Default)]
pub(super) struct Sampled(Mutex<HashMap<AppId, (UnixTime, Counts)>>);

impl Sampled {
    /// Adds to what was found since a step began how many were asked about in it, and how many could not be: at this
    /// instance, and since it has run. Whoever leads judges by its own.
    pub(super) fn count(
        &self,
        looked: &mut Looked,
        (apps, moment): (&[AppId], UnixTime),
        metrics: &Metrics,
    ) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for app in apps {
            let now = metrics.shadow_looks(app);
            let at_first = begun.entry(app.clone()).or_insert((moment, now));
            if at_first.0 != moment {
                *at_first = (moment, now);
            }
            let (asked, lost) = at_first.1;
            looked.asked += now.0 - asked;
            looked.lost += now.1 - lost;
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
        let counted = |step| {
            let mut looked = Looked::default();
            let step = (std::slice::from_ref(&app), UnixTime::from_secs(step));
            sampled.count(&mut looked, step, &metrics);
            (looked.asked, looked.lost)
        };
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
}
