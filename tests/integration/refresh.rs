//! Refresh tokens at our own token endpoint: opaque, good once, forgiven for a moment, and over when two have used them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;
use crate::token_endpoint::claims;
use crate::token_endpoint::form;
use crate::token_endpoint::hash;
use crate::token_endpoint::is_error;
use crate::token_endpoint::object;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const REVOKE: &str = "/.authferry/oauth2/revoke";
const INTROSPECT: &str = "/.authferry/oauth2/introspect";

pub(crate) struct Stage {
    pub(crate) old: Idp,
    pub(crate) new: Idp,
    pub(crate) proxy: Proxy,
    _upstream: Echo,
}

/// The part of a configuration that makes a token endpoint with refresh tokens.
pub(crate) fn endpoint(grace: &str) -> String {
    let at = "at: { old: { id: authferry, secret: { env: HARNESS_SECRET } }, new: { id: authferry, secret: { env: HARNESS_SECRET } } }";
    format!(
        r#"
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [app] }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [app] }} }}
telemetry: {{ access_log: {{ file: {{dir}}/access.log }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ app: {{ exchanges: [to-new, to-old] }} }}
  clients:
    mobile: {{ secret_hashes: ["{}"], grants: [refresh_token], audiences: [app], scopes: [read], refresh: {{ adopt: old, grace: {grace} }}, {at} }}
    tv: {{ secret_hashes: ["{}"], grants: [device_code, refresh_token], audiences: [app], scopes: [read], {at} }}
    kiosk: {{ secret_hashes: ["{}"], grants: [device_code], audiences: [app], {at} }}
    other: {{ secret_hashes: ["{}"], grants: [refresh_token], introspect: true, audiences: [app], refresh: {{ adopt: old }}, {at} }}
"#,
        hash("s3cret"),
        hash("tv"),
        hash("kiosk"),
        hash("other"),
    )
}

async fn stage(percent: u32, grace: &str) -> Stage {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, percent) + &endpoint(grace);
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    for idp in [&old, &new] {
        idp.exchanges(
            json!({ "exp": crate::harness::now() + 200 }),
            json!({ "expires_in": 200 }),
        );
    }
    Stage {
        old,
        new,
        proxy,
        _upstream: upstream,
    }
}

pub(crate) async fn post(
    proxy: &Proxy,
    who: (&str, &str),
    path: &str,
    pairs: &[(&str, &str)],
) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", who.0, who.1)));
    let fields = [
        ("Host", "app.test"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", basic.as_str()),
    ];
    request(proxy.address, "POST", path, &fields, form(pairs).as_bytes()).await
}

pub(crate) async fn refresh(proxy: &Proxy, token: &str) -> Answer {
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
    post(proxy, ("mobile", "s3cret"), TOKEN, &pairs).await
}

#[track_caller]
pub(crate) fn good(answer: &Answer) -> (Map<String, Value>, String) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = object(answer);
    let next = got["refresh_token"].as_str().unwrap().to_owned();
    assert!(next.starts_with("afr1_"), "{next}");
    (got, next)
}

impl Stage {
    async fn refresh(&self, token: &str) -> Answer {
        refresh(&self.proxy, token).await
    }

    /// What the application says of an access token.
    async fn at_app(&self, token: &Value) -> u16 {
        let bearer = format!("Bearer {}", token.as_str().unwrap());
        let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
        request(self.proxy.address, "GET", "/", &fields, b"")
            .await
            .status
    }

