//! What `shadow` says of one application.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Percent;
use crate::shadow::kind::Class;

/// How the people of one application are looked at a second time.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Which application.
    pub(crate) app: AppId,
    /// How many of its people. Default: all.
    pub(crate) sample: Percent,
    /// How long a person is not asked about again. Default 6 h.
    pub(crate) per_subject: Duration,
    /// Calls a second. Default 20.
    pub(crate) rps: u32,
    /// Calls under way at once. Default 16.
    pub(crate) inflight: usize,
    /// How long a call may take. Default 2 s.
    pub(crate) timeout: Duration,
    /// When it stops asking.
    pub(crate) breaker: Breaker,
    /// Who is asked about credentials of a class, once they were accepted.
    pub(crate) dual_verify: Vec<(CredentialClass, ProviderId)>,
    /// Where people are looked up who presented a credential of a class.
    pub(crate) directory: Vec<(CredentialClass, Lookup)>,
    /// The daily look at everybody.
    pub(crate) sweep: Option<Sweep>,
    /// Whether the application's own answers are compared with our decisions.
    pub(crate) upstream_status: bool,
    /// What is known and does not count.
    pub(crate) ignore: Vec<Ignore>,
}

/// How somebody is looked up.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    /// In whose directory.
    pub(crate) provider: ProviderId,
    /// By this attribute of the accepted identity. Default `subject`.
    pub(crate) by: Box<str>,
}

/// A look at everybody, in both directories.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    /// Whose people: the deciding side.
    pub(crate) of: ProviderId,
    /// Where they are looked up.
    pub(crate) provider: ProviderId,
    /// How often. Default 1 d.
    pub(crate) every: Duration,
}

/// When it stops asking for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breaker {
    /// After so many calls in a row without an answer. Default 20.
    pub(crate) failures: u32,
    /// For so long. Default 60 s.
    pub(crate) open_for: Duration,
}

/// A difference that is known.
#[derive(Clone, Debug)]
pub(crate) struct Ignore {
    /// Of this class.
    pub(crate) class: Class,
    /// With these values only; empty: whatever they are.
    pub(crate) values: Vec<Box<str>>,
    /// Until then.
    pub(crate) until: UnixTime,
}
