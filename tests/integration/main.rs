//! The program as its users meet it: one binary of tests, each starting the real program on free ports.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod handed_out;
mod harness;

mod audit;
mod bodies;
mod carry_over;
mod check;
mod chooser;
mod classes;
mod console;
mod control;
mod credentials;
mod demo;
mod denials;
mod drain;
mod drills;
mod edge;
mod exchange;
mod explain;
mod files;
mod floors;
mod forward_auth;
#[cfg(feature = "real-servers")]
mod fronts;
mod full_disk;
mod headers;
mod hosts;
#[cfg(feature = "real-servers")]
mod instances;
#[cfg(feature = "real-servers")]
mod instances_back;
#[cfg(feature = "real-servers")]
mod instances_led;
mod kill;
mod lasting;
mod left;
mod legacy;
mod limits;
mod links;
mod login;
mod logout;
mod machines;
mod made;
mod meanwhile;
mod minted;
mod moved;
mod mtls;
mod overload;
mod passwords;
mod plan;
mod public_clients;
mod public_keys;
mod refresh;
mod reload;
mod report;
mod requirements;
mod resources;
mod revoke;
mod shadow;
mod signing_out;
mod targets;
mod token_endpoint;
mod typed;
mod upgrades;
mod upstreams;
mod wrapped;

use harness::Echo;
use harness::Idp;

/// Two providers, one application at `app.test` that keeps `/public/*` open, one rollout.
pub(crate) fn two_providers(old: &Idp, new: &Idp, upstream: &Echo, percent: u32) -> String {
    format!(
        r#"
providers:
  old: {{ oidc: {{ issuer: "{old}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}
  new: {{ oidc: {{ issuer: "{new}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test]
    upstream: {{ url: "{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}", X-Remote-Name: "{{name}}", X-Remote-Groups: "{{groups|sort|join:,}}" }}
    public_paths: [/public/*]
rollout:
  from: old
  to: new
  bucketing: {{ salt: test }}
  assign:
    - {{ percent: {percent}, to: new }}
"#,
        old = old.issuer(),
        new = new.issuer(),
        upstream = upstream.url(),
    )
}
