//! Another proxy asks what is decided: what it says is believed where it is listed, and judged as if it had come here.

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::two_providers;

pub(crate) fn config(old: &Idp, new: &Idp, upstream: &Echo, trusted: &str) -> String {
    let text = two_providers(old, new, upstream, 100).replace(
        "    public_paths",
        "    forward_auth: true\n    public_paths",
    );
    format!(
        "server: {{ listen: 127.0.0.1:0, trusted_proxies: [{trusted}], admin: {{ listen: 127.0.0.1:0 }}, state_dir: \"{{dir}}/state\" }}\n{text}"
    )
}

/// Asks as Traefik and Caddy do, with a status only as nginx does, or as Envoy does.
async fn ask(proxy: &Proxy, way: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-For", "192.0.2.7"),
    ];
    let at = if way == "ext_authz" {
        format!("/.authferry/ext_authz{target}")
    } else {
        all.extend([
            ("Host", "authferry.internal"),
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Host", "app.test"),
            ("X-Forwarded-Uri", target),
        ]);
        format!("/.authferry/{way}")
    };
    all.extend_from_slice(fields);
    request(proxy.address, "GET", &at, &all, b"").await
}

const WAYS: [&str; 3] = ["decide", "forward_auth", "ext_authz"];

#[tokio::test(flavor = "multi_thread")]
async fn each_way_gets_the_decision_with_every_identity_header() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream, "127.0.0.1/32"));
    proxy.settled().await;
    let bearer = format!("Bearer {}", new.token("alice"));
    for way in WAYS {
        let fields = [
            ("Authorization", bearer.as_str()),
            ("X-Remote-User", "root"),
            ("Cookie", "a=b; authferry_dev=x; c=d"),
        ];
        let yes = ask(&proxy, way, "/report?year=2026", &fields).await;
        assert_eq!(yes.status, 200, "{way} {}\n{}", yes.text(), proxy.log());
        assert_eq!(yes.all("x-remote-user"), ["uid-alice"]);
        assert_eq!(yes.all("cookie"), ["a=b; c=d"], "our cookies stay here");
        assert_eq!(yes.all("authorization"), [""], "as if we forwarded");
        let removed = yes.all("x-envoy-auth-headers-to-remove");
        assert_eq!(removed, ["authorization"], "{way}");
        let open = ask(&proxy, way, "/public/a", &[("X-Remote-User", "root")]).await;
        assert_eq!(open.status, 200, "{way}");
        for name in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
            assert_eq!(open.all(name), [""], "replaced by nothing: {way}");
        }
        let removed = open.header("x-envoy-auth-headers-to-remove").unwrap();
        let mut removed: Vec<_> = removed.split(',').collect();
        removed.sort_unstable();
        assert_eq!(
            removed,
            [
                "authorization",
                "cookie",
                "x-remote-groups",
                "x-remote-name",
                "x-remote-user"
            ],
            "{way}"
        );
        let no = ask(&proxy, way, "/report", &[]).await;
        assert_eq!(no.status, 401, "{way}");
        let page = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
        let sent = ask(&proxy, way, "/report?a=b", &page).await;
        if way == "decide" {
            assert_eq!(sent.status, 401, "a status is all it understands");
            assert!(sent.cookies().is_empty() && sent.header("location").is_none());
        } else {
            assert_eq!(sent.status, 302, "{way}");
            assert!(sent.header("location").unwrap().starts_with(&new.issuer()));
            assert!(!sent.cookies().is_empty());
        }
    }
    assert_eq!(upstream.hits(), 0, "nothing is forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_for_somebody_who_is_to_sign_in_elsewhere_admits_nobody() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let config = format!(
        "{}pages: {{ changed: true }}\n",
        config(&old, &new, &upstream, "127.0.0.1/32")
    );
    let proxy = Proxy::start(&config);
    proxy.settled().await;
    for way in WAYS {
        let page = [("Accept", "text/html"), ("X-Remote-User", "root")];
        let told = ask(&proxy, way, "/report", &page).await;
        assert_eq!(told.status, 401, "{way} {}", told.text());
        assert_eq!(
            told.text().contains("sign-in page has changed"),
            way != "decide",
            "{way} {}",
            told.text()
        );
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_question_another_spelling_and_a_stranger_get_no_decision() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream, "127.0.0.1/32"));
    proxy.settled().await;
    let bearer = format!("Bearer {}", new.token("alice"));
    let known = ("Authorization", bearer.as_str());
    for way in WAYS {
        for (target, fields) in [
            ("/public//../report", vec![]),
            ("//public/a", vec![]),
            ("/public/%2e%2e/report", vec![]),
            ("/report", vec![("X_Remote_User", "root")]),
            ("/report", vec![("X-Remote_User", "root")]),
            ("/report", vec![("X-Forwarded-Proto", "https")]),
        ] {
            let fields = [&[known][..], &fields].concat();
            let answer = ask(&proxy, way, target, &fields).await;
            assert_eq!(answer.status, 400, "{way} {target} {fields:?}");
            assert!(answer.header("x-remote-user").is_none());
        }
        for target in ["/.authferry/login", "/.authferry/cb/new?state=x"] {
            assert_eq!(ask(&proxy, way, target, &[known]).await.status, 403);
        }
    }
    for left_out in [
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
    ] {
        let all = [
            known,
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Host", "app.test"),
            ("X-Forwarded-Uri", "/report"),
        ];
        let some: Vec<_> = all
            .into_iter()
            .filter(|(name, _)| *name != left_out)
            .collect();
        let answer = request(proxy.address, "GET", "/.authferry/decide", &some, b"").await;
        assert_eq!(answer.status, 400, "without {left_out}");
    }
    let elsewhere = [
        known,
        ("X-Forwarded-Host", "other.test"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/"),
    ];
    let answer = request(proxy.address, "GET", "/.authferry/decide", &elsewhere, b"").await;
    assert_eq!(answer.status, 404, "no application");
    // A WebSocket of another site, and one where the route has none.
    let tunnel = [
        known,
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    assert_eq!(
        ask(&proxy, "forward_auth", "/ws", &tunnel).await.status,
        403
    );
    // Where it has one, a proxy may not go over to anything else.
    let one = config(&old, &new, &upstream, "127.0.0.1/32").replace(
        "    public_paths: [/public/*]\n",
        "    routes:\n      - { path: /public/*, access: public }\n      - { path: /ws, websocket: true }\n      - { path: /* }\n",
    );
    let proxy = Proxy::start(&one);
    proxy.settled().await;
    for (protocol, status) in [("websocket", 200), ("h2c", 403), ("websocket, h2c", 403)] {
        let upgrade = [known, ("Upgrade", protocol)];
        let answer = ask(&proxy, "forward_auth", "/ws", &upgrade).await;
        assert_eq!(answer.status, status, "{protocol}");
    }

    let proxy = Proxy::start(&config(&old, &new, &upstream, "192.0.2.1/32"));
    proxy.settled().await;
    for way in WAYS {
        let answer = ask(&proxy, way, "/report", &[("Host", "app.test"), known]).await;
        assert!(
            [400, 403, 404].contains(&answer.status),
            "{way} {}",
            answer.status
        );
        assert!(answer.header("x-remote-user").is_none());
    }
    let closed = config(&old, &new, &upstream, "127.0.0.1/32")
        .replace("forward_auth: true", "forward_auth: false");
    let proxy = Proxy::start(&closed);
    proxy.settled().await;
    for way in WAYS {
        assert_eq!(
            ask(&proxy, way, "/report", &[known]).await.status,
            403,
            "not asked for"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_takes_for_ours_is_answered_even_where_nobody_is_admitted() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream, "127.0.0.1/32").replace(
        "    public_paths: [/public/*]\n",
        "    static_headers: { X-Tenant: { value: crm } }\n    routes:\n      - { path: /public/*, access: public }\n      - { path: /*, exchange: words }\n",
    );
    let proxy = Proxy::start(&format!(
        "{yaml}exchange: {{ words: {{ mint: {{ issuer: \"https://ferry.test\", audiences: [api], send: {{ header: X-Legacy-Token }} }} }} }}\n"
    ));
    proxy.settled().await;
    let forged = [("X-Legacy-Token", "root"), ("X-Tenant", "other")];
    for way in WAYS {
        let open = ask(&proxy, way, "/public/a", &forged).await;
        assert_eq!(open.status, 200, "{way}: {}", proxy.log());
        assert_eq!(open.all("x-legacy-token"), [""], "{way}");
        assert_eq!(open.all("x-tenant"), ["crm"], "{way}");
        let bearer = format!("Bearer {}", new.token("alice"));
        let known = [&[("Authorization", bearer.as_str())], &forged[..]].concat();
        let good = ask(&proxy, way, "/report", &known).await;
        assert_eq!(good.status, 200, "{way}");
        let token = good.all("x-legacy-token");
        assert!(token.len() == 1 && token[0].starts_with("eyJ"), "{token:?}");
        let other = ask(&proxy, way, "/public/a", &[("X_Legacy_Token", "root")]).await;
        assert_eq!(other.status, 400, "another spelling: {way}");
    }
}
