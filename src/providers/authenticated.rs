//! Proof that a provider vouched for an identity.

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::identity::Identity;

/// Proof that a provider vouched for an identity.
///
/// [`Authenticated::new`] is private to `providers` and its files, so no other module can claim that someone was
/// authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    identity: Arc<Identity>,
    expires: UnixTime,
}

impl Authenticated {
    pub(in crate::providers) fn new(identity: Identity, expires: UnixTime) -> Self {
        Self {
            identity: Arc::new(identity),
            expires,
        }
    }

    /// A proof for tests of other modules.
    #[cfg(test)]
    pub(crate) fn for_test(identity: Identity, expires: UnixTime) -> Self {
        Self::new(identity, expires)
    }

    /// Who it is.
    pub(crate) const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Until when the proof may be used: the credential's own end, or the longest time its owner allows it to be kept.
    pub(crate) const fn expires(&self) -> UnixTime {
        self.expires
    }
}
