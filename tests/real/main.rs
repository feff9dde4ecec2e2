//! Against real servers: Keycloak as the new side; Django OAuth toolkit, oidc-provider, OpenLDAP and two home-grown session
//! applications as the old one; a real Prometheus, curl and other people's WebSocket and gRPC clients.
//!
//! `tests/real/run` starts the servers and says in the environment where they are.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and learns from the environment where the servers are"
)]

mod behind;
mod browser;
#[path = "../integration/harness/mod.rs"]
mod harness;

mod barred;
mod bound;
mod crowd;
mod devices;
mod endpoint;
mod exchange;
mod killed;
mod legacy;
mod load;
mod modern;
mod old_sides;
mod operators;
mod passwords;
mod protocols;
mod registrations;
mod second;
mod sessions;

use std::env;

use harness::Proxy;

/// An address that `tests/real/run` chose.
pub(crate) fn var(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: start these tests with tests/real/run"))
}

/// A password or secret under the salt of this run.
pub(crate) fn secret(base: &str) -> String {
    use aws_lc_rs::digest;
    let hash = digest::digest(
        &digest::SHA256,
        format!("{}{base}", var("REAL_SALT")).as_bytes(),
    );
    let hex: String = hash
        .as_ref()
        .iter()
        .take(6)
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("{base}-{hex}")
}

/// Where Keycloak's realm is.
pub(crate) fn keycloak() -> String {
    format!("http://127.0.0.1:{}/realms/new", var("KC_PORT"))
}

/// Where oidc-provider is.
pub(crate) fn old_provider() -> String {
    format!("http://127.0.0.1:{}", var("OP_PORT"))
}

/// Where the proxy will be: the providers know this address.
pub(crate) fn origin() -> String {
    var("PROXY_ORIGIN")
}

/// Starts the proxy at the address that the providers know. The secrets of both clients stand in files of its directory.
pub(crate) fn proxy(yaml: &str) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    for client in [
        "proxy",
        "legacy-api",
        "directory",
        "provisioning",
        "proxy-ropc",
    ] {
        std::fs::write(
            dir.path().join(format!("{client}.secret")),
            secret(&format!("{client}-secret")),
        )
        .unwrap();
    }
    Proxy::start_in(dir, &format!("{yaml}\n{}", server_section()))
}

/// The proxy listens where the providers expect it.
pub(crate) fn server_section() -> String {
    format!(
        "server:\n  listen: 127.0.0.1:{}\n  admin: {{ listen: 127.0.0.1:0, token: {{ file: \"{{dir}}/admin.token\" }} }}\n  state_dir: \"{{dir}}/state\"\n",
        var("PROXY_PORT")
    )
}

/// The two sides of a browser migration: oidc-provider and Keycloak.
pub(crate) fn two_sides(upstream: &str, percent: &str) -> String {
    format!(
        r#"
providers:
  legacy:
    oidc:
      issuer: "{old}"
      client: {{ id: proxy, secret: {{ file: "{{dir}}/proxy.secret" }} }}
      scopes: [openid, profile, email, groups]
      verify: {{ audiences: ["urn:legacy-api"] }}
      claims: {{ subject: legacy_uid, name: preferred_username, groups: groups }}
      authoritative: {{ claims: [legacy_uid] }}
  modern:
    oidc:
      issuer: "{new}"
      client: {{ id: proxy, secret: {{ file: "{{dir}}/proxy.secret" }} }}
      owns: {{ access_token_markers: [{{ claim: typ, equals: Bearer }}] }}
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid, name: preferred_username, groups: groups }}
      authoritative: {{ claims: [legacy_uid] }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
apps:
  crm:
    hosts: [127.0.0.1]
    upstream: {{ url: "{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}", X-Remote-Name: "{{name}}", X-Remote-Groups: "{{groups|sort|join:,}}" }}
    public_paths: [/public/*]
rollout:
  from: legacy
  to: modern
  bucketing: {{ salt: real }}
  assign:
    - {{ percent: {percent}, to: modern }}
"#,
        old = old_provider(),
        new = keycloak(),
    )
}
