//! Proof that a provider vouched for an identity.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Confirmation;
use crate::identity::Grounds;
use crate::identity::Identity;

/// Proof that a provider vouched for an identity.
///
/// [`Authenticated::new`] is private to `providers` and its files, so no other module can claim that someone was
/// authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    identity: Arc<Identity>,
    expires: UnixTime,
    ends: UnixTime,
    leeway: Duration,
    grounds: Grounds,
    confirmation: Option<Confirmation>,
    stale: bool,
}

impl Authenticated {
    pub(in crate::providers) fn new(identity: Identity, expires: UnixTime) -> Self {
        Self {
            identity: Arc::new(identity),
            expires,
            ends: expires,
            leeway: Duration::ZERO,
            grounds: Grounds::default(),
            confirmation: None,
            stale: false,
        }
    }

    /// A proof that is kept for a shorter time than the credential is good for.
    pub(in crate::providers) const fn of_credential_until(mut self, ends: UnixTime) -> Self {
        self.ends = ends;
        self
    }

    /// A proof from a token that was judged with this much tolerance for the difference of clocks.
    pub(in crate::providers) const fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// The same proof, kept until another moment.
    pub(in crate::providers) const fn kept_until(mut self, expires: UnixTime) -> Self {
        self.expires = expires;
        self
    }

    /// As [`Self::remembered`], for tests of other modules.
    #[cfg(test)]
    pub(crate) const fn remembered_for_test(self) -> Self {
        self.remembered()
    }

    /// An earlier yes, of an owner that cannot be reached now.
    pub(in crate::providers) const fn remembered(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Whether it is an earlier yes, because its owner cannot be reached: nothing that lasts longer is made of it.
    pub(crate) const fn is_remembered(&self) -> bool {
        self.stale
    }

    /// A proof with what it can be taken back by.
    pub(in crate::providers) fn on(mut self, grounds: Grounds) -> Self {
        self.grounds = grounds;
        self
    }

    /// A proof of what was issued to us, which need not say when: not before it was asked for.
    pub(in crate::providers) fn asked_for_at(mut self, asked: UnixTime) -> Self {
        self.grounds.began.get_or_insert(asked);
        self
    }

    /// By what it can be revoked, and when it began.
    pub(crate) const fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// The same, for tests of other modules.
    #[cfg(test)]
    pub(crate) fn for_test_on(self, grounds: Grounds) -> Self {
        self.on(grounds)
    }

    /// A proof that counts only for who proves to hold this too.
    pub(in crate::providers) const fn bound(mut self, confirmation: Option<Confirmation>) -> Self {
        self.confirmation = confirmation;
        self
    }

    /// As [`Self::bound`], for tests of other modules.
    #[cfg(test)]
    pub(crate) const fn bound_for_test(self, confirmation: Confirmation) -> Self {
        self.bound(Some(confirmation))
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

    /// When the proof is over: for what is said about it now, never for what is kept.
    pub(crate) fn ends(&self) -> UnixTime {
        self.expires + self.leeway
    }

    /// Whether the proof is over. A token within the leeway is still good when it is presented (RFC 7519 §4.1.4), though
    /// nothing is kept because of it.
    pub(crate) fn is_over(&self, now: UnixTime) -> bool {
        self.ends() <= now
    }

    /// What the holder of the credential must prove besides: the proof is worth nothing before that.
    pub(crate) const fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_ref()
    }

    /// When the credential itself ends: nothing that is made of it may live longer. [`UnixTime::NEVER`] where its owner
    /// does not say.
    pub(crate) const fn life_ends(&self) -> UnixTime {
        self.ends
    }

    /// When nobody takes the credential any more: its own end, and the leeway. [`UnixTime::NEVER`] as above.
    pub(crate) fn dies(&self) -> UnixTime {
        if self.ends == UnixTime::NEVER {
            return UnixTime::NEVER;
        }
        self.ends + self.leeway
    }

    /// Until when the proof may be kept: the credential's own end, or the longest time its owner allows.
    pub(crate) const fn expires(&self) -> UnixTime {
        self.expires
    }
}
