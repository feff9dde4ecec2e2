//! What is revoked holds here before the store has said all that is meant.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::revocation::index::Entry;
use crate::revocation::index::MAX_ENTRIES;
use crate::revocation::list::Asked;
use crate::revocation::list::Revocations;
use crate::revocation::record::Reach;
use crate::revocation::record::RevocationId;
use crate::revocation::record::Source;
use crate::store::StoreError;

/// A revocation whose request broke off before it was written is in force here for no longer than a minute.
const MEANWHILE: Duration = Duration::from_mins(1);

impl Revocations {
    /// Has marks in force here alone, before it is known all that is to be, for as long as a store may take to say that.
    pub(super) fn holds_meanwhile(
        &self,
        asked: &Asked,
        marks: &[Mark],
    ) -> Result<RevocationId, StoreError> {
        self.has_room(asked.source)?;
        let now = self.clock.now();
        let (not_before, undated) = whom(asked, now);
        let entry = Entry {
            id: RevocationId::new(&*self.entropy),
            not_before,
            undated,
            expires: now + MEANWHILE,
            merges: false,
            bars: false,
        };
        // Writers of the index take turns by this.
        let turn = self.known();
        let added = self.index.add(marks, entry);
        drop(turn);
        if added.is_err() {
            let full = format!("{MAX_ENTRIES} revocations are in force");
            return Err(StoreError::Unavailable(full));
        }
        Ok(entry.id)
    }

    /// They are written down, or nobody could.
    pub(super) fn stops_meanwhile(&self, marks: &[Mark], id: RevocationId) {
        let turn = self.known();
        self.index.remove(marks, id);
        drop(turn);
    }
}

/// What a revocation denies that is made now: what began until then, and whether also what does not say when it began.
pub(super) fn whom(asked: &Asked, now: UnixTime) -> (UnixTime, bool) {
    let whole = asked.target.reach() == Reach::Whole;
    let not_before = if whole { UnixTime::NEVER } else { now };
    // A logout ends what is known to have begun before it; what does not say so is its owner's to end.
    let undated = whole || matches!(asked.source, Source::Operator | Source::Client);
    (not_before, undated)
}
