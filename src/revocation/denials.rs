//! Denials: whoever one provider has barred is barred at every other, for as long as it says so.
//!
//! They stand in the list of revocations, so that whatever asks it (sessions, tokens, kept verdicts, tunnels) denies them, at
//! every instance. One is taken back only by whoever has heard that the account may be used again: what nobody says any more is
//! no such word.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::revocation::index::MAX_ENTRIES;
use crate::revocation::lift::Lifted;
use crate::revocation::list::ListError;
use crate::revocation::list::Revocations;
use crate::revocation::list::TABLE;
use crate::revocation::record::Details;
use crate::revocation::record::Record;
use crate::revocation::record::RevocationId;
use crate::revocation::record::Source;
use crate::revocation::record::Target;
use crate::revocation::record::person;
use crate::store::StoreError;
use crate::telemetry::metrics::RevocationOutcome;

/// It is in force until it is taken back: for a hundred years.
const KEPT: Duration = Duration::from_secs(100 * 365 * 86_400);
/// One that was taken back is remembered for so long, so that no instance has it in force any more: seven days.
pub(super) const LIFTED: Duration = Duration::from_secs(7 * 86_400);

/// An account that its provider has barred.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Barred {
    /// Who says so.
    pub(crate) provider: ProviderId,
    /// Of whom.
    pub(crate) account: SubjectKey,
    /// Whose account it is, where that is known: nobody's otherwise but its own.
    pub(crate) person: Option<CanonicalSubject>,
    /// What the provider's directory looks them up by; `None`: it cannot be asked about them alone.
    pub(crate) key: Option<Box<str>>,
}

impl fmt::Debug for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barred")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// One that is in force.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    /// Its name in the list.
    pub(crate) id: RevocationId,
    /// What it is about; `None`: sealed under a key that is gone.
    pub(crate) barred: Option<Barred>,
}

/// As it is sealed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Said {
    provider: String,
    issuer: String,
    subject: String,
    person: Option<String>,
    key: Option<String>,
}

impl Said {
    fn of(barred: &Barred) -> Self {
        Self {
            provider: barred.provider.as_str().into(),
            issuer: barred.account.issuer.as_str().into(),
            subject: barred.account.subject.as_str().into(),
            person: barred.person.as_ref().map(|name| name.as_str().into()),
            key: barred.key.as_deref().map(Into::into),
        }
    }

    fn read(&self) -> Option<Barred> {
        let person = self.person.as_deref().map(person);
        Some(Barred {
            provider: ProviderId::new(&self.provider),
            account: SubjectKey {
                issuer: Issuer::new(&self.issuer),
                subject: Subject::try_from(self.subject.as_str()).ok()?,
            },
            person: person.transpose().ok()?,
            key: self.key.as_deref().map(Into::into),
        })
    }
}

impl Barred {
    /// The same account of the same person has one place in the list, whoever writes it and how often.
    pub(crate) fn id(&self) -> RevocationId {
        let person = self.person.as_ref().map_or("", CanonicalSubject::as_str);
        let mark = Mark::denial(&self.provider, &self.account, person);
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(mark.as_bytes()) {
            *to = *from;
        }
        RevocationId::from_bytes(id)
    }
}

impl Revocations {
    /// Denies whatever this person or account has; whether that is new. What is answered is written down and holds here;
    /// elsewhere within two seconds.
    ///
    /// # Errors
    ///
    /// With [`ListError::Store`] it may hold in this process alone, and is tried again.
    pub(crate) async fn deny(&self, barred: &Barred) -> Result<bool, ListError> {
        let (id, now) = (barred.id(), self.clock.now());
        if self.known().contains_key(&id) {
            return Ok(false);
        }
        let account = Mark::account(&barred.account);
        let person = barred.person.as_ref().map(Mark::person);
        let target = match &barred.person {
            Some(person) => Target::Subject {
                subject: person.as_str().into(),
            },
            None => Target::Account {
                issuer: barred.account.issuer.as_str().into(),
                subject: barred.account.subject.as_str().into(),
            },
        };
        let record = Record {
            id,
            at: now,
            not_before: UnixTime::NEVER,
            undated: true,
            expires: now + KEPT,
            source: Source::Denial,
            lifted: None,
            marks: std::iter::once(account).chain(person).collect(),
            details: Some(Details {
                target: Some(target),
                actor: format!("directory of {}", barred.provider),
                reason: String::from("the account may not be used there"),
                barred: Some(Said::of(barred)),
                forgets: false,
            }),
        };
        let written = self.enter(&record).await;
        let outcome = match &written {
            Ok(()) => RevocationOutcome::Recorded,
            Err(_) => RevocationOutcome::Unavailable,
        };
        self.tell(&record, Some(&barred.provider), outcome);
        written?;
        Ok(true)
    }

    /// What is denied.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn denials(&self) -> Result<Vec<Denial>, StoreError> {
        let (ring, now) = (self.sessions.ring(), self.clock.now());
        let mut denials = Vec::new();
        for (_, row) in self.store.scan(TABLE, b"", MAX_ENTRIES, now).await? {
            // What cannot be read stays in force where it is.
            let Ok(record) = Record::decode(&row.value, &ring) else {
                continue;
            };
            if record.source == Source::Denial && record.lifted.is_none() {
                let said = record.details.and_then(|details| details.barred);
                denials.push(Denial {
                    id: record.id,
                    barred: said.and_then(|said| said.read()),
                });
            }
        }
        Ok(denials)
    }

    /// A provider says that the account may be used again, or nobody asks any more.
    ///
    /// # Errors
    ///
    /// As [`Self::lift`].
    pub(crate) async fn allow_again(
        &self,
        denial: &Denial,
        why: &str,
    ) -> Result<Lifted, ListError> {
        let by = denial.barred.as_ref().map(|barred| &barred.provider);
        let actor = by.map_or_else(
            || String::from("directory"),
            |by| format!("directory of {by}"),
        );
        self.lift(denial.id, &actor, why).await
    }

    /// Whether somebody is barred: no login makes a session of theirs.
    pub(crate) fn bars(&self, identity: &Identity, person: &CanonicalSubject) -> bool {
        let marks = [Mark::account(&identity.key), Mark::person(person)];
        self.index.bars(&marks, self.clock.now())
    }

    /// The providers that have barred somebody, for an operator who asks.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn barred_by(
        &self,
        identity: &Identity,
        person: &CanonicalSubject,
    ) -> Result<Vec<ProviderId>, StoreError> {
        if !self.bars(identity, person) {
            return Ok(Vec::new());
        }
        let all = self.denials().await?.into_iter();
        let all = all.filter_map(|denial| denial.barred);
        let theirs = |barred: &Barred| {
            barred.account == identity.key || barred.person.as_ref() == Some(person)
        };
        let mut by: Vec<_> = all.filter(theirs).map(|barred| barred.provider).collect();
        by.sort_unstable();
        by.dedup();
        Ok(by)
    }
}
