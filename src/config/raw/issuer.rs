//! `token_endpoint`: which clients get tokens from us, and what they may have.

use crate::config::raw::Inline;
use crate::config::raw::RawClient;
use crate::config::scalar::Moment;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
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
        /// How often anybody may ask.
        limits: RawTokenLimits,
    }

    /// Requests in a minute, counted by all instances that share a store; one more is answered 429 with `Retry-After`. Every answer says what is left (`RateLimit`).
    RawTokenLimits {
        /// From one address; an IPv6 host has its network (/64) to itself. From `1` to `1000000` in a minute. Default `3000`.
        address: At<Whole>,
        /// Of one client, beside its questions about tokens; of a public one, from one address. From `1` to `1000000` in a minute. Default `600`.
        client: At<Whole>,
        /// Questions of one client about tokens. From `1` to `1000000` in a minute. Default `6000`.
        introspection: At<Whole>,
        /// For tokens of one person, whichever client asks. From `1` to `1000000` in a minute. Default `300`.
        subject: At<Whole>,
    }

    /// How tokens of people become tokens for an audience.
    RawTokenAudience {
        /// Of `exchange`, for this audience alone: one for each provider of the application, or one that mints. Where one mints with `binding: keep`, a client that proves to hold a key (`DPoP`) gets with `client_credentials` what is minted of its provider's token and bound to that key, and where each does so, a client that is known by its certificate gets what is bound to that: the provider's token must be a JWT, and its account one that the application would admit. Elsewhere no provider sees the client's proof, and what it gives is bound to nothing: a client that proves a key is refused (`invalid_request`). Required where there are no `resources`.
        exchanges: List<At<String>>,
        /// What a provider calls it as a resource (RFC 8707), as `provider: URI`, where that is how its clients say whom a token is for: sent as `resource` for `client_credentials`, `device_code` and `refresh_token`, and then in `aud` of the token. Default: `audience` is sent, and must be in `aud`.
        resources: Named<At<String>>,
    }

    /// A client, and what it may have. It proves itself by a secret, a key or a certificate: at least one of them is required, or `auth: none`.
    RawTokenClient {
        /// `none`: it is public (RFC 6749 §2.1), such as an application on a phone or a television, whose secret everybody could read. It names itself by `client_id`, and proves nothing: `device_code` and `refresh_token` are all that it may have, it asks about no tokens, and its requests are counted by the address that they come from. Its refresh tokens are bound to the key that it proves to hold, if it does (`DPoP`, RFC 9449 §5). Default: it proves who it is.
        auth: At<TokenClientAuth>,
        /// `sha256:` and 64 hexadecimal digits of its secret, which is long and random; two while it is rotated. `expires` says until when.
        secret_hashes: List<At<String>>,
        /// The provider in `at` that is asked when it comes with its secret for the first time: what that takes is its secret from then on. Beside one of `secret_hashes` both are good: its rotation has begun (`authferry clients rotate`), and is finished when this key is taken away. Two hashes take its place. For registrations whose secret nobody can read.
        learn_secret_at: At<String>,
        /// Its public keys for `private_key_jwt`, as a key set: `{ keys: [{ kty: EC, … }] }`.
        keys: Inline,
        /// Its certificates, as `x5t#S256`: the SHA-256 of each in base64url. `server.tls.client_certificates` must ask for them.
        certificates: List<At<String>>,
        /// When what it proves itself with, a secret, a key or a certificate, is to have been replaced. `authferry catalog --expiring 30d` lists it, and an alert comes two weeks before; the client is not refused for it. Whoever rotates the secret says the next one here.
        expires: At<Moment>,
        /// By what right it gets tokens. With `token_exchange` it acts for the subject itself: `actor_token` is refused (`invalid_request`), and so is `resource` (`invalid_target`), as whom a token is for is said by `audience`. Default: none.
        grants: List<At<GrantWord>>,
        /// Whom its tokens may be for. Default: nobody.
        audiences: List<At<String>>,
        /// The most that its tokens may do; an exchanged one may never do more than the token it was made from. Default: nothing.
        scopes: List<At<String>>,
        /// The longest life of its tokens. A token of a provider that lives longer is not handed on. From `10s` to `1h`. Default `5m`.
        max_life: At<Span>,
        /// Which tokens it may exchange (RFC 8693): `any` that the application takes, or those that name it, `addressed`: in `aud`, `azp` or `client_id`, by its name in `at` at the provider of the token; where it has none there, in `aud` alone, by its name here. Then it makes nothing of a token that it came by. Default `any`.
        subject_tokens: At<SubjectTokensWord>,
        /// Whether it may ask if a token is good (RFC 7662). It is told of tokens of both sides, and of what we minted for a client or, while any client may ask, for an upstream; of a token that is not for the application, but for an audience of `audiences`, if a client has it from here, with its `aud`. What an upstream got from us without asking cannot be revoked by itself (`unsupported_token_type`): it ends with what it was made of. Default `false`.
        introspect: At<bool>,
        /// By provider: its registration there, for `client_credentials`, `refresh_token` and `device_code`. One with `auth: none` is public there, and gets no tokens for itself. Where the provider gives again what the client has given back (RFC 7009), that stays over, and the client waits for another one until that ends: 503 (`temporarily_unavailable`) with `Retry-After`.
        at: Named<RawClient>,
        /// What its refresh tokens are, for `refresh_token`.
        refresh: RawRefresh,
    }

    /// Refresh tokens: each is good once, and stands for one of a provider, which nobody else sees.
    RawRefresh {
        /// How long one and all that follow it live, whatever the provider allows. From `1m` to `400d`. Default `30d`.
        max: At<Span>,
        /// How long the one before the good one is forgiven, whose answer may have got lost. One that comes later was used by two: all of its family are over. At most `1m`. Default `10s`.
        grace: At<Span>,
        /// The provider whose own refresh tokens it may bring: each is taken once, and one of ours is given in its place. What came of it is renewed at that provider until it ends, wherever its person is assigned: access tokens are exchanged, the family stays. `legacy close` ends it there, and the client signs in anew.
        adopt: At<String>,
    }
}

words! {
    /// How a client proves who it is.
    TokenClientAuth {
        /// Not at all: it is public.
        "none" => None,
    }

    /// Which tokens a client may exchange.
    SubjectTokensWord {
        /// Whichever the application takes.
        "any" => Any,
        /// Those that name the client.
        "addressed" => Addressed,
    }

    /// By what right a client gets a token.
    GrantWord {
        /// For a token of somebody else (RFC 8693).
        "token_exchange" => TokenExchange,
        /// For itself (RFC 6749 §4.4).
        "client_credentials" => ClientCredentials,
        /// For a refresh token (RFC 6749 §6).
        "refresh_token" => RefreshToken,
        /// For somebody who signs in on another device (RFC 8628).
        "device_code" => DeviceCode,
    }
}
