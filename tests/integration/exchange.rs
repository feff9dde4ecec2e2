//! What an upstream gets in place of the credential: a token of its own side, for the same person, never more.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::now;
use crate::harness::request;
use crate::login::Browser;
use crate::two_providers;

const EXCHANGES: &str = r#"
exchange:
  to-new: { token_exchange: { provider: new, audiences: [api], actor: ferry } }
  lax: { token_exchange: { provider: new, audiences: [api], actor: ferry, also: [other], unreadable: accept } }
  to-old: { assertion: { provider: old, issuer: "https://ferry.test", subject: "{subject}", audiences: [api] } }
  ours:
    mint:
      issuer: "https://ferry.test"
      audiences: [api]
      claims: { who: "{name}" }
      attributes: { roles: groups }
      actor: ferry
      ttl: 5m
  words:
    mint:
      issuer: "https://ferry.test"
      audiences: [api]
      format: { signed_text: { template: "{name}:{subject}:{expires}", shared_secret: { file: "{dir}/shared" } } }
      send: { header: X-Legacy-Token }
"#;

struct Stage {
    old: Idp,
    new: Idp,
    upstream: Echo,
    proxy: Proxy,
}

async fn stage() -> Stage {
    stage_with("").await.0
}

/// With more in the file, and the file itself.
async fn stage_with(more: &str) -> (Stage, String) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50).replace(
        "    public_paths: [/public/*]\n",
        "    exchange: { other_arm: [to-new, to-old] }\n    routes:\n      - { path: /new/*, exchange: to-new }\n      - { path: /lax/*, exchange: lax }\n      - { path: /old/*, exchange: to-old }\n      - { path: /ours/*, exchange: ours }\n      - { path: /words/*, exchange: words }\n      - { path: /* }\n",
    );
    let yaml = format!("{yaml}{EXCHANGES}{more}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shared"), "s".repeat(32)).unwrap();
    let proxy = Proxy::start_in(dir, &yaml);
    proxy.settled().await;
    let stage = Stage {
        old,
        new,
        upstream,
        proxy,
    };
    (stage, yaml)
}

impl Stage {
    async fn ask(&self, path: &str, token: &str) -> Answer {
        let value = format!("Bearer {token}");
        request(
            self.proxy.address,
            "GET",
            path,
            &[("Authorization", &value)],
            b"",
        )
        .await
    }

    /// The claims of the token that the upstream got last, which is not `presented`.
    fn claims(&self, presented: &str) -> Map<String, Value> {
        let seen = self.upstream.last();
        assert!(
            !seen.head.contains(presented),
            "the presented token stays here"
        );
        let values = seen.all("authorization");
        let [value] = &*values else {
            panic!("one Authorization: {}", seen.head)
        };
        claims(value.strip_prefix("Bearer ").unwrap())
    }
}

