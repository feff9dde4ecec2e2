//! Whether a token is good (RFC 7662), and that it is over (RFC 7009): of ours and of both sides.

use serde_json::Value;
use serde_json::json;
use tracing::error;

use crate::auth;
use crate::auth::beginning;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::TokenId;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::answer::Reply;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::form::form;
use crate::issuer::grants::Told;
use crate::issuer::grants::judged;
use crate::issuer::grants::reply;
use crate::issuer::refresh::Look;
use crate::issuer::refresh::Ticket;
use crate::issuer::settings::Grant;
use crate::providers::ProviderError;
use crate::revocation::Asked;
use crate::revocation::Source;
use crate::revocation::Standing;
use crate::revocation::Target;
use crate::secret::Secret;

/// What ends an access token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// Its client, to which it must have been issued.
    Client,
    /// The family that it was fetched for is over.
    Family,
}

impl By {
    const fn words(self) -> &'static str {
        match self {
            Self::Client => "its client gave it back (RFC 7009)",
            Self::Family => "the refresh token that it was had with is over",
        }
    }
}

/// RFC 7662 §2.2: why, only we are told.
pub(super) fn inactive(told: &mut Told, why: &'static str) -> Value {
    told.outcome = Some("inactive");
    told.reason = Some(why);
    json!({ "active": false })
}

/// The store did not say.
const STORE: Not = Not::Later(5, "store");

impl Issuer {
    /// The introspection endpoint.
    pub(super) async fn introspection(&self, call: &Call<'_>) -> Reply {
        let mut told = Told {
            grant: Some("introspection"),
            ..Told::default()
        };
        let done = self.introspected(call, &mut told).await;
        self.tell(call, &told, "answered", &done);
        reply(done)
    }

    /// The revocation endpoint.
    pub(super) async fn revocation(&self, call: &Call<'_>) -> Reply {
        let mut told = Told {
            grant: Some("revocation"),
            ..Told::default()
        };
        let done = self.revoked(call, &mut told).await;
        self.tell(call, &told, "revoked", &done);
        reply(done)
    }

    /// RFC 7662 §2, of tokens of both sides: good is what the application would take.
    async fn introspected(&self, call: &Call<'_>, told: &mut Told) -> Result<Value, Not> {
        let form = form(call)?;
        let client = self.client(call, &form).await?;
        told.client = Some(client.settings.id.clone());
        if !client.settings.introspect {
            return Err(Not::Denied(Denied::UnauthorizedClient, "introspection"));
        }
        self.side(call, client)?;
        let token = form
            .value("token")
            .ok_or(Not::Denied(Denied::InvalidRequest, "token"))?;
        told.parent = Some(beginning(token));
        if Ticket::is_ours(token) {
            return self.refreshable(call, token, told).await;
        }
        if let Some(said) = self.of_ours(call, token, told).await? {
            return Ok(said);
        }
        let admitted = match judged(call, token, None).await {
            Ok(admitted) => admitted,
            Err(Not::Denied(_, why)) => return Ok(inactive(told, why)),
            Err(other @ (Not::Later(..) | Not::Limited(_))) => return Err(other),
        };
        told.person = Some(admitted.canonical().clone());
        told.provider = Some(admitted.provider().clone());
        let identity = admitted.identity();
        let mut object = json!({
            "active": true,
            "iss": identity.key.issuer.as_str(),
            "sub": identity.key.subject.as_str(),
            "token_type": Confirmation::token_type(admitted.confirmation()),
        });
        if let Value::Object(members) = &mut object {
            // The token's own, which its owner may not say: how long our verdict is kept is nobody's business.
            let own = admitted.life_ends();
            if own != UnixTime::NEVER {
                members.insert("exp".to_owned(), own.as_secs().into());
            }
            // Whoever asks holds the other half of the proof (RFC 8705 §3.2, RFC 9449 §6.2).
            if let Some(bound) = admitted.confirmation() {
                members.insert("cnf".to_owned(), Value::Object(bound.members()));
            }
            if let Some(client) = &identity.client_id {
                members.insert("client_id".to_owned(), (**client).into());
            }
            if !identity.scopes.is_empty() {
                members.insert("scope".to_owned(), identity.scopes.join(" ").into());
            }
        }
        Ok(object)
    }

