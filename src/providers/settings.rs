//! What the configuration says about providers: plain data.

mod certificates;
#[cfg(feature = "ldap")]
mod ldap;
mod registration;

use std::path::PathBuf;
use std::time::Duration;

use crate::identity::ClaimPath;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::providers::Owns;
pub(crate) use crate::providers::directory::settings::Keycloak as KeycloakDirectory;
#[cfg(feature = "ldap")]
pub(crate) use crate::providers::directory::settings::Ldap as LdapDirectory;
pub(crate) use crate::providers::directory::settings::OfOidc as OidcDirectory;
pub(crate) use crate::providers::directory::settings::Scim as ScimDirectory;
pub(crate) use crate::providers::directory::settings::UserInfo as UserInfoDirectory;
pub(crate) use crate::providers::provisioning::settings::Provisioning;
pub(crate) use crate::providers::settings::certificates::CertificateName;
pub(crate) use crate::providers::settings::certificates::ClientCert;
#[cfg(feature = "ldap")]
pub(crate) use crate::providers::settings::ldap::Ldap;
#[cfg(feature = "ldap")]
pub(crate) use crate::providers::settings::ldap::LdapGroups;
#[cfg(feature = "ldap")]
pub(crate) use crate::providers::settings::ldap::LdapPool;
pub(crate) use crate::providers::settings::registration::ClientAuth;
pub(crate) use crate::providers::settings::registration::OAuthClient;
use crate::token::Algorithm;
use crate::token::KeySet;
use crate::token::Marker;

/// One provider.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Its name.
    pub(crate) id: ProviderId,
    /// How its credentials are recognised.
    pub(crate) owns: Owns,
    /// Which of its claims become which of our attributes, in this order.
    pub(crate) claims: Vec<(Box<str>, ClaimPath)>,
    /// Domains of which it may say that an address belongs to the person, verified or not.
    pub(crate) email_domains: Vec<Box<str>>,
    /// How its assurance is read.
    pub(crate) assurance: Assurance,
    /// Bounds on our calls to it.
    pub(crate) client: Client,
    /// What kind it is.
    pub(crate) kind: KindSettings,
}

/// Assurance of a provider's credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assurance {
    /// The same for all.
    pub(crate) fixed: Option<Box<str>>,
    /// Or read from a claim,
    pub(crate) claim: Option<ClaimPath>,
    /// and translated; a value that is not in the map is dropped.
    pub(crate) map: Vec<(Box<str>, Box<str>)>,
}

impl Assurance {
    /// The provider's own words for a class of ours.
    pub(crate) fn words(&self, class: &str) -> Vec<Box<str>> {
        self.map
            .iter()
            .filter(|(_, ours)| **ours == *class)
            .map(|(theirs, _)| theirs.clone())
            .collect()
    }
}

/// Bounds on calls to a provider.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// One call, from first try to last byte. Default 10 s.
    pub(crate) timeout: Duration,
    /// Calls under way at once. Default 64.
    pub(crate) max_inflight: usize,
    /// Calls a second, further tries included. Default: as many as come.
    pub(crate) rps: Option<u32>,
    /// How often an idempotent call is tried again, with jittered exponential backoff. Default 2.
    pub(crate) retries: u32,
    /// CA certificates beside the system's, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate that connections to it show, and its key, PEM.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// The breaker.
    pub(crate) breaker: Breaker,
}

#[cfg(test)]
impl Client {
    /// Boring bounds for a test.
    pub(crate) fn for_test() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            max_inflight: 64,
            rps: None,
            retries: 2,
            ca: None,
            certificate: None,
            breaker: Breaker {
                window: Duration::from_secs(30),
                min_requests: 20,
                failure_permille: 500,
                open_for: Duration::from_secs(15),
            },
        }
    }
}

/// When a provider is not asked any more.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    /// The window that is counted. Default 30 s.
    pub(crate) window: Duration,
    /// Fewer calls than this prove nothing. Default 20.
    pub(crate) min_requests: u32,
    /// The share of failed calls that opens it, in thousandths. Default 500.
    pub(crate) failure_permille: u32,
    /// How long it stays open before one call may try. Default 15 s.
    pub(crate) open_for: Duration,
}

/// What a provider is.
#[derive(Clone, Debug)]
pub(crate) enum KindSettings {
    /// An OpenID provider.
    Oidc(Box<Oidc>),
    /// An issuer of signed tokens, known by its keys only.
    Jwt(Jwt),
    /// An authorization server with opaque tokens (RFC 7662).
    Introspection(Introspection),
    /// An old SSO or application that judges its own cookie.
    SessionProbe(SessionProbe),
    /// A directory that judges passwords by bind.
    #[cfg(feature = "ldap")]
    Ldap(Ldap),
    /// A password file.
    Basic(Basic),
    /// A file of hashed API keys.
    ApiKey(ApiKey),
    /// Certificates of TLS clients, by authorities of their own.
    ClientCert(ClientCert),
}

