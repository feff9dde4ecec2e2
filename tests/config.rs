//! `authferry check` and `authferry schema` as a pipeline sees them: exit codes, text, JSON.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

fn authferry(arguments: &[&str]) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    Command::new(env!("CARGO_BIN_EXE_authferry"))
        .current_dir(root)
        .args(arguments)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_good_file_exits_with_zero() {
    let output = authferry(&["check", "config/minimal.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(words(&output).starts_with("ok: config/minimal.yaml"));
}

#[test]
fn a_bad_file_exits_with_one_and_names_every_problem() {
    let file = "tests/configs/bad/several-mistakes.yaml";
    let output = authferry(&["check", file]);
    assert_eq!(output.status.code(), Some(1));
    let expected: Vec<String> =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .filter_map(|line| line.split_once(' '))
            .map(|(place, message)| format!("{file}:{place}: error: {message}"))
            .collect();
    assert!(3 <= expected.len());
    for line in expected {
        assert!(words(&output).contains(&line), "{line}\n{}", words(&output));
    }
}

#[test]
fn json_counts_what_the_text_lists() {
    let output = authferry(&[
        "check",
        "--format",
        "json",
        "tests/configs/bad/several-mistakes.yaml",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = whole
        .get("problems")
        .and_then(|list| list.as_array())
        .unwrap();
    assert_eq!(
        whole.get("errors").and_then(serde_json::Value::as_u64),
        Some(problems.len() as u64)
    );
}

#[test]
fn a_missing_file_exits_with_two() {
    assert_eq!(authferry(&["check", "nowhere.yaml"]).status.code(), Some(2));
}

#[test]
fn the_schema_is_json() {
    let output = authferry(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema.pointer("/properties/providers").is_some());
}

const LAX: &str = "version: 1
providers:
  new: { oidc: { issuer: \"https://new.corp.example\", verify: { audiences: [crm], max_life: 48h } } }
apps:
  crm: { hosts: [crm.corp.example], upstream: { url: \"http://127.0.0.1:8081\" }, provider: new, forward_credentials: true, routes: [{ path: /*, credentials: [bearer], on_unauthenticated: unauthorized }] }
";

fn lax(more: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lax.yaml");
    fs::write(&file, format!("{LAX}{more}")).unwrap();
    let name = file.display().to_string();
    (dir, name)
}

#[test]
fn a_strict_check_refuses_what_is_allowed_and_not_safe() {
    let (_dir, file) = lax("");
    let plain = authferry(&["check", &file]);
    assert_eq!(plain.status.code(), Some(0), "{}", words(&plain));
    let strict = authferry(&["check", "--strict", &file]);
    assert_eq!(strict.status.code(), Some(1));
    for said in [
        ":3:",
        "error[AFS001]",
        ":5:",
        "error[AFS010]",
        "at apps.crm.forward_credentials",
    ] {
        assert!(words(&strict).contains(said), "{said}\n{}", words(&strict));
    }
}

#[test]
fn a_strict_check_looks_at_what_comes_of_an_exchange() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "0123456789abcdef".repeat(4)).unwrap();
    let more = "exchange:
  asked: { token_exchange: { provider: new, audiences: [api], longer_life: 5m, client: { id: ferry, secret: { file: secret } } } }
  old: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], ttl: 1h, format: { jwt: { shared_secret: { file: secret } } } } }
  good: { mint: { issuer: \"https://ferry.corp.example\", audiences: [api], ttl: 5m, binding: keep } }
  exact: { token_exchange: { provider: new, audiences: [api], longer_life: 0s, binding: refuse, client: { id: ferry, secret: { file: secret } } } }
secrets: { signing: { rotate_every: 200d } }
";
    fs::write(dir.path().join("lax.yaml"), format!("{LAX}{more}")).unwrap();
    let plain = run_in(dir.path(), &["check", "lax.yaml"]);
    assert_eq!(plain.status.code(), Some(0), "{}", words(&plain));
    let said = words(&run_in(dir.path(), &["check", "--strict", "lax.yaml"]));
    for (rule, at) in [
        ("AFS007", "exchange.asked.token_exchange.client"),
        ("AFS022", "exchange.old.mint.ttl"),
        ("AFS003", "exchange.old.mint.format"),
        ("AFS023", "secrets.signing.rotate_every"),
        ("AFS024", "exchange.old.mint"),
        ("AFS024", "exchange.asked.token_exchange"),
        ("AFS025", "exchange.asked.token_exchange.longer_life"),
    ] {
        assert!(said.contains(&format!("error[{rule}]")), "{rule}\n{said}");
        assert!(said.contains(&format!("at {at}")), "{at}\n{said}");
    }
    for good in ["exchange.good", "exchange.exact.token_exchange.longer_life"] {
        assert!(!said.contains(good), "{good}\n{said}");
    }
    // Keys that are kept elsewhere are rotated there: with one of them, the next one is known to nobody.
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (name, files, lacks) in [("one", "[a]", true), ("two", "[a, b]", false)] {
        for file in ["a", "b"] {
            fs::write(dir.path().join(file), &key).unwrap();
        }
        let more = format!("secrets: {{ signing: {{ files: {files} }} }}\n");
        let file = format!("{name}.yaml");
        fs::write(dir.path().join(&file), format!("{LAX}{more}")).unwrap();
        let said = words(&run_in(dir.path(), &["check", "--strict", &file]));
        assert_eq!(said.contains("error[AFS026]"), lacks, "{said}");
    }
}

#[test]
fn a_strict_check_leaves_little_to_clients_that_prove_nothing() {
    let client = |more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "{LAX}token_endpoint:
  app: crm
  origin: https://crm.corp.example
  clients:
    tv: {{ auth: none, grants: [device_code, refresh_token], audiences: [crm], at: {{ new: {{ id: tv, auth: none }} }}, {more} }}
"
        );
        fs::write(dir.path().join("tv.yaml"), text).unwrap();
        words(&run_in(dir.path(), &["check", "--strict", "tv.yaml"]))
    };
    let modest = client("scopes: [read]");
    for rule in ["AFS007", "AFS019", "AFS027"] {
        assert!(!modest.contains(rule), "{rule}\n{modest}");
    }
    for (more, at) in [
        ("max_life: 10m", "max_life"),
        ("refresh: { max: 31d }", "refresh"),
        ("scopes: [offline_access]", "scopes"),
        ("scopes: [\"files.*\"]", "scopes"),
    ] {
        let said = client(more);
        assert!(said.contains("error[AFS027]"), "{more}\n{said}");
        let at = format!("at token_endpoint.clients.tv.{at}");
        assert!(said.contains(&at), "{more}\n{said}");
    }
}

#[test]
fn a_waiver_says_why_and_waives_its_rule_only() {
    let waivers =
        "waivers:\n  - { rule: AFS010, at: apps.crm, reason: it judges the token itself }\n";
    let (_dir, file) = lax(waivers);
    let strict = authferry(&["check", "--strict", &file]);
    assert_eq!(strict.status.code(), Some(1));
    let said = words(&strict);
    assert!(
        said.contains("warning[AFS010]") && said.contains("waived: it judges the token itself"),
        "{said}"
    );
    assert!(said.contains("error[AFS001]"), "{said}");
    let both = format!(
        "{waivers}  - {{ rule: AFS001, reason: batch jobs }}\n  - {{ rule: AFS006, reason: none }}\n"
    );
    let (_dir, file) = lax(&both);
    let strict = authferry(&["check", "--strict", &file]);
    assert_eq!(strict.status.code(), Some(0), "{}", words(&strict));
    assert!(words(&strict).contains("the waiver of `AFS006` waives nothing"));
}

#[test]
fn code_scanning_gets_rules_places_and_suppressions() {
    let (_dir, file) = lax("waivers:\n  - { rule: AFS010, reason: it judges the token itself }\n");
    let output = authferry(&["check", "--strict", "--format", "sarif", &file]);
    assert_eq!(output.status.code(), Some(1));
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(whole.pointer("/version").unwrap(), "2.1.0");
    let results = whole
        .pointer("/runs/0/results")
        .unwrap()
        .as_array()
        .unwrap();
    let of = |rule: &str| {
        results
            .iter()
            .find(|r| r.get("ruleId").unwrap() == rule)
            .unwrap()
    };
    let line = "/locations/0/physicalLocation/region/startLine";
    assert_eq!(of("AFS001").pointer(line).unwrap(), 3);
    assert_eq!(of("AFS001").get("level").unwrap(), "error");
    let why = of("AFS010")
        .pointer("/suppressions/0/justification")
        .unwrap();
    assert_eq!(why, "it judges the token itself");
}

#[test]
fn the_catalog_names_providers_lifetimes_and_data() {
    let (_dir, file) = lax("");
    let output = authferry(&["catalog", &file]);
    assert_eq!(output.status.code(), Some(0));
    for said in [
        "### new",
        "`https://new.corp.example`",
        "| Longest life of a token | 2 d |",
        "`subject ← sub`",
        "| crm | `crm.corp.example` | none | yes |",
    ] {
        assert!(words(&output).contains(said), "{said}\n{}", words(&output));
    }
    let nothing = authferry(&["catalog", "--expiring", "30d", &file]);
    assert_eq!(nothing.status.code(), Some(0));
}

#[test]
fn the_catalog_says_what_exchanges_and_clients_do_and_what_is_kept_for_how_long() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "0123456789abcdef".repeat(4)).unwrap();
    let client = "{ id: ferry, secret: { file: secret } }";
    let text = format!(
        "version: 1
providers:
  new: {{ oidc: {{ issuer: \"https://new.corp.example\", client: {client}, verify: {{ audiences: [crm] }}, claims: {{ name: name, groups: groups }}, introspect: {{ enabled: true, cache: 10s }} }} }}
apps:
  crm: {{ hosts: [crm.corp.example], upstream: {{ url: \"http://127.0.0.1:8081\" }}, provider: new, identity_headers: {{ X-Who: \"{{name}} of {{groups|join:,}}\" }} }}
exchange:
  asked: {{ token_exchange: {{ provider: new, audiences: [api], longer_life: 2m }} }}
  signed: {{ assertion: {{ provider: new, issuer: \"https://ferry.corp.example\", subject: \"{{subject}}\", audiences: [api] }} }}
  ours: {{ mint: {{ issuer: \"https://ferry.corp.example\", audiences: [mine], ttl: 4m, claims: {{ who: \"{{name}}\" }}, attributes: {{ teams: groups }}, binding: keep }} }}
token_endpoint:
  app: crm
  origin: https://crm.corp.example
  clients:
    tv: {{ secret_hashes: [\"sha256:{}\"], grants: [device_code, refresh_token], audiences: [crm], at: {{ new: {client} }} }}
retention: {{ pins: 90d, legacy_usage: 100d, findings: 10d }}
",
        "0".repeat(64)
    );
    fs::write(dir.path().join("full.yaml"), &text).unwrap();
    let said = words(&run_in(dir.path(), &["catalog", "full.yaml"]));
    for row in [
        "| Grant types | bearer tokens; authorization_code with PKCE; refresh_token; token-exchange; jwt-bearer; device_code |",
        "| Introspection | asked again after 10 s |",
        "| Back-channel logout | `/.authferry/backchannel/new` |",
        "| Refresh tokens given back | yes |",
        "`x-who ← name, groups`",
        "| asked | token exchange (RFC 8693) at new | `api` | as its provider says, at most 2 min longer than a presented token | becomes one that anybody can use | what its provider says |",
        "| signed | assertion (RFC 7523) at new | `api` |",
        "| ours | minted, signed by our key, as `https://ferry.corp.example` | `mine` | 4 min | stays bound | `sub ← canonical`, `who ← name`, `teams ← groups`, `client_id`, `acr`, `scope`, `act (as it was)`, `cnf` |",
        "| pins | that a pseudonym has moved | 90 d after the last login |",
        "| legacy usage | pseudonyms that still come with credentials of an old provider | 100 d |",
        "| findings |",
        "| tokens of sessions | the provider's own refresh and ID tokens, by which they are renewed and signed out of, sealed under the cookie | as long as the sessions |",
        "| sign-outs under way | where somebody goes on to who signs out at two providers",
        "what it is bound to (`cnf`)",
        "| refresh tokens |",
        "| refresh tokens that are out | by what each of them can be revoked",
        "| browsers | digests of who signed in last",
        "| ledger |",
    ] {
        assert!(said.contains(row), "{row}\n{said}");
    }
    assert!(!said.contains("400 d after the last login"), "{said}");
    // Only what is kept is in the table.
    assert!(!said.contains("| kept forms |"), "{said}");
    let text = text.replace(
        "provider: new, identity_headers",
        "provider: new, routes: [{ path: /*, preserve_post: 4KiB }], identity_headers",
    );
    fs::write(dir.path().join("full.yaml"), text).unwrap();
    let said = words(&run_in(dir.path(), &["catalog", "full.yaml"]));
    assert!(said.contains("| kept forms |"), "{said}");
}

/// What ends soon, in the words of the table.
fn soon(client: &str, name: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "long and random").unwrap();
    let file = dir.path().join("ends.yaml");
    let text = format!(
        "version: 1
server: {{ state_dir: state }}
providers:
  new: {{ oidc: {{ issuer: \"https://new.corp.example\", client: {{ id: {name}, secret: {{ file: secret }}, {client} }}, verify: {{ audiences: [crm] }} }} }}
apps:
  crm: {{ hosts: [crm.corp.example], provider: new, upstream: {{ url: \"http://127.0.0.1:8081\" }} }}
"
    );
    fs::write(&file, text).unwrap();
    let output = run_in(dir.path(), &["catalog", "--expiring", "30d", "ends.yaml"]);
    (output.status.code(), words(&output))
}

/// Of the admin interface, and of a directory that is asked with a token.
#[test]
fn what_ends_of_the_admin_interface_and_of_a_directory_is_listed_too() {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    let token = format!(
        "{}.{}.{}",
        part(r#"{"alg":"ES256","typ":"JWT"}"#),
        part(r#"{"iss":"team","exp":1707019445}"#),
        part("signature")
    );
    fs::write(dir.path().join("token"), &token).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["admin.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2024, 2, 3);
    let pem = params.self_signed(&key).unwrap().pem();
    fs::write(dir.path().join("admin.crt"), pem).unwrap();
    fs::write(dir.path().join("admin.key"), key.serialize_pem()).unwrap();
    let text = "version: 1
server: { state_dir: state, admin: { tls: { certificate: { file: admin.crt }, key: { file: admin.key } } } }
providers:
  new: { oidc: { issuer: \"https://new.corp.example\", directory: { scim: { url: \"https://id.corp.example/scim/v2\", token: { file: token } } }, verify: { audiences: [crm] } } }
apps:
  crm: { hosts: [crm.corp.example], provider: new, upstream: { url: \"http://127.0.0.1:8081\" } }
";
    fs::write(dir.path().join("ends.yaml"), text).unwrap();
    let output = run_in(dir.path(), &["catalog", "--expiring", "30d", "ends.yaml"]);
    let said = words(&output);
    for (used, ended) in [
        ("| admin interface |", "ended 2024-02-03T"),
        (
            "| directory of provider new |",
            "ended 2024-02-04T04:04:05Z",
        ),
    ] {
        let row = said.lines().find(|line| line.contains(used));
        assert!(row.is_some_and(|row| row.contains(ended)), "{used}\n{said}");
    }
    assert!(!said.contains(&token), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_client_secret_ends_when_the_configuration_says_so() {
    let (code, said) = soon("expires: \"2024-02-03T04:05:06Z\"", "web");
    let row =
        "| client secret | `web` | client at provider new | ended 2024-02-03T04:05:06Z | by you |";
    assert!(said.contains(row), "{said}");
    assert_eq!(code, Some(1));
    let (code, said) = soon("expires: \"2124-02-03T04:05:06Z\"", "web");
    assert_eq!((code, said.contains("web")), (Some(0), false), "{said}");
    let (code, said) = soon("auth: client_secret_post", "web");
    assert_eq!((code, said.contains("web")), (Some(0), false), "{said}");
}

#[test]
fn a_client_of_ours_is_listed_when_what_it_proves_itself_with_ends() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "version: 1
server: {{ state_dir: state }}
providers:
  new: {{ oidc: {{ issuer: \"https://new.corp.example\", verify: {{ audiences: [crm] }} }} }}
apps:
  crm: {{ hosts: [crm.corp.example], provider: new, upstream: {{ url: \"http://127.0.0.1:8081\" }} }}
exchange:
  ours: {{ mint: {{ issuer: \"https://ferry.corp.example\", audiences: [api] }} }}
token_endpoint:
  app: crm
  origin: https://crm.corp.example
  audiences: {{ api: {{ exchanges: [ours] }} }}
  clients:
    shop: {{ secret_hashes: [\"sha256:{hash}\"], expires: \"2024-02-03T04:05:06Z\", grants: [token_exchange], audiences: [api] }}
    till: {{ secret_hashes: [\"sha256:{hash}\"], expires: \"2124-02-03T04:05:06Z\", grants: [token_exchange], audiences: [api] }}
    desk: {{ secret_hashes: [\"sha256:{hash}\"], grants: [token_exchange], audiences: [api] }}
",
        hash = "a5".repeat(32)
    );
    fs::write(dir.path().join("ends.yaml"), text).unwrap();
    let output = run_in(dir.path(), &["catalog", "--expiring", "30d", "ends.yaml"]);
    let said = words(&output);
    let row = "| client secret | `shop` | client of token_endpoint | ended 2024-02-03T04:05:06Z | by you |";
    assert!(said.contains(row), "{said}");
    assert!(!said.contains("till") && !said.contains("desk"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[cfg(not(feature = "pkcs11"))]
#[test]
fn keys_in_a_module_need_a_build_that_can_use_one() {
    let signing = "secrets: { signing: { pkcs11: { module: /usr/lib/softhsm/libsofthsm2.so, token: ferry, pin: { env: PIN }, keys: [a] } } }\n";
    let (_dir, file) = lax(signing);
    let output = authferry(&["check", &file]);
    assert_eq!(output.status.code(), Some(1));
    let said = words(&output);
    assert!(said.contains("`pkcs11` is not in this build"), "{said}");
}

#[cfg(not(feature = "ldap"))]
#[test]
fn a_directory_needs_a_build_that_can_ask_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authferry.yaml");
    let text = "version: 1
providers:
  old: { ldap: { url: \"ldaps://ad.corp.example:636\", user_dn: \"uid={username},dc=corp\" } }
  sso:
    session_probe:
      owns: { cookies: [SSO], basic: true }
      introspect: { url: \"https://sso.corp.example/validate\" }
      authenticate: { ldap_bind: { url: \"ldaps://ad.corp.example:636\", user_dn: \"uid={username},dc=corp\" } }
  new: { oidc: { issuer: \"https://new.corp.example\", verify: { audiences: [crm] } } }
apps:
  crm: { hosts: [crm.corp.example], upstream: { url: \"http://127.0.0.1:8081\" } }
rollout: { from: old, to: new, bucketing: { salt: a }, percent: 10 }
";
    fs::write(&file, text).unwrap();
    let output = authferry(&["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = words(&output);
    for (place, name) in [(":3:", "ldap"), (":8:", "ldap_bind")] {
        let line = said
            .lines()
            .find(|line| line.contains(&format!("`{name}` is not in this build")));
        assert!(line.is_some_and(|line| line.contains(place)), "{said}");
    }
}

const ENDPOINT: &str = "version: 1
providers:
  new: { oidc: { issuer: \"https://new.corp.example\", verify: { audiences: [crm] } } }
apps:
  crm: { hosts: [crm.corp.example], provider: new, upstream: { url: \"http://127.0.0.1:8081\" } }
token_endpoint:
  app: crm
  origin: https://crm.corp.example
  clients:
";

fn run_in(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_authferry"))
        .current_dir(dir)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn registrations_are_imported_rotated_and_exported_without_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let realm = r#"{ "clients": [{ "clientId": "batch", "secret": "hunter2", "serviceAccountsEnabled": true, "defaultClientScopes": ["read"] }, { "clientId": "spa", "publicClient": true }] }"#;
    fs::write(dir.path().join("realm.json"), realm).unwrap();
    let wanted = [
        "clients",
        "import",
        "realm.json",
        "--provider",
        "new",
        "--audience",
        "crm",
        "--secrets",
        "kept",
    ];
    let imported = run_in(dir.path(), &wanted);
    assert_eq!(imported.status.code(), Some(0));
    let yaml = words(&imported);
    assert!(
        yaml.contains("# spa: nothing of it is moved") && !yaml.contains("hunter2"),
        "{yaml}"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("kept/batch")).unwrap(),
        "hunter2"
    );
    // What is printed fits where it belongs.
    let below: String = yaml.lines().map(|line| format!("    {line}\n")).collect();
    let file = dir.path().join("authferry.yaml");
    fs::write(&file, format!("{ENDPOINT}{below}")).unwrap();
    let checked = run_in(dir.path(), &["check", "authferry.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", words(&checked));
    let strict = run_in(dir.path(), &["check", "--strict", "authferry.yaml"]);
    let said = words(&strict);
    assert!(
        said.contains("error[AFS019]") && said.contains("error[AFS007]"),
        "{said}"
    );
    let catalog = words(&run_in(dir.path(), &["catalog", "authferry.yaml"]));
    assert!(
        catalog.contains(
            "| batch | secret | `client_credentials` | `crm` | `read` | 5 min | none | no | `new` |"
        ),
        "{catalog}"
    );
    // Two are good, then the new one.
    let rotated = run_in(
        dir.path(),
        &["clients", "rotate", "batch", "authferry.yaml"],
    );
    assert_eq!(rotated.status.code(), Some(0));
    let secret = words(&rotated).lines().next().unwrap().to_owned();
    assert_eq!(secret.len(), 43);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains(&secret) && text.matches("sha256:").count() == 2,
        "{text}"
    );
    let strict = words(&run_in(
        dir.path(),
        &["check", "--strict", "authferry.yaml"],
    ));
    assert!(strict.contains("error[AFS020]"), "{strict}");
    let twice = run_in(
        dir.path(),
        &["clients", "rotate", "batch", "authferry.yaml"],
    );
    assert_eq!(twice.status.code(), Some(1));
    let finished = run_in(
        dir.path(),
        &["clients", "rotate", "--finish", "batch", "authferry.yaml"],
    );
    assert_eq!(finished.status.code(), Some(0));
    let after = fs::read_to_string(&file).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert!(
        after.contains(&hex) && after.matches("sha256:").count() == 1,
        "{after}"
    );
    let exported = words(&run_in(
        dir.path(),
        &["clients", "export", "authferry.yaml"],
    ));
    let all: serde_json::Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(all.pointer("/0/client_id").unwrap(), "batch");
    assert!(
        !exported.contains(&hex) && !exported.contains("hunter2"),
        "{exported}"
    );
    // No client, and no file.
    let nobody = run_in(
        dir.path(),
        &["clients", "rotate", "nobody", "authferry.yaml"],
    );
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(
        run_in(dir.path(), &["clients", "export", "nowhere.yaml"])
            .status
            .code(),
        Some(2)
    );
}

/// Whoever's secret nobody can read has two during a rotation, as any other.
#[test]
fn a_learned_secret_is_rotated_by_a_stated_one_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authferry.yaml");
    let client = |name: &str| {
        format!(
            "    {name}: {{ learn_secret_at: new, grants: [client_credentials], audiences: [crm], scopes: [read], at: {{ new: {{ id: {name}, secret: {{ file: there }} }} }} }}\n"
        )
    };
    fs::write(
        &file,
        format!("{ENDPOINT}{}{}", client("one"), client("two")),
    )
    .unwrap();
    fs::write(dir.path().join("there"), "hunter2").unwrap();
    let rotate = |more: &[&str]| {
        let all = [&["clients", "rotate"][..], more, &["two", "authferry.yaml"]].concat();
        run_in(dir.path(), &all)
    };
    let early = rotate(&["--finish"]);
    assert_eq!(early.status.code(), Some(1), "{}", words(&early));
    let begun = rotate(&[]);
    assert_eq!(begun.status.code(), Some(0), "{}", words(&begun));
    let text = fs::read_to_string(&file).unwrap();
    let (one, two) = text.split_once("    two:").unwrap();
    assert!(
        one.contains("one: { learn_secret_at: new") && !one.contains("sha256:"),
        "{text}"
    );
    assert!(
        two.contains("sha256:") && two.contains("learn_secret_at: new"),
        "{text}"
    );
    let strict = words(&run_in(
        dir.path(),
        &["check", "--strict", "authferry.yaml"],
    ));
    assert!(strict.contains("error[AFS020]"), "{strict}");
    assert_eq!(rotate(&[]).status.code(), Some(1));
    let finished = rotate(&["--finish"]);
    assert_eq!(finished.status.code(), Some(0), "{}", words(&finished));
    let text = fs::read_to_string(&file).unwrap();
    let (one, two) = text.split_once("    two:").unwrap();
    assert!(
        one.contains("learn_secret_at: new") && !two.contains("learn_secret_at"),
        "{text}"
    );
    assert_eq!(two.matches("sha256:").count(), 1, "{text}");
}

/// A file as an editor reads it, against the schema; why it does not fit.
fn misfits(schema: &jsonschema::Validator, file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    // As YAML 1.2 has it: `y` is a text.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(&text, options).unwrap();
    let errors = schema.iter_errors(&value);
    errors
        .map(|error| format!("{}: {}: {error}", file.display(), error.instance_path))
        .collect()
}

#[test]
fn editors_are_told_what_check_would_say() {
    let schema = authferry(&["schema"]).stdout;
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    let good = ["config", "tests/configs/ok"]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    let mut seen = 0;
    for file in good {
        assert_eq!(misfits(&schema, &file), Vec::<String>::new());
        seen += 1;
    }
    assert!(5 < seen, "{seen}");
    let bad = [
        "duration-without-unit",
        "empty-list",
        "list-for-text",
        "null-section",
        "percent-negative",
        "quoted-boolean",
        "secret-in-clear-text",
        "size-without-unit",
        "text-for-list",
        "unknown-key-deep",
        "unknown-key-top",
    ];
    let fit = bad.into_iter().filter(|name| {
        let file = Path::new("tests/configs/bad").join(format!("{name}.yaml"));
        misfits(&schema, &file).is_empty()
    });
    assert_eq!(fit.collect::<Vec<_>>(), Vec::<&str>::new());
}
