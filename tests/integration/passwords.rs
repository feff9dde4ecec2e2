//! Passwords that come with each request move to the new side, which judges them from then on.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;

/// The lines of the password file of the old side.
fn people(all: &[(&str, &str)]) -> String {
    let line = |(name, password): &(&str, &str)| {
        let hash = bcrypt::hash(password, 4).unwrap();
        format!("{name}:{hash}\n")
    };
    all.iter().map(line).collect()
}

fn yaml(new: &Idp, upstream: &Echo) -> String {
    format!(
        r#"
providers:
  old: {{ basic: {{ file: "{{dir}}/people", cache: 1s, claims: {{ subject: username, name: username }}, authoritative: {{ claims: [username] }} }} }}
  new:
    oidc:
      issuer: "{new}"
      client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}
      verify: {{ audiences: [app] }}
      claims: {{ subject: uid, name: uid }}
      authoritative: {{ claims: [uid] }}
      directory: {{ scim: {{ url: "{new}/scim", token: {{ env: HARNESS_SECRET }} }} }}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test]
    upstream: {{ url: "{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}", X-Remote-Name: "{{name}}" }}
rollouts:
  move:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: a }}
    stages: [{{ id: move, mode: modern-primary, accept: {{ old: {{ basic: migrate }} }} }}]
"#,
        new = new.issuer(),
        upstream = upstream.url(),
    )
}

async fn ask(proxy: &Proxy, name: &str, password: &str) -> u16 {
    let given = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
    let given = [("authorization", given.as_str())];
    request(proxy.address, "GET", "/", &given, b"").await.status
}

