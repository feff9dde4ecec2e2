//! `exchange`, `secrets.signing`: what upstreams get in place of the credential that was presented.

use std::path::PathBuf;

use crate::config::raw::RawClient;
use crate::config::raw::RawSecretText;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// A way to turn a credential into the token that an upstream expects: exactly one kind. The credential is always judged first, and the result is never used for longer than it is good, and may not do more.
    one of RawExchange {
        /// A provider exchanges the presented token (RFC 8693). Credentials that are no tokens are refused.
        token_exchange: RawTokenExchange,
        /// We sign a short assertion about the person, and a provider gives a token for it (RFC 7523 §2.1).
        assertion: RawAssertionGrant,
        /// We mint the token.
        mint: RawMint,
    }

    /// A provider exchanges the presented token (RFC 8693).
    RawTokenExchange {
        /// The provider, an `oidc` one. Required.
        provider: At<String>,
        /// Our registration there. Default: the `client` of the provider.
        client: RawClient,
        /// Sent as `audience`; a result that can be read must be for one of them or of `resources`, and for nobody else but `also`. One of the two is required.
        audiences: List<At<String>>,
        /// Sent as `resource` (RFC 8707).
        resources: List<At<String>>,
        /// Who may be in `aud` of a result besides, such as `account`, which Keycloak adds where a person has roles of it: a result that can be read and is for anybody else is not used (403). Default: none.
        also: List<At<String>>,
        /// What the result may do. Default: what the presented token may.
        scopes: RawScopeRules,
        /// How `may_act` of presented tokens calls us. For a client of `token_endpoint`, `may_act` names the client: by its name there with the `iss` of `token_endpoint`, or by its name at the provider of the token. Default: our client id there.
        actor: At<String>,
        /// What happens to tokens of this provider itself. One that is bound to a key or a certificate does not pass (403): its proof is for us, and the application could be shown none. With `exchange` it becomes one that is bound to nothing (`binding: lose`); a token that we `mint` with `binding: keep` stays bound. Default `pass`.
        own_tokens: At<OwnTokensWord>,
        /// How much longer than the presented token the provider's may live by itself. Here it is never used for longer than the presented one, and nobody can make a provider's token shorter: whoever is given it could bring it elsewhere for that much longer. One that lives longer than this is not used (403, the log names this key). With `0s` nothing outlives anything, and a token that has less left than the provider's lives is refused, each in its last minutes. Where tokens of our registration there live no longer than this, every token can be exchanged at any age; where they live longer, one that is older than this is refused. What was exchanged already, for our registration there, gives nothing that outlives it. Nothing else than a token (a session, a password) is held to it, and a token of which nobody says how long it lives is used for a minute. Other than `0s` it is AFS025 of `check --strict`. From `0s` to `24h`. Default `1m`.
        longer_life: At<Span>,
        /// What becomes of a token that is bound to a key or a certificate (`cnf`): `lose`, the result is not bound, and found as a `critical` divergence (`binding_lost`), so that gates (`critical`) see it and nothing is rolled back for it, and counted (`authferry_bindings_lost_total`); `refuse`, it is not exchanged. Default `lose`.
        binding: At<BindingWord>,
        /// What happens to a result that cannot be read, as it is no JWT: `refuse`, it is not used (403); `accept`, it is whoever's the provider made it for, and nobody here can compare that with the person who was admitted, or see for whom it is. Where the presented token says who acts for its subject (`act`), none is used. Default `refuse`.
        unreadable: At<UnreadableWord>,
        /// Where the upstream finds the result.
        send: RawSend,
    }

    /// We sign a short assertion about the person, and a provider gives a token for it (RFC 7523 §2.1).
    RawAssertionGrant {
        /// The provider, an `oidc` one. Required.
        provider: At<String>,
        /// Our registration there. Default: the `client` of the provider.
        client: RawClient,
        /// `iss` of the assertion: how the provider knows us. Required.
        issuer: At<String>,
        /// `aud` of the assertion. Default: the provider's issuer identifier.
        audience: At<String>,
        /// `sub` of the assertion, such as `{subject}`: how the provider finds its account. Required.
        subject: At<String>,
        /// The life of the assertion. From `1s` to `5m`. Default `60s`.
        ttl: At<Span>,
        /// The key that signs it, in PEM. Default: those of `secrets.signing`, published under `/.authferry/jwks.json`.
        key: RawSecretText,
        /// A result that can be read must be for one of them or of `resources`, and for nobody else but `also`. One of the two is required.
        audiences: List<At<String>>,
        /// Sent as `resource` (RFC 8707).
        resources: List<At<String>>,
        /// Who may be in `aud` of a result besides, such as `account`, which Keycloak adds where a person has roles of it: a result that can be read and is for anybody else is not used (403). Default: none.
        also: List<At<String>>,
        /// What the result may do. Default: what the presented token may.
        scopes: RawScopeRules,
        /// How `may_act` of presented tokens calls us. For a client of `token_endpoint`, `may_act` names the client: by its name there with the `iss` of `token_endpoint`, or by its name at the provider of the token. Default: our client id there.
        actor: At<String>,
        /// What happens to tokens of this provider itself. One that is bound to a key or a certificate does not pass (403): its proof is for us, and the application could be shown none. With `exchange` it becomes one that is bound to nothing (`binding: lose`); a token that we `mint` with `binding: keep` stays bound. Default `pass`.
        own_tokens: At<OwnTokensWord>,
        /// How much longer than the presented token the provider's may live by itself. Here it is never used for longer than the presented one, and nobody can make a provider's token shorter: whoever is given it could bring it elsewhere for that much longer. One that lives longer than this is not used (403, the log names this key). With `0s` nothing outlives anything, and a token that has less left than the provider's lives is refused, each in its last minutes. Where tokens of our registration there live no longer than this, every token can be exchanged at any age; where they live longer, one that is older than this is refused. What was exchanged already, for our registration there, gives nothing that outlives it. Nothing else than a token (a session, a password) is held to it, and a token of which nobody says how long it lives is used for a minute. Other than `0s` it is AFS025 of `check --strict`. From `0s` to `24h`. Default `1m`.
        longer_life: At<Span>,
        /// What becomes of a token that is bound to a key or a certificate (`cnf`): `lose`, the result is not bound, and found as a `critical` divergence (`binding_lost`), so that gates (`critical`) see it and nothing is rolled back for it, and counted (`authferry_bindings_lost_total`); `refuse`, it is not exchanged. Default `lose`.
        binding: At<BindingWord>,
        /// What happens to a result that cannot be read, as it is no JWT: `refuse`, it is not used (403); `accept`, it is whoever's the provider made it for, and nobody here can compare that with the person who was admitted, or see for whom it is. Where the presented token says who acts for its subject (`act`), none is used. Default `refuse`.
        unreadable: At<UnreadableWord>,
        /// Where the upstream finds the result.
        send: RawSend,
    }

    /// We mint the token.
    RawMint {
        /// `iss`. Whoever the token is for checks it with the keys under `/.authferry/jwks.json`. An application of ours takes it from nobody (401): it is for others, and nothing is made of it again. Required.
        issuer: At<String>,
        /// `aud`. Required.
        audiences: List<At<String>>,
        /// `sub`. Default `{canonical}`.
        subject: At<String>,
        /// Further claims that are texts, as `claim: "template"`.
        claims: Named<At<String>>,
        /// Further claims that are attributes as they are, lists too, as `claim: attribute`.
        attributes: Named<At<String>>,
        /// The longest life; a credential that ends earlier ends it. From `1s` to `1h`. Default `5m`.
        ttl: At<Span>,
        /// How we are named as the actor in `act`, and by `may_act` of presented tokens. For a client of `token_endpoint`, `may_act` names the client: by its name there with the `iss` of `token_endpoint`, or by its name at the provider of the token. Default: we are not named.
        actor: At<String>,
        /// Whether `act` of a token for a client of `token_endpoint` names that client instead (RFC 8693 §4.1). Its `client_id` does in any case. Default `false`.
        names_client: At<bool>,
        /// What the token may do. Default: what the presented token may.
        scopes: RawScopeRules,
        /// The provider whose tokens it stands in for: tokens of that provider pass as they were presented.
        yields: At<String>,
        /// What becomes of a token that is bound to a key or a certificate (`cnf`): `keep`, the minted one says the same, for an upstream that looks; `lose`, it says nothing, and is found as a `critical` divergence (`binding_lost`), so that gates (`critical`) see it and nothing is rolled back for it, and counted (`authferry_bindings_lost_total`); `refuse`, it is not exchanged. Default `lose`.
        binding: At<BindingWord>,
        /// How it is written and signed. Default: a JWT by a key of `secrets.signing`.
        format: RawFormat,
        /// Where the upstream finds it.
        send: RawSend,
    }

    /// What a result may do: never more than what was presented.
    RawScopeRules {
        /// What is asked for, as far as the presented token has it; refused where it has none of them. Default: all that it has.
        grant: List<At<String>>,
        /// What a scope of the presented token is called at the target, as `scope: scope`.
        map: Named<At<String>>,
        /// Scopes without rights, which a result may have besides: `profile` and `email` too, where a provider adds them and they give nothing at the upstream. Default `[openid]`.
        harmless: List<At<String>>,
    }

    /// Where the upstream finds the result.
    RawSend {
        /// The header. Default `Authorization`.
        header: At<String>,
        /// What stands before it. Default `Bearer` in `Authorization`, and nothing elsewhere.
        scheme: At<String>,
    }

    /// How a minted token is written and signed.
    one of RawFormat {
        /// A JWT.
        jwt: RawJwtFormat,
        /// A text, a dot, and its HMAC-SHA-256 in hexadecimal.
        signed_text: RawSignedText,
    }

    /// A JWT.
    RawJwtFormat {
        /// `typ` of its header. Default `at+jwt`.
        typ: At<String>,
        /// The key that signs it, in PEM. Default: those of `secrets.signing`, published under `/.authferry/jwks.json`.
        key: RawSecretText,
        /// A secret shared with the upstream, for HS256: at least 32 bytes.
        shared_secret: RawSecretText,
    }

    /// A text and its HMAC.
    RawSignedText {
        /// The text, such as `{subject}:{expires}`; `issued` and `expires` are in seconds since 1970. `{expires}` is required. Between two values stands a character that is neither a letter nor a digit, and no value has one of those that stand beside a value (or, where only letters and digits do, between two): of whom that cannot be said there is no token (403), as whoever takes the text apart would read something else. `check` warns of `-`, `.` and `@`, which many values have.
        template: At<String>,
        /// A secret shared with the upstream: at least 32 bytes.
        shared_secret: RawSecretText,
    }

    /// What the upstreams of an application get in place of the credential.
    RawAppExchange {
        /// The exchange of every credential, on all routes that name none; tokens of the provider that it yields pass as they are.
        always: At<String>,
        /// For `other_arm: exchange`: exchanges, one for each provider whose token may be wanted.
        other_arm: List<At<String>>,
    }

    /// The keys that sign what we mint. Without `files` and `pkcs11` they are made here: in `state_dir/keys`, sealed under `session_keys`, or, where instances share a store, there, sealed in the same way, so that all have the same.
    RawSigning {
        /// What they sign with. Default `ES256`.
        algorithm: At<SigningAlg>,
        /// How long a key signs. From `1h` to `400d`. Default `30d`.
        rotate_every: At<Span>,
        /// How long a key is published before it signs: longer than key sets are kept by those who check. From `5m` to `7d`. Default `1h`.
        announce: At<Span>,
        /// How long a key stays published after it has signed: longer than its tokens live. From `1h` to `30d`. Default `25h`.
        overlap: At<Span>,
        /// Keys in PEM, instead of our own: the first signs, all are published. Read again when they change.
        files: List<At<PathBuf>>,
        /// Keys that stay in a PKCS#11 module, instead of our own. In builds with the feature `pkcs11`.
        pkcs11: RawModule,
    }

    /// Keys for ES256 (P-256) or RS256 (2048 bits or more) in a token of a PKCS#11 module. Whoever needs a signature waits for the module, and so does every other request of that worker; what was signed is kept and used again.
    RawModule {
        /// The library of the module, such as `/usr/lib/softhsm/libsofthsm2.so`. Required.
        module: At<PathBuf>,
        /// The label of the token. Required.
        token: At<String>,
        /// The PIN of its user. Required.
        pin: RawSecretText,
        /// The labels of the keys, each with its public half beside it: the first signs, all are published. Another key under a label that stands here already counts after a restart only; one with a label of its own as soon as that is named. Required.
        keys: List<At<String>>,
    }
}

words! {
    /// What happens to tokens of the provider that an exchange yields.
    OwnTokensWord {
        /// They pass as they were presented.
        "pass" => Pass,
        /// They are exchanged too, such as for the upstream's own audience.
        "exchange" => Exchange,
    }

    /// What happens to a result that nobody here can read.
    UnreadableWord {
        /// It is used as it is.
        "accept" => Accept,
        /// It is not used.
        "refuse" => Refuse,
    }

    /// What becomes of a binding.
    BindingWord {
        /// The result is bound as well.
        "keep" => Keep,
        /// The result is not bound.
        "lose" => Lose,
        /// There is no result.
        "refuse" => Refuse,
    }

    /// Algorithms that we sign with.
    SigningAlg {
        /// ECDSA over P-256 with SHA-256.
        "ES256" => Es256,
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        "RS256" => Rs256,
        /// Ed25519.
        "EdDSA" => EdDsa,
    }
}
