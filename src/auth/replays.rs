//! Proofs of possession and assertions of clients that have been used: what comes a second time is refused, also by another instance.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::clock::UnixTime;
use crate::identity::Thumbprint;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Whole;
use crate::token;

/// The table of proofs that have been used.
const TABLE: &str = "dpop";

/// The table of assertions that have been used. Only who holds a key of a client that we know can add a row.
const ASSERTIONS: &str = "client_assertion";

/// What is known of an assertion that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    /// It has not come before.
    First,
    /// It has.
    Before,
    /// It is older than the memory; one that is made after so long is not.
    Unknown(Duration),
}

/// What has been used, in the store: what one instance has seen, all have.
pub(crate) struct Replays {
    store: Arc<dyn Store>,
    whole: Whole,
    written: Mutex<Written>,
}

/// How many were written in this window of time, and in the one before.
#[derive(Debug, Default)]
struct Written {
    window: u64,
    now: usize,
    before: usize,
}

impl Written {
    /// Counts one more, unless there are `limit` that may still be kept.
    fn one_more(&mut self, window: u64, limit: usize) -> bool {
        // A proof that was dated by a clock that is a little behind counts where the others do.
        if self.window < window {
            let next = window == self.window + 1;
            self.before = if next { self.now } else { 0 };
            (self.window, self.now) = (window, 0);
        }
        let room = self.now + self.before < limit;
        self.now += usize::from(room);
        room
    }
}

impl Replays {
    /// Remembers in `store`.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            whole: Whole::new(Arc::clone(&store)),
            store,
            written: Mutex::default(),
        }
    }

    /// A memory begins: proofs that were made before are not known to be new. Without it that is so when the first one comes.
    pub(crate) async fn begin(&self, now: UnixTime) {
        // A store that is away is asked again with the first proof.
        drop(self.whole.since(now).await);
    }

    /// Whether a proof comes for the first time; from now on it does not.
    pub(super) async fn first(
        &self,
        key: &Thumbprint,
        proof: &token::Proof,
        (keep, limit): (Duration, usize),
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let window = now.as_secs() / keep.as_secs().max(1);
        let counted = {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.one_more(window, limit)
        };
        if !counted {
            return Err(StoreError::Unavailable(format!(
                "{limit} proofs are remembered, which is the most"
            )));
        }
        let row = row(key, &proof.jti);
        let row = Key {
            table: TABLE,
            key: &row,
        };
        // One second more: the clocks of two instances differ.
        let until = proof.until + Duration::from_secs(1);
        let written = self
            .store
            .compare_and_swap(row, Expect::Absent, &[], until, now);
        // In this order: a memory that was lost in between is seen to be new. Both are on the way at once.
        let (new, since) = tokio::join!(biased; written, self.whole.since(now));
        // In what was emptied nothing has been used yet, and any proof of before may have been.
        Ok(new? && since? <= proof.issued)
    }

    /// What is known of an assertion of a client, which cannot have been made before `made` and is good until `until`; from
    /// now on it has come before.
    pub(crate) async fn assertion(
        &self,
        client: &str,
        jti: &str,
        (made, until): (UnixTime, UnixTime),
        now: UnixTime,
    ) -> Result<Seen, StoreError> {
        let row = assertion_row(client, jti);
        let row = Key {
            table: ASSERTIONS,
            key: &row,
        };
        let until = until + Duration::from_secs(1);
        let written = self
            .store
            .compare_and_swap(row, Expect::Absent, &[], until, now);
        // As with proofs.
        let (new, since) = tokio::join!(biased; written, self.whole.since(now));
        let (new, since) = (new?, since?);
        if !new {
            return Ok(Seen::Before);
        }
        Ok(if since <= made {
            Seen::First
        } else {
            Seen::Unknown(since.since(made))
        })
    }
}

/// Of fixed length and hashed: two assertions never share a row.
fn assertion_row(client: &str, jti: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"authferry/client-assertion/v1");
    let length = u64::try_from(client.len()).unwrap_or(u64::MAX);
    context.update(&length.to_be_bytes());
    context.update(client.as_bytes());
    context.update(jti.as_bytes());
    let mut row = [0; 32];
    row.copy_from_slice(context.finish().as_ref());
    row
}

/// Of fixed length and hashed: two proofs never share a row.
fn row(key: &Thumbprint, jti: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"authferry/dpop/v1");
    context.update(&key.0);
    context.update(jti.as_bytes());
    let mut row = [0; 32];
    row.copy_from_slice(context.finish().as_ref());
    row
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replays")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn at(seconds: u64) -> UnixTime {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn assertions_of_two_clients_never_share_a_row() {
        assert_ne!(assertion_row("ab", "c"), assertion_row("a", "bc"));
        assert_eq!(assertion_row("a", "b"), assertion_row("a", "b"));
    }

    #[tokio::test]
    async fn an_assertion_that_may_have_been_used_before_the_memory_was_lost_is_not_taken() {
        let store = Arc::new(MemoryStore::default());
        let replays = Replays::new(store.clone());
        replays.begin(at(0)).await;
        let seen = async |jti: &str, made, now| {
            let life = (at(made), at(made + 60));
            replays.assertion("c", jti, life, at(now)).await.unwrap()
        };
        assert_eq!(seen("a", 1, 2).await, Seen::First);
        assert_eq!(seen("a", 1, 3).await, Seen::Before);
        for table in ["client_assertion", "whole"] {
            let rows = store.scan(table, b"", 10, at(4)).await.unwrap();
            assert!(!rows.is_empty(), "{table}");
            for (key, _) in rows {
                store.delete(Key { table, key: &key }).await.unwrap();
            }
        }
        // It is whole again from second 5 on.
        assert_eq!(seen("a", 1, 4).await, Seen::Unknown(Duration::from_secs(4)));
        assert_eq!(seen("a", 1, 5).await, Seen::Before);
        assert_eq!(seen("b", 5, 6).await, Seen::First);
    }
}