async fn ended(proxy: &Proxy, outcome: &str, times: f64) {
    let labels = format!("app=\"crm\",method=\"credential\",outcome=\"{outcome}\"");
    let series = format!("authferry_session_carryovers_total{{{labels}}}");
    until(async || proxy.metric(&series).await == times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_password_file_move_by_scim_and_stay_there_over_a_restart() {
    let (new, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("people");
    let old = [
        ("uid-alice", "good"),
        ("uid-bob", "weak"),
        ("uid-carol", "good"),
    ];
    std::fs::write(&file, people(&old)).unwrap();
    let mut proxy = Proxy::start_in(dir, &yaml(&new, &upstream));

    // What the old side does not find good reaches nobody.
    for (name, password) in [("uid-alice", "bad"), ("uid-mallory", "good")] {
        assert_eq!(ask(&proxy, name, password).await, 401);
    }
    assert_eq!((new.hits("/scim/Users"), new.hits("/token")), (0, 0));

    assert_eq!(ask(&proxy, "uid-alice", "good").await, 200);
    let before = upstream.last();
    ended(&proxy, "moved", 1.0).await;
    let moved = new.people();
    assert_eq!(moved["uid-alice"].as_deref(), Some("good"));
    // Whose password the new side does not take stays where they are, and is not asked about with every request.
    assert_eq!(ask(&proxy, "uid-bob", "weak").await, 200);
    ended(&proxy, "refused", 1.0).await;

    // The old side forgets them all but one; nobody asks it about who has moved, also after a restart.
    proxy.signal("KILL");
    proxy.wait();
    std::fs::write(&file, people(&[("uid-bob", "weak")])).unwrap();
    proxy.again();
    let tokens = new.hits("/token");
    assert_eq!(ask(&proxy, "uid-alice", "good").await, 200);
    assert_eq!(new.hits("/token"), tokens + 1);
    let after = upstream.last();
    for name in ["x-remote-user", "x-remote-name"] {
        assert_eq!(after.all(name), before.all(name), "{name}");
    }
    for (name, password) in [("uid-alice", "bad"), ("uid-carol", "good")] {
        assert_eq!(ask(&proxy, name, password).await, 401, "{name}");
    }
    let (users, tokens) = (new.hits("/scim/Users"), new.hits("/token"));
    assert_eq!(ask(&proxy, "uid-bob", "weak").await, 200);
    // Bob waits for an hour; a word to alice shows that everything that was begun has ended.
    new.chooses("uid-alice", "another");
    assert_eq!(ask(&proxy, "uid-alice", "another").await, 200);
    assert_eq!(
        (new.hits("/scim/Users"), new.hits("/token")),
        (users, tokens + 1)
    );
    until(async || new.revoked().len() >= 3).await;
    for word in ["alice", "good", "weak", "another"] {
        assert!(
            !proxy.log().contains(&format!("{word}\"")),
            "{word}: {}",
            proxy.log()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_gives_an_account_to_somebody_else_does_not_give_them_the_person() {
    let (new, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let old = [
        ("uid-mallory", "good"),
        ("uid-bob", "weak"),
        ("uid-carol", "good"),
    ];
    std::fs::write(dir.path().join("people"), people(&old)).unwrap();
    let proxy = Proxy::start_in(dir, &yaml(&new, &upstream));
    assert_eq!(ask(&proxy, "uid-mallory", "good").await, 200);
    ended(&proxy, "moved", 1.0).await;
    assert_eq!(ask(&proxy, "uid-bob", "weak").await, 200);
    ended(&proxy, "refused", 1.0).await;
    assert_eq!(ask(&proxy, "uid-carol", "good").await, 200);
    ended(&proxy, "moved", 2.0).await;
    assert_eq!(ask(&proxy, "uid-carol", "good").await, 200);
    let set = |person: &str, provider: &str, account: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
            .args(["link", "set", "--person", person, "--provider", provider])
            .args(["--account", account, "--reason", "HR-8", "--socket"])
            .arg(proxy.dir().join("state/admin.sock"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
    };
    // The account of the old side was taken for mallory's by mistake. Its password is no longer hers, wherever it moved.
    let tokens = new.hits("/token");
    set("uid-bob", "old", "uid-mallory");
    assert_ne!(ask(&proxy, "uid-mallory", "good").await, 200);
    assert_eq!(new.hits("/token"), tokens, "the new side is not asked");
    // In the place of the account that the password has moved to comes another: it is judged where it was before.
    set("uid-carol", "new", "n-9");
    until(async || ask(&proxy, "uid-carol", "good").await == 200).await;
    assert_eq!(upstream.last().all("x-remote-user"), ["uid-carol"]);
    assert_eq!(new.hits("/token"), tokens, "the new side is not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_a_password_is_led_to_the_side_that_judges_it_now() {
    const PAGES: &str = r#"pages:
  accounts:
    old: { password: "https://old.corp.test/password" }
    new: { password: "https://new.corp.test/password", profile: "https://new.corp.test/me" }
"#;
    let (new, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let old = [("uid-alice", "good"), ("uid-bob", "weak")];
    std::fs::write(dir.path().join("people"), people(&old)).unwrap();
    let without = yaml(&new, &upstream);
    let proxy = Proxy::start_in(dir, &format!("{without}{PAGES}"));
    assert_eq!(ask(&proxy, "uid-alice", "good").await, 200);
    ended(&proxy, "moved", 1.0).await;
    assert_eq!(ask(&proxy, "uid-bob", "weak").await, 200);
    ended(&proxy, "refused", 1.0).await;
    let change = "/.well-known/change-password";
    let led = async |target: &str, who: Option<(&str, &str)>| {
        let given = who.map(|(name, password)| STANDARD.encode(format!("{name}:{password}")));
        let given = given.map(|given| format!("Basic {given}"));
        let fields: Vec<_> = given
            .iter()
            .map(|given| ("authorization", &**given))
            .collect();
        let answer = request(proxy.address, "GET", target, &fields, b"").await;
        assert_eq!(answer.status, 302, "{}\n{}", answer.text(), proxy.log());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.header("location").unwrap().to_owned()
    };
    let (alice, bob) = (Some(("uid-alice", "good")), Some(("uid-bob", "weak")));
    let hits = upstream.hits();
    for (target, who, expected) in [
        (change, alice, "https://new.corp.test/password"),
        ("/.authferry/account", alice, "https://new.corp.test/me"),
        // No password is tried here: nobody in particular.
        (change, bob, "https://new.corp.test/password"),
        ("/.authferry/account", bob, "https://new.corp.test/me"),
        // They are led where they would sign in. And nothing that a client says is part of it.
        (change, None, "https://new.corp.test/password"),
        (
            "/.well-known/change-password?rd=https://evil.test&next=//evil.test",
            None,
            "https://new.corp.test/password",
        ),
    ] {
        assert_eq!(led(target, who).await, expected, "{target} {who:?}");
    }
    assert_eq!(upstream.hits(), hits, "these addresses are ours");

    // Where no provider has such a page, the address is the application's, and ours leads nowhere.
    proxy.edit(&without);
    let bob = format!("Basic {}", STANDARD.encode("uid-bob:weak"));
    let fields = [("authorization", bob.as_str())];
    until(async || {
        let answer = request(proxy.address, "GET", change, &fields, b"").await;
        answer.status == 200
    })
    .await;
    assert_eq!(upstream.last().line(), format!("GET {change} HTTP/1.1"));
    let answer = request(proxy.address, "GET", "/.authferry/account", &fields, b"").await;
    assert_eq!(answer.status, 404);
}
