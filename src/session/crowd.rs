//! Sessions by the million, for a bench: the rows that a login leaves, without anybody who vouched. Not in the program.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::rollout::Arm;
use crate::rollout::RolloutId;
use crate::session::body::Backing;
use crate::session::body::Body;
use crate::session::body::Origin;
use crate::session::handle::Handle;
use crate::session::id;
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
    /// Writes one session; the value of its cookie.
    pub(crate) async fn joins_crowd(
        &self,
        member: &Member<'_>,
        now: UnixTime,
    ) -> Result<String, StoreError> {
        let active = self.active.load_full();
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        let row = id::row(&bytes);
        let (identity, at) = (member.identity, now.as_millis());
        let attributes = identity.attributes.iter();
        let body = Body {
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
            acr: identity.acr.as_deref().map(str::to_owned),
            scopes: identity
                .scopes
                .iter()
                .map(|scope| String::from(&**scope))
                .collect(),
            app: String::from("crm"),
            host: String::from("crm.corp.example"),
            backing: Some(Backing {
                rollout: RolloutId::new("crm-2026"),
                epoch: 1,
                arm: Arm::To,
            }),
            rule: String::from("percent"),
            origin: Origin::Login,
            id_token: member.id_token.map(str::to_owned),
            revision: 0,
            renewed: at,
            lasts: Some(300),
            retry: 0,
            stands_for: None,
            came_by: None,
            left: None,
        };
        let handle = Handle {
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            canonical: member.canonical.clone(),
            client: identity.client_id.as_deref().map(str::to_owned),
            sid: Some(member.sid.to_owned()),
            kid: Some(String::from("k-2026-1")),
            made: at,
            began: at,
            seen: at,
            idle: active.idle.as_secs(),
            ends: member.ends.as_millis(),
            over: false,
            refresh_token: Some(member.refresh_token.to_owned()),
            before: None,
        };
        self.write_new(&active, (&bytes, &row), (&body, &handle))
            .await?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}
