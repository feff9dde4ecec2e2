//! Sticky buckets: a share is a share of people, and growing it never sends anyone back.

use std::fmt;

use aws_lc_rs::hmac;

use crate::rollout::stage::RolloutId;
use crate::secret::Secret;

/// The key of the bucket hash: whoever lacks it cannot compute who is in a canary.
#[derive(Clone, Debug)]
pub struct BucketKey {
    secret: Secret<Vec<u8>>,
    /// The same, made ready once: that costs as much as a hash.
    ready: hmac::Key,
}

impl BucketKey {
    /// From a secret.
    pub fn new(secret: Secret<Vec<u8>>) -> Self {
        Self {
            ready: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
            secret,
        }
    }

    /// The secret itself.
    pub const fn secret(&self) -> &Secret<Vec<u8>> {
        &self.secret
    }
}

/// What is hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnitKind {
    /// The canonical subject.
    Subject,
    /// The device cookie.
    Device,
    /// The OAuth client.
    ClientId,
}

impl UnitKind {
    /// The word that is hashed and written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Device => "device",
            Self::ClientId => "client_id",
        }
    }
}

/// A share in millionths: 0 to 1 000 000, where 1 is 0.0001 %.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Percent(u32);

/// Why a text is not a percent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPercent {
    /// Not a decimal number.
    #[error("not a decimal number")]
    NotANumber,
    /// Below 0 or above 100.
    #[error("not between 0 and 100")]
    OutOfRange,
    /// More than four decimals.
    #[error("more than four decimals")]
    TooFine,
}

impl Percent {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(1_000_000);

    const DECIMALS: usize = 4;

    /// Reads a decimal such as `12.5`; no floating point decides.
    ///
    /// Digits and at most one dot between digits: no exponent, no sign and no leading zero, which some readers of
    /// YAML take for octal.
    ///
    /// # Errors
    ///
    /// See [`InvalidPercent`].
    pub fn parse(text: &str) -> Result<Self, InvalidPercent> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, decimals) = match digits.split_once('.') {
            Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
            Some(_) => return Err(InvalidPercent::NotANumber),
            None => (digits, ""),
        };
        let octal = 1 < whole.len() && whole.starts_with('0');
        let digits_only = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || octal || !digits_only(whole) || !digits_only(decimals) {
            return Err(InvalidPercent::NotANumber);
        }
        if negative || 3 < whole.len() {
            return Err(InvalidPercent::OutOfRange);
        }
        if Self::DECIMALS < decimals.len() {
            return Err(InvalidPercent::TooFine);
        }
        let padding = std::iter::repeat_n(b'0', Self::DECIMALS - decimals.len());
        let millionths = whole
            .bytes()
            .chain(decimals.bytes())
            .chain(padding)
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        Self::from_millionths(millionths).ok_or(InvalidPercent::OutOfRange)
    }

    /// A share in millionths; `None` above 1 000 000.
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths <= Self::ALL.0 {
            Some(Self(millionths))
        } else {
            None
        }
    }

    /// The share in millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// The share between 0 and 1, for gauges; nothing is decided by it.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }
}

impl fmt::Display for Percent {
    /// As [`Percent::parse`] reads it: `12.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / 10_000, self.0 % 10_000);
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{decimals:04}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

/// A place between 0 and 999 999.
///
/// HMAC-SHA-256 over `"authferry/bucket/v1" ‖ lp(salt) ‖ lp(unit kind) ‖ lp(unit value)`, where `lp` puts the length in
/// bytes (four bytes, big-endian) before the text; the first eight bytes big-endian, multiply-shift to 1 000 000. The
/// definition is part of the configuration's contract: changing it moves every user.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bucket(u32);

impl Bucket {
    const COUNT: u128 = 1_000_000;

