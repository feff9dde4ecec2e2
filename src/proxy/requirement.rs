//! What a route asks of somebody who has been admitted.

use crate::auth::Admitted;
use crate::auth::AuthError;
use crate::identity::Refusal;
use crate::proxy::admission::Asked;
use crate::proxy::settings::Holds;
use crate::proxy::settings::Require;

/// Why somebody who was admitted may not use a route; `None`: they may.
pub(super) fn unmet(
    asked: &Asked<'_>,
    require: &Require,
    admitted: &Admitted,
) -> Option<AuthError> {
    if !holds(require, admitted) {
        let gate = &asked.view.snapshot.gate;
        return Some(gate.unbound(admitted, asked.entry.policy.app()));
    }
    (!fulfils(require, admitted, asked)).then(|| AuthError::Forbidden {
        refusal: Refusal::Policy,
        provider: admitted.provider().clone(),
        class: admitted.class(),
    })
}

/// Whether the token is bound as the route asks. The proof itself has been given: nobody is admitted without it.
fn holds(require: &Require, admitted: &Admitted) -> bool {
    let bound = admitted.confirmation();
    require.proof.is_empty()
        || require.proof.iter().any(|to| match to {
            Holds::Key => bound.is_some_and(|bound| bound.key.is_some()),
        })
}

fn fulfils(require: &Require, admitted: &Admitted, asked: &Asked<'_>) -> bool {
    let identity = admitted.identity();
    let groups = || identity.attributes.list("groups").unwrap_or_default();
    (require.groups.is_empty()
        || groups()
            .iter()
            .any(|has| require.groups.iter().any(|group| **group == **has)))
        && require
            .scopes
            .iter()
            .all(|scope| identity.scopes.contains(scope))
        && (require.acr.is_empty()
            || identity
                .acr
                .as_ref()
                .is_some_and(|acr| require.acr.contains(acr)))
        && (require.network.is_empty()
            || require
                .network
                .iter()
                .any(|network| network.contains(&asked.address)))
}
