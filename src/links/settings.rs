//! What the configuration says about who is one person across providers: plain data.

use std::sync::Arc;

use crate::identity::Normalise;
use crate::identity::ProviderId;
use crate::identity::Template;
use crate::links::LinkFile;
use crate::links::claim::ClaimRule;

/// `identity`: how accounts of two providers are found to be one person's.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    /// Rendered over the attributes of an identity, such as `hr:{employee_id}`.
    pub(crate) template: Template,
    /// Applied to each value before it is rendered.
    pub(crate) normalise: Vec<Normalise>,
    /// Providers that may speak about the attributes of the template (`authoritative.claims`). Others stay unjoined.
    pub(crate) authoritative: Vec<ProviderId>,
    /// Lists of people whom somebody has linked.
    pub(crate) files: Vec<Arc<LinkFile>>,
    /// Claims that link an account of one provider with one of another, in the order in which they are asked.
    pub(crate) claims: Vec<Arc<ClaimRule>>,
    /// Whether a person may link two accounts by signing in at both. Default: no.
    pub(crate) prove_both: bool,
    /// What becomes of an account of the new provider that is joined with nobody. Default: it is a person of its own.
    pub(crate) on_missing: OnMissing,
}

/// What becomes of an account of the new provider that is joined with nobody.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum OnMissing {
    /// It is a person of its own.
    #[default]
    Alone,
    /// The person signs in at the old provider, while the stage has one; any other credential is refused.
    From,
    /// It is refused.
    Deny,
}

#[cfg(test)]
impl Canonical {
    /// People are known by claims alone.
    pub(crate) fn by_claims(template: &str, normalise: Vec<Normalise>, providers: &[&str]) -> Self {
        Self {
            template: Template::parse(template).unwrap(),
            normalise,
            authoritative: providers.iter().map(|name| ProviderId::new(name)).collect(),
            files: Vec::new(),
            claims: Vec::new(),
            prove_both: false,
            on_missing: OnMissing::Alone,
        }
    }

    /// The same attribute at `old` and `new`, in small letters, links their accounts too.
    pub(crate) fn and_by(mut self, attribute: &str, domains: Option<Vec<Box<str>>>) -> Self {
        let speaker = |provider: &str| crate::links::Speaker {
            provider: ProviderId::new(provider),
            value: Template::parse(&format!("{{{attribute}}}")).unwrap(),
            verified: domains.is_some(),
        };
        self.claims.push(Arc::new(ClaimRule {
            old: speaker("old"),
            new: speaker("new"),
            normalise: vec![Normalise::Lowercase],
            domains,
        }));
        self
    }
}
