//! Who is one person across providers: `identity.canonical`.

/// A way to make spellings equal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Normalise {
    /// ASCII white space at both ends goes.
    Trim,
    /// ASCII letters become small.
    Lowercase,
    /// `00042` becomes `42`.
    StripLeadingZeros,
}
