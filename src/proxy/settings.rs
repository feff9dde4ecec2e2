//! What the configuration says about listeners, applications and limits: plain data.

#[cfg(any(test, feature = "bench"))]
mod plain;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::settings::RateLimits;
use crate::identity::CredentialClass;
use crate::identity::Template;
use crate::proxy::canonical::EncodedSlash;
use crate::proxy::country::Country;
use crate::rollout::AppId;

/// Listeners and their bounds.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Public listeners. Not reloaded.
    pub(crate) listeners: Vec<Listener>,
    /// Worker threads; each has its own runtime, socket and pools. Default: one per core. Not reloaded.
    pub(crate) workers: usize,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed. Empty by default.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Peers that say in a header which certificate a client proved to them. Nobody by default.
    pub(crate) certificate_headers: Option<CertificateHeaders>,
    /// Which address is in which country.
    pub(crate) countries: Option<PathBuf>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// How long a drain announces, then how long it waits. Default 5 s and 30 s.
    pub(crate) drain: Drain,
}

/// One public listener.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// The address.
    pub(crate) address: SocketAddr,
    /// TLS; `None` is cleartext.
    pub(crate) tls: Option<Tls>,
    /// Peers that must speak the PROXY protocol (v1 or v2); others must not. Empty by default.
    pub(crate) proxy_protocol_from: Vec<IpNet>,
}

/// Certificates of a listener, chosen by SNI; the first is the default. Files are read again when they change.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Pairs of certificate chain and key, PEM.
    pub(crate) certificates: Vec<(PathBuf, PathBuf)>,
    /// Who is asked for a client certificate. Nobody by default.
    pub(crate) clients: Vec<ClientCertificates>,
    /// Whether TLS 1.3 alone is spoken. Default: TLS 1.2 as well.
    pub(crate) newest_only: bool,
}

/// Client certificates for some server names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClientCertificates {
    /// The names, lower case; empty: every other name, and none.
    pub(crate) hosts: Vec<Box<str>>,
    /// The authorities, and their revocation lists, in PEM.
    pub(crate) ca: PathBuf,
    /// Whether a client without one is sent away.
    pub(crate) required: bool,
}

/// Who says which certificate a client has, and how.
#[derive(Clone, Debug)]
pub(crate) struct CertificateHeaders {
    /// The peers that are believed.
    pub(crate) from: Vec<IpNet>,
    /// The header.
    pub(crate) format: CertificateHeader,
}

/// A header that names a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CertificateHeader {
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    ClientCert,
    /// `X-Forwarded-Client-Cert`.
    Xfcc,
}

/// Drain times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// `/-/ready` says no, new connections are still served.
    pub(crate) announce: Duration,
    /// Then requests under way may finish.
    pub(crate) timeout: Duration,
}

/// Bounds on what a client may use, equal on HTTP/1.1 and HTTP/2.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// TLS handshake. Default 10 s.
    pub(crate) handshake: Duration,
    /// First byte and whole head. Default 10 s each.
    pub(crate) head: Duration,
    /// Head size in bytes. Default 32 KiB.
    pub(crate) head_bytes: usize,
    /// Header fields. Default 100.
    pub(crate) head_fields: usize,
    /// Request target in bytes. Default 8 KiB.
    pub(crate) target_bytes: usize,
    /// Whether a path may hold `%2F`: some route takes it, and each says for itself whether it does.
    pub(crate) encoded_slash: EncodedSlash,
    /// Idle keep-alive connection, HTTP/1.1. Default 60 s.
    pub(crate) idle_h1: Duration,
    /// Connection without streams, HTTP/2. Default 300 s.
    pub(crate) idle_h2: Duration,
    /// Body progress: at least `body_rate` bytes a second after `body_grace`. Default 1 KiB/s after 10 s.
    pub(crate) body_grace: Duration,
    /// See `body_grace`.
    pub(crate) body_rate: u64,
    /// Concurrent HTTP/2 streams. Default 100.
    pub(crate) h2_streams: u32,
    /// Connections. Default 50 000, at most 80 % of the descriptor limit.
    pub(crate) connections: usize,
    /// Resident memory in bytes from which new connections and requests are turned away. Default: four fifths of the limit of
    /// the control group, if it has one.
    pub(crate) memory: Option<u64>,
    /// Rendered identity headers of one request, in bytes. Default 16 KiB; more is a denial.
    pub(crate) identity_bytes: usize,
    /// Entries of each worker's verified-credential cache. Default 16 384.
    pub(crate) cache_entries: usize,
    /// The longest time a verdict is kept. Default 60 s.
    pub(crate) cache_ttl: Duration,
}

