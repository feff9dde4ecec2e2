//! Who sends bad logouts, proves to be no client or guesses again and again is not looked at for a while.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

use crate::clock::UnixTime;

/// Bad ones from one address in one minute: 300. One more, and the rest of the minute is refused unseen.
const BAD: u32 = 300;
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are remembered: 4 096.
const ADDRESSES: usize = 4_096;
/// Logouts that are judged at once although too many bad ones came from their address: 4. Others wait for their turns.
const AT_ONCE: usize = 4;
/// So many: 256. One more is to come again.
const WAITING: usize = 256;

/// Who sends what is no good: of each kind by itself, so that whoever floods one keeps nobody out of another.
#[derive(Debug)]
pub(crate) struct Floods {
    /// Proofs of clients.
    pub(crate) clients: Throttle,
    /// What was refused in the names of public clients.
    pub(crate) guesses: Throttle,
    /// Logouts in the names of providers.
    pub(crate) logouts: Throttle,
    /// Sessions that browsers name, and that are none.
    pub(crate) frames: Throttle,
    /// Of logouts that come from where too many bad ones came from.
    pub(crate) turns: Turns,
}

impl Floods {
    pub(super) fn new() -> Self {
        Self {
            clients: Throttle::new(),
            guesses: Throttle::new(),
            logouts: Throttle::new(),
            frames: Throttle::new(),
            turns: Turns::new(),
        }
    }
}

/// Counts what was bad by address.
pub(crate) struct Throttle(Cache<Origin, (UnixTime, u32)>);

/// An address, or the network that one IPv6 host has to itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Origin {
    Unknown,
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Origin {
    fn of(address: Option<IpAddr>) -> Self {
        match address {
            None => Self::Unknown,
            Some(IpAddr::V4(address)) => Self::V4(address.octets()),
            Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(mapped) => Self::V4(mapped.octets()),
                None => {
                    let [a, b, c, d, ..] = address.segments();
                    Self::V6([a, b, c, d])
                }
            },
        }
    }
}

impl Throttle {
    fn new() -> Self {
        Self(Cache::new(ADDRESSES))
    }

    /// Whether what comes from there is looked at.
    pub(crate) fn may_try(&self, address: Option<IpAddr>, now: UnixTime) -> bool {
        let found = self.0.get(&Origin::of(address));
        found.is_none_or(|(since, bad)| MINUTE <= now.since(since) || bad < BAD)
    }

    /// A bad one came from there.
    pub(crate) fn refused(&self, address: Option<IpAddr>, now: UnixTime) {
        let origin = Origin::of(address);
        let next = match self.0.get(&origin) {
            Some((since, bad)) if now.since(since) < MINUTE => (since, bad.saturating_add(1)),
            Some(_) | None => (now, 1),
        };
        self.0.insert(origin, next);
    }
}

/// A provider says a logout once, and perhaps from an address that many share: one after the other they are judged all the
/// same, as long as that takes nothing but a signature to be checked.
pub(crate) struct Turns {
    seats: Semaphore,
    judging: Semaphore,
}

impl Turns {
    fn new() -> Self {
        Self {
            seats: Semaphore::new(AT_ONCE + WAITING),
            judging: Semaphore::new(AT_ONCE),
        }
    }

    /// The turn of one, until it is dropped; `None`: too many wait.
    pub(crate) async fn take(&self) -> Option<Turn<'_>> {
        let seat = self.seats.try_acquire().ok()?;
        // It is never closed.
        let judging = self.judging.acquire().await.ok()?;
        Some(Turn {
            _seat: seat,
            _judging: judging,
        })
    }
}

/// The turn of one logout.
pub(crate) struct Turn<'t> {
    _seat: SemaphorePermit<'t>,
    _judging: SemaphorePermit<'t>,
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Throttle")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_refused_for_the_rest_of_its_minute_and_harms_nobody_else() {
        let throttle = Throttle::new();
        let at = UnixTime::from_secs;
        let (bad, good) = ("2001:db8::1".parse().ok(), "2001:db8:1::1".parse().ok());
        for _ in 0..BAD {
            assert!(throttle.may_try(bad, at(10)));
            throttle.refused(bad, at(10));
        }
        assert!(!throttle.may_try(bad, at(69)));
        assert!(!throttle.may_try("2001:db8::2".parse().ok(), at(69)));
        assert!(throttle.may_try(good, at(69)));
        assert!(throttle.may_try(bad, at(70)));
    }

    #[tokio::test]
    async fn of_those_that_come_from_a_flood_a_few_are_judged_and_some_wait() {
        let turns = Turns::new();
        let mut all: Vec<_> = (0..=AT_ONCE + WAITING)
            .map(|_| Box::pin(turns.take()))
            .collect();
        let mut now = Vec::new();
        for one in &mut all {
            now.push(futures_now(one.as_mut()));
        }
        let judged = now.iter().filter(|one| matches!(one, Some(Some(_))));
        assert_eq!(judged.count(), AT_ONCE);
        let waiting = now.iter().filter(|one| one.is_none());
        assert_eq!(waiting.count(), WAITING);
        assert!(matches!(now.last(), Some(Some(None))), "one too many");
        // Whoever is done makes room for the next.
        now.clear();
        assert!(futures_now(all[AT_ONCE].as_mut()).flatten().is_some());
    }

    /// What comes of it without waiting.
    fn futures_now<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }
}
