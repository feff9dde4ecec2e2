//! Tokens that we mint: about the person who was admitted, for one audience, never longer than the credential lives.

use std::borrow::Cow;

use serde_json::Map;
use serde_json::Value;
use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::Subject;
use crate::exchange::build::Deps;
use crate::exchange::scopes::Narrowed;
use crate::exchange::settings;
use crate::exchange::settings::Format;
use crate::exchange::settings::ScopeRules;
use crate::exchange::way::Made;
use crate::exchange::way::identifier;
use crate::exchange::way::maybe;
use crate::exchange::way::not_delegated;
use crate::exchange::way::permits;
use crate::exchange::way::text;
use crate::identity::Actor;
use crate::identity::HeaderScope;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::identity::Scope;
use crate::identity::Template;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::telemetry::metrics::KeyUse;
use crate::token::MacKey;
use crate::token::SigningKey;

/// What keys are used for here, in counts of their uses.
const PURPOSE: &str = "mint";

/// Mints the tokens of one exchange.
#[derive(Debug)]
pub(super) struct Minter {
    settings: settings::Mint,
    scopes: ScopeRules,
    signer: Signer,
}

#[derive(Debug)]
enum Signer {
    Ring(Box<str>),
    Key(Box<str>, SigningKey),
    Shared(Box<str>, MacKey),
    Text(Template, MacKey),
}

impl Minter {
    /// Reads the keys.
    ///
    /// # Errors
    ///
    /// When a private key is none.
    pub(super) fn new(settings: settings::Mint, scopes: ScopeRules) -> Result<Self, String> {
        let signer = match &settings.format {
            Format::Jwt(typ, None) => Signer::Ring(typ.clone()),
            Format::Jwt(typ, Some(pem)) => {
                let key = SigningKey::from_pem(pem.expose().as_bytes());
                Signer::Key(typ.clone(), key.map_err(|cause| format!("key: {cause}"))?)
            }
            Format::SharedJwt(typ, secret) => Signer::Shared(typ.clone(), MacKey::new(secret)),
            Format::SignedText(template, secret) => {
                Signer::Text(template.clone(), MacKey::new(secret))
            }
        };
        Ok(Self {
            settings,
            scopes,
            signer,
        })
    }

    /// `iss` of its tokens.
    pub(super) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Whom its tokens are for.
    pub(super) fn audiences(&self) -> Vec<&str> {
        self.settings.audiences.iter().map(|one| &**one).collect()
    }

    /// A token about `subject`.
    pub(super) fn mint(
        &self,
        subject: &Subject,
        scopes: &Narrowed,
        deps: &Deps,
        now: UnixTime,
    ) -> Result<Made, ProviderError> {
        // Whole seconds, rounded down: `exp` is not a moment after the credential's end.
        let ends = UnixTime::from_secs((now + self.settings.ttl).min(subject.ends).as_secs());
        if ends <= now {
            return Err(Refusal::Expired.into());
        }
        let claims = || self.claims(subject, scopes, deps, now, ends);
        let used = |key: &str| {
            deps.ring.uses().used(key, KeyUse::Sign, PURPOSE);
            Box::<str>::from(key)
        };
        let signed = match &self.signer {
            Signer::Ring(typ) => deps.ring.sign(PURPOSE, typ, &claims()?, now),
            Signer::Key(typ, key) => {
                let claims = claims()?;
                let kid = used(key.kid());
                key.sign(typ, &claims).map(|signed| (signed, kid))
            }
            Signer::Shared(typ, key) => {
                let claims = claims()?;
                let kid = used(key.name());
                key.sign(typ, &claims).map(|signed| (signed, kid))
            }
            Signer::Text(template, key) => {
                // The old format has no place for an actor: a delegated credential would look like its subject.
                if subject.identity.delegation.is_delegated() || self.actor(subject).is_some() {
                    return Err(Refusal::ExchangeRefused.into());
                }
                permits(subject, self.ourselves())?;
                let times = Times {
                    of: HeaderScope {
                        identity: &subject.identity,
                        canonical: Some(&subject.canonical),
                        link: None,
                        mark: None,
                    },
                    issued: Value::from(now.as_secs().to_string()),
                    expires: Value::from(ends.as_secs().to_string()),
                };
                // Whoever reads it takes it apart: nobody writes more into it than their own value.
                let text = template.render_apart(&times).map_err(|why| {
                    warn!(reason = %why, "A signed text about a person cannot be written.");
                    Refusal::ExchangeRefused
                })?;
                let kid = used(key.name());
                let signed = key.sign_text(&text.ok_or(Refusal::ExchangeRefused)?);
                Ok((signed, kid))
            }
        };
        let (signed, kid) = signed.or(Err(Outage::Malformed))?;
        Ok(Made {
            token: Secret::new(signed),
            key: Some(kid),
            ends,
            lives_until: Some(ends),
            proof: None,
            scopes: scopes.minted(&self.scopes),
        })
    }

