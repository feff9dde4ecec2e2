//! The kill switch works when nothing else does.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::control::good;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::mostly_within;
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
    let file = proxy.dir().join("state/kill");
    mostly_within(Duration::from_secs(1), async |number| {
        if 0 < number {
            std::fs::remove_file(&file).unwrap();
            until(async || goes_to(&new).await).await;
        }
        std::fs::write(&file, "legacy\n").unwrap();
        until(async || goes_to(&old).await).await
    })
    .await;

    std::fs::write(&file, "deny\n").unwrap();
    until(async || {
        request(proxy.address, "GET", "/", &NAVIGATION, b"")
            .await
            .status
            == 503
    })
    .await;
    assert_eq!(upstream.hits(), 0);

    std::fs::remove_file(&file).unwrap();
    until(async || goes_to(&new).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_types_counts_for_the_very_next_request() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 100));
    let answer = async || request(proxy.address, "GET", "/", &NAVIGATION, b"").await;
    let place = async || {
        answer()
            .await
            .header("location")
            .unwrap_or_default()
            .to_owned()
    };
    assert!(place().await.starts_with(&new.issuer()));
    let dir = proxy.dir().to_owned();
    let kill = async |position: &'static str| {
        let dir = dir.clone();
        let typed = move || good(&dir, &["ctl", "kill", position, "--reason", "INC-1"]);
        tokio::task::spawn_blocking(typed).await.unwrap();
    };
    kill("legacy").await;
    assert!(place().await.starts_with(&old.issuer()));
    kill("deny").await;
    assert_eq!(answer().await.status, 503);
    kill("off").await;
    assert!(place().await.starts_with(&new.issuer()));
    assert_eq!(upstream.hits(), 0);
}

