//! How one token comes about: asked for at a provider, or minted.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;
use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::Subject;
use crate::exchange::build::Deps;
use crate::exchange::mint::Minter;
use crate::exchange::scopes::Narrowed;
use crate::exchange::settings;
use crate::identity::Actor;
use crate::identity::Delegation;
use crate::identity::HeaderScope;
use crate::identity::NotDelegated;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Template;
use crate::providers;
use crate::providers::Authenticated;
use crate::providers::Issued;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::providers::Wanted;
use crate::secret::Secret;
use crate::telemetry::metrics::KeyUse;
use crate::token;
use crate::token::SigningKey;

/// The life of a result of which nobody says how long it lives.
const UNSAID_LIFE: Duration = Duration::from_secs(60);

/// What keys are used for here, in counts of their uses.
const PURPOSE: &str = "jwt_bearer";

/// The label `grant` of `authferry_exchanges_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grant {
    /// RFC 8693.
    TokenExchange,
    /// RFC 7523 §2.1.
    JwtBearer,
    /// Ours.
    Mint,
}

impl Grant {
    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TokenExchange => "token_exchange",
            Self::JwtBearer => "jwt_bearer",
            Self::Mint => "mint",
        }
    }
}

/// How a token comes about.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "pkcs11"),
    expect(clippy::large_enum_variant, reason = "one for each exchange")
)]
pub(super) enum Way {
    TokenExchange(Remote),
    Assertion(Remote, settings::Assertion, Option<Arc<SigningKey>>),
    Mint(Minter),
}

/// A token endpoint, and what is asked for there.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) client: TokenClient,
    pub(super) settings: settings::Remote,
}

/// A token, before it is dressed for the upstream.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) token: Secret<String>,
    /// Until when it is used.
    pub(super) ends: UnixTime,
    /// Until when whoever has it may use it: what it says itself, where it says more than the answer that it came with.
    /// `None`: nobody says.
    pub(super) lives_until: Option<UnixTime>,
    /// What it says, judged; `None`: it cannot be read, or is ours.
    pub(super) proof: Option<Authenticated>,
    pub(super) scopes: Vec<Box<str>>,
    /// The key of ours that signed it, or what it was had for.
    pub(super) key: Option<Box<str>>,
}

impl Way {
    pub(super) const fn grant(&self) -> Grant {
        match self {
            Self::TokenExchange(_) => Grant::TokenExchange,
            Self::Assertion(..) => Grant::JwtBearer,
            Self::Mint(_) => Grant::Mint,
        }
    }

    /// The registration that asks a provider for results.
    pub(super) fn registration(&self) -> Option<(&ProviderId, &str, &str)> {
        match self {
            Self::TokenExchange(remote) | Self::Assertion(remote, ..) => {
                let (at, client) = (&remote.settings.provider, &remote.client);
                Some((at, client.issuer(), client.id()))
            }
            Self::Mint(_) => None,
        }
    }

    /// What results say that they are of, where we mint them.
    pub(super) fn mints_as(&self) -> Option<&str> {
        match self {
            Self::TokenExchange(_) | Self::Assertion(..) => None,
            Self::Mint(minter) => Some(minter.issuer()),
        }
    }

    /// Whom results are for.
    pub(super) fn audiences(&self) -> Vec<&str> {
        match self {
            Self::TokenExchange(remote) | Self::Assertion(remote, ..) => {
                let settings = &remote.settings;
                let all = settings.audiences.iter().chain(&settings.resources);
                all.map(|one| &**one).collect()
            }
            Self::Mint(minter) => minter.audiences(),
        }
    }

    pub(super) async fn make(
        &self,
        subject: &Subject,
        scopes: &Narrowed,
        deps: &Deps,
        now: UnixTime,
    ) -> Result<Made, ProviderError> {
        match self {
            Self::TokenExchange(remote) => {
                // RFC 8693 exchanges tokens; a cookie or a password is none.
                let token = subject.token.as_ref().ok_or(Refusal::Unsupported)?;
                remote
                    .ask(providers::Grant::TokenExchange(token), subject, scopes, now)
                    .await
            }
            Self::Assertion(remote, assertion, key) => {
                let (signed, kid) = remote.sign(assertion, key.as_deref(), subject, deps, now)?;
                let grant = providers::Grant::JwtBearer(&signed);
                let made = remote.ask(grant, subject, scopes, now).await?;
                Ok(Made {
                    key: Some(kid),
                    ..made
                })
            }
            Self::Mint(minter) => minter.mint(subject, scopes, deps, now),
        }
    }
}

