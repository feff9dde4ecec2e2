//! `token_endpoint`: which clients get tokens from us, and what they may have.

use crate::config::raw::Inline;
use crate::config::raw::RawClient;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// A token endpoint of our own, under `/.authferry/oauth2/`: clients keep one endpoint and one `client_id` while they are moved.
    RawTokenEndpoint {
        /// The application at whose hosts it answers, and whose rollout decides which provider a client or a person belongs to. Required.
        app: At<String>,
        /// Scheme, host and port of its public address, such as `https://api.corp.example`: its issuer identifier is this and `/.authferry/oauth2`. Required.
        origin: At<String>,
        /// How tokens of people become tokens for an audience, by the `audience` that a client sends.
        audiences: Named<RawTokenAudience>,
        /// Who may ask, by `client_id`. Required.
        clients: Named<RawTokenClient>,
    }

    /// How tokens of people become tokens for an audience.
    RawTokenAudience {
        /// Of `exchange`, for this audience alone: one for each provider of the application, or one that mints. Required.
        exchanges: List<At<String>>,
    }

    /// A client, and what it may have. It proves itself by a secret, a key or a certificate: at least one of them is required.
    RawTokenClient {
        /// `sha256:` and 64 hexadecimal digits of its secret, which is long and random; two while it is rotated.
        secret_hashes: List<At<String>>,
        /// Its public keys for `private_key_jwt`, as a key set: `{ keys: [{ kty: EC, … }] }`.
        keys: Inline,
        /// Its certificates, as `x5t#S256`: the SHA-256 of each in base64url. `server.tls.client_certificates` must ask for them.
        certificates: List<At<String>>,
        /// By what right it gets tokens. Default: none.
        grants: List<At<GrantWord>>,
        /// Whom its tokens may be for. Default: nobody.
        audiences: List<At<String>>,
        /// The most that its tokens may do; an exchanged one may never do more than the token it was made from. Default: nothing.
        scopes: List<At<String>>,
        /// The longest life of its tokens. A token of a provider that lives longer is not handed on. Default `5m`, at most `1h`.
        max_life: At<Span>,
        /// Whether it may ask if a token is good (RFC 7662). Default `false`.
        introspect: At<bool>,
        /// By provider: its registration there, for `client_credentials`.
        at: Named<RawClient>,
    }
}

words! {
    /// By what right a client gets a token.
    GrantWord {
        /// For a token of somebody else (RFC 8693).
        "token_exchange" => TokenExchange,
        /// For itself (RFC 6749 §4.4).
        "client_credentials" => ClientCredentials,
        @later "refresh_token", "device_code";
    }
}
