//! The kill switch works when nothing else does.

use std::time::Duration;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;
use crate::two_providers;

const NAVIGATION: [(&str, &str); 3] = [
    ("Accept", "text/html"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_file_moves_new_logins_within_a_second_with_a_broken_configuration() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 100));
    let goes_to = async |idp: &Idp| {
        let answer = request(proxy.address, "GET", "/", &NAVIGATION, b"").await;
        answer
            .header("location")
            .is_some_and(|l| l.starts_with(&idp.issuer()))
    };
    assert!(goes_to(&new).await);

    proxy.edit("this is not a configuration: [");
    until(async || {
        proxy
            .metric("authferry_config_last_reload_successful ")
            .await
            == 0.0
    })
    .await;
    std::fs::write(proxy.dir().join("state/kill"), "legacy\n").unwrap();
    let took = until(async || goes_to(&old).await).await;
    assert!(took < Duration::from_secs(1), "{took:?}");

    std::fs::write(proxy.dir().join("state/kill"), "deny\n").unwrap();
    until(async || {
        request(proxy.address, "GET", "/", &NAVIGATION, b"")
            .await
            .status
            == 503
    })
    .await;
    assert_eq!(upstream.hits(), 0);

    std::fs::remove_file(proxy.dir().join("state/kill")).unwrap();
    until(async || goes_to(&new).await).await;
}
