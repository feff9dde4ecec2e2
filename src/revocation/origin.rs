//! Of whom a token was made that somebody may present to us again: what their provider said of them then.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimMap;
use crate::identity::CredentialClass;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;

/// Somebody, as the provider vouched for them whose credential a token was made of.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    identity: Arc<Identity>,
    class: CredentialClass,
}

/// The same in a row of ours.
#[derive(Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Written {
    provider: String,
    issuer: String,
    subject: String,
    attributes: Map<String, Value>,
    client: Option<String>,
    acr: Option<String>,
    act: Option<Value>,
    may_act: Option<Value>,
    /// Whether the credential was a token that only its issuer can read.
    opaque: bool,
}

impl Origin {
    /// Of a credential of this class. What that may do, the token that was made of it says itself.
    pub(crate) fn new(identity: &Arc<Identity>, class: CredentialClass) -> Self {
        Self {
            identity: Arc::clone(identity),
            class,
        }
    }

    /// Who it is. What the token may do is not among it.
    pub(crate) const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// What was presented.
    pub(crate) const fn class(&self) -> CredentialClass {
        self.class
    }

    pub(super) fn written(&self) -> Written {
        let identity = &self.identity;
        let attributes = identity.attributes.iter();
        let (act, may_act) = identity.delegation.said();
        Written {
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
            client: identity.client_id.as_deref().map(str::to_owned),
            acr: identity.acr.as_deref().map(str::to_owned),
            act: act.cloned(),
            may_act: may_act.cloned(),
            opaque: self.class == CredentialClass::Opaque,
        }
    }
}

impl Written {
    /// `None`: the row cannot be of this program.
    pub(super) fn read(self) -> Option<Origin> {
        let said = [("act", self.act), ("may_act", self.may_act)];
        let said = said.into_iter();
        let said = said.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let identity = Identity {
            provider: ProviderId::new(&self.provider),
            key: SubjectKey {
                issuer: Issuer::new(&self.issuer),
                subject: Subject::try_from(self.subject.as_str()).ok()?,
            },
            attributes: Arc::new(ClaimMap::new(self.attributes)),
            client_id: self.client.map(Into::into),
            acr: self.acr.map(Into::into),
            scopes: Box::default(),
            delegation: Delegation::read(&ClaimMap::new(said.collect())),
        };
        Some(Origin {
            identity: Arc::new(identity),
            class: if self.opaque {
                CredentialClass::Opaque
            } else {
                CredentialClass::Bearer
            },
        })
    }
}

/// The same person, of whom the same is said.
impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Eq for Origin {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else {
            panic!("an object")
        };
        members
    }

    #[test]
    fn what_was_said_of_somebody_is_read_back_as_it_was() {
        let mut attributes = ClaimMap::default();
        attributes.insert("groups", json!(["Vertrieb/Süd", "a,b"]));
        attributes.insert("level", json!(7));
        let acts = json!({ "act": { "sub": "bot" }, "may_act": { "sub": "shop" } });
        for (class, act) in [
            (CredentialClass::Bearer, json!({})),
            (CredentialClass::Opaque, acts),
        ] {
            let identity = Arc::new(Identity {
                provider: ProviderId::new("old"),
                key: SubjectKey {
                    issuer: Issuer::new("https://old.test"),
                    subject: Subject::try_from("älice").unwrap(),
                },
                attributes: Arc::new(attributes.clone()),
                client_id: Some("mobile".into()),
                acr: None,
                scopes: Box::from([Box::from("write")]),
                delegation: Delegation::read(&ClaimMap::new(members(act))),
            });
            let origin = Origin::new(&identity, class);
            let text = serde_json::to_vec(&origin.written()).unwrap();
            let written: Written = serde_json::from_slice(&text).unwrap();
            let again = written.read().unwrap();
            assert_eq!(again, origin);
            assert_eq!(again.class(), class);
            let (own, was) = (again.identity(), &identity);
            assert_eq!((&own.provider, &own.key), (&was.provider, &was.key));
            assert_eq!(own.attributes, was.attributes);
            assert_eq!(own.delegation, was.delegation);
            assert!(own.scopes.is_empty());
        }
    }
}
