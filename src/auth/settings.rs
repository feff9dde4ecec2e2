//! What the configuration says about who is one person across providers: plain data.

use crate::identity::ProviderId;
use crate::identity::Template;

/// `identity.canonical`.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    /// Rendered over the attributes of an identity, such as `hr:{employee_id}`.
    pub(crate) template: Template,
    /// Applied to each value before it is rendered.
    pub(crate) normalise: Vec<Normalise>,
    /// Providers that may speak about the attributes of the template (`authoritative.claims`). Others stay unjoined.
    pub(crate) authoritative: Vec<ProviderId>,
}

/// A way to make spellings equal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Normalise {
    /// ASCII white space at both ends goes.
    Trim,
    /// ASCII letters become small.
    Lowercase,
    /// `00042` becomes `42`.
    StripLeadingZeros,
}