#[cfg(any(test, fuzzing, feature = "bench"))]
impl Limits {
    /// The defaults.
    pub(crate) fn usual() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            head_bytes: 32 * 1024,
            head_fields: 100,
            target_bytes: 8 * 1024,
            encoded_slash: EncodedSlash::Refused,
            idle_h1: Duration::from_secs(60),
            idle_h2: Duration::from_secs(300),
            body_grace: Duration::from_secs(10),
            body_rate: 1024,
            h2_streams: 100,
            connections: 50_000,
            memory: None,
            identity_bytes: 16 * 1024,
            cache_entries: 16_384,
            cache_ttl: Duration::from_secs(60),
        }
    }
}

/// One application.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// Its name.
    pub(crate) id: AppId,
    /// Its hosts, canonical, lower case, without port; `*.corp.example` matches one label.
    pub(crate) hosts: Vec<Box<str>>,
    /// Where it lives.
    pub(crate) upstream: Upstream,
    /// Identity headers, in order.
    pub(crate) identity_headers: Vec<HeaderRule>,
    /// Fixed headers, such as a secret shared with the upstream.
    pub(crate) static_headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The signed assertion header.
    pub(crate) assertion: Option<Assertion>,
    /// Whether the client's `Authorization` and credential cookies reach the upstream. Default no.
    pub(crate) forward_credentials: bool,
    /// For `other_arm: exchange`: the exchanges, one for each provider whose token may be wanted.
    pub(crate) other_arm_exchanges: Vec<Box<str>>,
    /// The exchanges that mint tokens for clients of our token endpoint which are credentials here.
    pub(crate) minted_tokens: Vec<Box<str>>,
    /// What one address may do there in a minute.
    pub(crate) rate_limits: RateLimits,
    /// Whether listed proxies may ask what is decided about its requests. Default no.
    pub(crate) forward_auth: bool,
    /// Canonical paths by which people sign out of it. Default none.
    pub(crate) logout_paths: Vec<Box<str>>,
    /// Routes; the first match wins; no match is 403.
    pub(crate) routes: Vec<Route>,
}

/// One identity header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderRule {
    /// Its name; the case is kept on HTTP/1.1 upstreams that care.
    pub(crate) name: http::HeaderName,
    /// Its value.
    pub(crate) template: Template,
}

/// A signed assertion about the person, as a header (a JWT by our key, `aud` = the app).
#[derive(Clone, Debug)]
pub(crate) struct Assertion {
    /// The header.
    pub(crate) header: http::HeaderName,
    /// `iss`.
    pub(crate) issuer: Box<str>,
    /// `aud`. Default: the name of the app.
    pub(crate) audience: Box<str>,
    /// Its life, at most 5 min. Default 60 s.
    pub(crate) ttl: Duration,
}

/// Who may come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Anybody; credentials are not looked at.
    Public,
    /// Anybody; a credential that is presented must be good.
    Optional,
    /// Only the admitted.
    Required,
}

/// What somebody without a credential gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnUnauthenticated {
    /// Top-level navigations are redirected to a login, everything else is 401.
    Auto,
    /// Always 401.
    Unauthorized,
}

