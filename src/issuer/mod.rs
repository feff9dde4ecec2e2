//! Our own token endpoint (`/.authferry/oauth2/…`): clients keep one endpoint and one `client_id` while they are moved from
//! one provider to the other.
//!
//! A token is judged by the gate before anything is made of it. This module must never hand on more than was presented or
//! than the client may have, take a secret from an address, or answer with a token that nobody asked for.

mod answer;
mod build;
mod client;
mod device;
mod elsewhere;
mod form;
mod grants;
mod habits;
mod handed;
mod judged;
mod learned;
mod machines;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
mod refresh;
pub(crate) mod settings;
mod tokens;

pub(crate) use answer::Answered;
pub(crate) use answer::Denied;
pub(crate) use answer::Reply;
pub(crate) use build::Deps;
pub(crate) use build::Issuer;
pub(crate) use habits::Habits;

use std::cell::Cell;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use serde_json::Value;
use serde_json::json;

use crate::auth::AppPolicy;
use crate::auth::Channel;
use crate::auth::Gate;
use crate::auth::Standing;
use crate::clock::UnixTime;
use crate::issuer::settings::Grant;
use crate::rollout::AppId;
use crate::rollout::Facts;
use crate::rollout::KillPosition;

/// What all our addresses begin with: the path of the issuer identifier.
pub(crate) const PATH: &str = "/.authferry/oauth2";

/// Where the metadata is: the well-known part goes before the path of the issuer identifier (RFC 8414 §3.1).
pub(crate) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server/.authferry/oauth2";

/// An address of the token endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// RFC 8414.
    Metadata,
    /// RFC 6749 §3.2.
    Token,
    /// RFC 7662 §2.
    Introspection,
    /// RFC 7009 §2.
    Revocation,
    /// RFC 8628 §3.1.
    Device,
}

impl Address {
    /// The label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Token => "token",
            Self::Introspection => "introspection",
            Self::Revocation => "revocation",
            Self::Device => "device_authorization",
        }
    }

    /// The address of a path; `None`: there is none.
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path.strip_prefix(PATH) {
            Some("/token") => Some(Self::Token),
            Some("/introspect") => Some(Self::Introspection),
            Some("/device_authorization") => Some(Self::Device),
            Some("/revoke") => Some(Self::Revocation),
            Some(_) => None,
            None => (path == METADATA_PATH).then_some(Self::Metadata),
        }
    }
}

/// One request to the token endpoint.
pub(crate) struct Call<'a> {
    /// Where it came to.
    pub(crate) address: Address,
    /// Where its client stands, as far as that is known.
    pub(crate) standing: Cell<Option<Standing>>,
    /// Who judges tokens.
    pub(crate) gate: &'a Gate,
    /// The application's policy.
    pub(crate) policy: &'a AppPolicy,
    /// What is known of the request.
    pub(crate) facts: Facts<'a>,
    /// How it reached us.
    pub(crate) channel: Channel<'a>,
    /// The method.
    pub(crate) method: &'a Method,
    /// The client's header fields.
    pub(crate) headers: &'a HeaderMap,
    /// The query, without `?`.
    pub(crate) query: Option<&'a str>,
    /// The body; `None`: it did not come, or is too long.
    pub(crate) body: Option<Bytes>,
    /// Where the kill switch stands.
    pub(crate) kill: KillPosition,
    /// When.
    pub(crate) now: UnixTime,
}

impl Issuer {
    /// Whether it answers at the hosts of an application.
    pub(crate) fn answers_at(&self, app: &AppId) -> bool {
        self.app == *app
    }

    /// Answers one request.
    pub(crate) async fn serve(&self, call: &Call<'_>) -> Answered {
        let reply = self.reply(call).await;
        Answered {
            reply,
            standing: call.standing.get(),
            nonce: call
                .headers
                .contains_key("dpop")
                .then(|| call.gate.possession().nonce(call.now))
                .flatten(),
        }
    }

    async fn reply(&self, call: &Call<'_>) -> Reply {
        match call.address {
            Address::Metadata if *call.method == Method::GET => Reply::Said(self.metadata(call)),
            Address::Metadata => Reply::Only("GET"),
            Address::Token | Address::Introspection | Address::Revocation | Address::Device
                if *call.method != Method::POST =>
            {
                Reply::Only("POST")
            }
            Address::Token => self.token(call).await,
            Address::Introspection => self.introspection(call).await,
            Address::Revocation => self.revocation(call).await,
            Address::Device => self.device(call).await,
        }
    }

    /// RFC 8414 §2.
    fn metadata(&self, call: &Call<'_>) -> Value {
        let issuer = &self.issuer;
        let origin = issuer.strip_suffix(PATH).unwrap_or(issuer);
        let proofs = [
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
            "self_signed_tls_client_auth",
        ];
        let public = self.clients.values().any(|client| client.settings.public);
        let methods = || proofs.into_iter().chain(public.then_some("none"));
        json!({
            "issuer": **issuer,
            "token_endpoint": &*self.token_endpoint,
            "introspection_endpoint": format!("{issuer}/introspect"),
            "device_authorization_endpoint": format!("{issuer}/device_authorization"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "jwks_uri": format!("{origin}/.authferry/jwks.json"),
            "grant_types_supported": Grant::ALL.map(Grant::uri),
            "response_types_supported": [],
            "dpop_signing_alg_values_supported": call.gate.possession().algorithms(),
            "tls_client_certificate_bound_access_tokens": true,
            "token_endpoint_auth_methods_supported": methods().collect::<Vec<_>>(),
            "token_endpoint_auth_signing_alg_values_supported": client::ALGORITHMS.map(|a| a.as_str()),
            "introspection_endpoint_auth_methods_supported": proofs,
            "revocation_endpoint_auth_methods_supported": methods().collect::<Vec<_>>(),
            "revocation_endpoint_auth_signing_alg_values_supported": client::ALGORITHMS.map(|a| a.as_str()),
            "introspection_endpoint_auth_signing_alg_values_supported": client::ALGORITHMS.map(|a| a.as_str()),
        })
    }
}
