//! Names of origins turned into addresses, off the workers, remembered for a while.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;

/// Younger answers are used without a look.
const FRESH: Duration = Duration::from_secs(5);

/// Older answers are asked for again before they are used; in between they are used and asked for again meanwhile.
const STALE: Duration = Duration::from_secs(60);

/// How long the last good answer serves while the resolver fails.
const LAST_GOOD: Duration = Duration::from_secs(600);

/// The longest look-up. The operating system's own limit may be much longer; its thread is left behind then.
const LOOKUP: Duration = Duration::from_secs(10);

/// After a failure, how long nobody asks again.
const COOL_DOWN: Duration = Duration::from_secs(1);

/// Names that are remembered. More than any configuration has; beyond it the ones unused for longest are forgotten.
const MAX_NAMES: usize = 4_096;

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Lookup = Box<dyn Fn(&str) -> Found + Send + Sync>;

/// Looks names up on the background runtime. Shared by all workers; asked only when a connection is opened.
pub(crate) struct Resolver {
    background: Handle,
    lookup: Lookup,
    names: Mutex<HashMap<Box<str>, Entry>>,
}

#[derive(Default)]
struct Entry {
    addresses: Option<(Arc<[IpAddr]>, Instant)>,
    failed: Option<Instant>,
    used: Option<Instant>,
    /// A look-up under way; it says so when it has ended.
    pending: Option<watch::Receiver<bool>>,
}

/// Nobody knows the name, now or within the last ten minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("name not resolved")]
pub(crate) struct Unresolved;

impl Resolver {
    /// Asks the operating system, in threads of `background`.
    pub(crate) fn system(background: Handle) -> Arc<Self> {
        Self::new(
            background,
            Box::new(|host| {
                let host = host.to_owned();
                Box::pin(async move {
                    let found = tokio::net::lookup_host((host, 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                })
            }),
        )
    }

    fn new(background: Handle, lookup: Lookup) -> Arc<Self> {
        Arc::new(Self {
            background,
            lookup,
            names: Mutex::default(),
        })
    }

    /// The runtime where what is no request runs.
    pub(super) const fn background(&self) -> &Handle {
        &self.background
    }

    /// The addresses of `host`. The caller bounds the wait.
    pub(super) async fn resolve(self: &Arc<Self>, host: &str) -> Result<Arc<[IpAddr]>, Unresolved> {
        let mut pending = match self.look(host) {
            Look::Known(addresses) => return Ok(addresses),
            Look::Failed => return Err(Unresolved),
            Look::Pending(pending) => pending,
        };
        // The sender is dropped with its task: an error means that the look-up is over as well.
        drop(pending.wait_for(|over| *over).await);
        let names = self.names();
        let entry = names.get(host).ok_or(Unresolved)?;
        match &entry.addresses {
            Some((addresses, at)) if at.elapsed() < LAST_GOOD => Ok(addresses.clone()),
            Some(_) | None => Err(Unresolved),
        }
    }

    fn look(self: &Arc<Self>, host: &str) -> Look {
        let mut names = self.names();
        if MAX_NAMES <= names.len() && !names.contains_key(host) {
            forget_oldest(&mut names);
        }
        let entry = names.entry(host.into()).or_default();
        let now = Instant::now();
        entry.used = Some(now);
        let age = entry
            .addresses
            .as_ref()
            .map(|(_, at)| now.duration_since(*at));
        let cooling = entry
            .failed
            .is_some_and(|at| now.duration_since(at) < COOL_DOWN);
        if age.is_none_or(|age| FRESH <= age) && entry.pending.is_none() && !cooling {
            entry.pending = Some(self.start(host));
        }
        match (&entry.addresses, age, &entry.pending) {
            (Some((addresses, _)), Some(age), _) if age < STALE => Look::Known(addresses.clone()),
            (_, _, Some(pending)) => Look::Pending(pending.clone()),
            (Some((addresses, _)), Some(age), None) if age < LAST_GOOD => {
                Look::Known(addresses.clone())
            }
            (Some(_) | None, _, None) => Look::Failed,
        }
    }

    fn start(self: &Arc<Self>, host: &str) -> watch::Receiver<bool> {
        let (over, pending) = watch::channel(false);
        let found = (self.lookup)(host);
        let (resolver, host) = (self.clone(), Box::<str>::from(host));
        self.background.spawn(async move {
            let found = timeout(LOOKUP, found).await;
            {
                let mut names = resolver.names();
                if let Some(entry) = names.get_mut(&host) {
                    entry.pending = None;
                    match found {
                        Ok(Ok(addresses)) if !addresses.is_empty() => {
                            entry.addresses = Some((addresses.into(), Instant::now()));
                            entry.failed = None;
                        }
                        Ok(Ok(_) | Err(_)) | Err(_) => entry.failed = Some(Instant::now()),
                    }
                }
            }
            over.send_replace(true);
        });
        pending
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Known(Arc<[IpAddr]>),
    Pending(watch::Receiver<bool>),
    Failed,
}

fn forget_oldest(names: &mut HashMap<Box<str>, Entry>) {
    let oldest = names
        .iter()
        .min_by_key(|(_, entry)| entry.used)
        .map(|(host, _)| host.clone());
    if let Some(host) = oldest {
        names.remove(&host);
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("names", &self.names().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    /// A resolver whose look-ups take no time; `answer` gets the number of the look-up, from 0.
    fn counting(answer: fn(usize) -> io::Result<Vec<IpAddr>>) -> (Arc<Resolver>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let resolver = Resolver::new(
            Handle::current(),
            Box::new(move |_| {
                let n = seen.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move { answer(n) })
            }),
        );
        (resolver, count)
    }

    fn address(last: usize) -> IpAddr {
        IpAddr::from([127, 0, 0, u8::try_from(last).unwrap()])
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_used_for_five_seconds_then_refreshed_in_the_background() {
        let (resolver, count) = counting(|n| Ok(vec![address(n)]));
        assert_eq!(*resolver.resolve("a").await.unwrap(), [address(0)]);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(*resolver.resolve("a").await.unwrap(), [address(0)]);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(*resolver.resolve("a").await.unwrap(), [address(0)]);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(*resolver.resolve("a").await.unwrap(), [address(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_minute_the_new_answer_is_waited_for() {
        let (resolver, _) = counting(|n| Ok(vec![address(n)]));
        resolver.resolve("a").await.unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(*resolver.resolve("a").await.unwrap(), [address(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_answer_serves_ten_minutes() {
        let (resolver, _) = counting(|n| {
            if n == 0 {
                Ok(vec![address(0)])
            } else {
                Err(io::ErrorKind::TimedOut.into())
            }
        });
        resolver.resolve("a").await.unwrap();
        tokio::time::advance(Duration::from_secs(590)).await;
        assert_eq!(*resolver.resolve("a").await.unwrap(), [address(0)]);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(resolver.resolve("a").await, Err(Unresolved));
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_cause_one_look_up_and_a_failure_is_not_hammered() {
        let (resolver, count) = counting(|_| Err(io::ErrorKind::NotFound.into()));
        let all: Vec<_> = (0..100).map(|_| resolver.resolve("a")).collect();
        for asked in futures_util::future::join_all(all).await {
            assert_eq!(asked, Err(Unresolved));
        }
        assert_eq!(resolver.resolve("a").await, Err(Unresolved));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