    /// A refresh token of ours. What its provider would say now, only its use shows.
    async fn refreshable(
        &self,
        call: &Call<'_>,
        token: &str,
        told: &mut Told,
    ) -> Result<Value, Not> {
        let Some(ticket) = Ticket::parse(token) else {
            return Ok(inactive(told, "bad_credentials"));
        };
        let look = self.families.look(&ticket, call.now).await.or(Err(STORE))?;
        let Look::Open(family, _) = look else {
            return Ok(inactive(told, "inactive"));
        };
        told.person = family.person();
        told.provider = Some(ProviderId::new(&family.provider));
        let audience = Some(family.audience.as_str()).filter(|own| !own.is_empty());
        told.audience = audience.map(Into::into);
        if !family.is_good(&ticket, call.now) {
            return Ok(inactive(told, "inactive"));
        }
        // Its use would be refused, too.
        let client = self.clients.get(family.client.as_str());
        let client = client.filter(|client| {
            let settings = &client.settings;
            let mut audiences = settings.audiences.iter();
            settings.grants.contains(&Grant::RefreshToken)
                && audiences.any(|own| family.is_for(Some(own)))
        });
        let owner = client.and_then(|client| Some((client, self.account(client)?)));
        let Some((client, account)) = owner else {
            return Ok(inactive(told, "unauthorized_client"));
        };
        let at = client.at.get(&ProviderId::new(&family.provider));
        let index = self.deps.revocations.index();
        if !index.is_ready() {
            return Err(STORE);
        }
        let marks = family.marks(at.map(|at| at.id()), &account);
        if !Standing::new(index, marks).holds(call.now) {
            return Ok(inactive(told, "revoked"));
        }
        match self.side(call, client) {
            Ok(_) => {}
            Err(Not::Denied(_, why)) => return Ok(inactive(told, why)),
            Err(other @ (Not::Later(..) | Not::Limited(_))) => return Err(other),
        }
        let mut object = json!({
            "active": true,
            "client_id": family.client,
            "exp": family.ends / 1_000,
        });
        if let Value::Object(members) = &mut object {
            // One that a provider gave is for whichever of its client's audiences that names.
            if !family.audience.is_empty() {
                members.insert("aud".to_owned(), family.audience.as_str().into());
            }
            if let Some(key) = &family.bound {
                members.insert("cnf".to_owned(), json!({ "jkt": key }));
            }
            if let Some(key) = family.account.as_ref().and_then(|account| account.key()) {
                members.insert("iss".to_owned(), key.issuer.as_str().into());
                members.insert("sub".to_owned(), key.subject.as_str().into());
            }
        }
        Ok(object)
    }

    /// RFC 7009 §2. A token that is none is over already; one of another client is not this one's to end.
    async fn revoked(&self, call: &Call<'_>, told: &mut Told) -> Result<Value, Not> {
        let form = form(call)?;
        let client = self.client(call, &form).await?;
        told.client = Some(client.settings.id.clone());
        let token = form
            .value("token")
            .ok_or(Not::Denied(Denied::InvalidRequest, "token"))?;
        told.parent = Some(beginning(token));
        // What kind of token it is, the token says: `token_type_hint` may be wrong (§2.1).
        let ticket = self.ticket(client, token);
        if let Some(ticket) = &ticket {
            let look = self.families.look(ticket, call.now).await.or(Err(STORE))?;
            if let Look::Open(family, _) = look {
                if *family.client != *client.settings.id {
                    return Err(Not::Denied(Denied::UnauthorizedClient, "wrong_client"));
                }
                told.provider = Some(ProviderId::new(&family.provider));
                told.person = family.person();
                self.end(call, client, ticket).await?;
                // The provider may not have been told of one that was never brought before it was over.
                if !family.is_over() {
                    return Ok(json!({}));
                }
            }
        }
        if Ticket::is_ours(token) {
            return Ok(json!({}));
        }
        if self.revoke_ours(call, client, token).await? {
            return Ok(json!({}));
        }
        let known = self.revoke_access(call, client, token, By::Client).await?;
        if known.is_none() && self.says_to_be_ours(token) {
            return Err(Not::Denied(Denied::UnsupportedTokenType, "unsupported"));
        }
        let (known, person) = known.unzip();
        told.provider = known.clone().or(told.provider.take());
        told.person = person.flatten().or(told.person.take());
        // Whoever gives back for a public client is nobody: what strangers make up is told to the provider, and not remembered.
        let only_there = known.is_none() && ticket.is_some() && client.settings.public;
        if let (None, Some(ticket)) = (&known, &ticket)
            && !only_there
        {
            self.bury(call, client, ticket).await?;
        }
        // A provider that is away may still take it for good there.
        let provider = known.or_else(|| client.settings.refresh.adopt.clone());
        if let Some(provider) = provider {
            let ended = self.revoke_at(call, client, &provider, token).await?;
            if only_there && !ended {
                // It goes on: whoever gave it back must not believe otherwise.
                return Err(Not::Denied(Denied::UnsupportedTokenType, "unsupported"));
            }
        }
        Ok(json!({}))
    }