fn claims(token: &str) -> Map<String, Value> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn with(mut claims: Map<String, Value>, name: &str, value: Value) -> Map<String, Value> {
    claims.insert(name.to_owned(), value);
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_a_token_of_its_own_side_about_the_same_person() {
    let stage = stage().await;
    for (path, from, to) in [
        ("/new/x", &stage.old, &stage.new),
        ("/old/x", &stage.new, &stage.old),
    ] {
        let token = from.token("alice");
        let answer = stage.ask(path, &token).await;
        assert_eq!(
            answer.status,
            200,
            "{}\n{}",
            answer.text(),
            stage.proxy.log()
        );
        let got = stage.claims(&token);
        assert_eq!(got["iss"], json!(to.issuer()));
        assert_eq!(
            (&got["uid"], &got["aud"]),
            (&json!("uid-alice"), &json!("api"))
        );
        let asked = to.hits("/token");
        assert_eq!(stage.ask(path, &token).await.status, 200);
        assert_eq!(to.hits("/token"), asked, "the result is kept");
        // A token of the right side passes as it is.
        let right = to.token("alice");
        assert_eq!(stage.ask(path, &right).await.status, 200);
        assert_eq!(
            stage.upstream.last().all("authorization"),
            [format!("Bearer {right}")]
        );
        assert_eq!(to.hits("/token"), asked);
    }
    // Without an exchange the upstream sees neither.
    let token = stage.old.token("alice");
    stage.ask("/plain", &token).await;
    assert!(stage.upstream.last().all("authorization").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_token_is_judged_first() {
    let stage = stage().await;
    let good = stage.old.claims("alice");
    for bad in [
        stage.old.sign(&with(good.clone(), "aud", json!("other"))),
        stage
            .old
            .sign(&with(good.clone(), "exp", json!(now() - 100))),
        stage.old.sign_as("JWT", &good),
        stage.old.sign_as("logout+jwt", &good),
    ] {
        for path in ["/new/x", "/ours/x"] {
            assert_eq!(stage.ask(path, &bad).await.status, 401);
        }
    }
    assert_eq!((stage.new.hits("/token"), stage.upstream.hits()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_more_than_was_asked_for_is_not_used() {
    let stage = stage().await;
    let scoped = |scope: &str| {
        let claims = with(stage.old.claims("alice"), "scope", json!(scope));
        stage.old.sign(&with(claims, "jti", json!(scope)))
    };
    for (number, (claims, answer, status)) in [
        (
            json!({ "scope": "read openid" }),
            json!({ "scope": "read openid" }),
            200,
        ),
        (json!({ "scope": "read profile" }), json!({}), 403),
        (json!({}), json!({ "scope": "read write" }), 403),
        (json!({ "scope": "read write" }), json!({}), 403),
        // Another person.
        (json!({ "uid": "uid-bob" }), json!({}), 403),
        // For somebody else as well.
        (json!({ "aud": ["api", "other"] }), json!({}), 403),
        (json!({ "aud": ["api"] }), json!({}), 200),
        // For another audience, of another issuer, over already, bound to a key.
        (json!({ "aud": "other" }), json!({}), 503),
        (json!({ "iss": "https://else.test" }), json!({}), 503),
        (json!({ "exp": now() - 100 }), json!({}), 503),
        // Longer than the one presented: a minute is tolerated, whatever is said of it.
        (
            json!({ "exp": now() + 330 }),
            json!({ "expires_in": 330 }),
            200,
        ),
        (
            json!({ "exp": now() + 400 }),
            json!({ "expires_in": 400 }),
            403,
        ),
        (json!({ "exp": now() + 3_000 }), json!({}), 403),
        (json!({}), json!({ "expires_in": 3_000 }), 200),
        // Nobody can read it, nothing was asked for: without a word it may do anything.
        (json!({}), json!({ "access_token": "opaque" }), 403),
        (
            json!({}),
            json!({ "access_token": "opaque", "scope": "read" }),
            403,
        ),
        (json!({ "cnf": { "jkt": "x" } }), json!({}), 503),
        (json!({}), json!({ "token_type": "DPoP" }), 503),
        (json!({}), json!({ "token_type": "N_A" }), 503),
        (
            json!({}),
            json!({ "issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token" }),
            503,
        ),
        (json!({}), json!({ "issued_token_type": null }), 503),
        (json!({}), json!({ "expires_in": "soon" }), 503),
    ]
    .into_iter()
    .enumerate()
    {
        stage.new.exchanges(claims.clone(), answer.clone());
        let token = stage
            .old
            .sign(&with(claims_of(&stage, "read"), "jti", json!(number)));
        let got = stage.ask("/new/x", &token).await;
        assert_eq!(
            got.status,
            status,
            "{claims} {answer}\n{}",
            stage.proxy.log()
        );
        assert_eq!(got.header("retry-after").is_some(), status == 503);
    }
    assert_eq!(stage.upstream.hits(), 4);
    // A token near its end: what lives a minute in all can always be had for it.
    let near = with(claims_of(&stage, "read"), "exp", json!(now() + 20));
    for (life, status) in [(100, 403), (60, 200)] {
        let longer = json!({ "exp": now() + life });
        stage.new.exchanges(longer, json!({ "expires_in": life }));
        let token = stage.old.sign(&with(near.clone(), "jti", json!(life)));
        assert_eq!(stage.ask("/new/x", &token).await.status, status, "{life}");
    }
    // Who may be in it besides is named.
    for (also, status) in [("other", 200), ("else", 403)] {
        let named = json!({ "aud": ["api", also] });
        stage.new.exchanges(named, json!({}));
        let answer = stage.ask("/lax/x", &scoped(also)).await;
        assert_eq!(answer.status, status, "{also}");
    }
    stage.new.exchanges(json!({}), json!({}));
    assert_eq!(stage.ask("/new/x", &scoped("read")).await.status, 200);
}

fn claims_of(stage: &Stage, scope: &str) -> Map<String, Value> {
    with(stage.old.claims("alice"), "scope", json!(scope))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_whom_is_never_lost() {
    let stage = stage().await;
    let delegated = with(stage.old.claims("alice"), "act", json!({ "sub": "bot" }));
    let token = stage.old.sign(&delegated);
    assert_eq!(
        stage.ask("/new/x", &token).await.status,
        403,
        "the target forgot the actor"
    );
    assert_eq!(
        stage.ask("/words/x", &token).await.status,
        403,
        "the format has no place for one"
    );
    assert_eq!(stage.ask("/ours/x", &token).await.status, 200);
    let expected = json!({ "sub": "ferry", "iss": "https://ferry.test", "act": { "sub": "bot" } });
    assert_eq!(stage.claims(&token)["act"], expected);
    stage.new.exchanges(
        json!({ "act": { "sub": "ferry", "act": { "sub": "bot" } } }),
        json!({}),
    );
    let again = stage.old.sign(&with(delegated, "jti", json!("again")));
    assert_eq!(stage.ask("/new/x", &again).await.status, 200);

    // Where a result that nobody can read is taken: nobody can say that this one keeps the actor.
    let opaque = json!({ "access_token": "opaque", "scope": "read" });
    stage.new.exchanges(json!({}), opaque);
    for (more, status) in [(json!(null), 200), (json!({ "sub": "bot" }), 403)] {
        let mut claims = claims_of(&stage, "read");
        if !more.is_null() {
            claims.insert("act".to_owned(), more);
        }
        let answer = stage.ask("/lax/x", &stage.old.sign(&claims)).await;
        assert_eq!(answer.status, status, "{}", stage.proxy.log());
    }

    stage.new.exchanges(json!({}), json!({}));
    for (may_act, status) in [
        (json!({ "sub": "ferry" }), 200),
        (json!({ "sub": "else" }), 403),
        (json!("ferry"), 403),
    ] {
        let token = stage
            .old
            .sign(&with(stage.old.claims("alice"), "may_act", may_act));
        for path in ["/new/x", "/ours/x"] {
            assert_eq!(stage.ask(path, &token).await.status, status, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_token_lives_no_longer_and_may_do_no_more() {
    let stage = stage().await;
    let ends = now() + 40;
    let claims = with(claims_of(&stage, "read openid"), "exp", json!(ends));
    let token = stage.old.sign(&claims);
    assert_eq!(stage.ask("/ours/x", &token).await.status, 200);
    let got = stage.claims(&token);
    assert_eq!(got["exp"], json!(ends));
    assert_eq!(got["iss"], json!("https://ferry.test"));
    assert_eq!(
        (&got["sub"], &got["aud"]),
        (&json!("uid-alice"), &json!("api"))
    );
    assert_eq!(
        (&got["who"], &got["roles"]),
        (&json!("alice"), &json!(["users"]))
    );
    assert_eq!(got["scope"], json!("read"));
    // The upstream can check it with what we publish.
    let keys = request(
        stage.proxy.address,
        "GET",
        "/.authferry/jwks.json",
        &[],
        b"",
    )
    .await;
    let (keys, _) = authferry::token::KeySet::from_remote(keys.text().as_bytes()).unwrap();
    let value = stage.upstream.last().all("authorization").remove(0);
    let minted = value.strip_prefix("Bearer ").unwrap();
    assert_eq!(
        authferry::token::verify_signature_only(minted, &keys),
        Ok(())
    );

    assert_eq!(stage.ask("/words/x", &token).await.status, 200);
    let seen = stage.upstream.last();
    assert!(seen.all("authorization").is_empty());
    let text = seen.all("x-legacy-token").remove(0);
    assert!(
        text.starts_with(&format!("alice:uid-alice:{ends}.")),
        "{text}"
    );
}

/// An old application takes a signed text apart, from whichever end: nobody writes more into it than a name.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_text_says_nothing_that_a_person_has_chosen_but_their_own_value() {
    let stage = stage().await;
    for (name, status) in [
        ("Zoë of Ulm", 200),
        ("x:uid-bob:9999999999", 403),
        ("x:", 403),
        (":", 403),
    ] {
        let token = stage
            .old
            .sign(&with(stage.old.claims("alice"), "name", json!(name)));
        let answer = stage.ask("/words/x", &token).await;
        assert_eq!(answer.status, status, "{name}\n{}", stage.proxy.log());
        if status == 200 {
            let text = stage.upstream.last();
            assert!(text.head.contains("uid-alice:"), "{}", text.head);
        }
    }
    assert_eq!(stage.upstream.hits(), 1);
}

/// What is handed on says of a person what the routes ask for: one person, one answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_minted_token_says_the_roles_that_groups_give_and_may_do_what_they_may() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 0)
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
        .replace(
            "    public_paths: [/public/*]\n",
            "    routes: [{ path: /*, exchange: ours, require: { scopes: [orders.read] } }]\n",
        );
    let proxy_yaml = format!(
        r#"{yaml}
roles:
  old: {{ groups: {{ users: [seller] }}, scopes: {{ seller: [orders.read] }}, scopes_for_tokens: true }}
exchange:
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [api], attributes: {{ roles: roles }}, claims: {{ first: "{{roles|join:,}}" }} }} }}
"#
    );
    let proxy = Proxy::start(&proxy_yaml);
    proxy.settled().await;
    let stage = Stage {
        old,
        new,
        upstream,
        proxy,
    };
    let says = |got: &Map<String, Value>| {
        assert_eq!(got["roles"], json!(["seller"]));
        assert_eq!(got["first"], json!("seller"));
        assert_eq!(got["scope"], json!("orders.read"));
    };
    let token = stage.old.token("alice");
    let answer = stage.ask("/x", &token).await;
    assert_eq!(answer.status, 200, "{}", stage.proxy.log());
    says(&stage.claims(&token));
    let mut browser = Browser::default();
    let start = browser.open(&stage.proxy, "/x").await;
    browser.sign_in(&stage.proxy, &start).await;
    let page = browser.open(&stage.proxy, "/x").await;
    assert_eq!(page.status, 200, "{}", stage.proxy.log());
    says(&stage.claims("no token"));

    // A token that was given no scopes gets none of its person's by itself; whoever signs in has what they may do.
    let proxy = Proxy::start(&proxy_yaml.replace(", scopes_for_tokens: true", ""));
    proxy.settled().await;
    let stage = Stage { proxy, ..stage };
    assert_eq!(stage.ask("/x", &token).await.status, 403);
    let mut browser = Browser::default();
    let start = browser.open(&stage.proxy, "/x").await;
    browser.sign_in(&stage.proxy, &start).await;
    let page = browser.open(&stage.proxy, "/x").await;
    assert_eq!(page.status, 200, "{}", stage.proxy.log());
    says(&stage.claims("no token"));
}

/// What counts here no more at a moment is handed on as nothing that lives beyond it.
#[tokio::test(flavor = "multi_thread")]
async fn a_minted_token_ends_with_the_deadline_of_the_stage() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let ends = now() + 100;
    let date = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{ends}"), "+%FT%TZ"])
        .output()
        .unwrap();
    let date = String::from_utf8(date.stdout).unwrap();
    let yaml = two_providers(&old, &new, &upstream, 0).replace(
        "    public_paths: [/public/*]\n",
        "    routes: [{ path: /*, exchange: ours }]\n",
    );
    let proxy = Proxy::start(&format!(
        r#"{yaml}  accept: {{ old: {{ deadline: "{}" }} }}
exchange: {{ ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [api] }} }} }}
"#,
        date.trim()
    ));
    proxy.settled().await;
    let stage = Stage {
        old,
        new,
        upstream,
        proxy,
    };
    for (idp, is_cut) in [(&stage.old, true), (&stage.new, false)] {
        let token = idp.token("alice");
        let answer = stage.ask("/x", &token).await;
        assert_eq!(answer.status, 200, "{}", stage.proxy.log());
        let until = stage.claims(&token)["exp"].as_u64().unwrap();
        assert_eq!(until == ends, is_cut, "{until} {ends}");
    }
}

