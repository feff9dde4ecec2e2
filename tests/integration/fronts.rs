//! Real proxies in front of the application, each with its file of `deploy/fronts`: what is decided here happens there.

mod carried;
mod running;

use running::Front;
use running::Running;
use serde_json::json;

use crate::forward_auth::config;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;

const PAGE: [(&str, &str); 3] = [
    ("Accept", "text/html"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];
const TOLD: [&str; 3] = ["x-remote-user", "x-remote-name", "x-remote-groups"];
/// What others say of somebody.
const FORGED: [(&str, &str); 3] = [
    ("X-Remote-User", "root"),
    ("X-Remote-Name", "root"),
    ("X-Remote-Groups", "wheel"),
];
/// What a client says of a front that it is not.
const SPOKEN_FOR: [(&str, &str); 4] = [
    ("X-Forwarded-Uri", "/public/a"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-Forwarded-Host", "other.test"),
    ("Forwarded", "for=192.0.2.9;host=other.test"),
];

/// What somebody gets who asks us without anybody between; fields that each connection has of its own are left out.
fn ours(answer: &Answer) -> Vec<(&str, &str)> {
    let own = [
        "connection",
        "content-length",
        "date",
        "x-request-id",
        "set-cookie",
        "location",
    ];
    let all = answer.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    all.filter(|(name, _)| !own.contains(name)).collect()
}

/// Two providers, we, and the application, which only peers in `trusted` may ask about.
async fn world(trusted: &str) -> (Idp, Proxy, Echo) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream, trusted)
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
        .replace("{name}", "{name|utf8}");
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    (new, proxy, upstream)
}

