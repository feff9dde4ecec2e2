//! The part of a fingerprint that is about the accounts of a provider.

use crate::providers::fingerprint::Digest;
use crate::providers::fingerprint::oauth_client;
use crate::providers::settings;

/// How its people are looked up.
pub(super) fn oidc_directory(hash: &mut Digest, directory: &settings::OidcDirectory) {
    match directory {
        settings::OidcDirectory::Keycloak(settings::KeycloakDirectory {
            url,
            client,
            key,
            full_path,
        }) => {
            hash.text("keycloak").text(url).text(key).flag(*full_path);
            oauth_client(hash, client);
        }
        settings::OidcDirectory::Scim(settings::ScimDirectory {
            url,
            token,
            key,
            timeout,
        }) => {
            hash.text("scim").text(url).text(token.expose()).text(key);
            hash.span(timeout.unwrap_or_default());
        }
        settings::OidcDirectory::UserInfo(settings::UserInfoDirectory {
            url,
            token,
            key,
            enabled,
        }) => {
            hash.text("userinfo").text(url).text(token.expose());
            hash.text(key).text(enabled.as_deref().unwrap_or_default());
        }
    }
}

/// How people come to it.
pub(super) fn provisioning(hash: &mut Digest, provisioning: &settings::Provisioning) {
    let settings::Provisioning {
        by,
        normalise,
        create,
        attributes,
    } = provisioning;
    hash.text(by)
        .list(normalise.iter().map(|way| way.as_str()))
        .flag(*create)
        .list(attributes.iter().flat_map(|(to, from)| [&**to, &**from]));
}
