//! What a token must be, compiled per issuer when the configuration is loaded and never changed by a token.

use std::time::Duration;

use crate::identity::Issuer;
use crate::token::algorithm::Algorithm;

/// What kind of signed object is expected. Kinds exclude each other (RFC 8725 §3.12).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An access token (RFC 9068): `typ` is `at+jwt`, or one of the markers tells a plain `JWT` from an ID token.
    Access {
        /// Ways to recognise an access token whose `typ` is `JWT` or absent. Such a token must carry no `nonce`,
        /// `at_hash` or `c_hash`.
        markers: Vec<Marker>,
    },
    /// An ID token (OpenID Connect Core 1.0 §2) for one login.
    Id {
        /// The `nonce` of the login.
        nonce: Box<str>,
        /// The client that began it: the audience, and `azp` where present.
        client_id: Box<str>,
    },
    /// An ID token that a refresh brought (OpenID Connect Core 1.0 §12.2): not bound to a login.
    RenewedId {
        /// The client that asked: the audience, and `azp` where present.
        client_id: Box<str>,
    },
    /// A logout token (OpenID Connect Back-Channel Logout 1.0 §2.4).
    Logout,
    /// Any signed object of a home-grown issuer, without a check of `typ`.
    Plain,
}

/// A claim with a value that only access tokens have, such as Keycloak's `typ: Bearer`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Marker {
    /// The claim.
    pub claim: Box<str>,
    /// Its value.
    pub equals: Box<str>,
}

/// Whom a token must be meant for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audience(pub Vec<Box<str>>);

/// What a token must be.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who must have issued it: compared byte for byte.
    pub issuer: Issuer,
    /// The signature algorithms accepted.
    pub algorithms: Vec<Algorithm>,
    /// Any of these must be in `aud`. Never empty.
    pub audience: Audience,
    /// What kind of object it must be.
    pub kind: Kind,
    /// Tolerated clock difference. Default 30 s.
    pub leeway: Duration,
    /// The longest life (`exp` − `iat`, or from now where `iat` is absent). Default 24 h.
    pub max_life: Duration,
}
