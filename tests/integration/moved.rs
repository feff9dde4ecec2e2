//! The scripted move: two hundred people with sessions of the old side, stage by stage to the new one and back, every sign-in
//! counted where a provider would show its page (`make move`).

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use crate::control;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::given;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;
use crate::wrapped;

const PEOPLE: usize = 200;
/// The program that some of them use as their browser; without it all have a jar of cookies.
const CHROMIUM: &str = "MOVE_CHROMIUM";
/// So many of them do.
const IN_CHROMIUM: usize = 10;
/// Where `make move` wants the rows of its table, one a line, as JSON.
const ROWS: &str = "MOVE_ROWS";
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

/// What the application was told of whoever opened a page last. A browser asks for more than pages.
fn told(upstream: &Echo, link: &str) -> Vec<Vec<String>> {
    let line = format!("GET {link} ");
    let seen = upstream.seen();
    let mut pages = seen.iter().rev();
    let page = pages.find(|seen| seen.line().starts_with(&line));
    let page = page.expect("nobody opened it");
    FIELDS.map(|name| page.all(name)).to_vec()
}

/// Browsers of people, driven by `chromium.mjs`. Ends with its standard input.
struct Chromium {
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    _driver: Child,
}

impl Chromium {
    fn start() -> Option<Self> {
        let program = given(CHROMIUM)?;
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/integration/chromium.mjs"
        );
        let mut driver = Command::new("node")
            .args([script, &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            asks: driver.stdin.take().unwrap(),
            answers: BufReader::new(driver.stdout.take().unwrap()),
            _driver: driver,
        })
    }

    /// Opens a page in the browser of `who`: where it ended, and every address on the way.
    fn open(&mut self, who: &str, url: &str) -> (String, Vec<String>) {
        let ask = serde_json::json!({ "who": who, "url": url });
        writeln!(self.asks, "{ask}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        let went = answer["went"].as_array().unwrap().iter();
        let went = went.map(|url| url.as_str().unwrap().to_owned()).collect();
        (answer["url"].as_str().unwrap().to_owned(), went)
    }
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

/// Keeps a row of the table: who, how many have come to the new side, sign-ins that were right and that were not, header bytes
/// that changed, deep links that were lost. What must be nothing has been asserted by now.
fn row(who: &str, moved: f64, expected: usize) {
    let Some(path) = given(ROWS) else {
        return;
    };
    let row = serde_json::json!([who, moved, expected, 0, 0, 0]);
    let mut way = std::fs::File::options();
    let mut file = way.append(true).create(true).open(path).unwrap();
    writeln!(file, "{row}").unwrap();
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

    /// The first few use Chromium, if it is there.
    async fn opens(
        &self,
        chromium: Option<&mut Chromium>,
        index: usize,
        person: &mut Person,
        link: &str,
    ) {
        let (before, pages) = (self.upstream.hits(), self.pages());
        match chromium {
            Some(chromium) if index < IN_CHROMIUM => self.visit_in(chromium, person, link),
            Some(_) | None => {
                let answer = self.visit(person, link).await;
                assert_eq!(answer.status, 200, "{link}: {}", person.name);
            }
        }
        assert!(before < self.upstream.hits(), "{link}: {}", person.name);
        person.sign_ins += self.pages() - pages;
    }

    /// Opens a deep link in Chromium, which goes wherever it leads.
    fn visit_in(&self, chromium: &mut Chromium, person: &mut Person, link: &str) {
        self.is_at_the_door(person);
        let url = format!("http://{}{link}", self.proxy.address);
        let (ended, went) = tokio::task::block_in_place(|| chromium.open(&person.name, &url));
        assert_eq!(
            ended, url,
            "{}: the deep link is lost: {went:?}",
            person.name
        );
    }

    /// Whoever signs in now is this person.
    fn is_at_the_door(&self, person: &Person) {
        self.old.signs_in(&person.name);
        self.new.signs_in(&person.name);
        self.new.remembers(person.known);
    }

    /// How often the providers have shown their sign-in pages.
    fn pages(&self) -> usize {
        self.old.pages() + self.new.pages()
    }

    /// Opens a deep link and goes wherever it leads; `Err`: it did not lead back to the link.
    async fn visit(&self, person: &mut Person, link: &str) -> Answer {
        self.is_at_the_door(person);
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
    let mut chromium = Chromium::start();
    for (index, person) in people.iter_mut().enumerate() {
        world
            .opens(chromium.as_mut(), index, person, "/start?a=b%20c")
            .await;
        assert_eq!(person.sign_ins, 1, "{}", person.name);
        person.told = told(&world.upstream, "/start?a=b%20c");
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
        for (index, person) in people.iter_mut().enumerate() {
            person.sign_ins = 0;
            let link = format!("/{stage}/{}?q=%C3%A4%2Fb&x=1", person.name);
            world.opens(chromium.as_mut(), index, person, &link).await;
            assert_eq!(
                told(&world.upstream, &link),
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
    for (step, (stage, at_new, (known, unknown))) in &table {
        println!("{stage:<9} {at_new:>28}   {known:>9} {unknown:>22}");
        let browsers = chromium.as_ref().map_or(0, |_| IN_CHROMIUM);
        let whom = format!(
            "sessions of ours ({browsers} in Chromium), half of the people known at the new side"
        );
        row(
            &format!("{}. {stage}: {PEOPLE} {whom}", step + 1),
            *at_new,
            known + unknown,
        );
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
    let mut before = Vec::new();
    for browser in &mut people {
        assert_eq!(browser.open(&proxy, "/start?a=b%20c").await.status, 200);
        before.push(told(&upstream, "/start?a=b%20c"));
    }
    let counted = |method: &str| {
        format!(
            "authferry_session_carryovers_total{{app=\"crm\",method=\"{method}\",outcome=\"moved\"}} "
        )
    };
    assert_eq!(proxy.metric(&counted("wrap")).await, 100.0);
    let mut at_new = Vec::new();
    println!("stage     exchanged for a session of the new side   sign-ins");
    let stages = ["tenth", "half", "primary", "only", "half"];
    for (step, stage) in stages.into_iter().enumerate() {
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
            assert_eq!(told(&upstream, &link), *told_before, "{stage}");
        }
        let moved = proxy.metric(&counted("exchange")).await;
        println!("{stage:<9} {moved:>39}   {:>8}", new.hits("/authorize"));
        assert_eq!(new.hits("/authorize"), 0, "{stage}");
        let whom = "sessions of an old system itself";
        row(&format!("{}. {stage}: {PEOPLE} {whom}", step + 1), moved, 0);
        at_new.push(moved);
    }
    assert!(0.0 < at_new[0] && at_new[0] < 30.0, "{at_new:?}");
    assert!(at_new[0] < at_new[1] && at_new[1] < 80.0, "{at_new:?}");
    assert_eq!(at_new[2..], [100.0; 3], "{at_new:?}");
    until(async || (0..PEOPLE).all(|index| old.has_ended(&format!("p{index:03}.1")))).await;
}

/// A rollback sends new sign-ins back; whoever has moved keeps working, and is told nothing else about themselves.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_moved_goes_on_when_the_rollout_is_rolled_back() {
    const PEOPLE: usize = 20;
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = control::staged(&old, &new, &upstream)
        + "sessions: { carry_over: [silent], silent: { retry_after: 1h } }\n";
    let world = Move {
        proxy: Proxy::start(&yaml),
        old,
        new,
        upstream,
    };
    world.proxy.settled().await;
    let mut people: Vec<Person> = (0..PEOPLE)
        .map(|index| Person {
            name: format!("r{index:02}"),
            known: true,
            browser: Browser::default(),
            told: Vec::new(),
            sign_ins: 0,
        })
        .collect();
    for person in &mut people {
        world.opens(None, 0, person, "/start").await;
        assert_eq!(person.sign_ins, 1, "{}", person.name);
        person.told = told(&world.upstream, "/start");
    }
    let dir = world.proxy.dir().to_owned();
    let moved =
        "authferry_session_carryovers_total{app=\"crm\",method=\"silent\",outcome=\"moved\"} ";
    let orders: [(&str, &[&[&str]]); 2] = [
        (
            "6. forward",
            &[
                &["ctl", "start", "--reason", "IAM-1"],
                &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"],
            ],
        ),
        ("7. rollback", &[&["ctl", "rollback", "--reason", "IAM-3"]]),
    ];
    for (step, orders) in orders {
        for words in orders {
            control::good(&dir, words);
        }
        let there = if step.ends_with("rollback") {
            &world.old
        } else {
            &world.new
        };
        until(async || control::goes_to(&world.proxy, there).await).await;
        for person in &mut people {
            person.sign_ins = 0;
            let link = format!("/deep/{}?q=%C3%A4%2Fb", person.name);
            world.opens(None, 0, person, &link).await;
            assert_eq!(person.sign_ins, 0, "{step}: {}", person.name);
            assert_eq!(
                told(&world.upstream, &link),
                person.told,
                "{step}: {}",
                person.name
            );
        }
        let at_new = world.proxy.metric(moved).await;
        assert_eq!(at_new, 20.0, "{step}");
        row(&format!("{step}: {PEOPLE} sessions of ours"), at_new, 0);
    }
}

/// A rollback that ends sessions (row 12): of the new side, whether its person moved or signed in there, each with its refresh
/// token; of the old side none.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_at_the_new_side_is_told_why_they_are_out_where_a_rollback_revokes() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = control::staged(&old, &new, &upstream).replacen(
        "        promote: { when: manual }\n",
        "        promote: { when: manual }\n        rollback: { modern_sessions: revoke }\n",
        1,
    ) + "sessions: { carry_over: [silent], silent: { retry_after: 1h } }\n";
    let world = Move {
        proxy: Proxy::start(&yaml),
        old,
        new,
        upstream,
    };
    world.proxy.settled().await;
    let person = |name: &str| Person {
        name: name.to_owned(),
        known: true,
        browser: Browser::default(),
        told: Vec::new(),
        sign_ins: 0,
    };
    let [mut moved, mut stays, mut signs_in] = ["moved", "stays", "signs-in"].map(person);
    // Sees the page of the new side.
    signs_in.known = false;
    for person in [&mut moved, &mut stays] {
        world.opens(None, 0, person, "/start").await;
    }
    let dir = world.proxy.dir().to_owned();
    control::good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    control::good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    until(async || control::goes_to(&world.proxy, &world.new).await).await;
    for person in [&mut moved, &mut signs_in] {
        world.opens(None, 0, person, "/there").await;
    }
    assert_eq!((moved.sign_ins, signs_in.sign_ins), (1, 1));
    // What was issued at the old side to whoever has moved is given back there.
    until(async || world.old.revoked().len() == 1).await;
    assert_eq!(world.new.revoked(), Vec::<String>::new());
    control::good(&dir, &["ctl", "rollback", "--reason", "IAM-3"]);
    let records = control::records(&dir);
    let back = records.iter().find(|record| record["direction"] == "back");
    assert_eq!(back.unwrap()["modern_sessions"], "revoke");
    until(async || world.new.revoked().len() == 2).await;
    for person in [&mut moved, &mut signs_in] {
        let answer = person.browser.open(&world.proxy, "/there").await;
        let text = answer.text();
        assert!(
            text.contains("You were signed out for security"),
            "{}: {text}",
            person.name
        );
        // And then they sign in where everybody does.
        let begun = person.browser.open(&world.proxy, "/there").await;
        let to = begun.header("location").unwrap_or_default();
        assert!(to.starts_with(&world.old.issuer()), "{}: {to}", person.name);
    }
    let before = world.pages();
    let answer = stays.browser.open(&world.proxy, "/start").await;
    assert_eq!((answer.status, world.pages()), (200, before));
    assert_eq!(world.old.revoked().len(), 1);
}
