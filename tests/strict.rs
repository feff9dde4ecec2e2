//! Every rule of the strict check is broken by something, and says so: one that asks for nothing would be missed by nobody.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

const GOOD: &str = "version: 1
providers:
  new: { oidc: { issuer: \"https://new.corp.example\", verify: { audiences: [crm] } } }
apps:
  crm: { hosts: [crm.corp.example], upstream: { url: \"http://127.0.0.1:8081\" }, provider: new, routes: [{ path: /*, credentials: [bearer], on_unauthenticated: unauthorized }] }
";

/// What is put in the place of a part of it, or behind it, and which rule that breaks.
const BREAKS: &[(&str, &str, &str)] = &[
    ("AFS001", "[crm] }", "[crm], max_life: 48h }"),
    (
        "AFS002",
        OIDC,
        "introspection: { url: \"https://new.corp.example/introspect\", issuer: \"https://new.corp.example\", client: CLIENT }",
    ),
    (
        "AFS003",
        "",
        "exchange: { old: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], format: { jwt: { shared_secret: { file: secret } } } } } }",
    ),
    (
        "AFS004",
        OIDC,
        "jwt: { issuer: \"https://new.corp.example\", jwks: { url: \"https://new.corp.example/keys\" }, verify: { audiences: [crm], any_typ: true } }",
    ),
    (
        "AFS005",
        "[crm] }",
        "[crm] }, client: CLIENT, scopes: [openid, offline_access]",
    ),
    (
        "AFS005",
        "",
        "exchange: { ours: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], binding: keep, scopes: { grant: [\"orders.*\"] } } } }",
    ),
    (
        "AFS006",
        "https://new.corp.example",
        "http://127.0.0.1:9000",
    ),
    (
        "AFS006",
        OIDC,
        "introspection: { url: \"https://new.corp.example/introspect\", audiences: [crm], issuer: \"https://new.corp.example\", revoke: { url: \"http://127.0.0.1:9000/revoke\" }, client: CLIENT }",
    ),
    (
        "AFS006",
        "[crm] }",
        "[crm] }, directory: { scim: { url: \"http://127.0.0.1:9000/scim\", token: { file: secret } } }",
    ),
    ("AFS007", "[crm] }", "[crm] }, client: CLIENT"),
    (
        "AFS008",
        "",
        "secrets: { session_keys: [{ file: secret }] }",
    ),
    ("AFS009", "[crm.corp.example]", "[\"*.corp.example\"]"),
    (
        "AFS010",
        "provider: new,",
        "provider: new, forward_credentials: true,",
    ),
    ("AFS011", "", "server: { trusted_proxies: [10.0.0.0/12] }"),
    (
        "AFS011",
        "",
        "server: { trusted_proxies: [\"2001:db8::/32\"] }",
    ),
    ("AFS012", "", "sessions: { absolute: 48h }"),
    ("AFS012", "", "sessions: { idle: 9h }"),
    ("AFS013", "[crm] }", "[crm], leeway: 3m }"),
    ("AFS014", "", "server: { listen: \"0.0.0.0:8080\" }"),
    ("AFS015", "127.0.0.1:8081", "crm.internal.example"),
    ("AFS016", "[crm] }", "[crm], jwks_max_stale: 48h }"),
    (
        "AFS017",
        "",
        "server: { admin: { listen: \"0.0.0.0:9901\", token: { file: secret } } }",
    ),
    (
        "AFS018",
        "",
        "ENDPOINT { KEYS, max_life: 1h, grants: [client_credentials], AT }",
    ),
    (
        "AFS019",
        "",
        "ENDPOINT { secret_hashes: [\"HASH\"], grants: [client_credentials], AT }",
    ),
    (
        "AFS020",
        "",
        "ENDPOINT { secret_hashes: [\"HASH\", \"NEXT\"], grants: [client_credentials], AT }",
    ),
    (
        "AFS021",
        "",
        "ENDPOINT { KEYS, grants: [refresh_token], refresh: { adopt: new, max: 100d }, AT }",
    ),
    (
        "AFS022",
        "",
        "exchange: { ours: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], binding: keep, ttl: 1h } } }",
    ),
    ("AFS023", "", "secrets: { signing: { rotate_every: 200d } }"),
    (
        "AFS024",
        "",
        "exchange: { ours: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], binding: lose } } }",
    ),
    (
        "AFS025",
        "",
        "exchange: { asked: { token_exchange: { provider: new, audiences: [api], longer_life: 1s, client: CLIENT } } }",
    ),
    // By default a minute.
    (
        "AFS025",
        "",
        "exchange: { asked: { token_exchange: { provider: new, audiences: [api], client: CLIENT } } }",
    ),
    ("AFS026", "", "secrets: { signing: { files: [key] } }"),
    (
        "AFS027",
        "",
        "ENDPOINT { auth: none, grants: [device_code], max_life: 10m, audiences: [crm], at: { new: { id: tv, auth: none } } }",
    ),
    (
        "AFS028",
        "",
        "roles: { new: { groups: { sales: [seller] }, scopes: { seller: [orders.read] }, scopes_for_tokens: true } }",
    ),
    (
        "AFS030",
        "",
        "exchange: { asked: { token_exchange: { provider: new, audiences: [api], unreadable: accept, client: CLIENT } } }",
    ),
    (
        "AFS029",
        "",
        "ENDPOINT { KEYS, grants: [token_exchange], audiences: [api] }\n  audiences: { api: { exchanges: [ours] } }\nexchange: { ours: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], binding: keep } } }",
    ),
    (
        "AFS031",
        "apps:\n",
        "  old: { oidc: { issuer: \"https://old.corp.example\", verify: { audiences: [crm] } } }\nrollout: { from: old, to: new, apps: [hr], bucketing: { salt: s }, percent: 10, guardrails: none }\napps:\n  hr: { hosts: [hr.corp.example], upstream: { url: \"http://127.0.0.1:8082\" }, routes: [{ path: /*, credentials: [bearer], on_unauthenticated: unauthorized }] }\n",
    ),
];

const OIDC: &str = "oidc: { issuer: \"https://new.corp.example\", verify: { audiences: [crm] } }";

/// What stands for more in the table.
fn written(text: &str) -> String {
    let key = r#"{ keys: [{ kty: EC, crv: P-256, x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU, y: x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0, use: sig, alg: ES256, kid: a }] }"#;
    text.replace(
        "ENDPOINT",
        "token_endpoint:\n  app: crm\n  origin: https://crm.corp.example\n  clients:\n    batch:",
    )
    .replace("KEYS", &format!("keys: {key}"))
    .replace("AT }", "audiences: [crm], at: { new: CLIENT } }")
    .replace("CLIENT", "{ id: ferry, secret: { file: secret } }")
    .replace("HASH", &format!("sha256:{}", "a".repeat(64)))
    .replace("NEXT", &format!("sha256:{}", "b".repeat(64)))
}

fn check(dir: &Path, arguments: &[&str], text: &str) -> Output {
    fs::write(dir.join("authferry.yaml"), text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_authferry"))
        .current_dir(dir)
        .arg("check")
        .args(arguments)
        .arg("authferry.yaml")
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_rule_is_broken_by_what_it_is_about() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "0123456789abcdef".repeat(4)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(dir.path().join("key"), key).unwrap();
    let good = check(dir.path(), &["--strict"], GOOD);
    assert_eq!(good.status.code(), Some(0), "{}", words(&good));
    for (rule, from, to) in BREAKS {
        let text = match *from {
            "" => format!("{GOOD}{}\n", written(to)),
            from => {
                assert!(GOOD.contains(from), "{from}");
                GOOD.replace(from, &written(to))
            }
        };
        // It is allowed, and not safe: nothing else refuses it.
        let plain = check(dir.path(), &[], &text);
        assert_eq!(plain.status.code(), Some(0), "{rule}: {}", words(&plain));
        let said = words(&check(dir.path(), &["--strict"], &text));
        assert!(said.contains(&format!("error[{rule}]")), "{rule}: {said}");
    }
    let listed = check(dir.path(), &["--strict", "--format", "sarif"], GOOD);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let rules = listed.pointer("/runs/0/tool/driver/rules").unwrap();
    let ids = rules.as_array().unwrap().iter();
    let ids: BTreeSet<_> = ids
        .filter_map(|rule| rule.get("id")?.as_str())
        .filter(|id| id.starts_with("AFS"))
        .collect();
    let broken: BTreeSet<_> = BREAKS.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(ids, broken);
}
