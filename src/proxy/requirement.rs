//! What a route asks of somebody who has been admitted.

use crate::auth;
use crate::auth::Admitted;
use crate::auth::AuthError;
use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::identity::says;
use crate::proxy::admission::Asked;
use crate::proxy::settings::Holds;
use crate::proxy::settings::Require;

/// How far the clock of a provider may be ahead of ours.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(30);

/// Why somebody who was admitted may not use a route; `None`: they may. What no login can change is said first.
pub(super) fn unmet(
    asked: &Asked<'_>,
    require: &Require,
    admitted: &Admitted,
) -> Option<AuthError> {
    let gate = &asked.view.snapshot.gate;
    let app = asked.entry.policy.app();
    if !holds(require, admitted) {
        return Some(gate.unbound(admitted, app));
    }
    let identity = admitted.identity();
    let attributes = &*identity.attributes;
    let fulfilled = any(&require.groups, attributes, "groups")
        && any(&require.roles, attributes, "roles")
        && require.claims.iter().all(|(name, wanted)| {
            attributes
                .member(name)
                .is_some_and(|value| says(value, wanted))
        })
        && comes_from(require, asked);
    if !fulfilled {
        return Some(forbidden(admitted));
    }
    if !require
        .scopes
        .iter()
        .all(|scope| identity.scopes.contains(scope))
    {
        return Some(match admitted.class() {
            CredentialClass::Bearer | CredentialClass::Opaque => AuthError::InsufficientScope {
                provider: admitted.provider().clone(),
                class: admitted.class(),
                challenge: auth::insufficient_scope(admitted, app, &require.scopes),
            },
            CredentialClass::Session
            | CredentialClass::Basic
            | CredentialClass::ApiKey
            | CredentialClass::ClientCert
            | CredentialClass::Refresh => forbidden(admitted),
        });
    }
    let strong = require.acr.is_empty()
        || identity
            .acr
            .as_ref()
            .is_some_and(|acr| require.acr.contains(acr));
    let fresh = require
        .max_age
        .is_none_or(|age| signed_in(attributes, asked.now).is_some_and(|ago| ago <= age));
    if strong && fresh {
        return None;
    }
    let missing = if strong { &[][..] } else { &require.acr };
    Some(gate.step_up(admitted, app, missing, require.max_age))
}

fn forbidden(admitted: &Admitted) -> AuthError {
    AuthError::Forbidden {
        refusal: Refusal::Policy,
        provider: admitted.provider().clone(),
        class: admitted.class(),
    }
}

/// Whether the token is bound as the route asks. The proof itself has been given: nobody is admitted without it.
fn holds(require: &Require, admitted: &Admitted) -> bool {
    let bound = admitted.confirmation();
    require.proof.is_empty()
        || require.proof.iter().any(|to| match to {
            Holds::Key => bound.is_some_and(|bound| bound.key.is_some()),
            Holds::Certificate => bound.is_some_and(|bound| bound.certificate.is_some()),
        })
}

/// Whether a list of the person has one of these; a list that cannot be read has none.
fn any(wanted: &[Box<str>], attributes: &ClaimMap, name: &str) -> bool {
    wanted.is_empty()
        || attributes
            .list(name)
            .unwrap_or_default()
            .iter()
            .any(|has| wanted.iter().any(|one| **one == **has))
}

fn comes_from(require: &Require, asked: &Asked<'_>) -> bool {
    let near = require.network.is_empty()
        || require
            .network
            .iter()
            .any(|network| network.contains(&asked.address));
    // An address that no country is known for is in none that is wanted.
    near && (require.country.is_empty()
        || asked
            .view
            .snapshot
            .countries
            .as_ref()
            .and_then(|countries| countries.of(asked.address))
            .is_some_and(|country| require.country.contains(&country)))
}

/// How long ago the person signed in (`auth_time`). Not known, or in the future: as if never.
fn signed_in(attributes: &ClaimMap, now: UnixTime) -> Option<std::time::Duration> {
    let moment = attributes.member("auth_time")?.as_u64()?;
    let moment = UnixTime::from_secs(moment);
    (moment <= now + LEEWAY).then(|| now.since(moment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;
    use std::time::Duration;

    fn map(value: Value) -> ClaimMap {
        let Value::Object(members) = value else {
            panic!("an object")
        };
        ClaimMap::new(members)
    }

    #[test]
    fn one_of_a_list_is_enough_and_none_is_not() {
        let person = map(json!({ "groups": ["a", "b"], "roles": 7 }));
        let wanted = |names: &[&str]| {
            names
                .iter()
                .map(|name| Box::from(*name))
                .collect::<Vec<_>>()
        };
        assert!(any(&[], &person, "groups"));
        assert!(any(&wanted(&["x", "b"]), &person, "groups"));
        assert!(!any(&wanted(&["x"]), &person, "groups"));
        assert!(!any(&wanted(&["7"]), &person, "roles"));
        assert!(!any(&wanted(&["a"]), &person, "none"));
    }

    #[test]
    fn a_login_of_which_nobody_knows_when_was_long_ago() {
        let now = UnixTime::from_secs(1_000);
        for (moment, ago) in [
            (json!(900), Some(100)),
            (json!(1_030), Some(0)),
            (json!(1_031), None),
            (json!("900"), None),
            (json!(-1), None),
            (json!(900.5), None),
        ] {
            let person = map(json!({ "auth_time": moment }));
            assert_eq!(
                signed_in(&person, now),
                ago.map(Duration::from_secs),
                "{moment}"
            );
        }
        assert_eq!(signed_in(&map(json!({})), now), None);
    }
}
