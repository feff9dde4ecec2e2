//! What was handed out that was made of another token: whose it is, and whether it still counts. Of what we minted ourselves
//! nobody else can say so.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

use crate::auth;
use crate::auth::Admitted;
use crate::auth::ForClient;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::exchange::Token;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::TokenId;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::grants::Told;
use crate::issuer::judged::judged;
use crate::issuer::tokens::inactive;
use crate::revocation::Asked;
use crate::revocation::CLOCKS;
use crate::revocation::Found;
use crate::revocation::HANDED_OUT;
use crate::revocation::HandOut;
use crate::revocation::Handed;
use crate::revocation::Source;
use crate::revocation::Target;
use crate::token;

/// What of a token that we minted whoever asks about it is told besides (RFC 7662 §2.2, RFC 8693 §4).
const SAID: [&str; 9] = [
    "iss", "sub", "aud", "iat", "exp", "jti", "scope", "act", "acr",
];

/// The store did not say.
const STORE: Not = Not::Later(5, "store");

impl Issuer {
    /// Notes the token that a client gets for `text`, before it gets it: without that nothing could end it. One that it has had
    /// and given back is made anew.
    pub(super) async fn hands_out(
        &self,
        call: &Call<'_>,
        (client, wanted): (&Client, &ForClient<'_>),
        text: &str,
        admitted: Admitted,
    ) -> Result<Admitted, Not> {
        let none = || Not::Denied(Denied::InvalidTarget, "exchange_refused");
        let issued = admitted.issued().ok_or_else(none)?;
        let ways = wanted.exchanges;
        let asked = (client, ways);
        if self.notes(asked, (&admitted, issued), call.now).await? {
            return Ok(admitted);
        }
        let wanted = ForClient {
            over: Some(&issued.token),
            ..*wanted
        };
        let again = judged(call, text, Some(&wanted)).await?;
        let issued = again.issued().ok_or_else(none)?;
        let same = again.canonical() == admitted.canonical()
            && again.identity().key == admitted.identity().key;
        // Whoever makes the same token again, byte for byte, has no other one before that would have ended.
        if !same || !self.notes(asked, (&again, issued), call.now).await? {
            return Err(Not::Denied(Denied::InvalidTarget, "revoked"));
        }
        Ok(again)
    }

    /// `false`: it was given back.
    pub(super) async fn notes(
        &self,
        (client, ways): (&Client, &[Arc<Exchange>]),
        (admitted, issued): (&Admitted, &Token),
        now: UnixTime,
    ) -> Result<bool, Not> {
        let account = self.account(client);
        let account = account.ok_or(Not::Denied(Denied::InvalidClient, "bad_credentials"))?;
        let token = HandOut {
            token: issued.token.expose(),
            client: Some(&account),
            minted: issued.minted,
            key: issued.key.as_deref().filter(|_| issued.minted),
            parent: admitted.standing(),
            owner: admitted.provider(),
            // Nobody else needs to know.
            origin: admitted
                .origin()
                .filter(|_| issued.minted && self.is_presented(ways)),
            ends: issued.own_end.max(issued.ends),
        };
        let noted = self.deps.revocations.hands_out(token, now).await;
        if !noted.or(Err(STORE))? {
            return Ok(false);
        }
        // What was revoked while that was noted is not handed out either: not everybody asks us about it.
        if !admitted.standing().holds(now) {
            return Err(Not::Denied(Denied::InvalidRequest, "revoked"));
        }
        Ok(true)
    }

    /// A token that its client gives back is not handed out again, by no instance and from this moment on, whether or not that
    /// knows of its revocation already.
    pub(super) async fn takes_back(&self, token: &str, now: UnixTime) -> Result<(), Not> {
        let taken = self.deps.revocations.takes_back(token, now).await;
        taken.or(Err(STORE))
    }

    /// Whether a client got this token here for another one.
    pub(super) async fn was_given(
        &self,
        call: &Call<'_>,
        client: &Client,
        token: &str,
    ) -> Result<bool, Not> {
        let found = self.deps.revocations.handed_out(token, call.now).await;
        Ok(match found.or(Err(STORE))? {
            Found::Handed(handed) => handed.is_of(&client.settings.id),
            Found::Nothing | Found::Lost => false,
        })
    }

    /// A token that we minted, for a client or for an upstream; `None`: it is none of which anything is noted.
    async fn minted(&self, call: &Call<'_>, token: &str) -> Result<Option<Handed>, Not> {
        // Who mints nothing has nothing to look for.
        if self.mints.is_empty() {
            return Ok(None);
        }
        let found = self.deps.revocations.handed_out(token, call.now).await;
        Ok(match found.or(Err(STORE))? {
            Found::Handed(handed) if handed.minted => Some(handed),
            Found::Handed(_) | Found::Nothing | Found::Lost => None,
        })
    }

    /// RFC 7662 §2.2, of a token that we minted; `None`: it is none.
    pub(super) async fn of_ours(
        &self,
        call: &Call<'_>,
        token: &str,
        told: &mut Told,
    ) -> Result<Option<Value>, Not> {
        let Some(handed) = self.minted(call, token).await? else {
            return Ok(None);
        };
        // What an upstream got in the name of a provider is judged like any of that.
        if handed.is_of_nobody() && is_a_providers(call, token) {
            return Ok(None);
        }
        let mut known = handed.clients.iter();
        let client = known.find_map(|id| self.clients.get(id.as_str()));
        // What an upstream got says itself whom it was minted for.
        if client.is_none() && !handed.is_of_nobody() {
            return Ok(Some(inactive(told, "unauthorized_client")));
        }
        // An old format says nothing that could be told.
        let claims = claims(token).unwrap_or_default();
        let ends = claims.get("exp").and_then(Value::as_u64);
        let ends = ends.map_or(handed.ends, UnixTime::from_secs);
        if ends <= call.now {
            return Ok(Some(inactive(told, "expired")));
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let named = text("iss").zip(text("jti"));
        let named = named.map(|(issuer, jti)| (issuer, TokenId::Named(jti.into())));
        let names: Vec<_> = named.into_iter().collect();
        let counts = self
            .deps
            .revocations
            .still_counts(&handed, &names, call.now);
        if !counts.or(Err(STORE))? {
            return Ok(Some(inactive(told, "revoked")));
        }
        // Who takes nothing of a provider any more takes nothing that was made of it either.
        let way = (&call.facts, call.kill, call.now);
        if call.gate.quarantines(call.policy, &handed.owners, way) {
            return Ok(Some(inactive(told, "quarantined")));
        }
        // Nor does it where the key is gone that has signed what it was made of.
        let class = CredentialClass::Bearer;
        if let Err(why) = call.gate.still_signed(&handed, class, call.now).await {
            return match Not::admitted(&why, call.policy) {
                Not::Denied(_, why) => Ok(Some(inactive(told, why))),
                other @ (Not::Later(..) | Not::Limited(_)) => Err(other),
            };
        }
        let bound = claims.get("cnf").filter(|cnf| cnf.get("jkt").is_some());
        let kind = if bound.is_some() {
            "DPoP"
        } else {
            Confirmation::token_type(None)
        };
        let mut object = Map::new();
        let mut say = |name: &str, value: Value| object.insert(name.to_owned(), value);
        say("active", true.into());
        let client = client.map(|client| &*client.settings.id);
        if let Some(client) = client.or(text("client_id")) {
            say("client_id", client.into());
        }
        say("token_type", kind.into());
        for name in SAID.iter().chain(&["cnf"]) {
            if let Some(value) = claims.get(*name) {
                say(name, value.clone());
            }
        }
        Ok(Some(Value::Object(object)))
    }

    /// RFC 7009 §2, of a token that a client got here for another one, or of one that we minted for it alone; `false`: it is
    /// none.
    pub(super) async fn revoke_handed(
        &self,
        call: &Call<'_>,
        client: &Client,
        token: &str,
        minted: bool,
    ) -> Result<bool, Not> {
        let found = if minted {
            let found = self.minted(call, token).await?;
            found.filter(|handed| !handed.is_of_nobody())
        } else {
            let found = self.deps.revocations.handed_out(token, call.now).await;
            match found.or(Err(STORE))? {
                Found::Handed(handed) if !handed.is_of_nobody() => Some(handed),
                Found::Handed(_) | Found::Nothing | Found::Lost => None,
            }
        };
        let Some(handed) = found else {
            return Ok(false);
        };
        if !handed.is_of(&client.settings.id) {
            return Err(Not::Denied(Denied::UnauthorizedClient, "wrong_client"));
        }
        self.takes_back(token, call.now).await?;
        let digest = handed.digest.iter();
        let asked = Asked {
            target: Target::TokenDigest {
                issuer: HANDED_OUT.to_owned(),
                digest: digest.map(|byte| format!("{byte:02x}")).collect(),
            },
            source: Source::Client,
            actor: format!("client:{}", client.settings.id),
            reason: "its client gave it back (RFC 7009)".to_owned(),
            keep: None,
            provider: None,
        };
        let done = self
            .deps
            .revocations
            .revoke_once(asked, handed.ends + CLOCKS)
            .await;
        done.or(Err(STORE))?;
        Ok(true)
    }

    /// Whether a text says to be a token that we mint: one that no client got here, but an upstream, ends by itself.
    pub(super) fn says_to_be_ours(&self, token: &str) -> bool {
        let said = token::peek(token);
        said.is_ok_and(|said| self.mints.iter().any(|own| **own == *said.issuer()))
    }
}

/// Whether a token says that it is of a provider of the application.
fn is_a_providers(call: &Call<'_>, token: &str) -> bool {
    let Some(headers) = auth::bearer(token) else {
        return false;
    };
    let classes = [CredentialClass::Bearer];
    let presented = auth::extract(&headers, None, call.policy.owners(), &classes);
    let presented = presented.ok().flatten();
    presented.is_some_and(|presented| call.gate.says_to_be_of(&presented).is_some())
}

/// What a token says that is good, byte for byte.
pub(super) fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&payload).ok()
}
