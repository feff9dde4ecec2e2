//! Proofs of possession and assertions of clients that have been used: what comes a second time is refused, also by another instance.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::clock::UnixTime;
use crate::identity::Mark;
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
    now: Count,
    before: Count,
}

/// How many were written, in all and by whom.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    of: HashMap<Mark, usize>,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Full {
    /// For nobody.
    All,
    /// For whoever has as many as are left for all others.
    Own,
}

impl Written {
    /// Counts one more of `whose`, unless there are `limit` that may still be kept, or no more room is left than they have
    /// themselves: whoever makes many proofs shuts out nobody else.
    fn one_more(&mut self, whose: Mark, window: u64, limit: usize) -> Result<(), Full> {
        // A proof that was dated by a clock that is a little behind counts where the others do.
        if self.window < window {
            let next = window == self.window + 1;
            let last = std::mem::take(&mut self.now);
            self.before = if next { last } else { Count::default() };
            self.window = window;
        }
        let left = limit.saturating_sub(self.now.all + self.before.all);
        if left == 0 {
            return Err(Full::All);
        }
        let own = self.now.of.entry(whose).or_default();
        let before = self.before.of.get(&whose).copied().unwrap_or_default();
        if left <= *own + before {
            return Err(Full::Own);
        }
        *own += 1;
        self.now.all += 1;
        Ok(())
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

    /// Whether a proof of `whose` comes for the first time; from now on it does not.
    pub(super) async fn first(
        &self,
        whose: Mark,
        (key, proof): (&Thumbprint, &token::Proof),
        (keep, limit): (Duration, usize),
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let window = now.as_secs() / keep.as_secs().max(1);
        let counted = {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.one_more(whose, window, limit)
        };
        match counted {
            Ok(()) => {}
            Err(Full::All) => {
                let words = format!("{limit} proofs are remembered, which is the most");
                return Err(StoreError::Unavailable(words));
            }
            Err(Full::Own) => {
                let words =
                    "one account or client has used as many proofs as are left for all others";
                return Err(StoreError::Unavailable(words.to_owned()));
            }
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
    fn whoever_makes_many_proofs_leaves_as_many_to_others() {
        let (one, two, three) = (
            Mark::sid("i", "1"),
            Mark::sid("i", "2"),
            Mark::sid("i", "3"),
        );
        let mut written = Written::default();
        let taken = |written: &mut Written, whose, window| {
            let mut all = 0;
            loop {
                match written.one_more(whose, window, 100) {
                    Ok(()) => all += 1,
                    Err(full) => return (all, full),
                }
            }
        };
        assert_eq!(taken(&mut written, one, 7), (50, Full::Own));
        assert_eq!(taken(&mut written, two, 7), (25, Full::Own));
        // What is kept of the window before counts, for all and for each.
        assert_eq!(taken(&mut written, one, 8), (0, Full::Own));
        assert_eq!(taken(&mut written, three, 8), (13, Full::Own));
        // Of the one before that nothing is left.
        assert_eq!(taken(&mut written, one, 9), (44, Full::Own));
        assert_eq!(taken(&mut written, one, 11), (50, Full::Own));
        for n in 0..50 {
            let other = Mark::sid("j", &n.to_string());
            assert_eq!(written.one_more(other, 11, 100), Ok(()));
        }
        assert_eq!(taken(&mut written, three, 11), (0, Full::All));
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
