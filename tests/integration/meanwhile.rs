//! What is revoked while a provider is asked for the token that an upstream or a client is to get: nobody gets it.

use serde_json::json;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::login::Browser;
use crate::reload::until;
use crate::revoke::revoke;
use crate::token_endpoint::hash;
use crate::token_endpoint::is_error;
use crate::two_providers;

const SOCKET: &str = "
sessions: { store: embedded }
server:
  listen: 127.0.0.1:0
  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }
  state_dir: {dir}/state
";

/// Revokes `name` at `of` once `at` is asked for a token, and lets it answer then.
async fn revoked_while(
    proxy: &Proxy,
    (name, of): (&str, &Idp),
    at: &Idp,
    asking: impl Future<Output = Answer>,
) -> Answer {
    let waits = at.keeps_waiting().await;
    let asked = at.hits("/token");
    let revoked = async {
        until(async || asked < at.hits("/token")).await;
        let issuer = of.issuer();
        let account = ["--account", name, "--issuer", &issuer, "--reason", "left"];
        let (done, said) = revoke(proxy, &account);
        assert!(done, "{said}");
        drop(waits);
    };
    tokio::join!(asking, revoked).0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_while_a_provider_is_asked_is_not_handed_on() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100)
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
        .replace(
            "    public_paths: [/public/*]\n",
            "    routes: [{ path: /old/*, exchange: to-old }, { path: /* }]\n",
        );
    let proxy = Proxy::start(&format!(
        r#"{yaml}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [api] }} }}
  back: {{ token_exchange: {{ provider: old, audiences: [api] }} }}
  to-old: {{ assertion: {{ provider: old, issuer: "https://ferry.test", subject: "{{subject}}", audiences: [api] }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ api: {{ exchanges: [to-new, back] }} }}
  clients:
    batch: {{ secret_hashes: ["{}"], grants: [token_exchange], audiences: [api], scopes: [read] }}
{SOCKET}"#,
        hash("s3cret")
    ));
    proxy.settled().await;
    // Everybody belongs to the new side. A token, on its way to the application.
    let token = new.token("bob");
    let asking = async {
        let value = format!("Bearer {token}");
        let fields = [("Authorization", &*value)];
        crate::harness::request(proxy.address, "GET", "/old/x", &fields, b"").await
    };
    let answer = revoked_while(&proxy, ("bob", &new), &old, asking).await;
    assert_eq!(answer.status, 401, "{}", proxy.log());
    assert_eq!(upstream.hits(), 0);

    // A session.
    new.signs_in("carol");
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    browser.sign_in(&proxy, &start).await;
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    let asking = browser.open(&proxy, "/old/x");
    let answer = revoked_while(&proxy, ("carol", &new), &old, asking).await;
    assert_ne!(answer.status, 200, "{}", proxy.log());
    assert_eq!(upstream.hits(), 1, "that of before");

    // A client asks for a token.
    let longer = json!({ "exp": crate::harness::now() + 200 });
    new.exchanges(longer, json!({ "expires_in": 200 }));
    let token = old.token("dora");
    let pairs = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", &*token),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("audience", "api"),
    ];
    let path = "/.authferry/oauth2/token";
    let asking = crate::refresh::post(&proxy, ("batch", "s3cret"), path, &pairs);
    let answer = revoked_while(&proxy, ("dora", &old), &new, asking).await;
    is_error(&answer, 400, "invalid_request");
}
