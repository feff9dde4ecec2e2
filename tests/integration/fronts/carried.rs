//! Who has a session of the old side, behind each front: what would happen to them here happens there, as far as it can pass
//! our answer on.

use std::collections::BTreeMap;

use super::Front;
use super::PAGE;
use super::Running;
use crate::forward_auth::config;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;
use crate::wrapped;
use crate::wrapped::BRIDGE;

const TOLD: [&str; 3] = ["x-remote-user", "x-remote-name", "x-remote-groups"];

/// A browser at a front.
#[derive(Default)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    async fn open(&mut self, running: &Running, target: &str) -> Answer {
        let cookies: Vec<_> = self.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cookies = cookies.join("; ");
        let mut fields = PAGE.to_vec();
        if !cookies.is_empty() {
            fields.push(("Cookie", &cookies));
        }
        let answer = running.get(target, &fields).await;
        for pair in answer.cookies() {
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Goes where it was sent, through the provider, and back.
    async fn follow(&mut self, running: &Running, sent: &Answer) -> Answer {
        let to: http::Uri = sent.header("location").unwrap().parse().unwrap();
        let at = to.authority().unwrap().as_str().parse().unwrap();
        let path = to.path_and_query().unwrap().as_str();
        let there = request(at, "GET", path, &[], b"").await;
        let back: http::Uri = there.header("location").unwrap().parse().unwrap();
        assert_eq!(
            back.authority().unwrap().as_str(),
            running.address.to_string()
        );
        self.open(running, back.path_and_query().unwrap().as_str())
            .await
    }
}

/// Everybody is assigned to the new side from now on.
async fn moves(proxy: &Proxy, yaml: &str) {
    proxy.edit(yaml);
    until(async || {
        let series = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        proxy.metric(series).await == 1.0
    })
    .await;
}

fn moved(method: &str) -> String {
    format!(
        "authferry_session_carryovers_total{{app=\"crm\",method=\"{method}\",outcome=\"moved\"}} "
    )
}

/// What the application was told of the last request.
fn told(upstream: &Echo) -> [Vec<String>; 3] {
    TOLD.map(|name| upstream.last().all(name))
}

pub(super) async fn a_session_is_asked_after_at_the_new_side(front: Front) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |percent: u32| {
        let text = config(&old, &new, &upstream, "127.0.0.1/32")
            .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
            .replace("percent: 100", &format!("percent: {percent}"));
        text + "sessions: { carry_over: [silent], silent: { retry_after: 1h } }\n"
    };
    let proxy = Proxy::start(&yaml(0));
    proxy.settled().await;
    let running = Running::start(front, &proxy, &upstream.url()).await;
    let mut browser = Browser::default();
    let start = browser.open(&running, "/before").await;
    assert_eq!(start.status, 302, "{}\n{}", start.text(), proxy.log());
    assert_eq!(browser.follow(&running, &start).await.status, 303);
    assert_eq!(browser.open(&running, "/before").await.status, 200);
    let before = told(&upstream);
    assert_eq!(before[0], ["uid-alice"]);

    moves(&proxy, &yaml(100)).await;
    new.remembers(true);
    let asked = browser.open(&running, "/deep?a=b").await;
    if front == Front::Nginx {
        // It is told a status only: the session goes on until it ends.
        assert_eq!(asked.status, 200, "{}", asked.text());
        assert_eq!(told(&upstream), before);
        assert_eq!(new.hits("/authorize"), 0);
        return;
    }
    assert_eq!(asked.status, 302, "{}\n{}", asked.text(), proxy.log());
    let location = asked.header("location").unwrap();
    assert!(
        location.starts_with(&new.issuer()) && location.contains("prompt=none"),
        "{location}"
    );
    let back = browser.follow(&running, &asked).await;
    assert_eq!(
        (back.status, back.header("location")),
        (303, Some("/deep?a=b"))
    );
    let page = browser.open(&running, "/deep?a=b").await;
    assert_eq!(page.status, 200, "it is not asked again");
    assert_eq!(told(&upstream), before);
    assert_eq!(proxy.metric(&moved("silent")).await, 1.0);
    assert_eq!((new.hits("/authorize"), new.hits("/token")), (1, 1));
}

pub(super) async fn a_session_of_an_old_system_gets_one_of_ours_and_then_of_the_new_side(
    front: Front,
) {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml = |percent| {
        let text = wrapped::config(&old, &new, &upstream, percent).replace(
            "    public_paths",
            "    forward_auth: true\n    public_paths",
        );
        format!(
            "server: {{ listen: 127.0.0.1:0, trusted_proxies: [127.0.0.1/32], admin: {{ listen: 127.0.0.1:0 }}, state_dir: \"{{dir}}/state\" }}\n\
             {text}sessions: {{ carry_over: [wrap, exchange], revalidate: 1m }}\n{BRIDGE}"
        )
    };
    let proxy = Proxy::start(&yaml(0));
    proxy.settled().await;
    let running = Running::start(front, &proxy, &upstream.url()).await;
    let mut browser = Browser::default();
    browser.0.insert("SID".to_owned(), "alice.1".to_owned());
    let first = browser.open(&running, "/own").await;
    assert_eq!(first.status, 200, "{}\n{}", first.text(), running.log());
    let before = told(&upstream);
    assert_eq!(before[0], ["uid-alice"]);
    // The application's answer came with our cookie, once.
    let ours = browser.0.get("authferry").cloned();
    assert!(ours.is_some(), "{:?}", first.headers);
    let again = browser.open(&running, "/own").await;
    assert_eq!(again.status, 200, "{}", proxy.log());
    assert_eq!(again.cookies(), Vec::<String>::new());
    assert!(
        again.all("set-cookie").is_empty(),
        "not even an empty one: {:?}",
        again.headers
    );
    assert_eq!(told(&upstream), before);
    assert_eq!(proxy.metric(&moved("wrap")).await, 1.0);
    assert!(
        !upstream.last().head.contains("authferry"),
        "it stays between the browser and us: {}",
        upstream.last().head
    );

    moves(&proxy, &yaml(100)).await;
    let page = browser.open(&running, "/deep?a=b").await;
    if front == Front::Nginx {
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(new.hits("/token"), 0);
        return;
    }
    assert_eq!(page.status, 302, "{}\n{}", page.text(), proxy.log());
    // Whoever forwards may take an address without a host for one at us.
    let whole = format!("http://{}/deep?a=b", running.address);
    assert_eq!(page.header("location"), Some(whole.as_str()));
    assert_ne!(browser.0.get("authferry").cloned(), ours, "a new id");
    let page = browser.open(&running, "/deep?a=b").await;
    assert_eq!(page.status, 200, "{}", proxy.log());
    assert_eq!(told(&upstream), before);
    assert_eq!(proxy.metric(&moved("exchange")).await, 1.0);
    // What it followed is over at the old system.
    until(async || old.has_ended("alice.1")).await;
}
