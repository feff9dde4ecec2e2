//! A revocation as counters and the decision log tell of it.

use crate::identity::ProviderId;
use crate::revocation::list::Revocations;
use crate::revocation::record::Record;
use crate::revocation::record::Target;
use crate::telemetry::Decision;
use crate::telemetry::DecisionRecord;
use crate::telemetry::metrics::RevocationOutcome;

impl Revocations {
    pub(super) fn tell(
        &self,
        record: &Record,
        provider: Option<&ProviderId>,
        outcome: RevocationOutcome,
    ) {
        let details = record.details.as_ref();
        let target = details.and_then(|details| details.target.as_ref());
        self.metrics.revoked(record.source, provider, outcome);
        self.decisions.write(&DecisionRecord {
            at: record.at,
            request_id: None,
            trace: None,
            app: None,
            subject: self.subject(record),
            client: None,
            took: None,
            revision: "",
            decision: Decision::Revoked {
                id: &record.id.to_string(),
                source: record.source,
                target: target.map_or("person", Target::kind),
                outcome,
                actor: details.map_or("", |details| &details.actor),
                reason: details.map_or("", |details| &details.reason),
            },
        });
    }

    pub(super) fn subject(&self, record: &Record) -> Option<crate::telemetry::Pseudonym> {
        let target = record.details.as_ref()?.target.as_ref()?;
        target.person().map(|person| self.pseudonyms.of(&person))
    }
}
