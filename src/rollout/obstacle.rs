//! What keeps a rollout from its next step: a word that is a label, and the sentence that goes with it.

use std::fmt;

/// A reason why a step is not left, or not entered. A closed set, because it is a label.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Obstacle {
    /// Nothing but time.
    Bake,
    /// Fewer people than the step asks for.
    People,
    /// A guard has tripped.
    Guard,
    /// A guard whose question nobody answers.
    NoData,
    /// The split is not the configured one.
    Split,
    /// A bad rate above what may be is still possible.
    BadRate,
    /// Too few second opinions, or no fair sample of them.
    Opinions,
    /// Second opinions that differ.
    Divergences,
    /// People who still come with credentials of the old provider.
    LegacyCredentials,
    /// A switch back would lock out too many, or nobody knows how many.
    RollbackExposure,
    /// Too many people without a partner.
    Unlinked,
    /// An exercise that has not passed.
    Drill,
    /// A hook that does not say yes.
    Webhook,
    /// The step would take more people back than may be.
    Recall,
    /// The new provider is not there, or does not know us (`check --online`).
    Provider,
    /// The ledger takes no record.
    Ledger,
    /// The instances that share a store do not agree, or the store does not answer.
    Store,
    /// The configuration does not have the step.
    File,
}

impl Obstacle {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bake => "bake",
            Self::People => "people",
            Self::Guard => "guard",
            Self::NoData => "no_data",
            Self::Split => "split",
            Self::BadRate => "bad_rate",
            Self::Opinions => "opinions",
            Self::Divergences => "divergences",
            Self::LegacyCredentials => "legacy_credentials",
            Self::RollbackExposure => "rollback_exposure",
            Self::Unlinked => "unlinked",
            Self::Drill => "drill",
            Self::Webhook => "webhook",
            Self::Recall => "recall",
            Self::Provider => "provider",
            Self::Ledger => "ledger",
            Self::Store => "store",
            Self::File => "file",
        }
    }

    /// With what it means here.
    pub fn because(self, why: impl Into<String>) -> Gap {
        let why = why.into();
        Gap {
            obstacle: self,
            why,
        }
    }
}

/// Something that is missing, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    /// What kind it is of.
    pub obstacle: Obstacle,
    /// What exactly.
    pub why: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
