//! How a session came to the new side without a sign-in: what its owner is asked again with, and which session it follows.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::entropy::Entropy as _;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::session::restored::Restored;
use crate::session::sessions::Sessions;
use crate::store::Key;
use crate::store::StoreError;

/// The account of the old side by which a session was given.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct CameBy {
    /// The exchange that gave it.
    pub(crate) exchange: String,
    provider: String,
    issuer: String,
    subject: String,
    attributes: Map<String, Value>,
    /// Its session at the issuer.
    #[serde(default)]
    sid: Option<String>,
    /// The key by which it was vouched for, and the client for which.
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    client: Option<String>,
    /// The row of the session that it follows,
    follows: [u8; 32],
    /// and the session of an old system that this one stood for.
    #[serde(default)]
    stood_for: Option<[u8; 32]>,
}

impl CameBy {
    /// By `exchange`, for the person of another session.
    pub(crate) fn new(exchange: &str, before: &Restored) -> Self {
        let identity = before.identity();
        let attributes = identity.attributes.iter();
        Self {
            exchange: exchange.to_owned(),
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
            sid: before.grounds().sid.as_deref().map(str::to_owned),
            kid: before.grounds().kid.as_deref().map(str::to_owned),
            client: identity.client_id.as_deref().map(str::to_owned),
            follows: *before.row(),
            stood_for: before.stands_for().copied(),
        }
    }

    /// Of an account of the old side and its session there.
    #[cfg(test)]
    pub(crate) fn for_test(provider: &str, account: &SubjectKey, sid: &str) -> Self {
        Self {
            exchange: String::from("vouch"),
            provider: provider.to_owned(),
            issuer: account.issuer.as_str().to_owned(),
            subject: account.subject.as_str().to_owned(),
            attributes: Map::new(),
            sid: Some(sid.to_owned()),
            kid: Some(String::from("k-old")),
            client: Some(String::from("c-old")),
            follows: [9; 32],
            stood_for: None,
        }
    }

    /// The provider that vouched for the account,
    pub(crate) fn provider(&self) -> &str {
        &self.provider
    }

    /// its issuer and subject there,
    pub(crate) fn account(&self) -> (&str, &str) {
        (&self.issuer, &self.subject)
    }

    /// its session at the issuer,
    pub(crate) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// the key by which it was vouched for,
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// and the client for which.
    pub(crate) fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Who it was at the old side; `None`: the row cannot be of this program.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        Some(Arc::new(Identity {
            provider: ProviderId::new(&self.provider),
            key: SubjectKey {
                issuer: Issuer::new(&self.issuer),
                subject: Subject::try_from(self.subject.as_str()).ok()?,
            },
            attributes: Arc::new(ClaimMap::new(self.attributes.clone())),
            client_id: None,
            acr: None,
            scopes: Box::default(),
            delegation: Delegation::default(),
        }))
    }

    /// The session of an old system that the one it follows stood for: see [`crate::session::OldSession::digest`].
    pub(crate) const fn stood_for(&self) -> Option<&[u8; 32]> {
        self.stood_for.as_ref()
    }

    /// The key of the row of the session that it follows.
    pub(crate) const fn follows(&self) -> &[u8; 32] {
        &self.follows
    }
}

/// Sessions that are left alone for a while, by row.
const TABLE: &str = "carry";

/// Whoever takes a session to the new side has this long; one that is gone is followed by another.
const TURN: Duration = Duration::from_secs(30);

/// The right to take one session to the new side.
#[derive(Debug)]
pub(crate) struct Turn {
    name: String,
    holder: String,
}

impl Sessions {
    /// Takes the turn to carry a session over; `None`: somebody else does, or it is to be left alone.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn take_turn(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Turn>, StoreError> {
        if self.store.get(left_alone(row), now).await?.is_some() {
            return Ok(None);
        }
        let turn = Turn {
            name: format!("carry:{}", URL_SAFE_NO_PAD.encode(row)),
            holder: self.entropy.token(),
        };
        let taken = self.store.lease(&turn.name, &turn.holder, TURN, now);
        if !taken.await? {
            return Ok(None);
        }
        // Whoever had it before may have been done between the look and the lease.
        if self.store.get(left_alone(row), now).await?.is_some() {
            self.store.release(&turn.name, &turn.holder).await?;
            return Ok(None);
        }
        Ok(Some(turn))
    }

    /// Whether a session that has just ended was taken to the new side a moment ago, or is on its way there: whoever takes it
    /// later finds that it is gone.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn was_carried(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        match self.take_turn(row, now).await? {
            Some(turn) => {
                self.store.release(&turn.name, &turn.holder).await?;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Gives the turn up; the session is left alone until then.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn end_turn(
        &self,
        turn: Turn,
        row: &[u8; 32],
        until: UnixTime,
    ) -> Result<(), StoreError> {
        self.store.put(left_alone(row), b"", until).await?;
        self.store.release(&turn.name, &turn.holder).await
    }
}

const fn left_alone(row: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: row,
    }
}
