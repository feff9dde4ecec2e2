//! What the configuration says about our sessions: plain data.

use std::time::Duration;

use crate::secret::Secret;
use crate::store::settings::RedisSettings;

/// Our sessions.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name of our cookie: `__Host-authferry`, or `authferry` on plain loopback listeners.
    pub(crate) cookie: Box<str>,
    /// Whether the cookie says `Secure`.
    pub(crate) secure: bool,
    /// Which requests of other sites bring it along. Default: links.
    pub(crate) same_site: SameSite,
    /// Whether no session outlives the shorter of both providers while both run. Default no.
    pub(crate) shortest: bool,
    /// Without a request for this long, a session ends. Default 30 min.
    pub(crate) idle: Duration,
    /// A session ends this long after its login. Default 12 h.
    pub(crate) absolute: Duration,
    /// Sealing keys, 32 bytes each: the first seals, all open.
    pub(crate) keys: Vec<Secret<Vec<u8>>>,
    /// How often a session is confirmed at its owner, by its refresh token. Default 5 min.
    pub(crate) revalidate: Duration,
    /// Sessions of one person at a time; one more ends the oldest. Default 50.
    pub(crate) max_per_subject: usize,
    /// Where rows live.
    pub(crate) store: StoreKind,
}

#[cfg(test)]
impl Settings {
    /// The defaults, in memory, sealed by keys of one byte each.
    pub(crate) fn for_test(keys: &[u8]) -> Self {
        Self {
            cookie: "__Host-authferry".into(),
            secure: true,
            same_site: SameSite::Lax,
            shortest: false,
            idle: Duration::from_mins(30),
            absolute: Duration::from_hours(12),
            keys: keys.iter().map(|key| Secret::new(vec![*key; 32])).collect(),
            revalidate: Duration::from_mins(5),
            max_per_subject: 50,
            store: StoreKind::Memory,
        }
    }
}

/// Which requests of other sites bring a cookie along (RFC 6265bis §5.6.7).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum SameSite {
    /// Navigations.
    #[default]
    Lax,
    /// None.
    Strict,
    /// All.
    None,
}

impl SameSite {
    /// The value of the attribute.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

/// Which store.
#[derive(Clone, Debug)]
pub(crate) enum StoreKind {
    /// In this process; gone with it.
    Memory,
    /// A file in `state_dir`.
    Embedded,
    /// A server that instances share.
    Redis(RedisSettings),
}
