//! A client cannot say who it is in a header, in any spelling, on any route.

use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_about_a_token_within_the_leeway_can_be_used() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50).replace(
        "    public_paths:",
        "    assertion: { header: X-Assertion, issuer: \"https://proxy.test\", ttl: 5m }\n    public_paths:",
    );
    let proxy = Proxy::start(&yaml);
    for (left, wanted) in [(-10, 15..=20), (60, 60..=90), (600, 250..=300)] {
        let now = crate::harness::now();
        let mut claims = new.claims("alice");
        claims.insert(
            "exp".to_owned(),
            serde_json::json!(i64::try_from(now).unwrap() + left),
        );
        let acts = serde_json::json!({ "sub": "bot", "act": { "sub": "before" } });
        if left == 600 {
            claims.insert("act".to_owned(), acts.clone());
        }
        let token = format!("Bearer {}", new.sign(&claims));
        let answer = request(
            proxy.address,
            "GET",
            "/x",
            &[("Authorization", &token)],
            b"",
        )
        .await;
        assert_eq!(answer.status, 200, "{left}: {}", answer.text());
        let assertion = upstream.last().all("x-assertion").remove(0);
        let said = verified(&proxy, &assertion).await;
        let ends = said["exp"].as_u64().unwrap();
        // It was made between these two moments, which a busy machine may put far apart.
        let (longest, shortest) = (ends - now, ends.saturating_sub(crate::harness::now()));
        assert!(
            *wanted.start() <= longest && shortest <= *wanted.end(),
            "{left}: {shortest} to {longest}"
        );
        assert_eq!(
            (&said["sub"], &said["aud"]),
            (&"uid-alice".into(), &"crm".into())
        );
        // Whoever acts for her is not taken for her.
        assert_eq!(said.get("act"), (left == 600).then_some(&acts));
    }
}

/// The claims of an assertion, as an application learns them that fetches our keys and trusts nothing else.
async fn verified(proxy: &Proxy, assertion: &str) -> serde_json::Value {
    let keys = request(proxy.address, "GET", "/.authferry/jwks.json", &[], b"").await;
    assert_eq!(keys.status, 200, "{}", keys.text());
    let keys: serde_json::Value = serde_json::from_slice(&keys.body).unwrap();
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice::<serde_json::Value>(&decoded(part)).unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let head = json(header);
    assert_eq!(head["alg"], "ES256");
    let mut of_this_name = keys["keys"].as_array().unwrap().iter();
    let key = of_this_name.find(|key| key["kid"] == head["kid"]).unwrap();
    assert_eq!((&key["kty"], &key["crv"]), (&"EC".into(), &"P-256".into()));
    assert!(key.get("d").is_none(), "only what everybody may know");
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        point.extend(decoded(key[coordinate].as_str().unwrap()));
    }
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let signature = decoded(signature);
    assert!(key.verify(signed.as_bytes(), &signature).is_ok());
    // A byte of the header, of the claims, of the signature.
    for at in [3, header.len() + 3, signed.len() - 1] {
        let mut changed = signed.as_bytes().to_vec();
        changed[at] ^= 1;
        assert!(key.verify(&changed, &signature).is_err(), "byte {at}");
    }
    let mut changed = signature;
    changed[10] ^= 1;
    assert!(key.verify(signed.as_bytes(), &changed).is_err());
    json(claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_which_origin_answered() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let (upstream, second) = (Echo::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50).replace(
        "    public_paths: [/public/*]\n",
        &format!("    routes: [{{ path: /other, access: public, upstream: {{ url: \"{}\" }} }}, {{ path: /here, access: public }}, {{ path: /* }}]\n", second.url()),
    );
    let proxy = Proxy::start(&format!(
        "{yaml}\ntelemetry: {{ access_log: {{ file: {{dir}}/access.log }} }}\n"
    ));
    for target in ["/here", "/other", "/closed"] {
        request(proxy.address, "GET", target, &[], b"").await;
    }
    let mut lines = Vec::new();
    crate::reload::until(async || {
        let text = std::fs::read_to_string(proxy.dir().join("access.log")).unwrap_or_default();
        let parsed = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines = parsed
            .filter(|line: &serde_json::Value| line["event"] == "access")
            .collect();
        lines.len() == 3
    })
    .await;
    let of = |path: &str| {
        let line = lines.iter().find(|line| line["path"] == path).unwrap();
        line["upstream"]
            .as_str()
            .map(|origin| format!("http://{origin}"))
    };
    assert_eq!(of("/here"), Some(upstream.url()));
    assert_eq!(of("/other"), Some(second.url()));
    assert_eq!(of("/closed"), None, "nobody answered but we");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_steers_does_so_from_its_peers_and_travels_from_them_alone() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 0);
    for (peers, steers) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let cohort = format!(
            "    - {{ cohort: beta, to: new }}\ncohorts: {{ beta: {{ header: {{ name: X-Beta, equals: \"1\", trusted_from: [\"{peers}\"] }} }} }}\n"
        );
        let proxy = Proxy::start(&yaml.replace("    - { percent: 0, to: new }\n", &cohort));
        let starts_at = async |fields: &[(&str, &str)]| {
            let navigation = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
            let fields: Vec<_> = navigation.iter().chain(fields).copied().collect();
            let answer = request(proxy.address, "GET", "/", &fields, b"").await;
            let location = answer.header("location").unwrap().to_owned();
            if location.starts_with(&new.issuer()) {
                "new"
            } else {
                "old"
            }
        };
        let side = if steers { "new" } else { "old" };
        assert_eq!(starts_at(&[("X-Beta", "1")]).await, side);
        assert_eq!(starts_at(&[("X-Beta", "0")]).await, "old");
        assert_eq!(starts_at(&[("X-Beta", "1"), ("X-Beta", "1")]).await, "old");
        assert_eq!(starts_at(&[]).await, "old");

        for name in ["X-Beta", "x_beta", "X.Beta"] {
            let answer = request(proxy.address, "GET", "/public/x", &[(name, "1")], b"").await;
            assert_eq!(answer.status, 200);
            let seen = upstream.last();
            assert_eq!(seen.all(name).len(), usize::from(steers), "{}", seen.head);
        }
    }
}
