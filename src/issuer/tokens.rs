//! Whether a token is good (RFC 7662), and that it is over (RFC 7009): of ours and of both sides.

use serde_json::Value;
use serde_json::json;

use crate::auth;
use crate::auth::beginning;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::TokenId;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::answer::Reply;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::elsewhere::At;
use crate::issuer::elsewhere::active;
use crate::issuer::form::form;
use crate::issuer::grants::Told;
use crate::issuer::grants::judged;
use crate::issuer::grants::reply;
use crate::issuer::handed::claims;
use crate::issuer::refresh::Look;
use crate::issuer::refresh::Ticket;
use crate::issuer::settings::Grant;
use crate::revocation::Asked;
use crate::revocation::CLOCKS;
use crate::revocation::Source;
use crate::revocation::Standing;
use crate::revocation::Target;

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

/// What became of an access token that its client gave back.
pub(super) enum GivenBack {
    /// It counts no more.
    Ended {
        provider: ProviderId,
        person: Option<CanonicalSubject>,
        /// To which registration there it was given.
        named: Option<Box<str>>,
    },
    /// It says to be one of this provider, for somebody of whom nobody here knows.
    Elsewhere(ProviderId),
    /// Nobody here knows it, or it is over.
    Nothing,
}

/// Whether a token says itself that nobody takes it any more, however late their clock is.
fn is_over(token: &str, now: UnixTime) -> bool {
    let said = claims(token);
    let ends = said.and_then(|said| said.get("exp")?.as_u64());
    ends.is_some_and(|ends| UnixTime::from_secs(ends) + CLOCKS <= now)
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
            Err(Not::Denied(_, why)) if why == Refusal::WrongAudience.as_str() => {
                return self.said_elsewhere(call, client, token, told).await;
            }
            Err(Not::Denied(_, why)) => return Ok(inactive(told, why)),
            Err(other @ (Not::Later(..) | Not::Limited(_))) => return Err(other),
        };
        told.person = Some(admitted.canonical().clone());
        told.provider = Some(admitted.provider().clone());
        let bound = admitted.confirmation();
        let object = active(admitted.identity(), admitted.life_ends(), bound);
        Ok(Value::Object(object))
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
        if self.revoke_handed(call, client, token, true).await? {
            return Ok(json!({}));
        }
        let unsupported = || Not::Denied(Denied::UnsupportedTokenType, "unsupported");
        let own = |provider: &ProviderId| client.at.get(provider).cloned().map(At::Client);
        // Whoever gives back for a public client is nobody: what strangers make up is told to the provider, and not remembered.
        let buries = ticket.as_ref().filter(|_| !client.settings.public);
        // What says itself that it has ended counts nowhere, whoever it was for (RFC 7009 §2.2).
        let over = is_over(token, call.now);
        // `must`: it goes on unless its provider ends it, and whoever gave it back must not believe otherwise.
        let (provider, at, must) = match self.revoke_access(call, client, token, By::Client).await?
        {
            GivenBack::Ended {
                provider,
                person,
                named,
            } => {
                told.provider = Some(provider.clone());
                told.person = person.or(told.person.take());
                let at = self.at(client, &provider, named.as_deref());
                (Some(provider), at, false)
            }
            GivenBack::Elsewhere(provider) => {
                if self.revoke_handed(call, client, token, false).await? {
                    let at = self.at(client, &provider, None);
                    (Some(provider), at, false)
                } else {
                    if let Some(ticket) = buries {
                        self.bury(call, client, ticket).await?;
                    }
                    let at = own(&provider);
                    (Some(provider), at, !over)
                }
            }
            GivenBack::Nothing => {
                if self.revoke_handed(call, client, token, false).await? {
                    return Ok(json!({}));
                }
                if self.says_to_be_ours(token) && !over {
                    return Err(unsupported());
                }
                if let Some(ticket) = buries {
                    self.bury(call, client, ticket).await?;
                }
                // A provider that is away may still take it for good there.
                let provider = client.settings.refresh.adopt.clone();
                let at = provider.as_ref().and_then(own);
                (provider, at, ticket.is_some() && buries.is_none())
            }
        };
        if let Some(provider) = provider {
            let ended = self.revoke_at(call, (&provider, at), token).await?;
            if must && !ended {
                return Err(unsupported());
            }
        }
        Ok(json!({}))
    }

    /// An access token counts no more, whoever issued it, and whether it is for the application or for an audience of its client.
    pub(super) async fn revoke_access(
        &self,
        call: &Call<'_>,
        client: &Client,
        token: &str,
        by: By,
    ) -> Result<GivenBack, Not> {
        let Some(headers) = auth::bearer(token) else {
            return Ok(GivenBack::Nothing);
        };
        let classes = [CredentialClass::Bearer, CredentialClass::Opaque];
        let presented = auth::extract(&headers, None, call.policy.owners(), &classes);
        let Ok(Some(presented)) = presented else {
            return Ok(GivenBack::Nothing);
        };
        let proof = match call.gate.known(&presented, call.now).await {
            Ok(proof) => proof,
            Err(why) => match Not::admitted(&why, call.policy) {
                Not::Denied(_, why) if why == Refusal::WrongAudience.as_str() => {
                    match self.for_others(call, client, (&presented, token)).await? {
                        Some(proof) => proof,
                        None => {
                            let provider = call.gate.says_to_be_of(&presented);
                            return Ok(provider.map_or(GivenBack::Nothing, GivenBack::Elsewhere));
                        }
                    }
                }
                Not::Denied(..) => return Ok(GivenBack::Nothing),
                other @ (Not::Later(..) | Not::Limited(_)) => return Err(other),
            },
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
            None => {
                return Ok(GivenBack::Ended {
                    provider,
                    person,
                    named: identity.client_id.clone(),
                });
            }
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
        Ok(GivenBack::Ended {
            provider,
            person,
            named: identity.client_id.clone(),
        })
    }
}
