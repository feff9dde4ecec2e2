//! Against a real server, which each test starts, hurts and stops itself.

use std::io::BufRead as _;
use std::io::BufReader;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use super::*;
use crate::clock::ManualClock;
use crate::entropy::SystemEntropy;
use crate::secret::Secret;
use crate::store::Entry;
use crate::store::Event;
use crate::store::contract::store_contract;
use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;
use tokio::time::Instant;

const NOW: UnixTime = UnixTime::from_secs(4_000_000_000);
const LATER: UnixTime = UnixTime::from_secs(4_000_000_100);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const fn key(key: &[u8]) -> Key<'_> {
    Key { table: "t", key }
}

/// A port that nobody has at this moment.
fn free() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

struct Server {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
    more: Vec<String>,
}

impl Server {
    fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let more: Vec<_> = more.iter().map(|word| String::from(*word)).collect();
        // Whoever takes the port in between has it: then another one is tried.
        for _ in 0..10 {
            let port = free();
            if let Some(child) = launch(port, directory.path(), &more) {
                return Self {
                    child,
                    port,
                    directory,
                    more,
                };
            }
        }
        panic!("the server does not listen");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        let began = Instant::now();
        loop {
            if let Some(child) = launch(self.port, self.directory.path(), &self.more) {
                self.child = child;
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the port is somebody else's");
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Says something to the server, beside the store.
    async fn say(&self, words: &[&str]) {
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "the server does not listen");
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let mut command = ::redis::Cmd::new();
            command.arg(words);
            command.query_async::<()>(&mut connection).await.unwrap();
            return;
        }
    }

    fn settings(&self) -> RedisSettings {
        settings(self.port)
    }

    /// A store that has been told something: it is connected and subscribed.
    async fn store(&self) -> RedisStore {
        let store = open(&self.settings(), &metrics());
        until(&store, Sight::Told).await;
        store
    }
}

