//! What the configuration says about directories: plain data.

use std::time::Duration;

use crate::providers::settings::OAuthClient;
use crate::secret::Secret;

/// Keycloak's admin API.
#[derive(Clone, Debug)]
pub(crate) struct Keycloak {
    /// `https://…/admin/realms/NAME`.
    pub(crate) url: String,
    /// A registration with a service account that may view users.
    pub(crate) client: OAuthClient,
    /// `username`, `email`, or the user attribute by which people are looked up.
    pub(crate) key: Box<str>,
    /// Whether a group is its path, and not its name alone.
    pub(crate) full_path: bool,
}

/// The directory of an OpenID provider.
#[derive(Clone, Debug)]
pub(crate) enum OfOidc {
    /// Keycloak's admin API.
    Keycloak(Keycloak),
    /// SCIM 2.0.
    Scim(Scim),
    /// An address that describes whoever is named in it.
    UserInfo(UserInfo),
}

/// An address that answers as a UserInfo endpoint does.
#[derive(Clone, Debug)]
pub(crate) struct UserInfo {
    /// With `{value}` for whoever is looked up.
    pub(crate) url: String,
    /// Our bearer token there.
    pub(crate) token: Secret<String>,
    /// The claim by whose value people are looked up.
    pub(crate) key: Box<str>,
    /// The claim that says whether the account may be used; `None`: each may.
    pub(crate) enabled: Option<Box<str>>,
}

/// A SCIM 2.0 service provider.
#[derive(Clone, Debug)]
pub(crate) struct Scim {
    /// Its base, such as `https://…/scim/v2`.
    pub(crate) url: String,
    /// Our bearer token there.
    pub(crate) token: Secret<String>,
    /// `externalId` or `userName`. Default `externalId`.
    pub(crate) key: Box<str>,
    /// For one call; `None`: as for every call to the provider.
    pub(crate) timeout: Option<Duration>,
}

/// An LDAP directory, searched.
#[cfg(feature = "ldap")]
#[derive(Clone, Debug)]
pub(crate) struct Ldap {
    /// Who we are there; `None`: nobody.
    pub(crate) bind: Option<(String, Secret<String>)>,
    /// Below this entry.
    pub(crate) base: String,
    /// What makes an entry a person.
    pub(crate) filter: String,
    /// The attribute by which people are looked up.
    pub(crate) key: String,
}
