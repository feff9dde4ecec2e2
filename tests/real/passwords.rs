//! Passwords move: people of OpenLDAP who send theirs with every request come to Keycloak, and so do those who fill in the form of
//! an application in PHP, Express or Django; they notice nothing.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::behind::Behind;
use crate::behind::token;
use crate::browser::Browser;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::request;
use crate::keycloak;
use crate::legacy::basic;
use crate::operators::promtool_is_content;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::server_section;
use crate::var;

/// The old side is a directory that people bind at; everybody is assigned to the new one.
fn yaml(upstream: &str) -> String {
    format!(
        r#"
providers:
  legacy:
    ldap:
      url: "ldap://127.0.0.1:{port}"
      user_dn: "uid={{username}},ou=people,dc=legacy,dc=test"
      attributes: [uid, employeeNumber]
      claims: {{ subject: employeeNumber, name: uid }}
      authoritative: {{ claims: [employeeNumber] }}
      cache: 1s
  modern:
    oidc:
      issuer: "{issuer}"
      client: {{ id: proxy-ropc, secret: {{ file: "{{dir}}/proxy-ropc.secret" }} }}
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid, name: preferred_username }}
      authoritative: {{ claims: [legacy_uid] }}
      directory:
        keycloak: {{ client: {{ id: provisioning, secret: {{ file: "{{dir}}/provisioning.secret" }} }}, key: legacy_uid }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test]
    upstream: {{ url: "{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}", X-Remote-Name: "{{name}}" }}
rollouts:
  move:
    apps: [crm]
    from: legacy
    to: modern
    bucketing: {{ salt: real }}
    stages: [{{ id: move, mode: modern-primary, accept: {{ legacy: {{ basic: migrate }} }} }}]
"#,
        port = var("LDAP_PORT"),
        issuer = keycloak(),
    )
}

async fn ask(proxy: &Proxy, name: &str, password: &str) -> Answer {
    let given = basic(name, password);
    let given = [("Authorization", given.as_str())];
    request(proxy.address, "GET", "/", &given, b"").await
}

