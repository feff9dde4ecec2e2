//! The old side as it is found: a session cookie, opaque tokens, passwords in a directory.

use serde_json::Value;

use crate::browser::Browser;
use crate::browser::encode;
use crate::harness::Echo;
use crate::harness::request;
use crate::modern::token_of;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::two_sides;
use crate::var;

const BASIC_BOB: &str = "bob";

/// `two_sides` with another old side: the lines of `legacy:` are replaced.
fn with_legacy(upstream: &str, provider: &str) -> String {
    let all = two_sides(upstream, "50");
    let (before, rest) = all.split_once("  legacy:\n").unwrap();
    let after = &rest[rest.find("  modern:\n").unwrap()..];
    // Nobody signs in by browser here: a side with a login beside one without would be refused.
    let client = "      client: { id: proxy, secret: { file: \"{dir}/proxy.secret\" } }\n";
    let after = after
        .replace(client, "")
        .replace("      scopes: [openid, profile, email, groups]\n", "");
    // Old systems number their people and do not always list groups.
    let after = after
        .replace("{groups|sort|join:,}", "{groups|sort|join:,|omit}")
        .replace("{subject}", "{subject|text}")
        .replace("{name}", "{name|omit}");
    format!("{before}  legacy:\n{provider}{after}")
}

/// The directory as the old side, over `url`.
pub(crate) fn directory(upstream: &str, url: &str) -> String {
    let provider = format!(
        "    ldap:\n      issuer: \"{url}\"\n      url: \"{url}\"\n      user_dn: \"uid={{username}},ou=people,dc=legacy,dc=test\"\n      \
         {ca}attributes: [uid, employeeNumber, mail]\n      \
         groups: {{ base: \"ou=groups,dc=legacy,dc=test\", filter: \"(member={{dn}})\", attribute: cn }}\n      \
         claims: {{ subject: employeeNumber, name: uid, groups: groups }}\n      authoritative: {{ claims: [employeeNumber] }}\n",
        ca = if url.starts_with("ldaps:") {
            format!("ca: {{ file: \"{}/pki/ca.crt\" }}\n      ", var("IDPS_RUN"))
        } else {
            String::new()
        },
    );
    with_legacy(upstream, &provider)
}

