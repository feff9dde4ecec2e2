//! `apps`, `fallback`: what stands behind the proxy.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;

use crate::config::problem::Report;
use crate::config::raw::RawAppExchange;
use crate::config::raw::RawCertificate;
use crate::config::raw::RawFile;
use crate::config::scalar::Network;
use crate::config::scalar::Size;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::Shape;
use crate::config::shape::mappings;
use crate::config::shape::scalar;
use crate::config::shape::words;
use crate::config::tree::Node;
use crate::identity::Refusal;

mappings! {
    /// An application behind the proxy.
    RawApp {
        /// Its host names, without port; `*.corp.example` matches one label. Required.
        hosts: List<At<String>>,
        /// Where it lives. Required.
        upstream: RawUpstream,
        /// What it learns about the person, as `Header-Name: "template"`; the same bytes whichever provider decided.
        identity_headers: Named<At<String>>,
        /// Fixed headers, such as a secret shared with it.
        static_headers: Named<RawHeaderValue>,
        /// A signed statement about the person, as a header.
        assertion: RawAssertion,
        /// What it gets in place of the credential that was presented.
        exchange: RawAppExchange,
        /// The exchanges that mint tokens for clients of `token_endpoint` which are credentials here, like the credential that each was made of: whose it is, and whether that counts now, is decided as for that one; it is over where its provider has the key no more that signed that one. It may do what the token says, for as long as that lives, and needs its proof where it is bound. Each is a `mint` by our keys (no `key`, no `shared_secret`) with `typ: at+jwt`, for an audience of `token_endpoint`, under an issuer that no provider has. What nobody here knows any more, because it was given back or the store was emptied, is refused; while the store does not answer, 503. A route whose `exchange`, and a stage whose `other_arm: exchange`, asks a provider with the presented token (`token_exchange`) refuses them: that provider has not issued them. Default: none.
        minted_tokens: List<At<String>>,
        /// Whether the client's `Authorization` and credential cookies reach it. Default `false`.
        forward_credentials: At<bool>,
        /// Paths that anybody may see: short for routes with `access: public` before all others.
        public_paths: List<At<String>>,
        /// Paths by which people sign out of the application itself, each one exact path. Whoever opens one (GET, in a tab) is led to `/.authferry/logout`, which asks and signs them out here and at their provider; a POST to one from a page of the application is answered as one to `/.authferry/logout`: it signs them out at once. The application gets such a request only where the browser has a cookie of an old system (`session_probe`), and then first, so that it ends its own session: its answer is replaced by ours, with the cookies that it sets, where it says that it has: to a POST whatever is below 400, to a GET a redirect or a page that sets a cookie. Anything else that it answers, such as a page that asks first or an error, is passed on, and nobody is signed out here by that. Whatever else goes to these paths (a GET of a script, a POST from another site, another method) is the application's alone, and ends nothing here. Where another proxy asks (`forward_auth`) they have no effect: link `/.authferry/logout` there. Default: none.
        logout_paths: List<At<String>>,
        /// Who may see what; the first match wins, no match is 403. Default: everything for the admitted.
        routes: List<RawRoute>,
        /// What the admitted must have besides, on every route with `access: required`. A route that names one of these keys in its own `require` has its own value of that key, and the others from here.
        require: RawRequire,
        /// The provider of an application that no rollout moves.
        provider: At<String>,
        /// Whether another proxy forwards to it and asks here about each request (`/.authferry/decide` for nginx, `/.authferry/forward_auth` for Traefik and Caddy, `/.authferry/ext_authz` for Envoy). Only peers in `server.trusted_proxies` may. Default `false`.
        forward_auth: At<bool>,
        /// What one address may do there in a minute.
        rate_limits: RawRateLimits,
        /// The least class of assurance on a path, as `"/admin/*": mfa` (which closes `/admin`, too), whichever route it is: a weaker login leads to a step-up login at its owner, as for `require.acr`. The order is `assurance`.
        assurance_floor: Named<At<String>>,
        @later "audience", "revocation";
    }

    /// What one address may do at an application in a minute, counted by all instances that share a store; an IPv6 host has its network (/64) to itself. One more is answered 429 with `Retry-After` and `RateLimit`.
    RawRateLimits {
        /// Sign-ins that it begins, whether or not they are finished. Many people behind one address share them. From `1` to `1000000` in a minute. Default `3000`.
        logins: At<Whole>,
        /// Tokens that it presents whose `kid` nobody has published. Good tokens pass however many bad ones come. From `1` to `1000000` in a minute. Default `600`.
        unknown_keys: At<Whole>,
    }

    /// Where an application lives.
    RawUpstream {
        /// Its origin: `http://host:port` or `https://host:port`.
        url: At<String>,
        /// Several origins, instead of `url`.
        urls: List<At<String>>,
        /// Whether HTTP/2 is spoken to it. Default `false`.
        http2: At<bool>,
        /// For connecting. From `10ms` to `60s`. Default `3s`.
        connect_timeout: At<Span>,
        /// Until the head of its answer. From `10ms` to `1h`. Default `60s`.
        response_timeout: At<Span>,
        /// How long an idle connection is kept. What cannot be sent twice (RFC 9110 §9.2.2, and whatever has a body) uses it only for the first half of the shortest time after which the application was seen to end one. Default `4s`.
        idle: At<Span>,
        /// CA certificates instead of the system's, in PEM.
        ca: RawFile,
        /// Our certificate towards it.
        client_certificate: RawCertificate,
        /// How its health is seen. Without it, by connections alone.
        health: RawHealth,
        /// Whether it sees the client's `Host`, or its own name. Default `true`.
        preserve_host: At<bool>,
    }

    /// How the health of an origin is seen.
    RawHealth {
        /// A path that answers 2xx while the origin is well. Required.
        path: At<String>,
        /// How often it is asked. From `100ms` to `1h`. Default `5s`.
        interval: At<Span>,
    }

    /// The value of a fixed header.
    one of RawHeaderValue {
        /// A text that is no secret.
        value: At<String>,
        /// A file with the value; one line break at its end is not part of it.
        file: At<PathBuf>,
        /// An environment variable with the value.
        env: At<String>,
    }

    /// A signed statement about the person (a JWT by our key), as a header.
    RawAssertion {
        /// The header. Default `X-Authferry-Assertion`.
        header: At<String>,
        /// Its `iss`. Required.
        issuer: At<String>,
        /// Its `aud`. Default: the name of the application.
        audience: At<String>,
        /// Its life; never beyond the end of the credential, its leeway included. From `1s` to `5m`. Default `60s`.
        ttl: At<Span>,
    }

    /// Who may see what.
    RawRoute {
        /// `/healthz` or `/api/*`: a trailing `*` matches any rest, and nothing else is a wildcard. Required.
        path: At<String>,
        /// Methods, as the request line says them: header fields that ask an application for another one (`X-HTTP-Method-Override`, `X-HTTP-Method`, `X-Method-Override`) never reach it. One that heeds the field `_method` of a form, or of a query, must be told not to wherever routes differ by method. Default: all.
        methods: List<At<String>>,
        /// Who may come in: anybody (`public`), anybody but nobody with a bad credential (`optional`), or the admitted (`required`). Default `required`.
        access: At<AccessWord>,
        /// The classes of credential that are looked at. Default: all.
        credentials: List<At<ClassWord>>,
        /// What somebody without a credential gets: a login for page loads and 401 otherwise (`auto`), or always 401 (`unauthorized`). Default `auto`.
        on_unauthenticated: At<OnUnauthenticatedWord>,
        /// What the admitted must have besides.
        require: RawRequire,
        /// Whether WebSocket upgrades pass. Default `false`.
        websocket: At<bool>,
        /// Protocols besides WebSocket that a connection may be switched to, by the name in `Upgrade` (RFC 9110 §7.8) such as `tcp` or `SPDY/3.1`, in small or large letters, for GET and POST without content over HTTP/1.1. The application's answer must name the same one. What is said then is passed on and not looked at; it ends with the credential, and after an hour of silence. Whatever is not named reaches the application as plain HTTP, without `Upgrade`. Never `h2c`, `TLS` or `HTTP`. Default: none.
        upgrades: List<At<String>>,
        /// How long a form may be that is kept when it comes on a session that is over, so that nothing typed in is lost: from `1B` to `64KiB`. Its sender is told to sign in, and can send it within `retention.forms` (ten minutes) then, by one button, if they are who they were. Only what a page of the application itself sends (`application/x-www-form-urlencoded`, in UTF-8) is kept, sealed with a secret of that browser. Without it such a form is answered 401.
        preserve_post: At<Size>,
        /// The exchange of every credential on this route; tokens of the provider that it yields pass as they are. Default: `exchange.always` of the application.
        exchange: At<String>,
        /// Another upstream than the application's.
        upstream: RawUpstream,
        /// What becomes of a path with `%2F`: `refuse`, or `opaque`, which forwards it as it is. Default `refuse`. Paths in which a program could read a dot segment or the path of another route are refused in any case; cohorts and other paths of this file are compared with the path as it is forwarded.
        encoded_slash: At<EncodedSlashWord>,
        @later "assurance", "rate_limit", "revocation";
    }

    /// What the admitted must have besides.
    RawRequire {
        /// Any of these groups.
        groups: List<At<String>>,
        /// Any of these roles; `roles` says which groups give them.
        roles: List<At<String>>,
        /// Attributes with these values, as `attribute: value`, all of them; a list has the value among others.
        claims: Named<At<String>>,
        /// All of these scopes; a token without them gets 403 and the challenge `insufficient_scope` (RFC 6750).
        scopes: List<At<String>>,
        /// Any of these assurance classes; who has none of them signs in again at the owner, and a token gets the challenge `insufficient_user_authentication` (RFC 9470).
        acr: List<At<String>>,
        /// How long ago the person may have signed in (`auth_time`); whose login is older, or not known, signs in again as for `acr`. From `10s` to `30d`.
        max_age: At<Span>,
        /// A client address in one of these networks.
        network: List<At<Network>>,
        /// A client address that is known to be in one of these countries (ISO 3166-1, two capital letters), by `server.country_database`; an unknown one is in none.
        country: List<At<String>>,
        /// A token that is bound to what the client proves to hold, in any of these ways.
        proof: List<At<ProofWord>>,
    }

    /// When a new login may start at the other provider: for an outage, never for a refusal.
    RawFallback {
        /// The provider whose outage opens it. Required.
        from: At<String>,
        /// Where logins start then. Default: the other provider of the rollout.
        to: At<String>,
        /// The outages that count. Required.
        when: List<At<Outages>>,
        /// What may start elsewhere. Default `new_logins`.
        scope: At<FallbackScope>,
        /// What else must hold.
        require: RawFallbackRequire,
        /// The sessions that are made this way.
        session: RawFallbackSession,
        /// How many logins may take it.
        budget: RawFallbackBudget,
    }

    /// What else must hold for a fallback.
    RawFallbackRequire {
        /// How long the provider must have been away without one success. From `10s` to `1h`. Default `30s`.
        provider_down_for: At<Span>,
        /// Paths without fallback; a trailing `*` matches any rest. Routes that ask for assurance (`require.acr`, `assurance_floor`) have none in any case. Default: none.
        not_paths: List<At<String>>,
        /// The least class of assurance that a login must reach there; one that does not, or of which nothing is known, is no session. The order is `assurance`. Default: any.
        assurance_at_least: At<String>,
        /// Whether an account must be in use there, by the provider's `directory`: one that is disabled or not to be found is no session, and while the directory does not answer nobody gets one. A `session_probe` says so by itself with each request. Default `false`.
        legacy_account_enabled: At<bool>,
        /// For that: the attribute of who signed in whose value is the directory's `key`. Default `subject`.
        legacy_account_by: At<String>,
    }

    /// Sessions made by a fallback.
    RawFallbackSession {
        /// How long they live. From `1m` to `1h`. Default `1h`.
        max_age: At<Span>,
        /// Once the provider that was away is healthy again, it is asked about the person of such a session when they open a page, without a page being shown (`prompt=none`): every 10 min and `sessions.silent.max_per_subject_per_day` (2) times a day at most. If it knows them still, they have a session of it; if not, this one goes on until its end, and the next sign-in is where they belong. Default `false`: it lasts for `max_age`.
        recheck_when_healthy: At<bool>,
        /// What such a session is called towards the application: templates read it as `{session_mark}`, and access lines have it as `mark`. At most 64 letters, digits, `-`, `_` and `.`. Default: it has no mark.
        mark_: At<String>,
    }

    /// How many logins may take a fallback.
    RawFallbackBudget {
        /// In an hour. From 1 to 1000000. Default `500`.
        per_hour: At<Whole>,
    }
}

