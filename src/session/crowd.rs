//! Sessions by the million, for a bench: the rows that a login leaves, without anybody who vouched. Not in the program.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::session::body::Body;
use crate::session::body::Handle;
use crate::session::id;
use crate::session::rows;
use crate::session::sessions::Sessions;
use crate::store::StoreError;

/// Who is in a crowd.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// The account.
    pub(crate) identity: &'a Identity,
    /// The person.
    pub(crate) canonical: &'a CanonicalSubject,
    /// The session at the issuer.
    pub(crate) sid: &'a str,
    /// The ID token, if it is kept.
    pub(crate) id_token: Option<&'a str>,
    /// The refresh token.
    pub(crate) refresh_token: &'a str,
    /// When the session ends.
    pub(crate) ends: UnixTime,
}

impl Sessions {
    /// Writes one session: the value of its cookie, and the key of its row.
    pub(crate) async fn joins_crowd(
        &self,
        member: &Member<'_>,
        now: UnixTime,
    ) -> Result<(String, [u8; 32]), StoreError> {
        let active = self.active.load_full();
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        let row = id::row(&bytes);
        let (identity, at) = (member.identity, now.as_millis());
        let attributes: serde_json::Map<String, Value> = identity
            .attributes
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        let body = json!({
            "provider": identity.provider.as_str(),
            "issuer": identity.key.issuer.as_str(),
            "subject": identity.key.subject.as_str(),
            "canonical": member.canonical.as_str(),
            "attributes": attributes,
            "client_id": identity.client_id,
            "acr": identity.acr,
            "scopes": identity.scopes,
            "app": "crm",
            "host": "crm.corp.example",
            "rollout": { "id": "crm-2026", "epoch": 1, "arm": "to" },
            "rule": "percent",
            "origin": "login",
            "began": at,
            "seen": at,
            "ends": member.ends.as_millis(),
            "id_token": member.id_token,
            "sid": member.sid,
            "kid": "k-2026-1",
            "renewed": at,
            "lasts": 300,
        });
        let handle = json!({
            "provider": identity.provider.as_str(),
            "issuer": identity.key.issuer.as_str(),
            "subject": identity.key.subject.as_str(),
            "sid": member.sid,
            "began": at,
            "refresh_token": member.refresh_token,
        });
        let broken = |error: serde_json::Error| StoreError::Damaged(error.to_string());
        let body: Body = serde_json::from_value(body).map_err(broken)?;
        let handle: Handle = serde_json::from_value(handle).map_err(broken)?;
        let sealed = self.seal(&active.ring, &bytes, &row, (&body, &handle))?;
        let ends = member.ends;
        self.write_entry(&active, &handle, &row, ends).await?;
        self.store.put(rows::key(&row), &sealed, ends).await?;
        Ok((URL_SAFE_NO_PAD.encode(bytes), row))
    }
}
