//! Learning what others have revoked: at the start all of it, then what is new, and now and then all of it again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;
use tracing::warn;

use crate::revocation::index::MAX_ENTRIES;
use crate::revocation::list::Revocations;
use crate::revocation::list::TABLE;
use crate::revocation::record::Record;
use crate::revocation::record::RevocationId;
use crate::revocation::record::Target;
use crate::store::Event;
use crate::store::Key;
use crate::store::StoreError;

/// What the store did not take or did not tell is tried again this often.
const AGAIN: Duration = Duration::from_millis(500);
/// How often everything is read again, and what is over forgotten.
const ALL: Duration = Duration::from_secs(60);

/// What there is to do.
enum Due {
    Everything,
    Row(Box<[u8]>),
    Nothing,
}

impl Revocations {
    /// Reads what the store holds. Until this has succeeded once, nothing may be said to hold.
    ///
    /// # Errors
    ///
    /// When the store gives no answer, or holds what cannot be read: what was revoked is then unknown.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let rows = self.store.scan(TABLE, b"", MAX_ENTRIES, now).await?;
        let mut there = HashSet::with_capacity(rows.len());
        let mut damage = None;
        // What cannot be read keeps nothing of the rest out.
        for (_, row) in rows {
            match self.read_in(row.value) {
                Ok(id) => drop(there.insert(id)),
                Err(error) => damage = Some(error),
            }
        }
        match damage {
            Some(error) if !self.index.is_ready() => return Err(error),
            Some(error) => warn!(%error, "A revocation of another instance is not in force here."),
            None => {}
        }
        self.index.set_ready();
        self.write_again(Some(&there)).await
    }

    /// Keeps the list current, for as long as somebody else holds it.
    pub(crate) fn follow(self: &Arc<Self>, background: &tokio::runtime::Handle) {
        background.spawn(follow(Arc::downgrade(self)));
    }

    fn read_in(&self, row: Vec<u8>) -> Result<RevocationId, StoreError> {
        let record = Record::decode(&row, &self.sessions.ring())?;
        let (id, now) = (record.id, self.clock.now());
        let known = self.known().contains_key(&id);
        match (record.lifted, known) {
            (Some(_), true) => self.drop_out(&record),
            (None, false) if now < record.expires => {
                self.take_in(&record, Some(row), true)?;
                self.is_forgotten(&record);
                if self.index.is_ready() {
                    self.metrics.revocation_lag(None, now.since(record.at));
                }
            }
            (Some(_), false) | (None, _) => {}
        }
        Ok(id)
    }

    /// Keeps nothing in mind of somebody whom another instance has forgotten.
    fn is_forgotten(&self, record: &Record) {
        let details = record.details.as_ref().filter(|details| details.forgets);
        let target = details.and_then(|details| details.target.as_ref());
        if let (Some(person), Some(forgotten)) =
            (target.and_then(Target::person), self.forgotten.get())
        {
            forgotten(&person);
        }
    }

    async fn look_at(&self, key: &[u8]) -> Result<(), StoreError> {
        let place = Key { table: TABLE, key };
        match self.store.get(place, self.clock.now()).await? {
            Some(row) => self.read_in(row.value).map(drop),
            // Rows are never removed before they expire.
            None => Ok(()),
        }
    }

    /// Writes what the store did not take, and what it has lost: a revocation that was acknowledged holds.
    async fn write_again(&self, there: Option<&HashSet<RevocationId>>) -> Result<(), StoreError> {
        let lost = |id| there.is_some_and(|there| !there.contains(id));
        let missing: Vec<_> = self
            .known()
            .iter()
            .filter(|(id, known)| !known.written || lost(id))
            .filter_map(|(id, known)| Some((*id, known.row.clone()?, known.expires)))
            .collect();
        for (id, row, expires) in missing {
            self.write(id, &row, expires).await?;
            self.is_written(id);
        }
        Ok(())
    }

    /// The store has the row now.
    pub(super) fn is_written(&self, id: RevocationId) {
        if let Some(known) = self.known().get_mut(&id) {
            known.written = true;
            if !self.store.is_shared() {
                known.row = None;
            }
        }
    }

    fn has_unwritten(&self) -> bool {
        self.known().values().any(|known| !known.written)
    }

    fn forget_what_is_over(&self) {
        let now = self.clock.now();
        self.known().retain(|_, known| now < known.expires);
        self.index.sweep(now);
    }
}

async fn follow(list: Weak<Revocations>) {
    let Some(store) = list.upgrade().map(|list| Arc::clone(&list.store)) else {
        return;
    };
    let mut news = store.watch(TABLE);
    let mut due = Due::Everything;
    let mut swept = Instant::now();
    let mut away = false;
    loop {
        let Some(current) = list.upgrade() else {
            return;
        };
        if ALL <= swept.elapsed() {
            swept = Instant::now();
            current.forget_what_is_over();
            if store.is_shared() {
                due = Due::Everything;
            }
        }
        let looked = match &due {
            Due::Everything => current.load().await,
            Due::Row(key) => current.look_at(key).await,
            Due::Nothing if current.has_unwritten() => current.write_again(None).await,
            Due::Nothing => Ok(()),
        };
        let failed = looked.is_err();
        if let Err(error) = looked
            && !away
        {
            warn!(%error, "What others have revoked is not known at the moment.");
        }
        away = failed;
        drop(current);
        due = match timeout(AGAIN, news.next()).await {
            // What failed is tried again as a whole.
            Err(_) if failed => Due::Everything,
            Err(_) => Due::Nothing,
            Ok(Some(Event::Changed(key))) if !failed => Due::Row(key),
            Ok(Some(Event::Changed(_) | Event::Missed)) => Due::Everything,
            Ok(None) => return,
        };
    }
}
