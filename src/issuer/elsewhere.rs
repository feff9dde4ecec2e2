//! Tokens of providers that are for somebody else than the application: what a client is given here is for whomever it names.
//! Who is told of them, and who ends them.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use tracing::error;

use crate::auth;
use crate::auth::Presented;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::issuer::Call;
use crate::issuer::answer::Not;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::grants::Told;
use crate::issuer::handed::claims;
use crate::issuer::tokens::inactive;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::revocation::Found;
use crate::secret::Secret;

/// The store did not say.
const STORE: Not = Not::Later(5, "store");

/// A registration at a provider: of a client of ours, or that of an exchange.
pub(super) enum At {
    Client(Arc<TokenClient>),
    Exchange(Arc<Exchange>),
}

impl At {
    async fn known(
        &self,
        token: &Secret<String>,
        audiences: &[Box<str>],
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        match self {
            Self::Client(at) => at.known(token, audiences, now).await,
            Self::Exchange(exchange) => exchange.known(token, audiences, now).await,
        }
    }

    async fn revoke(
        &self,
        token: &Secret<String>,
        kind: &str,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        match self {
            Self::Client(at) => at.revoke(token, kind, now).await,
            Self::Exchange(exchange) => exchange.gives_back(token, kind, now).await,
        }
    }
}

/// RFC 7662 §2.2.
pub(super) fn active(
    identity: &Identity,
    ends: UnixTime,
    bound: Option<&Confirmation>,
) -> Map<String, Value> {
    let mut object = Map::new();
    let mut say = |name: &str, value: Value| object.insert(name.to_owned(), value);
    say("active", true.into());
    say("iss", identity.key.issuer.as_str().into());
    say("sub", identity.key.subject.as_str().into());
    say("token_type", Confirmation::token_type(bound).into());
    // The token's own, which its owner may not say: how long our verdict is kept is nobody's business.
    if ends != UnixTime::NEVER {
        say("exp", ends.as_secs().into());
    }
    // Whoever asks holds the other half of the proof (RFC 8705 §3.2, RFC 9449 §6.2).
    if let Some(bound) = bound {
        say("cnf", Value::Object(bound.members()));
    }
    if let Some(client) = &identity.client_id {
        say("client_id", (**client).into());
    }
    if !identity.scopes.is_empty() {
        say("scope", identity.scopes.join(" ").into());
    }
    object
}