async fn people_come_in_as_themselves_and_nobody_else(front: Front) {
    let (new, proxy, upstream) = world("127.0.0.1/32").await;
    let running = Running::start(front, &proxy, &upstream.url()).await;
    let told = || TOLD.map(|name| upstream.last().all(name));

    // Who has a token is told to the application as if we had forwarded it, byte for byte.
    let mut claims = new.claims("alice");
    claims.insert("name".to_owned(), json!("Zoë O'Hara, 王 \"é\""));
    claims.insert("groups".to_owned(), json!(["users", "b a"]));
    let bearer = format!("Bearer {}", new.sign(&claims));
    let known = ("Authorization", bearer.as_str());
    let direct = request(proxy.address, "GET", "/report", &[known], b"").await;
    assert_eq!(direct.status, 200, "{}", proxy.log());
    let expected = told();
    assert_eq!(expected[0], ["uid-alice"]);
    let fields = [
        &[known, ("Cookie", "authferry_dev=x; theirs=1")][..],
        &FORGED,
        &SPOKEN_FOR,
    ]
    .concat();
    let through = running.get("/report?q=%C3%A4%2Fb&x=1", &fields).await;
    assert_eq!(through.status, 200, "{}\n{}", through.text(), running.log());
    assert_eq!(told(), expected);
    let seen = upstream.last();
    assert_eq!(seen.line(), "GET /report?q=%C3%A4%2Fb&x=1 HTTP/1.1");
    assert_eq!(seen.all("cookie"), ["theirs=1"]);
    assert_eq!(seen.all("authorization").concat(), "", "no credential");

    // What is sent along comes along.
    let body = "note=a+long+text&".repeat(6_000).into_bytes();
    let fields = [known, ("Content-Type", "application/x-www-form-urlencoded")];
    let posted = running.ask("POST", "/save?a=b", &fields, &body).await;
    assert_eq!(posted.status, 200, "{}", posted.text());
    let seen = upstream.last();
    assert_eq!(seen.line(), "POST /save?a=b HTTP/1.1");
    assert!(seen.body == body, "{} bytes", seen.body.len());
    assert_eq!(told(), expected);

    // Nobody is nobody, whatever they say, in whatever spelling.
    let fields = [&FORGED[..], &SPOKEN_FOR].concat();
    let open = running.get("/public/a", &fields).await;
    assert_eq!(open.status, 200, "{}", open.text());
    let empty = told();
    // Traefik has no way to take an empty one off.
    let none = empty.iter().all(|all| all.is_empty());
    assert!(
        none || front == Front::Traefik && empty.iter().all(|all| *all == [""]),
        "{empty:?}"
    );
    for name in ["X_Remote_User", "X-Remote_User", "x_remote-user"] {
        let hits = upstream.hits();
        let open = running.get("/public/a", &[(name, "root")]).await;
        assert!([200, 400].contains(&open.status), "{name}: {}", open.status);
        let dropped = open.status == 200 && !upstream.last().head.contains("root");
        assert!(
            dropped || upstream.hits() == hits,
            "{name}: {}",
            upstream.last().head
        );
    }

    // Whoever may not come in is not there at all, and gets what we say.
    let hits = upstream.hits();
    let fields = [&FORGED[..], &SPOKEN_FOR].concat();
    let program = running.get("/report", &fields).await;
    assert_eq!(program.status, 401, "{}", program.text());
    let host = running.address.to_string();
    let direct = [("Host", host.as_str())];
    let direct = request(proxy.address, "GET", "/report", &direct, b"").await;
    for field in ours(&direct) {
        assert!(
            ours(&program).contains(&field),
            "{field:?}: {:?}",
            program.headers
        );
    }
    assert!(program.header("www-authenticate").is_some());
    for way in [&[][..], &[("Authorization", "Bearer nonsense")]] {
        let posted = running.ask("POST", "/save", way, &body).await;
        assert_eq!(posted.status, 401, "{}", posted.text());
    }
    assert_eq!(upstream.hits(), hits, "the application saw none of it");

    // Questions are asked from inside only.
    for path in [
        "/.authferry/decide",
        "/.authferry/decide?x",
        "/.authferry/forward_auth",
        "/.authferry/ext_authz/report",
    ] {
        let answer = running.get(path, &[known]).await;
        assert!(
            [403, 404].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(answer.header("x-remote-user").is_none(), "{path}");
    }
    // What it and we would read differently; Traefik makes another path of some, and asks about that.
    let may: &[u16] = match front {
        Front::Nginx | Front::Caddy | Front::Envoy => &[400],
        Front::Traefik => &[400, 401],
    };
    for path in ["//report", "/public/..%2freport", "/public/%2e%2e/report"] {
        let answer = running.get(path, &[]).await;
        assert!(may.contains(&answer.status), "{path}: {}", answer.status);
    }
    assert_eq!(upstream.hits(), hits);
}

async fn people_sign_in_and_out(front: Front) {
    let (_new, proxy, upstream) = world("127.0.0.1/32").await;
    let running = Running::start(front, &proxy, &upstream.url()).await;
    let host = running.address.to_string();
    let start = running.get("/report?year=2026", &PAGE).await;
    assert_eq!(start.status, 302, "{}", start.text());
    let direct = [&PAGE[..], &[("Host", host.as_str())]].concat();
    let direct = request(proxy.address, "GET", "/report?year=2026", &direct, b"").await;
    for field in ours(&direct) {
        assert!(
            ours(&start).contains(&field),
            "{field:?}: {:?}",
            start.headers
        );
    }
    let names = |answer: &Answer| {
        let names = answer.cookies().into_iter();
        // A flow takes one of five places.
        let names = names.map(|pair| {
            let name = pair.split('=').next().unwrap();
            name.trim_end_matches(|end: char| end.is_ascii_digit())
                .to_owned()
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&start), names(&direct));
    let to: http::Uri = start.header("location").unwrap().parse().unwrap();
    let at = to.authority().unwrap().as_str().parse().unwrap();
    let there = request(at, "GET", to.path_and_query().unwrap().as_str(), &[], b"").await;
    let back: http::Uri = there.header("location").unwrap().parse().unwrap();
    assert_eq!(back.authority().unwrap().as_str(), host);
    let cookies = start.cookies().join("; ");
    let fields = [&PAGE[..], &[("Cookie", cookies.as_str())]].concat();
    let done = running
        .get(back.path_and_query().unwrap().as_str(), &fields)
        .await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    assert_eq!(done.header("location"), Some("/report?year=2026"));
    let cookies = done.cookies().into_iter();
    let session = cookies.filter(|pair| !pair.ends_with('='));
    let session = session.collect::<Vec<_>>().join("; ");
    assert_eq!(upstream.hits(), 0, "the application saw none of it");

    let cookies = format!("{session}; theirs=1");
    let fields = [("Cookie", cookies.as_str()), FORGED[0]];
    let page = running.get("/report?year=2026", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let seen = upstream.last();
    assert_eq!(seen.line(), "GET /report?year=2026 HTTP/1.1");
    assert_eq!(seen.all("x-remote-user"), ["uid-alice"]);
    assert_eq!(seen.all("cookie"), ["theirs=1"], "our cookies stay here");

    // Signed out is signed out.
    let origin = format!("http://{host}");
    let out = [("Origin", origin.as_str()), ("Cookie", cookies.as_str())];
    let out = running.ask("POST", "/.authferry/logout", &out, b"").await;
    assert_eq!(out.status, 303, "{}", out.text());
    assert_eq!(running.get("/report", &fields).await.status, 401);

    // Without a decision nobody comes in.
    drop(proxy);
    let hits = upstream.hits();
    for path in ["/report", "/public/a"] {
        let answer = running.get(path, &fields).await;
        assert!(500 <= answer.status, "{path} {}", answer.status);
    }
    assert_eq!(upstream.hits(), hits);
}

/// Whom we do not know has no say, and lets nobody in.
async fn a_stranger_lets_nobody_in(front: Front) {
    let (new, proxy, upstream) = world("192.0.2.1/32").await;
    let running = Running::start(front, &proxy, &upstream.url()).await;
    let bearer = format!("Bearer {}", new.token("alice"));
    for path in ["/report", "/public/a"] {
        let fields = [("Authorization", bearer.as_str())];
        let answer = running.get(path, &fields).await;
        assert!(400 <= answer.status, "{path}: {}", answer.status);
    }
    assert_eq!(upstream.hits(), 0);
}

/// The same for each of them.
macro_rules! fronts {
    ($($name:ident: $front:ident,)*) => {$(
        mod $name {
            use super::Front;

            #[tokio::test(flavor = "multi_thread")]
            async fn people_come_in_as_themselves_and_nobody_else() {
                super::people_come_in_as_themselves_and_nobody_else(Front::$front).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn people_sign_in_and_out() {
                super::people_sign_in_and_out(Front::$front).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_stranger_lets_nobody_in() {
                super::a_stranger_lets_nobody_in(Front::$front).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_session_is_asked_after_at_the_new_side() {
                super::carried::a_session_is_asked_after_at_the_new_side(Front::$front).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_session_of_an_old_system_gets_one_of_ours_and_then_of_the_new_side() {
                super::carried::a_session_of_an_old_system_gets_one_of_ours_and_then_of_the_new_side(Front::$front).await;
            }
        }
    )*};
}

fronts! {
    nginx: Nginx,
    caddy: Caddy,
    envoy: Envoy,
    traefik: Traefik,
}
