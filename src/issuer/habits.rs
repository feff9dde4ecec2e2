//! What a client does usually: from which kind of network it comes, and how often it is refused or gives tokens back.
//!
//! One for the process, so that a reload forgets nothing; from where a client comes stands in the store too, so that neither
//! a restart does, and all instances know the same.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::clock::UnixTime;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;

/// The table of where clients come from.
const TABLE: &str = "client_habit";

/// For so long after a new kind of network was seen.
const KEPT: Duration = Duration::from_hours(400 * 24);

/// How often a row is tried that others get ahead of.
const TRIES: usize = 4;

/// So many in a minute are a spike.
const SPIKE: u32 = 30;

/// What clients do.
pub(crate) struct Habits {
    store: Arc<dyn Store>,
    clients: Mutex<HashMap<Box<str>, Habit>>,
}

#[derive(Default)]
struct Habit {
    /// The families of addresses that it has come from: 1 for IPv4, 2 for IPv6.
    seen_from: u8,
    refused: Spike,
    given_back: Spike,
}

/// How often something happened in a minute.
#[derive(Default)]
struct Spike {
    minute: u64,
    count: u32,
}

impl Spike {
    /// Whether it is often from now on: said once a minute.
    fn rises(&mut self, now: UnixTime) -> bool {
        let minute = now.as_secs() / 60;
        if self.minute != minute {
            *self = Self { minute, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count == SPIKE
    }
}

impl Habits {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            clients: Mutex::default(),
        }
    }

    /// Whether a client comes from another kind of network than ever before: it may be somebody else.
    pub(super) async fn comes_from_elsewhere(
        &self,
        client: &str,
        address: Option<IpAddr>,
        now: UnixTime,
    ) -> bool {
        let family = match address {
            None => return false,
            Some(IpAddr::V4(_)) => 1,
            Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => 1,
            Some(IpAddr::V6(_)) => 2,
        };
        let known = self.habit(client, |habit| habit.seen_from);
        if known & family != 0 {
            return false;
        }
        let before = self.seen_before(client, family, now).await;
        // While the store is away, what this process knows.
        let before = before.unwrap_or(known);
        self.habit(client, |habit| habit.seen_from |= before | family);
        before != 0 && before & family == 0
    }

    /// From where it has come before, as the store says, which is told of `family`. `None`: it says nothing.
    async fn seen_before(&self, client: &str, family: u8, now: UnixTime) -> Option<u8> {
        let digest = digest::digest(&digest::SHA256, client.as_bytes());
        let key = Key {
            table: TABLE,
            key: digest.as_ref(),
        };
        for _ in 0..TRIES {
            let row = self.store.get(key, now).await.ok()?;
            let before = row.as_ref().and_then(|row| row.value.first().copied());
            let before = before.unwrap_or_default();
            if before & family != 0 {
                return Some(before);
            }
            let expect = row.map_or(Expect::Absent, |row| Expect::Version(row.version));
            let value = [before | family];
            let ends = now + KEPT;
            let store = &self.store;
            if store
                .compare_and_swap(key, expect, &value, ends, now)
                .await
                .ok()?
            {
                return Some(before);
            }
        }
        None
    }

    /// A request of a client was refused; whether that is often from now on.
    pub(super) fn is_refused(&self, client: &str, now: UnixTime) -> bool {
        self.habit(client, |habit| habit.refused.rises(now))
    }

    /// A client gave a token back; whether that is often from now on.
    pub(super) fn gives_back(&self, client: &str, now: UnixTime) -> bool {
        self.habit(client, |habit| habit.given_back.rises(now))
    }

    /// Only of clients that the configuration names: there are not many.
    fn habit<T>(&self, client: &str, what: impl FnOnce(&mut Habit) -> T) -> T {
        let mut all = self.lock();
        match all.get_mut(client) {
            Some(habit) => what(habit),
            None => what(all.entry(client.into()).or_default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Habit>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Habits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Habits")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::store::FakeStore;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000 * 60);

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test]
    async fn another_kind_of_network_is_news_once_for_all_instances_and_restarts() {
        let store = Arc::new(FakeStore::default());
        let instance = || Habits::new(Arc::clone(&store) as Arc<dyn Store>);
        let (a, b) = (instance(), instance());
        let comes =
            async |at: &Habits, from| at.comes_from_elsewhere("c", address(from), NOW).await;
        assert!(!comes(&a, "192.0.2.7").await, "the first is the norm");
        assert!(!comes(&b, "::ffff:192.0.2.7").await);
        assert!(!b.comes_from_elsewhere("c", None, NOW).await);
        assert!(comes(&b, "2001:db8::7").await);
        for known in [&a, &b, &instance()] {
            assert!(!comes(known, "2001:db8::7").await);
            assert!(!comes(known, "192.0.2.7").await);
        }
        // What nobody can ask is what was seen here.
        store.away.store(true, Ordering::SeqCst);
        let alone = instance();
        assert!(!comes(&alone, "192.0.2.7").await);
        assert!(comes(&alone, "2001:db8::7").await);
        assert!(!comes(&a, "2001:db8::7").await);
    }

    #[test]
    fn a_spike_is_told_of_once_a_minute_and_of_its_client_alone() {
        let habits = Habits::new(Arc::new(FakeStore::default()));
        for minute in 0..2 {
            let now = NOW + Duration::from_secs(60 * minute);
            let told = (0..3 * SPIKE).filter(|_| habits.is_refused("c", now));
            assert_eq!(told.count(), 1);
            assert!(!habits.is_refused("another", now));
            assert!(!habits.gives_back("c", now));
        }
    }
}
