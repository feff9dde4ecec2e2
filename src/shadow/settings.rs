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
    /// Whether the application's own answers are compared with our decisions.
    pub(crate) upstream_status: bool,
    /// What is known and does not count.
    pub(crate) ignore: Vec<Ignore>,
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