impl KindSettings {
    /// Our own registration there, where the kind has one.
    pub(crate) fn registration(&self) -> Option<&OAuthClient> {
        match self {
            Self::Oidc(oidc) => oidc.client.as_ref(),
            Self::Introspection(introspection) => Some(&introspection.client),
            #[cfg(feature = "ldap")]
            Self::Ldap(_) => None,
            Self::Jwt(_)
            | Self::SessionProbe(_)
            | Self::Basic(_)
            | Self::ApiKey(_)
            | Self::ClientCert(_) => None,
        }
    }
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// `jwks_uri` of the provider's metadata.
    Discovered,
    /// A URL.
    Url(String),
    /// A file: a key set in JSON, or one key in PEM; read again when it changes.
    File(PathBuf),
    /// Written in the configuration.
    Inline(KeySet),
}

/// How tokens of an issuer are judged.
#[derive(Clone, Debug)]
pub(crate) struct Verify {
    /// Default: RS256, PS256, ES256, EdDSA.
    pub(crate) algorithms: Vec<Algorithm>,
    /// Any of these must be in `aud`.
    pub(crate) audiences: Vec<Box<str>>,
    /// `typ: at+jwt` is required, unless one of these markers says that a plain `JWT` is an access token.
    pub(crate) markers: Vec<Marker>,
    /// Claims that a token must have, with these values: such as the tenant of an issuer that has several.
    pub(crate) claims: Vec<Marker>,
    /// Any `typ`: only for `jwt` providers that say so.
    pub(crate) any_typ: bool,
    /// Default 30 s.
    pub(crate) leeway: Duration,
    /// Default 24 h.
    pub(crate) max_life: Duration,
    /// How old a key set may grow while it cannot be fetched. Default 24 h.
    pub(crate) jwks_max_stale: Duration,
    /// How often the key set is fetched. Default 10 min.
    pub(crate) jwks_refresh: Duration,
}

/// An OpenID provider.
#[derive(Clone, Debug)]
pub(crate) struct Oidc {
    /// Its issuer identifier, compared byte for byte with its metadata.
    pub(crate) issuer: Issuer,
    /// How its tokens are judged.
    pub(crate) verify: Verify,
    /// Where its keys come from.
    pub(crate) keys: Keys,
    /// Our registration there; without it no login and no introspection.
    pub(crate) client: Option<OAuthClient>,
    /// Our callback path. Default `/.authferry/cb/NAME`.
    pub(crate) redirect_path: String,
    /// Scopes of a login. Default `openid`.
    pub(crate) scopes: Vec<Box<str>>,
    /// Whether `iss` must be in the authorization response even if the metadata do not announce it (RFC 9207).
    pub(crate) require_iss: bool,
    /// Its directory, if it may be looked into.
    pub(crate) directory: Option<OidcDirectory>,
    /// How people come here whose password another provider has found good. Default: they do not.
    pub(crate) provisioning: Option<Provisioning>,
    /// When authorization requests are pushed (RFC 9126). Default: where the provider requires it.
    pub(crate) par: Par,
    /// Whether it is asked about each access token as well.
    pub(crate) introspect: Option<Introspect>,
    /// Whether its sessions are renewed. Default `true`.
    pub(crate) refreshes: bool,
    /// Whether each renewal must bring a new refresh token. Default `false`.
    pub(crate) rotates: bool,
    /// Whether refresh tokens are given back where it has an endpoint for it. Default `true`.
    pub(crate) revokes: bool,
    /// Where it says that somebody has signed out there. Default `/.authferry/backchannel/NAME`; `None`: nowhere.
    pub(crate) back_channel: Option<String>,
}

/// How long the answer of an OpenID provider about one of its access tokens holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Introspect {
    /// How long a good answer is kept. Default 30 s.
    pub(crate) cache: Duration,
    /// For how long after that it counts while the provider cannot be reached.
    pub(crate) stale: Option<Duration>,
}

/// When an authorization request is pushed to the provider before the browser goes there (RFC 9126).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Par {
    /// Where its metadata require it.
    #[default]
    Required,
    /// Where its metadata have an endpoint for it.
    Offered,
    /// Never.
    Never,
}

