//! The list of revocations: written into the store, then in force here; what others write is followed.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::links::Links;
use crate::revocation::fanout::Ended;
use crate::revocation::index::Index;
use crate::revocation::index::MAX_ENTRIES;
use crate::revocation::meanwhile::whom;
use crate::revocation::record::Details;
use crate::revocation::record::Record;
use crate::revocation::record::RevocationId;
use crate::revocation::record::Source;
use crate::revocation::record::Target;
use crate::revocation::throttle::Floods;
use crate::session::Sessions;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::metrics::RevocationOutcome;

/// Rows by name.
pub(super) const TABLE: &str = "revocation";

/// Why a revocation does not hold everywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// It names what cannot exist.
    #[error("{0}")]
    Target(String),
    /// There is no such revocation.
    #[error("there is no revocation of this name")]
    Unknown,
    /// It ended something that does not come back.
    #[error("what a logout ended does not come back; who signs in again is in again")]
    Final,
    /// The store did not confirm it: it holds in this process alone, and is written when the store is back.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What somebody wants revoked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// What.
    pub(crate) target: Target,
    /// Why.
    pub(crate) source: Source,
    /// Who asks.
    pub(crate) actor: String,
    /// What they say.
    pub(crate) reason: String,
    /// For how long it is kept; at least as long as what it speaks about may live, except for a client's own token.
    pub(crate) keep: Option<Duration>,
    /// Whose business it is, for the counters.
    pub(crate) provider: Option<ProviderId>,
}

/// Forgets a person, here.
pub(crate) type Forgotten = Box<dyn Fn(&CanonicalSubject) + Send + Sync>;

/// All revocations. Lives as long as the process.
pub(crate) struct Revocations {
    pub(super) index: Arc<Index>,
    pub(super) store: Arc<dyn Store>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) decisions: DecisionLog,
    pub(super) pseudonyms: Pseudonyms,
    pub(super) links: Arc<Links>,
    /// Who tells providers what is over.
    pub(super) ended: OnceLock<mpsc::Sender<Ended>>,
    /// Who keeps something of people in mind.
    pub(super) forgotten: OnceLock<Forgotten>,
    floods: Floods,
    /// Every one that is in force here, by name. Its lock also makes writers of the index take turns; no request takes it.
    known: Mutex<HashMap<RevocationId, Known>>,
    /// The longest life of anything that can be revoked, in milliseconds; it never shrinks while the process lives, because
    /// what was made under longer settings keeps its end.
    keep: AtomicU64,
}

pub(super) struct Known {
    pub(super) expires: UnixTime,
    /// Its row, as long as the store is not known to have it, and where others could lose it.
    pub(super) row: Option<Vec<u8>>,
    pub(super) written: bool,
}

/// What a list is made of.
pub(crate) struct Parts {
    /// Where it is kept.
    pub(crate) store: Arc<dyn Store>,
    /// Who is one person across providers.
    pub(crate) links: Arc<Links>,
    /// Whose key ring seals what was said.
    pub(crate) sessions: Arc<Sessions>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where names come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Where revocations are told.
    pub(crate) decisions: DecisionLog,
    /// Who hides the names.
    pub(crate) pseudonyms: Pseudonyms,
    /// The longest life of a session or a token.
    pub(crate) keep: Duration,
}

