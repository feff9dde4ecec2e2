//! The row of a session: two sealed parts. The body needs the cookie and a key of the process; the handle, by which a
//! session is found and ended without its cookie, needs a key of the process. Neither says anything without them.

use std::sync::Arc;
use std::sync::Weak;

use async_trait::async_trait;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::secret::Secret;
use crate::session::body::Body;
use crate::session::body::Handle;
use crate::session::live::Live;
use crate::session::seal::KeyRing;
use crate::session::seal::Purpose;
use crate::session::seal::SealedUnder;
use crate::session::sessions::Active;
use crate::session::sessions::SLACK;
use crate::session::sessions::Sessions;
use crate::session::sessions::TABLE;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;
use tracing::debug;

/// The layout of a row: this byte, the length of the handle (4 bytes, big-endian), the handle, the body.
const LAYOUT: u8 = 2;

/// What else is kept of a session, sealed under the same keys: it moves to a new one with the row.
#[async_trait]
pub(crate) trait MovesAlong: Send + Sync {
    /// Seals what is kept of a session of `person` under the key that seals now.
    ///
    /// # Errors
    ///
    /// When the store did not take it: the row stays where it is until it has.
    async fn move_along(
        &self,
        person: &CanonicalSubject,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<(), StoreError>;
}

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
    _heard_by: Arc<Live>,
}

/// The key of a row.
pub(super) const fn key(row: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: row,
    }
}

fn parts(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (layout, rest) = value.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (*layout == LAYOUT).then(|| rest.split_at_checked(length))?
}

/// What a session can be ended by.
pub(super) fn open_handle(ring: &KeyRing, row: &[u8; 32], value: &[u8]) -> Option<Handle> {
    let (handle, _) = parts(value)?;
    let opened = ring.open(Purpose::SessionHandle, b"", &[row], handle)?;
    serde_json::from_slice(&Secret::new(opened.plain).expose()[..]).ok()
}

impl Sessions {
    /// From now on, this moves along with rows: the first word counts.
    pub(crate) fn takes_along(&self, along: Weak<dyn MovesAlong>) {
        drop(self.along.set(along));
    }

    pub(super) fn seal(
        &self,
        ring: &KeyRing,
        bytes: &[u8; 32],
        row: &[u8; 32],
        (body, handle): (&Body, &Handle),
    ) -> Result<Vec<u8>, StoreError> {
        let (body, handle) = (written(body)?, written(handle)?);
        let entropy = &*self.entropy;
        let handle = ring.seal(
            Purpose::SessionHandle,
            b"",
            &[row],
            handle.expose(),
            entropy,
        );
        let body = ring.seal(Purpose::SessionRow, bytes, &[row], body.expose(), entropy);
        let length = u32::try_from(handle.len()).unwrap_or(u32::MAX);
        Ok([&[LAYOUT][..], &length.to_be_bytes(), &handle, &body].concat())
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
        let found = self.store.get(key(row), now).await?;
        Ok(found.and_then(|found| {
            let handle = open_handle(&active.ring, row, &found.value)?;
            let (_, body) = parts(&found.value)?;
            let opened = active.ring.open(Purpose::SessionRow, bytes, &[row], body)?;
            let body = serde_json::from_slice(&Secret::new(opened.plain).expose()[..]).ok()?;
            Some(Opened {
                body,
                handle,
                under: opened.under,
                version: found.version,
                told,
                missed,
                _heard_by: live,
            })
        }))
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
        let (body, handle) = (&opened.body, &opened.handle);
        match opened.under {
            SealedUnder::CurrentKey => {}
            // By what it is found moves to the new key before the row does: whoever may end it still finds it.
            SealedUnder::OlderKey => {
                let ends = UnixTime::from_millis(body.ends);
                self.write_entry(active, handle, row, ends).await?;
                if let Some(along) = self.along.get().and_then(Weak::upgrade)
                    && let Some(person) = body.person()
                {
                    along.move_along(&person, row, now).await?;
                }
            }
        }
        let sealed = self.seal(&active.ring, bytes, row, (body, handle))?;
        let seen = UnixTime::from_millis(body.seen);
        let expires = UnixTime::from_millis(body.ends).min(seen + active.idle + SLACK);
        let expect = Expect::Version(opened.version);
        self.store
            .compare_and_swap(key(row), expect, &sealed, expires, now)
            .await
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
            live.end();
            return Ok(());
        };
        opened.body.seen = opened.body.seen.max(seen.as_millis());
        let swapped = self.write_again(&active, bytes, row, &opened, seen).await?;
        if !swapped {
            debug!("A session row changed while its use was written; the next use writes it.");
        }
        Ok(())
    }
}

fn written(part: &impl Serialize) -> Result<Secret<Vec<u8>>, StoreError> {
    let plain = serde_json::to_vec(part);
    let failed = |error| StoreError::Damaged(format!("a session cannot be written: {error}"));
    plain.map(Secret::new).map_err(failed)
}