/// A server that listens; `None`: it could not have its port.
fn launch(port: u16, directory: &std::path::Path, more: &[String]) -> Option<Child> {
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
        .arg(directory)
        .args(more)
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

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn settings(port: u16) -> RedisSettings {
    RedisSettings {
        host: String::from("127.0.0.1"),
        port,
        tls: None,
        database: 0,
        username: None,
        password: None,
        prefix: String::from("t:"),
    }
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(Arc::new(ManualClock::at(NOW)), MAX_SERIES_PER_FAMILY)
}

fn open(settings: &RedisSettings, metrics: &Arc<Metrics>) -> RedisStore {
    RedisStore::start(settings, Arc::new(SystemEntropy), Arc::clone(metrics)).unwrap()
}

async fn until(store: &RedisStore, sight: Sight) {
    let began = Instant::now();
    while store.sight() != sight {
        assert!(began.elapsed() < PATIENCE, "never {sight:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_redis_store_keeps_the_contract() {
    let server = Server::start(&[]);
    server.say(&["PING"]).await;
    let stores = std::cell::Cell::new(0);
    store_contract(|| {
        stores.set(stores.get() + 1);
        let settings = RedisSettings {
            prefix: format!("{}:", stores.get()),
            ..server.settings()
        };
        open(&settings, &metrics())
    })
    .await;
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_of_the_server() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let span = Duration::from_millis(200);
    assert!(store.lease("l", "a", span, NOW).await.unwrap());
    let ahead = NOW + Duration::from_secs(3_600);
    assert!(!store.lease("l", "b", span, ahead).await.unwrap());
    let began = Instant::now();
    while !store.lease("l", "b", span, NOW).await.unwrap() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!store.lease("l", "a", span, NOW).await.unwrap());
}

#[tokio::test]
async fn what_one_instance_writes_is_seen_by_the_other_and_told_to_it() {
    let server = Server::start(&[]);
    let (a, b) = (server.store().await, server.store().await);
    let mut watch = b.watch("t");
    a.put(key(b"k"), b"v", LATER).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(told, Some(Event::Changed((&b"k"[..]).into())));
    let row = b.get(key(b"k"), NOW).await.unwrap().unwrap();
    assert_eq!(row.value, b"v");
    let expect = Expect::Version(row.version);
    let (one, two) = tokio::join!(
        a.compare_and_swap(key(b"k"), expect, b"a", LATER, NOW),
        b.compare_and_swap(key(b"k"), expect, b"b", LATER, NOW),
    );
    assert!(one.unwrap() != two.unwrap(), "exactly one of them");
}

#[tokio::test]
async fn a_server_that_hangs_is_cut_off_and_is_back_within_two_seconds() {
    let server = Server::start(&[]);
    let metrics = metrics();
    let store = open(&server.settings(), &metrics);
    until(&store, Sight::Told).await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    // A busy machine is late now and then, a store that waits each time.
    let (mut all, mut good) = (Vec::new(), false);
    while !good && all.len() < 5 {
        server.signal("-STOP");
        let began = Instant::now();
        let first = store.get(key(b"k"), NOW).await.unwrap_err();
        assert!(matches!(
            first,
            StoreError::Timeout | StoreError::Unavailable(_)
        ));
        let cut = began.elapsed();
        until(&store, Sight::Away).await;
        let began = Instant::now();
        assert!(store.get(key(b"k"), NOW).await.is_err());
        let not_asked = began.elapsed();
        assert!(
            metrics
                .render()
                .unwrap()
                .contains("authferry_store_circuit_state 2")
        );
        server.signal("-CONT");
        let began = Instant::now();
        until(&store, Sight::Told).await;
        all.push((cut, not_asked, began.elapsed()));
        let [second, fifth] = [1_000, 200].map(Duration::from_millis);
        // Cut at 250 ms, not even asked, and back when it is looked for again.
        good = cut < second && not_asked < fifth && began.elapsed() < 4 * second;
    }
    assert!(good, "{all:?}");
    assert_eq!(
        store.get(key(b"k"), NOW).await.unwrap().unwrap().value,
        b"v"
    );
    assert!(
        metrics
            .render()
            .unwrap()
            .contains("authferry_store_circuit_state 0")
    );
}

#[tokio::test]
async fn a_server_that_was_killed_is_found_again_and_watchers_learn_what_they_missed() {
    let mut server = Server::start(&[]);
    let store = server.store().await;
    let mut watch = store.watch("t");
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    // Heard before the kill, so that what is heard next is about the kill.
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(told, Some(Event::Changed((&b"k"[..]).into())));
    server.kill();
    assert!(store.get(key(b"k"), NOW).await.is_err(), "not: no row");
    assert!(store.put(key(b"k"), b"w", LATER).await.is_err());
    until(&store, Sight::Away).await;
    server.start_again();
    until(&store, Sight::Told).await;
    assert_eq!(
        store.get(key(b"k"), NOW).await.unwrap().unwrap().value,
        b"v"
    );
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(told, Some(Event::Missed));
}

#[tokio::test]
async fn a_full_server_and_one_that_takes_no_writes_still_answer_reads() {
    let server = Server::start(&[]);
    let store = server.store().await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    server.say(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for _ in 0..8 {
        let error = store.put(key(b"l"), b"v", LATER).await.unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error}");
    }
    assert!(store.get(key(b"k"), NOW).await.unwrap().is_some());
    store.delete(key(b"k")).await.unwrap();
    server.say(&["CONFIG", "SET", "maxmemory", "0"]).await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    server.say(&["REPLICAOF", "127.0.0.1", "1"]).await;
    for _ in 0..8 {
        let error = store.put(key(b"l"), b"v", LATER).await.unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly), "{error}");
    }
    assert!(store.get(key(b"k"), NOW).await.unwrap().is_some());
    assert_ne!(store.sight(), Sight::Away);
    server.say(&["REPLICAOF", "NO", "ONE"]).await;
    store.put(key(b"l"), b"v", LATER).await.unwrap();
}

#[tokio::test]
async fn an_emptied_server_has_no_rows_and_gives_no_version_twice() {
    let server = Server::start(&[]);
    let store = server.store().await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    let before = store.get(key(b"k"), NOW).await.unwrap().unwrap();
    server.say(&["FLUSHALL"]).await;
    assert_eq!(store.get(key(b"k"), NOW).await.unwrap(), None);
    assert!(store.scan("t", b"", 9, NOW).await.unwrap().is_empty());
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    let expect = Expect::Version(before.version);
    let swapped = store.compare_and_swap(key(b"k"), expect, b"w", LATER, NOW);
    assert!(!swapped.await.unwrap());
}

