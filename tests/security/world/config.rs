//! The configuration of the program for a plan: the one place that knows its keys.

use std::path::Path;

use super::Plan;
use super::World;
use super::plan::Side;

/// The identity headers of T0, with exactly the names of the cases.
const HEADERS: &str = r#"
      X-Auth-Subject: "{provider}/{subject}"
      X-Auth-User: "{preferred_username}"
      X-Auth-Name: "{name|omit}"
      X-Auth-Email: "{email|omit}"
      X-Auth-Groups: "{groups|join:,|omit}"
      X-Auth-Issuer: "{provider}"
      X-Auth-Cohort: "{provider}"
      Remote-User: "{preferred_username}""#;

/// The routes of T0, behind those of a plan.
const ROUTES: &str = r"
      - { path: /public/*, access: public }
      - { path: /admin/*, require: { groups: [admins] } }
@API@      - { path: /legacy-api/*, credentials: [opaque], on_unauthenticated: unauthorized }
      - { path: /ws, websocket: true }";

/// Everybody is at the new provider already.
const MOVES: &str = "cohorts:
  bob: { claim: { provider: new, name: preferred_username, equals: bob } }
rollout:
  from: old
  to: new
  bucketing: { salt: cases }
  assign:
    - { cohort: bob, to: old }
    - { percent: 100, to: new }";

/// The new provider decides, and the old one is only asked what it would have said.
const LOOKS: &str = "rollouts:
  look:
    apps: [app]
    from: new
    to: old
    bucketing: { salt: cases }
    stages: [{ id: look, mode: shadow }]
  rest:
    apps: [alone]
    from: new
    to: old
    bucketing: { salt: cases }
    stages: [{ id: rest, mode: legacy-only }]
shadow:
  app:
    oracles: [{ method: directory, provider: old }]
    per_subject: 1s
    budget: { rps: 10000, inflight: 16, timeout: 1s }
    breaker: { failures: 10000 }
    ignore: [{ class: headers, until: \"2099-01-01T00:00:00Z\" }]
identity: { canonical: { template: \"uid:{uid}\" } }";

/// Where the users of the old provider are looked up, and that both may say who somebody is.
const LOOKED_UP: &str = r#"
      directory: { keycloak: { url: "@OLD@/admin/realms/old", key: employee, client: { id: app, secret: { env: CASES_CLIENT_SECRET } } } }
      authoritative: { claims: [uid] }"#;

/// The registration at the new provider: none where the old side has no login, for both sides have one or neither.
const CLIENT: &str = "
      client: { id: app, secret: { env: CASES_CLIENT_SECRET } }
      redirect_path: /.authferry/callback/new";

/// Who is asked for a certificate.
const CERTIFICATES: &str = ", client_certificates: [{ hosts: [mtls.test, \"*.mtls.test\", machines.test], ca: { file: @PKI@/clients-1.pem } }, { hosts: [mtls2.test], ca: { file: @PKI@/clients-2.pem } }]";

/// The route of T0 for programs.
const API: &str =
    "      - { path: /api/*, credentials: [bearer], on_unauthenticated: unauthorized }\n";

/// The file for a plan; `directory` is the program's own.
pub(crate) fn yaml(plan: &Plan, world: &World, directory: &Path) -> String {
    let listen = if plan.dual_stack {
        "\"[::]:0\""
    } else {
        "127.0.0.1:0"
    };
    let list = |items: &[String], indent: &str| -> String {
        items
            .iter()
            .map(|item| format!("\n{indent}{item}"))
            .collect()
    };
    let items = |items: &[String], indent: &str| -> String {
        items
            .iter()
            .map(|item| format!("\n{indent}- {item}"))
            .collect()
    };
    let last = if plan.catch_all {
        "\n      - { path: /* }"
    } else {
        ""
    };
    let text = format!(
        r#"version: 1
server:
  listen: {listen}
  tls: {{ certificate: {{ file: @DIR@/tls.pem }}, key: {{ file: @DIR@/tls.key }}{certificates} }}
  admin: {{ listen: 127.0.0.1:0, token: {{ file: @DIR@/admin.token }} }}
  state_dir: {state}
  trusted_proxies: [{trusted}]{server}
# Cases send people back on purpose.
audit: {{ max_recall: 1000 }}
telemetry:
  access_log: {{ file: @DIR@/access.log }}
providers:
  new:
    oidc:
      issuer: "@NEW@"{client}
      verify: {{ algs: [RS256, ES256], audiences: [app], leeway: 30s, jwks_refresh: {refresh}, jwks_max_stale: {stale}{claim} }}
      claims: {{ subject: sub, email: email, email_verified: email_verified, name: name, preferred_username: preferred_username, groups: groups, actor: act.sub{uid} }}
      ca: {{ file: @PKI@/ca.pem }}{new}{trust}
  old:{old}{providers}
apps:
  app:
    hosts: [app.test]
    upstream: {{ url: "@UPSTREAM@" }}{decides}
    identity_headers:{HEADERS}{headers}
    routes:{routes}{ROUTES}{last}{apps}
{moves}{more}
"#,
        moves = if plan.second { LOOKS } else { MOVES },
        state = plan.state,
        certificates = if plan.certificates { CERTIFICATES } else { "" },
        trusted = plan.trusted.join(", "),
        decides = if plan.decides {
            "\n    forward_auth: true"
        } else {
            ""
        },
        server = list(&plan.server, "  "),
        refresh = plan.jwks_refresh,
        stale = plan.jwks_max_stale,
        claim = plan
            .claim
            .as_ref()
            .map(|(name, value)| format!(", require_claims: {{ {name}: {value} }}"))
            .unwrap_or_default(),
        client = if matches!(plan.from, Side::Introspection | Side::SharedSecret) {
            ""
        } else {
            CLIENT
        },
        uid = if plan.uid || plan.second {
            ", uid: uid"
        } else {
            ""
        },
        trust = if plan.uid || plan.second {
            "\n      authoritative: { claims: [uid] }"
        } else {
            ""
        },
        new = list(&plan.new, "      "),
        providers = list(&plan.providers, "  "),
        headers = list(&plan.headers, "      "),
        old = old(plan),
        routes = items(&plan.routes, "      "),
        apps = list(&plan.apps, "  "),
        more = list(&plan.more, ""),
    );
    // An empty list is an error: nobody is believed where nothing is said.
    text.replace("  trusted_proxies: []\n", "")
        .replace("@API@", if plan.api { API } else { "" })
        .replace("@PKI@", &world.pki.directory().display().to_string())
        .replace("@DIR@", &directory.display().to_string())
        .replace("@NEW@", &world.new.issuer())
        .replace("@OLD@", &world.old.issuer())
        .replace("@LEGACY@", &format!("http://{}", world.legacy.address))
        .replace("@UPSTREAM@", &format!("http://{}", world.upstream.address))
}

fn old(plan: &Plan) -> String {
    let cache = &plan.cache;
    let uid = if plan.second { ", uid: uid" } else { "" };
    let claims = format!(
        "claims: {{ subject: sub, preferred_username: preferred_username, groups: groups{uid} }}"
    );
    match plan.from {
        Side::Oidc => format!(
            r#"
    oidc:
      issuer: "@OLD@"
      client: {{ id: app, secret: {{ env: CASES_CLIENT_SECRET }} }}
      redirect_path: /.authferry/callback/old
      verify: {{ algs: [RS256], audiences: [legacy-app], leeway: 30s, jwks_refresh: {} }}
      {claims}
      ca: {{ file: @PKI@/ca.pem }}{}"#,
            plan.jwks_refresh,
            if plan.second { LOOKED_UP } else { "" },
        ),
        Side::SharedSecret => format!(
            r#"
    jwt:
      issuer: "@OLD@"
      verify: {{ algs: [HS256], audiences: [legacy-app], leeway: 30s }}
      jwks: {{ shared_secret: {{ file: @DIR@/old.secret }} }}
      {claims}"#
        ),
        Side::Introspection => format!(
            r#"
    introspection:
      url: "@OLD@/introspect"
      issuer: "@OLD@"
      client: {{ id: app, secret: {{ env: CASES_CLIENT_SECRET }} }}
      audiences: [legacy-app]
      cache: {cache}
      {claims}
      ca: {{ file: @PKI@/ca.pem }}"#
        ),
        Side::Cookie => format!(
            r#"
    session_probe:
      owns: {{ cookies: [LEGACYSID] }}
      introspect: {{ url: "@LEGACY@/whoami", cache: {cache} }}
      login: {{ upstream_form: {{ start: /login.do }} }}
      {claims}"#
        ),
    }
}
