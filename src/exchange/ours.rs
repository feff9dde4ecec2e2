//! Which tokens are results of ours: by the registrations that ask providers for them, and by whom we mint as.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::exchange::Token;
use crate::exchange::way::Way;
use crate::identity::Identity;
use crate::identity::ProviderId;

/// Our registrations that exchange, as tokens of their providers name them (`client_id`, `azp`), and the issuers that we mint
/// as: one of a provider among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registrations(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    at: HashMap<ProviderId, HashSet<Box<str>>>,
    /// The same by the issuer: another provider here may take the same tokens.
    of: HashMap<Box<str>, HashSet<Box<str>>>,
    minted_as: HashSet<Box<str>>,
}

/// Who notes a result for an upstream, with what it was made of, before anybody gets it.
#[async_trait]
pub(crate) trait Noted: fmt::Debug + Send + Sync {
    /// It was made, and nobody has it yet.
    async fn made(&self, token: &Token, now: UnixTime);
}

impl Registrations {
    pub(super) fn of<'a>(ways: impl IntoIterator<Item = &'a Way>) -> Self {
        let mut known = Known::default();
        for way in ways {
            if let Some((provider, issuer, id)) = way.registration() {
                known.of.entry(issuer.into()).or_default().insert(id.into());
                known
                    .at
                    .entry(provider.clone())
                    .or_default()
                    .insert(id.into());
            }
            known.minted_as.extend(way.mints_as().map(Box::from));
        }
        Self(Arc::new(known))
    }

    /// Whether one of them asked for the token that says this, or we minted it.
    pub(crate) fn asked_for(&self, identity: &Identity) -> bool {
        let named = |client| self.there(identity).any(|here| here.contains(client));
        identity.client_id.as_deref().is_some_and(named) || self.minted(identity)
    }

    /// The registrations where it is from.
    fn there(&self, identity: &Identity) -> impl Iterator<Item = &HashSet<Box<str>>> {
        let issuer = identity.key.issuer.as_str();
        let all = [self.0.at.get(&identity.provider), self.0.of.get(issuer)];
        all.into_iter().flatten()
    }

    /// The same, of a token that need not say who asked for it.
    pub(crate) fn may_have_asked_for(&self, identity: &Identity) -> bool {
        let nameless = identity.client_id.is_none() && self.there(identity).next().is_some();
        nameless || self.asked_for(identity)
    }

    fn minted(&self, identity: &Identity) -> bool {
        self.0.minted_as.contains(identity.key.issuer.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;

    fn said(provider: &str, client: Option<&str>) -> Identity {
        Identity {
            provider: ProviderId::new(provider),
            key: SubjectKey {
                issuer: Issuer::new("https://a.test"),
                subject: Subject::try_from("alice").unwrap(),
            },
            attributes: Arc::default(),
            client_id: client.map(Box::from),
            acr: None,
            scopes: Box::default(),
            delegation: crate::identity::Delegation::default(),
        }
    }

    /// One provider exchanges, another one with the same issuer takes what comes of it.
    #[test]
    fn a_registration_is_ours_at_its_issuer_whoever_takes_its_tokens_here() {
        let ours = || HashSet::from(["ferry".into()]);
        let known = Registrations(Arc::new(Known {
            at: HashMap::from([(ProviderId::new("a"), ours())]),
            of: HashMap::from([("https://a.test".into(), ours())]),
            minted_as: HashSet::new(),
        }));
        for provider in ["a", "taker"] {
            assert!(known.asked_for(&said(provider, Some("ferry"))));
            assert!(!known.asked_for(&said(provider, Some("else"))));
            assert!(!known.may_have_asked_for(&said(provider, Some("else"))));
            assert!(!known.asked_for(&said(provider, None)));
            assert!(known.may_have_asked_for(&said(provider, None)));
        }
    }
}
