//! What the row of a session says, and how it is written.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

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
use crate::providers::Refreshed;
use crate::rollout::Arm;
use crate::rollout::RolloutId;
use crate::secret::Secret;
use crate::session::came_by::CameBy;
use crate::session::id;
use crate::session::renewal::Renewal;
use crate::session::wrap::OldSession;

/// How a session came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// A login where the person is assigned.
    Login,
    /// A login at the other side, because the assigned provider was away.
    Fallback,
    /// It stands for a session of the old system itself.
    Wrap,
    /// The new provider gave it for a session of the old side.
    Exchange,
}

impl Origin {
    /// For the metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Fallback => "fallback",
            Self::Wrap => "wrap",
            Self::Exchange => "exchange",
        }
    }
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
    /// The application.
    pub(crate) app: &'a str,
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
    /// How long the owner's word holds, if it said so.
    pub(crate) lasts: Option<Duration>,
    /// The session of the old system that it stands for.
    pub(crate) stands_for: Option<OldSession<'a>>,
    /// The session of the old side for which it was given.
    pub(crate) came_by: Option<CameBy>,
}

/// What is kept of a live session.
#[derive(Debug)]
pub(crate) struct Content {
    /// The random bits of the cookie: needed to write the row again.
    pub(super) id: Secret<[u8; 32]>,
    pub(super) identity: Arc<Identity>,
    pub(super) canonical: CanonicalSubject,
    pub(super) app: Box<str>,
    pub(super) host: Box<str>,
    pub(super) backing: Option<Backing>,
    pub(super) rule: Arc<str>,
    pub(super) origin: Origin,
    pub(super) ends: UnixTime,
    pub(super) grounds: Grounds,
    /// Raised by every renewal.
    pub(super) revision: u64,
    /// When it is confirmed at its owner; `None`: there is nothing to ask with.
    pub(super) renewal: Option<Renewal>,
    /// It counts only together with the cookie of which this is the digest.
    pub(super) stands_for: Option<[u8; 32]>,
    /// The session of the old side for which it was given.
    pub(super) came_by: Option<CameBy>,
    /// Whether what it follows was ended here.
    pub(super) used: AtomicBool,
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
    #[serde(default)]
    app: String,
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
    /// Raised by every renewal.
    #[serde(default)]
    pub(super) revision: u64,
    /// When its owner last said that it is good; 0: at the login.
    #[serde(default)]
    renewed: u64,
    /// How long that holds, in seconds, if the owner said so.
    #[serde(default)]
    lasts: Option<u64>,
    /// The owner asked not to be asked before this.
    #[serde(default)]
    pub(super) retry: u64,
    /// The digest of the cookie of an old system that must come along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stands_for: Option<[u8; 32]>,
    /// The session of the old side for which it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) came_by: Option<CameBy>,
}

/// What a session can be found and ended by without its cookie. Sealed under the keys of the process alone.
#[derive(Deserialize, Serialize)]
pub(super) struct Handle {
    pub(super) provider: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) sid: Option<String>,
    /// Milliseconds since 1970.
    pub(super) began: u64,
    pub(super) refresh_token: Option<String>,
}

impl Handle {
    pub(super) fn new(new: &NewSession<'_>, now: UnixTime) -> Self {
        let identity = new.authenticated.identity();
        Self {
            provider: identity.provider.as_str().to_owned(),
            issuer: identity.key.issuer.as_str().to_owned(),
            subject: identity.key.subject.as_str().to_owned(),
            sid: new.sid.map(str::to_owned),
            began: now.as_millis(),
            refresh_token: new.refresh_token.map(|token| token.expose().clone()),
        }
    }
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
            attributes: attributes(identity),
            client_id: identity.client_id.as_deref().map(str::to_owned),
            acr: identity.acr.as_deref().map(str::to_owned),
            scopes: identity
                .scopes
                .iter()
                .map(|scope| String::from(&**scope))
                .collect(),
            app: new.app.to_owned(),
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
            revision: 0,
            renewed: now.as_millis(),
            lasts: new.lasts.map(|lasts| lasts.as_secs()),
            retry: 0,
            stands_for: new.stands_for.map(|old| old.digest()),
            came_by: new.came_by.clone(),
        }
    }

    /// Takes in what the owner said. `false`: it spoke of somebody else (OpenID Connect Core 1.0 §12.2); nothing is taken in.
    pub(super) fn renew(&mut self, refreshed: &Refreshed, now: UnixTime) -> bool {
        if let Some(authenticated) = &refreshed.authenticated {
            let identity = authenticated.identity();
            let same = identity.key.issuer.as_str() == self.issuer
                && identity.key.subject.as_str() == self.subject
                && identity.provider.as_str() == self.provider;
            if !same {
                return false;
            }
            self.attributes = attributes(identity);
            self.acr = identity.acr.as_deref().map(str::to_owned);
        }
        if let Some(token) = &refreshed.id_token {
            self.id_token = Some(token.expose().clone());
        }
        self.revision += 1;
        self.renewed = now.as_millis();
        self.lasts = refreshed.lasts.map(|lasts| lasts.as_secs());
        self.retry = 0;
        true
    }

    fn renewal(&self, row: &[u8; 32], revalidate: Duration) -> Renewal {
        let lasts = self.lasts.map(Duration::from_secs);
        let span = lasts.map_or(revalidate, |lasts| lasts.min(revalidate));
        let confirmed = UnixTime::from_millis(self.renewed.max(self.began));
        let [first, ..] = row;
        Renewal::new(confirmed, span, first.wrapping_add(self.revision as u8))
    }

    /// Who it is across providers; `None`: the row cannot be of this program.
    pub(super) fn person(&self) -> Option<CanonicalSubject> {
        self.named().map(|(_, canonical)| canonical)
    }

    fn named(&self) -> Option<(SubjectKey, CanonicalSubject)> {
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
        Some((key, canonical))
    }

    /// What is kept in memory; `None`: the row cannot be of this program.
    ///
    /// `revalidate`: how often its owner is asked again, if there is something to ask with.
    pub(super) fn content(&self, id: &[u8; 32], revalidate: Option<Duration>) -> Option<Content> {
        let (key, canonical) = self.named()?;
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
            app: self.app.as_str().into(),
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
            revision: self.revision,
            renewal: revalidate.map(|span| self.renewal(&id::row(id), span)),
            stands_for: self.stands_for,
            came_by: self.came_by.clone(),
            used: AtomicBool::new(0 < self.revision),
        })
    }
}

fn attributes(identity: &Identity) -> Map<String, Value> {
    let all = identity.attributes.iter();
    all.map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}
