//! A real provider, Redis and the proxy itself are killed under load and started again: nobody is lost, nobody is somebody
//! else, and who has signed out stays so.
//!
//! What a provider had renewed and not said dies with it, and one that takes no token twice ends whoever shows the earlier one.
//! So both take one once more here, as their makers have it for that (Keycloak: Refresh Token Max Reuse; Django OAuth toolkit:
//! `REFRESH_TOKEN_GRACE_PERIOD_SECONDS`).

use std::net::SocketAddr;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::behind::Behind;
use crate::harness::Echo;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::request;
use crate::old_sides::at_django;
use crate::operators::until;
use crate::origin;
use crate::proxy;
use crate::sessions::signed_in;
use crate::two_sides;
use crate::var;

/// How long Redis is away: once for long, and once shorter than anybody waits for it.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(4);

/// A Redis of this test's own, whose every write is on disk.
struct Redis {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Redis {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "k".repeat(32)).unwrap();
        std::fs::write(dir.path().join("bucket"), "b".repeat(32)).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = launch(port, &dir);
        let redis = Self { child, port, dir };
        redis.listens().await;
        redis
    }

    async fn listens(&self) {
        let at = SocketAddr::from(([127, 0, 0, 1], self.port));
        until(async || tokio::net::TcpStream::connect(at).await.is_ok()).await;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn again(&mut self) {
        self.child = launch(self.port, &self.dir);
        self.listens().await;
    }

    fn config(&self) -> String {
        let (dir, port) = (self.dir.path().display(), self.port);
        format!(
            "secrets: {{ bucket_key: {{ file: \"{dir}/bucket\" }}, session_keys: [{{ file: \"{dir}/key\" }}] }}\n\
             sessions: {{ store: redis, redis: {{ url: \"redis://127.0.0.1:{port}\" }}, revalidate: 5s }}\n"
        )
    }
}

fn launch(port: u16, dir: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A server that `tests/real/run` has started, and that is there again also after a failure, or everything that follows would fail.
struct Server(&'static str);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.start());
    }
}

impl Server {
    /// Ends it, and all that it has started, without a word.
    fn kill(&self) {
        let file = format!("{}/pid/{}.pid", var("IDPS_RUN"), self.0);
        let text = std::fs::read_to_string(file).unwrap();
        let (pid, birth) = text.trim().split_once(' ').unwrap();
        // Another process has another time of birth.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let own = stat.rsplit(") ").next().unwrap().split(' ').nth(19);
        assert_eq!(
            own,
            Some(birth),
            "{} is not the one that was started",
            self.0
        );
        let group = format!("-{pid}");
        let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        assert!(killed.unwrap().success(), "{}", self.0);
    }

    /// Starts it with what it has on disk, unless it runs.
    fn start(&self) -> std::io::Result<Output> {
        let root = env!("CARGO_MANIFEST_DIR");
        Command::new(format!("{root}/tests/real/idps/start-{}.sh", self.0))
            .env("IDPS_KEEP", "1")
            .env("DOT_GRACE", "120")
            .output()
    }

    /// Starts it again.
    fn again(&self) {
        let started = self.start().unwrap();
        assert!(started.status.success(), "{started:?}");
    }
}

/// What became of the requests of a session each.
#[derive(Default)]
struct Told {
    good: Vec<usize>,
    /// Nobody could judge, for now.
    away: usize,
    /// What must not be.
    wrong: Vec<String>,
}

