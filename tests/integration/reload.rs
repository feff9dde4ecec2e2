//! An edited file takes effect without a restart; a broken one changes nothing.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::drain::holding;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::request;
use crate::two_providers;

/// Asks again until `done` says so; how long it took.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(mut done: F) -> Duration {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "it never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

/// Does something until it took less than `most` three times, and more than that at most twice: a busy machine is late now and
/// then, a program that is too slow more often.
pub(crate) async fn mostly_within(most: Duration, mut attempt: impl AsyncFnMut(usize) -> Duration) {
    let mut took = Vec::new();
    let late = |took: &[Duration]| took.iter().filter(|took| most <= **took).count();
    while took.len() < 3 + late(&took) {
        assert!(late(&took) < 3, "not within {most:?}: {took:?}");
        took.push(attempt(took.len()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_file_is_live_within_a_second_and_a_broken_one_changes_nothing() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let good = two_providers(&old, &new, &upstream, 50);
    let proxy = Proxy::start(&good);
    assert_eq!(get(proxy.address, "/open/x").await.status, 401);

    let opened = good.replace("[/public/*]", "[/public/*, /open/*]");
    let edited = async |yaml: &str, status: u16| {
        proxy.edit(yaml);
        until(async || get(proxy.address, "/open/x").await.status == status).await
    };
    mostly_within(Duration::from_secs(1), async |number| {
        if 0 < number {
            edited(&good, 401).await;
        }
        edited(&opened, 200).await
    })
    .await;
    until(async || {
        proxy
            .metric("authferry_config_last_reload_successful ")
            .await
            == 1.0
    })
    .await;

    proxy.edit(&good.replace("percent: 50", "percent: 150"));
    until(async || {
        proxy
            .metric("authferry_config_last_reload_successful ")
            .await
            == 0.0
    })
    .await;
    assert_eq!(
        get(proxy.address, "/open/x").await.status,
        200,
        "the last good one stays"
    );
    assert!(
        proxy.log().contains("150"),
        "the log names the value: {}",
        proxy.log()
    );
    // `ctl status` asks `GET /-/config`.
    let status = || {
        let dir = proxy.dir().to_owned();
        let asked = move || crate::control::good(&dir, &["ctl", "status"]);
        tokio::task::spawn_blocking(asked)
    };
    let told = status().await.unwrap();
    assert!(
        told.contains("the file on disk is refused") && told.contains("150"),
        "{told}"
    );

    proxy.edit(&good);
    until(async || get(proxy.address, "/open/x").await.status == 401).await;
    until(async || {
        proxy
            .metric("authferry_config_last_reload_successful ")
            .await
            == 1.0
    })
    .await;
    let told = status().await.unwrap();
    assert!(!told.contains("refused"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_behind_a_swapped_symlink_is_live_as_a_config_map_is() {
    use std::os::unix::fs::symlink;

    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let good = two_providers(&old, &new, &upstream, 50);
    let proxy = Proxy::start(&good);
    // A volume of Kubernetes: FILE -> ..data/FILE, ..data -> ..TIME/, and only ..data is ever replaced.
    let (dir, file) = (proxy.dir(), proxy.dir().join("authferry.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    let version = |name: &str, text: &str| {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("authferry.yaml"), text).unwrap();
        symlink(name, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    version("..1", &text);
    symlink("..data/authferry.yaml", dir.join("link")).unwrap();
    std::fs::rename(dir.join("link"), &file).unwrap();
    assert_eq!(get(proxy.address, "/open/x").await.status, 401);

    mostly_within(Duration::from_secs(1), async |number| {
        let mut longest = Duration::ZERO;
        for (way, paths, status) in [
            ("there", "[/public/*, /open/*]", 200),
            ("back", "[/public/*]", 401),
        ] {
            let name = format!("..{number}-{way}");
            version(&name, &text.replace("[/public/*]", paths));
            let took = until(async || get(proxy.address, "/open/x").await.status == status).await;
            longest = longest.max(took);
        }
        longest
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_can_be_asked_for_by_signal_and_by_the_admin_listener() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let good = two_providers(&old, &new, &upstream, 50);
    let proxy = Proxy::start(&good);
    let host = proxy.admin.to_string();

    let anonymous = request(proxy.admin, "POST", "/-/reload", &[("Host", &host)], b"").await;
    assert!(
        [401, 403].contains(&anonymous.status),
        "{}",
        anonymous.status
    );
    let from_a_page = [
        ("Host", host.as_str()),
        ("Authorization", "Bearer admin-token"),
        ("Origin", "http://evil.test"),
    ];
    assert_eq!(
        request(proxy.admin, "POST", "/-/reload", &from_a_page, b"")
            .await
            .status,
        403
    );

    let operator = [
        ("Host", host.as_str()),
        ("Authorization", "Bearer admin-token"),
    ];
    assert_eq!(
        request(proxy.admin, "POST", "/-/reload", &operator, b"")
            .await
            .status,
        200
    );

    let before = proxy
        .metric("authferry_config_reloads_total{outcome=\"success\"} ")
        .await;
    proxy.signal("HUP");
    until(async || {
        before
            < proxy
                .metric("authferry_config_reloads_total{outcome=\"success\"} ")
                .await
    })
    .await;
}

/// A reload that is asked for: its outcome, and what is wrong.
pub(crate) async fn reloaded(proxy: &Proxy, yaml: &str) -> (String, String) {
    // Whether the watch or we are first, the answer is about the same file.
    proxy.edit(yaml);
    let host = proxy.admin.to_string();
    let fields = [
        ("Host", host.as_str()),
        ("Authorization", "Bearer admin-token"),
    ];
    let answer = request(proxy.admin, "POST", "/-/reload", &fields, b"").await;
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    let outcome = said["outcome"].as_str().unwrap();
    // The watch may have been first.
    let outcome = outcome.replace("unchanged", "applied");
    (outcome, said["problems"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_finish_on_their_generation() {
    let (old, new, second) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let (first, mut told, go) = holding().await;
    let before =
        two_providers(&old, &new, &second, 50).replace(&second.url(), &format!("http://{first}"));
    let proxy = Proxy::start(&before);
    proxy.settled().await;
    let token = format!("Bearer {}", new.token("alice"));
    let ask = async |target: &'static str| {
        let fields = [("Authorization", token.as_str())];
        request(proxy.address, "GET", target, &fields, b"").await
    };
    // One whose answer has begun, and one that waits for its first byte.
    let held = async { tokio::join!(ask("/begun"), ask("/waiting")) };
    let meanwhile = async {
        let mut heads = [told.recv().await.unwrap(), told.recv().await.unwrap()];
        heads.sort();
        for (head, target) in heads.iter().zip(["/begun", "/waiting"]) {
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with(&format!("get {target} ")), "{head}");
            assert!(head.contains("\r\nx-remote-user: uid-alice\r\n"), "{head}");
        }
        let after = two_providers(&old, &new, &second, 50)
            .replace("X-Remote-User", "X-Account")
            .replace("X-Remote-Name: \"{name}\", ", "");
        assert_eq!(reloaded(&proxy, &after).await.0, "applied");
        let answer = ask("/next").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = second.last();
        assert_eq!(seen.line(), "GET /next HTTP/1.1");
        assert_eq!(seen.all("x-account"), ["uid-alice"]);
        for gone in ["x-remote-user", "x-remote-name"] {
            assert!(seen.all(gone).is_empty(), "{}", seen.head);
        }
        go.send(true).unwrap();
    };
    let ((begun, waiting), ()) = tokio::join!(held, meanwhile);
    for answer in [begun, waiting] {
        assert_eq!((answer.status, &*answer.body), (200, &b"whole"[..]));
    }
    assert!(
        told.try_recv().is_err(),
        "the old application is asked no more"
    );
    assert_eq!(second.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_not_put_into_buckets_anew_unless_that_is_meant() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let good = two_providers(&old, &new, &upstream, 50);
    let proxy = Proxy::start(&good);
    for (from, to, what) in [
        ("salt: test", "salt: other", "bucketing.salt"),
        (
            "salt: test",
            "salt: test, unit: client_id",
            "bucketing.unit",
        ),
    ] {
        let changed = good.replace(from, to);
        let (outcome, problems) = reloaded(&proxy, &changed).await;
        assert_eq!(outcome, "refused", "{problems}");
        assert!(
            problems.contains(what) && problems.contains("acknowledge: reshuffle"),
            "{problems}"
        );
    }
    let keys = ["one", "two"].map(|name| {
        let path = proxy.dir().join(name);
        std::fs::write(&path, name.repeat(11).get(..32).unwrap()).unwrap();
        path
    });
    let keyed = |key: &std::path::Path| {
        format!(
            "{good}secrets: {{ bucket_key: {{ file: \"{}\" }} }}\n",
            key.display()
        )
    };
    for key in &keys {
        let (outcome, problems) = reloaded(&proxy, &keyed(key)).await;
        assert_eq!(outcome, "refused", "{problems}");
        assert!(problems.contains("secrets.bucket_key"), "{problems}");
    }
    let meant = keyed(&keys[0]) + "change: { acknowledge: reshuffle }\n";
    assert_eq!(reloaded(&proxy, &meant).await.0, "applied");
    assert_eq!(reloaded(&proxy, &keyed(&keys[0])).await.0, "applied");
    let (outcome, problems) = reloaded(&proxy, &keyed(&keys[1])).await;
    assert_eq!(outcome, "refused", "{problems}");
    let meant = keyed(&keys[0]).replace("salt: test", "salt: other")
        + "change: { acknowledge: reshuffle }\n";
    assert_eq!(
        reloaded(&proxy, &meant).await,
        ("applied".to_owned(), "[]".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_not_jumped_over_unless_that_is_meant() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let (head, _) = two_providers(&old, &new, &upstream, 50)
        .split_once("rollout:\n")
        .map(|(head, rest)| (head.to_owned(), rest.to_owned()))
        .unwrap();
    let at = |stage: &str| {
        format!(
            "{head}rollouts:\n  move:\n    apps: [crm]\n    from: old\n    to: new\n    bucketing: {{ salt: test }}\n    control: pinned\n    pinned_stage: {stage}\n    \
             stages:\n      - {{ id: a, mode: legacy-only }}\n      - {{ id: b, mode: canary, assign: [{{ percent: 10, to: new }}] }}\n      \
             - {{ id: c, mode: canary, assign: [{{ percent: 50, to: new }}] }}\n      - {{ id: d, mode: modern-primary }}\n"
        )
    };
    let proxy = Proxy::start(&at("a"));
    let (outcome, problems) = reloaded(&proxy, &at("c")).await;
    assert_eq!(outcome, "refused", "{problems}");
    assert!(problems.contains("acknowledge: skip"), "{problems}");
    for stage in ["b", "c", "d", "a"] {
        // Going back is never a jump.
        let (outcome, problems) = reloaded(&proxy, &at(stage)).await;
        assert_eq!(outcome, "applied", "{stage}: {problems}");
    }
    let meant = at("c") + "change: { acknowledge: skip }\n";
    assert_eq!(reloaded(&proxy, &meant).await.0, "applied");
}
