//! `providers`: who vouches for people, and how we ask.

use std::path::PathBuf;

use crate::config::raw::RawAuthenticate;
use crate::config::raw::RawBackchannelLogout;
use crate::config::raw::RawBreaker;
use crate::config::raw::RawClient;
use crate::config::raw::RawClientLimits;
use crate::config::raw::RawDirectory;
use crate::config::raw::RawFile;
use crate::config::raw::RawKeys;
use crate::config::raw::RawLdapDirectory;
use crate::config::raw::RawLdapGroups;
use crate::config::raw::RawLdapPool;
use crate::config::raw::RawOidcIntrospect;
use crate::config::raw::RawOwnsTokens;
use crate::config::raw::RawProbeLogin;
use crate::config::raw::RawProvisioning;
use crate::config::raw::RawRenewals;
use crate::config::raw::RawRevocation;
use crate::config::raw::RawSwitch;
use crate::config::raw::RawVerify;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::config::shape::mappings;
use crate::config::shape::words;

mappings! {
    /// An identity provider: exactly one kind.
    one of RawProvider {
        /// An OpenID provider: found by discovery; signs access tokens; has logins where `client` is given.
        oidc: RawOidc,
        /// An issuer of signed tokens that is known by its keys only.
        jwt: RawJwt,
        /// An authorization server with opaque tokens (RFC 7662).
        introspection: RawIntrospection,
        /// An old single sign-on or application that judges its own session cookie.
        session_probe: RawSessionProbe,
        /// A directory that judges passwords by bind.
        ldap: RawLdap,
        /// A password file.
        basic: RawBasic,
        /// A file of hashed API keys.
        api_key: RawApiKey,
        /// Certificates of TLS clients.
        client_cert: RawClientCert,
        @later "scim", "saml", "kerberos";
    }

    /// An OpenID provider.
    RawOidc {
        /// Its issuer identifier, byte for byte as in its metadata. Required.
        issuer: At<String>,
        /// How its credentials are recognised.
        owns: RawOwnsTokens,
        /// How its tokens are judged. Required.
        verify: RawVerify,
        /// Its keys, where they are not to be discovered. Default: `jwks_uri` of its metadata.
        jwks: RawKeys,
        /// Our registration there; without it there is no login.
        client: RawClient,
        /// Our callback path, one per provider; such as the one that an earlier client had registered. It comes before the routes of every application whose people sign in there. Default `/.authferry/cb/NAME`.
        redirect_path: At<String>,
        /// Scopes of a login. Default `[openid]`.
        scopes: List<At<String>>,
        /// Whether `iss` must be in the authorization response (RFC 9207) even if the metadata do not announce it. Default `false`.
        require_iss: At<bool>,
        /// When the parameters of a login are pushed to the provider, from here, before the browser goes there (RFC 9126), so that nobody can read or change them on the way. Each login is then one call more, which a stranger can cause. Default `required`.
        par: At<ParWord>,
        /// Which of its claims become which of our attributes, as `attribute: claim.path`. Default: `subject: sub`, and `email`, `email_verified`, `name`, `preferred_username`, `groups` each from the claim of that name. `email` is left out unless `email_verified` is the JSON value `true` or `authoritative.email_domains` has its domain. `password_changed` is when the password was changed last: a switch back counts whom it would lock out by it (`rollback_exposure_max`). Entra ID leaves `groups` out of the tokens of people who are in many (more than 200) and says where they are (`_claim_names`, `hasgroups`): whoever comes with such a token is refused, and never taken for somebody without groups. Let Entra say only the groups that are assigned to the application, or its roles (`groups: roles`).
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
        /// Bounds on our calls to it.
        limits: RawClientLimits,
        /// When it is not asked any more.
        breaker: RawBreaker,
        /// CA certificates beside the system's, in PEM.
        ca: RawFile,
        /// How its people are looked up.
        directory: RawDirectory,
        /// How people come to it with their passwords.
        provisioning: RawProvisioning,
        /// Whether it is asked about each access token as well, beside the look at signature and claims (RFC 7662), so that a token which it has taken back counts no longer than `cache`.
        introspect: RawOidcIntrospect,
        /// Whether sessions are renewed there.
        refresh: RawRenewals,
        /// Whether refresh tokens are given back there (RFC 7009) when what they are for has ended. Default: where its metadata have an endpoint for it.
        revoke: RawSwitch,
        /// How it says that somebody has signed out there.
        backchannel_logout: RawBackchannelLogout,
        /// Whether it exchanges what others have issued, by an entry of `exchange` with this `provider` of the kinds `token_exchange` (RFC 8693) or `assertion` (RFC 7523). `false`: such an entry is refused, so that nobody switches on what the provider is not meant to do. `true`: without such an entry it is refused. Default: as the entries say.
        exchange: RawSwitch,
        @later "events", "logout", "dpop";
    }

    /// An issuer of signed tokens that is known by its keys only.
    RawJwt {
        /// Its `iss`. Required.
        issuer: At<String>,
        /// How its credentials are recognised.
        owns: RawOwnsTokens,
        /// How its tokens are judged. Required.
        verify: RawVerify,
        /// Its keys. Required.
        jwks: RawKeys,
        /// As for `oidc`.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
        /// Bounds on our calls to it.
        limits: RawClientLimits,
        /// When it is not asked any more.
        breaker: RawBreaker,
        /// CA certificates beside the system's, in PEM.
        ca: RawFile,
        @later "directory", "exchange", "events";
    }

    /// An authorization server with opaque tokens (RFC 7662).
    RawIntrospection {
        /// The introspection endpoint. Required.
        url: At<String>,
        /// The issuer of its people; an answer whose `iss` is another is refused, so servers that send `iss` need it here. Default `urn:authferry:NAME`.
        issuer: At<String>,
        /// How its credentials are recognised.
        owns: RawOwnsOpaque,
        /// Our registration there. Required.
        client: RawClient,
        /// Any of these must be in `aud` of an answer. Default: `aud` is not looked at.
        audiences: List<At<String>>,
        /// How long a good answer is kept, never beyond its `exp`. From `1s` to `10m`. Default `30s`.
        cache: At<Span>,
        /// For how long after that a good answer counts while the server cannot be reached (no connection, no answer in time, 5xx), at each instance by itself; never beyond its `exp`, and never for what was refused, revoked or given back since. From `1s` to `1h`. Default: not at all.
        stale_if_unavailable: At<Span>,
        /// Where a token is given back that was revoked here (its person, its client, the token itself), once, when it is presented again.
        revoke: RawRevocation,
        /// As for `oidc`.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
        /// Bounds on our calls to it.
        limits: RawClientLimits,
        /// When it is not asked any more.
        breaker: RawBreaker,
        /// CA certificates beside the system's, in PEM.
        ca: RawFile,
        @later "directory";
    }

    /// An old single sign-on or application that judges its own session cookie.
    RawSessionProbe {
        /// How its credentials are recognised. Required.
        owns: RawOwnsCookies,
        /// How it is asked about a cookie. Required.
        introspect: RawProbe,
        /// How passwords are judged, with `owns.basic`.
        authenticate: RawAuthenticate,
        /// Where a browser signs in there.
        login: RawProbeLogin,
        /// How it is told, by us and with the cookie alone, that a session is over: after a sign-out here, once when a cookie is presented whose person was revoked, and once when one is that counts in no application any more.
        revoke: RawProbeLogout,
        /// The older name of `revoke`. Only one of the two may stand.
        logout: RawProbeLogout,
        /// The issuer of its people. Default `urn:authferry:NAME`.
        issuer: At<String>,
        /// As for `oidc`, over its answer.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
        /// Bounds on our calls to it.
        limits: RawClientLimits,
        /// When it is not asked any more.
        breaker: RawBreaker,
        /// CA certificates beside the system's, in PEM.
        ca: RawFile,
        @later "directory";
    }

    /// Where a session of the old side ends.
    RawProbeLogout {
        /// Its address: 2xx, a redirect, 401 and 403 say that the session is over; an outage is tried again for an hour. Required.
        url: At<String>,
        /// What is sent along. Default `cookie`.
        send: At<ProbeSend>,
        /// How it is asked. Default `post`, with an empty form.
        method: At<ProbeLogoutMethod>,
    }

    /// How a session cookie is judged by its owner.
    RawProbe {
        /// The address that is asked: 200 is yes; 401, 403 and redirects are no; anything else is an outage. Required.
        url: At<String>,
        /// What is sent along. Default `cookie`.
        send: At<ProbeSend>,
        /// How a yes names the person: a JSON object, or response headers. In an object, a number `exp` is the end of the session, in seconds since 1970. Default `json`.
        answer: At<ProbeForm>,
        /// For one question. From `50ms` to `60s`. Default `10s`.
        timeout: At<Span>,
        /// How long a yes is kept. From `1s` to `10m`. Default `30s`.
        cache: At<Span>,
        /// For how long after that a yes counts while the owner cannot be reached (no connection, no answer in time, 5xx), at each instance by itself; never for what was refused or signed out since. From `1s` to `1h`. Default: not at all.
        stale_if_unavailable: At<Span>,
    }

    /// A directory that judges passwords by bind.
    RawLdap {
        /// `ldaps://host`, or `ldap://host` with `starttls: true`; plain `ldap://` on loopback only. Required.
        url: At<String>,
        /// Whether StartTLS (RFC 4511 §4.14) is used. Default `false`.
        starttls: At<bool>,
        /// The entry that binds, such as `uid={username},ou=people,dc=corp,dc=example`; the name is escaped. Required.
        user_dn: At<String>,
        /// Attributes that are read after the bind. Default: those that `claims` names.
        attributes: List<At<String>>,
        /// Where groups are looked up.
        groups: RawLdapGroups,
        /// How long a good answer is kept. From `1s` to `10m`. Default `30s`.
        cache: At<Span>,
        /// The issuer of its people. Default `urn:authferry:NAME`.
        issuer: At<String>,
        /// As for `oidc`, over attributes. Default: `subject: uid`, and `email: mail`, `name: cn`, `groups: groups`.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
        /// Bounds on our calls to it.
        limits: RawClientLimits,
        /// When it is not asked any more.
        breaker: RawBreaker,
        /// CA certificates beside the system's, in PEM.
        ca: RawFile,
        /// How it is searched for others than who signs in.
        directory: RawLdapDirectory,
        /// Which of its connections are kept.
        pool: RawLdapPool,
        @later "realm";
    }

    /// A password file: lines of `NAME:HASH[:group,group]`, HASH in argon2 (PHC) or bcrypt.
    RawBasic {
        /// The file; read again when it changes. Required.
        file: At<PathBuf>,
        /// The realm of the challenge. Default: the name of the provider.
        realm: At<String>,
        /// How long a good answer is kept. From `1s` to `10m`. Default `30s`.
        cache: At<Span>,
        /// The issuer of its people. Default `urn:authferry:NAME`.
        issuer: At<String>,
        /// As for `oidc`, over `username` and `groups`. Default `{ subject: username, groups: groups }`.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
        /// Bounds on how many passwords are checked at once.
        limits: RawClientLimits,
    }

    /// A file of API keys: lines of `NAME:sha256:HEX[:group,group]`.
    RawApiKey {
        /// The file; read again when it changes. Required.
        file: At<PathBuf>,
        /// The header that carries a key. Default `X-Api-Key`.
        header: At<String>,
        /// The issuer of its clients. Default `urn:authferry:NAME`.
        issuer: At<String>,
        /// As for `oidc`, over `username` and `groups`. Default `{ subject: username, groups: groups }`.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
    }

    /// Certificates of TLS clients: the credential where a request brings no other. `server.tls.client_certificates` asks for them.
    RawClientCert {
        /// The authorities, and their revocation lists where there are any, in one PEM file; read again when it changes. With a list, a certificate of which no list in force speaks is refused. Required.
        ca: RawFile,
        /// Which name is the subject; exactly one of that type must be in the certificate. Required.
        subject: At<CertificateNameWord>,
        /// The issuer of its clients. Default `urn:authferry:NAME`.
        issuer: At<String>,
        /// As for `oidc`, over `subject` and the lists `san_dns`, `san_uri`, `san_email`, `common_name`, `organizational_unit`. Default `{ subject: subject }`.
        claims: Named<At<String>>,
        /// For which attributes it may speak when people are joined.
        authoritative: RawAuthoritative,
        /// How its assurance is read.
        assurance: RawAssurance,
    }

    /// How opaque tokens are recognised.
    RawOwnsOpaque {
        /// What its tokens begin with. Default: every opaque token; needed as soon as two providers have opaque tokens.
        opaque_prefixes: List<At<String>>,
    }

    /// How session cookies are recognised.
    RawOwnsCookies {
        /// The names of its cookies. Required.
        cookies: List<At<String>>,
        /// Whether `Authorization: Basic` is for it too; `authenticate` judges. Default `false`.
        basic: At<bool>,
    }

    /// For which attributes a provider may speak when people are joined.
    RawAuthoritative {
        /// Attributes, by our name or by the name of the claim they come from.
        claims: List<At<String>>,
        /// Domains of which it may say that an address belongs to the person, verified or not. An address in another domain becomes the attribute `email` only where `email_verified` is the JSON value `true`.
        email_domains: List<At<String>>,
    }

    /// How the assurance of a provider's credentials is read.
    RawAssurance {
        /// The same for all its credentials.
        acr: At<String>,
        /// The claim that says it.
        acr_claim: At<String>,
        /// Translates values of the claim; what is not listed counts as none.
        map: Named<At<String>>,
    }
}

words! {
    /// When authorization requests are pushed.
    ParWord {
        /// Where the provider's metadata require it.
        "required" => Required,
        /// Where they have an endpoint for it.
        "offered" => Offered,
        /// Never.
        "never" => Never,
    }

    /// What a probe sends along.
    ProbeSend {
        /// The cookie alone.
        "cookie" => Cookie,
    }

    /// A name in a certificate.
    CertificateNameWord {
        /// The `dNSName` of its alternative names.
        "san_dns" => Dns,
        /// The `uniformResourceIdentifier`, such as a SPIFFE id.
        "san_uri" => Uri,
        /// The `rfc822Name`.
        "san_email" => Email,
        /// The common name of its subject.
        "common_name" => CommonName,
    }

    /// How a probed address names the person.
    ProbeForm {
        /// A JSON object.
        "json" => Json,
        /// Response headers, by lower-case name.
        "headers" => Headers,
    }

    /// How a sign-out at the old side is asked for.
    ProbeLogoutMethod {
        /// With an empty form.
        "post" => Post,
        /// As a link.
        "get" => Get,
    }
}
