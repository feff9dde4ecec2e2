//! How many logins took a fallback within the last hour.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::rollout::AppId;

const WINDOW: Duration = Duration::from_hours(1);
/// More than this many are not remembered one by one; a budget above it is never spent.
const MAX_REMEMBERED: usize = 100_000;

/// Fallbacks taken, by application. Outlives snapshots: a reload does not fill the budget again.
#[derive(Debug, Default)]
pub(crate) struct FallbacksTaken(Mutex<HashMap<AppId, VecDeque<UnixTime>>>);

impl FallbacksTaken {
    /// How many were taken within the hour before `now`.
    pub(super) fn count(&self, app: &AppId, now: UnixTime) -> u32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(taken) = all.get_mut(app) else {
            return 0;
        };
        while taken.front().is_some_and(|first| *first + WINDOW <= now) {
            taken.pop_front();
        }
        u32::try_from(taken.len()).unwrap_or(u32::MAX)
    }

    /// One more.
    pub(super) fn one_more(&self, app: &AppId, now: UnixTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(app.clone()).or_default();
        if taken.len() < MAX_REMEMBERED {
            taken.push_back(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_counts_for_an_hour_and_for_its_application() {
        let taken = FallbacksTaken::default();
        let (app, other) = (AppId::new("a"), AppId::new("b"));
        let at = |minutes: u64| UnixTime::from_secs(minutes * 60);
        taken.one_more(&app, at(0));
        taken.one_more(&app, at(30));
        assert_eq!(taken.count(&app, at(59)), 2);
        assert_eq!(taken.count(&app, at(60)), 1);
        assert_eq!(taken.count(&other, at(59)), 0);
    }
}
