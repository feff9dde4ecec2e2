//! One person to be looked at twice: who is asked, how, and what.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::providers::Provider;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::secret::Secret;
use crate::shadow::work::Block;
use crate::telemetry::metrics::Oracle;

/// Who is asked, and about what.
pub(super) struct Source {
    /// The side whose people they are.
    pub(super) of: Arm,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) how: How,
}

/// How it is asked.
pub(super) enum How {
    /// The credential itself is presented.
    Present,
    /// Somebody is looked up by this attribute.
    LookUp(Box<str>),
    /// A token is asked for in the place of the one that was presented, for these audiences.
    Exchange(Arc<[Box<str>]>),
}

/// What the other side is asked.
pub(super) enum Question {
    /// Whether it takes this. The secret is cleared when it is dropped.
    Credential(Credential),
    /// The side that decides, whether it still says the same of this.
    Again(Credential),
    /// What it knows of whoever goes by what [`Job::known_by`] says.
    Person,
    /// Which token it would issue for this one.
    Exchange(Secret<String>, Arc<[Box<str>]>),
    /// Whether it takes this token, which a client has shown beside its own.
    Beside(Credential),
}

impl Question {
    pub(super) const fn oracle(&self) -> Oracle {
        match self {
            Self::Credential(_) | Self::Again(_) => Oracle::DualVerify,
            Self::Person => Oracle::Directory,
            Self::Exchange(..) => Oracle::Exchange,
            Self::Beside(_) => Oracle::DualToken,
        }
    }
}

/// One person to be looked at twice.
pub(super) struct Job {
    pub(super) block: Arc<Block>,
    pub(super) source: Arc<Source>,
    pub(super) question: Question,
    pub(super) class: CredentialClass,
    pub(super) identity: Arc<Identity>,
    pub(super) canonical: CanonicalSubject,
    /// When the credential ends.
    pub(super) ends: UnixTime,
    /// How long its owner took.
    pub(super) took: Duration,
    pub(super) at: UnixTime,
    /// Its place among those who wait: given back when its turn comes.
    pub(super) waiting: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Where.
    pub(super) fn app(&self) -> &AppId {
        &self.block.settings.app
    }

    /// By what somebody is looked up.
    pub(super) fn known_by(&self) -> Option<&str> {
        let How::LookUp(by) = &self.source.how else {
            return None;
        };
        let said = self.identity.attributes.text(by);
        said.or_else(|| (&**by == "subject").then(|| self.identity.key.subject.as_str()))
    }
}
