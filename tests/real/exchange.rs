//! Keycloak gives an application tokens of its own side: RFC 8693 for its tokens, an assertion (RFC 7523) for old credentials.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::browser::Browser;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::request;
use crate::keycloak;
use crate::modern::token_of;
use crate::old_sides::sql;
use crate::origin;
use crate::secret;
use crate::server_section;
use crate::var;

/// The old side is a file of API keys whose names are the old user numbers.
fn yaml(upstream: &str) -> String {
    format!(
        r#"
providers:
  legacy: {{ api_key: {{ file: "{{dir}}/keys", authoritative: {{ claims: [username] }} }} }}
  modern:
    oidc:
      issuer: "{new}"
      owns: {{ access_token_markers: [{{ claim: typ, equals: Bearer }}] }}
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid, name: preferred_username, groups: groups }}
      authoritative: {{ claims: [legacy_uid] }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
exchange:
  narrow:
    token_exchange:
      provider: modern
      client: {{ id: proxy-exchange, secret: {{ file: "{{dir}}/proxy-exchange.secret" }} }}
      audiences: [legacy-api]
      also: [account]
      own_tokens: exchange
      scopes: {{ harmless: [openid, profile, email, groups] }}
  bridge:
    assertion:
      provider: modern
      client: {{ id: proxy-bridge, secret: {{ file: "{{dir}}/proxy-bridge.secret" }} }}
      issuer: "{origin}/bridge"
      subject: "{{subject}}"
      key: {{ file: "{{dir}}/bridge.key" }}
      audiences: [legacy-api]
      also: [account]
apps:
  crm:
    hosts: [127.0.0.1]
    upstream: {{ url: "{upstream}" }}
    routes:
      - {{ path: /narrow/*, exchange: narrow }}
      - {{ path: /bridge/*, exchange: bridge }}
rollout: {{ from: legacy, to: modern, bucketing: {{ salt: real }}, percent: 50 }}
{server}"#,
        new = keycloak(),
        origin = origin(),
        server = server_section(),
    )
}

fn start(upstream: &str) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    for client in ["proxy-exchange", "proxy-bridge"] {
        let text = secret(&format!("{client}-secret"));
        std::fs::write(dir.path().join(format!("{client}.secret")), text).unwrap();
    }
    let line = |name: &str| {
        let hash = digest::digest(&digest::SHA256, format!("key-of-{name}").as_bytes());
        let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("{name}:sha256:{hex}\n")
    };
    let keys: String = ["1002", "1004", "1005"].map(line).concat();
    std::fs::write(dir.path().join("keys"), keys).unwrap();
    let key = format!("{}/pki/jwt.key", var("IDPS_RUN"));
    std::fs::copy(key, dir.path().join("bridge.key")).unwrap();
    Proxy::start_in(dir, &yaml(upstream))
}

pub(crate) fn claims(authorization: &str) -> Value {
    let payload = authorization.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

pub(crate) fn is_for(claims: &Value, audience: &str) -> bool {
    match &claims["aud"] {
        Value::Array(all) => all.contains(&json!(audience)),
        one => one == audience,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keycloak_exchanges_its_own_token_for_one_of_the_application() {
    let upstream = Echo::start().await;
    let proxy = start(&upstream.url());
    proxy.settled().await;
    for (name, status) in [("bob", 200), ("carol", 403)] {
        let token = token_of(name).await;
        let value = format!("Bearer {token}");
        let fields = [("Host", "127.0.0.1"), ("Authorization", value.as_str())];
        let answer = request(proxy.address, "GET", "/narrow/x", &fields, b"").await;
        assert_eq!(
            answer.status,
            status,
            "{name} {}\n{}",
            answer.text(),
            proxy.log()
        );
        if status == 200 {
            let seen = upstream.last();
            assert!(!seen.head.contains(&token));
            let got = claims(&seen.all("authorization").remove(0));
            assert!(
                is_for(&got, "legacy-api") && !is_for(&got, "proxy-exchange"),
                "{got}"
            );
            assert_eq!(got["iss"], json!(keycloak()));
        }
    }
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_credential_becomes_a_token_of_keycloak_without_a_second_login() {
    let upstream = Echo::start().await;
    let proxy = start(&upstream.url());
    proxy.settled().await;
    // Erin (1005) has no account there, Dave's (1004) is disabled.
    for (name, status) in [("1002", 200), ("1005", 403), ("1004", 403)] {
        let key = format!("key-of-{name}");
        let fields = [("Host", "127.0.0.1"), ("X-Api-Key", key.as_str())];
        let answer = request(proxy.address, "GET", "/bridge/x", &fields, b"").await;
        assert_eq!(
            answer.status,
            status,
            "{name} {}\n{}",
            answer.text(),
            proxy.log()
        );
    }
    assert_eq!(upstream.hits(), 1);
    let seen = upstream.last();
    assert!(seen.all("x-api-key").is_empty());
    let got = claims(&seen.all("authorization").remove(0));
    assert_eq!(got["legacy_uid"], json!("1002"));
    assert!(is_for(&got, "legacy-api"), "{got}");
}

/// The old side is an application with sessions of its own, asked about them; so many of its people belong to Keycloak.
fn with_sessions(upstream: &str, (site, cookie): (&str, &str), more: &str, percent: u32) -> String {
    let all = yaml(upstream);
    let (before, rest) = all.split_once("  legacy:").unwrap();
    let after = &rest[rest.find("  modern:\n").unwrap()..];
    let legacy = format!(
        "  legacy:\n    session_probe:\n      issuer: \"{site}\"\n      owns: {{ cookies: [{cookie}] }}\n      introspect: {{ url: \"{site}/whoami\", cache: 1s }}\n      \
         {more}claims: {{ subject: uid, name: user, groups: groups }}\n      authoritative: {{ claims: [uid] }}\n"
    );
    // Old systems number their people.
    let after = after
        .replace("{subject}", "{subject|text}")
        .replace("percent: 50", &format!("percent: {percent}"))
        .replace(
            "    routes:\n      - { path: /narrow/*, exchange: narrow }\n      - { path: /bridge/*, exchange: bridge }\n",
            "    identity_headers: { X-Remote-User: \"{subject|text}\" }\n",
        );
    format!("{before}{legacy}{after}sessions: {{ carry_over: [wrap, exchange], revalidate: 5s }}\n")
}

/// The program with `yaml`, and the secrets and the key by which Keycloak knows it.
async fn carrying_over(yaml: &str) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    for client in ["proxy-exchange", "proxy-bridge"] {
        let text = secret(&format!("{client}-secret"));
        std::fs::write(dir.path().join(format!("{client}.secret")), text).unwrap();
    }
    let key = format!("{}/pki/jwt.key", var("IDPS_RUN"));
    std::fs::copy(key, dir.path().join("bridge.key")).unwrap();
    let proxy = Proxy::start_in(dir, yaml);
    proxy.settled().await;
    proxy
}

/// What a browser holds for the application.
struct Jar(Vec<String>);

impl Jar {
    /// With the cookies that the old application has set.
    fn new(theirs: &str) -> Self {
        Self(theirs.split("; ").map(str::to_owned).collect())
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter_map(|pair| pair.split_once('='));
        Some(values.find(|(own, _)| *own == name)?.1)
    }

    /// Opens a page, and follows nothing.
    async fn open(&mut self, proxy: &Proxy) -> Answer {
        let line = self.0.join("; ");
        let fields = [
            ("Host", "127.0.0.1"),
            ("Cookie", line.as_str()),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        let answer = request(proxy.address, "GET", "/deep?a=b", &fields, b"").await;
        for pair in answer.cookies() {
            let name = pair.split('=').next().unwrap().to_owned();
            self.0.retain(|kept| !kept.starts_with(&format!("{name}=")));
            self.0.push(pair);
        }
        answer
    }

    /// Opens it three times: where it was sent, and whom the application saw.
    async fn locations(&mut self, proxy: &Proxy, upstream: &Echo, uid: &str) -> Vec<String> {
        let mut locations = Vec::new();
        for _ in 0..3 {
            let answer = self.open(proxy).await;
            if let Some(location) = answer.header("location") {
                locations.push(location.to_owned());
                continue;
            }
            let said = answer.text();
            assert_eq!(answer.status, 200, "{uid} {said}\n{}", proxy.log());
            assert_eq!(upstream.last().all("x-remote-user"), [uid]);
        }
        locations
    }
}

/// The cookies of somebody who has signed in at the form of an old application.
async fn signed_in_at(site: &str, form: &str, name: &str) -> String {
    let mut browser = Browser::default();
    let password = secret(&format!("{name}-pw"));
    let landed = browser
        .open(&format!("{site}{form}"), Some((name, &password)))
        .await;
    assert_eq!(landed.answer.status, 200, "{}", landed.answer.text());
    browser.cookie_line(site.strip_prefix("http://").unwrap())
}

const MOVED: &str =
    "authferry_session_carryovers_total{app=\"crm\",method=\"exchange\",outcome=\"moved\"} ";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_php_application_becomes_one_of_keycloak_without_a_second_login() {
    let upstream = Echo::start().await;
    let php = format!("http://127.0.0.1:{}", var("APP_PHP_PORT"));
    let logout = format!("logout: {{ url: \"{php}/logout\", method: get }}\n      ");
    let yaml = with_sessions(&upstream.url(), (&php, "PHPSESSID"), &logout, 100);
    let proxy = carrying_over(&yaml).await;
    // Erin (1005) has no account at Keycloak: she goes on as she is.
    for (name, uid, moves) in [("bob", "1002", true), ("erin", "1005", false)] {
        let theirs = signed_in_at(&php, "/login", name).await;
        let mut jar = Jar::new(&theirs);
        let locations = jar.locations(&proxy, &upstream, uid).await;
        let expected: &[&str] = if moves { &["/deep?a=b"] } else { &[] };
        assert_eq!(locations, expected, "{name}\n{}", proxy.log());
        // The session that was exchanged is over at the application.
        crate::operators::until(async || {
            let site = php.strip_prefix("http://").unwrap();
            let fields = [("Host", site), ("Cookie", theirs.as_str())];
            let whoami = request(site.parse().unwrap(), "GET", "/whoami", &fields, b"").await;
            (whoami.status == 200) != moves
        })
        .await;
    }
    assert_eq!(proxy.metric(MOVED).await, 1.0);
}

/// The old side is Django, which is told of a sign-out at an address of its own.
fn at_django(upstream: &Echo, percent: u32) -> (String, String) {
    let site = format!("http://127.0.0.1:{}", var("DOT_PORT"));
    let revoke = format!("revoke: {{ url: \"{site}/accounts/ended/\" }}\n      ");
    let yaml = with_sessions(&upstream.url(), (&site, "sessionid"), &revoke, percent);
    (site, yaml)
}

/// Which row of Django's table a browser's session is.
fn row(jar: &Jar) -> String {
    let key = jar.value("sessionid").unwrap();
    assert!(
        key.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{key}"
    );
    format!("FROM django_session WHERE session_key = '{key}'")
}

/// Takes it out, as an administrator does, or `clearsessions`.
fn ends_at_django(jar: &Jar) {
    assert_eq!(sql(&format!("DELETE {}", row(jar))), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_table_of_django_is_wrapped_and_over_with_its_row() {
    let upstream = Echo::start().await;
    let (site, yaml) = at_django(&upstream, 0);
    let proxy = carrying_over(&yaml).await;
    let mut jars = Vec::new();
    for (name, uid) in [("bob", "1002"), ("carol", "1003")] {
        let mut jar = Jar::new(&signed_in_at(&site, "/accounts/login/", name).await);
        let sent = jar.locations(&proxy, &upstream, uid).await;
        assert_eq!(sent, Vec::<String>::new(), "{}", proxy.log());
        assert!(jar.value("authferry").is_some(), "one of ours beside it");
        jars.push(jar);
    }
    let wrapped = MOVED.replace("exchange", "wrap");
    assert_eq!(proxy.metric(&wrapped).await, 2.0);
    let [bob, carol] = &mut jars[..] else {
        panic!("two people");
    };
    ends_at_django(bob);
    crate::operators::until(async || {
        let answer = bob.open(&proxy).await;
        assert!([200, 401].contains(&answer.status), "{}", answer.text());
        answer.status == 401
    })
    .await;
    assert_eq!(bob.open(&proxy).await.status, 401, "it is remembered");
    carol.locations(&proxy, &upstream, "1003").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_table_of_django_becomes_one_of_keycloak_and_its_row_goes() {
    let upstream = Echo::start().await;
    let (site, yaml) = at_django(&upstream, 100);
    let proxy = carrying_over(&yaml).await;
    // Erin (1005) has no account at Keycloak.
    let mut jars = Vec::new();
    for (name, uid, expected) in [("bob", "1002", &["/deep?a=b"][..]), ("erin", "1005", &[])] {
        let mut jar = Jar::new(&signed_in_at(&site, "/accounts/login/", name).await);
        let sent = jar.locations(&proxy, &upstream, uid).await;
        assert_eq!(sent, expected, "{name}\n{}", proxy.log());
        jars.push(jar);
    }
    assert_eq!(proxy.metric(MOVED).await, 1.0);
    let [bob, erin] = &mut jars[..] else {
        panic!("two people");
    };
    // The session that was exchanged is over there, by what Django was told.
    let left = format!("SELECT count(*) {}", row(bob));
    crate::operators::until(async || sql(&left) == 0).await;
    // Who has stayed is out with the row; who has left needs none.
    ends_at_django(erin);
    crate::operators::until(async || erin.open(&proxy).await.status == 401).await;
    let sent = bob.locations(&proxy, &upstream, "1002").await;
    assert_eq!(sent, Vec::<String>::new(), "{}", proxy.log());
}
