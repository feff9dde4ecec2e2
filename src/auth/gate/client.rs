//! By what can be revoked what a client of our token endpoint has for itself.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::gate::Gate;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Delegation;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::providers::TokenClient;
use crate::revocation::Marks;
use crate::revocation::Standing;

impl Gate {
    /// By what can be revoked what `provider` gives a client for itself, asked since `now`.
    pub(crate) fn standing_of_client(
        &self,
        client: (&SubjectKey, &HashMap<ProviderId, Arc<TokenClient>>),
        provider: &ProviderId,
        now: UnixTime,
    ) -> Standing {
        let marks = marks_of_client(client, provider, now);
        Standing::new(self.deps.revocations.index(), marks)
    }
}

/// Of a client at one of its providers. Our name for it may be somebody else's there. What was revoked there before was given out
/// before, too.
pub(super) fn marks_of_client(
    (account, at): (&SubjectKey, &HashMap<ProviderId, Arc<TokenClient>>),
    provider: &ProviderId,
    now: UnixTime,
) -> Marks {
    let identity = Identity {
        provider: provider.clone(),
        key: account.clone(),
        attributes: Arc::default(),
        client_id: at.get(provider).map(|at| at.id().into()),
        acr: None,
        scopes: Box::default(),
        delegation: Delegation::default(),
    };
    let grounds = Grounds {
        began: Some(now),
        ..Grounds::default()
    };
    let canonical = CanonicalSubject::unjoined(account);
    Marks::of(&Arc::new(identity), &canonical, &grounds)
}
