//! What the configuration says about roles, silent logins, limits and proofs of possession: plain data.

use std::collections::HashMap;
use std::time::Duration;

use crate::identity::ProviderId;
use crate::token::Algorithm;

/// `roles.PROVIDER`: from groups to roles to scopes.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleMap {
    /// Roles by group, compared byte for byte.
    pub(crate) groups: HashMap<Box<str>, Vec<Box<str>>>,
    /// Scopes by role.
    pub(crate) scopes: HashMap<Box<str>, Vec<Box<str>>>,
    /// Whether a token without scopes gets them, too. Default no.
    pub(crate) scopes_for_tokens: bool,
    /// Whether somebody with a group that has no role is refused; else the group is counted.
    pub(crate) refuse_unmatched: bool,
}

/// `apps.APP.rate_limits`: what one address may do in a minute, counted by all instances together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RateLimits {
    /// Sign-ins that it begins. Default 3 000.
    pub(crate) logins: u32,
    /// Tokens that it presents of keys that nobody has published. Default 600.
    pub(crate) unknown_keys: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            logins: 3_000,
            unknown_keys: 600,
        }
    }
}

/// `pages`: how our pages look, and what they say beside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    /// A style sheet in their place of ours.
    pub(crate) style: Option<Box<str>>,
    /// A page of yours that they link.
    pub(crate) help: Option<Box<str>>,
    /// What people are told that providers are called, where they choose one. Default: by their names.
    pub(crate) providers: Vec<(ProviderId, Box<str>)>,
    /// Whether people are told once that their sign-in page has changed. Default: no.
    pub(crate) changed: bool,
    /// Whether what stands behind `#` in an address is remembered over a sign-in. Default: no.
    pub(crate) keep_fragment: bool,
    /// Where people look after their account.
    pub(crate) accounts: HashMap<ProviderId, AccountPages>,
}

/// The pages of a provider about an account there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct AccountPages {
    /// Where a password is changed.
    pub(crate) password: Option<Box<str>>,
    /// What else there is to look after.
    pub(crate) profile: Option<Box<str>>,
}

/// `sessions.silent`: when a person with a session of the old side is asked after at the new one, without a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Silent {
    /// How long a browser is left alone after a try. Default 24 h.
    pub(crate) retry_after: Duration,
    /// Tries for one person within a day, in all browsers. Default 2.
    pub(crate) per_day: u8,
}

/// `retention`: how long what is kept at sign-ins is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KeptByLogins {
    /// What a browser remembers of itself. Default 400 days, the longest that browsers allow.
    pub(crate) browsers: Duration,
    /// What somebody typed in when their session was over. Default 10 min.
    pub(crate) forms: Duration,
}

impl Default for KeptByLogins {
    fn default() -> Self {
        Self {
            browsers: Duration::from_hours(400 * 24),
            forms: Duration::from_mins(10),
        }
    }
}

/// `dpop`: how proofs of possession are judged.
#[derive(Clone, Debug)]
pub(crate) struct Possession {
    /// Signature algorithms of proofs. Default: ES256, ES384, ES512, PS256, RS256, EdDSA.
    pub(crate) algorithms: Vec<Algorithm>,
    /// How old a proof may be. Default 60 s.
    pub(crate) max_age: Duration,
    /// How long a nonce of ours is good; `None`: none is asked for.
    pub(crate) nonce_life: Option<Duration>,
    /// How many used proofs are remembered; with more, 503. Default 500 000.
    pub(crate) replay_entries: usize,
}

#[cfg(test)]
impl Possession {
    /// The defaults.
    pub(crate) fn for_test() -> Self {
        Self {
            algorithms: vec![Algorithm::Es256],
            max_age: Duration::from_secs(60),
            nonce_life: None,
            replay_entries: 1_000,
        }
    }
}
