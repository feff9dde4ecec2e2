//! Taking a revocation back.

use crate::revocation::denials::LIFTED;
use crate::revocation::list::ListError;
use crate::revocation::list::Revocations;
use crate::revocation::list::place;
use crate::revocation::record::Record;
use crate::revocation::record::RevocationId;
use crate::revocation::record::Source;
use crate::telemetry::Decision;
use crate::telemetry::DecisionRecord;

/// What was lifted.
#[derive(Clone, Debug)]
pub(crate) struct Lifted {
    /// As it is now.
    pub(crate) record: Record,
    /// Whether it had been lifted before.
    pub(crate) before: bool,
}

impl Revocations {
    /// Takes a revocation back: what it denied counts again, unless it has ended otherwise.
    ///
    /// # Errors
    ///
    /// When there is none of this name, it cannot be lifted, or the store did not confirm.
    pub(crate) async fn lift(
        &self,
        id: RevocationId,
        actor: &str,
        reason: &str,
    ) -> Result<Lifted, ListError> {
        let now = self.clock.now();
        let found = self.store.get(place(&id), now).await?;
        let found = found.ok_or(ListError::Unknown)?;
        let mut record = Record::decode(&found.value, &self.sessions.ring())?;
        if !record.can_be_lifted() {
            return Err(ListError::Final);
        }
        let before = record.lifted.is_some();
        record.lifted.get_or_insert(now);
        if record.source == Source::Denial {
            record.expires = record.expires.min(now + LIFTED);
        }
        let row = record.encode(&self.sessions.ring(), &*self.entropy)?;
        self.write(id, &row, record.expires).await?;
        self.drop_out(&record);
        self.decisions.write(&DecisionRecord {
            at: now,
            request_id: None,
            trace: None,
            app: None,
            subject: self.subject(&record),
            client: None,
            took: None,
            revision: "",
            decision: Decision::Lifted {
                id: &id.to_string(),
                actor,
                reason,
            },
        });
        Ok(Lifted { record, before })
    }
}