/// The `Authorization` field of a name and a password.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", base64(&format!("{name}:{password}")))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_php_application_is_judged_by_that_application() {
    let upstream = Echo::start().await;
    let php = format!("http://127.0.0.1:{}", var("APP_PHP_PORT"));
    let provider = format!(
        "    session_probe:\n      issuer: \"{php}\"\n      owns: {{ cookies: [PHPSESSID] }}\n      introspect: {{ url: \"{php}/whoami\" }}\n      \
         claims: {{ subject: uid, name: user, groups: groups }}\n      authoritative: {{ claims: [uid] }}\n"
    );
    let proxy = proxy(&with_legacy(&upstream.url(), &provider));
    let mut browser = Browser::default();
    let landed = browser
        .open(&format!("{php}/login"), Some(("bob", &secret("bob-pw"))))
        .await;
    assert_eq!(landed.answer.status, 200, "{}", landed.answer.text());
    let cookie = browser.cookie_line(php.strip_prefix("http://").unwrap());
    assert!(cookie.contains("PHPSESSID="), "{cookie}");

    let fields = [("Host", "127.0.0.1"), ("Cookie", cookie.as_str())];
    let answer = request(proxy.address, "GET", "/x", &fields, b"").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let seen = upstream.last();
    assert_eq!(seen.all("x-remote-user"), ["1002"]);
    assert_eq!(seen.all("x-remote-groups"), ["beta,testers"]);

    let unknown = [
        ("Host", "127.0.0.1"),
        ("Cookie", "PHPSESSID=0123456789abcdef0123456789"),
    ];
    assert_eq!(
        request(proxy.address, "GET", "/x", &unknown, b"")
            .await
            .status,
        401
    );
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_applications_keep_their_own_sessions_behind_us_and_learn_who_it_is() {
    for (port, cookie, forms) in [
        ("APP_PHP_PORT", "PHPSESSID", ["/login", "/logout"]),
        ("APP_EXPRESS_PORT", "connect.sid", ["/login", "/logout"]),
        // Its sessions are rows of a table, and it signs nobody out but by a form.
        (
            "DOT_PORT",
            "sessionid",
            ["/accounts/login/", "/accounts/leave/"],
        ),
    ] {
        let [sign_in, sign_out] = forms;
        let site = format!("http://127.0.0.1:{}", var(port));
        let provider = format!(
            "    session_probe:\n      issuer: \"{site}\"\n      owns: {{ cookies: [{cookie}] }}\n      introspect: {{ url: \"{site}/whoami\", cache: 1s }}\n      \
             claims: {{ subject: uid, name: user, groups: groups }}\n      authoritative: {{ claims: [uid] }}\n"
        );
        let yaml = with_legacy(&site, &provider).replace(
            "    public_paths: [/public/*]\n",
            "    public_paths: [/login, /logout, /accounts/*]\n    forward_credentials: true\n",
        );
        let proxy = proxy(&yaml);
        let mut browser = Browser::default();
        // Nobody without a session sees the application, but for its own form.
        let stranger = [("Host", "127.0.0.1")];
        let answer = request(proxy.address, "GET", "/whoami", &stranger, b"").await;
        assert_eq!(answer.status, 401, "{}", answer.text());

        let landed = browser
            .open(
                &format!("{}{sign_in}", origin()),
                Some(("bob", &secret("bob-pw"))),
            )
            .await;
        assert_eq!(
            landed.url,
            format!("{}/whoami", origin()),
            "{}",
            proxy.log()
        );
        // It may come in chunks.
        let text = landed.answer.text();
        let json = text.find('{').zip(text.rfind('}'));
        let (from, to) = json.unwrap_or_else(|| panic!("{text}\n{}", proxy.log()));
        let seen: Value = serde_json::from_str(&text[from..=to]).unwrap();
        assert_eq!(seen["user"], "bob", "its own session");
        let headers = seen["headers"].as_object().unwrap();
        let header = |name: &str| {
            let mut all = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let found = all.next().map(|(_, value)| value.as_str().unwrap());
            assert!(all.next().is_none(), "{name} twice");
            found
        };
        assert_eq!(header("x-remote-user"), Some("1002"));
        assert_eq!(header("x-remote-name"), Some("bob"));
        assert_eq!(header("x-remote-groups"), Some("beta,testers"));

        // Its sign-out is ours: the session that it ended is judged by it, and ended.
        let kept = browser.cookie_line(origin().strip_prefix("http://").unwrap());
        assert!(kept.contains(cookie), "{kept}");
        let left = browser.open(&format!("{}{sign_out}", origin()), None).await;
        if left.answer.text().contains("Sign out") {
            browser.press(&left, "").await;
        }
        let fields = [("Host", "127.0.0.1"), ("Cookie", kept.as_str())];
        // At the latest when the answer is asked for again.
        crate::operators::until(async || {
            let answer = request(proxy.address, "GET", "/whoami", &fields, b"").await;
            answer.status == 401
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_of_django_is_introspected_there() {
    let upstream = Echo::start().await;
    let dot = format!("127.0.0.1:{}", var("DOT_PORT"));
    let provider = format!(
        "    introspection:\n      issuer: \"http://{dot}/o\"\n      url: \"http://{dot}/o/introspect/\"\n      \
         client: {{ id: legacy-api, secret: {{ file: \"{{dir}}/legacy-api.secret\" }} }}\n      claims: {{ subject: legacy_uid, name: username, groups: groups }}\n      \
         authoritative: {{ claims: [legacy_uid] }}\n"
    );
    let proxy = proxy(&with_legacy(&upstream.url(), &provider));
    let form = format!(
        "grant_type=password&username=bob&password={}&scope=openid",
        encode(&secret("bob-pw"))
    );
    let basic = format!(
        "Basic {}",
        base64(&format!("proxy-ropc:{}", secret("proxy-ropc-secret")))
    );
    let fields = [
        ("Host", dot.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", basic.as_str()),
    ];
    let answer = request(
        dot.parse().unwrap(),
        "POST",
        "/o/token/",
        &fields,
        form.as_bytes(),
    )
    .await;
    let json: Value =
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()));
    let token = json["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{json}"))
        .to_owned();

    let bearer = format!("Bearer {token}");
    let answer = request(
        proxy.address,
        "GET",
        "/x",
        &[("Host", "127.0.0.1"), ("Authorization", &bearer)],
        b"",
    )
    .await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let old = upstream.last();
    assert_eq!(old.all("x-remote-user"), ["1002"]);
    assert_eq!(old.all("x-remote-groups"), ["beta,testers"]);

    let unknown = request(
        proxy.address,
        "GET",
        "/x",
        &[
            ("Host", "127.0.0.1"),
            ("Authorization", "Bearer nobody-issued-this"),
        ],
        b"",
    )
    .await;
    assert_eq!(unknown.status, 401);
    // The other side's tokens go to their own issuer, not to this endpoint: there he is the same person, to the byte.
    let modern = format!("Bearer {}", token_of("bob").await);
    let answer = request(
        proxy.address,
        "GET",
        "/x",
        &[("Host", "127.0.0.1"), ("Authorization", &modern)],
        b"",
    )
    .await;
    assert_eq!(answer.status, 200);
    let new = upstream.last();
    for header in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
        assert_eq!(new.all(header), old.all(header), "{header}");
    }
    assert_eq!(upstream.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_judges_passwords_by_bind_and_names_the_groups() {
    for url in [
        format!("ldap://127.0.0.1:{}", var("LDAP_PORT")),
        format!("ldaps://127.0.0.1:{}", var("LDAPS_PORT")),
    ] {
        let upstream = Echo::start().await;
        let proxy = proxy(&directory(&upstream.url(), &url));
        let ask = async |name: &str, password: &str| {
            let basic = basic(name, password);
            request(
                proxy.address,
                "GET",
                "/x",
                &[("Host", "127.0.0.1"), ("Authorization", &basic)],
                b"",
            )
            .await
        };
        let answer = ask(BASIC_BOB, &secret("bob-pw")).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
        let seen = upstream.last();
        assert_eq!(seen.all("x-remote-user"), ["1002"]);
        assert_eq!(seen.all("x-remote-name"), ["bob"]);
        assert_eq!(seen.all("x-remote-groups"), ["beta,testers"]);

        for (name, password) in [
            (BASIC_BOB, "wrong".to_owned()),
            (BASIC_BOB, String::new()),
            ("dave", secret("dave-pw")),
            ("nobody", "x".to_owned()),
            ("bob,ou=people", secret("bob-pw")),
            ("*", secret("bob-pw")),
        ] {
            let answer = ask(name, &password).await;
            assert_eq!(answer.status, 401, "{name}: {}", answer.text());
            assert!(answer.header("www-authenticate").is_some());
        }
        assert_eq!(upstream.hits(), 1);
    }
}
