//! What the configuration says about a directory that judges passwords: plain data.

use std::time::Duration;

use crate::identity::Issuer;
use crate::providers::settings::LdapDirectory;

/// A directory.
#[derive(Clone, Debug)]
pub(crate) struct Ldap {
    /// The issuer that stands for this provider in subject keys.
    pub(crate) issuer: Issuer,
    /// `ldaps://…`, or `ldap://…` with `starttls`; plain `ldap://` on loopback only.
    pub(crate) url: String,
    /// Whether StartTLS (RFC 4511 §4.14) is used.
    pub(crate) starttls: bool,
    /// `uid={username},ou=people,…`; the name is escaped (RFC 4514).
    pub(crate) user_dn: String,
    /// Attributes read after the bind.
    pub(crate) attributes: Vec<Box<str>>,
    /// Where groups are looked up.
    pub(crate) groups: Option<LdapGroups>,
    /// How it may be searched for others than who signs in.
    pub(crate) directory: Option<LdapDirectory>,
    /// How long a good answer is kept. Default 30 s.
    pub(crate) cache: Duration,
    /// Which of its connections are kept.
    pub(crate) pool: LdapPool,
}

/// Connections to a directory that are kept for the next bind.
#[derive(Clone, Debug)]
pub(crate) struct LdapPool {
    /// So many of them that nobody uses. Default 8; with 0 each bind has one of its own.
    pub(crate) idle: usize,
    /// For so long. Default 60 s.
    pub(crate) idle_for: Duration,
}

impl Default for LdapPool {
    fn default() -> Self {
        Self {
            idle: 8,
            idle_for: Duration::from_secs(60),
        }
    }
}

/// A group search.
#[derive(Clone, Debug)]
pub(crate) struct LdapGroups {
    /// Below this entry.
    pub(crate) base: String,
    /// `(member={dn})` or `(memberUid={username})`; values are escaped (RFC 4515).
    pub(crate) filter: String,
    /// The attribute that names a group.
    pub(crate) attribute: String,
}
