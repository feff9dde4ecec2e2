//! What holds for session cookies and rows, whatever they are. See `crate::promises`.

use std::sync::LazyLock;

use crate::entropy::SystemEntropy;
use crate::secret::Secret;
use crate::session::KeyRing;
use crate::session::Purpose;
use crate::session::SessionId;

static RING: LazyLock<Option<KeyRing>> =
    LazyLock::new(|| KeyRing::new(&[Secret::new(vec![9; 32])]).ok());
static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let ring = RING.as_ref();
    ring.map_or_else(Vec::new, |ring| {
        ring.seal(
            Purpose::SessionRow,
            b"holder",
            &[b"row"],
            b"alice",
            &SystemEntropy,
        )
    })
});

/// Nothing but what was sealed is opened, and each session has one spelling. The bytes are laid over the sealed ones.
pub(crate) fn sealed(bytes: &[u8]) {
    let Some(ring) = &*RING else { return };
    let opened = ring.open(Purpose::SessionRow, b"holder", &[b"row"], bytes);
    // Who looks long enough finds it.
    assert_eq!(opened.is_some(), bytes == *SEALED);
    let mut changed = SEALED.clone();
    for (byte, over) in changed.iter_mut().zip(bytes) {
        *byte ^= over;
    }
    changed.truncate(
        changed
            .len()
            .saturating_sub(bytes.len().saturating_sub(SEALED.len())),
    );
    let opened = ring.open(Purpose::SessionRow, b"holder", &[b"row"], &changed);
    assert_eq!(opened.is_some(), changed == *SEALED);
    if std::str::from_utf8(bytes).is_ok_and(|text| SessionId::parse(text).is_some()) {
        assert!(
            bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b))
        );
    }
}
