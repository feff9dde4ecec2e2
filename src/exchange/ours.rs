//! Which tokens are results of ours: by the registrations that ask providers for them, and by whom we mint as.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

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
    minted_as: HashSet<Box<str>>,
}

impl Registrations {
    pub(super) fn of<'a>(ways: impl IntoIterator<Item = &'a Way>) -> Self {
        let mut known = Known::default();
        for way in ways {
            if let Some((provider, id)) = way.registration() {
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
        let here = self.0.at.get(&identity.provider);
        let client = identity.client_id.as_deref();
        let named = here.zip(client);
        named.is_some_and(|(here, client)| here.contains(client)) || self.minted(identity)
    }

    /// The same, of a token that need not say who asked for it.
    pub(crate) fn may_have_asked_for(&self, identity: &Identity) -> bool {
        let nameless = identity.client_id.is_none() && self.0.at.contains_key(&identity.provider);
        nameless || self.asked_for(identity)
    }

    fn minted(&self, identity: &Identity) -> bool {
        self.0.minted_as.contains(identity.key.issuer.as_str())
    }
}
