//! A steady load beside a test. Every request that began is told of: it was answered, or it has failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::Echo;
use crate::harness::request;
use crate::modern::token_of;

/// Between two requests: 200 a second.
const EVERY: Duration = Duration::from_millis(5);

/// The fewest that are 200 a second, in a second.
const FEWEST: f64 = 190.0;

/// How long a token is used.
const FRESH: Duration = Duration::from_secs(60);

/// What it asks for.
const TARGET: &str = "/load";

/// Requests that go on until [`Load::end`].
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    began: Arc<AtomicUsize>,
    task: JoinHandle<Told>,
}

/// What became of them.
#[derive(Debug, Default)]
struct Told {
    started: usize,
    answered: usize,
    failed: Vec<String>,
    took: Duration,
}

impl Told {
    fn count(&mut self, ended: Result<u16, JoinError>) {
        match ended {
            Ok(200) => self.answered += 1,
            Ok(status) => self.failed.push(status.to_string()),
            // Refused, reset, broken off, or no whole answer in time: a client panics then.
            Err(error) => self.failed.push(why(error)),
        }
    }
}

/// What a client that panicked has said.
fn why(error: JoinError) -> String {
    let Ok(said) = error.try_into_panic() else {
        return "no answer".to_owned();
    };
    let text = said.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| {
        let text = said.downcast_ref::<&str>();
        text.map_or_else(|| "no answer".to_owned(), |text| (*text).to_owned())
    })
}

impl Load {
    /// Requests of somebody, with a token of Keycloak that is always a fresh one.
    pub(crate) fn start(to: SocketAddr, who: &'static str) -> Self {
        Self::of(to, Some(who))
    }

    fn of(to: SocketAddr, who: Option<&'static str>) -> Self {
        let (stop, began) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(run(to, who, Arc::clone(&stop), Arc::clone(&began)));
        Self { stop, began, task }
    }

    async fn told(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }

    /// Ends it: nothing has failed, of nothing is it unknown what became of it, and the application has seen each once.
    pub(crate) async fn end(self, upstream: &Echo) {
        let told = self.told().await;
        assert!(
            told.failed.is_empty(),
            "{} of {} failed, such as {:?}",
            told.failed.len(),
            told.started,
            told.failed.iter().take(3).collect::<Vec<_>>()
        );
        assert_eq!(told.answered, told.started);
        let line = format!("GET {TARGET} HTTP/1.1");
        let seen = upstream.seen().into_iter();
        let served = seen.filter(|seen| seen.line() == line).count();
        assert_eq!(served, told.started, "counted at the application");
        let rate = told.started as f64 / told.took.as_secs_f64();
        assert!(FEWEST <= rate, "only {rate:.0} requests a second");
    }
}

async fn run(
    to: SocketAddr,
    who: Option<&'static str>,
    stop: Arc<AtomicBool>,
    began: Arc<AtomicUsize>,
) -> Told {
    let since = Instant::now();
    let mut told = Told::default();
    let mut under_way = JoinSet::new();
    // Ticks that were missed while a token was fetched are made up for.
    let mut tick = tokio::time::interval(EVERY);
    let mut bearer: Option<(String, Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        // A test lasts longer than a token.
        if let Some(who) = who
            && bearer
                .as_ref()
                .is_none_or(|(_, since)| FRESH < since.elapsed())
        {
            bearer = Some((format!("Bearer {}", token_of(who).await), Instant::now()));
        }
        tick.tick().await;
        let bearer = bearer.as_ref().map(|(bearer, _)| bearer.clone());
        under_way.spawn(async move {
            let mut fields = vec![("Host", "127.0.0.1")];
            fields.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
            request(to, "GET", TARGET, &fields, b"").await.status
        });
        told.started += 1;
        began.store(told.started, Ordering::Relaxed);
        while let Some(ended) = under_way.try_join_next() {
            told.count(ended);
        }
    }
    told.took = since.elapsed();
    // Those that are still under way count too.
    while let Some(ended) = under_way.join_next().await {
        told.count(ended);
    }
    told
}

/// A server that answers the first request, says 503 to the second, breaks off inside the head of the third and the body of
/// the fourth, and is gone.
async fn failing() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        for said in [
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1_024];
            let n = stream.read(&mut asked).await.unwrap();
            assert_ne!(n, 0);
            stream.write_all(said.as_bytes()).await.unwrap();
        }
        // Whoever comes now is refused.
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_knows_of_each_request_what_became_of_it() {
    let (address, server) = failing().await;
    let load = Load::of(address, None);
    server.await.unwrap();
    let began = load.began.load(Ordering::Relaxed);
    crate::operators::until(async || began + 2 < load.began.load(Ordering::Relaxed)).await;
    let told = load.told().await;
    assert_eq!(told.answered, 1, "{:?}", told.failed);
    assert_eq!(told.failed.len(), told.started - 1);
    for why in [
        "503",
        "closed before a whole head",
        "closed inside a body",
        "ConnectionRefused",
    ] {
        let with = told.failed.iter().filter(|said| said.contains(why));
        assert_ne!(with.count(), 0, "{why}: {:?}", told.failed);
    }
}