/// One route of an app.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// `/api/*`, `/healthz`: a trailing `*` matches any rest, and nothing else is a wildcard.
    pub(crate) path: Box<str>,
    /// Empty: every method.
    pub(crate) methods: Vec<http::Method>,
    /// Who may come in.
    pub(crate) access: Access,
    /// The classes of credential looked at; empty: all.
    pub(crate) credentials: Vec<CredentialClass>,
    /// What somebody without a credential gets.
    pub(crate) on_unauthenticated: OnUnauthenticated,
    /// What an admitted identity must have besides.
    pub(crate) require: Require,
    /// Whether WebSocket upgrades pass. Default no.
    pub(crate) websocket: bool,
    /// Protocols besides that a connection may be switched to, by their name in `Upgrade`. Default none.
    pub(crate) upgrades: Vec<Box<str>>,
    /// How long a form may be that is kept when it comes on a session that is over; `None`: none is.
    pub(crate) preserve_post: Option<usize>,
    /// What becomes of `%2F` in a path.
    pub(crate) encoded_slash: EncodedSlash,
    /// The exchange whose token its upstream expects.
    pub(crate) exchange: Option<Box<str>>,
    /// Another upstream than the app's.
    pub(crate) upstream: Option<Upstream>,
}

impl Route {
    /// What it is called: its path, after the methods that it is for, if it is not for all.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        if self.methods.is_empty() {
            return Cow::Borrowed(&self.path);
        }
        let methods: Vec<_> = self.methods.iter().map(http::Method::as_str).collect();
        Cow::Owned(format!("{} {}", methods.join(","), self.path))
    }
}

/// What a route asks of an identity. Empty lists ask nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Require {
    /// Any of these groups.
    pub(crate) groups: Vec<Box<str>>,
    /// All of these scopes.
    pub(crate) scopes: Vec<Box<str>>,
    /// Any of these assurance classes.
    pub(crate) acr: Vec<Box<str>>,
    /// The client's address lies in one of these.
    pub(crate) network: Vec<IpNet>,
    /// The token is bound to one of these.
    pub(crate) proof: Vec<Holds>,
    /// Any of these roles.
    pub(crate) roles: Vec<Box<str>>,
    /// Attributes with these values, all of them.
    pub(crate) claims: Vec<(Box<str>, Box<str>)>,
    /// The client's address is known to be in one of these.
    pub(crate) country: Vec<Country>,
    /// How long ago the person may have signed in.
    pub(crate) max_age: Option<Duration>,
}

impl Require {
    /// Takes from `other` what is not asked here.
    pub(crate) fn or(&mut self, other: &Self) {
        fn fill<T: Clone>(own: &mut Vec<T>, other: &[T]) {
            if own.is_empty() {
                *own = other.to_vec();
            }
        }
        let Self {
            groups,
            scopes,
            acr,
            network,
            proof,
            roles,
            claims,
            country,
            max_age,
        } = self;
        fill(groups, &other.groups);
        fill(scopes, &other.scopes);
        fill(acr, &other.acr);
        fill(network, &other.network);
        fill(proof, &other.proof);
        fill(roles, &other.roles);
        fill(claims, &other.claims);
        fill(country, &other.country);
        *max_age = max_age.or(other.max_age);
    }
}

/// What a client can prove to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Holds {
    /// A key (RFC 9449).
    Key,
    /// A certificate (RFC 8705 §3).
    Certificate,
}

/// Where an application lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Upstream {
    /// One or more origins, `http://host:port` or `https://host:port`.
    pub(crate) origins: Vec<Origin>,
    /// Whether HTTP/2 is spoken (prior knowledge on cleartext, ALPN on TLS). Default no.
    pub(crate) http2: bool,
    /// Connecting. Default 3 s.
    pub(crate) connect_timeout: Duration,
    /// Until the head of the answer. Default 60 s.
    pub(crate) response_timeout: Duration,
    /// How long an idle connection is kept. Default 4 s.
    pub(crate) idle: Duration,
    /// CA certificates instead of the system's, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// Our client certificate and key, PEM.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    /// A path that answers 2xx while an origin is well; `None`: judged by connections alone.
    pub(crate) health_path: Option<String>,
    /// How often. Default 5 s.
    pub(crate) health_interval: Duration,
    /// Whether the upstream sees the client's `Host` (default) or its own name.
    pub(crate) preserve_host: bool,
}

/// One origin of an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Origin {
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// Name or address.
    pub(crate) host: Box<str>,
    /// Port.
    pub(crate) port: u16,
}
