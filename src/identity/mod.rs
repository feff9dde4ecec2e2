//! Who someone is and what they presented. Plain data: no I/O, no clock, not async.
//!
//! This module must never decide whether someone *is* who they say: that is `providers/`.

mod apart;
mod attributes;
mod canonical;
mod claims;
mod confirmation;
mod credential;
mod delegation;
mod grounds;
mod mark;
mod reason;
mod render;
mod subject;
mod template;

pub use attributes::NotAList;
pub use attributes::attributes;
pub use attributes::drop_unproven_email;
pub use attributes::email_domain;
pub use attributes::groups_overage;
pub use canonical::Normalise;
pub use canonical::NotCanonical;
pub use canonical::canonical;
pub use claims::ClaimMap;
pub use claims::ClaimName;
pub use claims::ClaimPath;
pub use claims::InvalidClaimPath;
pub use claims::claim_name;
pub use claims::named;
pub use claims::says;
pub use confirmation::Confirmation;
pub use confirmation::Thumbprint;
pub use credential::Credential;
pub use credential::CredentialClass;
pub use delegation::Actor;
pub use delegation::Delegation;
pub use delegation::NotDelegated;
pub use grounds::Grounds;
pub use grounds::KeyPrint;
pub use grounds::TokenId;
pub(crate) use mark::Mark;
pub(crate) use mark::OWN_KEYS;
pub use reason::Outage;
pub use reason::Refusal;
pub use render::HeaderScope;
pub use render::RESERVED_NAMES;
pub use render::RenderError;
pub use render::Scope;
pub use subject::CanonicalSubject;
pub use subject::InvalidSubject;
pub use subject::Issuer;
pub use subject::ProviderId;
pub use subject::Subject;
pub use subject::SubjectKey;
pub use template::InvalidTemplate;
pub use template::Template;

use std::sync::Arc;

/// What a provider says about one person or client. Not a proof: see `providers::Authenticated`.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The provider that says so.
    pub provider: ProviderId,
    /// Issuer and subject, as issued. Two of these are one person only through `identity.canonical` or a link.
    pub key: SubjectKey,
    /// Attributes by our names (`subject`, `email`, `groups`, …), mapped by the provider's `claims` setting.
    pub attributes: Arc<ClaimMap>,
    /// The OAuth client that acts, where the credential names one (RFC 8693 §4.3 `client_id`, or `azp`).
    pub client_id: Option<Box<str>>,
    /// Assurance class after the provider's `assurance` map (OpenID Connect Core 1.0 §2, `acr`).
    pub acr: Option<Box<str>>,
    /// Scopes of the credential (RFC 6749 §3.3), empty where the credential has none.
    pub scopes: Box<[Box<str>]>,
    /// Who acts for the subject, and who may (RFC 8693 §4.1, §4.4).
    pub delegation: Delegation,
}
