//! The least class of a login on a path, and the mark of a fallback's session.

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
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
