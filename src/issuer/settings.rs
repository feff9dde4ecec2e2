//! What the configuration says about our token endpoint: plain data.

use std::time::Duration;

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
}

/// Whom a token can be for.
#[derive(Clone, Debug)]
pub(crate) struct Audience {
    /// `audience`.
    pub(crate) name: Box<str>,
    /// The exchanges that give such a token for another one.
    pub(crate) exchanges: Vec<Box<str>>,
}

/// A client, and what it may have.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// `client_id`.
    pub(crate) id: Box<str>,
    /// SHA-256 of its secrets: two during a rotation.
    pub(crate) secrets: Vec<[u8; 32]>,
    /// Its public keys (RFC 7523 §2.2).
    pub(crate) keys: Option<KeySet>,
    /// Its certificates (RFC 8705 §2.2).
    pub(crate) certificates: Vec<Thumbprint>,
    /// By what right it may get tokens.
    pub(crate) grants: Vec<Grant>,
    /// Whom they may be for.
    pub(crate) audiences: Vec<Box<str>>,
    /// The most that they may do.
    pub(crate) scopes: Vec<Box<str>>,
    /// The longest that they may live. Default 5 min.
    pub(crate) max_life: Duration,
    /// Whether it may ask about tokens (RFC 7662).
    pub(crate) introspect: bool,
    /// Its registrations: where a token for itself comes from.
    pub(crate) at: Vec<(ProviderId, OAuthClient)>,
}

/// By what right a client gets a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grant {
    /// RFC 8693.
    TokenExchange,
    /// RFC 6749 §4.4.
    ClientCredentials,
}

impl Grant {
    /// `grant_type`.
    pub(crate) const fn uri(self) -> &'static str {
        match self {
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TokenExchange => "token_exchange",
            Self::ClientCredentials => "client_credentials",
        }
    }
}
