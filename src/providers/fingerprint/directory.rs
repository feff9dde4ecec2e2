//! The part of a fingerprint that is about a directory.

use crate::providers::fingerprint::Digest;
use crate::providers::settings;

/// How it is reached, and what is asked there.
pub(super) fn ldap(hash: &mut Digest, ldap: &settings::Ldap) {
    let settings::Ldap {
        issuer,
        url,
        starttls,
        user_dn,
        attributes,
        groups,
        directory,
        cache,
        pool: settings::LdapPool { idle, idle_for },
    } = ldap;
    hash.text("ldap")
        .text(issuer.as_str())
        .text(url)
        .flag(*starttls)
        .text(user_dn)
        .list(attributes.iter().map(|attribute| &**attribute))
        .flag(groups.is_some());
    if let Some(settings::LdapGroups {
        base,
        filter,
        attribute,
    }) = groups
    {
        hash.text(base).text(filter).text(attribute);
    }
    hash.span(*cache).number(*idle as u64).span(*idle_for);
    hash.flag(directory.is_some());
    if let Some(directory) = directory {
        hash.text(&directory.base).text(&directory.filter);
        hash.text(&directory.key).flag(directory.bind.is_some());
        if let Some((dn, password)) = &directory.bind {
            hash.text(dn).text(password.expose());
        }
    }
}