    /// The bucket of a unit.
    pub fn of(key: &BucketKey, salt: &str, kind: UnitKind, value: &str) -> Self {
        let top = hashed(key, b"authferry/bucket/v1", [salt, kind.as_str(), value]);
        let place = (u128::from(top) * Self::COUNT) >> 64;
        Self(
            u32::try_from(place)
                .expect("the top 64 bits of a product with 1 000 000 are below 1 000 000"),
        )
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether it lies within a share.
    pub const fn is_within(self, share: Percent) -> bool {
        self.0 < share.0
    }
}

/// A person or a browser as the guards know them: whoever lacks the key cannot tell who it is.
pub fn unit(key: &BucketKey, rollout: &RolloutId, kind: UnitKind, value: &str) -> u64 {
    let parts = [rollout.as_str(), kind.as_str(), value];
    hashed(key, b"authferry/unit/v1", parts)
}

/// The first eight bytes, big-endian, of a keyed hash over length-prefixed parts.
fn hashed(key: &BucketKey, purpose: &[u8], parts: [&str; 3]) -> u64 {
    let mut hash = hmac::Context::with_key(&key.ready);
    hash.update(purpose);
    for part in parts {
        // A text of four gigabytes does not occur; if it did, the clamped length would still be deterministic.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        hash.update(&length.to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.sign()
        .as_ref()
        .iter()
        .take(8)
        .fold(0_u64, |top, byte| top << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> BucketKey {
        BucketKey::new(Secret::new((0..32).collect()))
    }

    fn percent(text: &str) -> Percent {
        Percent::parse(text).unwrap()
    }

    /// The vectors are published: a change here moves every user of every installation.
    #[test]
    fn buckets_equal_the_published_vectors() {
        for (salt, kind, value, expected) in [
            ("crm-2026-a", UnitKind::Subject, "hr:10442", 236_486),
            ("crm-2026-a", UnitKind::Subject, "hr:10443", 879_120),
            ("crm-2026-b", UnitKind::Subject, "hr:10442", 210_978),
            ("crm-2026-a", UnitKind::Device, "hr:10442", 131_504),
            ("crm-2026-a", UnitKind::Subject, "hr:Zoë", 693_901),
        ] {
            assert_eq!(
                Bucket::of(&key(), salt, kind, value).number(),
                expected,
                "{salt} {value}"
            );
        }
    }

    #[test]
    fn lengths_keep_salt_and_value_apart() {
        let bucket = |salt, value| Bucket::of(&key(), salt, UnitKind::Subject, value);
        assert_ne!(bucket("ab", "c"), bucket("a", "bc"));
    }

    #[test]
    fn a_percent_is_read_without_rounding() {
        for (text, millionths) in [
            ("0", 0),
            ("0.0001", 1),
            ("0.5", 5_000),
            ("10", 100_000),
            ("12.5", 125_000),
            ("33.3333", 333_333),
            ("98.0000", 980_000),
            ("100", 1_000_000),
            ("100.0", 1_000_000),
        ] {
            assert_eq!(percent(text).millionths(), millionths, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_percent() {
        use InvalidPercent::*;
        for (text, why) in [
            ("", NotANumber),
            ("-", NotANumber),
            (".5", NotANumber),
            ("5.", NotANumber),
            ("1e1", NotANumber),
            ("+5", NotANumber),
            (" 5", NotANumber),
            ("5%", NotANumber),
            ("012", NotANumber),
            ("1.2.3", NotANumber),
            ("0x10", NotANumber),
            ("NaN", NotANumber),
            ("٣", NotANumber),
            ("-1", OutOfRange),
            ("-0.1", OutOfRange),
            ("100.0001", OutOfRange),
            ("101", OutOfRange),
            ("4294967297", OutOfRange),
            ("0.00001", TooFine),
            ("1.50000", TooFine),
        ] {
            assert_eq!(Percent::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn the_borders_of_a_share_are_exact() {
        assert!(!Bucket(0).is_within(Percent::NONE));
        assert!(Bucket(0).is_within(percent("0.0001")));
        assert!(!Bucket(1).is_within(percent("0.0001")));
        assert!(Bucket(999_999).is_within(Percent::ALL));
    }

    #[test]
    fn a_share_of_people_is_about_that_share() {
        let inside = |share: Percent, salt: &str| {
            (0..20_000)
                .filter(|n| {
                    Bucket::of(&key(), salt, UnitKind::Subject, &format!("u{n}")).is_within(share)
                })
                .count()
        };
        // Five standard deviations of a binomial with 20 000 draws.
        for (share, expected, allowed) in
            [("5", 1_000, 155), ("25", 5_000, 307), ("98", 19_600, 99)]
        {
            let found = inside(percent(share), "crm-2026-a");
            assert!(found.abs_diff(expected) <= allowed, "{share} %: {found}");
        }
    }

    #[test]
    fn two_salts_are_independent() {
        let inside = |salt: &str, n: u32| {
            Bucket::of(&key(), salt, UnitKind::Subject, &format!("u{n}")).is_within(percent("25"))
        };
        let both = (0..20_000)
            .filter(|n| inside("crm-2026-a", *n) && inside("erp-2026-a", *n))
            .count();
        // Expected 1 250; five standard deviations are 171. Equal salts would give 5 000.
        assert!(both.abs_diff(1_250) <= 171, "{both}");
    }

    proptest! {
        #[test]
        fn equal_inputs_give_equal_buckets(salt in ".{0,16}", value in ".{0,64}") {
            let bucket = || Bucket::of(&key(), &salt, UnitKind::Subject, &value);
            prop_assert_eq!(bucket(), bucket());
            prop_assert!(bucket().number() < 1_000_000);
        }

        #[test]
        fn raising_a_share_keeps_who_is_in(value in ".{0,64}", a in 0..=1_000_000_u32, b in 0..=1_000_000_u32) {
            let bucket = Bucket::of(&key(), "s", UnitKind::Subject, &value);
            let share = |millionths| Percent::from_millionths(millionths).unwrap();
            if bucket.is_within(share(a.min(b))) {
                prop_assert!(bucket.is_within(share(a.max(b))));
            }
        }

        #[test]
        fn a_percent_survives_being_written(millionths in 0..=1_000_000_u32) {
            let share = Percent::from_millionths(millionths).unwrap();
            prop_assert_eq!(Percent::parse(&share.to_string()), Ok(share));
        }

        #[test]
        fn reading_a_percent_never_panics(text in "\\PC{0,20}|[-+0-9.eE]{0,40}") {
            prop_assert!(Percent::parse(&text).is_ok_and(|p| p <= Percent::ALL) || Percent::parse(&text).is_err());
        }
    }
}
