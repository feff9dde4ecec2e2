//! What the configuration says about who is one person across providers: plain data.

use crate::identity::Normalise;
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
