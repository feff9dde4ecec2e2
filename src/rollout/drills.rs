//! The exercises there are, by the words of the configuration: some have a size, such as `slow:2s`.

use std::fmt;

/// An exercise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drill {
    /// The new provider counts as away for the people of a cohort.
    ModernOutage,
    /// The old provider counts as away for the people of a cohort.
    LegacyOutage,
    /// A provider takes longer for the people of a cohort.
    Slow,
    /// A provider says `429` about the people of a cohort.
    RateLimited,
    /// A provider answers what is no answer about the people of a cohort.
    IntrospectionGarbage,
    /// A provider's keys are gone for the people of a cohort.
    KeysGone,
    /// People of a cohort who sign in do so on the old side again.
    Rollback,
    /// The new provider's adapter is shown tokens of keys that nobody knows.
    JwksRotation,
    /// The new provider's adapter is shown what is no token.
    BadTokenFormat,
    /// The new provider's adapter is shown good tokens by a clock that is wrong.
    ClockSkew,
    /// Whatever somebody holds is revoked everywhere.
    CredentialLeak,
    /// The new provider is asked about test accounts, so many times a second.
    ProviderLoad,
}

/// What an exercise must be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Who meets it, and for how long.
    People,
    /// Tokens of test accounts.
    Tokens,
    /// Test accounts, and for how long.
    Accounts,
    /// Of whom everything is revoked.
    Subject,
}

impl Drill {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::ModernOutage,
        Self::LegacyOutage,
        Self::Slow,
        Self::RateLimited,
        Self::IntrospectionGarbage,
        Self::KeysGone,
        Self::Rollback,
        Self::JwksRotation,
        Self::BadTokenFormat,
        Self::ClockSkew,
        Self::CredentialLeak,
        Self::ProviderLoad,
    ];

    /// The word in the configuration and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModernOutage => "modern-outage",
            Self::LegacyOutage => "legacy-outage",
            Self::Slow => "slow",
            Self::RateLimited => "rate-limited",
            Self::IntrospectionGarbage => "introspection-garbage",
            Self::KeysGone => "keys-gone",
            Self::Rollback => "rollback",
            Self::JwksRotation => "jwks-rotation",
            Self::BadTokenFormat => "bad-token-format",
            Self::ClockSkew => "clock-skew",
            Self::CredentialLeak => "credential-leak",
            Self::ProviderLoad => "provider-load",
        }
    }

    /// What it must be told.
    pub const fn needs(self) -> Needs {
        match self {
            Self::ModernOutage
            | Self::LegacyOutage
            | Self::Slow
            | Self::RateLimited
            | Self::IntrospectionGarbage
            | Self::KeysGone
            | Self::Rollback => Needs::People,
            Self::JwksRotation | Self::BadTokenFormat => Needs::Nothing,
            Self::ClockSkew => Needs::Tokens,
            Self::CredentialLeak => Needs::Subject,
            Self::ProviderLoad => Needs::Accounts,
        }
    }

    fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drill| drill.as_str() == word)
    }

    /// Its size from what stands behind the colon: milliseconds, seconds, or calls a second.
    fn size(self, text: &str) -> Option<u64> {
        let number = |text: &str, of: u64| text.parse::<u64>().ok()?.checked_mul(of);
        let size = match self {
            Self::Slow => match text.strip_suffix("ms") {
                Some(text) => number(text, 1),
                None => number(text.strip_suffix('s')?, 1_000),
            },
            Self::ClockSkew => match text.strip_suffix('m') {
                Some(text) => number(text, 60),
                None => number(text.strip_suffix('s')?, 1),
            },
            Self::ProviderLoad => number(text, 1),
            Self::ModernOutage
            | Self::LegacyOutage
            | Self::RateLimited
            | Self::IntrospectionGarbage
            | Self::KeysGone
            | Self::Rollback
            | Self::JwksRotation
            | Self::BadTokenFormat
            | Self::CredentialLeak => None,
        };
        size.filter(|size| 0 < *size)
    }
}

/// An exercise of a size, where it has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exercise {
    /// Which.
    pub drill: Drill,
    /// How large: milliseconds of `slow`, seconds of `clock-skew`, calls a second of `provider-load`.
    pub size: Option<u64>,
}

impl Exercise {
    /// By its word, such as `jwks-rotation`, `slow` or `slow:2s`.
    pub fn named(word: &str) -> Option<Self> {
        match word.split_once(':') {
            None => Some(Self {
                drill: Drill::named(word)?,
                size: None,
            }),
            Some((word, size)) => {
                let drill = Drill::named(word)?;
                let size = Some(drill.size(size)?);
                Some(Self { drill, size })
            }
        }
    }

    /// Whether one that has passed is as much as what is asked for.
    pub fn is_enough(self, wanted: Self) -> bool {
        let size = self.size.unwrap_or_default();
        self.drill == wanted.drill && wanted.size.is_none_or(|wanted| wanted <= size)
    }
}

impl fmt::Display for Exercise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.drill.as_str())?;
        match (self.drill, self.size) {
            (_, None) => Ok(()),
            (Drill::Slow, Some(size)) if !size.is_multiple_of(1_000) => write!(f, ":{size}ms"),
            (Drill::Slow, Some(size)) => write!(f, ":{}s", size / 1_000),
            (Drill::ClockSkew, Some(size)) => write!(f, ":{size}s"),
            (_, Some(size)) => write!(f, ":{size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_word_and_some_have_a_size() {
        for drill in Drill::ALL {
            let named = Exercise::named(drill.as_str()).unwrap();
            assert_eq!((named.drill, named.size), (drill, None));
        }
        for (word, same) in [
            ("slow:2s", "slow:2000ms"),
            ("slow:150ms", "slow:150ms"),
            ("clock-skew:90s", "clock-skew:90s"),
            ("clock-skew:2m", "clock-skew:120s"),
            ("provider-load:50", "provider-load:50"),
        ] {
            let named = Exercise::named(word).unwrap();
            assert_eq!(Some(named), Exercise::named(same), "{word}");
            assert_eq!(Exercise::named(&named.to_string()), Some(named), "{word}");
        }
        for bad in [
            "",
            "slow:",
            "slow:2",
            "slow:0s",
            "slow:-1s",
            "slow:2h",
            "provider-load:5s",
            "nothing",
            "jwks-rotation:3",
            "clock-skew:99999999999999999999s",
            "slow:18446744073709551615s",
        ] {
            assert_eq!(Exercise::named(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_smaller_one_is_not_enough() {
        let enough = |passed: &str, wanted: &str| {
            let named = |word| Exercise::named(word).unwrap();
            named(passed).is_enough(named(wanted))
        };
        assert!(enough("slow:2s", "slow") && enough("slow:2s", "slow:2s"));
        assert!(enough("provider-load:60", "provider-load:50"));
        assert!(!enough("provider-load:40", "provider-load:50"));
        assert!(!enough("slow", "slow:1s"), "of no size that is known");
        assert!(!enough("slow:2s", "clock-skew:1s"));
    }
}
