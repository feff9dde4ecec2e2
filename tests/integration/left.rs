//! What browsers still hold of the old side once that has stopped counting: for some minutes, or for good.

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;
use crate::wrapped::config;
use crate::wrapped::with_session;

/// The same providers, in one stage.
fn staged(old: &OldSystem, new: &Idp, upstream: &Echo, stage: &str) -> String {
    let yaml = config(old, new, upstream, 0);
    let (both, _) = yaml.split_once("rollout:\n").unwrap();
    format!(
        r#"{both}rollouts:
  crm-2026:
    from: old
    to: new
    apps: [crm]
    bucketing: {{ salt: crm-2026 }}
    stages:
      - id: one
        {stage}
"#
    )
}

/// Where no application takes it any more, the old system ends its session; another application may still take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_an_old_system_ends_there_once_no_application_takes_it_any_more() {
    for taken in [true, false] {
        let (old, new, upstream) = (
            OldSystem::start().await,
            Idp::start().await,
            Echo::start().await,
        );
        let mut yaml = staged(&old, &new, &upstream, "mode: modern-only");
        if taken {
            let shop = format!(
                "apps:\n  shop: {{ hosts: [shop.test], provider: old, upstream: {{ url: \"{}\" }} }}\n",
                upstream.url()
            );
            yaml = yaml.replacen("apps:\n", &shop, 1);
        }
        let proxy = Proxy::start(&yaml);
        proxy.settled().await;
        let mut browser = with_session("alice.1");
        let page = browser.open(&proxy, "/deep?a=b").await;
        assert_eq!(page.status, 302, "{}", proxy.log());
        let location = page.header("location").unwrap();
        assert!(location.starts_with(&new.issuer()), "{location}");
        let sets = page.all("set-cookie");
        let cleared = sets.iter().any(|set| set.starts_with("SID=;"));
        assert_eq!(cleared, !taken, "{sets:?}");
        if taken {
            let fields = [("Host", "shop.test"), ("Cookie", "SID=alice.1")];
            let there = request(proxy.address, "GET", "/", &fields, b"").await;
            assert_eq!(there.status, 200, "{}", proxy.log());
            assert!(!old.has_ended("alice.1"));
        } else {
            until(async || old.has_ended("alice.1")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_until_when_a_brownout_lasts_and_keeps_what_it_has() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let now = i64::try_from(crate::harness::now()).unwrap();
    let begun = jiff::Timestamp::from_second(now - 60).unwrap();
    let stage = format!(
        "mode: canary\n        brownouts: [{{ at: \"{begun}\", for: 10m }}]\n        warn: {{ notice: \"https://intranet.corp.test/move\" }}"
    );
    let proxy = Proxy::start(&staged(&old, &new, &upstream, &stage));
    proxy.settled().await;
    let mut browser = with_session("alice.1");
    for path in ["/deep?a=b", "/.authferry/login?rd=%2Fdeep"] {
        let page = browser.open(&proxy, path).await;
        assert_eq!(page.status, 503, "{path}\n{}", proxy.log());
        let wait: i64 = page.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=540).contains(&wait), "{wait}");
        assert_eq!(page.all("retry-after").len(), 1, "{page:?}");
        assert_eq!(
            page.header("link"),
            Some("<https://intranet.corp.test/move>; rel=\"deprecation\"")
        );
        assert!(
            page.text().contains("It is planned, until "),
            "{}",
            page.text()
        );
        assert!(
            !page
                .all("set-cookie")
                .iter()
                .any(|set| set.starts_with("SID="))
        );
    }
    assert_eq!(browser.0["SID"], "alice.1");
    assert!(!old.has_ended("alice.1"));
}
