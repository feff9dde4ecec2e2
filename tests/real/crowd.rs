//! A thousand people move by an edited percentage, under load, and none of them ever moves back.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::behind::Behind;
use crate::browser::Browser;
use crate::harness::Echo;
use crate::harness::request;
use crate::legacy::basic;
use crate::legacy::directory;
use crate::load::Load;
use crate::modern::token_of;
use crate::operators::promtool_is_content;
use crate::operators::until;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::server_section;
use crate::two_sides;
use crate::var;

const PEOPLE: usize = 1_000;
const AT_ONCE: usize = 8;
/// An edit comes into force within so long.
const SECOND: Duration = Duration::from_secs(1);

/// People, each by index, and how often: codes given at an authorize endpoint, codes redeemed at a token endpoint.
type Counted = BTreeMap<usize, (usize, usize)>;

/// Logins that arrived at each provider, as each counts them: the old one, the new one.
async fn arrived() -> (Counted, Counted) {
    let old = format!("127.0.0.1:{}", var("OP_PORT"));
    let host = [("Host", old.as_str())];
    let seen = request(old.parse().unwrap(), "GET", "/__test/seen", &host, b"").await;
    let seen: Value = serde_json::from_slice(&seen.body).unwrap();
    let mut at_old = Counted::new();
    for (uid, counts) in seen["people"].as_object().unwrap() {
        // Other tests sign in others.
        let Some(person) = uid.parse::<usize>().unwrap().checked_sub(20_001) else {
            continue;
        };
        let count = |what: &str| usize::try_from(counts[what].as_u64().unwrap_or(0)).unwrap();
        at_old.insert(person, (count("authorized"), count("redeemed")));
    }

    let behind = Behind::admin().await;
    let names = behind.names().await;
    let mut at_new = Counted::new();
    let logins = behind.events("proxy", "LOGIN").await;
    for person in logins.iter().filter_map(|event| index(&names, event)) {
        at_new.entry(person).or_default().0 += 1;
    }
    let redeemed = behind.events("proxy", "CODE_TO_TOKEN").await;
    for person in redeemed.iter().filter_map(|event| index(&names, event)) {
        at_new.entry(person).or_default().1 += 1;
    }
    (at_old, at_new)
}

/// Whom of the crowd an event of Keycloak is about: `p0001` is 0.
fn index(names: &BTreeMap<String, String>, event: &Value) -> Option<usize> {
    let name = names.get(event["userId"].as_str()?)?;
    Some(name.strip_prefix('p')?.parse::<usize>().ok()? - 1)
}

/// Who came between two counts, each once.
fn came(before: &Counted, after: &Counted) -> BTreeSet<usize> {
    let mut came = BTreeSet::new();
    for (person, now) in after {
        let then = before.get(person).copied().unwrap_or_default();
        match (now.0 - then.0, now.1 - then.1) {
            (0, 0) => {}
            (1, 1) => _ = came.insert(*person),
            (codes, redeemed) => panic!("{person}: {codes} codes, {redeemed} redeemed"),
        }
    }
    came
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_people_move_by_percent_and_nobody_moves_back() {
    let upstream = Echo::start().await;
    // The application is told the percent, so that it sees when an edit has come into force.
    let yaml = |percent: &str, edit: usize| {
        // A thousand people sign in four times from one address, in a minute where the machine is quick.
        two_sides(&upstream.url(), percent).replace(
            "identity_headers: { ",
            &format!(
                "rate_limits: {{ logins: 100000 }}\n    identity_headers: {{ X-Percent: \"p{percent}.{edit}\", "
            ),
        )
    };
    let proxy = proxy(&yaml("0", 0));
    let new_authority = format!("127.0.0.1:{}", var("KC_PORT"));
    // 200 requests a second with a token, for as long as the move lasts.
    let load = Load::start(proxy.address, "carol");

    let mut browsers: Vec<Browser> = vec![Browser::default(); PEOPLE];
    let mut moved: BTreeSet<usize> = BTreeSet::new();
    let app = origin().strip_prefix("http://").unwrap().to_owned();
    for percent in [0, 10, 50, 100_usize] {
        if percent != 0 {
            // A busy machine is late now and then: then the step is written once more, or twice, under another name. A program
            // that is too slow is so each time.
            let mut live = Vec::new();
            for edit in 0..3 {
                let edited = Instant::now();
                let text = yaml(&percent.to_string(), edit);
                proxy.edit(&format!("{text}\n{}", server_section()));
                let told = format!("p{percent}.{edit}");
                until(async || upstream.last().all("x-percent") == [told.as_str()]).await;
                live.push(edited.elapsed());
                if edited.elapsed() < SECOND {
                    break;
                }
            }
            let last = live.last().unwrap();
            assert!(*last < SECOND, "at {percent} %: {live:?}");
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
        let mut sent_to_new = BTreeSet::new();
        for (index, task) in tasks.into_iter().enumerate() {
            let (new, browser) = task.await.unwrap();
            if new {
                sent_to_new.insert(index);
            }
            browsers.push(browser);
        }
        // Each person as both providers have counted them.
        let (old_after, new_after) = arrived().await;
        let (at_old, at_new) = (came(&old_before, &old_after), came(&new_before, &new_after));
        let back: Vec<_> = moved.difference(&at_new).collect();
        assert!(back.is_empty(), "moved back at {percent} %: {back:?}");
        let share = at_new.len();
        assert_share(share, percent);
        assert_eq!(at_new, sent_to_new, "as the browsers have seen it");
        let others: Vec<_> = (0..PEOPLE)
            .filter(|index| !at_new.contains(index))
            .collect();
        assert_eq!(
            Vec::from_iter(at_old),
            others,
            "everybody else, at the old one"
        );
        assert_eq!(
            served(&upstream, requests),
            everybody(),
            "counted at the application"
        );
        moved = at_new;
    }
    load.end(&upstream).await;
    assert_eq!(moved.len(), PEOPLE);
    promtool_is_content(&proxy).await;
}

/// How often the directory has found the password of each of the crowd good, as its own log says.
fn binds() -> BTreeMap<usize, usize> {
    let log = format!("{}/log/slapd.log", var("IDPS_RUN"));
    let log = std::fs::read(log).unwrap();
    let log = String::from_utf8_lossy(&log);
    let mut binds = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(" mech=SIMPLE ")) {
        let name = line.split_once("BIND dn=\"uid=p").map(|(_, rest)| rest);
        let name = name.and_then(|rest| rest.split(',').next()?.parse::<usize>().ok());
        if let Some(name) = name.filter(|name| *name <= PEOPLE) {
            *binds.entry(name - 1).or_default() += 1;
        }
    }
    binds
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
            until(async || proxy.metric(shown).await == percent as f64 / 100.0).await;
        }
        let requests = upstream.hits();
        let before = binds();
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
        // Only the directory knows whose number a name is: it has found every password good, once, also of those who are refused
        // here because they have moved.
        let mut good = binds();
        for (person, count) in before {
            good.entry(person).and_modify(|now| *now -= count);
        }
        good.retain(|_, count| *count != 0);
        let once: BTreeMap<_, _> = (0..PEOPLE).map(|index| (index, 1)).collect();
        assert_eq!(good, once, "counted at the directory, at {percent} %");
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
            let said = answer.text().to_ascii_lowercase();
            let who = format!("\r\nx-remote-user: {}\r\n", 20_001 + index);
            assert!(said.contains(&who), "{said}");
        }
        moved = refused;
    }
    assert_eq!(moved.len(), PEOPLE);
    promtool_is_content(&proxy).await;
}
