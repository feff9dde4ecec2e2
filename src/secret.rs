//! Values that must not be printed.

use std::fmt;

use aws_lc_rs::constant_time;
use zeroize::Zeroize;

/// A value with a redacted `Debug` and no `Display`, `Deref` or `Serialize`, cleared when dropped.
///
/// [`Secret::expose`] is the only way in, so `rg '\.expose\(\)'` is the audit.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether `other` is the same, in time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_ref(), other).is_ok()
    }
}

/// In time that depends on the lengths only: for settings that are compared with those of before.
impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_ref())
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_prints_the_value() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(
            format!("{secret:?} {:?}", Some(&secret)),
            "[redacted] Some([redacted])"
        );
    }

    #[test]
    fn equality_looks_at_every_byte() {
        let secret = Secret::new(String::from("abc"));
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"abd"));
        assert!(!secret.matches(b"ab"));
        for (other, same) in [("abc", true), ("abd", false), ("ab", false)] {
            assert_eq!(secret == Secret::new(String::from(other)), same);
        }
    }
}
