//! What a client does usually: from which kind of network it comes, by which grants it has tokens, and how often it is refused
//! or gives tokens back.
//!
//! One for the process, so that a reload forgets nothing; from where a client comes, and its grants, stand in the store too, so
//! that neither a restart does, and all instances know the same.

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
use crate::issuer::settings::Grant;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;

/// The table of where clients come from, and how they have tokens.
const TABLE: &str = "client_habit";

/// For so long after something new was seen.
const KEPT: Duration = Duration::from_hours(400 * 24);

/// Whoever is here for less than this has no habits yet: what they do for the first time is no news.
const SETTLED: Duration = Duration::from_hours(7 * 24);

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
    /// The grants that it has used, as bits.
    grants: u8,
    refused: Spike,
    given_back: Spike,
}

/// What a client did before.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// As bits.
    did: u8,
    /// Since when; `None`: an earlier version has noted it.
    since: Option<UnixTime>,
}

impl Before {
    fn read(value: &[u8]) -> Self {
        let (did, since) = value.split_first().unwrap_or((&0, &[]));
        let since: Option<[u8; 8]> = since.try_into().ok();
        let since = since.map(|since| UnixTime::from_millis(u64::from_be_bytes(since)));
        Self { did: *did, since }
    }

    fn written(did: u8, since: UnixTime) -> Vec<u8> {
        let since = since.as_millis().to_be_bytes();
        [did].into_iter().chain(since).collect()
    }
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
        let row = digest::digest(&digest::SHA256, client.as_bytes());
        let before = self.seen_before(row.as_ref(), family, now).await;
        // While the store is away, what this process knows.
        let before = before.map_or(known, |before| before.did);
        self.habit(client, |habit| habit.seen_from |= before | family);
        before != 0 && before & family == 0
    }

    /// Whether a client asks by another grant than ever before, though it has asked by others for a week: it may be somebody else.
    /// Whoever renews has had a token by another one before.
    pub(super) async fn uses_another_grant(
        &self,
        client: &str,
        grant: Grant,
        now: UnixTime,
    ) -> bool {
        let bit = match grant {
            Grant::TokenExchange => 1,
            Grant::ClientCredentials => 2,
            Grant::DeviceCode => 4,
            Grant::RefreshToken => return false,
        };
        if self.habit(client, |habit| habit.grants) & bit != 0 {
            return false;
        }
        let mut row = digest::Context::new(&digest::SHA256);
        row.update(b"authferry/grants/v1\0");
        row.update(client.as_bytes());
        let row = row.finish();
        // While the store is away nobody knows.
        let Some(before) = self.seen_before(row.as_ref(), bit, now).await else {
            return false;
        };
        self.habit(client, |habit| habit.grants |= before.did | bit);
        let settled = before.since.is_some_and(|since| since + SETTLED <= now);
        settled && before.did != 0 && before.did & bit == 0
    }

    /// What is noted in `row`, as the store says, which is told of `bit`. `None`: it says nothing.
    async fn seen_before(&self, row: &[u8], bit: u8, now: UnixTime) -> Option<Before> {
        let key = Key {
            table: TABLE,
            key: row,
        };
        for _ in 0..TRIES {
            let row = self.store.get(key, now).await.ok()?;
            let before = row.as_ref().map(|row| Before::read(&row.value));
            let before = before.unwrap_or_default();
            if before.did & bit != 0 {
                return Some(before);
            }
            let expect = row.map_or(Expect::Absent, |row| Expect::Version(row.version));
            let value = Before::written(before.did | bit, before.since.unwrap_or(now));
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

    /// A client that is new here tries what it may; one that has done the same for a week does something else.
    #[tokio::test]
    async fn another_grant_is_news_once_and_of_a_client_that_has_been_here_for_long() {
        let store = Arc::new(FakeStore::default());
        let instance = || Habits::new(Arc::clone(&store) as Arc<dyn Store>);
        let (a, b) = (instance(), instance());
        let week = NOW + SETTLED;
        let uses =
            async |at: &Habits, client, grant, now| at.uses_another_grant(client, grant, now).await;
        assert!(!uses(&a, "c", Grant::TokenExchange, NOW).await);
        assert!(
            !uses(&b, "c", Grant::DeviceCode, NOW).await,
            "it is new here"
        );
        assert!(!uses(&b, "c", Grant::DeviceCode, week).await);
        assert!(!uses(&b, "c", Grant::RefreshToken, week).await);
        let early = week - Duration::from_secs(1);
        assert!(!uses(&a, "d", Grant::TokenExchange, NOW).await);
        assert!(!uses(&a, "d", Grant::DeviceCode, early).await);
        assert!(uses(&a, "c", Grant::ClientCredentials, week).await);
        for known in [&a, &b, &instance()] {
            assert!(!uses(known, "c", Grant::ClientCredentials, week).await);
        }
        // What nobody can ask is no news, and is asked again.
        store.away.store(true, Ordering::SeqCst);
        assert!(!uses(&b, "d", Grant::ClientCredentials, week).await);
        store.away.store(false, Ordering::SeqCst);
        assert!(uses(&b, "d", Grant::ClientCredentials, week).await);
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
