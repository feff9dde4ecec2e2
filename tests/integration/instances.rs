//! Two instances over one real Redis: one session, one refresh, one end; and what a Redis that is paused or killed costs.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::carry_over::at_the_old_side;
use crate::carry_over::closed;
use crate::carry_over::moves;
use crate::carry_over::script;
use crate::carry_over::signs_out_at_both;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;
use crate::lasting::Open;
use crate::reload::mostly_within;
use crate::reload::until;
use crate::revoke::call;
use crate::revoke::revoke;
use crate::two_providers;

pub(crate) struct Redis {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "k".repeat(32)).unwrap();
        std::fs::write(dir.path().join("bucket"), "b".repeat(32)).unwrap();
        // Whoever takes the port in between has it: then another one is tried.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(child) = launch(port, dir.path()) {
                return Self { child, port, dir };
            }
        }
        panic!("redis-server does not listen");
    }

    /// Starts the server again where it was.
    fn again(&mut self) {
        let began = Instant::now();
        loop {
            if let Some(child) = launch(self.port, self.dir.path()) {
                self.child = child;
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the port is somebody else's");
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// What an instance that uses it has in its configuration.
    fn config(&self, old: &Idp, new: &Idp, upstream: &Echo, revalidate: &str) -> String {
        two_providers(old, new, upstream, 100)
            .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
            + &self.shared(revalidate)
    }

    /// Its part of that.
    pub(crate) fn shared(&self, revalidate: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "secrets: {{ bucket_key: {{ file: \"{dir}/bucket\" }}, session_keys: [{{ file: \"{dir}/key\" }}] }}\n\
             sessions: {{ store: redis, redis: {{ url: \"redis://127.0.0.1:{}\" }}, revalidate: {revalidate} }}\n",
            self.port
        )
    }
}

/// A server that listens; `None`: it could not have the port.
fn launch(port: u16, dir: &std::path::Path) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is installed (Debian: redis-server)");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept")));
    if !ready {
        child.wait().unwrap();
        return None;
    }
    // What else it says is read and dropped, so that it never waits for its reader.
    std::thread::spawn(move || for _line in lines {});
    Some(child)
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn get(proxy: &Proxy, target: &str, cookies: &str) -> Answer {
    let host = proxy.address.to_string();
    let fields = [
        ("Host", host.as_str()),
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Cookie", cookies),
    ];
    request(proxy.address, "GET", target, &fields, b"").await
}

fn cookies(answer: &Answer) -> String {
    let pairs: Vec<_> = answer
        .cookies()
        .into_iter()
        .filter(|pair| !pair.ends_with('='))
        .collect();
    pairs.join("; ")
}

/// Signs in and gives the cookies of the session.
async fn sign_in(proxy: &Proxy) -> String {
    let start = get(proxy, "/", "x=y").await;
    assert_eq!(start.status, 302, "{}\n{}", start.text(), proxy.log());
    let to: http::Uri = start.header("location").unwrap().parse().unwrap();
    let at = to.authority().unwrap().as_str().parse().unwrap();
    let target = to.path_and_query().unwrap().as_str();
    let there = request(at, "GET", target, &[], b"").await;
    let back: http::Uri = there.header("location").unwrap().parse().unwrap();
    let back = back.path_and_query().unwrap().as_str();
    let done = get(proxy, back, &cookies(&start)).await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    cookies(&done)
}

/// Signs out at an instance.
async fn sign_out(proxy: &Proxy, session: &str) {
    let (host, origin) = (
        proxy.address.to_string(),
        format!("http://{}", proxy.address),
    );
    let fields = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Cookie", session),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    assert_eq!(out.status, 303, "{}", out.text());
}

async fn is_in(proxy: &Proxy, cookies: &str) -> bool {
    get(proxy, "/", cookies).await.status == 200
}

