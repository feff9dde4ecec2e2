//! Who sends bad logouts, proves to be no client or guesses again and again is not looked at for a while.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::UnixTime;

/// Bad ones from one address in one minute: 300. One more, and the rest of the minute is refused unseen.
const BAD: u32 = 300;
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are remembered: 4 096.
const ADDRESSES: usize = 4_096;

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
    pub(super) fn new() -> Self {
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
}
