//! What the configuration says about directories: plain data.

use crate::providers::settings::OAuthClient;
#[cfg(feature = "ldap")]
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
