//! What a provider can do beside judging what it issued: declared by its kind, never found out by trying.

/// One thing that a provider may be able to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ability {
    /// A browser signs in there, and comes back with a code.
    Login,
    /// A session is asked for again with its refresh token.
    Refresh,
    /// It is asked about each token (RFC 7662).
    Introspect,
    /// It takes tokens or sessions back (RFC 7009, or in its own way).
    Revoke,
    /// It exchanges tokens for a registered client (RFC 8693, RFC 7523).
    Exchange,
    /// It tells us of sign-outs there, and takes those from here.
    Logout,
    /// Its people can be looked up: who they are, their groups, whether the account may be used.
    Directory,
    /// People whose password another provider has found good get an account there, and that password; it judges it from then on.
    Provision,
}

impl Ability {
    /// The word that operators see.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Introspect => "introspect",
            Self::Revoke => "revoke",
            Self::Exchange => "exchange",
            Self::Logout => "logout",
            Self::Directory => "directory",
            Self::Provision => "provision",
        }
    }
}
