//! A client cannot say who it is in a header, in any spelling, on any route.

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::two_providers;

const FORGED: &[&str] = &[
    "X-Remote-User",
    "x_remote_user",
    "X.Remote.User",
    "X-Remote_User",
    "X~Remote~User",
    "X-Remote-User-",
    "X--Remote--User",
    "REMOTE_USER",
    "Remote-User",
    "SM_USER",
    "X-WEBAUTH-USER",
    "X-Forwarded-User",
    "X-Forwarded-Preferred-Username",
    "OIDC_CLAIM_sub",
    "SSL_CLIENT_S_DN",
    "X-Auth-Request-User",
];

#[tokio::test(flavor = "multi_thread")]
async fn forged_identity_headers_are_dropped_with_and_without_a_credential() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    let token = format!("Bearer {}", new.token("alice"));
    for name in FORGED {
        let open = request(
            proxy.address,
            "GET",
            "/public/x",
            &[(name, "intruder")],
            b"",
        )
        .await;
        assert!([200, 400].contains(&open.status), "{name}: {}", open.status);
        let closed = request(
            proxy.address,
            "GET",
            "/x",
            &[("Authorization", &token), (name, "intruder")],
            b"",
        )
        .await;
        assert!(
            [200, 400].contains(&closed.status),
            "{name}: {}",
            closed.status
        );
    }
    assert!(FORGED.len() < upstream.hits());
    for seen in upstream.seen() {
        assert!(!seen.head.contains("intruder"), "{}", seen.head);
    }
    assert_eq!(upstream.last().all("x-remote-user"), ["uid-alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nominated_header_is_dropped_and_identity_stays() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    let token = format!("Bearer {}", new.token("alice"));
    for connection in [
        "x-remote-user",
        "close, X-REMOTE-USER",
        "x-custom , ,x-remote-groups",
    ] {
        let fields = [
            ("Authorization", token.as_str()),
            ("Connection", connection),
            ("X-Custom", "1"),
        ];
        let answer = request(proxy.address, "GET", "/x", &fields, b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            upstream.last().all("x-remote-user"),
            ["uid-alice"],
            "{connection}"
        );
    }
    assert!(upstream.last().all("x-custom").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_of_a_stranger_are_replaced() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    let fields = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "https"),
    ];
    assert_eq!(
        request(proxy.address, "GET", "/public/", &fields, b"")
            .await
            .status,
        200
    );
    let seen = upstream.last();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert!(
        !seen.head.contains("evil.test") && !seen.head.contains("203.0.113.9"),
        "{}",
        seen.head
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_a_header_is_a_denial_not_a_missing_header() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    for (claim, value) in [
        ("name", serde_json::json!("a\r\nX-Remote-User: root")),
        ("groups", serde_json::json!(["a,admins"])),
        ("name", serde_json::json!({ "nested": true })),
        ("name", serde_json::json!("x".repeat(40_000))),
    ] {
        let mut claims = new.claims("alice");
        claims.insert(claim.to_owned(), value);
        let token = format!("Bearer {}", new.sign(&claims));
        let answer = request(
            proxy.address,
            "GET",
            "/x",
            &[("Authorization", &token)],
            b"",
        )
        .await;
        assert!(
            [400, 401, 403, 431].contains(&answer.status),
            "{claim}: {}",
            answer.status
        );
    }
    assert_eq!(upstream.hits(), 0);
}
