//! The scripted move: two hundred people with sessions of the old side, stage by stage to the new one and back, every sign-in
//! counted where a provider would show its page (`make move`).

use std::collections::BTreeMap;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;
use crate::wrapped;

const PEOPLE: usize = 200;
/// What the application is told of somebody.
const FIELDS: [&str; 3] = ["x-remote-user", "x-remote-name", "x-remote-groups"];

struct Person {
    name: String,
    /// Whether the new provider knows their browser: from the desktop, or another application.
    known: bool,
    browser: Browser,
    told: Vec<Vec<String>>,
    /// Pages of providers that they saw since the last stage.
    sign_ins: usize,
}

struct Move {
    old: Idp,
    new: Idp,
    upstream: Echo,
    proxy: Proxy,
}

fn yaml(old: &Idp, new: &Idp, upstream: &Echo, stage: &str) -> String {
    let text = two_providers(old, new, upstream, 0).replace("[app.test]", "[127.0.0.1]");
    staged(&text, "[silent]", stage)
}

/// The providers and the application of a short configuration, moved stage by stage.
fn staged(text: &str, carry_over: &str, stage: &str) -> String {
    let head = text.split("\nrollout:").next().unwrap();
    format!(
        r#"{head}
sessions: {{ carry_over: {carry_over}, silent: {{ during: top_level_get, retry_after: 1h, max_per_subject_per_day: 24 }} }}
change: {{ reason: to {stage}, acknowledge: skip, recall: 200 }}
rollouts:
  crm:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: move }}
    control: pinned
    pinned_stage: {stage}
    stages:
      - {{ id: before, mode: legacy-only }}
      - {{ id: tenth, mode: canary, assign: [{{ percent: 10, to: new }}] }}
      - {{ id: half, mode: canary, assign: [{{ percent: 50, to: new }}] }}
      - {{ id: primary, mode: modern-primary }}
      - {{ id: only, mode: modern-only }}
"#
    )
}

impl Move {
    async fn begin(stage: &str) -> Self {
        let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
        let proxy = Proxy::start(&yaml(&old, &new, &upstream, stage));
        proxy.settled().await;
        Self {
            old,
            new,
            upstream,
            proxy,
        }
    }

    async fn to(&self, stage: &str) {
        let reloads = "authferry_config_reloads_total{outcome=\"success\"} ";
        let before = self.proxy.metric(reloads).await;
        let text = yaml(&self.old, &self.new, &self.upstream, stage);
        self.proxy.edit(&text);
        until(async || before < self.proxy.metric(reloads).await).await;
    }