    /// An access token counts no more, whoever issued it; who did, and whom it is about. `None`: nobody here knows it, or it
    /// is over.
    pub(super) async fn revoke_access(
        &self,
        call: &Call<'_>,
        client: &Client,
        token: &str,
        by: By,
    ) -> Result<Option<(ProviderId, Option<CanonicalSubject>)>, Not> {
        let Some(headers) = auth::bearer(token) else {
            return Ok(None);
        };
        let classes = [CredentialClass::Bearer, CredentialClass::Opaque];
        let presented = auth::extract(&headers, None, call.policy.owners(), &classes);
        let Ok(Some(presented)) = presented else {
            return Ok(None);
        };
        let proof = match call.gate.known(&presented, call.now).await {
            Ok(proof) => proof,
            Err(why) => {
                return match Not::admitted(&why, call.policy) {
                    Not::Denied(..) => Ok(None),
                    other @ (Not::Later(..) | Not::Limited(_)) => Err(other),
                };
            }
        };
        let identity = proof.identity();
        let provider = identity.provider.clone();
        // By the name that it has there: our own may be somebody else's at the provider.
        let own = by == By::Family
            || identity.client_id.as_deref().is_some_and(|id| {
                let there = client.at.get(&provider).map(|at| at.id());
                there == Some(id)
            });
        if !own && !self.was_given(call, client, token).await? {
            return Err(Not::Denied(Denied::UnauthorizedClient, "wrong_client"));
        }
        self.takes_back(token, call.now).await?;
        let person = call.gate.person(identity, call.now).await;
        let issuer = identity.key.issuer.as_str().to_owned();
        let target = match &proof.grounds().token {
            Some(TokenId::Named(jti)) => Target::Token {
                issuer,
                jti: jti.to_string(),
            },
            Some(TokenId::Digest(hash)) => Target::TokenDigest {
                issuer,
                digest: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
            None => return Ok(Some((provider, person))),
        };
        let asked = Asked {
            target,
            source: Source::Client,
            actor: format!("client:{}", client.settings.id),
            reason: by.words().to_owned(),
            keep: None,
            provider: Some(provider.clone()),
        };
        let ends = proof.dies();
        let done = self.deps.revocations.revoke_once(asked, ends).await;
        done.or(Err(STORE))?;
        Ok(Some((provider, person)))
    }

    async fn revoke_at(
        &self,
        call: &Call<'_>,
        client: &Client,
        provider: &ProviderId,
        token: &str,
    ) -> Result<bool, Not> {
        let Some(at) = client.at.get(provider).cloned() else {
            return Ok(false);
        };
        let (token, now) = (Secret::new(token.to_owned()), call.now);
        let kind = if token.expose().contains('.') {
            "access_token"
        } else {
            "refresh_token"
        };
        let task = self
            .deps
            .background
            .spawn(async move { at.revoke(&token, kind, now).await });
        match task.await {
            // What it refuses to end, or has no place for, ends by itself.
            Ok(Err(ProviderError::Rejected(_))) => Ok(false),
            Ok(Ok(())) => Ok(true),
            Ok(Err(ProviderError::Unavailable {
                outage,
                retry_after,
            })) => {
                let after = retry_after.map_or(5, |after| after.as_secs().max(1));
                Err(Not::Later(after, outage.as_str()))
            }
            Err(error) => {
                error!(%provider, %error, "A revocation broke off.");
                Err(Not::Later(5, "shed"))
            }
        }
    }
}
