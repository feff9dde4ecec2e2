//! What the configuration says about our registration at a provider: plain data.

use std::path::PathBuf;

use crate::clock::UnixTime;
use crate::secret::Secret;

/// Our registration at a provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OAuthClient {
    /// `client_id`.
    pub(crate) id: Box<str>,
    /// How we prove to be it.
    pub(crate) auth: ClientAuth,
    /// When the secret or the key ends there, if somebody said so.
    pub(crate) expires: Option<UnixTime>,
}

impl OAuthClient {
    /// The certificate that every connection to the provider shows, and its key.
    pub(crate) const fn certificate(&self) -> Option<&(PathBuf, PathBuf)> {
        match &self.auth {
            ClientAuth::Certificate(pair) | ClientAuth::SelfSigned(pair) => Some(pair),
            ClientAuth::SecretBasic(_)
            | ClientAuth::SecretPost(_)
            | ClientAuth::SecretJwt(_)
            | ClientAuth::PrivateKeyJwt(_)
            | ClientAuth::None => None,
        }
    }
}

/// Client authentication (OpenID Connect Core 1.0 §9).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ClientAuth {
    /// `client_secret_basic`.
    SecretBasic(Secret<String>),
    /// `client_secret_post`.
    SecretPost(Secret<String>),
    /// `private_key_jwt` with a key in PKCS#8 PEM.
    PrivateKeyJwt(Secret<String>),
    /// `client_secret_jwt`.
    SecretJwt(Secret<String>),
    /// `tls_client_auth`: certificate chain and key, PEM.
    Certificate((PathBuf, PathBuf)),
    /// `self_signed_tls_client_auth`.
    SelfSigned((PathBuf, PathBuf)),
    /// A public client: PKCE alone.
    None,
}
