//! What the configuration says about our token endpoint: plain data.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::identity::Thumbprint;
use crate::providers::settings::OAuthClient;
use crate::rollout::AppId;
use crate::token::KeySet;

/// Our token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The application at whose hosts it answers, and whose rollout decides.
    pub(crate) app: AppId,
    /// Its issuer identifier.
    pub(crate) issuer: Box<str>,
    /// Whom tokens can be for.
    pub(crate) audiences: Vec<Audience>,
    /// Who may ask.
    pub(crate) clients: Vec<Client>,
    /// How often, in a minute.
    pub(crate) limits: Limits,
    /// The exchanges whose tokens some application takes as credentials: of whom each was made is noted with it.
    pub(crate) presented: Vec<Box<str>>,
}

/// Requests in a minute, counted by all instances together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From one address. Default 3 000.
    pub(crate) address: u32,
    /// Of one client. Default 600.
    pub(crate) client: u32,
    /// Of one client about tokens. Default 6 000.
    pub(crate) introspection: u32,
    /// About one person, whichever client asks. Default 300.
    pub(crate) subject: u32,
}

/// Whom a token can be for.
#[derive(Clone, Debug)]
pub(crate) struct Audience {
    /// `audience`.
    pub(crate) name: Box<str>,
    /// The exchanges that give such a token for another one.
    pub(crate) exchanges: Vec<Box<str>>,
    /// What providers call it as a resource (RFC 8707).
    pub(crate) resources: Vec<(ProviderId, Box<str>)>,
}

/// A client, and what it may have.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// `client_id`.
    pub(crate) id: Box<str>,
    /// Whether it is public (RFC 6749 §2.1): then it proves nothing, and has nothing to prove itself with.
    pub(crate) public: bool,
    /// SHA-256 of its secrets: two during a rotation.
    pub(crate) secrets: Vec<[u8; 32]>,
    /// Where its secret is learned when it comes with it for the first time.
    pub(crate) learn_at: Option<ProviderId>,
    /// Its public keys (RFC 7523 §2.2).
    pub(crate) keys: Option<KeySet>,
    /// Its certificates (RFC 8705 §2.2).
    pub(crate) certificates: Vec<Thumbprint>,
    /// When all these are to have been replaced.
    pub(crate) expires: Option<UnixTime>,
    /// By what right it may get tokens.
    pub(crate) grants: Vec<Grant>,
    /// Whom they may be for.
    pub(crate) audiences: Vec<Box<str>>,
    /// The most that they may do.
    pub(crate) scopes: Vec<Box<str>>,
    /// The longest that they may live. Default 5 min.
    pub(crate) max_life: Duration,
    /// Whether what it exchanges must name it (RFC 8693 §2.1). Default no.
    pub(crate) addressed: bool,
    /// Whether it may ask about tokens (RFC 7662).
    pub(crate) introspect: bool,
    /// What its refresh tokens are.
    pub(crate) refresh: Refresh,
    /// Its registrations: where tokens come from that are issued to it.
    pub(crate) at: Vec<(ProviderId, OAuthClient)>,
}

/// What the refresh tokens of a client are.
#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    /// How long a family of them lives. Default 30 d.
    pub(crate) max: Duration,
    /// How long the one before the good one is forgiven. Default 10 s.
    pub(crate) grace: Duration,
    /// The provider whose own refresh tokens it may bring.
    pub(crate) adopt: Option<ProviderId>,
}

/// By what right a client gets a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grant {
    /// RFC 8693.
    TokenExchange,
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §6.
    RefreshToken,
    /// RFC 8628.
    DeviceCode,
}

impl Grant {
    /// All.
    pub(crate) const ALL: [Self; 4] = [
        Self::TokenExchange,
        Self::ClientCredentials,
        Self::RefreshToken,
        Self::DeviceCode,
    ];

    /// `grant_type`.
    pub(crate) const fn uri(self) -> &'static str {
        match self {
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
        }
    }

    /// Whether it makes families of refresh tokens, or uses them.
    pub(crate) const fn has_families(self) -> bool {
        match self {
            Self::RefreshToken | Self::DeviceCode => true,
            Self::TokenExchange | Self::ClientCredentials => false,
        }
    }

    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TokenExchange => "token_exchange",
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::DeviceCode => "device_code",
        }
    }
}

/// An endpoint with one client of one grant, for tests of other modules.
#[cfg(test)]
pub(crate) fn for_test(grant: &str) -> Settings {
    let grants = Grant::ALL.into_iter();
    Settings {
        app: AppId::new("crm"),
        issuer: "https://crm.test/.authferry/oauth2".into(),
        audiences: Vec::new(),
        clients: vec![Client {
            id: "mobile".into(),
            public: false,
            secrets: Vec::new(),
            learn_at: None,
            keys: None,
            certificates: Vec::new(),
            expires: None,
            grants: grants.filter(|own| own.as_str() == grant).collect(),
            audiences: Vec::new(),
            scopes: Vec::new(),
            max_life: Duration::from_secs(300),
            addressed: false,
            introspect: false,
            refresh: Refresh {
                max: Duration::from_secs(30 * 86_400),
                grace: Duration::from_secs(10),
                adopt: None,
            },
            at: Vec::new(),
        }],
        limits: Limits {
            address: 3_000,
            client: 600,
            introspection: 6_000,
            subject: 300,
        },
        presented: Vec::new(),
    }
}