    /// Opens a deep link and goes wherever it leads; `Err`: it did not lead back to the link.
    async fn visit(&self, person: &mut Person, link: &str) -> Answer {
        self.old.signs_in(&person.name);
        self.new.signs_in(&person.name);
        self.new.remembers(person.known);
        let mut answer = person.browser.open(&self.proxy, link).await;
        for _ in 0..8 {
            let Some(location) = answer.header("location").map(str::to_owned) else {
                return answer;
            };
            answer = if location.starts_with('/') {
                let next = person.browser.open(&self.proxy, &location).await;
                assert_eq!(location, link, "{}: the deep link is lost", person.name);
                next
            } else {
                // A provider that knows the browser shows no page, whoever asks.
                let silent = location.contains("prompt=none");
                let knows = person.known && location.starts_with(&self.new.issuer());
                person.sign_ins += usize::from(!silent && !knows);
                person.browser.sign_in(&self.proxy, &answer).await
            };
        }
        panic!("{} goes round in circles", person.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the table is what `make move` is for")]
async fn two_hundred_people_move_stage_by_stage_and_nobody_signs_in_without_need() {
    let world = Move::begin("before").await;
    let mut people: Vec<Person> = (0..PEOPLE)
        .map(|index| Person {
            name: format!("p{index:03}"),
            known: index % 2 == 0,
            browser: Browser::default(),
            told: Vec::new(),
            sign_ins: 0,
        })
        .collect();
    let told = |upstream: &Echo| {
        let seen = upstream.last();
        FIELDS.map(|name| seen.all(name)).to_vec()
    };
    for person in &mut people {
        let answer = world.visit(person, "/start?a=b%20c").await;
        assert_eq!(
            (answer.status, person.sign_ins),
            (200, 1),
            "{}",
            person.name
        );
        person.told = told(&world.upstream);
    }

    let mut table = BTreeMap::new();
    // How many pages of a provider a person may see in each stage: one whom the new provider knows, and one whom it does not.
    let stages = [
        ("tenth", 0, 0),
        ("half", 0, 0),
        ("primary", 0, 0),
        // Sessions of the old side are over: whoever could not be taken along signs in once.
        ("only", 0, 1),
        // And back: whoever has moved keeps what they have.
        ("half", 0, 0),
    ];
    for (step, (stage, known, unknown)) in stages.into_iter().enumerate() {
        world.to(stage).await;
        let mut seen = (0, 0);
        for person in &mut people {
            person.sign_ins = 0;
            let link = format!("/{stage}/{}?q=%C3%A4%2Fb&x=1", person.name);
            let answer = world.visit(person, &link).await;
            assert_eq!(answer.status, 200, "{stage}: {}", person.name);
            assert_eq!(
                told(&world.upstream),
                person.told,
                "{stage}: {}",
                person.name
            );
            let wanted = if person.known { known } else { unknown };
            assert_eq!(person.sign_ins, wanted, "{stage}: {}", person.name);
            let place = if person.known {
                &mut seen.0
            } else {
                &mut seen.1
            };
            *place += person.sign_ins;
        }
        let moved =
            "authferry_session_carryovers_total{app=\"crm\",method=\"silent\",outcome=\"moved\"}";
        let at_new = world.proxy.metric(moved).await;
        table.insert(step, (stage, at_new, seen));
    }
    println!("stage     carried over to the new side   sign-ins: known there, unknown there");
    for (stage, at_new, (known, unknown)) in table.values() {
        println!("{stage:<9} {at_new:>28}   {known:>9} {unknown:>22}");
    }
    let at_new: Vec<f64> = table.values().map(|(_, at_new, _)| *at_new).collect();
    // A tenth, a half, and all of those whom the new provider knows.
    assert!(0.0 < at_new[0] && at_new[0] < 30.0, "{at_new:?}");
    assert!(at_new[0] < at_new[1] && at_new[1] < 80.0, "{at_new:?}");
    assert_eq!(at_new[2..], [100.0; 3], "{at_new:?}");
}

/// People whose sessions are those of the old system itself: nobody sees a page of any provider, on the way and back.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the table is what `make move` is for")]
async fn people_with_sessions_of_an_old_system_move_without_a_single_sign_in() {
    const PEOPLE: usize = 100;
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml = |stage: &str| {
        let text = wrapped::config(&old, &new, &upstream, 0);
        let bridge = "exchange:\n  bridge: { assertion: { provider: new, issuer: \"https://ferry.test\", subject: \"{subject}\", audiences: [api] } }\n";
        staged(&text, "[wrap, exchange, silent]", stage) + bridge
    };
    let proxy = Proxy::start(&yaml("before"));
    proxy.settled().await;
    let mut people: Vec<_> = (0..PEOPLE)
        .map(|index| wrapped::with_session(&format!("p{index:03}.1")))
        .collect();
    let told = |upstream: &Echo| {
        let seen = upstream.last();
        FIELDS.map(|name| seen.all(name)).to_vec()
    };
    let mut before = Vec::new();
    for browser in &mut people {
        assert_eq!(browser.open(&proxy, "/start?a=b%20c").await.status, 200);
        before.push(told(&upstream));
    }
    let counted = |method: &str| {
        format!(
            "authferry_session_carryovers_total{{app=\"crm\",method=\"{method}\",outcome=\"moved\"}} "
        )
    };
    assert_eq!(proxy.metric(&counted("wrap")).await, 100.0);
    let mut at_new = Vec::new();
    println!("stage     exchanged for a session of the new side   sign-ins");
    for stage in ["tenth", "half", "primary", "only", "half"] {
        let reloads = "authferry_config_reloads_total{outcome=\"success\"} ";
        let reloaded = proxy.metric(reloads).await;
        proxy.edit(&yaml(stage));
        until(async || reloaded < proxy.metric(reloads).await).await;
        for (browser, told_before) in people.iter_mut().zip(&before) {
            let link = format!("/{stage}/deep?q=%C3%A4%2Fb&x=1");
            let mut answer = browser.open(&proxy, &link).await;
            if let Some(location) = answer.header("location").map(str::to_owned) {
                assert_eq!(location, link, "{stage}: the deep link is lost");
                answer = browser.open(&proxy, &link).await;
            }
            assert_eq!(answer.status, 200, "{stage}\n{}", proxy.log());
            assert_eq!(told(&upstream), *told_before, "{stage}");
        }
        let moved = proxy.metric(&counted("exchange")).await;
        println!("{stage:<9} {moved:>39}   {:>8}", new.hits("/authorize"));
        assert_eq!(new.hits("/authorize"), 0, "{stage}");
        at_new.push(moved);
    }
    assert!(0.0 < at_new[0] && at_new[0] < 30.0, "{at_new:?}");
    assert!(at_new[0] < at_new[1] && at_new[1] < 80.0, "{at_new:?}");
    assert_eq!(at_new[2..], [100.0; 3], "{at_new:?}");
    until(async || (0..PEOPLE).all(|index| old.has_ended(&format!("p{index:03}.1")))).await;
}
