//! One question at a time for one token, and a short memory of refusals.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use tokio::sync::OnceCell;

use crate::clock::UnixTime;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;

/// How long a refusal is remembered.
const REMEMBER: Duration = Duration::from_secs(5);

/// How many refusals are remembered.
const MAX_REMEMBERED: usize = 100_000;

/// SHA-256 of a token: all that the answer of one provider depends on, and no live token in memory.
type Key = [u8; 32];

type Verdict = Result<Authenticated, ProviderError>;

/// Questions under way at one provider.
///
/// An outage is forgotten at once: whoever comes next asks again.
#[derive(Debug)]
pub(super) struct Flights {
    under_way: Arc<Mutex<HashMap<Key, Arc<OnceCell<Verdict>>>>>,
    refused: Cache<Key, (UnixTime, Refusal)>,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            under_way: Arc::default(),
            refused: Cache::new(MAX_REMEMBERED),
        }
    }

    /// The verdict on `token`: remembered, of a question under way, or of `ask`. Should the one who asks be gone before
    /// the answer comes, the next one who waits asks again.
    pub(super) async fn judge<F>(&self, token: &str, now: UnixTime, ask: F) -> Verdict
    where
        F: Future<Output = Verdict>,
    {
        let key = key(token);
        if let Some((until, refusal)) = self.refused.get(&key)
            && now < until
        {
            return Err(refusal.into());
        }
        let flight = self.join(key);
        let verdict = flight.cell.get_or_init(|| ask).await.clone();
        if let Err(ProviderError::Rejected(refusal)) = verdict {
            self.refused.insert(key, (now + REMEMBER, refusal));
        }
        verdict
    }

    fn join(&self, key: Key) -> Flight {
        let cell = Arc::clone(lock(&self.under_way).entry(key).or_default());
        Flight {
            all: Arc::clone(&self.under_way),
            key,
            cell,
        }
    }
}

/// A place at a question under way; with the last one it is forgotten.
struct Flight {
    all: Arc<Mutex<HashMap<Key, Arc<OnceCell<Verdict>>>>>,
    key: Key,
    cell: Arc<OnceCell<Verdict>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        let own = all
            .get(&self.key)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // Answered: nobody should join any more. Unanswered: only the map and this place are left.
        if own && (self.cell.initialized() || Arc::strong_count(&self.cell) <= 2) {
            all.remove(&self.key);
        }
    }
}

/// A map of places: a panic elsewhere leaves at most one too many.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(token: &str) -> Key {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(hash.as_ref());
    key
}