    /// Waits for an event that `is` one.
    async fn event(&self, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.proxy.dir().join("access.log"));
            let log = log.unwrap_or_default();
            let lines = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            if let Some(line) = lines.into_iter().find(|line: &Value| is(line)) {
                return line;
            }
            assert!(start.elapsed() < PATIENCE, "{log}");
            tokio::task::yield_now().await;
        }
    }

    async fn until_revoked(&self, token: &str) {
        let start = Instant::now();
        while !self.old.revoked().iter().any(|one| one == token) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.old.revoked());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_brings_its_old_refresh_token_and_gets_tokens_of_its_side() {
    for percent in [0, 100] {
        let stage = stage(percent, "10s").await;
        let there = if percent == 0 { &stage.old } else { &stage.new };
        let mut token = stage.old.refresh_token("alice");
        for round in 0..3 {
            let (got, next) = good(&stage.refresh(&token).await);
            let own = claims(&got["access_token"]);
            assert_eq!(own["iss"], json!(there.issuer()), "{round}");
            assert_eq!(
                (&own["uid"], &own["aud"]),
                (&json!("uid-alice"), &json!("app"))
            );
            assert!(got["expires_in"].as_u64().unwrap() <= 300);
            assert_eq!(stage.at_app(&got["access_token"]).await, 200);
            assert_ne!(next, token);
            token = next;
        }
        // At the provider each was used once, and nobody who is where their token comes from is exchanged.
        assert_eq!(stage.old.reused(), 0);
        assert_eq!(stage.new.hits("/token"), if percent == 0 { 0 } else { 3 });
        let line = stage
            .event(|line| line["event"] == "decision.token" && line["grant"] == "refresh_token")
            .await;
        assert_eq!(
            (
                &line["oauth_client"],
                &line["audience"],
                &line["outcome"],
                &line["provider"]
            ),
            (
                &json!("mobile"),
                &json!("app"),
                &json!("issued"),
                &json!("old")
            )
        );
        assert!(line["subject"].as_str().unwrap().starts_with("p:"));
        assert_eq!(line["parent"].as_str().unwrap().len(), 16);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_two_have_used_ends_its_family_and_nothing_else() {
    let stage = stage(0, "0s").await;
    let (first, bob) = (
        stage.old.refresh_token("alice"),
        stage.old.refresh_token("bob"),
    );
    let second_login = stage.old.refresh_token("alice");
    let (earliest, alice) = good(&stage.refresh(&first).await);
    let (last, current) = good(&stage.refresh(&alice).await);
    let (_, bob) = good(&stage.refresh(&bob).await);
    let (_, other) = good(&stage.refresh(&second_login).await);
    for given in [&earliest, &last] {
        assert_eq!(stage.at_app(&given["access_token"]).await, 200);
    }
    // The one before the good one; then nothing of the family is good, not even the good one.
    is_error(&stage.refresh(&alice).await, 400, "invalid_grant");
    for over in [&current, &alice, &first] {
        is_error(&stage.refresh(over).await, 400, "invalid_grant");
    }
    for given in [&earliest, &last] {
        assert_eq!(stage.at_app(&given["access_token"]).await, 401);
    }
    // The provider was told of the token that stood behind it: the third that it gave out here for her first login.
    stage.until_revoked("refresh-2").await;
    assert_eq!(stage.old.revoked().len(), 1);
    assert_eq!(stage.old.reused(), 0);
    // Somebody else, and another login of hers.
    let (bobs, _) = good(&stage.refresh(&bob).await);
    assert_eq!(claims(&bobs["access_token"])["uid"], json!("uid-bob"));
    let (hers, _) = good(&stage.refresh(&other).await);
    assert_eq!(stage.at_app(&hers["access_token"]).await, 200);
    let line = stage.event(|line| line["reason"] == "replay").await;
    assert_eq!(
        (&line["grant"], &line["outcome"], &line["oauth_client"]),
        (&json!("refresh_token"), &json!("refused"), &json!("mobile"))
    );
    assert!(
        stage
            .proxy
            .log()
            .contains("A refresh token came a second time")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_token_that_was_brought_twice_is_over_too() {
    let stage = stage(0, "0s").await;
    let first = stage.old.refresh_token("alice");
    let (_, next) = good(&stage.refresh(&first).await);
    is_error(&stage.refresh(&first).await, 400, "invalid_grant");
    is_error(&stage.refresh(&next).await, 400, "invalid_grant");
    // The provider never saw it a second time.
    assert_eq!(stage.old.reused(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_are_one_refresh() {
    let stage = stage(100, "30s").await;
    let first = stage.old.refresh_token("alice");
    for token in [first.clone(), good(&stage.refresh(&first).await).1] {
        let all = (0..12).map(|_| stage.refresh(&token));
        let all = futures_util::future::join_all(all).await;
        let next: Vec<_> = all.iter().map(|answer| good(answer).1).collect();
        assert!(next.iter().all(|one| *one == next[0]));
    }
    assert_eq!(stage.old.reused(), 0);
    assert_eq!(stage.old.hits("/token"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_anything_for_it() {
    let stage = stage(0, "10s").await;
    let first = stage.old.refresh_token("alice");
    let (_, token) = good(&stage.refresh(&first).await);
    let grant = ("grant_type", "refresh_token");
    let made_up = format!("afr1_{}", "A".repeat(64));
    // Another client, nobody's token, a token of no client, too much, for somebody else, and none.
    let pairs = [grant, ("refresh_token", &*token)];
    let answer = post(&stage.proxy, ("other", "other"), TOKEN, &pairs).await;
    is_error(&answer, 400, "invalid_grant");
    for (bad, more, error) in [
        (&*made_up, None, "invalid_grant"),
        ("afr1_x", None, "invalid_grant"),
        ("nothing", None, "invalid_grant"),
        ("", None, "invalid_request"),
        (&*token, Some(("scope", "read write")), "invalid_scope"),
        (&*token, Some(("audience", "else")), "invalid_target"),
    ] {
        let mut pairs = vec![grant, ("refresh_token", bad)];
        pairs.extend(more);
        let answer = post(&stage.proxy, ("mobile", "s3cret"), TOKEN, &pairs).await;
        is_error(&answer, 400, error);
    }
    // None of that has cost its holder anything.
    good(&stage.refresh(&token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_it_belongs_to_one_person() {
    let stage = stage(0, "10s").await;
    let first = stage.old.refresh_token("alice");
    let (_, token) = good(&stage.refresh(&first).await);
    stage.old.refreshes_as("bob");
    is_error(&stage.refresh(&token).await, 400, "invalid_grant");
    is_error(&stage.refresh(&token).await, 400, "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_costs_nobody_a_login() {
    let stage = stage(100, "0s").await;
    let first = stage.old.refresh_token("alice");
    let (_, token) = good(&stage.refresh(&first).await);
    // The side that she is moved to is away, after her token was renewed at the other.
    stage.new.fail_with(Some(503));
    let answer = stage.refresh(&token).await;
    is_error(&answer, 503, "temporarily_unavailable");
    assert!(answer.header("retry-after").is_some());
    stage.new.fail_with(None);
    let start = Instant::now();
    let token = loop {
        let answer = stage.refresh(&token).await;
        if answer.status == 200 {
            break good(&answer).1;
        }
        assert!(start.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // The side that stands behind it.
    stage.old.fail_with(Some(503));
    is_error(&stage.refresh(&token).await, 503, "temporarily_unavailable");
    stage.old.fail_with(None);
    // It says no: that is final.
    stage.old.refuses_refresh(true);
    let start = Instant::now();
    loop {
        let answer = stage.refresh(&token).await;
        if answer.status == 400 {
            break is_error(&answer, 400, "invalid_grant");
        }
        assert!(start.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.old.refuses_refresh(false);
    is_error(&stage.refresh(&token).await, 400, "invalid_grant");
    assert_eq!(stage.old.reused(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gives_back_what_is_its_own() {
    let stage = stage(0, "10s").await;
    let mobile = ("mobile", "s3cret");
    let active = |token: String| {
        let proxy = &stage.proxy;
        async move {
            let answer = post(proxy, ("other", "other"), INTROSPECT, &[("token", &token)]).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            object(&answer)["active"].as_bool().unwrap()
        }
    };
    let first = stage.old.refresh_token("alice");
    let (got, token) = good(&stage.refresh(&first).await);
    let access = got["access_token"].as_str().unwrap().to_owned();
    assert!(active(token.clone()).await && active(access.clone()).await);
    // Not another's.
    let answer = post(
        &stage.proxy,
        ("other", "other"),
        REVOKE,
        &[("token", &token)],
    )
    .await;
    is_error(&answer, 400, "unauthorized_client");
    let answer = post(
        &stage.proxy,
        ("mobile", "wrong"),
        REVOKE,
        &[("token", &token)],
    )
    .await;
    is_error(&answer, 401, "invalid_client");
    assert!(active(token.clone()).await);
    // With a refresh token, what was issued with it last.
    let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &token)]).await;
    assert_eq!(answer.status, 200);
    assert!(!active(token.clone()).await && !active(access.clone()).await);
    assert_eq!(stage.at_app(&json!(access)).await, 401);
    is_error(&stage.refresh(&token).await, 400, "invalid_grant");
    stage.until_revoked("refresh-1").await;
    // Twice, and nothing at all, is no error (RFC 7009 §2.2).
    for over in [&*token, "afr1_x"] {
        let answer = post(&stage.proxy, mobile, REVOKE, &[("token", over)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // A refresh token of the provider's own, which was never brought.
    let direct = stage.old.refresh_token("bob");
    let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &direct)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(stage.old.revoked().contains(&direct));
    // An access token of either side that is this client's, and no other.
    let own = |idp: &Idp, client: &str| {
        let mut claims = idp.claims("alice");
        claims.insert("client_id".to_owned(), json!(client));
        idp.sign(&claims)
    };
    for idp in [&stage.old, &stage.new] {
        let (mine, not_mine) = (own(idp, "authferry"), own(idp, "tests"));
        assert_eq!(stage.at_app(&json!(mine)).await, 200);
        let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &mine)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(stage.at_app(&json!(mine)).await, 401);
        assert!(idp.revoked().contains(&mine));
        let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &not_mine)]).await;
        is_error(&answer, 400, "unauthorized_client");
        assert_eq!(stage.at_app(&json!(not_mine)).await, 200);
    }
    let line = stage
        .event(|line| line["grant"] == "revocation" && line["outcome"] == "revoked")
        .await;
    assert_eq!(line["oauth_client"], json!("mobile"));
}

/// Where `authferry revoke` finds it.
const SOCKET: &str = "\nserver:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_of_whoever_is_revoked_is_inactive_before_it_is_used() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s") + SOCKET;
    let stage = Stage {
        proxy: Proxy::start(&yaml),
        old,
        new,
        _upstream: upstream,
    };
    stage.proxy.settled().await;
    let active = async |token: &str| {
        let pairs = [("token", token)];
        let answer = post(&stage.proxy, ("other", "other"), INTROSPECT, &pairs).await;
        object(&answer)["active"].as_bool().unwrap()
    };
    let mut tokens = Vec::new();
    for who in ["alice", "bob", "carol"] {
        let brought = stage.old.refresh_token(who);
        tokens.push(good(&stage.refresh(&brought).await).1);
    }
    let issuer = stage.old.issuer();
    for (number, target) in [
        &["--account", "alice", "--issuer", &*issuer][..],
        &["--subject", "uid-bob"],
        // As the provider calls the client.
        &["--client", "authferry", "--provider", "old"],
    ]
    .into_iter()
    .enumerate()
    {
        assert!(active(&tokens[number]).await, "{target:?}");
        let plan = [target, &["--plan"]].concat();
        let (_, said) = crate::revoke::revoke(&stage.proxy, &plan);
        assert!(
            said.starts_with("0 running sessions and 1 refresh token would end"),
            "{said}"
        );
        let (done, said) =
            crate::revoke::revoke(&stage.proxy, &[target, &["--reason", "test"]].concat());
        assert!(done, "{said}");
        assert!(!active(&tokens[number]).await, "{target:?}");
    }
    // More than ten end only with a confirmation.
    // What begins in the very moment of a revocation counts as begun before it: the first is asked for until it is later.
    let brought = async |who: &str| good(&stage.refresh(&stage.old.refresh_token(who)).await).1;
    crate::reload::until(async || active(&brought("early").await).await).await;
    for number in 1..11 {
        tokens.push(brought(&format!("p{number}")).await);
    }
    let all = [
        "--client",
        "authferry",
        "--provider",
        "old",
        "--reason",
        "test",
    ];
    let (done, said) = crate::revoke::revoke(&stage.proxy, &all);
    assert!(
        !done && said.contains("0 sessions and 11 refresh tokens would end"),
        "{said}"
    );
    // One that is given back is none of them.
    let last = tokens.last().unwrap();
    let answer = post(
        &stage.proxy,
        ("mobile", "s3cret"),
        REVOKE,
        &[("token", last)],
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (done, said) = crate::revoke::revoke(&stage.proxy, &all);
    assert!(
        done && said.starts_with("0 running sessions and 10 refresh tokens ended"),
        "{said}"
    );
    let line = stage
        .event(|line| line["grant"] == "introspection" && line["outcome"] == "inactive")
        .await;
    assert_eq!(
        (&line["reason"], &line["audience"], &line["provider"]),
        (&json!("revoked"), &json!("app"), &json!("old"))
    );
    assert!(
        line["subject"].as_str().unwrap().starts_with("p:"),
        "{line}"
    );
    // What a client gave back its provider knows of: lifted here, it is as good as the provider says.
    let mut claims = stage.new.claims("dora");
    claims.insert("client_id".to_owned(), json!("authferry"));
    let own = stage.new.sign(&claims);
    let answer = post(
        &stage.proxy,
        ("mobile", "s3cret"),
        REVOKE,
        &[("token", &own)],
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (_, listed) = crate::revoke::revoke(&stage.proxy, &["list"]);
    let line = listed.lines().find(|line| line.contains("client:mobile"));
    let id = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap();
    let (done, said) = crate::revoke::revoke(&stage.proxy, &["lift", id, "--reason", "test"]);
    assert!(
        done && said.contains("stays gone: the token") && said.contains("RFC 7009"),
        "{said}"
    );
}

/// A client of the endpoint has another name at each side: revoked by the one that it has here, it gets nothing at either.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_revoked_by_its_name_here_gets_nothing_at_whichever_side_it_is() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |percent| two_providers(&old, &new, &upstream, percent) + &endpoint("10s") + SOCKET;
    let proxy = Proxy::start(&yaml(0));
    proxy.settled().await;
    let (_, token) = good(&refresh(&proxy, &old.refresh_token("alice")).await);
    let here = [
        "--account",
        "mobile",
        "--issuer",
        "https://app.test/.authferry/oauth2",
        "--reason",
        "copied",
    ];
    let (done, said) = crate::revoke::revoke(&proxy, &here);
    assert!(done, "{said}");
    let id = said
        .split_whitespace()
        .skip_while(|word| *word != "revocation");
    let id = id.clone().nth(1).unwrap();
    for percent in [0, 100] {
        proxy.edit(&yaml(percent));
        let target = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        let wanted = f64::from(percent) / 100.0;
        crate::reload::until(async || proxy.metric(target).await == wanted).await;
        is_error(&refresh(&proxy, &token).await, 401, "invalid_client");
        let pairs = [("token", &*token)];
        let answer = post(&proxy, ("other", "other"), INTROSPECT, &pairs).await;
        assert_eq!(object(&answer)["active"], json!(false));
    }
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", "afr1_x")];
    let answer = post(&proxy, ("other", "other"), TOKEN, &pairs).await;
    is_error(&answer, 400, "invalid_grant");
    let (done, said) = crate::revoke::revoke(&proxy, &["lift", id, "--reason", "found"]);
    assert!(done, "{said}");
    crate::reload::until(async || refresh(&proxy, &token).await.status == 200).await;
}

/// What it got for itself an application takes: it says what the provider calls it, alone or with others.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_revoked_by_its_name_here_loses_what_applications_would_take() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let client = |name: &str, id: &str| {
        let there = format!("{{ id: {id}, secret: {{ env: HARNESS_SECRET }} }}");
        format!(
            "    {name}: {{ secret_hashes: [\"{}\"], grants: [client_credentials], audiences: [app], at: {{ old: {there}, new: {there} }} }}\n",
            hash(name)
        )
    };
    let more = client("batch", "svc") + &client("one", "shared") + &client("two", "shared");
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s") + &more + SOCKET;
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let own = async |name: &str, id: &str| {
        let says = json!({ "sub": format!("service-{name}"), "client_id": id, "uid": format!("service-{name}"), "exp": crate::harness::now() + 200 });
        old.exchanges(says, json!({ "expires_in": 200 }));
        let pairs = [("grant_type", "client_credentials"), ("audience", "app")];
        let answer = post(&proxy, (name, name), TOKEN, &pairs).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
        let token = object(&answer)["access_token"].as_str().unwrap().to_owned();
        assert_eq!(crate::revoke::call(&proxy, &token).await.status, 200);
        token
    };
    let (batch, one) = (own("batch", "svc").await, own("one", "shared").await);
    let two = own("two", "shared").await;
    // Nobody noted this one: it is of a client that has the name alone.
    let direct = {
        let mut claims = old.claims("batch-service");
        claims.insert("client_id".to_owned(), json!("svc"));
        claims.insert("iat".to_owned(), json!(crate::harness::now() - 5));
        old.sign(&claims)
    };
    assert_eq!(crate::revoke::call(&proxy, &direct).await.status, 200);
    let at = ["--issuer", "https://app.test/.authferry/oauth2"];
    for (name, ended, good) in [
        ("batch", &[&batch, &direct][..], &[&one, &two][..]),
        ("one", &[&one][..], &[&two][..]),
    ] {
        let plan = [&["--account", name][..], &at, &["--plan"]].concat();
        let (_, said) = crate::revoke::revoke(&proxy, &plan);
        let counted = "0 running sessions and 1 access token would end";
        assert!(said.starts_with(counted), "{said}");
        let revoke = [&["--account", name][..], &at, &["--reason", "copied"]].concat();
        let (done, said) = crate::revoke::revoke(&proxy, &revoke);
        assert!(done, "{said}");
        for token in ended {
            assert_eq!(
                crate::revoke::call(&proxy, token).await.status,
                401,
                "{name}"
            );
        }
        for token in good {
            assert_eq!(
                crate::revoke::call(&proxy, token).await.status,
                200,
                "{name}"
            );
        }
    }
}

/// What is revoked of a provider is what that gave: whoever is called there as a client is here is somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_at_a_provider_ends_what_that_gave_and_shuts_no_client_out() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let more = format!(
        "    batch: {{ secret_hashes: [\"{}\"], grants: [client_credentials], audiences: [app], at: {{ old: {{ id: svc, secret: {{ env: HARNESS_SECRET }} }}, new: {{ id: svc, secret: {{ env: HARNESS_SECRET }} }} }} }}\n",
        hash("batch")
    );
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s") + &more + SOCKET;
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let own = async || {
        let pairs = [("grant_type", "client_credentials"), ("audience", "app")];
        post(&proxy, ("batch", "batch"), TOKEN, &pairs).await
    };
    let revoke = |target: &[&str]| {
        let (done, said) = crate::revoke::revoke(&proxy, &[target, &["--reason", "x"]].concat());
        assert!(done, "{said}");
    };
    let ends = crate::harness::now() + 200;
    old.exchanges(json!({ "exp": ends }), json!({ "expires_in": 200 }));
    assert_eq!(own().await.status, 200);
    for target in [
        &["--client", "batch", "--provider", "old"][..],
        &["--provider", "old"],
        &["--client", "svc", "--provider", "old"],
    ] {
        revoke(target);
        // What begins in the very moment of it is over.
        crate::reload::until(async || own().await.status == 200).await;
    }
    // While its provider is asked it may be revoked, by either name.
    let here = ["--account", "batch", "--issuer"];
    let here = [&here[..], &["https://app.test/.authferry/oauth2"]].concat();
    for target in [&["--client", "svc", "--provider", "old"][..], &here[..]] {
        let waits = old.keeps_waiting().await;
        let asked = old.hits("/token");
        let (answer, ()) = tokio::join!(own(), async {
            crate::reload::until(async || asked < old.hits("/token")).await;
            revoke(target);
            drop(waits);
        });
        is_error(&answer, 401, "invalid_client");
    }
    is_error(&own().await, 401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_back_stays_so_whatever_it_was_called_and_whoever_is_away() {
    let stage = stage(0, "10s").await;
    let mobile = ("mobile", "s3cret");
    let hint = ("token_type_hint", "access_token");
    // A wrong hint: of a token of ours, and of one that was brought.
    let first = stage.old.refresh_token("alice");
    let (_, token) = good(&stage.refresh(&first).await);
    let pairs = [("token", &*token), hint];
    let answer = post(&stage.proxy, mobile, REVOKE, &pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    is_error(&stage.refresh(&token).await, 400, "invalid_grant");
    let first = stage.old.refresh_token("bob");
    let (_, token) = good(&stage.refresh(&first).await);
    let pairs = [("token", &*first), hint];
    let answer = post(&stage.proxy, mobile, REVOKE, &pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    is_error(&stage.refresh(&token).await, 400, "invalid_grant");
    // The provider was told of both, and of nothing else.
    let start = Instant::now();
    while stage.old.revoked().len() < 2 {
        assert!(start.elapsed() < PATIENCE, "{:?}", stage.old.revoked());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One that was never brought, while its provider cannot be told.
    let direct = stage.old.refresh_token("carol");
    stage.old.revokes_later(1);
    let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &direct)]).await;
    is_error(&answer, 503, "temporarily_unavailable");
    let asked = stage.old.hits("/token");
    is_error(&stage.refresh(&direct).await, 400, "invalid_grant");
    assert_eq!(stage.old.hits("/token"), asked);
    // Whoever comes again has it told.
    let start = Instant::now();
    while !stage.old.revoked().contains(&direct) {
        let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &direct)]).await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        assert!(start.elapsed() < PATIENCE, "{:?}", stage.old.revoked());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Our name for the client is somebody else's at the provider.
    let mut claims = stage.old.claims("alice");
    claims.insert("client_id".to_owned(), json!("mobile"));
    let namesake = stage.old.sign(&claims);
    let answer = post(&stage.proxy, mobile, REVOKE, &[("token", &namesake)]).await;
    is_error(&answer, 400, "unauthorized_client");
    assert_eq!(stage.at_app(&json!(namesake)).await, 200);
}

const DEVICE: &str = "/.authferry/oauth2/device_authorization";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

impl Stage {
    async fn device(&self, who: &str) -> String {
        let answer = post(&self.proxy, (who, who), DEVICE, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got = object(&answer);
        assert_eq!(
            (&got["user_code"], &got["interval"]),
            (&json!("WDJB-MJHT"), &json!(1))
        );
        got["device_code"].as_str().unwrap().to_owned()
    }

    async fn poll(&self, who: &str, code: &str) -> Answer {
        let pairs = [("grant_type", DEVICE_CODE), ("device_code", code)];
        post(&self.proxy, (who, who), TOKEN, &pairs).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_signs_in_where_its_client_belongs() {
    for percent in [0, 100] {
        let stage = stage(percent, "10s").await;
        let (there, other) = match percent {
            0 => (&stage.old, &stage.new),
            _ => (&stage.new, &stage.old),
        };
        let code = stage.device("tv").await;
        is_error(&stage.poll("tv", &code).await, 400, "authorization_pending");
        // Sooner than after the second that it is to wait: on a busy machine it may have gone by.
        crate::reload::until(async || {
            let early = stage.poll("tv", &code).await;
            let error = object(&early)["error"].clone();
            assert!(
                [json!("slow_down"), json!("authorization_pending")].contains(&error),
                "{error}"
            );
            error == json!("slow_down")
        })
        .await;
        // Whoever asks at once is told no sooner; another code is another wait.
        there.types_in(Some("alice"));
        let code = stage.device("tv").await;
        is_error(&stage.poll("kiosk", &code).await, 400, "invalid_grant");
        let first = stage.poll("tv", &code).await;
        let (got, token) = good(&first);
        let own = claims(&got["access_token"]);
        assert_eq!(
            (&own["iss"], &own["uid"]),
            (&json!(there.issuer()), &json!("uid-alice"))
        );
        assert_eq!(other.hits("/token") + other.hits("/device"), 0);
        // Its answer may have got lost.
        let (_, again) = good(&stage.poll("tv", &code).await);
        assert_eq!(again, token);
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", &*token)];
        let (next, _) = good(&post(&stage.proxy, ("tv", "tv"), TOKEN, &pairs).await);
        assert_eq!(claims(&next["access_token"])["uid"], json!("uid-alice"));
        // It was good once: now two have it.
        is_error(&stage.poll("tv", &code).await, 400, "invalid_grant");
        is_error(
            &post(&stage.proxy, ("tv", "tv"), TOKEN, &pairs).await,
            400,
            "invalid_grant",
        );
        let line = stage
            .event(|line| line["grant"] == "device_code" && line["outcome"] == "issued")
            .await;
        assert_eq!(line["oauth_client"], json!("tv"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_nothing_that_its_person_or_its_client_may_not_have() {
    let stage = stage(0, "10s").await;
    stage.old.types_in(None);
    let code = stage.device("tv").await;
    is_error(&stage.poll("tv", &code).await, 400, "access_denied");
    stage.old.types_in(Some("bob"));
    let code = stage.device("kiosk").await;
    let answer = stage.poll("kiosk", &code).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(object(&answer).get("refresh_token").is_none());
    for none in ["", "afr1_x", "x"] {
        let error = if none.is_empty() {
            "invalid_request"
        } else {
            "invalid_grant"
        };
        is_error(&stage.poll("tv", none).await, 400, error);
    }
    let made_up = format!("afr1_{}", "A".repeat(64));
    is_error(&stage.poll("tv", &made_up).await, 400, "expired_token");
    let wide = [("scope", "read admin")];
    is_error(
        &post(&stage.proxy, ("tv", "tv"), DEVICE, &wide).await,
        400,
        "invalid_scope",
    );
    is_error(
        &post(&stage.proxy, ("mobile", "s3cret"), DEVICE, &[]).await,
        400,
        "unauthorized_client",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_again() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s");
    let limits = "  limits: { client: 3, introspection: 2, subject: 100 }\n  clients:";
    let proxy = Proxy::start(&yaml.replacen("  clients:", limits, 1));
    proxy.settled().await;
    // All in one minute: a window that ends meanwhile is tried again.
    loop {
        let minute = crate::harness::now() / 60;
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(refresh(&proxy, "afr1_x").await);
        }
        // Another client is not concerned, and its questions are counted for themselves.
        let other = ("other", "other");
        for _ in 0..3 {
            answers.push(post(&proxy, other, INTROSPECT, &[("token", "x")]).await);
        }
        answers.push(post(&proxy, other, REVOKE, &[("token", "x")]).await);
        if crate::harness::now() / 60 != minute {
            continue;
        }
        let got: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(got, [400, 400, 400, 429, 429, 200, 200, 429, 200]);
        for (answer, left) in answers.iter().zip([2, 1, 0, 0, 0]) {
            let policy = answer.header("ratelimit-policy").unwrap();
            assert_eq!(policy, "\"client\";q=3;w=60");
            let said = answer.header("ratelimit").unwrap();
            assert!(
                said.starts_with(&format!("\"client\";r={left};t=")),
                "{said}"
            );
        }
        let wait: u64 = answers[4].header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        break;
    }
    let limited = r#"authferry_rate_limited_total{endpoint="token",by="client"}"#;
    let limited_so = r#"authferry_rate_limited_total{by="client",endpoint="token"}"#;
    assert!(0.0 < proxy.metric(limited).await + proxy.metric(limited_so).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_nobody_can_read_is_learned_once_from_its_provider() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let known = endpoint("10s").replace(
        &format!("mobile: {{ secret_hashes: [\"{}\"],", hash("s3cret")),
        "mobile: { learn_secret_at: old,",
    );
    assert!(known.contains("learn_secret_at"));
    let yaml = two_providers(&old, &new, &upstream, 0) + &known;
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let first = old.refresh_token("alice");
    let ask = async |secret: &str, token: &str| {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
        post(&proxy, ("mobile", secret), TOKEN, &pairs).await
    };
    // The provider is away: nobody can say.
    old.fail_with(Some(503));
    is_error(&ask("secret", &first).await, 503, "temporarily_unavailable");
    old.fail_with(None);
    // It does not take the wrong one, which is asked about and not learned.
    let start = Instant::now();
    loop {
        let answer = ask("wrong", &first).await;
        if answer.status == 401 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, token) = good(&ask("secret", &first).await);
    // From now on it is known here: the provider is not asked about it, whatever comes.
    let asked = old.hits("/token");
    is_error(&ask("wrong", &token).await, 401, "invalid_client");
    assert_eq!(old.hits("/token"), asked);
    let (_, token) = good(&ask("secret", &token).await);
    assert_eq!(old.hits("/token"), asked + 1);
    // Its rotation: another one is stated beside it, and both are good; then the learned one goes. Nothing else ever is.
    let stated = format!("secret_hashes: [\"{}\"]", hash("next"));
    let applied = "authferry_config_reloads_total{outcome=\"success\"} ";
    let (mut token, key) = (token, "learn_secret_at: old");
    for (text, secrets) in [
        (
            format!("{stated}, {key}"),
            &["secret", "next", "secret"][..],
        ),
        (stated, &["next"][..]),
    ] {
        let before = proxy.metric(applied).await;
        proxy.edit(&yaml.replace(key, &text));
        crate::reload::until(async || before < proxy.metric(applied).await).await;
        for secret in secrets {
            token = good(&ask(secret, &token).await).1;
        }
        is_error(&ask("wrong", &token).await, 401, "invalid_client");
    }
    is_error(&ask("secret", &token).await, 401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_move_without_a_change_of_theirs_and_without_a_failed_call() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let at = "at: { old: { id: authferry, secret: { env: HARNESS_SECRET } }, new: { id: authferry, secret: { env: HARNESS_SECRET } } }";
    let hashed = hash("s3cret");
    let clients: String = (0..200)
        .map(|n| {
            format!("    c{n}: {{ secret_hashes: [\"{hashed}\"], grants: [client_credentials, refresh_token], audiences: [app], refresh: {{ adopt: old }}, {at} }}\n")
        })
        .collect();
    let at_percent = |percent: u32, rules: &str| {
        let text = two_providers(&old, &new, &upstream, percent) + &endpoint("10s");
        let text = text.replacen("  clients:\n", &format!("  clients:\n{clients}"), 1);
        // No call fails, however busy the machine is that plays both providers.
        let patient = "limits: { timeout: 60s }, verify: { audiences: [app] }";
        let text = text.replace("verify: { audiences: [app] }", patient);
        let routes = "    routes: [{ path: /only-old/*, exchange: to-old }, { path: /only-new/*, exchange: to-new }, { path: /* }]\n";
        let text = text.replacen("    public_paths: [/public/*]\n", routes, 1);
        text.replace("  assign:\n", &format!("  assign:\n{rules}"))
            + "cohorts: { pinned: { client_id: [c7] }, early: { client_id: [c9] } }\n"
    };
    for idp in [&old, &new] {
        let ends = crate::harness::now() + 200;
        idp.exchanges(json!({ "exp": ends }), json!({ "expires_in": 200 }));
    }
    let rules = "    - { cohort: pinned, to: old }\n    - { cohort: early, to: new }\n";
    let proxy = Proxy::start(&at_percent(0, rules));
    proxy.settled().await;
    let mut tokens: Vec<String> = (0..200)
        .map(|n| old.refresh_token(&format!("p{n}")))
        .collect();
    // What a client does, whatever is done to it: the issuer of its own token.
    let calls = async |n: usize, token: &mut String| {
        let client = format!("c{n}");
        let who = (&*client, "s3cret");
        let pairs = [("grant_type", "client_credentials"), ("audience", "app")];
        let own = post(&proxy, who, TOKEN, &pairs).await;
        assert_eq!(own.status, 200, "{n}: {}\n{}", own.text(), proxy.log());
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", &**token)];
        let (got, next) = good(&post(&proxy, who, TOKEN, &pairs).await);
        assert_eq!(
            claims(&got["access_token"])["uid"],
            json!(format!("uid-p{n}"))
        );
        *token = next;
        // The application takes both, whichever side they are of.
        let own = object(&own);
        for used in [&own["access_token"], &got["access_token"]] {
            let answer = crate::revoke::call(&proxy, used.as_str().unwrap()).await;
            assert_eq!(answer.status, 200, "{n}: {}", proxy.log());
        }
        // What takes tokens of one side alone gets such, whichever side the client has come to.
        let apis = [("old", &old), ("new", &new)].into_iter();
        for (side, idp) in apis.filter(|_| n.is_multiple_of(20)) {
            let path = format!("/only-{side}/{n}");
            let bearer = format!("Bearer {}", got["access_token"].as_str().unwrap());
            let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
            let answer = request(proxy.address, "GET", &path, &fields, b"").await;
            assert_eq!(answer.status, 200, "{path}: {}", proxy.log());
            let mut seen = upstream.seen();
            seen.retain(|seen| seen.line().starts_with(&format!("GET {path} ")));
            let told = seen.pop().unwrap().all("authorization");
            let token = told[0].strip_prefix("Bearer ").unwrap();
            assert_eq!(claims(&json!(token))["iss"], json!(idp.issuer()), "{path}");
        }
        claims(&own["access_token"])["iss"].clone()
    };
    let mut moved = Vec::new();
    for (round, percent) in [0, 30, 70, 100].into_iter().enumerate() {
        if 0 < round {
            let loads = async || {
                let series = "authferry_config_reloads_total{outcome=\"success\"}";
                proxy.metric(series).await
            };
            let before = loads().await;
            let done = std::cell::Cell::new(false);
            let reload = async {
                proxy.edit(&at_percent(percent, rules));
                proxy.signal("HUP");
                crate::reload::until(async || before < loads().await).await;
                done.set(true);
            };
            // From before the edit until it holds, and a little longer, somebody calls all the time.
            let meanwhile = async {
                let (mut n, mut after) = (0, 0);
                while after < 10 {
                    let before = done.get();
                    calls(n, &mut tokens[n]).await;
                    n = (n + 1) % tokens.len();
                    after += usize::from(before);
                }
            };
            tokio::join!(reload, meanwhile);
        }
        let mut there = 0;
        for (n, token) in tokens.iter_mut().enumerate() {
            let issuer = calls(n, token).await;
            there += usize::from(issuer == json!(new.issuer()));
            match n {
                7 => assert_eq!(issuer, json!(old.issuer()), "held by a rule"),
                9 => assert_eq!(issuer, json!(new.issuer()), "moved by a rule"),
                _ => {}
            }
        }
        moved.push(there);
    }
    assert_eq!((moved[0], moved[3]), (1, 199), "{moved:?}");
    assert!(
        moved.is_sorted() && 20 < moved[1] && moved[1] < 100,
        "{moved:?}"
    );
    assert_eq!(old.reused(), 0);
}
