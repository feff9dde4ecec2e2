//! How we prove to real providers who we are: by an assertion under a secret, by a certificate of an authority that they trust,
//! by one that is registered there itself; and what they bound to a certificate or a key.

use std::process::Command;

use serde_json::Value;

use crate::browser::Browser;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::keycloak;
use crate::modern::check_online;
use crate::origin;
use crate::protocols::node;
use crate::protocols::run;
use crate::proxy;
use crate::secret;
use crate::server_section;
use crate::two_sides;
use crate::var;

/// Our registration at both sides, as `two_sides` has it.
const OURS: &str = "client: { id: proxy, secret: { file: \"{dir}/proxy.secret\" } }";

pub(crate) fn pki(name: &str) -> String {
    format!("{}/pki/{name}", var("IDPS_RUN"))
}

/// Another registration, and whom its connections trust.
fn by_certificate(id: &str, method: &str, shown: &str) -> String {
    let (ca, own) = (pki("ca.crt"), pki(shown));
    format!(
        "ca: {{ file: \"{ca}\" }}\n      client: {{ id: {id}, auth: {method}, certificate: {{ certificate: {{ file: \"{own}.crt\" }}, key: {{ file: \"{own}.key\" }} }} }}"
    )
}

fn under_a_secret() -> String {
    "client: { id: proxy-secret-jwt, auth: client_secret_jwt, secret: { file: \"{dir}/proxy.secret\" } }".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_where_we_show_a_certificate_or_an_assertion_under_a_secret() {
    let upstream = Echo::start().await;
    let own = "self_signed_tls_client_auth";
    for (client, lets_in) in [
        (under_a_secret(), true),
        (
            by_certificate("proxy-mtls", "tls_client_auth", "client-mtls"),
            true,
        ),
        (
            by_certificate("proxy-mtls", "tls_client_auth", "client-other"),
            false,
        ),
        (
            by_certificate("proxy-mtls", "tls_client_auth", "client-rogue"),
            false,
        ),
        (
            by_certificate("proxy-self-signed", own, "client-self-signed"),
            true,
        ),
        (
            by_certificate("proxy-self-signed", own, "client-mtls"),
            false,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let text = secret("proxy-secret-jwt-secret");
        std::fs::write(dir.path().join("proxy.secret"), text).unwrap();
        let yaml = two_sides(&upstream.url(), "0").replacen(OURS, &client, 1);
        assert!(yaml.contains(&client));
        let proxy = Proxy::start_in(dir, &format!("{yaml}\n{}", server_section()));
        proxy.settled().await;
        let before = upstream.hits();
        let mut browser = Browser::default();
        let page = format!("{}/deep", origin());
        let landed = browser.open(&page, Some(("bob", &secret("bob-pw")))).await;
        let said = (&client, landed.answer.text(), proxy.log());
        assert_eq!(landed.answer.status == 200, lets_in, "{said:?}");
        assert_eq!(upstream.hits() - before, usize::from(lets_in), "{said:?}");
        if lets_in {
            assert_eq!(upstream.last().all("x-remote-user"), ["1002"]);
        }
    }
}

/// Keycloak's realm over TLS: its name follows the address that is asked.
fn keycloak_tls() -> String {
    format!("https://127.0.0.1:{}/realms/new", var("KC_TLS_PORT"))
}

#[tokio::test(flavor = "multi_thread")]
async fn keycloak_knows_us_by_either() {
    for (client, known) in [
        (under_a_secret(), true),
        (
            by_certificate("proxy-mtls", "tls_client_auth", "client-mtls"),
            true,
        ),
        (
            by_certificate("proxy-mtls", "tls_client_auth", "client-other"),
            false,
        ),
    ] {
        let all = two_sides("http://127.0.0.1:9", "50");
        let (legacy, modern) = all.split_once("  modern:").unwrap();
        let mut modern = modern.replacen(OURS, &client, 1);
        assert!(modern.contains(&client));
        if client.starts_with("ca:") {
            modern = modern.replace(&keycloak(), &keycloak_tls());
        }
        let yaml = format!("{legacy}  modern:{modern}");
        let (_, said) = check_online(&yaml, &secret("proxy-secret-jwt-secret"));
        let line = "ok      providers.modern: client: it knows us";
        assert_eq!(said.contains(line), known, "{client}\n{said}");
        let line = "failed  providers.modern: client: ";
        assert_eq!(said.contains(line), !known, "{client}\n{said}");
    }
}

/// What `curl` gets, and the status.
pub(crate) fn curl(certificate: Option<&str>, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "20", "--cacert", &pki("ca.crt")]);
    command.args(["--write-out", "\n%{http_code}"]);
    if let Some(own) = certificate {
        let own = pki(own);
        command.args([
            "--cert",
            &format!("{own}.crt"),
            "--key",
            &format!("{own}.key"),
        ]);
    }
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), status.to_owned())
}

