//! What somebody who is known brings for a route: roles, and a login that is good and fresh enough.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::challenges;
use crate::auth::error::AuthError;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::roles;
use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::providers::StepUp;
use crate::rollout::AppId;

impl Gate {
    /// The person with the roles that the configuration gives to their groups now.
    pub(super) fn with_roles(
        &self,
        identity: &Arc<Identity>,
        class: CredentialClass,
        now: UnixTime,
    ) -> Result<Arc<Identity>, AuthError> {
        let provider = &identity.provider;
        let Some(map) = self.deps.roles.get(provider) else {
            return Ok(Arc::clone(identity));
        };
        let unmatched = roles::unmatched(map, identity);
        self.deps.unmatched.saw(provider, &unmatched, now);
        let mapped =
            roles::mapped(map, identity, Some(class)).map_err(|refusal| AuthError::Forbidden {
                refusal,
                provider: provider.clone(),
                class,
            })?;
        if 0 < mapped.unmatched {
            let metrics = &self.deps.reports.metrics;
            metrics.unmatched_groups(provider, mapped.unmatched);
        }
        Ok(mapped.identity)
    }

    /// Why somebody who is known does not get further without a better or fresher login (RFC 9470 §3).
    pub(crate) fn step_up(
        &self,
        admitted: &Admitted,
        app: &AppId,
        acr: &[Box<str>],
        max_age: Option<Duration>,
    ) -> AuthError {
        let provider = admitted.provider();
        let owner = self.deps.providers.named(provider);
        let own = |class: &str| match owner {
            Some(owner) => owner.acr_values(class),
            None => vec![class.into()],
        };
        let wanted = StepUp {
            acr_values: acr.iter().flat_map(|class| own(class)).collect(),
            max_age,
        };
        AuthError::StepUp {
            provider: provider.clone(),
            class: admitted.class(),
            challenge: challenges::step_up(admitted, app, &wanted),
            wanted: Arc::new(wanted),
        }
    }
}
