//! Wrapping: one session of ours stands for one of an old system, however many requests bring that one at once, and however
//! often its holder forgets ours.
//!
//! Which one that is stands in a row of its own, found by a keyed hash and opened only with the cookie of the old system.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Mutex;
use tokio::sync::MutexGuard;

use crate::clock::UnixTime;
use crate::secret::Secret;
use crate::session::id::SessionId;
use crate::session::restored::Restored;
use crate::session::seal::INDEX;
use crate::session::seal::Purpose;
use crate::session::sessions::Created;
use crate::session::sessions::Sessions;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

const TABLE: &str = "wrap";

/// The session of an old system, as a browser sends it.
#[derive(Clone, Copy)]
pub(crate) struct OldSession<'a> {
    /// The name of its cookie.
    pub(crate) cookie: &'a str,
    /// The value.
    pub(crate) value: &'a str,
}

impl OldSession<'_> {
    /// What a session of ours that stands for it remembers of it: nothing that anybody could send.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"authferry/stands-for/v1");
        for part in [self.cookie, self.value] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            context.update(&length.to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

impl fmt::Debug for OldSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[session of an old system]")
    }
}

/// Who wraps now: one at a time in this process, of those that may be the same.
#[derive(Default)]
pub(super) struct Wrapping([Mutex<()>; 16]);

/// What is noted about the session of an old system.
pub(crate) struct Noted<'s> {
    place: [u8; INDEX],
    expect: Expect,
    /// The session of ours that stands for it, and its cookie, if it lives.
    pub(crate) there: Option<(Secret<String>, Restored)>,
    _only: MutexGuard<'s, ()>,
}

impl Sessions {
    /// What stands for the session of an old system on a host, for an application. As long as the answer is held, nobody
    /// else in this process asks the same.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn noted(
        &self,
        (app, host): (&str, &str),
        old: OldSession<'_>,
        now: UnixTime,
    ) -> Result<Noted<'_>, StoreError> {
        let ring = self.ring();
        let parts = [app, host, old.cookie, old.value].map(str::as_bytes);
        let places = ring.indexes(TABLE, &parts);
        let Some(place) = places.first().copied() else {
            return Err(StoreError::Damaged(String::from("no key")));
        };
        let [first, ..] = place;
        let [fallback, ..] = &self.wrapping.0;
        let lock = self.wrapping.0.get(usize::from(first % 16));
        let only = lock.unwrap_or(fallback).lock().await;
        let mut expect = Expect::Absent;
        let mut there = None;
        for looked in &places {
            let key = Key {
                table: TABLE,
                key: looked,
            };
            let Some(row) = self.store.get(key, now).await? else {
                continue;
            };
            if *looked == place {
                expect = Expect::Version(row.version);
            }
            let opened = ring.open(Purpose::Wrap, old.value.as_bytes(), &[looked], &row.value);
            let Some(opened) = opened else { continue };
            let cookie = Secret::new(URL_SAFE_NO_PAD.encode(&opened.plain));
            let Some(id) = SessionId::parse(cookie.expose()) else {
                continue;
            };
            let restored = self.restore(id, now).await?;
            let good = |restored: &Restored| {
                restored.host() == host && restored.stands_for() == Some(&old.digest())
            };
            if let Some(restored) = restored.filter(good) {
                there = Some((cookie, restored));
                break;
            }
        }
        Ok(Noted {
            place,
            expect,
            there,
            _only: only,
        })
    }

    /// Notes that a session stands for that of an old system from now on; `false`: another instance was faster.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn note(
        &self,
        noted: &Noted<'_>,
        old: OldSession<'_>,
        created: &Created,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let Some(id) = SessionId::parse(created.cookie.expose()) else {
            return Err(StoreError::Damaged(String::from("a session id")));
        };
        let place = &noted.place;
        let sealed = self.ring().seal(
            Purpose::Wrap,
            old.value.as_bytes(),
            &[place],
            id.bytes(),
            &*self.entropy,
        );
        let key = Key {
            table: TABLE,
            key: place,
        };
        self.store
            .compare_and_swap(key, noted.expect, &sealed, created.ends, now)
            .await
    }
}

impl fmt::Debug for Noted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[what stands for a session of an old system]")
    }
}