    fn ourselves(&self) -> Option<Actor<'_>> {
        self.settings.actor.as_deref().map(|actor| Actor {
            subject: actor,
            issuer: Some(&self.settings.issuer),
        })
    }

    /// Who acts for the subject next, as `act` says it.
    fn actor<'a>(&'a self, subject: &'a Subject) -> Option<Actor<'a>> {
        match &subject.asked_by {
            Some(client) if self.settings.names_client => Some(Actor {
                subject: &client.id,
                issuer: Some(&client.issuer),
            }),
            Some(_) | None => self.ourselves(),
        }
    }

    fn claims(
        &self,
        subject: &Subject,
        scopes: &Narrowed,
        deps: &Deps,
        now: UnixTime,
        ends: UnixTime,
    ) -> Result<Map<String, Value>, ProviderError> {
        permits(subject, self.ourselves())?;
        let identity = &subject.identity;
        let mut claims = Map::new();
        for (name, attribute) in &self.settings.attributes {
            if let Some(value) = identity.attributes.member(attribute) {
                claims.insert(String::from(&**name), value.clone());
            }
        }
        for (name, template) in &self.settings.claims {
            if let Some(text) = maybe(template, subject)? {
                claims.insert(String::from(&**name), text.into());
            }
        }
        // Last: nothing that a person may choose stands in for what we say.
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("iss", (*self.settings.issuer).into());
        say(
            "aud",
            match &*self.settings.audiences {
                [one] => (**one).into(),
                many => many
                    .iter()
                    .map(|audience| Value::from(&**audience))
                    .collect(),
            },
        );
        say("sub", text(&self.settings.subject, subject)?.into());
        say("iat", now.as_secs().into());
        say("exp", ends.as_secs().into());
        say("jti", identifier(deps).into());
        // Whoever asked for it (RFC 8693 §4.3); on the way through, who brought the token.
        let asked_by = subject.asked_by.as_ref().map(|by| &by.id);
        if let Some(client) = asked_by.or(identity.client_id.as_ref()) {
            say("client_id", (**client).into());
        }
        if let Some(acr) = &identity.acr {
            say("acr", (**acr).into());
        }
        if let Some(bound) = &subject.confirmation {
            say("cnf", Value::Object(bound.members()));
        }
        let granted = scopes.minted(&self.scopes);
        if !granted.is_empty() {
            say("scope", granted.join(" ").into());
        }
        let act = identity.delegation.followed_by(self.actor(subject));
        if let Some(act) = act.map_err(not_delegated)? {
            say("act", act);
        }
        Ok(claims)
    }
}

/// A person, and `issued` and `expires` in seconds.
struct Times<'a> {
    of: HeaderScope<'a>,
    issued: Value,
    expires: Value,
}

impl Scope for Times<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        match name {
            "issued" => Some(Cow::Borrowed(&self.issued)),
            "expires" => Some(Cow::Borrowed(&self.expires)),
            _ => self.of.value(name),
        }
    }
}
