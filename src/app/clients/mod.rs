//! The clients of our token endpoint, as files: registrations of an old provider in, ours out, and a secret exchanged for
//! another without a moment in which none is good.

pub(crate) mod import;
pub(crate) mod rotate;

use aws_lc_rs::digest;
use serde_json::Value;
use serde_json::json;

use crate::config::settings::Settings;
use crate::issuer::settings::Client;
use crate::issuer::settings::Grant;

/// `sha256:` and the digest of a secret, as configurations have it.
pub(crate) fn hash(secret: &str) -> String {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    written(digest.as_ref())
}

/// A digest as configurations have it.
fn written(digest: &[u8]) -> String {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// What others need to know of our clients (RFC 7591 §2), without what proves one of them.
pub(crate) fn export(settings: &Settings) -> Value {
    let clients = settings.issuer.iter().flat_map(|own| &own.clients);
    let mut all: Vec<_> = clients.map(one).collect();
    all.sort_by_key(|client| client.get("client_id").map(Value::to_string));
    all.into()
}

fn one(client: &Client) -> Value {
    let method = if client.public {
        "none"
    } else if client.keys.is_some() {
        "private_key_jwt"
    } else if client.certificates.is_empty() {
        "client_secret_basic"
    } else {
        "self_signed_tls_client_auth"
    };
    let at = client.at.iter();
    let at = at.map(|(provider, own)| (provider.as_str().to_owned(), Value::from(&*own.id)));
    json!({
        "client_id": &*client.id,
        "grant_types": client.grants.iter().copied().map(Grant::uri).collect::<Vec<_>>(),
        "scope": client.scopes.join(" "),
        "token_endpoint_auth_method": method,
        "redirect_uris": [],
        "authferry": {
            "audiences": client.audiences,
            "max_life_seconds": client.max_life.as_secs(),
            "introspect": client.introspect,
            "secrets": client.secrets.len(),
            "at": at.collect::<serde_json::Map<_, _>>(),
        },
    })
}
