//! Tokens in `providers`: how they are recognised and judged, and who we are at their issuer.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::config::problem::Report;
use crate::config::raw::RawCertificate;
use crate::config::raw::RawSecretText;
use crate::config::scalar::Moment;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::Shape;
use crate::config::shape::blot_all;
use crate::config::shape::mappings;
use crate::config::shape::words;
use crate::config::tree::Node;

mappings! {
    /// How signed tokens are recognised.
    RawOwnsTokens {
        /// Issuers of its tokens. Default: `issuer` alone.
        issuers: List<At<String>>,
        /// The `typ` of its access tokens: `at+jwt` (RFC 9068); `JWT` needs `access_token_markers`. Default `[at+jwt]`, and `JWT` where markers are given.
        token_types: List<At<TokenType>>,
        /// What tells a plain `JWT` from an ID token.
        access_token_markers: List<RawMarker>,
    }

    /// A claim that only access tokens have.
    RawMarker {
        /// The claim. Required.
        claim: At<String>,
        /// Its value. Required.
        equals: At<String>,
    }

    /// How signed tokens are judged.
    RawVerify {
        /// Signature algorithms. Default `[RS256, PS256, ES256, EdDSA]`. HS algorithms only stand alone, with `jwks.shared_secret`.
        algs: List<At<Alg>>,
        /// Any of these must be in `aud`. Required.
        audiences: List<At<String>>,
        /// Whether any `typ` is taken: only for `jwt` providers whose issuer signs nothing but access tokens. Default `false`.
        any_typ: At<bool>,
        /// Claims that every token must have, as `claim: value`: such as the tenant (`tid`) of an issuer that has several.
        require_claims: Named<At<String>>,
        /// Tolerated clock difference. By as much a token counts as older than it says where something is revoked, as long as nobody has seen the clock of its issuer: with keys from a file or inline, always. Default `30s`, at most `5m`.
        leeway: At<Span>,
        /// The longest life of a token. From `1m` to `366d`. Default `24h`.
        max_life: At<Span>,
        /// How old a key set may grow while it cannot be fetched. Default `24h`.
        jwks_max_stale: At<Span>,
        /// How often the key set is fetched. From `1m` to `24h`. Default `10m`.
        jwks_refresh: At<Span>,
    }

    /// The keys of an issuer.
    one of RawKeys {
        /// Where its key set is fetched.
        url: At<String>,
        /// A file: a key set in JSON, or one key in PEM; read again when it changes.
        file: At<PathBuf>,
        /// The key set itself.
        inline: Inline,
        /// A secret shared with the issuer, for HS algorithms.
        shared_secret: RawSecretText,
    }

    /// How proofs of possession are judged (RFC 9449).
    RawDpop {
        /// Signature algorithms of proofs; HS algorithms prove nothing. Default `[ES256, ES384, ES512, PS256, RS256, EdDSA]`.
        algs: List<At<Alg>>,
        /// How old a proof may be. From `1s` to `5m`. Default `60s`.
        max_age: At<Span>,
        /// Whether a proof must be made with a nonce of ours (`DPoP-Nonce`), which keeps proofs from being made in advance. Default `false`.
        require_nonce: At<bool>,
        /// How long a nonce is good. From `10s` to `1h`. Default `5m`.
        nonce_life: At<Span>,
        /// How many used proofs are remembered, in the store of `sessions`; with more, proofs are answered 503. Of those, no account (at our token endpoint, no client) has more than are left for all others: half, where nobody else comes. From 1000 to 1000000. Default `500000`.
        replay_entries: At<Whole>,
    }

    /// Our registration at a provider.
    RawClient {
        /// `client_id`. Required.
        id: At<String>,
        /// How we prove to be it. Default `client_secret_basic`.
        auth: At<ClientAuthMethod>,
        /// The client secret.
        secret: RawSecretText,
        /// The private key for `private_key_jwt`, in PEM.
        key: RawSecretText,
        /// Our certificate and its key for `tls_client_auth` and `self_signed_tls_client_auth`; read when the configuration is.
        certificate: RawCertificate,
        /// When the secret or the key ends at the provider, as it says there: nobody else knows. `authferry catalog --expiring 30d` lists it, and an alert comes two weeks before.
        expires: At<Moment>,
    }
}

/// A key set written in the configuration: kept as it stands.
#[derive(Debug)]
pub(crate) struct Inline(pub(crate) Node);

impl Shape for Inline {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        // It should hold public keys only; whether it does is not known yet.
        blot_all(node, report);
        Some(Self(node.clone()))
    }
}

impl JsonSchema for Inline {
    fn schema_name() -> Cow<'static, str> {
        "key_set".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "required": ["keys"] })
    }
}

words! {
    /// The `typ` of an access token.
    TokenType {
        /// RFC 9068.
        "at+jwt" => AtJwt,
        /// Anything signed; needs a marker.
        "JWT" => Jwt,
    }

    /// Signature algorithms (RFC 7518 §3.1, RFC 8037).
    Alg {
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        "RS256" => Rs256,
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        "RS384" => Rs384,
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        "RS512" => Rs512,
        /// RSASSA-PSS with SHA-256.
        "PS256" => Ps256,
        /// RSASSA-PSS with SHA-384.
        "PS384" => Ps384,
        /// RSASSA-PSS with SHA-512.
        "PS512" => Ps512,
        /// ECDSA over P-256.
        "ES256" => Es256,
        /// ECDSA over P-384.
        "ES384" => Es384,
        /// ECDSA over P-521.
        "ES512" => Es512,
        /// Ed25519.
        "EdDSA" => EdDsa,
        /// HMAC with SHA-256.
        "HS256" => Hs256,
        /// HMAC with SHA-384.
        "HS384" => Hs384,
        /// HMAC with SHA-512.
        "HS512" => Hs512,
    }

    /// Client authentication (OpenID Connect Core 1.0 §9).
    ClientAuthMethod {
        /// The secret in `Authorization`.
        "client_secret_basic" => SecretBasic,
        /// The secret in the body.
        "client_secret_post" => SecretPost,
        /// A signed assertion.
        "private_key_jwt" => PrivateKeyJwt,
        /// An assertion under the secret (HS256), which is at least 32 bytes long.
        "client_secret_jwt" => SecretJwt,
        /// A certificate of an authority that the provider trusts (RFC 8705 §2.1): every connection to it shows `certificate`.
        "tls_client_auth" => Certificate,
        /// A certificate that is registered there itself (RFC 8705 §2.2).
        "self_signed_tls_client_auth" => SelfSigned,
        /// A public client.
        "none" => None,
    }
}
