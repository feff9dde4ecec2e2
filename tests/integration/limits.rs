//! Whoever comes too often, to sign in or with keys that nobody has published, is told when to come again; nobody else is.

use authferry::token::SigningKey;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::now;
use crate::harness::request;
use crate::two_providers;

const LIMITS: &str =
    "    rate_limits: { logins: 3, unknown_keys: 2 }\n    public_paths: [/public/*]";

/// Loopback is a proxy that says where its clients are.
pub(crate) const TRUSTING: &str = "server: { listen: 127.0.0.1:0, admin: { listen: 127.0.0.1:0 }, state_dir: \"{dir}/state\", trusted_proxies: [127.0.0.0/8] }\n";

fn yaml(old: &Idp, new: &Idp, upstream: &Echo) -> String {
    let text = two_providers(old, new, upstream, 100);
    let limited = text.replace("    public_paths: [/public/*]", LIMITS);
    assert_ne!(text, limited);
    limited + TRUSTING
}

/// Somebody at an address who opens a page without a session.
async fn opens(proxy: &Proxy, target: &str, from: &str) -> Answer {
    let fields = [
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("X-Forwarded-For", from),
        ("X-Forwarded-Proto", "http"),
    ];
    request(proxy.address, "GET", target, &fields, b"").await
}

async fn with_token(proxy: &Proxy, token: &str, from: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let fields = [("Authorization", &*bearer), ("X-Forwarded-For", from)];
    request(proxy.address, "GET", "/", &fields, b"").await
}

/// Does it again until all of it fell into one minute.
async fn in_one_minute<T>(what: impl AsyncFn() -> T) -> T {
    loop {
        let minute = now() / 60;
        let done = what().await;
        if now() / 60 == minute {
            return done;
        }
    }
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// What one too many is told (RFC 6585 §4, draft-ietf-httpapi-ratelimit-headers §3, §4).
#[track_caller]
fn is_told(answer: &Answer, policy: &str, most: u32) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let own = format!("\"{policy}\";q={most};w=60");
    assert_eq!(answer.header("ratelimit-policy"), Some(&*own));
    let left = format!("\"{policy}\";r=0;t={wait}");
    assert_eq!(answer.header("ratelimit"), Some(&*left));
    assert_eq!(answer.header("location"), None);
    assert!(answer.cookies().is_empty(), "no login was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_begins_only_so_many_sign_ins() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&yaml(&old, &new, &upstream));
    proxy.settled().await;
    let answers = in_one_minute(async || {
        let mut answers = Vec::new();
        // Both doors are one: a page that needs a session, and our own address.
        for target in ["/", "/.authferry/login?rd=/", "/deep", "/"] {
            answers.push(opens(&proxy, target, "192.0.2.7").await);
        }
        answers.push(opens(&proxy, "/.authferry/login", "192.0.2.7").await);
        answers.push(opens(&proxy, "/", "192.0.2.8").await);
        answers.push(opens(&proxy, "/public/a", "192.0.2.7").await);
        let token = new.token("alice");
        answers.push(with_token(&proxy, &token, "192.0.2.7").await);
        answers
    })
    .await;
    assert_eq!(
        statuses(&answers),
        [302, 302, 302, 429, 429, 302, 200, 200],
        "{}",
        proxy.log()
    );
    is_told(&answers[3], "logins", 3);
    is_told(&answers[4], "logins", 3);
    assert!(
        answers[3]
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let limited = "authferry_rate_limited_total{endpoint=\"login\",by=\"address\"}";
    assert!(2.0 <= proxy.metric(limited).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_has_published_are_looked_for_so_often_for_one_address() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&yaml(&old, &new, &upstream));
    proxy.settled().await;
    let forged = || {
        let key = SigningKey::generate().unwrap();
        key.sign("at+jwt", &new.claims("alice")).unwrap()
    };
    let answers = in_one_minute(async || {
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(with_token(&proxy, &forged(), "192.0.2.7").await);
        }
        answers.push(with_token(&proxy, &forged(), "192.0.2.8").await);
        answers.push(with_token(&proxy, &new.token("alice"), "192.0.2.7").await);
        // A known key and a wrong signature: that is looked at, and waits for nobody.
        let mut broken = new.token("bob");
        broken.replace_range(broken.len() - 8.., "AAAAAAAA");
        answers.push(with_token(&proxy, &broken, "192.0.2.7").await);
        answers
    })
    .await;
    assert_eq!(
        statuses(&answers),
        [401, 401, 429, 429, 401, 200, 401],
        "{}",
        proxy.log()
    );
    is_told(&answers[2], "unknown_keys", 2);
    let limited = "authferry_rate_limited_total{endpoint=\"unknown_keys\",by=\"address\"}";
    assert!(2.0 <= proxy.metric(limited).await);
    // However many came: a key that is published later is found.
    new.rotate();
    let token = new.token("carol");
    crate::reload::until(async || with_token(&proxy, &token, "192.0.2.7").await.status == 200)
        .await;
}

#[cfg(feature = "real-servers")]
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_count_together() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = crate::instances::Redis::start();
    let config = yaml(&old, &new, &upstream) + &redis.shared("5m");
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    crate::instances::ready(&a).await;
    crate::instances::ready(&b).await;
    let answers = in_one_minute(async || {
        let mut answers = Vec::new();
        for n in 0..6 {
            let proxy = if n % 2 == 0 { &a } else { &b };
            answers.push(opens(proxy, "/", "192.0.2.7").await);
        }
        answers
    })
    .await;
    assert_eq!(statuses(&answers), [302, 302, 302, 429, 429, 429]);
    is_told(&answers[3], "logins", 3);
}

/// Whichever client asks for tokens of a person, and whoever comes from an address.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_one_person_and_from_one_address_are_asked_for_so_often() {
    let stage = crate::minted::Stage::new().await;
    let (shop, desk) = (("shop", "s3cret"), ("desk", "s3cret"));
    for (limits, expected) in [
        ("subject: 2", [200, 200, 429, 200]),
        ("address: 3", [200, 200, 200, 429]),
    ] {
        let limits = format!("  limits: {{ {limits} }}\n  clients:");
        let yaml = stage.config().replacen("  clients:", &limits, 1);
        // All in one minute of one process, which counts anew.
        loop {
            let proxy = Proxy::start(&yaml);
            proxy.settled().await;
            let minute = now() / 60;
            let mut got = Vec::new();
            for (client, name) in [
                (shop, "alice"),
                (desk, "alice"),
                (shop, "alice"),
                (desk, "bob"),
            ] {
                let token = crate::minted::subject(&stage.old, name);
                let answer = crate::minted::exchange(&proxy, client, &token, "ours").await;
                got.push(answer.status);
            }
            if now() / 60 == minute {
                assert_eq!(got, expected, "{limits}\n{}", proxy.log());
                break;
            }
        }
    }
}
