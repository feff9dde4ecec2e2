//! The exercises there are, by the words of the configuration.

/// An exercise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drill {
    /// The new provider counts as away for the people of a cohort.
    ModernOutage,
    /// The old provider counts as away for the people of a cohort.
    LegacyOutage,
    /// The new provider's adapter is shown tokens of keys that nobody knows.
    JwksRotation,
    /// The new provider's adapter is shown what is no token.
    BadTokenFormat,
}

impl Drill {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::ModernOutage,
        Self::LegacyOutage,
        Self::JwksRotation,
        Self::BadTokenFormat,
    ];

    /// The word in the configuration and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModernOutage => "modern-outage",
            Self::LegacyOutage => "legacy-outage",
            Self::JwksRotation => "jwks-rotation",
            Self::BadTokenFormat => "bad-token-format",
        }
    }

    /// By its word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drill| drill.as_str() == word)
    }

    /// Whether people meet it: those of a cohort, for a while.
    pub const fn meets_people(self) -> bool {
        match self {
            Self::ModernOutage | Self::LegacyOutage => true,
            Self::JwksRotation | Self::BadTokenFormat => false,
        }
    }
}
