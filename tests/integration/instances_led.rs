//! A rollout that two instances over one real Redis drive together: one leads, the other follows, and nobody moves alone.

use std::time::Duration;

use tokio::time::Instant;

use crate::control::authferry;
use crate::control::goes_to;
use crate::control::good;
use crate::control::records;
use crate::control::staged;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::instances::Redis;
use crate::instances::ready;

/// Longer than a lease, several times.
const PATIENCE: Duration = Duration::from_secs(90);

async fn until(what: &str, proxies: &[&Proxy], mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        let logs: Vec<_> = proxies.iter().map(|proxy| proxy.log()).collect();
        assert!(began.elapsed() < PATIENCE, "{what}\n{}", logs.join("\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn leads(proxy: &Proxy) -> bool {
    proxy.metric("authferry_rollout_leads").await == 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_the_other_follows_and_leads_when_the_first_is_gone() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = staged(&old, &new, &upstream) + &redis.shared("5m");
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    for proxy in [&a, &b] {
        ready(proxy).await;
        proxy.settled().await;
    }
    until("one leads", &[&a, &b], async || {
        leads(&a).await != leads(&b).await
    })
    .await;
    let (mut leader, follower) = if leads(&a).await { (a, b) } else { (b, a) };

    // Ordered at the one that follows, it holds at both.
    good(follower.dir(), &["ctl", "start", "--reason", "IAM-1"]);
    good(
        follower.dir(),
        &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"],
    );
    for proxy in [&leader, &follower] {
        until("they go to the new provider", &[proxy], async || {
            goes_to(proxy, &new).await
        })
        .await;
    }
    let (_, text) = authferry(follower.dir(), &["ctl", "status"]);
    assert!(text.contains("led by"), "{text}");
    let (done, text) = authferry(follower.dir(), &["ctl", "promote", "--reason", "IAM-3"]);
    assert!(
        !done && text.contains("the evidence is elsewhere"),
        "{text}"
    );

    // While nobody can agree, nobody moves.
    redis.signal("-STOP");
    for proxy in [&leader, &follower] {
        until("it holds", &[proxy], async || {
            authferry(proxy.dir(), &["ctl", "status"])
                .1
                .contains("it holds")
        })
        .await;
        let (done, text) = authferry(proxy.dir(), &["ctl", "rollback", "--reason", "IAM-4"]);
        assert!(
            !done && text.contains("it is not known where it stands"),
            "{text}"
        );
        assert!(goes_to(proxy, &new).await);
    }
    redis.signal("-CONT");
    until("one leads again", &[&leader, &follower], async || {
        leads(&leader).await != leads(&follower).await
    })
    .await;

    // Killed without a word: the other one leads when its lease has ended, where it was.
    let follower = if leads(&leader).await {
        follower
    } else {
        std::mem::replace(&mut leader, follower)
    };
    leader.signal("KILL");
    leader.wait();
    until("the other one leads", &[&follower], async || {
        leads(&follower).await
    })
    .await;
    assert!(goes_to(&follower, &new).await);
    let text = good(follower.dir(), &["ctl", "rollback", "--reason", "IAM-5"]);
    assert!(text.contains("rolled_back at ramp/0.01"), "{text}");
    // Back from the dead it decides as the others do, from its first request on.
    leader.again();
    leader.settled().await;
    assert!(goes_to(&leader, &old).await, "{}", leader.log());
    until("the dead one follows", &[&leader], async || {
        let (_, text) = authferry(leader.dir(), &["ctl", "status"]);
        text.contains("led by") && text.contains("rolled_back at ramp/0.01")
    })
    .await;
    for proxy in [&leader, &follower] {
        let verified = good(proxy.dir(), &["log", "verify"]);
        assert!(verified.starts_with("ok "), "{verified}");
        let all = records(proxy.dir());
        let second = all
            .iter()
            .any(|record| record["why"] == "IAM-2" && record["to"] == "ramp/100");
        assert!(second, "both tell of it: {all:?}");
    }
}

/// A browser is sent to a provider: the answer, and whether it is sent to `idp`.
async fn sets_out(proxy: &Proxy, idp: &Idp) -> (Answer, bool) {
    let fields = [
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    let answer = request(proxy.address, "GET", "/", &fields, b"").await;
    assert_eq!(answer.status, 302, "{}\n{}", answer.text(), proxy.log());
    let to = answer
        .header("location")
        .unwrap()
        .starts_with(&idp.issuer());
    (answer, to)
}

/// It comes back to this instance, and is signed in.
async fn comes_back(begun: &Answer, proxy: &Proxy) {
    let to: http::Uri = begun.header("location").unwrap().parse().unwrap();
    let at = to.authority().unwrap().as_str().parse().unwrap();
    let there = request(at, "GET", to.path_and_query().unwrap().as_str(), &[], b"").await;
    let back: http::Uri = there.header("location").unwrap().parse().unwrap();
    let back = back.path_and_query().unwrap().as_str();
    let cookies: Vec<_> = begun.cookies();
    let done = request(
        proxy.address,
        "GET",
        back,
        &[("Cookie", cookies.join("; ").as_str())],
        b"",
    )
    .await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
}

/// Behind a balancer that knows no browser: the bound of harm is one for both, and whoever comes back elsewhere is back.
#[tokio::test(flavor = "multi_thread")]
async fn ten_set_out_at_both_together_and_come_back_to_either() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = staged(&old, &new, &upstream) + &redis.shared("5m");
    let both = [Proxy::start(&config), Proxy::start(&config)];
    for proxy in &both {
        ready(proxy).await;
        proxy.settled().await;
    }
    let [a, b] = &both;
    until("one leads", &[a, b], async || {
        leads(a).await != leads(b).await
    })
    .await;
    good(a.dir(), &["ctl", "start", "--reason", "IAM-1"]);
    good(
        a.dir(),
        &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"],
    );
    let mut begun = Vec::new();
    for proxy in [a, b] {
        until("they go to the new provider", &[proxy], async || {
            let (answer, to) = sets_out(proxy, &new).await;
            begun.extend(to.then_some(answer));
            to
        })
        .await;
    }
    let at_once = (0..200).map(|n| sets_out(&both[n % 2], &new));
    let at_once = futures_util::future::join_all(at_once).await;
    let to_new = at_once.into_iter().filter(|(_, to)| *to);
    begun.extend(to_new.map(|(answer, _)| answer));
    assert_eq!(begun.len(), 10, "{}\n{}", a.log(), b.log());
    // All of them at the other instance than they set out from, or at the same: half of each.
    for (n, answer) in begun.iter().take(5).enumerate() {
        comes_back(answer, &both[n % 2]).await;
    }
    let arrived = async |proxy: &Proxy| {
        let series =
            "authferry_login_journeys_total{rollout=\"move\",arm=\"modern\",event=\"succeeded\"}";
        proxy.metric(series).await
    };
    assert_eq!(arrived(a).await + arrived(b).await, 5.0);
    let mut more = 0;
    for n in 0..30 {
        more += usize::from(sets_out(&both[n % 2], &new).await.1);
    }
    assert_eq!(more, 10, "five are back: ten more may set out");
}
