//! Proofs of possession that have been used: what comes a second time is refused, also by another instance.

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

/// Proofs that have been used, in the store: what one instance has seen, all have.
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
        if self.window != window {
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
