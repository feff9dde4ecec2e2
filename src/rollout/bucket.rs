//! Sticky buckets: a share is a share of people, and growing it never sends anyone back.

use crate::secret::Secret;

/// The key of the bucket hash: whoever lacks it cannot compute who is in a canary.
#[derive(Clone, Debug)]
pub struct BucketKey(pub Secret<Vec<u8>>);

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
    /// Reads a decimal such as `12.5`; no floating point decides.
    ///
    /// # Errors
    ///
    /// See [`InvalidPercent`].
    pub fn parse(_text: &str) -> Result<Self, InvalidPercent> {
        todo!()
    }

    /// The share in millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// A place between 0 and 999 999.
///
/// HMAC-SHA-256 over `"authferry/bucket/v1" ‖ lp(salt) ‖ lp(unit kind) ‖ lp(unit value)`, first eight bytes
/// big-endian, multiply-shift to 1 000 000. The definition is part of the configuration's contract: changing it moves
/// every user.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bucket(u32);

impl Bucket {
    /// The bucket of a unit.
    pub fn of(_key: &BucketKey, _salt: &str, _kind: UnitKind, _value: &str) -> Self {
        todo!()
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
