//! What a revocation does about sessions that nobody here can read: it ends those that are found by what it names. Of a client, a
//! provider or a key nobody knows which they are; it counts for them wherever they can be read.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::revocation::list::Revocations;
use crate::revocation::record::Target;
use crate::revocation::record::from_hex;
use crate::store::StoreError;

/// For so long after a revocation nobody is taken for somebody who has signed in again: 5 s.
const LATE: Duration = Duration::from_secs(5);

/// How many are counted: 200 000.
const COUNTED: usize = 200_000;

impl Revocations {
    /// How many sessions that nobody here can read a revocation would end, or, where it is of a client, a provider or a key, may
    /// be meant by it.
    ///
    /// # Errors
    ///
    /// When the store gives no answer, or the target cannot exist.
    pub(crate) async fn unread_of(&self, target: &Target) -> Result<usize, StoreError> {
        let (now, sessions) = (self.clock.now(), &self.sessions);
        let mark = target.mark().map_err(StoreError::Damaged)?;
        match target {
            Target::Subject { .. } | Target::Account { .. } | Target::ProviderSession { .. } => {
                Ok(sessions.unread_by(mark, false, now).await?.len())
            }
            Target::Session { session } => match from_hex(session) {
                Some(row) => Ok(usize::from(sessions.is_unread(&row, now).await?)),
                None => Ok(0),
            },
            Target::Client { .. } | Target::Provider { .. } | Target::Key { .. } => {
                sessions.unread(COUNTED, now).await
            }
            Target::Token { .. } | Target::TokenDigest { .. } => Ok(0),
        }
    }

    /// Ends what nobody here can read of the people, accounts and sessions at issuers that were revoked, and of one session of
    /// ours. When they began nobody here can say: of a revocation that was made a while ago, and of what is older than it alone,
    /// they are left to whoever can read them, who is told by the list. Somebody may have signed in again since.
    pub(super) async fn end_unread(
        &self,
        marks: &[Mark],
        row: Option<[u8; 32]>,
        not_before: UnixTime,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let late = not_before != UnixTime::NEVER && LATE < now.since(not_before);
        let marks: &[Mark] = if late { &[] } else { marks };
        let mut rows: BTreeSet<[u8; 32]> = row.into_iter().collect();
        for mark in marks {
            rows.extend(self.sessions.unread_by(*mark, false, now).await?);
        }
        let mut ended = 0;
        for row in &rows {
            ended += usize::from(self.sessions.end_unread(row, now).await?);
        }
        if 0 < ended {
            warn!(
                sessions = ended,
                "A revocation has ended sessions that nobody here can read; their providers are not told."
            );
        }
        Ok(())
    }

    /// Erases what nobody here can read of a person; how many rows.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn erase_unread(&self, person: Mark) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let rows = self.sessions.unread_by(person, true, now).await?;
        for row in &rows {
            self.sessions.erase(row).await?;
        }
        Ok(rows.len())
    }
}
