//! Claims of a provider → attributes by our names, and strict ways to read them.

use serde_json::Value;

use crate::identity::ClaimMap;
use crate::identity::ClaimPath;

/// The attributes of an identity: every mapped claim by our name, in the order of `mapping`.
///
/// A claim that is absent or `null` gives no attribute, and nothing takes its place: a name that the operator mapped to
/// one claim is never filled from another. Where a name is mapped twice, which the configuration refuses, the first
/// claim that is present counts.
pub fn attributes(claims: &ClaimMap, mapping: &[(Box<str>, ClaimPath)]) -> ClaimMap {
    let mut found = ClaimMap::default();
    for (name, path) in mapping {
        if found.member(name).is_some() {
            continue;
        }
        match path.find(claims) {
            Some(Value::Null) | None => {}
            Some(value) => found.insert(name, value),
        }
    }
    found
}

/// The domain of an e-mail address: `None` unless it is one address, with exactly one `@`, of at most 254 bytes (RFC 5321
/// §4.5.3.1.3), and without anything that ends or separates addresses elsewhere.
pub fn email_domain(address: &str) -> Option<&str> {
    let (local, domain) = address.split_once('@')?;
    let local_is_good = !local.is_empty()
        && local
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace() && !ends_an_address(c));
    let domain_is_good = domain.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    (address.len() <= 254 && local_is_good && domain_is_good).then_some(domain)
}

/// What stands around addresses, not in them.
const fn ends_an_address(c: char) -> bool {
    matches!(
        c,
        '@' | ',' | ';' | ':' | '<' | '>' | '(' | ')' | '[' | ']' | '\\' | '"'
    )
}

/// Takes the attribute `email` away unless somebody answers for the address: `email_verified` is the JSON value `true`
/// (OpenID Connect Core 1.0 §5.1), or the provider is authoritative for its domain. Applications know accounts by their
/// address: one that anybody can enter into a profile is an account that anybody can take.
pub fn drop_unproven_email(attributes: &mut ClaimMap, authoritative: &[Box<str>]) {
    let proven = attributes
        .text("email")
        .and_then(email_domain)
        .is_some_and(|domain| {
            attributes.flag("email_verified")
                || authoritative
                    .iter()
                    .any(|owned| owned.eq_ignore_ascii_case(domain))
        });
    if !proven {
        attributes.remove("email");
    }
}

/// Whether the token says that the person's groups stand elsewhere: too many for the token.
///
/// Entra ID then sends a distributed claim (OpenID Connect Core 1.0 §5.6.2: `_claim_names` with the member `groups`) or
/// `hasgroups`. Such a person has groups that we do not know, which is not the same as having none.
pub fn groups_overage(claims: &ClaimMap) -> bool {
    let elsewhere = claims
        .member("_claim_names")
        .is_some_and(|names| names.get("groups").is_some());
    let announced = match claims.member("hasgroups") {
        Some(Value::Bool(announced)) => *announced,
        Some(Value::String(announced)) => announced.eq_ignore_ascii_case("true"),
        Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => false,
    };
    elsewhere || announced
}

/// An attribute that should be a list of texts is something else.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an attribute is neither a list of texts nor one text")]
pub struct NotAList;

impl ClaimMap {
    /// Whether the member called `name` is the JSON value `true`: `"true"`, `1` and the like are not.
    pub fn flag(&self, name: &str) -> bool {
        self.member(name) == Some(&Value::Bool(true))
    }

    /// The texts of the member called `name`: those of an array, or one text. None when it is absent or `null`; empty
    /// texts are left out.
    ///
    /// # Errors
    ///
    /// When it is anything else: a group that cannot be read must not pass for no group.
    pub fn list(&self, name: &str) -> Result<Vec<&str>, NotAList> {
        let texts = match self.member(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => vec![text.as_str()],
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().ok_or(NotAList))
                .collect::<Result<_, _>>()?,
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(NotAList),
        };
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> ClaimMap {
        let Value::Object(members) = value else {
            panic!("an object")
        };
        ClaimMap::new(members)
    }

    fn mapping(pairs: &[(&str, &str)]) -> Vec<(Box<str>, ClaimPath)> {
        pairs
            .iter()
            .map(|(name, path)| ((*name).into(), ClaimPath::parse(path).unwrap()))
            .collect()
    }