#[tokio::test]
async fn the_password_of_the_acl_user_opens_and_another_is_named_as_the_reason() {
    let server = Server::start(&[
        "--user",
        "ferry",
        "on",
        ">right",
        "~t:*",
        "&t:*",
        "+@read",
        "+@write",
        "+@scripting",
        "+ping",
        "+publish",
        "+subscribe",
        "--user",
        "default",
        "off",
    ]);
    let with = |password: &str| RedisSettings {
        username: Some(String::from("ferry")),
        password: Some(Secret::new(password.to_owned())),
        ..server.settings()
    };
    let store = open(&with("right"), &metrics());
    until(&store, Sight::Told).await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    store
        .put(
            Key {
                table: "session",
                key: b"k",
            },
            b"v",
            LATER,
        )
        .await
        .unwrap();
    assert_eq!(store.scan("t", b"", 9, NOW).await.unwrap().len(), 1);
    assert_eq!(store.sweep(LATER).await.unwrap(), 1);
    // Another password, and none.
    for settings in [with("wrong"), server.settings()] {
        let metrics = metrics();
        let store = open(&settings, &metrics);
        until(&store, Sight::Away).await;
        assert!(store.get(key(b"k"), NOW).await.is_err());
        let named = r#"authferry_store_errors_total{operation="connect",reason="denied"}"#;
        let began = Instant::now();
        while !metrics.render().unwrap().contains(named) {
            assert!(began.elapsed() < PATIENCE, "never {named}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn over_tls_only_a_server_that_the_ca_vouches_for_is_spoken_to() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let files = tempfile::tempdir().unwrap();
    let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name| files.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert"), cert.cert.pem()).unwrap();
    std::fs::write(path("key"), cert.signing_key.serialize_pem()).unwrap();
    let port = free();
    let _server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &path("cert"),
        "--tls-key-file",
        &path("key"),
        "--tls-ca-cert-file",
        &path("cert"),
    ]);
    let with = |ca: Option<String>| RedisSettings {
        host: String::from("localhost"),
        tls: Some(ca.map(String::into_bytes)),
        ..settings(port)
    };
    let store = open(&with(Some(cert.cert.pem())), &metrics());
    until(&store, Sight::Told).await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    let store = open(&with(None), &metrics());
    until(&store, Sight::Away).await;
    assert!(store.get(key(b"k"), NOW).await.is_err());
}

#[tokio::test]
async fn rows_that_are_found_are_read_a_few_at_a_time() {
    let server = Server::start(&[]);
    let store = server.store().await;
    for n in 0..100_u8 {
        let digest = [n; 32];
        let row = NewRow {
            key: key(&digest),
            value: &[n],
            entries: &[Entry {
                kind: 0,
                place: [n; PLACE],
            }],
            expires: LATER,
        };
        assert!(store.write(row, None).await.unwrap());
    }
    let by = By {
        table: "t",
        kind: 0,
        prefix: b"",
    };
    let mut found = Vec::new();
    let mut each = |key: &[u8], _| found.push(key[0]);
    store.find(by, usize::MAX, NOW, &mut each).await.unwrap();
    assert_eq!(found, (0..100).collect::<Vec<_>>());
    let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut info = ::redis::cmd("INFO");
    info.arg("commandstats");
    let said: String = info.query_async(&mut connection).await.unwrap();
    assert!(said.contains("cmdstat_mget:calls=4,"), "{said}");
}

#[tokio::test]
async fn a_row_goes_by_its_own_expiry_whatever_is_noted_of_it() {
    let server = Server::start(&[]);
    let store = server.store().await;
    store.put(key(b"k"), b"v", LATER).await.unwrap();
    server.say(&["ZADD", "t:~due", "1", "\u{1}tk"]).await;
    store.sweep(NOW).await.unwrap();
    assert!(store.get(key(b"k"), NOW).await.unwrap().is_some());
    assert_eq!(store.scan("t", b"k", 9, NOW).await.unwrap().len(), 1);
    // By a clock that is behind the one by which it went.
    store.sweep(LATER).await.unwrap();
    assert!(store.get(key(b"k"), NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn entries_without_a_row_go_when_they_are_met_and_what_is_no_row_hides_no_others() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let digests = [b'a', b'b', b'c'].map(|letter| [letter; 32]);
    for digest in &digests {
        let row = NewRow {
            key: key(digest),
            value: b"v",
            entries: &[Entry {
                kind: 0,
                place: [7; PLACE],
            }],
            expires: LATER,
        };
        assert!(store.write(row, None).await.unwrap());
    }
    let name = |of: &[u8]| format!("t:t:{}", std::str::from_utf8(of).unwrap());
    server.say(&["DEL", &name(&digests[0])]).await;
    server.say(&["SET", &name(&digests[1]), "short"]).await;
    let by = By {
        table: "t",
        kind: 0,
        prefix: &[7],
    };
    let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for entries in [3_usize, 2] {
        let mut count = ::redis::cmd("ZCARD");
        count.arg("t:~entry:t:0");
        let counted: usize = count.query_async(&mut connection).await.unwrap();
        assert_eq!(counted, entries);
        let mut found = Vec::new();
        let mut each = |key: &[u8], _| found.push(key[0]);
        let handed = store.find(by, usize::MAX, NOW, &mut each).await.unwrap();
        assert!(handed == 1 && found == b"c");
    }
    let damaged = store.scan("t", b"", 9, NOW).await;
    assert!(matches!(damaged, Err(StoreError::Damaged(_))));
}