/// The instance has seen its store, and its providers can judge.
pub(crate) async fn ready(proxy: &Proxy) {
    let began = Instant::now();
    loop {
        let answer = crate::harness::get(proxy.admin, "/-/ready").await;
        let text = answer.text();
        if answer.status == 200 && text.contains("\"store\":true") {
            return proxy.settled().await;
        }
        assert!(began.elapsed() < PATIENCE, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How often [`always_within`] does it.
const ROUNDS: usize = 5;

/// Where `make revoked` wants the rows of its table, one a line, as JSON.
const ROWS: &str = "REVOKED_ROWS";

/// Does something five times, each in less than `most`: on a machine that is idle, without exception. What a busy one keeps this
/// test itself from running for after [`Beat::acknowledged`] is not counted ([`Beat::took`]), and each time is printed.
#[expect(
    clippy::print_stdout,
    reason = "how long it took is what a run is to show"
)]
pub(crate) async fn always_within(
    what: &str,
    most: Duration,
    mut attempt: impl AsyncFnMut(usize, &Beat) -> Duration,
) {
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let beat = Beat::start();
        let took = attempt(number, &beat).await;
        rounds.push(took);
    }
    println!("within {most:?}: {rounds:?}");
    let late = rounds.iter().any(|took| most <= *took);
    assert!(!late, "not within {most:?}: {rounds:?}");
    if let Some(path) = crate::harness::given(ROWS) {
        let slowest = rounds.iter().max().unwrap().as_millis();
        let row = serde_json::json!([
            what,
            format!("{most:?}"),
            format!("{slowest} ms"),
            rounds.len()
        ]);
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{row}").unwrap();
    }
}

