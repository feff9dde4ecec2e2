//! `directory` of a provider: how its people are looked up.

use crate::config::raw::RawClient;
use crate::config::raw::RawSecretText;
use crate::config::shape::At;
use crate::config::shape::mappings;

mappings! {
    /// How the people of an OpenID provider are looked up: for second opinions only, with connections and a breaker of their own.
    RawDirectory {
        /// By Keycloak's admin API. Required.
        keycloak: RawKeycloak,
        @later "scim", "userinfo";
    }

    /// Keycloak's admin API. Users are read as the tokens of a new client describe them: `sub`, `preferred_username`, `email`, `email_verified`, `given_name`, `family_name`, `name`, `groups`, and each user attribute under its own name; `claims` of the provider is applied to that.
    RawKeycloak {
        /// Such as `https://id.corp.example/admin/realms/NAME`. Default: the issuer, with `/realms/` as `/admin/realms/`.
        url: At<String>,
        /// A registration whose service account has the role `view-users` of `realm-management`. Required.
        client: RawClient,
        /// By what people are looked up: `username`, `email`, or a user attribute. Required.
        key: At<String>,
        /// Whether a group is its whole path, as with the mapper's `full.path`. Default `false`.
        full_path: At<bool>,
    }

    /// How an LDAP directory is searched: for second opinions only. Disabled accounts are known by `userAccountControl`, `nsAccountLock`, `loginDisabled` and a `pwdAccountLockedTime` that does not pass.
    RawLdapDirectory {
        /// Who we are there. Default: nobody.
        bind_dn: At<String>,
        /// The password of `bind_dn`.
        password: RawSecretText,
        /// Below this entry. Required.
        base: At<String>,
        /// What makes an entry a person. Default `(objectClass=person)`.
        filter: At<String>,
        /// The attribute by which people are looked up, such as `uid`. Required.
        key: At<String>,
    }
}
