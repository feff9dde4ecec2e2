//! What the configuration says about who is one person across providers: plain data.

use std::collections::HashMap;
use std::time::Duration;

use crate::identity::Normalise;
use crate::identity::ProviderId;
use crate::identity::Template;
use crate::token::Algorithm;

/// `identity.canonical`.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    /// Rendered over the attributes of an identity, such as `hr:{employee_id}`.
    pub(crate) template: Template,
    /// Applied to each value before it is rendered.
    pub(crate) normalise: Vec<Normalise>,
    /// Providers that may speak about the attributes of the template (`authoritative.claims`). Others stay unjoined.
    pub(crate) authoritative: Vec<ProviderId>,
}

/// `roles.PROVIDER`: from groups to roles to scopes.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleMap {
    /// Roles by group, compared byte for byte.
    pub(crate) groups: HashMap<Box<str>, Vec<Box<str>>>,
    /// Scopes by role.
    pub(crate) scopes: HashMap<Box<str>, Vec<Box<str>>>,
    /// Whether somebody with a group that has no role is refused; else the group is counted.
    pub(crate) refuse_unmatched: bool,
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
