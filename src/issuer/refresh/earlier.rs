//! The access tokens that a family was given before the last one: what ends it ends them.

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::issuer::answer::Not;
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

/// Does the same with each of them, also where one could not be done; the first that could not is what is answered.
pub(super) async fn each_of<T, F>(
    all: impl Iterator<Item = T>,
    mut done: impl FnMut(T) -> F,
) -> Result<(), Not>
where
    F: Future<Output = Result<(), Not>>,
{
    let mut first = Ok(());
    for one in all {
        first = first.and(done(one).await);
    }
    first
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_cannot_be_ended_now_keeps_no_other_from_its_end() {
        let mut seen = Vec::new();
        let answer = each_of(1..=4, |one| {
            seen.push(one);
            async move {
                match one {
                    1 => Ok(()),
                    2 => Err(Not::Later(5, "store")),
                    3 => Err(Not::Later(7, "connect")),
                    _ => Ok(()),
                }
            }
        });
        assert!(matches!(answer.await, Err(Not::Later(5, "store"))));
        assert_eq!(seen, [1, 2, 3, 4]);
    }
}
