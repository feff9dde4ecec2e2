//! Who is registered at providers: clients of our token endpoint, and we.

use crate::auth::Registered;
use crate::config::settings::Settings;
use crate::exchange::settings::Way;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::settings::KindSettings;

/// Registrations of clients, and ours, at providers that issue tokens.
pub(super) fn registered(settings: &Settings) -> Vec<Registered> {
    let at = |provider: &ProviderId| {
        let mut all = settings.providers.iter();
        if let KindSettings::Oidc(oidc) = &all.find(|known| known.id == *provider)?.kind {
            Some(oidc)
        } else {
            None
        }
    };
    let one = |provider: &ProviderId, id: &str, account: Option<SubjectKey>| {
        Some(Registered {
            issuer: at(provider)?.issuer.clone(),
            id: id.into(),
            account,
        })
    };
    let clients = settings.issuer.iter().flat_map(|endpoint| {
        let issuer = Issuer::new(&endpoint.issuer);
        let clients = endpoint.clients.iter();
        clients.flat_map(move |client| {
            let subject = Subject::try_from(&*client.id).ok();
            let account = subject.map(|subject| SubjectKey {
                issuer: issuer.clone(),
                subject,
            });
            let all = client.at.iter();
            all.filter_map(move |(provider, there)| one(provider, &there.id, account.clone()))
        })
    });
    let logins = settings.providers.iter().filter_map(|known| {
        let own = at(&known.id)?.client.as_ref()?;
        one(&known.id, &own.id, None)
    });
    let exchanges = settings.exchanges.iter().filter_map(|exchange| {
        let (Way::TokenExchange(remote) | Way::Assertion(remote, _)) = &exchange.way else {
            return None;
        };
        one(&remote.provider, &remote.client.as_ref()?.id, None)
    });
    clients.chain(logins).chain(exchanges).collect()
}