/// Where the file is in charge a lower percent holds people where they are; who was called back by the switch is not held.
#[tokio::test(flavor = "multi_thread")]
async fn whom_the_switch_called_back_no_pin_sends_to_the_new_side_again() {
    for killed in [false, true] {
        let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
        let yaml = |percent| {
            two_providers(&old, &new, &upstream, percent).replace("[app.test]", "[127.0.0.1]")
        };
        let proxy = Proxy::start(&yaml(0));
        let (mut browser, stranger) = (Browser::default(), Browser::default());
        let goes_to = async |browser: &Browser, idp: &Idp| {
            let answer = browser.clone().open(&proxy, "/").await;
            let to = answer.header("location").unwrap_or_default();
            to.starts_with(&idp.issuer())
        };
        // Somebody whom both sides know moves.
        for idp in [&old, &new] {
            until(async || goes_to(&stranger, idp).await).await;
            let start = browser.open(&proxy, "/").await;
            browser.sign_in(&proxy, &start).await;
            assert_eq!(browser.open(&proxy, "/").await.status, 200);
            // The session is over; the browser is the same.
            browser.0.retain(|name, _| name.ends_with("authferry_dev"));
            assert_eq!(browser.0.len(), 1);
            proxy.edit(&yaml(100));
        }
        assert!(goes_to(&browser, &new).await);
        let dir = proxy.dir().to_owned();
        let kill = async |position: &'static str| {
            let dir = dir.clone();
            let typed = move || good(&dir, &["ctl", "kill", position, "--reason", "INC-1"]);
            tokio::task::spawn_blocking(typed).await.unwrap();
        };
        if killed {
            kill("legacy").await;
            assert!(goes_to(&browser, &old).await);
            until(async || {
                let ledger = std::fs::read_to_string(dir.join("state/decisions.jsonl"));
                ledger.unwrap().contains("kill switch legacy")
            })
            .await;
        }
        proxy.edit(&yaml(0));
        let applied = || {
            let records = crate::control::records(&dir);
            let applied = records.iter().filter(|r| r["kind"] == "config_applied");
            applied.count()
        };
        until(async || applied() == 2).await;
        if killed {
            kill("off").await;
        }
        until(async || goes_to(&stranger, &old).await).await;
        assert_eq!(goes_to(&browser, &new).await, !killed);
        assert_eq!(goes_to(&browser, &old).await, killed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_file_works_with_a_broken_configuration_and_without_an_admin_interface() {
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
    until(async || proxy.log().contains("The configuration was refused")).await;

    // The socket is gone, and every place at the address is held by somebody who says nothing.
    std::fs::remove_file(proxy.dir().join("state/admin.sock")).unwrap();
    let mut held = Vec::new();
    loop {
        let mut stream = TcpStream::connect(proxy.admin).await.unwrap();
        match timeout(Duration::from_millis(30), stream.read(&mut [0])).await {
            Err(_silence) => held.push(stream),
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => panic!("the admin interface speaks unasked"),
        }
    }
    let mut admin = TcpStream::connect(proxy.admin).await.unwrap();
    drop(
        admin
            .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await,
    );
    assert!(matches!(admin.read(&mut [0]).await, Ok(0) | Err(_)));

    let says = async |position: &str| {
        std::fs::write(proxy.dir().join("state/kill"), position).unwrap();
        until(async || match position {
            "legacy" => goes_to(&old).await,
            "modern" => goes_to(&new).await,
            _ => {
                let answer = request(proxy.address, "GET", "/", &NAVIGATION, b"").await;
                answer.status == 503
            }
        })
        .await
    };
    for (before, position) in [
        ("modern", "legacy"),
        ("legacy", "modern"),
        ("modern", "legacy"),
        ("legacy", "deny"),
    ] {
        mostly_within(Duration::from_secs(1), async |number| {
            if 0 < number {
                says(before).await;
            }
            says(position).await
        })
        .await;
    }
    assert_eq!(upstream.hits(), 0);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_people_are_out_for_good_where_the_switch_revokes() {
    for revokes in [true, false] {
        let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
        let word = if revokes { "revoke" } else { "keep" };
        let yaml = two_providers(&old, &new, &upstream, 100).replace("[app.test]", "[127.0.0.1]");
        let proxy = Proxy::start(&format!(
            "{yaml}kill_switch: {{ modern_sessions: {word} }}\n"
        ));
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        browser.sign_in(&proxy, &start).await;
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        let mut late = Browser::default();
        let mut begun = late.open(&proxy, "/").await;
        let file = proxy.dir().join("state/kill");
        let stays = |answer: &Answer| answer.status == 200;
        if revokes {
            mostly_within(Duration::from_secs(2), async |number| {
                if 0 < number {
                    // Once more from the start: back at `off`, and both of them on their way in.
                    std::fs::remove_file(&file).unwrap();
                    until(async || {
                        (browser, late) = (Browser::default(), Browser::default());
                        let start = browser.open(&proxy, "/").await;
                        browser.sign_in(&proxy, &start).await;
                        begun = late.open(&proxy, "/").await;
                        // Both: a session of the old side, begun before the file was seen to be gone, outlives `legacy`.
                        let is_to_the_new = |answer: &Answer| {
                            let to = answer.header("location").unwrap_or_default();
                            to.starts_with(&new.issuer())
                        };
                        is_to_the_new(&start)
                            && is_to_the_new(&begun)
                            && stays(&browser.clone().open(&proxy, "/").await)
                    })
                    .await;
                }
                std::fs::write(&file, "legacy").unwrap();
                until(async || !stays(&browser.clone().open(&proxy, "/").await)).await
            })
            .await;
            // Whoever was on the page of the new provider meanwhile is not let in by it either.
            let back = late.sign_in(&proxy, &begun).await;
            let text = back.text();
            assert_eq!(back.status, 403, "{text}");
            assert!(text.contains("You were signed out for security"), "{text}");
            let begun = late.open(&proxy, "/").await;
            let to = begun.header("location").unwrap().to_owned();
            assert!(to.starts_with(&old.issuer()), "{to}");
            let told = browser.clone().open(&proxy, "/").await.text();
            assert!(told.contains("You were signed out for security"), "{told}");
            until(async || !new.revoked().is_empty()).await;
            std::fs::remove_file(&file).unwrap();
        } else {
            std::fs::write(&file, "legacy").unwrap();
            until(async || {
                let mut stranger = Browser::default();
                let answer = stranger.open(&proxy, "/").await;
                answer
                    .header("location")
                    .is_some_and(|l| l.starts_with(&old.issuer()))
            })
            .await;
            assert!(stays(&browser.clone().open(&proxy, "/").await));
            assert_eq!(late.sign_in(&proxy, &begun).await.status, 303);
            std::fs::remove_file(&file).unwrap();
        }
        // The ledger says what became of them.
        let told = format!(r#""modern_sessions":"{word}""#);
        let mut first = None;
        until(async || {
            let ledger = std::fs::read_to_string(proxy.dir().join("state/decisions.jsonl"));
            let ledger = ledger.unwrap();
            let mut lines = ledger.split_inclusive('\n');
            first = lines
                .find(|line| line.contains(r#""kind":"kill_switch""#) && line.ends_with('\n'))
                .map(str::to_owned);
            first.is_some()
        })
        .await;
        let first = first.unwrap();
        assert!(first.contains(&told), "{first}");
        // Back at `off`: whoever was put out stays out, and nobody else was.
        until(async || {
            let mut stranger = Browser::default();
            let answer = stranger.open(&proxy, "/").await;
            answer
                .header("location")
                .is_some_and(|l| l.starts_with(&new.issuer()))
        })
        .await;
        assert_eq!(stays(&browser.clone().open(&proxy, "/").await), !revokes);
        // A new sign-in is one.
        let mut again = Browser::default();
        let start = again.open(&proxy, "/").await;
        again.sign_in(&proxy, &start).await;
        assert_eq!(again.open(&proxy, "/").await.status, 200, "{}", proxy.log());
    }
}
