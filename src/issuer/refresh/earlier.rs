//! The access tokens that a family was given before the last one: what ends it ends them.

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::issuer::refresh::family::Access;

/// So many are remembered: 16. Whoever renews more often than that within the life of one has older ones that end by
/// themselves.
pub(super) const MOST: usize = 16;

/// Them, from the oldest on.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Earlier(Vec<Token>);

#[derive(Clone, Deserialize, Serialize)]
struct Token {
    token: String,
    /// In milliseconds since 1970.
    ends: u64,
}

impl Earlier {
    /// One more, if there was one.
    pub(super) fn push(&mut self, before: Option<Access>, now: UnixTime) {
        let before = before.map(|Access { token, ends, .. }| Token { token, ends });
        self.0.extend(before);
        self.0.retain(|one| now.as_millis() < one.ends);
        let most = self.0.len().saturating_sub(MOST);
        self.0.drain(..most);
    }

    /// Those that may still count.
    pub(super) fn living(&self, now: UnixTime) -> impl Iterator<Item = &str> {
        let good = self.0.iter();
        let good = good.filter(move |one| now.as_millis() < one.ends);
        good.map(|one| one.token.as_str())
    }

    /// None of them counts any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