impl Revocations {
    /// A list of which nothing is known yet: see [`Self::load`].
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let list = Self {
            index: Arc::new(Index::new()),
            store: parts.store,
            sessions: parts.sessions,
            clock: parts.clock,
            entropy: parts.entropy,
            metrics: parts.metrics,
            decisions: parts.decisions,
            pseudonyms: parts.pseudonyms,
            links: parts.links,
            ended: OnceLock::new(),
            forgotten: OnceLock::new(),
            floods: Floods::new(),
            known: Mutex::default(),
            keep: AtomicU64::new(0),
        };
        list.keep_at_least(parts.keep);
        Arc::new(list)
    }

    /// What requests look at.
    pub(crate) const fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Who sends what is no good.
    pub(crate) const fn floods(&self) -> &Floods {
        &self.floods
    }

    /// Whether what is acknowledged survives this process.
    pub(crate) fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    /// Whether everything of a provider was revoked since then: a login that had been begun is void.
    pub(crate) fn voids(&self, provider: &ProviderId, begun: UnixTime) -> bool {
        let now = self.clock.now();
        self.index
            .denies(&[Mark::provider(provider)], Some(begun), now)
    }

    /// Sessions or tokens may now live for so long: revocations are kept as long.
    pub(crate) fn keep_at_least(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.keep.fetch_max(millis, Ordering::AcqRel);
    }

    pub(super) fn kept_for(&self) -> Duration {
        Duration::from_millis(self.keep.load(Ordering::Acquire))
    }

    /// Revokes. What is answered is written down and holds here; elsewhere within two seconds.
    ///
    /// # Errors
    ///
    /// With [`ListError::Store`] it holds in this process and is tried again, but must not be acknowledged.
    pub(crate) async fn revoke(&self, asked: Asked) -> Result<Record, ListError> {
        let own = asked.target.ends().map_err(ListError::Target)?;
        // Whoever it names is out here now, however long the store takes to say what they came from.
        let meanwhile = self.holds_meanwhile(&asked, &own)?;
        let before = self.given_for(&asked.target).await;
        let marks = own.iter().chain(before.iter().flatten()).copied();
        let record = self.revoke_marks(asked, marks.collect()).await;
        self.stops_meanwhile(&own, meanwhile);
        // It holds, but perhaps not for all of it.
        record.and_then(|record| before.map(|_| record).map_err(ListError::Store))
    }

    /// As [`Self::revoke`], for who ends the sessions and tells the providers themselves. What was given for the word of a
    /// provider stays: an old side that is closed takes nobody along who has moved.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn revoke_only(&self, asked: Asked) -> Result<Record, ListError> {
        let marks = vec![asked.target.mark().map_err(ListError::Target)?];
        let (record, written) = self.write_down(asked, marks, false).await;
        written?;
        Ok(record)
    }

    /// As [`Self::revoke`], with what the target means said already.
    ///
    /// # Errors
    ///
    /// As there.
    pub(super) async fn revoke_marks(
        &self,
        asked: Asked,
        marks: Vec<Mark>,
    ) -> Result<Record, ListError> {
        let (record, written) = self.write_down(asked, marks, false).await;
        // What is in force is followed, also where the store is yet to take it.
        if self.known().contains_key(&record.id) {
            self.hand_on(&record);
        }
        written?;
        Ok(record)
    }

    /// As [`Self::revoke_only`], of a person who is forgotten: every instance that learns of it keeps nothing of them in mind.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn forgets(&self, asked: Asked) -> Result<Record, ListError> {
        let marks = vec![asked.target.mark().map_err(ListError::Target)?];
        let (record, written) = self.write_down(asked, marks, true).await;
        written?;
        Ok(record)
    }

    /// What is done when somebody is forgotten at another instance.
    pub(crate) fn when_forgotten(&self, forgotten: Forgotten) {
        drop(self.forgotten.set(forgotten));
    }

    async fn write_down(
        &self,
        asked: Asked,
        marks: Vec<Mark>,
        forgets: bool,
    ) -> (Record, Result<(), StoreError>) {
        let now = self.clock.now();
        let keep = self.span(&asked);
        let (not_before, undated) = whom(&asked, now);
        let (source, provider) = (asked.source, asked.provider);
        let record = Record {
            id: RevocationId::new(&*self.entropy),
            at: now,
            not_before,
            undated,
            expires: now + keep,
            source,
            lifted: None,
            marks,
            details: Some(Details {
                target: Some(asked.target),
                actor: asked.actor,
                reason: asked.reason,
                barred: None,
                forgets,
            }),
        };
        let written = self.enter(&record).await;
        let outcome = match &written {
            Ok(()) => RevocationOutcome::Recorded,
            Err(_) => RevocationOutcome::Unavailable,
        };
        self.tell(&record, provider.as_ref(), outcome);
        (record, written)
    }

    /// Writes a record, and has it in force here whatever comes of that, if there is room.
    pub(super) async fn enter(&self, record: &Record) -> Result<(), StoreError> {
        self.has_room(record.source)?;
        let row = record.encode(&self.sessions.ring(), &*self.entropy)?;
        let written = self.write(record.id, &row, record.expires).await;
        self.take_in(record, Some(row), written.is_ok())?;
        written
    }

    /// A record is in force here from now on.
    pub(super) fn take_in(
        &self,
        record: &Record,
        row: Option<Vec<u8>>,
        written: bool,
    ) -> Result<(), StoreError> {
        let full = || StoreError::Unavailable(format!("{MAX_ENTRIES} revocations are in force"));
        let mut known = self.known();
        if known.contains_key(&record.id) {
            return Ok(());
        }
        if MAX_ENTRIES <= known.len() {
            return Err(full());
        }
        if self.index.add(&record.marks, record.entry()).is_err() {
            return Err(full());
        }
        let keep_row = !written || self.store.is_shared();
        known.insert(
            record.id,
            Known {
                expires: record.expires,
                row: row.filter(|_| keep_row),
                written,
            },
        );
        Ok(())
    }

    pub(super) async fn write(
        &self,
        id: RevocationId,
        row: &[u8],
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        self.store.put(place(&id), row, expires).await
    }

    /// A record is no longer in force here.
    pub(super) fn drop_out(&self, record: &Record) {
        let mut known = self.known();
        known.remove(&record.id);
        self.index.remove(&record.marks, record.id);
    }

    /// What operators see: revocations in force or lifted that have not expired, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn list(&self, limit: usize) -> Result<Vec<Record>, StoreError> {
        let ring = self.sessions.ring();
        let now = self.clock.now();
        let rows = self.store.scan(TABLE, b"", MAX_ENTRIES, now).await?;
        let records = rows
            .iter()
            .map(|(_, row)| Record::decode(&row.value, &ring));
        let mut records: Vec<_> = records.collect::<Result<_, _>>()?;
        records.sort_by_key(|record| Reverse(record.at));
        records.truncate(limit);
        Ok(records)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, HashMap<RevocationId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) const fn place(id: &RevocationId) -> Key<'_> {
    Key {
        table: TABLE,
        key: id.as_bytes(),
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
