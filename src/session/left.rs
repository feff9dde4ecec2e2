//! What a session leaves behind at the provider of another one: who has moved without a sign-in is still signed in where they
//! were, and signs out there with the session that took the place of theirs.

use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::secret::Secret;
use crate::session::handle::Before;
use crate::session::id::SessionId;
use crate::session::sessions::Sessions;

/// What a session leaves behind when another takes its place.
#[derive(Clone, Debug)]
pub(crate) struct LeftBehind {
    /// By what its provider may say that it is over.
    pub(super) before: Option<Before>,
    /// How the browser signs out there.
    pub(super) left: Option<Left>,
}

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
    ) -> Option<LeftBehind> {
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
        let (handle, body) = (opened.handle, opened.body);
        let own = ProviderId::new(&handle.provider);
        let behind = if own == *provider {
            // It has taken the place of one itself.
            let before = handle.before.filter(|at| at.provider() != own);
            LeftBehind {
                before: before.as_ref().and_then(Before::left_again),
                left: body.left.map(Left::read).filter(|at| at.provider != own),
            }
        } else {
            LeftBehind {
                before: Before::left_by(&handle),
                left: body.id_token.map(|id_token| Left {
                    provider: own,
                    id_token: Secret::new(id_token),
                }),
            }
        };
        let nothing = behind.before.is_none() && behind.left.is_none();
        (!nothing).then_some(behind)
    }
}