/// An issuer of signed tokens.
#[derive(Clone, Debug)]
pub(crate) struct Jwt {
    /// Its `iss`.
    pub(crate) issuer: Issuer,
    /// How its tokens are judged.
    pub(crate) verify: Verify,
    /// Where its keys come from.
    pub(crate) keys: Keys,
}

/// An authorization server with opaque tokens.
#[derive(Clone, Debug)]
pub(crate) struct Introspection {
    /// The endpoint.
    pub(crate) url: String,
    /// The issuer that stands for this provider in subject keys; `iss` of an answer must equal it if present.
    pub(crate) issuer: Issuer,
    /// How we prove to be allowed to ask.
    pub(crate) client: OAuthClient,
    /// Any of these must be in the answer's `aud`; empty: the answer's `aud` is not looked at.
    pub(crate) audiences: Vec<Box<str>>,
    /// How long a good answer is kept: never beyond its `exp`. Default 30 s.
    pub(crate) cache: Duration,
    /// For how long after that it counts while the server cannot be reached.
    pub(crate) stale: Option<Duration>,
    /// Where a token is given back (RFC 7009).
    pub(crate) revoke: Option<String>,
}

/// An old SSO or application that judges its own cookie.
#[derive(Clone, Debug)]
pub(crate) struct SessionProbe {
    /// The issuer that stands for this provider in subject keys.
    pub(crate) issuer: Issuer,
    /// The address that is asked, with the cookie alone.
    pub(crate) url: String,
    /// How it says who it is.
    pub(crate) answer: ProbeAnswer,
    /// How long a good answer is kept. Default 30 s.
    pub(crate) cache: Duration,
    /// For how long after that it counts while the owner cannot be reached.
    pub(crate) stale: Option<Duration>,
    /// Where a browser signs in at the old side's own form; a path on the same host.
    pub(crate) login_path: Option<String>,
    /// Where a password stands in that form. Default: not looked at.
    pub(crate) fields: Option<Box<FormFields>>,
    /// How it is told that a session is over.
    pub(crate) logout: Option<ProbeLogout>,
    /// Who judges its people's passwords, where they come with a request.
    pub(crate) bind: Option<Bind>,
}

/// Where a name and a password stand in the form of an old application.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FormFields {
    /// The path that the form is sent to. Default: that of the form.
    pub(crate) action: Box<str>,
    /// The field of the name. Default `username`.
    pub(crate) username: Box<str>,
    /// The field of the password. Default `password`.
    pub(crate) password: Box<str>,
    /// The attribute that holds the name that people type. Default: their subject.
    pub(crate) claim: Option<Box<str>>,
    /// Cookies by which the application signs people in again without a password. Default: none.
    pub(crate) remembered: Vec<Box<str>>,
}

/// Who judges passwords beside an old system.
#[cfg(feature = "ldap")]
pub(crate) type Bind = Ldap;
#[cfg(not(feature = "ldap"))]
pub(crate) type Bind = std::convert::Infallible;

/// Where a session of an old system ends.
#[derive(Clone, Debug)]
pub(crate) struct ProbeLogout {
    /// The address that is asked, with the cookie alone.
    pub(crate) url: String,
    /// How it is asked. Default POST.
    pub(crate) method: LogoutMethod,
}

/// How a sign-out is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogoutMethod {
    /// An empty form.
    Post,
    /// As a link.
    Get,
}

/// How the probed address names the person. 200 is yes; 401, 403 and redirects are no; the rest is an outage.
#[derive(Clone, Debug)]
pub(crate) enum ProbeAnswer {
    /// A JSON object, read by the provider's `claims`.
    Json,
    /// Response headers, each read as the claim of its lower-case name.
    Headers,
}

/// A password file: lines of `NAME:HASH[:group,group]`, HASH in argon2 (PHC) or bcrypt.
#[derive(Clone, Debug)]
pub(crate) struct Basic {
    /// The issuer that stands for this provider in subject keys.
    pub(crate) issuer: Issuer,
    /// The file; read again when it changes.
    pub(crate) file: PathBuf,
    /// The realm of the challenge (RFC 7617 §2).
    pub(crate) realm: Box<str>,
    /// How long a good answer is kept. Default 30 s.
    pub(crate) cache: Duration,
    /// Passwords that are checked at once. Default: four for each processor.
    pub(crate) at_once: Option<usize>,
}

/// A file of API keys: lines of `NAME:sha256:HEX[:group,group]`.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    /// The issuer that stands for this provider in subject keys.
    pub(crate) issuer: Issuer,
    /// The file; read again when it changes.
    pub(crate) file: PathBuf,
}
