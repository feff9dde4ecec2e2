//! Files that a provider judges by: a mistake in one changes nothing, and is said.

use std::fs;

use serde_json::Value;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::request;
use crate::reload::until;

/// Of `secret`, and of nothing that anybody has.
const GOOD: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

async fn ready(proxy: &Proxy) -> Value {
    let text = get(proxy.admin, "/-/ready").await.text();
    serde_json::from_str(&text).unwrap()
}

async fn comes(proxy: &Proxy) -> Answer {
    request(proxy.address, "GET", "/", &[("X-Api-Key", "secret")], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_out_of_a_file_with_a_mistake_counts_on_and_is_said_to() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, format!("job:sha256:{GOOD}\nother:sha256:{OTHER}\n")).unwrap();
    let yaml = format!(
        r#"
providers:
  jobs: {{ api_key: {{ file: "{{dir}}/keys", header: X-Api-Key }} }}
apps:
  crm: {{ hosts: [app.test], provider: jobs, upstream: {{ url: "{}" }} }}
"#,
        upstream.url()
    );
    let proxy = Proxy::start_in(dir, &yaml);
    let series = "authferry_provider_file_good{provider=\"jobs\"} ";
    assert_eq!(comes(&proxy).await.status, 200, "{}", proxy.log());
    assert_eq!(ready(&proxy).await["status"], "ready");
    assert_eq!(proxy.metric(series).await, 1.0);

    for broken in [Some(format!("other:sha256:{OTHER}\nthird:secret\n")), None] {
        match &broken {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let says = match &broken {
            Some(_) => "(line 2: ",
            None => "(No such file",
        };
        let mut told = Value::Null;
        until(async || {
            told = ready(&proxy).await;
            told["degraded"].to_string().contains(says)
        })
        .await;
        assert_eq!(told["status"], "degraded", "{told}");
        let one = &told["degraded"][0];
        assert_eq!(one["id"], "jobs");
        assert_eq!(one["usable"], true);
        let reason = one["reason"].as_str().unwrap();
        assert!(reason.contains("/keys is not what counts"), "{told}");
        assert!(!reason.contains("third"), "{told}");
        assert_eq!(proxy.metric(series).await, 0.0);
        assert_eq!(comes(&proxy).await.status, 200, "what it said last stays");
    }

    fs::write(&file, format!("other:sha256:{OTHER}\n")).unwrap();
    until(async || comes(&proxy).await.status == 401).await;
    until(async || ready(&proxy).await["status"] == "ready").await;
    assert_eq!(proxy.metric(series).await, 1.0);
}
