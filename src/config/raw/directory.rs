//! `directory` of a provider: how its people are looked up.

use crate::config::raw::RawClient;
use crate::config::raw::RawSecretText;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// How the people of an OpenID provider are looked up: for second opinions, and for passwords that move there (`basic: migrate`). It has connections and a breaker of its own.
    one of RawDirectory {
        /// By Keycloak's admin API.
        keycloak: RawKeycloak,
        /// By SCIM 2.0 (RFC 7644).
        scim: RawScim,
        /// By an address that answers as a UserInfo endpoint does, about whoever is named in it. Nobody gets an account by it, and it lists nobody.
        userinfo: RawUserInfo,
    }

    /// An address that answers as a UserInfo endpoint does (OpenID Connect Core 1.0 §5.3.2): 200 with claims, `sub` and `key` among them, to which `claims` of the provider is applied; 404 for somebody whom nobody knows.
    RawUserInfo {
        /// With `{value}` for whoever is looked up, such as `https://id.corp.example/people/{value}`. Required.
        url: At<String>,
        /// Our bearer token there. Required.
        token: RawSecretText,
        /// The claim by whose value people are looked up. Default `sub`.
        key: At<String>,
        /// The claim that says by `true` or `false` whether the account may be used. Default: each may.
        enabled: At<String>,
    }

    /// A SCIM 2.0 service provider. Users are read as OpenID Connect describes them: `sub` (its `id`), `preferred_username`, `email`, `name`, `given_name`, `family_name`, `groups`, and each simple attribute, also of extensions, under its own name; `claims` of the provider is applied to that.
    RawScim {
        /// Its base, such as `https://id.corp.example/scim/v2`. Required.
        url: At<String>,
        /// Our bearer token there. Required.
        token: RawSecretText,
        /// By what people are looked up. Default `externalId`.
        key: At<ScimKeyWord>,
        /// For one call. From `50ms` to `60s`. Default: as for every call to the provider.
        timeout: At<Span>,
    }

    /// What becomes of people who come to this provider with a password that the old one has found good (`basic: migrate`, `carry_over: [credential]`), whether it came with a request or in the form of an application. They are looked up in `directory`, by the one attribute of `identity.canonical`; the account gets the password, unless it has one already; and where the provider then lets them in with it (resource owner password grant, RFC 6749 §4.3, as `client`: the provider must allow that), it is the only judge of their passwords from then on.
    RawProvisioning {
        /// Whether somebody without an account gets one. Default `true`.
        create: At<bool>,
        /// What a new account gets beside its name and key, as `attribute there: attribute of ours`. For Keycloak `email`, `firstName`, `lastName`, or a user attribute; for SCIM `emails`, `name.givenName`, an attribute, or one of an extension by its whole name. Default: address, first and last name from `email`, `given_name` and `family_name`, as far as they are known.
        attributes: Named<At<String>>,
    }

    /// How passwords are judged that come with requests to an old system.
    RawAuthenticate {
        /// By a bind to the directory of the same people. Required.
        ldap_bind: RawLdapBind,
    }

    /// A bind to a directory (RFC 4511 §4.2). `claims` of the provider is read over the attributes of the entry as over an answer of `introspect`, so that a password and a session name the same person; of attributes with names of other entries a part can be read, such as `memberOf[*].cn`.
    RawLdapBind {
        /// `ldaps://host`, or `ldap://host` with `starttls: true`; plain `ldap://` on loopback only. Required.
        url: At<String>,
        /// Whether StartTLS (RFC 4511 §4.14) is used. Default `false`.
        starttls: At<bool>,
        /// The entry that binds, such as `uid={username},ou=people,dc=corp,dc=example`; the name is escaped. Required.
        user_dn: At<String>,
        /// Attributes that are read after the bind. Default: those that `claims` names.
        attributes: List<At<String>>,
        /// Where groups are looked up; they are the claim `groups`.
        groups: RawLdapGroups,
        /// How long a good answer is kept. From `1s` to `10m`. Default `30s`.
        cache: At<Span>,
        /// How its people are looked up, for second opinions and `identity.denials`.
        directory: RawLdapDirectory,
        /// Which of its connections are kept.
        pool: RawLdapPool,
    }

    /// Where groups are looked up in a directory.
    RawLdapGroups {
        /// Below this entry. Required.
        base: At<String>,
        /// `(member={dn})` or `(memberUid={username})`; values are escaped. Required.
        filter: At<String>,
        /// The attribute that names a group. Default `cn`.
        attribute: At<String>,
    }

    /// Connections to a directory that are kept for the next bind; those of searches by `directory` are kept apart from those of people, by the same bounds. Before a password is sent on a kept one, the directory shows by a read of its root entry that it still answers; a bind itself is never tried again. A connection on which anything was refused, went wrong or took too long is closed, and each after ten minutes.
    RawLdapPool {
        /// How many are kept that nobody uses; with `0` each bind has one of its own. From 0 to 256. Default `8`.
        idle: At<Whole>,
        /// For how long; less than the directory, and what is on the way to it, keep an idle one. From `1s` to `10m`. Default `1m`.
        idle_for: At<Span>,
    }

    /// Keycloak's admin API. Users are read as the tokens of a new client describe them: `sub`, `preferred_username`, `email`, `email_verified`, `given_name`, `family_name`, `name`, `groups`, and each user attribute under its own name; `claims` of the provider is applied to that.
    RawKeycloak {
        /// Such as `https://id.corp.example/admin/realms/NAME`. Default: the issuer, with `/realms/` as `/admin/realms/`.
        url: At<String>,
        /// A registration whose service account has the role `view-users` of `realm-management`; and `manage-users`, where people come with their passwords. Required.
        client: RawClient,
        /// By what people are looked up: `username`, `email`, or a user attribute. Required.
        key: At<String>,
        /// Whether a group is its whole path, as with the mapper's `full.path`. Default `false`.
        full_path: At<bool>,
    }

    /// How an LDAP directory is searched: for second opinions and `identity.denials`. Disabled accounts are known by `userAccountControl`, `nsAccountLock`, `loginDisabled` and a `pwdAccountLockedTime` that does not pass.
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

words! {
    /// By what people are looked up by SCIM.
    ScimKeyWord {
        /// Our name for somebody (RFC 7643 §3.1): it is never given twice.
        "externalId" => ExternalId,
        /// The name that they sign in with.
        "userName" => UserName,
    }
}
