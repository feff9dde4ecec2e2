//! A thousand people move by an edited percentage, under load, and none of them ever moves back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::browser::Browser;
use crate::harness::Echo;
use crate::harness::request;
use crate::legacy::basic;
use crate::legacy::directory;
use crate::modern::token_of;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::server_section;
use crate::two_sides;
use crate::var;

const PEOPLE: usize = 1_000;
const AT_ONCE: usize = 8;

/// What one side counted: codes given at its authorize endpoint, codes redeemed at its token endpoint.
type Counted = (usize, usize);

/// Logins that arrived at each provider, as each counts them: the old one, the new one.
async fn arrived() -> (Counted, Counted) {
    let old = format!("127.0.0.1:{}", var("OP_PORT"));
    let seen: Value = serde_json::from_slice(
        &request(
            old.parse().unwrap(),
            "GET",
            "/__test/seen",
            &[("Host", &old)],
            b"",
        )
        .await
        .body,
    )
    .unwrap();

    let new = format!("127.0.0.1:{}", var("KC_PORT"));
    let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
    let fields = [
        ("Host", new.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = request(
        new.parse().unwrap(),
        "POST",
        "/realms/master/protocol/openid-connect/token",
        &fields,
        form.as_bytes(),
    )
    .await;
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let bearer = format!("Bearer {}", json["access_token"].as_str().unwrap());
    let fields = [("Host", new.as_str()), ("Authorization", bearer.as_str())];
    let events = async |kind: &str| {
        let target = format!("/admin/realms/new/events?type={kind}&client=proxy&max=100000");
        let answer = request(new.parse().unwrap(), "GET", &target, &fields, b"").await;
        let events: Value = serde_json::from_slice(&answer.body).unwrap();
        events.as_array().unwrap().len()
    };
    let old = |what: &str| usize::try_from(seen[what].as_u64().unwrap()).unwrap();
    (
        (old("authorized"), old("redeemed")),
        (events("LOGIN").await, events("CODE_TO_TOKEN").await),
    )
}

/// People whose page the application served since its `from`th request, by the name it was told.
fn served(upstream: &Echo, from: usize) -> Vec<String> {
    let seen = upstream.seen().into_iter().skip(from);
    let pages = seen.filter(|seen| seen.line() == "GET / HTTP/1.1");
    let mut people: Vec<_> = pages.flat_map(|page| page.all("x-remote-user")).collect();
    people.sort();
    people
}

fn everybody() -> Vec<String> {
    (0..PEOPLE)
        .map(|index| (20_001 + index).to_string())
        .collect()
}

/// Three standard deviations of a binomial, in people.
fn tolerated(percent: usize) -> f64 {
    let share = percent as f64 / 100.0;
    3.0 * (PEOPLE as f64 * share * (1.0 - share)).sqrt()
}

fn assert_share(share: usize, percent: usize) {
    let off = (share as f64 - PEOPLE as f64 * percent as f64 / 100.0).abs();
    assert!(
        off <= tolerated(percent),
        "{share} of {PEOPLE} at {percent} %"
    );
}

async fn bearer() -> String {
    format!("Bearer {}", token_of("carol").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_people_move_by_percent_and_nobody_moves_back() {
    let upstream = Echo::start().await;
    // The application is told the percent, so that it sees when an edit has come into force.
    let yaml = |percent: &str| {
        two_sides(&upstream.url(), percent).replace(
            "identity_headers: { ",
            &format!("identity_headers: {{ X-Percent: \"p{percent}\", "),
        )
    };
    let proxy = proxy(&yaml("0"));
    let new_authority = format!("127.0.0.1:{}", var("KC_PORT"));

    // 200 requests a second with a token, for as long as the move lasts.
    let (stop, failed, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let began = Instant::now();
    let load = {
        let (stop, failed, sent, address) = (
            Arc::clone(&stop),
            Arc::clone(&failed),
            Arc::clone(&sent),
            proxy.address,
        );
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            let (mut token, mut fetched) = (bearer().await, Instant::now());
            while !stop.load(Ordering::Relaxed) {
                // The move lasts longer than a token; ticks that were missed meanwhile are made up for.
                if Duration::from_secs(60) < fetched.elapsed() {
                    (token, fetched) = (bearer().await, Instant::now());
                }
                tick.tick().await;
                let (token, failed, sent) = (token.clone(), Arc::clone(&failed), Arc::clone(&sent));
                tokio::spawn(async move {
                    let answer = request(
                        address,
                        "GET",
                        "/load",
                        &[("Host", "127.0.0.1"), ("Authorization", &token)],
                        b"",
                    )
                    .await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(answer.status != 200), Ordering::Relaxed);
                });
            }
        })
    };

    let mut browsers: Vec<Browser> = vec![Browser::default(); PEOPLE];
    let mut moved: BTreeSet<usize> = BTreeSet::new();
    let app = origin().strip_prefix("http://").unwrap().to_owned();
    for percent in [0, 10, 50, 100_usize] {
        let edited = Instant::now();
        if percent != 0 {
            proxy.edit(&format!(
                "{}\n{}",
                yaml(&percent.to_string()),
                server_section()
            ));
            let told = format!("p{percent}");
            crate::operators::until(async || upstream.last().all("x-percent") == [told.as_str()])
                .await;
            assert!(
                edited.elapsed() < Duration::from_secs(1),
                "{:?}",
                edited.elapsed()
            );
        }
        let (old_before, new_before) = arrived().await;
        let requests = upstream.hits();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = Vec::new();
        for (index, mut browser) in browsers.drain(..).enumerate() {
            let (room, app, new_authority) =
                (Arc::clone(&room), app.clone(), new_authority.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = room.acquire_owned().await.unwrap();
                // A new session on the same device: our session ends, the device and the providers' own sessions stay.
                browser.forget(&app, |name| name.ends_with("_dev"));
                let name = format!("p{:04}", index + 1);
                let before = browser.visits(&new_authority);
                let landed = browser
                    .open(
                        &format!("http://{app}/"),
                        Some((&name, &secret(&format!("{name}-pw")))),
                    )
                    .await;
                assert_eq!(
                    landed.answer.status,
                    200,
                    "{name}: {} {}",
                    landed.url,
                    landed.answer.text()
                );
                assert!(
                    landed
                        .answer
                        .text()
                        .contains(&format!("{}", 20_001 + index)),
                    "{name} is somebody else: {}",
                    landed.answer.text()
                );
                (before < browser.visits(&new_authority), browser)
            }));
        }
        let mut at_new = BTreeSet::new();
        for (index, task) in tasks.into_iter().enumerate() {
            let (new, browser) = task.await.unwrap();
            if new {
                at_new.insert(index);
            }
            browsers.push(browser);
        }
        let back: Vec<_> = moved.difference(&at_new).collect();
        assert!(back.is_empty(), "moved back at {percent} %: {back:?}");
        let share = at_new.len();
        assert_share(share, percent);
        let (old_after, new_after) = arrived().await;
        let more = |before: Counted, after: Counted| (after.0 - before.0, after.1 - before.1);
        let stayed = PEOPLE - share;
        assert_eq!(
            (more(old_before, old_after), more(new_before, new_after)),
            ((stayed, stayed), (share, share)),
            "counted at the authorize and token endpoints, at {percent} %"
        );
        assert_eq!(
            served(&upstream, requests),
            everybody(),
            "counted at the application"
        );
        moved = at_new;
    }
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let rate = sent.load(Ordering::Relaxed) as u64 / began.elapsed().as_secs();
    assert!(190 <= rate, "only {rate} requests a second");
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {} requests",
        sent.load(Ordering::Relaxed)
    );
}

