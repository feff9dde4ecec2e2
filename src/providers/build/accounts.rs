//! The people of an OpenID provider: where they are looked up, and how others come to it.

use std::sync::Arc;

use crate::providers::Deps;
use crate::providers::Directory;
use crate::providers::Provisioning;
use crate::providers::TokenClient;
use crate::providers::bearer::SignedTokens;
use crate::providers::build::Problem;
use crate::providers::build::address;
use crate::providers::client::Client;
use crate::providers::directory::KeycloakDirectory;
use crate::providers::directory::PLACE;
use crate::providers::directory::ScimDirectory;
use crate::providers::directory::UserInfoDirectory;
use crate::providers::oauth::ClientAuthenticator;
use crate::providers::oauth::Discovery;
use crate::providers::provisioning::KeycloakAccounts;
use crate::providers::provisioning::ScimAccounts;
use crate::providers::settings;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;

/// Both, as far as the settings want them.
type Both = (Option<Arc<dyn Directory>>, Option<Arc<dyn Provisioning>>);

/// With connections of their own.
pub(super) fn of(
    settings: &Settings,
    oidc: &settings::Oidc,
    (discovery, tokens, http): (&Arc<Discovery>, &Arc<SignedTokens>, &Arc<Client>),
    deps: &Deps,
) -> Result<Both, Problem> {
    let voucher = Voucher::new(settings, &oidc.issuer);
    let provisioning = oidc.provisioning.clone();
    match &oidc.directory {
        None => Ok((None, None)),
        Some(settings::OidcDirectory::Keycloak(own)) => {
            address("directory.keycloak.url", &own.url)?;
            let client = TokenClient {
                client: ClientAuthenticator::new(&own.client, &deps.metrics)?,
                discovery: Arc::clone(discovery),
                tokens: Arc::clone(tokens),
                http: Arc::clone(http),
                deps: deps.clone(),
                revokes: oidc.revokes,
            };
            let http = Arc::clone(http);
            let ours = oidc.client.as_ref().map(|client| &*client.id);
            let own = KeycloakDirectory::new(own.clone(), client, http, voucher, ours);
            let own = Arc::new(own);
            let accounts = provisioning.map(|provisioning| {
                let accounts = KeycloakAccounts::new(Arc::clone(&own), provisioning);
                Arc::new(accounts) as Arc<dyn Provisioning>
            });
            Ok((Some(own as Arc<dyn Directory>), accounts))
        }
        Some(settings::OidcDirectory::Scim(own)) => {
            address("directory.scim.url", &own.url)?;
            let own = Arc::new(ScimDirectory::new(own.clone(), Arc::clone(http), voucher));
            let accounts = provisioning.map(|provisioning| {
                let accounts = ScimAccounts::new(Arc::clone(&own), provisioning);
                Arc::new(accounts) as Arc<dyn Provisioning>
            });
            Ok((Some(own as Arc<dyn Directory>), accounts))
        }
        Some(settings::OidcDirectory::UserInfo(own)) => {
            address("directory.userinfo.url", &own.url.replace(PLACE, "x"))?;
            let own = UserInfoDirectory::new(own.clone(), Arc::clone(http), voucher);
            // Nobody gets an account by it.
            Ok((Some(Arc::new(own)), None))
        }
    }
}
