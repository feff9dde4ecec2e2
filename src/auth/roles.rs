//! From groups to roles to scopes: what the configuration makes of the words of a provider.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::auth::settings::RoleMap;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Refusal;

/// What came of somebody's groups.
#[derive(Debug)]
pub(super) struct Mapped {
    /// The person, with roles, and with scopes where the credential had none of its own.
    pub(super) identity: Arc<Identity>,
    /// How many of the groups have no role.
    pub(super) unmatched: usize,
}

/// The groups of somebody to which the map gives nothing.
pub(super) fn unmatched<'a>(map: &RoleMap, identity: &'a Identity) -> Vec<&'a str> {
    let mut groups = identity.attributes.list("groups").unwrap_or_default();
    groups.retain(|group| !map.groups.contains_key(*group));
    groups
}

/// Gives an identity the roles of its groups, and the scopes of its roles. The order of groups makes no difference.
///
/// Scopes of a token say what its client was given (RFC 6749 §3.3): roles of the person never widen them, and give some to one
/// without any only where the map says so.
///
/// # Errors
///
/// When the groups cannot be read, or one of them has no role and the map wants one for each.
pub(super) fn mapped(
    map: &RoleMap,
    identity: &Arc<Identity>,
    class: Option<CredentialClass>,
) -> Result<Mapped, Refusal> {
    let groups = identity
        .attributes
        .list("groups")
        .or(Err(Refusal::Policy))?;
    let mut roles: BTreeSet<&str> = BTreeSet::new();
    let mut unmatched = 0;
    for group in groups {
        match map.groups.get(group) {
            Some(own) => roles.extend(own.iter().map(|role| &**role)),
            None => unmatched += 1,
        }
    }
    if map.refuse_unmatched && 0 < unmatched {
        return Err(Refusal::Policy);
    }
    let scopes: BTreeSet<&Box<str>> = roles
        .iter()
        .filter_map(|role| map.scopes.get(*role))
        .flatten()
        .collect();
    let mut attributes = (*identity.attributes).clone();
    let list = roles.iter().map(|role| Value::from(*role)).collect();
    attributes.insert("roles", Value::Array(list));
    let mut identity = (**identity).clone();
    identity.attributes = Arc::new(attributes);
    let is_token = match class {
        Some(CredentialClass::Bearer | CredentialClass::Opaque | CredentialClass::Refresh) => true,
        Some(
            CredentialClass::Session
            | CredentialClass::Basic
            | CredentialClass::ApiKey
            | CredentialClass::ClientCert,
        )
        | None => false,
    };
    if identity.scopes.is_empty() && (map.scopes_for_tokens || !is_token) {
        identity.scopes = scopes.into_iter().cloned().collect();
    }
    Ok(Mapped {
        identity: Arc::new(identity),
        unmatched,
    })
}