/// Programs that send a password: with `other_arm: reject` the directory counts for those who have not moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_of_a_directory_count_until_their_person_moves() {
    let upstream = Echo::start().await;
    let url = format!("ldap://127.0.0.1:{}", var("LDAP_PORT"));
    let yaml = |percent: &str| {
        format!(
            "{}  other_arm: reject\naudit: {{ max_recall: {PEOPLE} }}\n",
            directory(&upstream.url(), &url)
                .replace("{ percent: 50,", &format!("{{ percent: {percent},"))
        )
    };
    let proxy = proxy(&yaml("0"));
    let mut moved: BTreeSet<usize> = BTreeSet::new();
    for percent in [0, 10, 50, 100_usize] {
        if percent != 0 {
            let text = format!("{}\n{}", yaml(&percent.to_string()), server_section());
            let shown = "authferry_rollout_target_ratio{rollout=\"default\"} ";
            proxy.edit(&text);
            crate::operators::until(async || proxy.metric(shown).await == percent as f64 / 100.0)
                .await;
        }
        let requests = upstream.hits();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = Vec::new();
        for index in 0..PEOPLE {
            let (room, address) = (Arc::clone(&room), proxy.address);
            tasks.push(tokio::spawn(async move {
                let _permit = room.acquire_owned().await.unwrap();
                let name = format!("p{:04}", index + 1);
                let credential = basic(&name, &secret(&format!("{name}-pw")));
                let fields = [("Host", "127.0.0.1"), ("Authorization", &*credential)];
                let answer = request(address, "GET", "/", &fields, b"").await;
                match answer.status {
                    200 => false,
                    401 => true,
                    status => panic!("{name}: {status} {}", answer.text()),
                }
            }));
        }
        let mut refused = BTreeSet::new();
        for (index, task) in tasks.into_iter().enumerate() {
            if task.await.unwrap() {
                refused.insert(index);
            }
        }
        let back: Vec<_> = moved.difference(&refused).collect();
        assert!(back.is_empty(), "moved back at {percent} %: {back:?}");
        assert_share(refused.len(), percent);
        let stayed = (0..PEOPLE).filter(|index| !refused.contains(index));
        let mut stayed: Vec<_> = stayed.map(|index| (20_001 + index).to_string()).collect();
        stayed.sort();
        assert_eq!(served(&upstream, requests), stayed, "at {percent} %");

        // Those who have moved come in with a token of the new side, and are who they were.
        for index in refused.difference(&moved).take(10) {
            let token = format!("Bearer {}", token_of(&format!("p{:04}", index + 1)).await);
            let fields = [("Host", "127.0.0.1"), ("Authorization", token.as_str())];
            let answer = request(proxy.address, "GET", "/", &fields, b"").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let seen = upstream.last();
            assert_eq!(seen.all("x-remote-user"), [(20_001 + index).to_string()]);
        }
        moved = refused;
    }
    assert_eq!(moved.len(), PEOPLE);
}
