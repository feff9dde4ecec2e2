//! Named groups of people and requests.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::identity::ClaimPath;
use crate::identity::ProviderId;
use crate::rollout::facts::Facts;

/// The name of a cohort.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CohortId(Arc<str>);

impl CohortId {
    /// The name, as the configuration spells it.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CohortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When everything a cohort asks about is known.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// With the request itself.
    Before,
    /// Once the owner has verified the credential.
    After,
}

/// A predicate over [`Facts`].
#[derive(Clone, Debug)]
pub enum Cohort {
    /// These people, by canonical subject.
    Subjects(HashSet<Box<str>>),
    /// People whose verified address lies in one of these domains, compared whole and without regard to ASCII case.
    EmailDomain {
        /// The domains.
        domains: Vec<Box<str>>,
        /// Providers whose word about a domain needs no `email_verified` (`authoritative.email_domains`).
        authoritative: Vec<(ProviderId, Box<str>)>,
    },
    /// People whom `provider` lists in one of these groups.
    Group {
        /// Who must say so.
        provider: ProviderId,
        /// Any of these.
        any_of: HashSet<Box<str>>,
    },
    /// People of whom `provider` says that the claim has this value.
    Claim {
        /// Who must say so.
        provider: ProviderId,
        /// Which attribute.
        name: ClaimPath,
        /// Its value.
        equals: Box<str>,
    },
    /// These OAuth clients.
    ClientId(HashSet<Box<str>>),
    /// These client addresses. Steers a login; never widens acceptance.
    Cidr(Vec<IpNet>),
    /// These hosts.
    Host(Vec<Box<str>>),
    /// Paths; a trailing `*` matches any rest.
    Path(Vec<Box<str>>),
    /// These methods.
    Method(Vec<Box<str>>),
    /// These applications.
    App(Vec<Box<str>>),
    /// A header from a listed peer. Steers a login; never widens acceptance.
    Header {
        /// Its name, lower case.
        name: Box<str>,
        /// Its value.
        equals: Box<str>,
        /// The peers who may set it.
        trusted_from: Vec<IpNet>,
    },
    /// All of these.
    All(Vec<Cohort>),
    /// Any of these.
    Any(Vec<Cohort>),
    /// None of this.
    Not(Box<Cohort>),
}

/// All cohorts, by name.
pub type Cohorts = HashMap<CohortId, Cohort>;

impl Cohort {
    /// Whether the facts fit; `None` when they are not known yet.
    pub fn contains(&self, _facts: &Facts<'_>) -> Option<bool> {
        todo!()
    }

    /// When the answer is known.
    pub fn phase(&self) -> Phase {
        todo!()
    }

    /// Whether the answer rests on facts that may not decide acceptance (address, header).
    pub fn rests_on_unverified(&self) -> bool {
        todo!()
    }

    /// Whether the answer depends on the request (host, path, method, address, header) and not only on the person.
    pub fn depends_on_request(&self) -> bool {
        todo!()
    }
}