/// Wakes a hundred times in a second, and knows how much later than that it woke.
pub(crate) struct Beat {
    missed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Beat {
    fn start() -> Self {
        const STEP: Duration = Duration::from_millis(10);
        // A timer has steps of its own.
        const USUAL: Duration = Duration::from_millis(5);
        let missed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&missed);
        let task = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                tokio::time::sleep(STEP).await;
                let late = began.elapsed().saturating_sub(STEP + USUAL);
                let late = u64::try_from(late.as_millis()).unwrap();
                counted.fetch_add(late, Ordering::Relaxed);
            }
        });
        Self { missed, task }
    }

    /// Now the time begins that counts: what was missed before is none of it.
    pub(crate) fn acknowledged(&self) -> Instant {
        self.missed.store(0, Ordering::Relaxed);
        Instant::now()
    }

    /// How long it took since then, without what was missed.
    pub(crate) fn took(&self, acknowledged: Instant) -> Duration {
        acknowledged.elapsed().saturating_sub(self.missed())
    }

    fn missed(&self) -> Duration {
        Duration::from_millis(self.missed.load(Ordering::Relaxed))
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_on_an_expiring_session_at_two_instances_refresh_it_once() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "6s");
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let session = sign_in(&a).await;
    assert!(is_in(&b, &session).await, "one session at both");
    assert_eq!(new.hits("/token"), 1);
    // So quickly that no period ends meanwhile.
    mostly_within(Duration::from_secs(4), async |_| {
        // Its period ends: the next request waits for its owner.
        tokio::time::sleep(Duration::from_millis(6_100)).await;
        let (began, asked) = (Instant::now(), new.hits("/token"));
        let mut requests = tokio::task::JoinSet::new();
        for n in 0..64 {
            let (address, session) = (
                if n % 2 == 0 { a.address } else { b.address },
                session.clone(),
            );
            requests.spawn(async move {
                let host = address.to_string();
                let fields = [("Host", host.as_str()), ("Cookie", session.as_str())];
                request(address, "GET", "/", &fields, b"").await.status
            });
        }
        while let Some(status) = requests.join_next().await {
            assert_eq!(status.unwrap(), 200, "{}\n{}", a.log(), b.log());
        }
        let took = began.elapsed();
        if took < Duration::from_secs(4) {
            assert_eq!(new.hits("/token"), asked + 1, "one refresh");
        }
        took
    })
    .await;
    assert_eq!(new.reused(), 0, "no refresh token is sent twice");
    // Whom the owner refuses is out at both.
    new.refuses_refresh(true);
    until(async || !is_in(&b, &session).await).await;
    assert!(!is_in(&a, &session).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_holds_everywhere_and_a_store_that_is_away_neither_ends_nor_makes_a_session() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let mut redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "5m");
    let (mut a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let (stays, unseen) = (sign_in(&a).await, sign_in(&b).await);
    let mut gone = String::new();
    mostly_within(Duration::from_secs(2), async |_| {
        gone = sign_in(&a).await;
        for session in [&gone, &stays] {
            assert!(is_in(&a, session).await && is_in(&b, session).await);
        }
        sign_out(&a, &gone).await;
        until(async || !is_in(&b, &gone).await).await
    })
    .await;
    let token = new.token("alice");
    let bearer = format!("Bearer {token}");
    let by_token = async |proxy: &Proxy| {
        let fields = [("Host", "app.test"), ("Authorization", bearer.as_str())];
        request(proxy.address, "GET", "/", &fields, b"")
            .await
            .status
    };
    assert!(is_in(&a, &stays).await);
    redis.signal("-STOP");
    assert!(is_in(&a, &stays).await, "it was read a moment ago");
    assert_eq!(by_token(&a).await, 200, "signed tokens need no store");
    let answer = get(&a, "/", &unseen).await;
    assert_eq!(answer.status, 503, "not: no session");
    assert!(answer.cookies().is_empty(), "no cookie is cleared");
    redis.signal("-CONT");
    ready(&a).await;
    until(async || is_in(&a, &unseen).await && is_in(&a, &stays).await).await;
    redis.child.kill().unwrap();
    redis.child.wait().unwrap();
    let unknown = format!("authferry={}", "A".repeat(43));
    let answer = get(&b, "/", &unknown).await;
    assert_eq!(answer.status, 503, "nobody can say");
    assert!(answer.cookies().is_empty());
    assert_eq!(by_token(&b).await, 200);
    // Whoever starts meanwhile knows of no revocation, and lets nobody in: neither by what may be revoked nor for nothing.
    a.signal("KILL");
    a.wait();
    a.again();
    let hits = upstream.hits();
    assert_eq!(by_token(&a).await, 503, "{}", a.log());
    assert!(a.log().contains("What has been revoked is not known yet"));
    assert_eq!(upstream.hits(), hits);
    redis.again();
    ready(&b).await;
    until(async || by_token(&a).await == 200).await;
    until(async || is_in(&b, &stays).await && is_in(&b, &unseen).await).await;
    assert!(!is_in(&b, &gone).await, "what was ended stays ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_at_all_instances_together() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let own = two_providers(&old, &new, &upstream, 0) + &crate::refresh::endpoint("20s");
    let config = own + &redis.shared("5m");
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let mut token = old.refresh_token("alice");
    let spent = token.clone();
    // Whoever asks first asks the provider; all get the same next one.
    for round in 0..4 {
        let both =
            (0..8).map(|n| crate::refresh::refresh(if n % 2 == 0 { &a } else { &b }, &token));
        let all = futures_util::future::join_all(both).await;
        let next: Vec<_> = all
            .iter()
            .map(|answer| crate::refresh::good(answer).1)
            .collect();
        assert!(next.iter().all(|one| *one == next[0]), "{round}");
        token = next[0].clone();
    }
    assert_eq!((old.reused(), old.hits("/token")), (0, 4));
    // One that was used long ago ends its family, at the other instance as well.
    let answer = crate::refresh::refresh(&a, &spent).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    for proxy in [&a, &b] {
        let answer = crate::refresh::refresh(proxy, &token).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    // Limits are counted together: what one instance says is left is without the portion that the other has taken. It learns of
    // that when it takes its own, so the one that was first may not know yet.
    loop {
        let at_a = crate::refresh::refresh(&a, "afr1_x").await;
        let at_b = crate::refresh::refresh(&b, "afr1_x").await;
        let number = |answer: &Answer, field: &str, key: &str| -> u64 {
            let value = answer.header(field).unwrap();
            let parameters = value.split(';').filter_map(|part| part.split_once('='));
            let mut found = parameters.filter(|(name, _)| *name == key);
            found.next().unwrap().1.parse().unwrap()
        };
        // A minute began between them: once more.
        if number(&at_a, "ratelimit", "t") < number(&at_b, "ratelimit", "t") {
            continue;
        }
        let stands = [&at_a, &at_b].map(|answer| {
            let most = number(answer, "ratelimit-policy", "q");
            (number(answer, "ratelimit", "r"), most)
        });
        let knows = |(left, most): &(u64, u64)| *left < most - most / 20;
        assert!(stands.iter().any(knows), "{stands:?}");
        break;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_at_one_instance_is_over_at_both_within_two_seconds_and_after_a_restart() {
    const SOCKET: &str = "server:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n";
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "5m") + SOCKET;
    // The tokens of the old side are opaque, and what their owner says of them is kept for longer than anything here takes.
    let line = config.lines().find(|l| l.starts_with("  old:")).unwrap();
    let opaque = format!(
        "  old: {{ introspection: {{ url: \"{old}/introspect\", issuer: \"{old}\", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, \
         cache: 5m, claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}",
        old = old.issuer()
    );
    // Nobody signs in there, so nobody does at the other side.
    let client = "client: { id: authferry, secret: { env: HARNESS_SECRET } }, verify";
    let config = config.replace(line, &opaque).replace(client, "verify");
    let (mut a, mut b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let (mut alice, mut hers, bob) = (String::new(), String::new(), new.token("bob"));
    let his = "opaque-of-bob".to_owned();
    old.opaque(&his, "bob");
    let what =
        "`authferry revoke` at one of two instances: its token, kept at both, is refused by both";
    always_within(what, Duration::from_secs(2), async |number, beat| {
        // Each time another person: whoever was revoked stays so.
        let name = format!("alice{number}");
        alice = new.token(&name);
        hers = format!("opaque-of-{name}");
        old.opaque(&hers, &name);
        // The second time each is kept.
        for proxy in [&a, &b] {
            for token in [&alice, &hers, &bob, &his, &alice, &hers, &bob, &his] {
                assert_eq!(call(proxy, token).await.status, 200, "{}", proxy.log());
            }
        }
        let mut slowest = Duration::ZERO;
        for (account, idp, token) in [(format!("uid-{name}"), &old, &hers), (name, &new, &alice)] {
            let issuer = idp.issuer();
            let words = ["--account", &account, "--issuer", &issuer];
            let (done, said) = revoke(&a, &[&words[..], &["--reason", "stolen"]].concat());
            assert!(done, "{said}");
            let acknowledged = beat.acknowledged();
            assert_eq!(call(&a, token).await.status, 401, "{}", a.log());
            until(async || call(&b, token).await.status == 401).await;
            slowest = slowest.max(beat.took(acknowledged));
        }
        slowest
    })
    .await;
    let hits = upstream.hits();
    // Nothing waits for an orderly end, and the first request that is let in afterwards knows.
    for proxy in [&mut a, &mut b] {
        proxy.signal("KILL");
        proxy.wait();
        proxy.again();
        ready(proxy).await;
        for token in [&alice, &hers] {
            assert_eq!(call(proxy, token).await.status, 401, "{}", proxy.log());
        }
    }
    assert_eq!(upstream.hits(), hits);
    for proxy in [&a, &b] {
        for token in [&bob, &his] {
            assert_eq!(call(proxy, token).await.status, 200, "{}", proxy.log());
        }
    }
}

/// A provider tells one instance that somebody has signed out; it knows of no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_a_provider_tells_one_instance_of_holds_at_both_within_two_seconds() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "5m");
    let (a, mut b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let bob = new.token("bob");
    new.signs_in("bob");
    let his = sign_in(&b).await;
    let (mut alice, mut hers) = (String::new(), String::new());
    let what = "a back-channel logout at one of two instances: session and token, kept at the other, are refused there";
    always_within(what, Duration::from_secs(2), async |number, beat| {
        // Each time another person: whoever has just signed out is out with what was issued in that second.
        let name = format!("alice{number}");
        alice = new.token(&name);
        new.signs_in(&name);
        hers = sign_in(&b).await;
        // The second time each is kept.
        for _ in 0..2 {
            assert!(
                is_in(&b, &hers).await && is_in(&b, &his).await,
                "{}",
                b.log()
            );
            for token in [&alice, &bob] {
                assert_eq!(call(&b, token).await.status, 200, "{}", b.log());
            }
        }
        let jti = format!("j{number}");
        let token = new.logout_token(&jti, &serde_json::json!({ "sub": name }));
        let fields = [
            ("Host", "app.test"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let body = format!("logout_token={token}");
        let path = "/.authferry/backchannel/new";
        let answer = request(a.address, "POST", path, &fields, body.as_bytes()).await;
        let acknowledged = beat.acknowledged();
        assert_eq!(answer.status, 200, "{}", answer.text());
        until(async || !is_in(&b, &hers).await && call(&b, &alice).await.status == 401).await;
        beat.took(acknowledged)
    })
    .await;
    let is_over = async |proxy: &Proxy| {
        assert!(!is_in(proxy, &hers).await, "{}", proxy.log());
        assert_eq!(call(proxy, &alice).await.status, 401, "{}", proxy.log());
        assert_eq!(call(proxy, &bob).await.status, 200, "{}", proxy.log());
    };
    is_over(&a).await;
    b.signal("KILL");
    b.wait();
    b.again();
    ready(&b).await;
    is_over(&b).await;
}

/// A proof is good once, whichever instance it comes to.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_possession_that_one_instance_has_seen_is_used_at_the_other() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "5m");
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let holder = crate::harness::Holder::new();
    let mut claims = new.claims("alice");
    let bound = serde_json::json!({ "jkt": holder.thumbprint() });
    claims.insert("cnf".to_owned(), bound);
    let token = new.sign(&claims);
    let bearer = format!("DPoP {token}");
    for (first, second) in [(&a, &b), (&b, &a)] {
        let of = ("GET", "http://app.test/");
        let proof = holder.proof(of, Some(&token), &serde_json::json!({}));
        let fields = [
            ("Host", "app.test"),
            ("Authorization", &*bearer),
            ("DPoP", &*proof),
        ];
        let answer = request(first.address, "GET", "/", &fields, b"").await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), first.log());
        let again = request(second.address, "GET", "/", &fields, b"").await;
        assert_eq!(again.status, 401, "{}", second.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_mints_is_checked_with_the_keys_of_any() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "5m").replace(
        "    public_paths: [/public/*]\n",
        "    exchange: { always: ours }\n",
    ) + "exchange: { ours: { mint: { issuer: \"https://ferry.test\", audiences: [api] } } }\n";
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let keys = async |proxy: &Proxy| {
        let answer = crate::harness::get(proxy.address, "/.authferry/jwks.json").await;
        answer.text()
    };
    until(async || keys(&a).await.contains("kid") && keys(&b).await.contains("kid")).await;
    assert_eq!(keys(&a).await, keys(&b).await);
    // Their end is in no file: whoever runs says it.
    let set: serde_json::Value = serde_json::from_str(&keys(&a).await).unwrap();
    let kid = set["keys"][0]["kid"].as_str().unwrap();
    for proxy in [&a, &b] {
        let soon =
            |span| crate::control::good(proxy.dir(), &["catalog", "--running", "--expiring", span]);
        let row = format!("| signing key | `{kid}` | what we sign | ");
        let listed = soon("40d");
        assert!(listed.contains(&row), "{listed}");
        assert!(!soon("1d").contains(kid));
    }
    for (by, other) in [(&a, &b), (&b, &a)] {
        assert_eq!(
            call(by, &new.token("alice")).await.status,
            200,
            "{}",
            by.log()
        );
        let value = upstream.last().all("authorization").remove(0);
        let minted = value.strip_prefix("Bearer ").unwrap();
        let (set, _) = authferry::token::KeySet::from_remote(keys(other).await.as_bytes()).unwrap();
        assert_eq!(
            authferry::token::verify_signature_only(minted, &set),
            Ok(())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_instance_withdraws_signs_at_none_of_them() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = redis.config(&old, &new, &upstream, "5m").replace(
        "    public_paths: [/public/*]\n",
        "    exchange: { always: ours }\n",
    ) + "exchange: { ours: { mint: { issuer: \"https://ferry.test\", audiences: [api] } } }\n";
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let keys = async |proxy: &Proxy| {
        let answer = crate::harness::get(proxy.address, "/.authferry/jwks.json").await;
        answer.text()
    };
    until(async || keys(&a).await.contains("kid") && keys(&b).await == keys(&a).await).await;
    let set: serde_json::Value = serde_json::from_str(&keys(&a).await).unwrap();
    let kid = set["keys"][0]["kid"].as_str().unwrap().to_owned();
    let token = new.token("alice");
    let minted = async |proxy: &Proxy| {
        assert_eq!(call(proxy, &token).await.status, 200, "{}", proxy.log());
        upstream.last().all("authorization").remove(0)
    };
    let before = [minted(&a).await, minted(&b).await];
    // It is kept, by each worker for itself.
    until(async || minted(&b).await == before[1]).await;
    let words = ["keys", "withdraw", &kid, "--reason", "leaked", "--confirm"];
    crate::control::good(a.dir(), &words);
    assert!(!keys(&a).await.contains(&kid));
    until(async || !keys(&b).await.contains(&kid)).await;
    assert_eq!(keys(&a).await, keys(&b).await);
    let (set, _) = authferry::token::KeySet::from_remote(keys(&b).await.as_bytes()).unwrap();
    for (proxy, before) in [(&a, &before[0]), (&b, &before[1])] {
        let now = minted(proxy).await;
        assert_ne!(now, *before);
        let now = now.strip_prefix("Bearer ").unwrap();
        assert_eq!(authferry::token::verify_signature_only(now, &set), Ok(()));
    }
}

/// What a client got at one instance is a credential at the other, and ends at both with a sign of either.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_ours_counts_at_every_instance_until_it_is_given_back_at_one() {
    let stage = crate::minted::Stage::new().await;
    let redis = Redis::start();
    let config = stage.config() + &redis.shared("5m");
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let alice = crate::minted::subject(&stage.old, "alice");
    mostly_within(Duration::from_secs(2), async |_| {
        let token = crate::minted::exchanged(&a, &alice, "ours").await;
        // The second time it is kept.
        for proxy in [&a, &b, &a, &b] {
            assert_eq!(call(proxy, &token).await.status, 200, "{}", proxy.log());
        }
        let pairs = [("token", &*token)];
        let path = "/.authferry/oauth2/revoke";
        let back = crate::refresh::post(&a, ("shop", "s3cret"), path, &pairs).await;
        let acknowledged = Instant::now();
        assert_eq!(back.status, 200, "{}", back.text());
        assert_eq!(call(&a, &token).await.status, 401);
        until(async || call(&b, &token).await.status == 401).await;
        acknowledged.elapsed()
    })
    .await;
    // A key that one of them withdraws has signed nothing that counts at the other, and what is signed with the next one counts there.
    let token = crate::minted::exchanged(&b, &alice, "ours").await;
    for proxy in [&a, &b] {
        assert_eq!(call(proxy, &token).await.status, 200, "{}", proxy.log());
    }
    let answer = crate::harness::get(a.address, "/.authferry/jwks.json").await;
    let set: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    let kid = set["keys"][0]["kid"].as_str().unwrap();
    crate::minted::withdraws(&a, kid);
    assert_eq!(call(&a, &token).await.status, 401);
    until(async || call(&b, &token).await.status == 401).await;
    let next = crate::minted::exchanged(&a, &alice, "ours").await;
    for proxy in [&a, &b] {
        assert_eq!(call(proxy, &next).await.status, 200, "{}", proxy.log());
    }
    // Nobody is let in while nobody can say what it was made of.
    let carol = crate::minted::subject(&stage.old, "carol");
    let unknown = crate::minted::exchanged(&a, &carol, "ours").await;
    redis.signal("-STOP");
    let answer = call(&b, &unknown).await;
    redis.signal("-CONT");
    assert_eq!(answer.status, 503, "{}", b.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_outlives_what_an_instance_remembers_and_ends_with_a_sign_out_at_another() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let (redis, upstream) = (Redis::start(), crate::lasting::application().await);
    let config = crate::lasting::config(&old, &new, upstream, &redis.shared("5m"));
    let (a, b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let session = sign_in(&a).await;
    let mut open = [
        Open::with(&b, &session, true).await,
        Open::with(&b, &session, false).await,
    ];
    // What was read of a session holds 5 s; nobody reads it here but what is open.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        for one in &mut open {
            assert!(one.is_open().await, "{}", b.log());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let closed = "authferry_tunnels_closed_total{reason=\"revoked\"}";
    assert_eq!(b.metric(closed).await, 0.0);
    sign_out(&a, &session).await;
    // What the two seconds of a sign-out are is measured above; here a busy machine is given a while more.
    for one in &mut open {
        one.ends(Duration::from_secs(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_at_another_instance_goes_on_with_the_session_that_took_the_place() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let (redis, upstream) = (Redis::start(), crate::lasting::application().await);
    let sessions = redis.shared("5m");
    let sessions = sessions.replace("sessions: {", "sessions: { carry_over: [silent],");
    let yaml = |percent| {
        crate::lasting::config(&old, &new, upstream, &sessions)
            .replace("percent: 100", &format!("percent: {percent}"))
    };
    let (a, b) = (Proxy::start(&yaml(0)), Proxy::start(&yaml(0)));
    ready(&a).await;
    ready(&b).await;
    let mut browser = at_the_old_side(&a).await;
    let mut open = [
        Open::of(&b, &browser, true).await,
        Open::of(&b, &browser, false).await,
    ];
    new.remembers(true);
    b.edit(&yaml(100));
    let before = moves(&a, &yaml(100), &mut browser).await;
    until(async || script(&b, &before).await == 401).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        for one in &mut open {
            assert!(one.is_open().await, "{}", b.log());
        }
    }
    for reason in ["revoked", "expired", "moved"] {
        assert_eq!(closed(&b, reason).await, 0.0, "{reason}");
    }
    signs_out_at_both(&a, &mut browser, (&old, &new)).await;
    for one in &mut open {
        one.ends(Duration::from_secs(10)).await;
    }
}
