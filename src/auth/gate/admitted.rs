//! Proof that somebody was admitted.

use std::sync::Arc;

use crate::auth::gate::UpstreamToken;
use crate::auth::gate::signed::Signed;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::providers::Epoch;
use crate::revocation::Standing;
use crate::rollout::Arm;
use crate::rollout::KillPosition;
use crate::secret::Secret;
use crate::session::Live;

/// Proof that somebody was admitted to one application. Only the gate makes one; identity headers are written only from it.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(super) identity: Arc<Identity>,
    pub(super) canonical: CanonicalSubject,
    pub(super) accounts: Option<Arc<ClaimMap>>,
    pub(super) class: CredentialClass,
    pub(super) confirmation: Option<Confirmation>,
    pub(super) arm: Option<Arm>,
    pub(super) rule: Arc<str>,
    pub(super) expires: UnixTime,
    pub(super) ends: UnixTime,
    pub(super) life_ends: UnixTime,
    pub(super) rests_on: Epoch,
    pub(super) epoch: u64,
    pub(super) signed: Signed,
    pub(super) session: Option<Arc<Live>>,
    pub(super) standing: Standing,
    pub(super) kill: KillPosition,
    pub(super) reach: Reach,
    pub(super) token: Option<UpstreamToken>,
    /// The cookie of the session of ours that stands for the presented one from now on.
    pub(super) wrapped: Option<Arc<Secret<String>>>,
}

/// How far an admission reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// Every request with the same credential to the same application, while [`Admitted::still_good`].
    SameCredential,
    /// This request alone: a rule looked at its path, method or address.
    ThisRequest,
}

/// Why an admission no longer holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    /// The session has come to its own end.
    Expired,
    /// It was ended: a logout, a revocation.
    Revoked,
    /// Neither is known: the gate must be asked again, as the next request would. The session is to be renewed or was, what
    /// is known of it is too old, another one has taken its place, the answer of the owner has run out, a key is gone, the switch
    /// has moved.
    AskAgain,
}

/// An admission ends with what the upstream is given.
pub(super) fn until(end: UnixTime, token: &Option<UpstreamToken>) -> UnixTime {
    token.as_ref().map_or(end, |token| end.min(token.ends))
}

impl Admitted {
    /// Whether the admission still holds; asked on every use of a kept one, and counted as a use of the session. Atomics only.
    pub(crate) fn still_good(&self, kill: KillPosition, now: UnixTime) -> bool {
        now < self.expires
            && self.kill == kill
            && self.rests_on.current() == self.epoch
            && self.signed.still_good()
            && self.standing.holds(now)
            && self
                .token
                .as_ref()
                .is_none_or(|token| token.still_good(now))
            && self
                .session
                .as_deref()
                .is_none_or(|session| session.use_at(now))
    }

    /// The value of our session cookie that the browser is to have from now on, beside the one that it sent.
    pub(crate) fn wrapped(&self) -> Option<&Secret<String>> {
        self.wrapped.as_deref()
    }

    /// What the upstream gets instead of the credential.
    pub(crate) const fn token(&self) -> Option<&UpstreamToken> {
        self.token.as_ref()
    }

    /// Why what is open because of the admission does not simply go on; `None`: it does. Counted as a use of the session.
    pub(crate) fn over(&self, kill: KillPosition, now: UnixTime) -> Option<Over> {
        if self.still_good(kill, now) {
            return None;
        }
        let session = self.session.as_deref();
        let run_out = session.is_some_and(|session| self.ends <= now || session.has_run_out(now));
        // One that has run out ends as well, by itself.
        let ended = session.is_some_and(Live::has_ended_for_good) && !run_out;
        Some(if ended || !self.standing.holds(now) {
            Over::Revoked
        } else if run_out {
            Over::Expired
        } else {
            Over::AskAgain
        })
    }

    /// Who it is, in the words of the provider that vouched.
    pub(crate) const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Who it is across providers.
    pub(crate) const fn canonical(&self) -> &CanonicalSubject {
        &self.canonical
    }

    /// What the providers that header templates name call the person (`link.PROVIDER_subject`).
    pub(crate) fn accounts(&self) -> Option<&ClaimMap> {
        self.accounts.as_deref()
    }

    /// What it rests on.
    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Who vouched.
    pub(crate) fn provider(&self) -> &ProviderId {
        &self.identity.provider
    }

    /// What was presented.
    pub(crate) const fn class(&self) -> CredentialClass {
        self.class
    }

    /// What the holder of the credential must prove with every request; see [`crate::auth::Gate::proven`].
    pub(crate) const fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_ref()
    }

    /// The arm of the provider that vouched; `None` without a rollout.
    pub(crate) const fn arm(&self) -> Option<Arm> {
        self.arm
    }

    /// The rule that assigned the person: a label value.
    pub(crate) fn rule(&self) -> &str {
        &self.rule
    }

    /// Until when it holds at the longest.
    pub(crate) const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Until when the credential itself is honoured: later than [`Self::expires`] by the tolerance for clocks that differ.
    pub(crate) const fn ends(&self) -> UnixTime {
        self.ends
    }

    /// When the credential ends by what it says itself, or sooner, when it counts here no more; [`UnixTime::NEVER`] where
    /// nobody says.
    pub(crate) const fn life_ends(&self) -> UnixTime {
        self.life_ends
    }

    /// Whether it may be kept for other requests.
    pub(crate) const fn reach(&self) -> Reach {
        self.reach
    }
}
