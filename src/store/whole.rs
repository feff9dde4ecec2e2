//! Since when a store has forgotten nothing: whoever rests on what is *not* in it has to know.
//!
//! An emptied store looks like one in which nothing has happened yet. A row that is never removed tells them apart.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use crate::clock::UnixTime;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;

/// The one row.
const ROW: Key<'_> = Key {
    table: "whole",
    key: b"since",
};

/// Looks after the row in one store.
pub(crate) struct Whole {
    store: Arc<dyn Store>,
    /// Whether this process has seen the row: what was used a moment before it is gone may be used again within its second.
    seen: AtomicBool,
}

impl Whole {
    /// Over `store`; asks nothing yet.
    pub(crate) const fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            seen: AtomicBool::new(false),
        }
    }

    /// Nothing that happened at this second or later has been forgotten; what happened before may have been.
    ///
    /// # Errors
    ///
    /// An outage: nobody knows.
    pub(crate) async fn since(&self, now: UnixTime) -> Result<UnixTime, StoreError> {
        // Twice: another instance may write it first, and its word counts.
        for _ in 0..2 {
            if let Some(row) = self.store.get(ROW, now).await? {
                let seconds = row.value.as_slice().try_into().map(u64::from_be_bytes);
                let seconds = seconds.or(Err(StoreError::Damaged(
                    "since when it is whole".to_owned(),
                )))?;
                self.seen.store(true, Ordering::Relaxed);
                return Ok(UnixTime::from_secs(seconds));
            }
            let lost = self.seen.load(Ordering::Relaxed);
            let since = UnixTime::from_secs(now.as_secs()) + Duration::from_secs(u64::from(lost));
            let value = since.as_secs().to_be_bytes();
            let never = UnixTime::NEVER;
            let written = self
                .store
                .compare_and_swap(ROW, Expect::Absent, &value, never, now);
            if written.await? {
                if lost {
                    warn!(
                        "The store has been emptied: what was used once before is refused until it would be anyway."
                    );
                }
                self.seen.store(true, Ordering::Relaxed);
                return Ok(since);
            }
        }
        Err(StoreError::Unavailable(
            "it forgets at once what is written".to_owned(),
        ))
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whole")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn later(seconds: u64) -> UnixTime {
        NOW + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn an_emptied_store_is_whole_from_then_on_for_everybody() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (one, two) = (Whole::new(store.clone()), Whole::new(store.clone()));
        assert_eq!(one.since(NOW).await.unwrap(), NOW);
        // The first word counts, whoever asks and however late.
        assert_eq!(two.since(later(60)).await.unwrap(), NOW);
        assert_eq!(one.since(later(90)).await.unwrap(), NOW);
        store.delete(ROW).await.unwrap();
        // Whoever knew it trusts nothing of the second in which it was gone.
        assert_eq!(two.since(later(100)).await.unwrap(), later(101));
        assert_eq!(one.since(later(200)).await.unwrap(), later(101));
        assert_eq!(
            Whole::new(store.clone()).since(later(300)).await.unwrap(),
            later(101)
        );
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_outage() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        store.put(ROW, b"soon", UnixTime::NEVER).await.unwrap();
        let asked = Whole::new(store).since(NOW).await;
        assert!(matches!(asked, Err(StoreError::Damaged(_))));
    }
}
