//! What the row of a session says, and how it is written.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::Delegation;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::Refreshed;
use crate::rollout::Arm;
use crate::rollout::RolloutId;
use crate::secret::Secret;
use crate::session::came_by::CameBy;
use crate::session::handle::Before;
use crate::session::handle::Handle;
use crate::session::id;
use crate::session::left::Left;
use crate::session::left::LeftBehind;
use crate::session::renewal::Renewal;
use crate::session::tight::Reader;
use crate::session::tight::Writer;
use crate::session::wrap::OldSession;

/// The layout of a body,
const LAYOUT: u8 = 1;
/// and of one with what its session leaves behind elsewhere at its end.
const WITH_LEFT: u8 = 2;

/// How a session came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize)]
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
    /// What was revoked later than this ends it, although it may not have been made yet.
    pub(crate) began: UnixTime,
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
    /// What the session before leaves behind at its provider.
    pub(crate) left: Option<&'a LeftBehind>,
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
    /// The session of the other side that its person has left behind.
    pub(super) left_behind: Option<Before>,
    /// Whether what it follows was ended here.
    pub(super) used: AtomicBool,
}

/// What only the holder of the cookie may read.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(super) struct Body {
    pub(super) attributes: Map<String, Value>,
    pub(super) acr: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) app: String,
    pub(super) host: String,
    pub(super) backing: Option<Backing>,
    pub(super) rule: String,
    pub(super) origin: Origin,
    pub(super) id_token: Option<String>,
    /// Raised by every renewal.
    pub(super) revision: u64,
    /// When its owner last said that it is good, in milliseconds since 1970.
    pub(super) renewed: u64,
    /// How long that holds, in seconds, if the owner said so.
    pub(super) lasts: Option<u64>,
    /// The owner asked not to be asked before this; 0: it did not.
    pub(super) retry: u64,
    /// The digest of the cookie of an old system that must come along.
    pub(super) stands_for: Option<[u8; 32]>,
    /// The session of the old side for which it was given.
    pub(super) came_by: Option<CameBy>,
    /// The provider of the session before, and the ID token by which somebody signs out there.
    pub(super) left: Option<(String, String)>,
}

impl Body {
    pub(super) fn new(new: &NewSession<'_>, now: UnixTime) -> Self {
        let identity = new.authenticated.identity();
        Self {
            attributes: attributes(identity),
            acr: identity.acr.as_deref().map(str::to_owned),
            scopes: identity
                .scopes
                .iter()
                .map(|scope| String::from(&**scope))
                .collect(),
            app: new.app.to_owned(),
            host: new.host.to_owned(),
            backing: new.backing.clone(),
            rule: new.rule.to_owned(),
            origin: new.origin,
            id_token: new.id_token.map(|token| token.expose().clone()),
            revision: 0,
            renewed: now.as_millis(),
            lasts: new.lasts.map(|lasts| lasts.as_secs()),
            retry: 0,
            stands_for: new.stands_for.map(|old| old.digest()),
            came_by: new.came_by.clone(),
            left: new
                .left
                .and_then(|behind| behind.left.as_ref().map(Left::written)),
        }
    }

