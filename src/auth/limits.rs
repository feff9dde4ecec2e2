//! How much one client, one person and one address may ask in a minute, counted by all instances together: of our token
//! endpoint, of sign-ins, of keys that nobody has published.
//!
//! Instances take room from a row of the store in portions, so that few requests wait for it; while the store is away, each
//! counts for itself. What is remembered is bounded, and says nobody's name.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::UnixTime;
use crate::rollout::AppId;
use crate::session::Sessions;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;

/// The table of what is taken.
const TABLE: &str = "rate_limit";

/// Whoever is counted at once in one instance: 65 536. With more, those that came least lately begin anew.
const COUNTED: usize = 65_536;

const WINDOW: Duration = Duration::from_secs(60);

/// An instance takes a twentieth at once.
const PORTIONS: u32 = 20;

/// How often a portion is tried that others get ahead of.
const TRIES: usize = 4;

/// Who is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    /// Whoever asks from there. An IPv6 host has its network to itself.
    Address(Option<IpAddr>),
    /// A client, of all but questions about tokens.
    Client(&'a str),
    /// A client that proves nothing, from there.
    Public(&'a str, Option<IpAddr>),
    /// A client, of its questions about tokens.
    Questions(&'a str),
    /// A person, whoever asks.
    Subject(&'a str),
    /// A client whose secret nobody knows, of the secrets that are tried from there: whoever guesses keeps nobody else out.
    Learning(&'a str, Option<IpAddr>),
    /// Whoever begins to sign in to an application from there.
    Logins(&'a AppId, Option<IpAddr>),
    /// Whoever comes to an application from there with tokens of keys that nobody has published.
    UnknownKeys(&'a AppId, Option<IpAddr>),
}

impl<'a> Of<'a> {
    /// The label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address(_) | Self::Logins(..) | Self::UnknownKeys(..) => "address",
            Self::Client(_) | Self::Public(..) => "client",
            Self::Questions(_) => "introspection",
            Self::Subject(_) => "subject",
            Self::Learning(..) => "learning",
        }
    }

    /// The name of the policy.
    const fn policy(self) -> &'static str {
        match self {
            Self::Logins(..) => "logins",
            Self::UnknownKeys(..) => "unknown_keys",
            Self::Address(_)
            | Self::Client(_)
            | Self::Public(..)
            | Self::Questions(_)
            | Self::Subject(_)
            | Self::Learning(..) => self.as_str(),
        }
    }

    /// At which application, and who.
    fn name(self) -> (&'a [u8], Vec<u8>) {
        match self {
            Self::Address(address) => (&[], network(address)),
            Self::Logins(app, address) | Self::UnknownKeys(app, address) => {
                (app.as_str().as_bytes(), network(address))
            }
            Self::Public(name, address) | Self::Learning(name, address) => {
                (name.as_bytes(), network(address))
            }
            Self::Client(name) | Self::Questions(name) | Self::Subject(name) => {
                (&[], name.as_bytes().to_vec())
            }
        }
    }
}

/// Whose an address is.
fn network(address: Option<IpAddr>) -> Vec<u8> {
    match address {
        None => Vec::new(),
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.octets().to_vec(),
            None => address.octets().iter().take(8).copied().collect(),
        },
    }
}

/// Where somebody stands (draft-ietf-httpapi-ratelimit-headers).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    /// Of what.
    pub(crate) policy: &'static str,
    /// What is allowed in a minute.
    pub(crate) most: u32,
    /// What is left of it.
    pub(crate) left: u32,
    /// The seconds until it is whole again.
    pub(crate) resets: u64,
    /// Whether this one was too much.
    pub(crate) over: bool,
}

impl Standing {
    fn of(of: Of<'_>, (all, most): (u32, u32), over: bool, now: UnixTime) -> Self {
        Self {
            policy: of.policy(),
            most,
            left: most.saturating_sub(all),
            resets: WINDOW.as_secs() - now.as_secs() % WINDOW.as_secs(),
            over,
        }
    }
}

/// What one is known to have taken, in one window.
#[derive(Clone, Copy, Default)]
struct Taken {
    window: u64,
    /// Used here of what was taken here.
    used: u32,
    /// Taken here from the row, or from nobody.
    granted: u32,
    /// What of that was taken from nobody, and is in no row.
    alone: u32,
    /// Taken by all, as far as it is known: never less than what was taken here.
    all: u32,
}

impl Taken {
    /// A minute begins; one that is over never comes back.
    fn turn(&mut self, window: u64) {
        if self.window < window {
            *self = Self {
                window,
                ..Self::default()
            };
        }
    }

    /// Takes in what was taken from the row, and what all have of it then; `None`: nobody could be asked, and what is taken
    /// here is all that is known.
    fn take_in(&mut self, row: Option<(u32, u32)>, portion: u32, most: u32) {
        match row {
            Some((granted, all)) => {
                self.granted += granted;
                // A row that was lost begins anew, and knows less than this instance.
                let all = all.saturating_add(self.alone).max(self.granted);
                self.all = self.all.max(all);
            }
            None => {
                let granted = portion.min(most.saturating_sub(self.all));
                self.granted += granted;
                self.alone += granted;
                self.all += granted;
            }
        }
    }

    /// One of what is at hand, and how much all have then.
    fn use_one(&mut self) -> Option<u32> {
        (self.used < self.granted).then(|| {
            self.used += 1;
            self.all - (self.granted - self.used)
        })
    }
}

/// Everybody who is counted.
pub(crate) struct Limits {
    local: Cache<[u8; 16], Arc<Mutex<Taken>>>,
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
}

impl Limits {
    /// Counts in `store` if instances share it, under names that the ring of `sessions` hides.
    pub(crate) fn new(store: Arc<dyn Store>, sessions: Arc<Sessions>) -> Self {
        Self {
            local: Cache::new(COUNTED),
            store,
            sessions,
        }
    }

    /// Counts one request.
    pub(crate) async fn take(&self, of: Of<'_>, most: u32, now: UnixTime) -> Standing {
        let index = self.index(of);
        let window = now.as_secs() / WINDOW.as_secs();
        let taken = self
            .local
            .get_or_insert_with(&index, || Ok::<_, ()>(Arc::default()));
        let taken = taken.unwrap_or_default();
        let standing = |all, over| Standing::of(of, (all, most), over, now);
        if let Some(all) = use_one(&taken, window) {
            return standing(all, false);
        }
        let known = lock(&taken).all;
        if most <= known {
            return standing(known, true);
        }
        let portion = (most / PORTIONS).max(1);
        let row = if self.store.is_shared() {
            self.portion(&index, window, portion, most, now).await
        } else {
            None
        };
        let mut kept = lock(&taken);
        kept.turn(window);
        // What comes back after the minute has turned is of the one before, and stays with this request.
        let mut before = Taken::default();
        let taken = if window < kept.window {
            &mut before
        } else {
            &mut *kept
        };
        taken.take_in(row, portion, most);
        match taken.use_one() {
            Some(all) => standing(all, false),
            None => standing(taken.all.max(most), true),
        }
    }

    /// Where somebody stands who is known here to have come too often already; nothing is counted.
    pub(crate) fn over(&self, of: Of<'_>, most: u32, now: UnixTime) -> Option<Standing> {
        let taken = self.local.get(&self.index(of))?;
        let taken = *lock(&taken);
        let spent = taken.window == now.as_secs() / WINDOW.as_secs()
            && taken.granted <= taken.used
            && most <= taken.all;
        spent.then(|| Standing::of(of, (taken.all, most), true, now))
    }

    fn index(&self, of: Of<'_>) -> [u8; 16] {
        let (app, name) = of.name();
        let parts = [of.policy().as_bytes(), app, &name];
        let indexes = self.sessions.ring().indexes("rate-limit", &parts);
        indexes.first().copied().unwrap_or_default()
    }

    /// Takes a portion from the row of all instances: how much, and how much all have; `None`: the store is away.
    async fn portion(
        &self,
        index: &[u8; 16],
        window: u64,
        portion: u32,
        most: u32,
        now: UnixTime,
    ) -> Option<(u32, u32)> {
        let key = [index.as_slice(), &window.to_be_bytes()].concat();
        let place = Key {
            table: TABLE,
            key: &key,
        };
        let ends = now + WINDOW * 2;
        for _ in 0..TRIES {
            let found = self.store.get(place, now).await.ok()?;
            let (all, expect) = match &found {
                None => (0, Expect::Absent),
                Some(row) => (
                    u32::from_be_bytes(*row.value.first_chunk()?),
                    Expect::Version(row.version),
                ),
            };
            let granted = portion.min(most.saturating_sub(all));
            if granted == 0 {
                return Some((0, all));
            }
            let value = (all + granted).to_be_bytes();
            let written = self
                .store
                .compare_and_swap(place, expect, &value, ends, now);
            if written.await.ok()? {
                return Some((granted, all + granted));
            }
        }
        // Many come at once: then this one counts here.
        None
    }
}

fn lock(taken: &Mutex<Taken>) -> std::sync::MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of what is at hand, and how much all have then. A request that is late never brings an older window back.
fn use_one(taken: &Mutex<Taken>, window: u64) -> Option<u32> {
    let mut taken = lock(taken);
    taken.turn(window);
    taken.use_one()
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limits")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::runtime::Handle;

    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::session::settings::Settings;
    use crate::store::FakeStore;

    const PORTION: u32 = 30;
    const MOST: u32 = 600;

    #[test]
    fn what_was_taken_from_nobody_counts_beside_what_was_taken_from_the_row() {
        let mut taken = Taken::default();
        // Many came at once: one of them counted here, another got its portion from the row a moment later.
        taken.take_in(None, PORTION, MOST);
        assert_eq!(taken.use_one(), Some(1));
        taken.take_in(Some((PORTION, PORTION)), PORTION, MOST);
        assert_eq!((taken.granted, taken.all), (60, 60));
        assert_eq!(taken.use_one(), Some(2));
        // Others have taken all of the row that was left.
        taken.take_in(Some((0, MOST)), PORTION, MOST);
        assert_eq!(taken.all, MOST + PORTION);
    }

    #[test]
    fn a_row_that_was_lost_takes_nothing_back() {
        let mut taken = Taken::default();
        for all in [30, 60, 90] {
            taken.take_in(Some((PORTION, all)), PORTION, MOST);
        }
        for used in 1..=10 {
            assert_eq!(taken.use_one(), Some(used));
        }
        for all in [30, 60, 90, 120, 150] {
            taken.take_in(Some((PORTION, all)), PORTION, MOST);
        }
        assert_eq!(
            taken.use_one(),
            Some(11),
            "what is used counts, and nothing is below that"
        );
        assert_eq!((taken.granted, taken.all), (240, 240));
    }

    #[tokio::test]
    async fn who_tries_secrets_from_one_place_keeps_nobody_else_from_being_learned() {
        let store: Arc<dyn Store> = Arc::new(FakeStore::default());
        let entropy = Arc::new(SystemEntropy);
        let settings = Settings::for_test(&[9]);
        let sessions = Sessions::new(&settings, Arc::clone(&store), entropy, &Handle::current());
        let limits = Limits::new(store, sessions.unwrap());
        let from = |last| Of::Learning("batch", Some(IpAddr::from([192, 0, 2, last])));
        let now = UnixTime::from_secs(600);
        for left in (0..10).rev() {
            let standing = limits.take(from(1), 10, now).await;
            assert_eq!((standing.left, standing.over), (left, false));
        }
        assert!(limits.take(from(1), 10, now).await.over);
        assert!(!limits.take(from(2), 10, now).await.over);
    }

    /// A portion that comes when the next minute has begun serves its request, and is nothing to that minute.
    #[tokio::test]
    async fn what_comes_after_the_turn_of_a_minute_is_of_the_one_before() {
        let store = Arc::new(FakeStore::default());
        let shared: Arc<dyn Store> = Arc::<FakeStore>::clone(&store);
        let entropy = Arc::new(SystemEntropy);
        let sessions = Sessions::new(
            &Settings::for_test(&[9]),
            Arc::clone(&shared),
            entropy,
            &Handle::current(),
        );
        let limits = Limits::new(shared, sessions.unwrap());
        let of = Of::Client("batch");
        let at = |seconds: u64| UnixTime::from_secs(600 + seconds);
        store.slow.store(true, Ordering::SeqCst);
        let (late, next) =
            tokio::join!(limits.take(of, MOST, at(59)), limits.take(of, MOST, at(60)));
        for standing in [late, next] {
            assert!(!standing.over);
            assert_eq!(standing.left, MOST - 1);
        }
        // Where the minute that has gone by was spent, its last one is refused, though the next has room.
        let other = Of::Client("other");
        let full = Limits::new(Arc::clone(&limits.store), Arc::clone(&limits.sessions));
        assert!(!full.take(other, 1, at(119)).await.over);
        let late_one = Limits::new(Arc::clone(&limits.store), Arc::clone(&limits.sessions));
        let (late, next) = tokio::join!(
            late_one.take(other, 1, at(119)),
            late_one.take(other, 1, at(120))
        );
        assert!(late.over && !next.over, "{late:?} {next:?}");
    }
}