impl Remote {
    async fn ask(
        &self,
        grant: providers::Grant<'_>,
        subject: &Subject,
        scopes: &Narrowed,
        now: UnixTime,
    ) -> Result<Made, ProviderError> {
        let delegation = &subject.identity.delegation;
        let actor = Actor {
            subject: self
                .settings
                .actor
                .as_deref()
                .unwrap_or_else(|| self.client.id()),
            issuer: Some(self.client.issuer()),
        };
        permits(subject, Some(actor))?;
        let wanted = Wanted {
            audiences: &self.settings.audiences,
            resources: &self.settings.resources,
            scopes: &scopes.asked,
        };
        let issued = self.client.ask(grant, wanted, now).await?;
        if self.settings.must_be_read && issued.proof.is_none() {
            warn!(
                "Nobody can say whom an exchanged token is about; it is not used (`unreadable`)."
            );
            return Err(Refusal::ExchangeRefused.into());
        }
        if issued.proof.is_some() && !self.is_for_nobody_else(&issued.token) {
            warn!(
                "An exchanged token is for somebody else as well; it is not used. `also` names who may be in `aud` besides."
            );
            return Err(Refusal::ExchangeRefused.into());
        }
        take(issued, subject.token.as_ref(), delegation, scopes, now)
    }

    /// Whether a token that has been judged is for those alone that it was asked for, and that it may name besides: whoever else
    /// takes it would be another upstream.
    fn is_for_nobody_else(&self, token: &Secret<String>) -> bool {
        let settings = &self.settings;
        let lists = [&settings.audiences, &settings.resources, &settings.also];
        let known = |name: &str| lists.into_iter().flatten().any(|own| **own == *name);
        let read = token::peek(token.expose());
        read.is_ok_and(|read| read.is_only_for(&known))
    }

    /// RFC 7523 §3: short-lived, for this provider alone, used once.
    fn sign(
        &self,
        assertion: &settings::Assertion,
        key: Option<&SigningKey>,
        subject: &Subject,
        deps: &Deps,
        now: UnixTime,
    ) -> Result<(Secret<String>, Box<str>), ProviderError> {
        let audience = assertion
            .audience
            .as_deref()
            .unwrap_or_else(|| self.client.issuer());
        let mut claims = Map::new();
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("iss", (*assertion.issuer).into());
        say("sub", text(&assertion.subject, subject)?.into());
        say("aud", audience.into());
        say("iat", now.as_secs().into());
        say(
            "exp",
            (now + assertion.ttl).min(subject.ends).as_secs().into(),
        );
        say("jti", identifier(deps).into());
        if let Some(act) = subject
            .identity
            .delegation
            .followed_by(None)
            .map_err(not_delegated)?
        {
            say("act", act);
        }
        let signed = match key {
            Some(key) => {
                deps.ring.uses().used(key.kid(), KeyUse::Sign, PURPOSE);
                key.sign("JWT", &claims)
                    .map(|signed| (signed, key.kid().into()))
            }
            None => deps.ring.sign(PURPOSE, "JWT", &claims, now),
        };
        let (signed, kid) = signed.or(Err(Outage::Malformed))?;
        Ok((Secret::new(signed), kid))
    }
}

