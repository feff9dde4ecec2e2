//! From claims to a proof: the same way for every kind of provider.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::ClaimPath;
use crate::identity::Confirmation;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::attributes;
use crate::identity::drop_unproven_email;
use crate::identity::groups_overage;
use crate::providers::Authenticated;
use crate::providers::settings::Assurance;
use crate::providers::settings::Settings;

/// What a provider's claims mean here.
#[derive(Debug)]
pub(super) struct Voucher {
    provider: ProviderId,
    issuer: Issuer,
    claims: Vec<(Box<str>, ClaimPath)>,
    email_domains: Vec<Box<str>>,
    assurance: Assurance,
}

impl Voucher {
    /// For a provider that speaks as `issuer`.
    pub(super) fn new(settings: &Settings, issuer: &Issuer) -> Self {
        Self {
            provider: settings.id.clone(),
            issuer: issuer.clone(),
            claims: settings.claims.clone(),
            email_domains: settings.email_domains.clone(),
            assurance: settings.assurance.clone(),
        }
    }

    /// For tokens whose claims say nothing of anybody here.
    pub(super) fn of_nothing(provider: ProviderId, issuer: &Issuer) -> Self {
        Self {
            provider,
            issuer: issuer.clone(),
            claims: Vec::new(),
            email_domains: Vec::new(),
            assurance: Assurance::default(),
        }
    }

    /// Vouches for `subject`, of whom the provider said `claims`.
    ///
    /// # Errors
    ///
    /// When the subject is none; when its groups were left out of the claims because they are too many, because missing
    /// groups must never look like no groups; when the credential is bound (RFC 7800) in a way that cannot be checked here.
    pub(super) fn vouch(
        &self,
        subject: &str,
        claims: &ClaimMap,
        expires: UnixTime,
    ) -> Result<Authenticated, Refusal> {
        let confirmation = Confirmation::of(claims)?;
        let identity = self.describe(subject, claims)?;
        Ok(Authenticated::new(identity, expires).bound(confirmation))
    }

    /// Describes `subject`, of whom the provider said `claims`. Nothing is vouched for.
    ///
    /// # Errors
    ///
    /// As [`Self::vouch`], except for what is said of a credential.
    pub(super) fn describe(&self, subject: &str, claims: &ClaimMap) -> Result<Identity, Refusal> {
        let subject = Subject::try_from(subject).or(Err(Refusal::BadCredentials))?;
        if groups_overage(claims)
            && self
                .claims
                .iter()
                .any(|(name, path)| &**name == "groups" || path.first() == "groups")
        {
            return Err(Refusal::Policy);
        }
        let mut attributes = attributes(claims, &self.claims);
        drop_unproven_email(&mut attributes, &self.email_domains);
        // When the person signed in (OpenID Connect Core 1.0 §2, RFC 9068 §2.2.1): a route may ask how long ago.
        if let Some(moment) = claims.member("auth_time").filter(|moment| moment.is_u64()) {
            attributes.insert("auth_time", moment.clone());
        }
        Ok(Identity {
            provider: self.provider.clone(),
            key: SubjectKey {
                issuer: self.issuer.clone(),
                subject,
            },
            attributes: Arc::new(attributes),
            client_id: client(claims).map(Box::from),
            acr: self.acr(claims),
            scopes: scopes(claims),
            delegation: Delegation::read(claims),
        })
    }

    /// Vouches for somebody known from a list: the claims are `username` and `groups`.
    ///
    /// # Errors
    ///
    /// As [`Self::vouch`].
    pub(super) fn listed(
        &self,
        name: &str,
        groups: &[Box<str>],
        expires: UnixTime,
    ) -> Result<Authenticated, Refusal> {
        let groups = groups.iter().map(|g| Value::from(&**g)).collect();
        let members = Map::from_iter([
            ("username".to_owned(), Value::from(name)),
            ("groups".to_owned(), Value::Array(groups)),
        ]);
        self.vouch(name, &ClaimMap::new(members), expires)
    }

    fn acr(&self, claims: &ClaimMap) -> Option<Box<str>> {
        let Assurance { fixed, claim, map } = &self.assurance;
        let Some(claim) = claim else {
            return fixed.clone();
        };
        let said = claim.find(claims)?;
        let said = said.as_str()?;
        map.iter()
            .find(|(from, _)| &**from == said)
            .map(|(_, to)| to.clone())
    }
}

/// `scope` as one string (RFC 6749 §3.3), or `scp` as a string or a list.
fn scopes(claims: &ClaimMap) -> Box<[Box<str>]> {
    if let Some(text) = claims.text("scope").or_else(|| claims.text("scp")) {
        return text
            .split(' ')
            .filter(|s| !s.is_empty())
            .map(Box::from)
            .collect();
    }
    let list = claims.member("scp").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Box::from)
        .collect()
}

/// Which client it was given to: `client_id` (RFC 9068 §2.2), `azp`, or as the issuer writes it that follows neither: `appid` (AD FS,
/// Entra v1, which both say `ver: 1.0`), `cid` (Okta, whose scopes are a list; elsewhere that may be anything).
fn client(claims: &ClaimMap) -> Option<&str> {
    let appid = || {
        let is_theirs = claims.text("ver") == Some("1.0");
        claims.text("appid").filter(|_| is_theirs)
    };
    let cid = || {
        let is_list = claims.member("scp").is_some_and(Value::is_array);
        claims.text("cid").filter(|_| is_list)
    };
    let own = claims.text("client_id").or_else(|| claims.text("azp"));
    own.or_else(appid).or_else(cid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_is_known_by_the_name_that_its_issuer_has_for_it() {
        for (said, name) in [
            (
                json!({ "client_id": "a", "azp": "b", "appid": "c" }),
                Some("a"),
            ),
            (json!({ "azp": "b", "appid": "c" }), Some("b")),
            (json!({ "appid": "c", "ver": "1.0" }), Some("c")),
            (json!({ "cid": "d", "scp": ["read"] }), Some("d")),
            (json!({ "cid": "a customer", "scp": "read" }), None),
            (json!({ "cid": "a customer" }), None),
            (json!({ "appid": 7 }), None),
        ] {
            let Value::Object(members) = said else {
                panic!("an object")
            };
            let claims = ClaimMap::new(members);
            assert_eq!(client(&claims), name, "{claims:?}");
        }
    }
}
