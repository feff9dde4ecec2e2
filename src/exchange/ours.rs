//! Which tokens are results of ours: by the registrations that ask providers for them.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::exchange::way::Way;
use crate::identity::Identity;
use crate::identity::ProviderId;

/// Our registrations that exchange, as tokens of their providers name them (`client_id`, `azp`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Registrations(Arc<HashMap<ProviderId, HashSet<Box<str>>>>);

impl Registrations {
    pub(super) fn of<'a>(ways: impl IntoIterator<Item = &'a Way>) -> Self {
        let mut all: HashMap<ProviderId, HashSet<Box<str>>> = HashMap::new();
        for (provider, id) in ways.into_iter().filter_map(Way::registration) {
            all.entry(provider.clone()).or_default().insert(id.into());
        }
        Self(Arc::new(all))
    }

    /// Whether one of them asked for the token that says this.
    pub(crate) fn asked_for(&self, identity: &Identity) -> bool {
        let here = self.0.get(&identity.provider);
        let client = identity.client_id.as_deref();
        here.zip(client)
            .is_some_and(|(here, client)| here.contains(client))
    }
}