/// What the series add up to whose lines begin like this.
async fn sum(proxy: &Proxy, prefix: &str) -> f64 {
    let text = get(proxy.admin, "/metrics").await.text();
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

/// How often a side has found a password good.
async fn judged(proxy: &Proxy, provider: &str) -> f64 {
    let labels = format!("app=\"crm\",provider=\"{provider}\",flow=\"basic\",outcome=\"success\"");
    sum(proxy, &format!("authferry_auth_attempts_total{{{labels}")).await
}

async fn moved(proxy: &Proxy) -> f64 {
    let labels = "app=\"crm\",method=\"credential\",outcome=\"moved\"";
    sum(
        proxy,
        &format!("authferry_session_carryovers_total{{{labels}"),
    )
    .await
}

async fn until(proxy: &Proxy, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed().as_secs() < 60, "{what}: {}", proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether Keycloak itself lets somebody in with a password.
async fn lets_in(name: &str, password: &str) -> bool {
    let client = secret("proxy-ropc-secret");
    let form = format!(
        "grant_type=password&client_id=proxy-ropc&client_secret={client}&username={name}&password={password}"
    );
    token("new", &form).await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_directory_come_to_keycloak_with_their_passwords_and_notice_nothing() {
    let (upstream, behind) = (Echo::start().await, Behind::admin().await);
    // One of them has an account there already, without a password.
    let known =
        json!({ "username": "p1002", "enabled": true, "attributes": { "legacy_uid": ["21002"] } });
    let made = behind.call("POST", "/users", &known.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let proxy = proxy(&yaml(&upstream.url()));

    // A wrong password, and an account that the directory has locked, are nobody's: nothing is asked or made at Keycloak.
    for (name, password) in [("p1001", "wrong"), ("p1003", "wrong"), ("nobody", "wrong")] {
        let refused = ask(&proxy, name, password).await;
        assert_eq!(refused.status, 401, "{name}");
        assert_eq!(behind.accounts(name).await, Vec::<Value>::new());
    }
    assert_eq!(ask(&proxy, "dave", &secret("dave-pw")).await.status, 401);
    let asked = "authferry_provider_request_duration_seconds_count{provider=\"modern\",operation=";
    for operation in ["token", "directory", "provision"] {
        let series = format!("{asked}\"{operation}\"");
        assert_eq!(sum(&proxy, &series).await, 0.0, "{operation}");
    }

    let mut people = Vec::new();
    for (index, name) in ["p1001", "p1002"].into_iter().enumerate() {
        let password = secret(&format!("{name}-pw"));
        let answer = ask(&proxy, name, &password).await;
        assert_eq!(answer.status, 200, "{name}: {}", proxy.log());
        let before = upstream.last();
        let count = index as f64 + 1.0;
        until(&proxy, name, async || moved(&proxy).await == count).await;
        // Keycloak itself says so.
        let accounts = behind.accounts(name).await;
        assert_eq!(accounts.len(), 1, "{name}");
        assert_eq!(
            accounts[0]["attributes"]["legacy_uid"],
            json!([format!("2{}", &name[1..])])
        );
        assert!(lets_in(name, &password).await, "{name}");
        people.push((name, password, accounts[0]["id"].clone(), before));
    }

    // What the directory said is over within a second: from then on Keycloak judges, and nobody notices.
    for (index, (name, password, _, before)) in people.iter().enumerate() {
        let judges = index as f64 + 1.0;
        until(&proxy, name, async || {
            assert_eq!(
                ask(&proxy, name, password).await.status,
                200,
                "{}",
                proxy.log()
            );
            judges <= judged(&proxy, "modern").await
        })
        .await;
        let after = upstream.last();
        for header in ["x-remote-user", "x-remote-name"] {
            assert_eq!(after.all(header), before.all(header), "{header}");
        }
    }
    // A password that is changed at Keycloak is the only one, whatever the directory has.
    let (name, password, id, _) = &people[0];
    let changed = json!({ "type": "password", "value": "chosen-at-keycloak", "temporary": false });
    let path = format!("/users/{}/reset-password", id.as_str().unwrap());
    let set = behind.call("PUT", &path, &changed.to_string()).await;
    assert_eq!(set.status, 204, "{}", set.text());
    for _ in 0..2 {
        assert_eq!(ask(&proxy, name, "chosen-at-keycloak").await.status, 200);
    }
    until(&proxy, "the old password", async || {
        ask(&proxy, name, password).await.status == 401
    })
    .await;
    // What a worker kept of the directory's word is over, too; another spelling is judged anew.
    let at_old = judged(&proxy, "legacy").await;
    assert_eq!(
        ask(&proxy, &name.to_uppercase(), "chosen-at-keycloak")
            .await
            .status,
        200
    );
    assert_eq!(judged(&proxy, "legacy").await, at_old);
    assert_eq!(moved(&proxy).await, 2.0);
    for word in [*name, password.as_str(), "chosen-at-keycloak", "21001"] {
        assert!(!proxy.log().contains(word), "{word}: {}", proxy.log());
    }
    promtool_is_content(&proxy).await;
}

/// An application with a form and sessions of its own.
struct Site {
    port: &'static str,
    cookie: &'static str,
    form: &'static str,
    sign_out: &'static str,
    /// Whether whoever signs in once more gets another session.
    renews: bool,
}

const PHP: Site = Site {
    port: "APP_PHP_PORT",
    cookie: "PHPSESSID",
    form: "/login",
    sign_out: "{ url: \"SITE/logout\", method: get }",
    renews: true,
};

const EXPRESS: Site = Site {
    port: "APP_EXPRESS_PORT",
    cookie: "connect.sid",
    form: "/login",
    sign_out: "{ url: \"SITE/logout\", method: get }",
    renews: true,
};

const DJANGO: Site = Site {
    port: "DOT_PORT",
    cookie: "sessionid",
    form: "/accounts/login/",
    sign_out: "{ url: \"SITE/accounts/ended/\" }",
    renews: false,
};

/// It is the old side, and behind us; everybody is assigned to the new one.
fn with_form(site: &Site) -> String {
    let address = format!("http://127.0.0.1:{}", var(site.port));
    format!(
        r#"
providers:
  legacy:
    session_probe:
      issuer: "{old}"
      owns: {{ cookies: [{cookie}] }}
      introspect: {{ url: "{old}/whoami", cache: 1s }}
      login: {{ upstream_form: {{ start: {form}, fields: {{ username: username, password: password, claim: name, remembered: [none] }} }} }}
      revoke: {sign_out}
      claims: {{ subject: uid, name: user }}
      authoritative: {{ claims: [uid] }}
  modern:
    oidc:
      issuer: "{issuer}"
      client: {{ id: proxy-ropc, secret: {{ file: "{{dir}}/proxy-ropc.secret" }} }}
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid, name: preferred_username }}
      authoritative: {{ claims: [legacy_uid] }}
      directory:
        keycloak: {{ client: {{ id: provisioning, secret: {{ file: "{{dir}}/provisioning.secret" }} }}, key: legacy_uid }}
identity: {{ canonical: {{ template: "uid:{{subject|text}}" }} }}
exchange:
  bridge:
    assertion:
      provider: modern
      client: {{ id: proxy-bridge, secret: {{ file: "{{dir}}/proxy-bridge.secret" }} }}
      issuer: "{origin}/bridge"
      subject: "{{subject|text}}"
      key: {{ file: "{{dir}}/bridge.key" }}
      audiences: [legacy-api]
      also: [account]
apps:
  crm:
    hosts: [127.0.0.1]
    upstream: {{ url: "{old}" }}
    identity_headers: {{ X-Remote-User: "{{subject|text}}" }}
    public_paths: [/login, /logout, /accounts/*]
    forward_credentials: true
rollout: {{ from: legacy, to: modern, bucketing: {{ salt: real }}, percent: 100 }}
sessions: {{ carry_over: [wrap, exchange, credential], revalidate: 5s }}
{server}"#,
        old = address,
        cookie = site.cookie,
        form = site.form,
        sign_out = site.sign_out.replace("SITE", &address),
        issuer = keycloak(),
        origin = origin(),
        server = server_section(),
    )
}

/// We stand before the application, and Keycloak knows our registrations.
async fn before(site: &Site) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    for client in ["proxy-ropc", "proxy-bridge", "provisioning"] {
        let text = secret(&format!("{client}-secret"));
        std::fs::write(dir.path().join(format!("{client}.secret")), text).unwrap();
    }
    let key = format!("{}/pki/jwt.key", var("IDPS_RUN"));
    std::fs::copy(key, dir.path().join("bridge.key")).unwrap();
    let proxy = Proxy::start_in(dir, &with_form(site));
    proxy.settled().await;
    proxy
}

/// A form password of somebody who is assigned, whether Keycloak knows them already or not: they go on with the session of the
/// application. `visitor`: whether the form itself gives a cookie, which is nobody's. Returns how many passwords have moved.
async fn comes_to_keycloak(site: &Site, people: &[(&str, &str, bool)], visitor: bool) -> f64 {
    let behind = Behind::admin().await;
    let proxy = before(site).await;
    let form = format!("{}{}", origin(), site.form);
    let page = format!("{}/whoami", origin());
    for (index, (name, uid, known)) in people.iter().enumerate() {
        let before = behind.accounts(name).await;
        assert_eq!(before.len(), usize::from(*known), "{name}");
        let mut browser = Browser::default();
        // The wrong one moves nobody.
        let wrong = browser.open(&form, Some((name, "wrong"))).await;
        assert_eq!(wrong.url, form, "{name}: {}", proxy.log());
        assert_eq!(behind.accounts(name).await.len(), before.len(), "{name}");
        let authority = origin().replace("http://", "");
        let line = browser.cookie_line(&authority);
        assert_eq!(line.contains(site.cookie), visitor, "{line}");
        // The same browser once more, with what it has got.
        let password = secret(&format!("{name}-pw"));
        let landed = browser.open(&form, Some((name, &password))).await;
        let told = (&landed.url, landed.answer.text());
        assert_eq!(
            landed.answer.status,
            200,
            "{name}: {told:?} {}",
            proxy.log()
        );
        assert_eq!(landed.url, page, "{name}");
        let count = index as f64 + 1.0;
        until(&proxy, name, async || moved(&proxy).await == count).await;
        // Keycloak itself says so.
        let accounts = behind.accounts(name).await;
        assert_eq!(accounts.len(), 1, "{name}");
        assert_eq!(accounts[0]["attributes"]["legacy_uid"], json!([uid]));
        assert!(lets_in(name, &password).await, "{name}");
        for _ in 0..3 {
            let next = browser.open(&page, None).await;
            assert_eq!(next.answer.status, 200, "{name}: {}", proxy.log());
            assert_eq!(next.url, page, "{name}: {}", proxy.log());
            let said = next.answer.text().to_ascii_lowercase().replace(' ', "");
            let told = format!("\"x-remote-user\":\"{uid}\"");
            assert!(said.contains(&told), "{said}");
        }
        // No other form than that of the application.
        assert_eq!(browser.forms.len(), 2, "{:?}", browser.forms);
        for word in [name, password.as_str(), uid] {
            assert!(!proxy.log().contains(word), "{word}: {}", proxy.log());
        }
        // Whoever is signed in and fills it in again moves nobody once more, whatever they type.
        let again = browser.open(&form, Some((name, &password))).await;
        assert_eq!(again.answer.status, 200, "{name}: {}", proxy.log());
        if site.renews {
            until(&proxy, name, async || stays(&proxy).await == count).await;
        }
        assert_eq!(moved(&proxy).await, count, "{name}: {}", proxy.log());
    }
    // An application that lives by its own cookie keeps its sessions, which ours stand for.
    let exchanged = "app=\"crm\",method=\"exchange\",outcome=\"moved\"";
    let exchanged = format!("authferry_session_carryovers_total{{{exchanged}");
    assert_eq!(sum(&proxy, &exchanged).await, 0.0, "{}", proxy.log());
    // Whoever fills it in once more has moved already.
    let (name, ..) = people.last().unwrap();
    let mut browser = Browser::default();
    let password = secret(&format!("{name}-pw"));
    let landed = browser.open(&form, Some((name, &password))).await;
    assert_eq!(landed.answer.status, 200, "{}", proxy.log());
    moved(&proxy).await
}

/// How many passwords stayed where they are although the application has signed somebody in.
async fn stays(proxy: &Proxy) -> f64 {
    let labels = "app=\"crm\",method=\"credential\",outcome=\"refused\"";
    sum(
        proxy,
        &format!("authferry_session_carryovers_total{{{labels}"),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_in_the_form_of_a_php_application_comes_to_keycloak_with_the_password() {
    let people = [("bob", "1002", true)];
    let moved = comes_to_keycloak(&PHP, &people, true).await;
    assert_eq!(moved, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_in_the_form_of_an_express_application_comes_to_keycloak_with_the_password() {
    let people = [("carol", "1003", true)];
    assert_eq!(comes_to_keycloak(&EXPRESS, &people, false).await, 1.0);
    // Whoever has still to show a second factor is nobody yet.
    let behind = Behind::admin().await;
    let proxy = before(&EXPRESS).await;
    let form = format!("{}{}", origin(), EXPRESS.form);
    let password = secret("grace-pw");
    let known = behind.accounts("grace").await;
    let mut browser = Browser::default();
    browser.open(&form, Some(("grace", &password))).await;
    assert!(!browser.forms.is_empty());
    // Carol, who has moved, is signed in after her: whatever came of the first form is over.
    let carol = secret("carol-pw");
    let landed = Browser::default()
        .open(&form, Some(("carol", &carol)))
        .await;
    assert_eq!(landed.answer.status, 200, "{}", proxy.log());
    assert_eq!(behind.accounts("grace").await, known, "{}", proxy.log());
    assert_eq!(moved(&proxy).await, 0.0, "{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_in_the_form_of_a_django_application_comes_to_keycloak_with_the_password() {
    let people = [("erin", "1005", false)];
    assert_eq!(comes_to_keycloak(&DJANGO, &people, false).await, 1.0);
    // Other tests know her as somebody whom Keycloak does not know.
    Behind::admin().await.forgets("erin").await;
}