/// A token that is bound to the certificate `client-mtls` counts at a TLS listener beside that one only. `providers`: whose it is,
/// by the name `bound`.
pub(crate) async fn counts_beside_its_certificate_only(providers: &str, token: &str) {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!(
        r#"
server:
  listen: 127.0.0.1:0
  tls:
    certificate: {{ file: "{certificate}" }}
    key: {{ file: "{key}" }}
    client_certificates: [{{ hosts: [localhost], ca: {{ file: "{ca}" }}, mode: optional }}]
  admin: {{ listen: 127.0.0.1:0, token: {{ file: "{{dir}}/admin.token" }} }}
  state_dir: "{{dir}}/state"
providers:
  bound: {providers}
apps:
  api: {{ hosts: [localhost], provider: bound, upstream: {{ url: "{upstream}" }} }}
"#,
        certificate = pki("server.crt"),
        key = pki("server.key"),
        ca = pki("ca.crt"),
        upstream = upstream.url(),
    );
    let proxy = Proxy::start_in(dir, &yaml);
    proxy.settled().await;
    let page = format!("https://localhost:{}/x", proxy.address.port());
    let bearer = format!("Authorization: Bearer {token}");
    for (own, expected) in [
        (None, "401"),
        (Some("client-other"), "401"),
        (Some("client-mtls"), "200"),
        // What is kept of the one is not kept for the others.
        (Some("client-other"), "401"),
        (None, "401"),
    ] {
        let (body, status) = curl(own, &["--header", &bearer, &page]);
        assert_eq!(status, expected, "{own:?} {body}\n{}", proxy.log());
    }
    assert_eq!(upstream.hits(), 1);
}

/// What a client is told that shows a token that is bound to a key: twice that it is good, which the application heard of.
pub(crate) fn counts_with_new_proofs_only(words: &str, upstream: &Echo, proxy: &Proxy) {
    let expected = [
        "type dpop",
        "own key 200",
        "same proof 401",
        "another proof 200",
        "another key 401",
        "no proof 401",
        "as bearer 401",
    ];
    let said: Vec<&str> = words.lines().collect();
    assert_eq!(said, expected, "{}", proxy.log());
    assert_eq!(upstream.hits(), 2);
    assert_eq!(upstream.last().all("x-remote-user"), ["1002"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_keycloak_bound_to_a_certificate_counts_beside_it_only() {
    let form = "grant_type=client_credentials&client_id=proxy-mtls";
    let endpoint = format!("{}/protocol/openid-connect/token", keycloak_tls());
    let (body, _) = curl(Some("client-mtls"), &["--data", form, &endpoint]);
    let answer: Value = serde_json::from_str(&body).unwrap();
    let provider = format!(
        "{{ oidc: {{ issuer: \"{issuer}\", ca: {{ file: \"{ca}\" }}, owns: {{ access_token_markers: [{{ claim: typ, equals: Bearer }}] }}, verify: {{ audiences: [proxy-exchange] }} }} }}",
        issuer = keycloak_tls(),
        ca = pki("ca.crt"),
    );
    let token = answer["access_token"].as_str();
    let token = token.unwrap_or_else(|| panic!("{body}"));
    counts_beside_its_certificate_only(&provider, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_keycloak_bound_to_a_key_counts_with_a_new_proof_of_it_only() {
    let upstream = Echo::start().await;
    let marker = "{ claim: typ, equals: Bearer }";
    let both = format!("{marker}, {{ claim: typ, equals: DPoP }}");
    let proxy = proxy(&two_sides(&upstream.url(), "50").replacen(marker, &both, 1));
    proxy.settled().await;
    let (output, words) = run(node("dpop.mjs")
        .arg(keycloak())
        .arg(secret("proxy-dpop-secret"))
        .args(["bob", &secret("bob-pw")])
        .arg(format!("{}/x", origin())));
    assert!(output.status.success(), "{words}\n{}", proxy.log());
    counts_with_new_proofs_only(&words, &upstream, &proxy);
}
