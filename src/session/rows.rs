//! The row of a session: two sealed parts. The body needs the cookie and a key of the process; the handle, by which a
//! session is found and ended without its cookie, needs a key of the process. Neither says anything without them.

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::secret::Secret;
use crate::session::body::Body;
use crate::session::handle::Handle;
use crate::session::live::Live;
use crate::session::seal::KeyRing;
use crate::session::seal::Purpose;
use crate::session::seal::SealedUnder;
use crate::session::sessions::Active;
use crate::session::sessions::Sessions;
use crate::session::sessions::TABLE;
use crate::session::tight::Reader;
use crate::session::tight::Writer;
use crate::store::Expect;
use crate::store::Key;
use crate::store::NewRow;
use crate::store::StoreError;
use tracing::debug;

/// The layout of a row: this byte, the length of the handle (as long as it takes), the handle, the body. Of a session that is
/// over there is no body.
const LAYOUT: u8 = 3;

/// A row that was opened.
pub(super) struct Opened {
    pub(super) body: Body,
    pub(super) handle: Handle,
    pub(super) under: SealedUnder,
    /// For a compare-and-swap.
    pub(super) version: u64,
    /// How many changes of it had been told before it was read.
    pub(super) told: u64,
    /// How often changes had been missed before.
    pub(super) missed: u64,
    /// It hears what is told from then on.
    pub(super) heard_by: Arc<Live>,
}

/// The key of a row.
pub(super) const fn key(row: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: row,
    }
}

fn parts(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = Reader::new(value);
    if from.byte()? != LAYOUT {
        return None;
    }
    let length = usize::try_from(from.number()?).ok()?;
    from.rest().split_at_checked(length)
}

/// What a session is found and ended by.
pub(super) fn open_handle(ring: &KeyRing, row: &[u8; 32], value: &[u8]) -> Option<Handle> {
    let (handle, _) = parts(value)?;
    let opened = ring.open(Purpose::SessionHandle, b"", &[row], handle)?;
    Handle::read(&Secret::new(opened.plain).expose()[..])
}

/// All of it; `None`: it is over, or has rested for too long, or was sealed under a key that is gone, or it is not ours.
fn open(
    ring: &KeyRing,
    bytes: &[u8; 32],
    row: &[u8; 32],
    (value, now): (&[u8], UnixTime),
) -> Option<(Body, Handle, SealedUnder)> {
    let handle = open_handle(ring, row, value)?;
    if !handle.runs(now) {
        return None;
    }
    let (_, body) = parts(value)?;
    let opened = ring.open(Purpose::SessionRow, bytes, &[row], body)?;
    let body = Body::read(&Secret::new(opened.plain).expose()[..], handle.made)?;
    Some((body, handle, opened.under))
}

impl Sessions {
    pub(super) fn seal(
        &self,
        ring: &KeyRing,
        bytes: &[u8; 32],
        row: &[u8; 32],
        (body, handle): (&Body, &Handle),
    ) -> Result<Vec<u8>, StoreError> {
        let failed = |error| StoreError::Damaged(format!("a session cannot be written: {error}"));
        let body = Secret::new(body.written(handle.made).map_err(failed)?);
        let body = ring.seal(
            Purpose::SessionRow,
            bytes,
            &[row],
            body.expose(),
            &*self.entropy,
        );
        let mut sealed = self.seal_handle(ring, row, handle)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// The row of a session that is over; the beginning of any other.
    pub(super) fn seal_handle(
        &self,
        ring: &KeyRing,
        row: &[u8; 32],
        handle: &Handle,
    ) -> Result<Vec<u8>, StoreError> {
        let handle = Secret::new(handle.written());
        let handle = ring.seal(
            Purpose::SessionHandle,
            b"",
            &[row],
            handle.expose(),
            &*self.entropy,
        );
        let long = |_| StoreError::Damaged(String::from("what a session is found by is too long"));
        let mut to = Writer::default();
        to.byte(LAYOUT);
        to.number(u64::try_from(handle.len()).map_err(long)?);
        to.bytes(&handle);
        Ok(to.done())
    }

    /// The row, opened; `None`: there is none, or it was sealed under a key that is gone, or it is not ours.
    pub(super) async fn read(
        &self,
        active: &Active,
        bytes: &[u8; 32],
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Opened>, StoreError> {
        let live = self.registry.entry(row);
        let (told, missed) = (live.told(), self.registry.missed());
        let Some(found) = self.store.get(key(row), now).await? else {
            return Ok(None);
        };
        let opened = open(&active.ring, bytes, row, (&found.value, now));
        Ok(opened.map(|(body, handle, under)| Opened {
            body,
            handle,
            under,
            version: found.version,
            told,
            missed,
            heard_by: live,
        }))
    }

    /// Writes a row that is not there yet.
    pub(super) async fn write_new(
        &self,
        active: &Active,
        (bytes, row): (&[u8; 32], &[u8; 32]),
        (body, handle): (&Body, &Handle),
    ) -> Result<(), StoreError> {
        let sealed = self.seal(&active.ring, bytes, row, (body, handle))?;
        let new = NewRow {
            key: key(row),
            value: &sealed,
            entries: &handle.entries(&active.ring),
            expires: UnixTime::from_millis(handle.ends),
        };
        self.store.write(new, None).await.map(drop)
    }

    /// Writes a row again that was read as `opened`; `false`: somebody else wrote it meanwhile.
    pub(super) async fn write_again(
        &self,
        active: &Active,
        bytes: &[u8; 32],
        row: &[u8; 32],
        opened: &Opened,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let handle = Handle {
            idle: active.idle.as_secs(),
            ..opened.handle.clone()
        };
        let sealed = self.seal(&active.ring, bytes, row, (&opened.body, &handle))?;
        let written = NewRow {
            key: key(row),
            value: &sealed,
            // Under the key that seals now: by what it is found moves with the row.
            entries: &handle.entries(&active.ring),
            expires: UnixTime::from_millis(handle.ends),
        };
        let expect = Expect::Version(opened.version);
        self.store.write(written, Some((expect, now))).await
    }

    /// Writes the last use of a session into its row, under the key that seals now. Never brings back a row that is gone.
    pub(super) async fn touch(&self, live: &Live) -> Result<(), StoreError> {
        let active = self.active.load_full();
        let Some(content) = live.content() else {
            return Ok(());
        };
        let seen = live.seen();
        let (bytes, row) = (content.id.expose(), &live.row);
        let Some(mut opened) = self.read(&active, bytes, row, seen).await? else {
            live.has_gone();
            return Ok(());
        };
        opened.handle.seen = opened.handle.seen.max(seen.as_millis());
        let swapped = self.write_again(&active, bytes, row, &opened, seen).await?;
        if !swapped {
            debug!("A session row changed while its use was written; the next use writes it.");
        }
        Ok(())
    }
}
