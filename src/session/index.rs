//! How the sessions of a person are found: to know how many there are.
//!
//! A key is `keyed hash (16 bytes) · login in milliseconds (8) · row (32)`: a scan by the hash gives the oldest first.

use crate::session::body::Handle;
use crate::session::seal::INDEX;
use crate::session::seal::KeyRing;

/// The table.
pub(super) const TABLE: &str = "session-subject";

/// What the keys of a person begin with: one for each key of the ring, the one that seals now first.
pub(super) fn places(ring: &KeyRing, handle: &Handle) -> Vec<[u8; INDEX]> {
    let parts = [handle.issuer.as_bytes(), handle.subject.as_bytes()];
    ring.indexes(TABLE, &parts)
}

/// The entries of one session: the first is under the key that seals now, the others are under those that only open.
pub(super) fn entries(ring: &KeyRing, handle: &Handle, row: &[u8; 32]) -> Vec<Vec<u8>> {
    let began = handle.began.to_be_bytes();
    let places = places(ring, handle);
    let key = |place: &[u8; INDEX]| [place, &began[..], row].concat();
    places.iter().map(key).collect()
}

/// The row that an entry speaks of.
pub(super) fn row(key: &[u8]) -> Option<[u8; 32]> {
    key.get(INDEX + 8..)?.try_into().ok()
}

/// When the login of an entry was.
pub(super) fn login(key: &[u8]) -> &[u8] {
    key.get(INDEX..INDEX + 8).unwrap_or_default()
}