/// Requests of many sessions, and of one that was signed out, until they are to end.
struct Load {
    stop: Arc<AtomicBool>,
    /// Whether the proxy may be gone.
    down: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(to: SocketAddr, sessions: Vec<(String, String)>, out: String) -> Self {
        let told = Told {
            good: vec![0; sessions.len()],
            ..Told::default()
        };
        let (stop, down) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let told = Arc::new(Mutex::new(told));
        let mut tasks = JoinSet::new();
        let people = sessions
            .into_iter()
            .map(|(uid, cookies)| (Some(uid), cookies));
        for (place, (uid, cookies)) in people.chain([(None, out)]).enumerate() {
            let (stop, told) = (Arc::clone(&stop), Arc::clone(&told));
            let down = Arc::clone(&down);
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let before = down.load(Ordering::Relaxed);
                    let cookies = cookies.clone();
                    // In a task of its own, because it panics where no answer comes.
                    let asked = tokio::spawn(async move {
                        let fields = [("Host", "127.0.0.1"), ("Cookie", cookies.as_str())];
                        request(to, "GET", "/", &fields, b"").await
                    });
                    let Ok(answer) = asked.await else {
                        {
                            let mut told = told.lock().unwrap();
                            told.away += 1;
                            if !before && !down.load(Ordering::Relaxed) {
                                told.wrong.push(format!("{uid:?}: no answer"));
                            }
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    let said = answer.text().to_ascii_lowercase();
                    let who = said
                        .split("\r\n")
                        .find_map(|line| line.strip_prefix("x-remote-user: "));
                    {
                        let mut told = told.lock().unwrap();
                        match (answer.status, &uid) {
                            (200, Some(uid)) if who == Some(uid) => told.good[place] += 1,
                            (502..=504, _) => told.away += 1,
                            (401, None) => {}
                            (status, uid) => {
                                told.wrong.push(format!("{uid:?}: {status}, as {who:?}"))
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        Self {
            stop,
            down,
            told,
            tasks,
        }
    }

    fn away(&self) -> usize {
        self.told.lock().unwrap().away
    }

    fn check(&self, proxy: &Proxy) {
        let told = self.told.lock().unwrap();
        assert!(told.wrong.is_empty(), "{:?}\n{}", told.wrong, proxy.log());
    }

    /// Waits until `done`; nothing that must not be has been by then.
    async fn until(&self, proxy: &Proxy, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !done().await {
            self.check(proxy);
            if PATIENCE < began.elapsed() {
                let told = self.told.lock().unwrap();
                panic!(
                    "{what}: {:?}, {} away\n{}",
                    told.good,
                    told.away,
                    proxy.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.check(proxy);
    }

    /// Waits until everybody has been served again, and as many sessions as there are were confirmed at their provider.
    async fn all_are_served(&self, proxy: &Proxy, provider: &str, what: &str) {
        let before = self.told.lock().unwrap().good.clone();
        self.until(proxy, what, async || {
            let told = self.told.lock().unwrap();
            told.good.iter().zip(&before).all(|(now, then)| then < now)
        })
        .await;
        let confirmed = calls(proxy, provider, "success").await + before.len() as f64;
        self.until(proxy, what, async || {
            confirmed <= calls(proxy, provider, "success").await
        })
        .await;
    }

    async fn end(mut self, proxy: &Proxy) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        self.check(proxy);
    }
}

/// How many calls to the token endpoint of a provider have ended so, or in any way but these.
async fn calls(proxy: &Proxy, provider: &str, outcome: &str) -> f64 {
    let series = format!(
        "authferry_provider_request_duration_seconds_count{{provider=\"{provider}\",operation=\"token\",outcome=\""
    );
    let text = get(proxy.admin, "/metrics").await.text();
    let counts = text.lines().filter_map(|line| {
        let (label, value) = line.strip_prefix(&series)?.split_once("\"} ")?;
        let is = match outcome {
            "failed" => !["success", "rejected"].contains(&label),
            _ => label == outcome,
        };
        is.then(|| value.parse::<f64>().unwrap())
    });
    counts.sum()
}

async fn nobody_is_lost(
    (server, provider): (&Server, &str),
    sides: &str,
    people: &[(&str, &str)],
    away: Duration,
) {
    let mut redis = Redis::start().await;
    let proxy = proxy(&format!("{sides}{}", redis.config()));
    proxy.settled().await;
    let site = origin();
    let host = site.strip_prefix("http://").unwrap();
    let mut sessions = Vec::new();
    for (name, uid) in people {
        let browser = signed_in(&proxy, name).await;
        sessions.push(((*uid).to_owned(), browser.cookie_line(host)));
    }
    let (_, out) = sessions.pop().unwrap();
    let fields = [
        ("Host", host),
        ("Origin", site.as_str()),
        ("Cookie", out.as_str()),
    ];
    let path = "/.authferry/logout";
    let left = request(proxy.address, "POST", path, &fields, b"").await;
    assert_eq!(left.status, 303, "{}", left.text());
    let count = sessions.len();
    let load = Load::start(proxy.address, sessions, out);
    let served = async |what| load.all_are_served(&proxy, provider, what).await;
    served("before anything").await;
    assert_eq!(load.away(), 0, "{}", proxy.log());

    // For longer than a session counts without its provider.
    server.kill();
    let many = async || count <= load.away();
    load.until(&proxy, "without the provider", many).await;
    assert_ne!(calls(&proxy, provider, "failed").await, 0.0);
    server.again();
    served("with the provider again").await;

    let began = Instant::now();
    redis.kill();
    let long = async || away < began.elapsed();
    load.until(&proxy, "without Redis", long).await;
    redis.again().await;
    served("with Redis again").await;

    // Both at once.
    server.kill();
    redis.kill();
    let before = load.away();
    let many = async || before + count <= load.away();
    load.until(&proxy, "without both", many).await;
    redis.again().await;
    server.again();
    served("with both again").await;
    assert_eq!(
        calls(&proxy, provider, "rejected").await,
        0.0,
        "{}",
        proxy.log()
    );
    load.end(&proxy).await;
}

/// How often Keycloak takes a refresh token once more.
async fn reuse(most: u8) {
    let change = format!("{{\"realm\":\"new\",\"refreshTokenMaxReuse\":{most}}}");
    let changed = Behind::admin().await.call("PUT", "", &change).await;
    assert_eq!(changed.status, 204, "{}", changed.text());
}

/// Each session is confirmed at Keycloak every second, so that each time some are being renewed.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_is_killed_under_load_five_times_and_nobody_is_lost() {
    let upstream = Echo::start().await;
    reuse(1).await;
    let sides = two_sides(&upstream.url(), "100");
    let mut proxy = proxy(&format!("{sides}sessions: {{ revalidate: 1s }}\n"));
    proxy.settled().await;
    let (site, mut sessions) = (origin(), Vec::new());
    let host = site.strip_prefix("http://").unwrap();
    for number in 41..=53 {
        let browser = signed_in(&proxy, &format!("p{number:04}")).await;
        sessions.push((format!("{}", 20_000 + number), browser.cookie_line(host)));
    }
    let (_, out) = sessions.pop().unwrap();
    let fields = [
        ("Host", host),
        ("Origin", site.as_str()),
        ("Cookie", out.as_str()),
    ];
    let left = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    assert_eq!(left.status, 303, "{}", left.text());
    let load = Load::start(proxy.address, sessions, out);
    load.all_are_served(&proxy, "modern", "before anything")
        .await;
    assert_eq!(load.away(), 0, "{}", proxy.log());
    for round in 1..=5 {
        load.down.store(true, Ordering::Relaxed);
        proxy.signal("KILL");
        proxy.wait();
        proxy.again();
        load.down.store(false, Ordering::Relaxed);
        let what = format!("after {round}");
        load.all_are_served(&proxy, "modern", &what).await;
        let rejected = calls(&proxy, "modern", "rejected").await;
        assert_eq!(rejected, 0.0, "{what}\n{}", proxy.log());
    }
    load.end(&proxy).await;
    reuse(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keycloak_and_redis_are_killed_under_load_and_nobody_is_lost() {
    let upstream = Echo::start().await;
    reuse(1).await;
    let people: Vec<(String, String)> = (21..=36)
        .map(|number| (format!("p{number:04}"), format!("{}", 20_000 + number)))
        .collect();
    let people: Vec<_> = people
        .iter()
        .map(|(n, u)| (n.as_str(), u.as_str()))
        .collect();
    let sides = two_sides(&upstream.url(), "100");
    nobody_is_lost((&Server("keycloak"), "modern"), &sides, &people, LONG).await;
    reuse(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn django_and_redis_are_killed_under_load_and_nobody_is_lost() {
    let upstream = Echo::start().await;
    let people = [
        ("alice", "1001"),
        ("bob", "1002"),
        ("carol", "1003"),
        ("erin", "1005"),
    ];
    let people = people.repeat(3);
    let sides = at_django(&two_sides(&upstream.url(), "0"));
    nobody_is_lost((&Server("dot"), "legacy"), &sides, &people, SHORT).await;
}
