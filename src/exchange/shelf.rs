//! The signing keys of several instances: one row of their store, sealed, so that what one of them mints is checked with what any
//! of them publishes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::exchange::disk;
use crate::exchange::keys::RingError;
use crate::exchange::keys::RingKey;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;

const ROW: Key<'_> = Key {
    table: "signing_keys",
    key: b"ring",
};

/// What operators read of it.
const NAME: &str = "the signing keys in the store";

/// Who seals the row: whoever reads or writes the store can neither read a key nor put one there.
pub(crate) trait Seal: fmt::Debug + Send + Sync {
    /// Seals.
    fn seal(&self, plain: &[u8]) -> Vec<u8>;

    /// Opens; `None`: it is none of ours.
    fn open(&self, sealed: &[u8]) -> Option<Opened>;
}

/// What was sealed.
pub(crate) struct Opened {
    /// The content.
    pub(crate) plain: Vec<u8>,
    /// Whether it is to be sealed again, before the key that it is sealed under is gone.
    pub(crate) again: bool,
}

/// The row.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) store: Arc<dyn Store>,
    pub(super) seal: Arc<dyn Seal>,
}

/// What was found.
pub(super) struct Found {
    pub(super) keys: Vec<RingKey>,
    pub(super) expect: Expect,
    /// Whether it is to be written again as it is.
    pub(super) again: bool,
}

impl Shelf {
    /// The keys; `None`: nobody has put one there.
    pub(super) async fn read(&self, now: UnixTime) -> Result<Option<Found>, RingError> {
        let path = Path::new(NAME);
        let Some(row) = self.store.get(ROW, now).await? else {
            return Ok(None);
        };
        // One that does not open is not ours, and nothing takes its place: whoever can write into the store could make us
        // change our keys.
        let opened = self.seal.open(&row.value);
        let opened = opened
            .ok_or_else(|| disk::content(path, &"they were sealed under another session key"))?;
        Ok(Some(Found {
            keys: disk::read(path, &opened.plain)?,
            expect: Expect::Version(row.version),
            again: opened.again,
        }))
    }

    /// Whether they were taken; if not, somebody else was first.
    pub(super) async fn write(
        &self,
        keys: &[RingKey],
        expect: Expect,
        now: UnixTime,
    ) -> Result<bool, RingError> {
        let sealed = self.seal.seal(&disk::encoded(Path::new(NAME), keys)?);
        let never = UnixTime::NEVER;
        Ok(self
            .store
            .compare_and_swap(ROW, expect, &sealed, never, now)
            .await?)
    }
}
