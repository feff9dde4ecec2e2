//! What a session leaves behind at the provider of another one: who has moved without a sign-in is still signed in where they
//! were, and signs out there with the session that took the place of theirs.

use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::secret::Secret;
use crate::session::id::SessionId;
use crate::session::sessions::Sessions;

/// A session at a provider, as RP-initiated logout names it.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    /// Where.
    pub(crate) provider: ProviderId,
    /// `id_token_hint`.
    pub(crate) id_token: Secret<String>,
}

impl Left {
    /// As a row has it.
    pub(super) fn read((provider, id_token): (String, String)) -> Self {
        Self {
            provider: ProviderId::new(&provider),
            id_token: Secret::new(id_token),
        }
    }

    pub(super) fn written(&self) -> (String, String) {
        let id_token = self.id_token.expose().clone();
        (self.provider.as_str().to_owned(), id_token)
    }
}

impl Sessions {
    /// What a session of this person leaves behind elsewhere when one of `provider` takes its place. `None`: nothing, or nobody
    /// can say; no login fails for that.
    pub(crate) async fn leaves_behind(
        &self,
        earlier: SessionId<'_>,
        (person, provider): (&CanonicalSubject, &ProviderId),
        now: UnixTime,
    ) -> Option<Left> {
        let (active, row) = (self.active.load_full(), earlier.row());
        let read = self.read(&active, earlier.bytes(), &row, now);
        let opened = match read.await {
            Ok(opened) => opened?,
            Err(error) => {
                debug!(%error, "What a session leaves behind at its provider is not known.");
                return None;
            }
        };
        if opened.handle.canonical() != person {
            return None;
        }
        let own = opened.body.id_token.map(|id_token| Left {
            provider: ProviderId::new(&opened.handle.provider),
            id_token: Secret::new(id_token),
        });
        let before = opened.body.left.map(Left::read);
        let mut all = own.into_iter().chain(before);
        all.find(|left| left.provider != *provider)
    }
}