/// The bytes of an opaque token stay; what its owner says of it need not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_minted_of_somebody_is_not_used_once_there_is_more_or_less_to_say() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50).replace(
        "    public_paths: [/public/*]\n",
        "    routes: [{ path: /*, exchange: ours }]\n",
    );
    let line = yaml.lines().find(|l| l.starts_with("  old:")).unwrap();
    let introspection = format!(
        "  old: {{ introspection: {{ url: \"{old}/introspect\", issuer: \"{old}\", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, cache: 1s, \
         claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}",
        old = old.issuer()
    );
    let client = "client: { id: authferry, secret: { env: HARNESS_SECRET } }, verify";
    let yaml = yaml.replace(line, &introspection).replace(client, "verify");
    let proxy = Proxy::start(&format!(
        r#"{yaml}
exchange:
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [api], attributes: {{ groups: groups }} }} }}
"#
    ));
    let stage = Stage {
        old,
        new,
        upstream,
        proxy,
    };
    let groups = async || {
        let answer = stage.ask("/x", "opaque-alice").await;
        assert_eq!(answer.status, 200, "{}", stage.proxy.log());
        stage.claims("opaque-alice")["groups"].clone()
    };
    stage.old.opaque("opaque-alice", "alice");
    assert_eq!(groups().await, json!(["users"]));
    stage
        .old
        .opaque_says("opaque-alice", "groups", json!(["admins"]));
    crate::reload::until(async || groups().await == json!(["admins"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_say_what_the_exchange_says() {
    let stage = stage().await;
    let token = format!("Bearer {}", stage.old.token("alice"));
    let fields = [
        ("Authorization", token.as_str()),
        ("X-Legacy-Token", "forged"),
    ];
    for path in ["/words/x", "/plain"] {
        let answer = request(stage.proxy.address, "GET", path, &fields, b"").await;
        assert_eq!(answer.status, 200);
        assert!(!stage.upstream.last().head.contains("forged"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_target_is_away_what_is_kept_serves_and_the_rest_waits() {
    let stage = stage().await;
    let (kept, other) = (stage.old.token("alice"), stage.old.token("bob"));
    assert_eq!(stage.ask("/new/x", &kept).await.status, 200);
    let got = stage.claims(&kept);
    stage.new.fail_with(Some(503));
    assert_eq!(stage.ask("/new/x", &kept).await.status, 200);
    assert_eq!(stage.claims(&kept), got);
    let answer = stage.ask("/new/x", &other).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(
        !stage
            .upstream
            .seen()
            .iter()
            .any(|seen| seen.head.contains(&other))
    );
}

/// A reload, for whatever reason, is no outage: what was made by the very same serves on, and whatever is over is over.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_serves_through_a_reload_and_ends_with_what_it_was_made_by() {
    let more = "sessions: { store: embedded }\nserver:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n";
    let (stage, yaml) = stage_with(more).await;
    let edited = async |yaml: &str| {
        let success = "authferry_config_reloads_total{outcome=\"success\"} ";
        let before = stage.proxy.metric(success).await;
        stage.proxy.edit(yaml);
        crate::reload::until(async || before < stage.proxy.metric(success).await).await;
    };
    let (kept, other) = (stage.old.token("alice"), stage.old.token("bob"));
    let made = async |yaml: &str| {
        edited(yaml).await;
        stage.proxy.settled().await;
        assert_eq!(stage.ask("/new/x", &kept).await.status, 200);
        stage.claims(&kept)
    };
    let is_kept = async || {
        let answer = stage.ask("/new/x", &kept).await;
        (answer.status == 200).then(|| stage.claims(&kept))
    };
    let got = made(&yaml.replace("ttl: 5m", "ttl: 6m")).await;
    stage.new.fail_with(Some(503));
    // Another exchange, an application: neither has made it.
    for (from, to) in [("ttl: 5m", "ttl: 4m"), ("X-Remote-Name", "X-Name")] {
        edited(&yaml.replace(from, to)).await;
        assert_eq!(is_kept().await.as_ref(), Some(&got), "{to}");
        assert_eq!(stage.ask("/new/x", &other).await.status, 503, "{to}");
    }
    // What it was made by: its exchange, and the provider that is asked.
    let line = "to-new: { token_exchange: { provider: new, audiences: [api], actor: ferry";
    let provider = format!("issuer: \"{}\", client", stage.new.issuer());
    let other = format!("issuer: \"{}\", par: never, client", stage.new.issuer());
    for (from, to) in [
        (line, format!("{line}, scopes: {{ harmless: [openid, x] }}")),
        (line, format!("{line}, also: [more]")),
        (
            line,
            format!("{line}, client: {{ id: authferry, secret: {{ file: {{dir}}/shared }} }}"),
        ),
        (&*provider, other),
    ] {
        stage.new.fail_with(None);
        made(&yaml).await;
        let yaml = yaml.replace(from, &to);
        stage.new.fail_with(Some(503));
        edited(&yaml).await;
        assert_eq!(is_kept().await, None, "{to}");
    }
    // Whoever is revoked has it no longer, before the reload or after it.
    stage.new.fail_with(None);
    made(&yaml).await;
    stage.new.fail_with(Some(503));
    let issuer = stage.old.issuer();
    let account = [
        "--account",
        "alice",
        "--issuer",
        &issuer,
        "--reason",
        "left",
    ];
    let (done, said) = crate::revoke::revoke(&stage.proxy, &account);
    assert!(done, "{said}");
    edited(&yaml.replace("ttl: 5m", "ttl: 4m")).await;
    assert_eq!(stage.ask("/new/x", &kept).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_exchanges_what_comes_from_the_other_side() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100).replace(
        "    public_paths: [/public/*]\n",
        "    exchange: { other_arm: [to-new, to-old] }\n",
    );
    let exchanges = EXCHANGES.split("  ours:").next().unwrap();
    let proxy = Proxy::start(&format!("{yaml}  other_arm: exchange\n{exchanges}"));
    proxy.settled().await;
    let stage = Stage {
        old,
        new,
        upstream,
        proxy,
    };
    // Everybody belongs to the new side.
    let token = stage.old.token("alice");
    let answer = stage.ask("/x", &token).await;
    assert_eq!(answer.status, 200, "{}", stage.proxy.log());
    assert_eq!(stage.claims(&token)["iss"], json!(stage.new.issuer()));
    let own = stage.new.token("alice");
    assert_eq!(stage.ask("/x", &own).await.status, 200);
    assert!(
        stage.upstream.last().all("authorization").is_empty(),
        "the stage has nothing to exchange"
    );
    stage.new.refuses_exchanges("invalid_grant");
    let answer = stage.ask("/x", &stage.old.token("bob")).await;
    assert_eq!(answer.status, 403);
    let issued =
        r#"authferry_exchanges_total{exchange="to-new",grant="token_exchange",outcome="issued"}"#;
    let refused =
        r#"authferry_exchanges_total{exchange="to-new",grant="token_exchange",outcome="refused"}"#;
    assert_eq!(
        (
            stage.proxy.metric(issued).await,
            stage.proxy.metric(refused).await
        ),
        (1.0, 1.0)
    );
    assert_eq!(get(stage.proxy.admin, "/-/healthy").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_whose_file_changes_signs_from_then_on_without_a_restart() {
    use aws_lc_rs::hmac;

    let stage = stage().await;
    let file = stage.proxy.dir().join("shared");
    let token = stage.old.token("alice");
    let is_under = async |secret: &str| {
        let answer = stage.ask("/words/x", &token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = stage.upstream.last().all("x-legacy-token").remove(0);
        let (words, tag) = text.rsplit_once('.').unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let own = hmac::sign(&key, words.as_bytes());
        let hex: String = own.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        hex == tag
    };
    assert!(is_under(&"s".repeat(32)).await);
    // Half a secret is none: what was there goes on. Then as Vault Agent and Kubernetes write: a new file takes its place.
    for (text, used) in [("short".to_owned(), "s"), ("n".repeat(32), "n")] {
        let next = stage.proxy.dir().join("shared.next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &file).unwrap();
        if used == "s" {
            let refused = "authferry_config_reloads_total{outcome=\"refused\"}";
            crate::reload::until(async || 1.0 <= stage.proxy.metric(refused).await).await;
            assert!(is_under(&used.repeat(32)).await);
        } else {
            crate::reload::until(async || is_under(&used.repeat(32)).await).await;
        }
    }
}