    /// Takes in what the owner said. `false`: it spoke of somebody else (OpenID Connect Core 1.0 §12.2); nothing is taken in.
    pub(super) fn renew(&mut self, of: &Handle, refreshed: &Refreshed, now: UnixTime) -> bool {
        if let Some(authenticated) = &refreshed.authenticated {
            let identity = authenticated.identity();
            let same = identity.key.issuer.as_str() == of.issuer
                && identity.key.subject.as_str() == of.subject
                && identity.provider.as_str() == of.provider;
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

    fn renewal(&self, of: &Handle, row: &[u8; 32], revalidate: Duration) -> Renewal {
        let lasts = self.lasts.map(Duration::from_secs);
        let span = lasts.map_or(revalidate, |lasts| lasts.min(revalidate));
        let confirmed = UnixTime::from_millis(self.renewed.max(of.made));
        let [first, ..] = row;
        Renewal::new(confirmed, span, first.wrapping_add(self.revision as u8))
    }

    /// What is kept in memory; `None`: the row cannot be of this program.
    ///
    /// `revalidate`: how often its owner is asked again, if there is something to ask with.
    pub(super) fn content(
        &self,
        of: &Handle,
        id: &[u8; 32],
        revalidate: Option<Duration>,
    ) -> Option<Content> {
        Some(Content {
            id: Secret::new(*id),
            identity: Arc::new(Identity {
                provider: ProviderId::new(&of.provider),
                key: of.account()?,
                attributes: Arc::new(ClaimMap::new(self.attributes.clone())),
                client_id: of.client.as_deref().map(Into::into),
                acr: self.acr.as_deref().map(Into::into),
                scopes: self
                    .scopes
                    .iter()
                    .map(|scope| scope.as_str().into())
                    .collect(),
                // A session is of the person who signed in.
                delegation: Delegation::default(),
            }),
            canonical: of.canonical().clone(),
            app: self.app.as_str().into(),
            host: self.host.as_str().into(),
            backing: self.backing.clone(),
            rule: self.rule.as_str().into(),
            origin: self.origin,
            ends: UnixTime::from_millis(of.ends),
            grounds: Grounds {
                // What was revoked while somebody was on the way is not outlived by what came of it.
                began: Some(UnixTime::from_millis(of.began)),
                kid: of.kid.as_deref().map(Into::into),
                // A session does not end with the key of a token that somebody has signed in with.
                signer: None,
                token: None,
                sid: of.sid.as_deref().map(Into::into),
            },
            revision: self.revision,
            renewal: revalidate.map(|span| self.renewal(of, &id::row(id), span)),
            stands_for: self.stands_for,
            came_by: self.came_by.clone(),
            left_behind: of.before.clone().filter(|before| !before.is_given()),
            used: AtomicBool::new(0 < self.revision),
        })
    }
}

impl Body {
    /// In few bytes. `made`: when the session was.
    pub(super) fn written(&self, made: u64) -> Result<Vec<u8>, serde_json::Error> {
        let mut to = Writer::default();
        to.byte(if self.left.is_some() {
            WITH_LEFT
        } else {
            LAYOUT
        });
        to.object(&self.attributes);
        to.maybe(self.acr.as_deref());
        to.number(self.scopes.len() as u64);
        for scope in &self.scopes {
            to.text(scope);
        }
        to.text(&self.app);
        to.text(&self.host);
        let rollout = self.backing.as_ref();
        to.maybe(rollout.map(|backing| backing.rollout.as_str()));
        if let Some(backing) = rollout {
            to.number(backing.epoch);
            to.byte(match backing.arm {
                Arm::From => 0,
                Arm::To => 1,
            });
        }
        to.text(&self.rule);
        to.byte(match self.origin {
            Origin::Login => 0,
            Origin::Fallback => 1,
            Origin::Wrap => 2,
            Origin::Exchange => 3,
        });
        to.maybe(self.id_token.as_deref());
        to.number(self.revision);
        to.number(self.renewed.saturating_sub(made));
        to.number(self.lasts.map_or(0, |lasts| lasts.saturating_add(1)));
        to.number(self.retry);
        to.maybe_digest(self.stands_for.as_ref());
        // Few sessions have it, and all of it: as it is read elsewhere.
        let came_by = self.came_by.as_ref().map(serde_json::to_string);
        to.maybe(came_by.transpose()?.as_deref());
        if let Some((provider, id_token)) = &self.left {
            to.text(provider);
            to.text(id_token);
        }
        Ok(to.done())
    }

    /// `None`: it is none of this layout.
    pub(super) fn read(plain: &[u8], made: u64) -> Option<Self> {
        let mut from = Reader::new(plain);
        let left = match from.byte()? {
            LAYOUT => false,
            WITH_LEFT => true,
            _ => return None,
        };
        let body = Self {
            attributes: from.object()?,
            acr: from.maybe()?,
            scopes: (0..from.number()?)
                .map(|_| from.text())
                .collect::<Option<_>>()?,
            app: from.text()?,
            host: from.text()?,
            backing: match from.maybe()? {
                None => None,
                Some(rollout) => Some(Backing {
                    rollout: RolloutId::new(&rollout),
                    epoch: from.number()?,
                    arm: match from.byte()? {
                        0 => Arm::From,
                        1 => Arm::To,
                        _ => return None,
                    },
                }),
            },
            rule: from.text()?,
            origin: match from.byte()? {
                0 => Origin::Login,
                1 => Origin::Fallback,
                2 => Origin::Wrap,
                3 => Origin::Exchange,
                _ => return None,
            },
            id_token: from.maybe()?,
            revision: from.number()?,
            renewed: made.saturating_add(from.number()?),
            lasts: from.number()?.checked_sub(1),
            retry: from.number()?,
            stands_for: from.maybe_digest()?,
            came_by: match from.maybe()? {
                None => None,
                Some(came_by) => Some(serde_json::from_str(&came_by).ok()?),
            },
            left: if left {
                Some((from.text()?, from.text()?))
            } else {
                None
            },
        };
        from.is_done().then_some(body)
    }
}

fn attributes(identity: &Identity) -> Map<String, Value> {
    let all = identity.attributes.iter();
    all.map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use proptest::option::of;
    use proptest::prelude::*;

    const MADE: u64 = 1_800_000_000_000;

    fn bodies() -> impl Strategy<Value = Body> {
        let claims =
            proptest::collection::vec((any::<String>(), any::<(bool, i64, String)>()), 0..4);
        let texts = any::<(String, String, String)>();
        let maybe = any::<(Option<String>, Option<String>, Vec<String>)>();
        let numbers = (any::<u64>(), 0..1_u64 << 40, of(0..u64::MAX), any::<u64>());
        let origin = prop_oneof![
            Just(Origin::Login),
            Just(Origin::Fallback),
            Just(Origin::Wrap),
            Just(Origin::Exchange),
        ];
        let rest = (
            origin,
            of(any::<(String, u64, bool)>()),
            of(any::<[u8; 32]>()),
            any::<bool>(),
            of(any::<(String, String)>()),
        );
        (claims, texts, maybe, numbers, rest).prop_map(
            |(
                claims,
                (app, host, rule),
                (acr, id_token, scopes),
                (revision, renewed, lasts, retry),
                (origin, rollout, stands_for, came, left),
            )| {
                let claims = claims.into_iter();
                let account = SubjectKey {
                    issuer: Issuer::new("https://old.test"),
                    subject: Subject::try_from("old-alice").unwrap(),
                };
                Body {
                    attributes: claims
                        .map(|(name, (flag, number, text))| {
                            (name, serde_json::json!([flag, number, text]))
                        })
                        .collect(),
                    acr,
                    scopes,
                    app,
                    host,
                    backing: rollout.map(|(id, epoch, to)| Backing {
                        rollout: RolloutId::new(&id),
                        epoch,
                        arm: if to { Arm::To } else { Arm::From },
                    }),
                    rule,
                    origin,
                    id_token,
                    revision,
                    renewed: MADE + renewed,
                    lasts,
                    retry,
                    stands_for,
                    came_by: came.then(|| CameBy::for_test("old", &account, "S1")),
                    left,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_body_is_read_as_it_was_written(body in bodies()) {
            let written = body.written(MADE).unwrap();
            prop_assert_eq!(Body::read(&written, MADE), Some(body));
            for length in 0..written.len() {
                prop_assert!(Body::read(&written[..length], MADE).is_none(), "{}", length);
            }
        }
    }
}