/// What of an issued token is handed on: no more than was presented.
fn take(
    issued: Issued,
    presented: Option<&Secret<String>>,
    delegation: &Delegation,
    scopes: &Narrowed,
    now: UnixTime,
) -> Result<Made, ProviderError> {
    let Issued {
        token,
        ends,
        scopes: granted,
        proof,
        refresh_token: _,
    } = issued;
    if presented.is_some_and(|presented| presented.matches(token.expose().as_bytes())) {
        warn!("A provider gave back the token that was to be exchanged; it is not used.");
        return Err(Outage::Malformed.into());
    }
    if let Some(granted) = &granted {
        scopes.check(granted)?;
    }
    if let Some(proof) = &proof {
        scopes.check(&proof.identity().scopes)?;
    }
    // What nobody can read may have lost whoever acts: no setting takes that.
    let kept = match &proof {
        Some(proof) => delegation.is_kept_in(&proof.identity().delegation),
        None => !delegation.is_delegated(),
    };
    if !kept {
        // It would look like a login of the subject (RFC 8693 §1.1).
        warn!("An exchanged token does not say who acts for its subject; it is not used.");
        return Err(Refusal::ExchangeRefused.into());
    }
    // Nothing was asked for, nothing is said, and nobody can look: it may do whatever the provider gives by default.
    if proof.is_none() && granted.is_none() && scopes.is_boundless() {
        warn!(
            "Nobody can say what an exchanged token may do; it is not used. `scopes.grant` asks for something in particular."
        );
        return Err(Refusal::ExchangeRefused.into());
    }
    // Without a word about them they are those that were asked for (RFC 6749 §5.1).
    let said = proof
        .as_ref()
        .map(|proof| &proof.identity().scopes)
        .filter(|scopes| !scopes.is_empty());
    let scopes = match granted.as_ref().or(said) {
        Some(said) => said.to_vec(),
        None => scopes.asked.clone(),
    };
    let own = proof
        .as_ref()
        .map(Authenticated::life_ends)
        .filter(|own| *own != UnixTime::NEVER);
    Ok(Made {
        scopes,
        token,
        ends: ends.unwrap_or(now + UNSAID_LIFE),
        lives_until: own.max(ends),
        proof,
        key: None,
    })
}

/// Whether the credential lets whoever exchanges it act (RFC 8693 §4.4): the client of ours that asked, whatever we are called
/// ourselves, or else every client could act as us; without one, `actor`. A name without an issuer is one of whoever wrote it:
/// what it calls a client need not be what we call it.
pub(super) fn permits(subject: &Subject, actor: Option<Actor<'_>>) -> Result<(), ProviderError> {
    let delegation = &subject.identity.delegation;
    let Some(asked_by) = &subject.asked_by else {
        return delegation.permits(actor).map_err(not_delegated);
    };
    let here = Actor {
        subject: &asked_by.id,
        issuer: Some(&asked_by.issuer),
    };
    let there = asked_by.there.as_deref().map(|subject_there| Actor {
        subject: subject_there,
        issuer: Some(subject.identity.key.issuer.as_str()),
    });
    let wrote = subject.identity.key.issuer.as_str();
    let by_us = delegation.names_issuer() || *wrote == *asked_by.issuer;
    let permitted = delegation.permits(by_us.then_some(here));
    match there {
        Some(there) if permitted.is_err() => delegation.permits(Some(there)),
        Some(_) | None => permitted,
    }
    .map_err(not_delegated)
}

/// RFC 8693 §4.4: whoever is not named may not act.
pub(super) fn not_delegated(why: NotDelegated) -> ProviderError {
    match why {
        NotDelegated::OtherActor | NotDelegated::Malformed => Refusal::ExchangeRefused.into(),
    }
}

/// A text about a person. One that cannot be written refuses: nobody is called by half a name.
pub(super) fn text(template: &Template, subject: &Subject) -> Result<String, ProviderError> {
    maybe(template, subject)?.ok_or_else(|| Refusal::ExchangeRefused.into())
}

/// The same for a text that may be left out.
pub(super) fn maybe(
    template: &Template,
    subject: &Subject,
) -> Result<Option<String>, ProviderError> {
    let scope = HeaderScope {
        identity: &subject.identity,
        canonical: Some(&subject.canonical),
        link: None,
        mark: None,
    };
    template.render_text(&scope).map_err(|why| {
        warn!(reason = %why, "A token about a person cannot be written.");
        Refusal::ExchangeRefused.into()
    })
}

/// `jti`.
pub(super) fn identifier(deps: &Deps) -> String {
    let mut id = [0; 16];
    deps.entropy.fill(&mut id);
    URL_SAFE_NO_PAD.encode(id)
}