impl Issuer {
    /// What a token says that is not for the application, but for an audience of `client`; `None`: it is no such token.
    pub(super) async fn for_others(
        &self,
        call: &Call<'_>,
        client: &Client,
        (presented, token): (&Presented<'_>, &str),
    ) -> Result<Option<Authenticated>, Not> {
        let Some(provider) = call.gate.says_to_be_of(presented) else {
            return Ok(None);
        };
        let audiences = self.audiences_at(client, &provider);
        let Some(at) = self.at(client, &provider, None) else {
            return Ok(None);
        };
        let (token, now) = (Secret::new(token.to_owned()), call.now);
        let task = self
            .deps
            .background
            .spawn(async move { at.known(&token, &audiences, now).await });
        match task.await {
            Ok(Ok(proof)) => Ok(Some(proof)),
            Ok(Err(ProviderError::Rejected(_))) => Ok(None),
            Ok(Err(ProviderError::Unavailable {
                outage,
                retry_after,
            })) => {
                let after = retry_after.map_or(5, |after| after.as_secs().max(1));
                Err(Not::Later(after, outage.as_str()))
            }
            Err(error) => {
                error!(%provider, %error, "A question about a token broke off.");
                Err(Not::Later(5, "shed"))
            }
        }
    }

    /// The audiences of a client, as one provider writes them.
    fn audiences_at(&self, client: &Client, provider: &ProviderId) -> Vec<Box<str>> {
        let mut all = Vec::new();
        for name in &client.settings.audiences {
            let own = self.resources.of(name, provider);
            all.push(own.unwrap_or_else(|| name.clone()));
            for way in self.audiences.get(name).into_iter().flatten() {
                if way.registration().is_some_and(|(at, _)| at == provider) {
                    all.extend(way.audiences().into_iter().map(Box::from));
                }
            }
        }
        all
    }

    /// The registration at a provider by which a client, or an exchange for it, had a token that names it so.
    pub(super) fn at(
        &self,
        client: &Client,
        provider: &ProviderId,
        named: Option<&str>,
    ) -> Option<At> {
        let is = |id: &str| named.is_none_or(|named| named == id);
        let own = client.at.get(provider);
        if let Some(own) = own.filter(|own| is(own.id())) {
            return Some(At::Client(Arc::clone(own)));
        }
        let audiences = client.settings.audiences.iter();
        let mut ways = audiences.flat_map(|name| self.audiences.get(name).into_iter().flatten());
        let asked = ways.find(|way| {
            let there = way.registration();
            there.is_some_and(|(at, id)| at == provider && is(id))
        });
        match asked {
            Some(way) => Some(At::Exchange(Arc::clone(way))),
            None => own.cloned().map(At::Client),
        }
    }

    /// RFC 7662 §2.2, of a token that is not for the application: whoever it is for may ask, if it came from here.
    pub(super) async fn said_elsewhere(
        &self,
        call: &Call<'_>,
        client: &Client,
        token: &str,
        told: &mut Told,
    ) -> Result<Value, Not> {
        let wrong = Refusal::WrongAudience.as_str();
        let Some(headers) = auth::bearer(token) else {
            return Ok(inactive(told, wrong));
        };
        let classes = [CredentialClass::Bearer, CredentialClass::Opaque];
        let presented = auth::extract(&headers, None, call.policy.owners(), &classes);
        let Ok(Some(presented)) = presented else {
            return Ok(inactive(told, wrong));
        };
        let proof = self.for_others(call, client, (&presented, token)).await?;
        let Some(proof) = proof else {
            return Ok(inactive(told, wrong));
        };
        if let Some(why) = self.over_elsewhere(call, &proof, token).await? {
            return Ok(inactive(told, why));
        }
        let way = (&call.facts, &call.channel);
        let counts =
            call.gate
                .counts_elsewhere(call.policy, (&presented, &proof), way, call.kill, call.now);
        let (person, ends) = match counts.await {
            Ok(counts) => counts,
            Err(why) => {
                return match Not::admitted(&why, call.policy) {
                    Not::Denied(_, why) => Ok(inactive(told, why)),
                    other @ (Not::Later(..) | Not::Limited(_)) => Err(other),
                };
            }
        };
        let identity = proof.identity();
        told.person = Some(person);
        told.provider = Some(identity.provider.clone());
        let mut object = active(identity, ends, proof.confirmation());
        // Whoever asks must see that it is meant.
        let audience = claims(token).and_then(|mut claims| claims.remove("aud"));
        if let Some(audience) = audience {
            object.insert("aud".to_owned(), audience);
        }
        Ok(Value::Object(object))
    }

    /// Why a token counts no more that was given to a client here, or at its provider to one that is registered here; one of
    /// anybody else is none of ours.
    async fn over_elsewhere(
        &self,
        call: &Call<'_>,
        proof: &Authenticated,
        token: &str,
    ) -> Result<Option<&'static str>, Not> {
        let known = &self.deps.revocations;
        let handed = match known.handed_out(token, call.now).await.or(Err(STORE))? {
            Found::Handed(handed) => handed,
            Found::Lost => return Ok(Some("revoked")),
            Found::Nothing => return self.over_of_its_client(call, proof),
        };
        let counts = known.still_counts(&handed, &[], call.now).or(Err(STORE))?;
        if handed.is_over() || !counts {
            return Ok(Some("revoked"));
        }
        if handed.is_of_nobody() {
            return self.over_of_its_client(call, proof);
        }
        let mut clients = handed.clients.iter();
        let ours = clients.any(|id| self.clients.contains_key(id.as_str()));
        Ok((!ours).then_some("unauthorized_client"))
    }

    fn over_of_its_client(
        &self,
        call: &Call<'_>,
        proof: &Authenticated,
    ) -> Result<Option<&'static str>, Not> {
        let identity = proof.identity();
        let named = identity.client_id.as_deref();
        let is = |client: &&Client| {
            let at = client.at.get(&identity.provider).map(|at| at.id());
            at.is_some() && at == named
        };
        let mut found = false;
        // Who shares a registration cannot be told apart.
        for client in self.clients.values().filter(is) {
            found = true;
            match self.side(call, client) {
                Ok(_) => {}
                Err(Not::Denied(_, why)) => return Ok(Some(why)),
                Err(other @ (Not::Later(..) | Not::Limited(_))) => return Err(other),
            }
        }
        Ok((!found).then_some(Refusal::WrongAudience.as_str()))
    }

    /// Has a provider end a token; `false`: it does not.
    pub(super) async fn revoke_at(
        &self,
        call: &Call<'_>,
        (provider, at): (&ProviderId, Option<At>),
        token: &str,
    ) -> Result<bool, Not> {
        let Some(at) = at else {
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
