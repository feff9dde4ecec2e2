//! What the row of a session says, and how it is written.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::providers::Authenticated;
use crate::rollout::Arm;
use crate::rollout::RolloutId;
use crate::secret::Secret;

/// How a session came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// A login where the person is assigned.
    Login,
    /// A login at the other side, because the assigned provider was away.
    Fallback,
}

/// Which side of a rollout stands behind a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Backing {
    /// The rollout.
    pub(crate) rollout: RolloutId,
    /// Its epoch at the login.
    pub(crate) epoch: u64,
    /// The side that ran the login.
    pub(crate) arm: Arm,
}

/// A session to be made. It takes a proof: nothing else makes one.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    /// Who logged in, and who says so.
    pub(crate) authenticated: &'a Authenticated,
    /// Who it is across providers.
    pub(crate) canonical: &'a CanonicalSubject,
    /// The host it holds on, canonical, without port.
    pub(crate) host: &'a str,
    /// The side of the rollout, if the application moves.
    pub(crate) backing: Option<Backing>,
    /// The rule that assigned the login.
    pub(crate) rule: &'a str,
    /// How it came to be.
    pub(crate) origin: Origin,
    /// It ends at the latest then, whatever the settings allow.
    pub(crate) until: UnixTime,
    /// For RP-initiated logout (`id_token_hint`).
    pub(crate) id_token: Option<&'a Secret<String>>,
    /// `sid` of the ID token, for back-channel logout.
    pub(crate) sid: Option<&'a str>,
    /// To keep the session alive at its owner.
    pub(crate) refresh_token: Option<&'a Secret<String>>,
}

/// What is kept of a live session.
#[derive(Debug)]
#[expect(dead_code, reason = "kept for the renewal of sessions at their owner")]
pub(crate) struct Content {
    /// The random bits of the cookie: needed to write the row again.
    pub(super) id: Secret<[u8; 32]>,
    pub(super) identity: Arc<Identity>,
    pub(super) canonical: CanonicalSubject,
    pub(super) host: Box<str>,
    pub(super) backing: Option<Backing>,
    pub(super) rule: Arc<str>,
    pub(super) origin: Origin,
    pub(super) ends: UnixTime,
    pub(super) grounds: Grounds,
}

/// The row, before it is sealed. Unknown fields of a newer version are kept out by the version byte of the seal.
#[derive(Deserialize, Serialize)]
pub(super) struct Body {
    provider: String,
    issuer: String,
    subject: String,
    canonical: String,
    attributes: Map<String, Value>,
    client_id: Option<String>,
    acr: Option<String>,
    scopes: Vec<String>,
    host: String,
    rollout: Option<BodyBacking>,
    rule: String,
    origin: Origin,
    /// Milliseconds since 1970.
    pub(super) began: u64,
    pub(super) seen: u64,
    pub(super) ends: u64,
    pub(super) id_token: Option<String>,
    sid: Option<String>,
    /// The key that signed the ID token of the login.
    #[serde(default)]
    kid: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct BodyBacking {
    id: String,
    epoch: u64,
    arm: BodyArm,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum BodyArm {
    From,
    To,
}

impl Body {
    pub(super) fn new(new: &NewSession<'_>, ends: UnixTime, now: UnixTime) -> Self {
        let identity = new.authenticated.identity();
        Self {
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            canonical: new.canonical.as_str().to_owned(),
            attributes: identity
                .attributes
                .iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
            client_id: identity.client_id.as_deref().map(str::to_owned),
            acr: identity.acr.as_deref().map(str::to_owned),
            scopes: identity
                .scopes
                .iter()
                .map(|scope| String::from(&**scope))
                .collect(),
            host: new.host.to_owned(),
            rollout: new.backing.as_ref().map(|backing| BodyBacking {
                id: backing.rollout.as_str().to_owned(),
                epoch: backing.epoch,
                arm: match backing.arm {
                    Arm::From => BodyArm::From,
                    Arm::To => BodyArm::To,
                },
            }),
            rule: new.rule.to_owned(),
            origin: new.origin,
            began: now.as_millis(),
            seen: now.as_millis(),
            ends: ends.as_millis(),
            id_token: new.id_token.map(|token| token.expose().clone()),
            sid: new.sid.map(str::to_owned),
            kid: new
                .authenticated
                .grounds()
                .kid
                .as_deref()
                .map(str::to_owned),
            refresh_token: new.refresh_token.map(|token| token.expose().clone()),
        }
    }

    /// Where the session came from.
    pub(super) fn provider(&self) -> ProviderId {
        ProviderId::new(&self.provider)
    }

    /// What is kept in memory; `None`: the row cannot be of this program.
    pub(super) fn content(&self, id: &[u8; 32]) -> Option<Content> {
        let subject = Subject::try_from(self.subject.as_str()).ok()?;
        // A canonical subject of an unjoined person is longer than a subject may be.
        let key = SubjectKey {
            issuer: Issuer::new(&self.issuer),
            subject,
        };
        let unjoined = CanonicalSubject::unjoined(&key);
        let canonical = if unjoined.as_str() == self.canonical {
            unjoined
        } else {
            CanonicalSubject::named(&self.canonical).ok()?
        };
        Some(Content {
            id: Secret::new(*id),
            identity: Arc::new(Identity {
                provider: ProviderId::new(&self.provider),
                key,
                attributes: Arc::new(ClaimMap::new(self.attributes.clone())),
                client_id: self.client_id.as_deref().map(Into::into),
                acr: self.acr.as_deref().map(Into::into),
                scopes: self
                    .scopes
                    .iter()
                    .map(|scope| scope.as_str().into())
                    .collect(),
                // A session is of the person who signed in.
                delegation: Delegation::default(),
            }),
            canonical,
            host: self.host.as_str().into(),
            backing: self.rollout.as_ref().map(|backing| Backing {
                rollout: RolloutId::new(&backing.id),
                epoch: backing.epoch,
                arm: match backing.arm {
                    BodyArm::From => Arm::From,
                    BodyArm::To => Arm::To,
                },
            }),
            rule: self.rule.as_str().into(),
            origin: self.origin,
            ends: UnixTime::from_millis(self.ends),
            grounds: Grounds {
                began: Some(UnixTime::from_millis(self.began)),
                kid: self.kid.as_deref().map(Into::into),
                token: None,
                sid: self.sid.as_deref().map(Into::into),
            },
        })
    }
}
