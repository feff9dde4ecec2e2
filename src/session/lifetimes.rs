//! How long each provider last let a session live: what is learned at its logins, by any instance.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::Mode;
use crate::rollout::Plan;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// Of every provider, as it last said: a row each. They name nobody, and are as many as there are providers.
const TABLE: &str = "lifetime";

/// Seconds by which what a provider says may differ from what it said before, and nothing is written.
const SAME: u64 = 60;

/// Looks after the rows.
#[derive(Debug)]
pub(crate) struct Lifetimes(Arc<dyn Store>);

impl Lifetimes {
    pub(super) const fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Takes in what a login at `provider` said. Some say what is left of a session of theirs, which is another number each time:
    /// what differs by less than a minute is the same.
    pub(super) async fn learn(
        &self,
        provider: &ProviderId,
        said: Option<Duration>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let said = said.map(|said| said.as_secs());
        match (self.last(provider, now).await?, said) {
            (None, None) => Ok(()),
            (Some(last), Some(said)) if last.abs_diff(said) < SAME => Ok(()),
            (Some(_) | None, Some(said)) => {
                let seconds = said.to_be_bytes();
                self.0.put(key(provider), &seconds, UnixTime::NEVER).await
            }
            (Some(_), None) => self.0.delete(key(provider)).await,
        }
    }

    /// How long a session may live that a login at `provider` makes, which said this: no longer than either side of the rollout
    /// lets one while both run. `None`: nobody has said.
    pub(super) async fn shortest(
        &self,
        plan: Option<&Plan>,
        provider: &ProviderId,
        said: Option<Duration>,
        now: UnixTime,
    ) -> Result<Option<Duration>, StoreError> {
        let said = said.map(|said| said.as_secs());
        let Some(plan) = plan else {
            return Ok(None);
        };
        let both = match plan.stage.mode {
            Mode::Shadow | Mode::Canary | Mode::ModernPrimary => true,
            Mode::LegacyOnly | Mode::ModernOnly => false,
        };
        let mut shortest: Option<u64> = None;
        for side in [&plan.from, &plan.to] {
            let known = if side == provider {
                said
            } else if both {
                self.last(side, now).await?
            } else {
                None
            };
            shortest = shortest.into_iter().chain(known).min();
        }
        Ok(shortest.map(Duration::from_secs))
    }

    async fn last(&self, provider: &ProviderId, now: UnixTime) -> Result<Option<u64>, StoreError> {
        let row = self.0.get(key(provider), now).await?;
        // What cannot be read is learned anew.
        Ok(row.and_then(|row| Some(u64::from_be_bytes(row.value.try_into().ok()?))))
    }
}

fn key(provider: &ProviderId) -> Key<'_> {
    Key {
        table: TABLE,
        key: provider.as_str().as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing::plan;
    use crate::store::MemoryStore;

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    #[tokio::test]
    async fn the_shorter_side_counts_while_both_run() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let canary = plan(Mode::Canary, Vec::new());
        let (old, new) = (canary.from.clone(), canary.to.clone());
        let over = plan(Mode::ModernOnly, Vec::new());
        // Each word at another instance.
        let at = async |plan, provider, said| {
            let lifetimes = Lifetimes::new(Arc::clone(&store));
            lifetimes.learn(provider, said, NOW).await.unwrap();
            lifetimes.shortest(plan, provider, said, NOW).await.unwrap()
        };
        let canary = Some(&canary);
        assert_eq!(at(canary, &new, None).await, None);
        assert_eq!(at(canary, &new, Some(8 * HOUR)).await, Some(8 * HOUR));
        assert_eq!(at(canary, &old, Some(HOUR)).await, Some(HOUR));
        assert_eq!(at(canary, &new, Some(8 * HOUR)).await, Some(HOUR));
        assert_eq!(at(Some(&over), &new, Some(8 * HOUR)).await, Some(8 * HOUR));
        // It has become shorter there, or says nothing any more.
        assert_eq!(at(canary, &new, Some(HOUR / 2)).await, Some(HOUR / 2));
        assert_eq!(at(canary, &new, None).await, Some(HOUR));
        assert_eq!(at(canary, &old, None).await, None);
        assert_eq!(at(None, &new, Some(HOUR)).await, None);
    }

    #[tokio::test]
    async fn what_is_left_of_a_session_is_not_written_down_at_each_login() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let lifetimes = Lifetimes::new(Arc::clone(&store));
        let new = ProviderId::new("new");
        let mut versions = std::collections::BTreeSet::new();
        for less in 0..30 {
            let left = HOUR - Duration::from_secs(less);
            lifetimes.learn(&new, Some(left), NOW).await.unwrap();
            let row = store.get(key(&new), NOW).await.unwrap();
            versions.insert(row.unwrap().version);
        }
        assert_eq!(versions.len(), 1);
        let left = HOUR - Duration::from_secs(SAME);
        lifetimes.learn(&new, Some(left), NOW).await.unwrap();
        assert_eq!(lifetimes.last(&new, NOW).await.unwrap(), Some(3_540));
    }
}
