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

/// Looks after the rows.
#[derive(Debug)]
pub(crate) struct Lifetimes(Arc<dyn Store>);

impl Lifetimes {
    pub(super) const fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Takes in what a login at `provider` said, if it said anything; how long a session may live that it makes: no longer
    /// than either side of the rollout lets one while both run. `None`: nobody has said.
    pub(super) async fn shortest(
        &self,
        plan: Option<&Plan>,
        provider: &ProviderId,
        said: Option<Duration>,
        now: UnixTime,
    ) -> Result<Option<Duration>, StoreError> {
        let said = said.map(|said| said.as_secs());
        if self.last(provider, now).await? != said {
            match said {
                Some(seconds) => {
                    let seconds = seconds.to_be_bytes();
                    self.0.put(key(provider), &seconds, UnixTime::NEVER).await?;
                }
                None => self.0.delete(key(provider)).await?,
            }
        }
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
}
