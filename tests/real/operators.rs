//! What operators hold against the proxy: a real Prometheus, promtool, a drain under load.

use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::Echo;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::request;
use crate::modern::token_of;
use crate::proxy;
use crate::two_sides;

/// Asks again until `done` says so.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(mut done: F) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "it never happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `promtool check metrics`, for whatever the proxy shows by now.
pub(crate) async fn promtool_is_content(proxy: &Proxy) {
    let metrics = get(proxy.admin, "/metrics").await;
    assert_eq!(metrics.status, 200);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), &metrics.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.status.success() && words.trim().is_empty(), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say_about_our_metrics() {
    let upstream = Echo::start().await;
    let proxy = proxy(&two_sides(&upstream.url(), "50"));
    let token = format!("Bearer {}", token_of("bob").await);
    for target in ["/x", "/public/y"] {
        request(
            proxy.address,
            "GET",
            target,
            &[("Host", "127.0.0.1"), ("Authorization", &token)],
            b"",
        )
        .await;
    }
    promtool_is_content(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_us() {
    let upstream = Echo::start().await;
    let proxy = proxy(&two_sides(&upstream.url(), "50"));
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - {{ job_name: authferry, static_configs: [{{ targets: [\"{}\"] }}] }}\n",
        proxy.admin
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            dir.path().join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let host = address.to_string();
    until(async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
    until(async || {
        let answer = request(
            address,
            "GET",
            "/api/v1/query?query=up",
            &[("Host", &host)],
            b"",
        )
        .await;
        answer.text().contains("\"1\"]")
    })
    .await;
    let answer = request(
        address,
        "GET",
        "/api/v1/query?query=authferry_config_last_reload_successful",
        &[("Host", &host)],
        b"",
    )
    .await;
    assert!(answer.text().contains("\"1\"]"), "{}", answer.text());
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
}