/// As [`mapped`], for those who compare and admit nobody.
///
/// # Errors
///
/// As [`mapped`].
pub(crate) fn with_roles(
    map: &RoleMap,
    identity: &Arc<Identity>,
) -> Result<Arc<Identity>, Refusal> {
    mapped(map, identity, None).map(|mapped| mapped.identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::identity;
    use proptest::prelude::*;
    use serde_json::json;

    fn map() -> RoleMap {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
        RoleMap {
            groups: [
                ("sales".into(), texts(&["seller"])),
                ("CN=Boss,O=Corp".into(), texts(&["seller", "admin"])),
            ]
            .into(),
            scopes: [
                ("seller".into(), texts(&["orders:read"])),
                ("admin".into(), texts(&["users:write", "orders:read"])),
            ]
            .into(),
            refuse_unmatched: false,
            scopes_for_tokens: false,
        }
    }

    fn person(groups: &Value, scopes: &[&str]) -> Arc<Identity> {
        let mut person = identity("new", "alice");
        let mut attributes = (*person.attributes).clone();
        attributes.insert("groups", groups.clone());
        person.attributes = Arc::new(attributes);
        person.scopes = scopes.iter().map(|scope| (*scope).into()).collect();
        Arc::new(person)
    }

    fn of(
        map: &RoleMap,
        groups: &Value,
        scopes: &[&str],
    ) -> Result<(String, String, usize), Refusal> {
        let mapped = mapped(map, &person(groups, scopes), None)?;
        let roles = mapped.identity.attributes.list("roles").unwrap().join(" ");
        Ok((roles, mapped.identity.scopes.join(" "), mapped.unmatched))
    }

    fn expected(
        roles: &str,
        scopes: &str,
        unmatched: usize,
    ) -> Result<(String, String, usize), Refusal> {
        Ok((roles.to_owned(), scopes.to_owned(), unmatched))
    }

    #[test]
    fn groups_give_roles_and_roles_give_scopes() {
        for (groups, is) in [
            (json!(["sales"]), expected("seller", "orders:read", 0)),
            (
                json!(["CN=Boss,O=Corp", "sales"]),
                expected("admin seller", "orders:read users:write", 0),
            ),
            (json!("sales"), expected("seller", "orders:read", 0)),
            (json!([]), expected("", "", 0)),
            (json!(["Sales", "sales ", "x"]), expected("", "", 3)),
            (json!(["x", "sales"]), expected("seller", "orders:read", 1)),
            (json!([1]), Err(Refusal::Policy)),
            (json!({ "a": 1 }), Err(Refusal::Policy)),
        ] {
            assert_eq!(of(&map(), &groups, &[]), is, "{groups}");
        }
    }

    #[test]
    fn groups_without_a_role_are_named() {
        for (groups, is) in [
            (json!(["x", "sales", "y"]), vec!["x", "y"]),
            (json!("x"), vec!["x"]),
            (json!([1]), vec![]),
            (json!([]), vec![]),
        ] {
            assert_eq!(unmatched(&map(), &person(&groups, &[])), is, "{groups}");
        }
    }

    #[test]
    fn a_token_keeps_the_scopes_that_its_client_was_given() {
        let boss = json!(["CN=Boss,O=Corp"]);
        let is = expected("admin seller", "orders:list", 0);
        assert_eq!(of(&map(), &boss, &["orders:list"]), is);
    }

    #[test]
    fn a_token_that_was_given_none_gets_those_of_roles_only_where_that_is_said() {
        let person = person(&json!(["sales"]), &[]);
        let said = RoleMap {
            scopes_for_tokens: true,
            ..map()
        };
        for (class, by_default) in [
            (CredentialClass::Bearer, false),
            (CredentialClass::Opaque, false),
            (CredentialClass::Session, true),
            (CredentialClass::Basic, true),
        ] {
            for (map, has) in [(&map(), by_default), (&said, true)] {
                let mapped = mapped(map, &person, Some(class)).unwrap();
                assert_eq!(!mapped.identity.scopes.is_empty(), has, "{class:?}");
                assert_eq!(
                    mapped.identity.attributes.list("roles").unwrap(),
                    ["seller"]
                );
            }
        }
    }

    #[test]
    fn a_map_may_want_a_role_for_each_group() {
        let strict = RoleMap {
            refuse_unmatched: true,
            ..map()
        };
        assert!(of(&strict, &json!(["sales"]), &[]).is_ok());
        assert_eq!(
            of(&strict, &json!(["sales", "x"]), &[]),
            Err(Refusal::Policy)
        );
    }

    proptest! {
        #[test]
        fn the_order_of_groups_makes_no_difference(
            groups in Just(vec!["a", "sales", "CN=Boss,O=Corp", "b"]).prop_shuffle(),
        ) {
            let is = expected("admin seller", "orders:read users:write", 2);
            prop_assert_eq!(of(&map(), &json!(groups), &[]), is);
        }
    }
}