words! {
    /// Who may come in.
    AccessWord {
        /// Anybody.
        "public" => Public,
        /// Anybody; a credential that is presented must be good.
        "optional" => Optional,
        /// The admitted.
        "required" => Required,
    }

    /// What becomes of `%2F` in a path.
    EncodedSlashWord {
        /// The request is refused.
        "refuse" => Refuse,
        /// It is an octet like others.
        "opaque" => Opaque,
    }

    /// Classes of credential.
    ClassWord {
        /// A session cookie.
        "session" => Session,
        /// A signed token.
        "bearer" => Bearer,
        /// An opaque token.
        "opaque" => Opaque,
        /// Name and password.
        "basic" => Basic,
        /// An API key.
        "api_key" => ApiKey,
        /// The certificate of a TLS client.
        "client_cert" => ClientCert,
        @later "refresh";
    }

    /// What a client proves to hold.
    ProofWord {
        /// A key, by DPoP (RFC 9449).
        "dpop" => Dpop,
        /// A certificate, by mutual TLS (RFC 8705 §3).
        "mtls" => Mtls,
    }

    /// What somebody without a credential gets.
    OnUnauthenticatedWord {
        /// A login for page loads, 401 otherwise.
        "auto" => Auto,
        /// 401.
        "unauthorized" => Unauthorized,
    }

    /// Outages, and only outages.
    OutageWord {
        /// No connection.
        "connect" => Connect,
        /// No TLS.
        "tls" => Tls,
        /// No answer in time.
        "timeout" => Timeout,
        /// It answered 5xx.
        "http_5xx" => Http5xx,
        /// It answered 429.
        "rate_limited" => RateLimited,
        /// Its keys cannot be had.
        "keys_unavailable" => KeysUnavailable,
        /// Its breaker is open.
        "circuit_open" => CircuitOpen,
        /// Its answers make no sense.
        "malformed" => Malformed,
    }

    /// What may start elsewhere.
    FallbackScope {
        /// New logins only.
        "new_logins" => NewLogins,
    }
}

/// An outage. The names of refusals are known here, to say why they never stand in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outages(pub(crate) OutageWord);

impl Shape for Outages {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = &*scalar(node, "an outage", report)?.text;
        if Refusal::ALL.iter().any(|refusal| refusal.as_str() == text) {
            report
                .error(node.mark, format!("`{text}` is a refusal: it never opens another door"))
                .value(text)
                .hint("a fallback is for outages; who was refused at one provider must not get in at the other");
            return None;
        }
        OutageWord::read(node, report).map(Self)
    }
}

impl JsonSchema for Outages {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        OutageWord::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        OutageWord::json_schema(generator)
    }
}
