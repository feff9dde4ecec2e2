//! One token that its client gives back, as often as it asks: one record, kept until the token ends by itself. And the room
//! that is left to operators, whatever clients and logouts fill.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::revocation::index::MAX_ENTRIES;
use crate::revocation::list::Asked;
use crate::revocation::list::ListError;
use crate::revocation::list::Revocations;
use crate::revocation::record::Source;
use crate::revocation::record::Target;
use crate::store::StoreError;

/// A tenth of the list is the operators' alone.
pub(super) const FOR_OPERATORS: usize = MAX_ENTRIES / 10;

impl Revocations {
    /// As [`Self::revoke`], of one token, which ends by itself at `ends`. What is written down already is not written again.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn revoke_once(&self, asked: Asked, ends: UnixTime) -> Result<(), ListError> {
        let mark = asked.target.mark().map_err(ListError::Target)?;
        let now = self.clock.now();
        let (keep, until) = if ends == UnixTime::NEVER {
            (None, now + self.kept_for() / 2)
        } else {
            (Some(ends.since(now)), ends)
        };
        for id in self.index.ending(&mark, until) {
            let known = self.known().get(&id).map(|known| {
                let row = known.row.clone().filter(|_| !known.written);
                (known.written, row, known.expires)
            });
            match known {
                Some((true, _, _)) => return Ok(()),
                Some((false, Some(row), expires)) => {
                    self.write(id, &row, expires).await?;
                    self.is_written(id);
                    return Ok(());
                }
                Some((false, None, _)) | None => {}
            }
        }
        self.revoke(Asked { keep, ..asked }).await.map(drop)
    }

    /// For how long a record of this is kept: a token that a client gave back ends by itself at a time that is known.
    pub(super) fn span(&self, asked: &Asked) -> Duration {
        let own = match &asked.target {
            Target::Token { .. } | Target::TokenDigest { .. } => asked.source == Source::Client,
            // Of ours nobody says how long; that of an old system ends there.
            Target::Session { .. } => asked.source == Source::Logout,
            Target::Subject { .. }
            | Target::Account { .. }
            | Target::ProviderSession { .. }
            | Target::Client { .. }
            | Target::Provider { .. }
            | Target::Key { .. } => false,
        };
        match asked.keep {
            Some(keep) if own => keep,
            keep => keep.unwrap_or_default().max(self.kept_for()),
        }
    }

    /// Whether there is room for one more of this source.
    pub(super) fn has_room(&self, source: Source) -> Result<(), StoreError> {
        let most = if source == Source::Operator {
            MAX_ENTRIES
        } else if source == Source::Denial {
            // Sign-outs hold however many are barred.
            MAX_ENTRIES / 2
        } else {
            MAX_ENTRIES - FOR_OPERATORS
        };
        let (records, entries) = (self.known().len(), self.index.len());
        if records.max(entries) < most {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!(
            "{records} revocations are in force"
        )))
    }
}
