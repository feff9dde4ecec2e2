//! What a provider can be asked on the side, by the kind that it is.

use crate::config::compile::providers::Provider;
use crate::identity::CredentialClass;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Oidc;
use crate::providers::settings::OidcDirectory;

/// Whether people of a provider can be looked up.
pub(super) fn has_directory(kind: &KindSettings) -> bool {
    match kind {
        KindSettings::Oidc(oidc) => oidc.directory.is_some(),
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(ldap) => ldap.directory.is_some(),
        #[cfg(feature = "ldap")]
        KindSettings::SessionProbe(probe) => {
            let bind = probe.bind.as_ref();
            bind.is_some_and(|bind| bind.directory.is_some())
        }
        #[cfg(not(feature = "ldap"))]
        KindSettings::SessionProbe(_) => false,
        KindSettings::Basic(_)
        | KindSettings::ClientCert(_)
        | KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::ApiKey(_) => false,
    }
}

/// Whether people of a provider can be told one after another: an address that describes somebody lists nobody.
pub(super) fn lists_people(kind: &KindSettings) -> bool {
    let by_address = match kind {
        KindSettings::Oidc(oidc) => matches!(oidc.directory, Some(OidcDirectory::UserInfo(_))),
        _ => false,
    };
    has_directory(kind) && !by_address
}

/// Whether passwords move there, so that it is asked about one as it would be then, over connections of its own.
const fn takes_passwords(oidc: &Oidc) -> bool {
    oidc.provisioning.is_some() && oidc.client.is_some()
}

/// Whether its trouble with second opinions is nobody's who signs in.
pub(super) fn asked_aside(providers: &[Provider], name: &str) -> bool {
    let mut all = providers.iter();
    let found = all.find(|provider| provider.name.value == name);
    let settings = found.and_then(|provider| provider.settings.as_ref());
    matches!(settings.map(|settings| &settings.kind), Some(KindSettings::Oidc(oidc)) if takes_passwords(oidc))
}

/// Whether a provider of this name takes such credentials. One that could not be read has been reported.
pub(super) fn judges(providers: &[Provider], name: &str, class: CredentialClass) -> bool {
    let found = providers
        .iter()
        .find(|provider| provider.name.value == name);
    let Some(settings) = found.and_then(|provider| provider.settings.as_ref()) else {
        return true;
    };
    match &settings.kind {
        KindSettings::Basic(_) => class == CredentialClass::Basic,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => class == CredentialClass::Basic,
        KindSettings::ClientCert(_) => class == CredentialClass::ClientCert,
        KindSettings::Oidc(oidc) => class == CredentialClass::Basic && takes_passwords(oidc),
        KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::SessionProbe(_)
        | KindSettings::ApiKey(_) => false,
    }
}
