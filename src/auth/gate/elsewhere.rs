//! Tokens that are for somebody else than the application, and that a client asks us about: what holds of them here besides.

use crate::auth::canonical::NotJoined;
use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::asked::Instead;
use crate::auth::policy::AppPolicy;
use crate::auth::possession::Channel;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::revocation::Marks;
use crate::rollout::Facts;
use crate::rollout::KillPosition;

impl Gate {
    /// Who owns a token by what it says of itself, which nobody has looked at.
    pub(crate) fn says_to_be_of(&self, presented: &Presented<'_>) -> Option<ProviderId> {
        let owned = presented.owner().ok()?;
        Some(owned.owner.id().clone())
    }

    /// Whether a token that its provider vouches for, for another audience, would be taken if it were for the application: whose
    /// it is, and when it ends.
    ///
    /// # Errors
    ///
    /// As [`Gate::issue`].
    pub(crate) async fn counts_elsewhere(
        &self,
        policy: &AppPolicy,
        (presented, proof): (&Presented<'_>, &Authenticated),
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<(CanonicalSubject, UnixTime), AuthError> {
        let asked = Asked::new(policy, Instead::Nothing, way, kill, now);
        let class = presented.class();
        let owned = presented
            .owner()
            .map_err(|refusal| AuthError::unowned(refusal, class))?;
        let (provider, identity) = (owned.owner.id(), proof.identity());
        let refused = |refusal| AuthError::refused(refusal, provider, class);
        self.may_be_judged(&asked, provider, class)?;
        let credential = presented
            .credential()
            .ok_or_else(|| refused(Refusal::BadCredentials))?;
        if identity.provider != *provider {
            return Err(refused(Refusal::Policy));
        }
        if proof.is_over(now) {
            return Err(refused(Refusal::Expired));
        }
        let joined = self.deps.joiner.join(identity, now).await;
        let canonical = joined.map_err(|error| match error {
            NotJoined::Refused(refusal) => refused(refusal),
            NotJoined::Contested => refused(Refusal::LinkConflict),
            NotJoined::Store(error) => AuthError::store(&error, class),
        })?;
        let marks = Marks::of(identity, &canonical, proof.grounds());
        let made = self.made_of(&asked, &credential, identity, marks);
        let (marks, _signed) = made.await?;
        self.stands(&asked, provider, class, marks)?;
        self.exercised(&asked, class, &canonical, identity).await?;
        self.accepted_of(&asked, class, &canonical, identity)?;
        self.on_its_arm(&asked, class, &canonical, identity).await?;
        Ok((canonical, policy.cut(provider, proof.life_ends(), now)))
    }
}
