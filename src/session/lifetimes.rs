//! How long each provider last let a session live: what is learned at its logins.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::identity::ProviderId;
use crate::rollout::Mode;
use crate::rollout::Plan;

/// Of every provider, as it last said. Outlives snapshots.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes(Mutex<HashMap<ProviderId, Duration>>);

impl Lifetimes {
    /// Takes in what a login at `provider` said, if it said anything; how long a session may live that it makes: no longer
    /// than either side of the rollout lets one while both run. `None`: nobody has said.
    pub(super) fn shortest(
        &self,
        plan: Option<&Plan>,
        provider: &ProviderId,
        said: Option<Duration>,
    ) -> Option<Duration> {
        // The providers of a configuration are few: nothing else gets in.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Some(said) => known.insert(provider.clone(), said),
            None => known.remove(provider),
        };
        let plan = plan?;
        let both = match plan.stage.mode {
            Mode::Shadow | Mode::Canary | Mode::ModernPrimary => true,
            Mode::LegacyOnly | Mode::ModernOnly => false,
        };
        let sides = [&plan.from, &plan.to].into_iter();
        let sides = sides.filter(|side| both || *side == provider);
        sides.filter_map(|side| known.get(side).copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing::plan;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_shorter_side_counts_while_both_run() {
        let lifetimes = Lifetimes::default();
        let canary = plan(Mode::Canary, Vec::new());
        let (old, new) = (canary.from.clone(), canary.to.clone());
        let over = plan(Mode::ModernOnly, Vec::new());
        let at = |plan, provider, said| lifetimes.shortest(Some(plan), provider, said);
        assert_eq!(at(&canary, &new, None), None);
        assert_eq!(at(&canary, &new, Some(8 * HOUR)), Some(8 * HOUR));
        assert_eq!(at(&canary, &old, Some(HOUR)), Some(HOUR));
        assert_eq!(at(&canary, &new, Some(8 * HOUR)), Some(HOUR));
        assert_eq!(at(&over, &new, Some(8 * HOUR)), Some(8 * HOUR));
        // It has become shorter there, or says nothing any more.
        assert_eq!(at(&canary, &new, Some(HOUR / 2)), Some(HOUR / 2));
        assert_eq!(at(&canary, &new, None), Some(HOUR));
        assert_eq!(lifetimes.shortest(None, &new, Some(HOUR)), None);
    }
}
