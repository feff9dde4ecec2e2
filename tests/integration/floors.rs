//! The least class of a login on a path, and the mark of a fallback's session.

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::two_providers;

async fn call(proxy: &Proxy, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let fields = [("Host", "app.test"), ("Authorization", &bearer)];
    request(proxy.address, "GET", path, &fields, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_has_a_floor_whichever_route_it_is_and_a_stronger_login_is_enough() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100);
    let app = "    hosts: [app.test]\n";
    assert!(yaml.contains(app));
    let floor =
        format!("{app}    assurance_floor: {{ \"/admin/*\": mfa, \"/admin/keys/*\": hwk }}\n");
    let verify = "verify: { audiences: [app]";
    let acr = "assurance: { acr_claim: acr, map: { \"1\": pwd, \"2\": mfa, \"3\": hwk } }, verify: { audiences: [app]";
    assert!(yaml.contains(verify), "{yaml}");
    let yaml = yaml.replace(app, &floor).replace(verify, acr);
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let token = |acr: &str| {
        let mut claims = new.claims("alice");
        claims.insert("acr".to_owned(), acr.into());
        new.sign(&claims)
    };
    for (acr, path, status) in [
        ("1", "/", 200),
        ("1", "/admin", 401),
        ("1", "/admin/x", 401),
        ("1", "/administration", 200),
        ("2", "/admin", 200),
        ("2", "/admin/x", 200),
        ("2", "/admin/keys/1", 401),
        ("3", "/admin/keys/1", 200),
        ("3", "/admin/x", 200),
        ("9", "/admin/x", 401),
    ] {
        let said = call(&proxy, path, &token(acr)).await;
        assert_eq!(said.status, status, "{acr} {path}\n{}", proxy.log());
        if status == 401 {
            let challenge = said.header("www-authenticate").unwrap_or_default();
            assert!(
                challenge.contains("insufficient_user_authentication"),
                "{challenge}"
            );
        }
    }
    let missing = call(&proxy, "/admin/x", &new.token("alice")).await;
    assert_eq!(missing.status, 401, "a login that says nothing of itself");
}

/// A page that a session is not enough for: its person signs in once more, at the provider that vouched for it, in the way that
/// the page wants.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_whose_session_is_too_weak_for_a_page_signs_in_better_at_its_provider() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100).replace("[app.test]", "[127.0.0.1]");
    let public = "    public_paths: [/public/*]\n";
    let verify = "verify: { audiences: [app]";
    assert!(yaml.contains(public) && yaml.contains(verify), "{yaml}");
    let routes = r#"    routes:
      - { path: "/strict/*", require: { acr: [mfa], max_age: 5m } }
      - { path: "/*" }
"#;
    let acr = "assurance: { acr_claim: acr, map: { \"1\": pwd, \"2\": mfa } }, verify: { audiences: [app]";
    let proxy = Proxy::start(&yaml.replace(public, routes).replace(verify, acr));
    proxy.settled().await;
    let fresh = || serde_json::json!(crate::harness::now());
    let weak = || {
        new.says("acr", "1".into());
        new.says("auth_time", fresh());
    };
    let session = |browser: &Browser| browser.0["authferry"].clone();
    for comes_back_stronger in [true, false] {
        weak();
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        browser.sign_in(&proxy, &start).await;
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        let before = session(&browser);
        let begun = browser.open(&proxy, "/strict/a?b=c").await;
        assert_eq!(begun.status, 302, "{}", proxy.log());
        let to = begun.header("location").unwrap().to_owned();
        assert!(to.starts_with(&new.issuer()), "{to}");
        let says = |pair: &str| to.split(['?', '&']).any(|part| part == pair);
        assert!(says("acr_values=2") && says("max_age=300"), "{to}");
        // What it is enough for goes on.
        assert_eq!(session(&browser), before);
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        if comes_back_stronger {
            new.says("acr", "2".into());
            new.says("auth_time", fresh());
            let back = browser.sign_in(&proxy, &begun).await;
            let link = Some("/strict/a?b=c");
            assert_eq!((back.status, back.header("location")), (303, link));
            assert_ne!(session(&browser), before);
            for path in ["/strict/a?b=c", "/"] {
                assert_eq!(browser.open(&proxy, path).await.status, 200, "{path}");
            }
        } else {
            // A provider that does not do as it is asked: not for ever.
            let mut next = begun;
            let mut rounds = 0;
            while next.status == 302 {
                rounds += 1;
                assert!(rounds < 9, "in circles");
                assert_eq!(browser.sign_in(&proxy, &next).await.status, 303);
                next = browser.open(&proxy, "/strict/a?b=c").await;
            }
            assert_eq!(next.status, 409, "{}", next.text());
            assert!(2 < rounds, "{rounds}");
        }
    }
    assert_eq!(old.hits("/authorize"), 0);
}