    #[test]
    fn mapped_claims_become_attributes_and_nothing_else_does() {
        let claims = claims(json!({
            "sub": "f81d", "legacy_uid": "alice", "mail": null, "memberOf": [{ "cn": "it" }, { "cn": "hr" }],
        }));
        let found = attributes(
            &claims,
            &mapping(&[
                ("subject", "legacy_uid"),
                ("email", "mail"),
                ("groups", "memberOf[*].cn"),
            ]),
        );
        assert_eq!(found.text("subject"), Some("alice"));
        assert_eq!(found.member("email"), None);
        assert_eq!(found.list("groups"), Ok(vec!["it", "hr"]));
        assert_eq!(found.iter().count(), 2);
    }

    #[test]
    fn an_absent_claim_is_not_replaced_by_another() {
        let claims = claims(json!({ "sub": "f81d" }));
        let found = attributes(&claims, &mapping(&[("subject", "legacy_uid")]));
        assert_eq!(found, ClaimMap::default());
    }

    #[test]
    fn an_address_is_kept_only_if_somebody_answers_for_it() {
        let kept = |email: Value, verified: Value, owned: &[&str]| {
            let mut found =
                claims(json!({ "email": email, "email_verified": verified, "name": "A" }));
            let owned: Vec<Box<str>> = owned.iter().map(|domain| (*domain).into()).collect();
            drop_unproven_email(&mut found, &owned);
            assert_eq!(found.text("name"), Some("A"));
            found.member("email").is_some()
        };
        let alice = || json!("alice@corp.test");
        assert!(kept(alice(), json!(true), &[]));
        assert!(kept(alice(), json!(null), &["Corp.test"]));
        for verified in [
            json!("true"),
            json!(1),
            json!([true]),
            json!({}),
            json!(null),
            json!(false),
        ] {
            assert!(!kept(alice(), verified.clone(), &[]), "{verified}");
            assert!(
                !kept(alice(), verified.clone(), &["test", "evilcorp.test"]),
                "{verified}"
            );
        }
        for malformed in [
            "alice@corp.test@evil.test",
            "evil@evil.test@corp.test",
            "@corp.test",
            "alice@",
            "corp.test",
            "",
            "a@corp.test,b@evil.test",
            "a@corp.test\r\nb@evil.test",
            "a @corp.test",
            "<a@corp.test>",
            "a@corp..test",
            "a@.corp.test",
            "a@corp.test.",
            "a@corp.test ",
            "a\u{0}@corp.test",
            "a@c\u{43e}rp.test",
        ] {
            assert!(
                !kept(json!(malformed), json!(true), &["corp.test"]),
                "{malformed:?}"
            );
        }
        assert!(!kept(json!(["alice@corp.test"]), json!(true), &[]));
        assert!(!kept(
            json!(format!("{}@corp.test", "a".repeat(250))),
            json!(true),
            &[]
        ));
    }

    #[test]
    fn only_the_json_value_true_is_true() {
        for value in [
            json!("true"),
            json!("false"),
            json!(1),
            json!(0),
            json!("yes"),
            json!([true]),
            json!({}),
            json!(null),
            json!(false),
        ] {
            let claims = claims(json!({ "email_verified": value }));
            assert!(!claims.flag("email_verified"), "{claims:?}");
        }
        assert!(!ClaimMap::default().flag("email_verified"));
        assert!(claims(json!({ "email_verified": true })).flag("email_verified"));
    }

    #[test]
    fn a_list_is_an_array_of_texts_or_one_text() {
        let list = |value| {
            let claims = claims(json!({ "groups": value }));
            claims
                .list("groups")
                .map(|texts| texts.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(list(json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(list(json!("a,b")).unwrap(), ["a,b"]);
        assert_eq!(list(json!(["", "b"])).unwrap(), ["b"]);
        assert!(list(json!(null)).unwrap().is_empty());
        assert!(ClaimMap::default().list("groups").unwrap().is_empty());
        for value in [
            json!(1),
            json!(true),
            json!({}),
            json!(["a", 1]),
            json!(["a", null]),
            json!([["a"]]),
        ] {
            assert_eq!(list(value.clone()), Err(NotAList), "{value}");
        }
    }

    #[test]
    fn groups_that_stand_elsewhere_are_noticed() {
        for value in [
            json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": { "endpoint": "https://graph" } } }),
            json!({ "hasgroups": true }),
            json!({ "hasgroups": "true" }),
        ] {
            assert!(groups_overage(&claims(value.clone())), "{value}");
        }
        for value in [
            json!({ "groups": ["a"] }),
            json!({ "hasgroups": false }),
            json!({ "_claim_names": { "address": "src1" } }),
            json!({ "_claim_names": "groups" }),
        ] {
            assert!(!groups_overage(&claims(value.clone())), "{value}");
        }
    }
}
