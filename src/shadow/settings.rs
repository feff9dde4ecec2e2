//! What `shadow` says of one application.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Percent;
use crate::shadow::kind::Class;
use crate::shadow::kind::Field;

/// How the people of one application are looked at a second time.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Which application.
    pub(crate) app: AppId,
    /// The provider that decides, and that people leave.
    pub(crate) decides: ProviderId,
    /// How many of its people. Default: all.
    pub(crate) sample: Percent,
    /// How many of them the deciding side is asked about twice, to learn how it differs from itself. Default: nobody.
    pub(crate) noise: Percent,
    /// What is compared. Default: everything.
    pub(crate) compare: BTreeSet<Field>,
    /// How long a person is not asked about again. Default 6 h.
    pub(crate) per_subject: Duration,
    /// Calls a second. Default 20.
    pub(crate) rps: u32,
    /// Calls under way at once. Default 16.
    pub(crate) inflight: usize,
    /// People who wait for one. Default 512.
    pub(crate) queue: usize,
    /// How long a call may take. Default 2 s.
    pub(crate) timeout: Duration,
    /// When it stops asking.
    pub(crate) breaker: Breaker,
    /// Who is asked about credentials of a class, once they were accepted.
    pub(crate) dual_verify: Vec<(CredentialClass, ProviderId)>,
    /// Who is asked for a token in the place of one of a class.
    pub(crate) exchange: Vec<(CredentialClass, Exchanged)>,
    /// Who judges the token that a client shows beside its own.
    pub(crate) dual_token: Option<ProviderId>,
    /// Where people are looked up who presented a credential of a class.
    pub(crate) directory: Vec<(CredentialClass, Lookup)>,
    /// Where people are looked up who presented a credential of a class of the provider that they move to, once that one
    /// decides: in the directory of the provider that they leave.
    pub(crate) back: Vec<(CredentialClass, Lookup)>,
    /// The daily look at everybody.
    pub(crate) sweep: Option<Sweep>,
    /// Whether the application's own answers are compared with our decisions.
    pub(crate) upstream_status: bool,
    /// What is known and does not count.
    pub(crate) ignore: Vec<Ignore>,
}

impl Settings {
    /// Whether anybody is looked at twice: what the application answers itself is no second opinion about people, and what the
    /// old directory says of people who have moved is told, and decides nothing.
    pub(crate) fn compares(&self) -> bool {
        !self.dual_verify.is_empty()
            || !self.exchange.is_empty()
            || self.dual_token.is_some()
            || !self.directory.is_empty()
            || self.sweep.is_some()
    }
}

/// How somebody is looked up.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    /// In whose directory.
    pub(crate) provider: ProviderId,
    /// By this attribute of the accepted identity. Default `subject`.
    pub(crate) by: Box<str>,
}

/// How a token is asked for (RFC 8693).
#[derive(Clone, Debug)]
pub(crate) struct Exchanged {
    /// At which provider.
    pub(crate) provider: ProviderId,
    /// For whom it would be.
    pub(crate) audiences: Arc<[Box<str>]>,
}

/// A look at everybody, in both directories.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    /// Whose people: the deciding side.
    pub(crate) of: ProviderId,
    /// The file that lists them, in the place of its directory, and the attribute whose value is the key of a directory.
    pub(crate) inventory: Option<(PathBuf, Box<str>)>,
    /// Where they are looked up.
    pub(crate) provider: ProviderId,
    /// How often. Default 1 d.
    pub(crate) every: Duration,
}

/// When it stops asking for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breaker {
    /// After which calls.
    pub(crate) trips: Trips,
    /// For so long. Default 60 s.
    pub(crate) open_for: Duration,
}

/// Which calls without an answer are too many.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trips {
    /// So many in a row. Default 20.
    InARow(u32),
    /// This share of the last so many.
    Share(f64, u32),
}

impl Breaker {
    /// How many calls it looks at.
    pub(super) const fn calls(&self) -> u32 {
        match self.trips {
            Trips::InARow(calls) | Trips::Share(_, calls) => calls,
        }
    }
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
